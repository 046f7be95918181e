"""The judge of those who gossip: who may announce in which view, for how long one who is cut off, and who flaps.

A view is a set of running nodes in which all reach all, each way, and nobody else reaches any of them. What is done
to paths and machines it is told (`Ground`), who announces it asks the wire, and who may it asks the checker's
model of the cluster. Part of the judge: it shares no code with what it judges. How much time is allowed is worked out
from the engines' constants elsewhere, and handed in (`Promises`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import frozen

from lbcore.simulation.checker import LAST_WORD, REACTION, Checker
from lbcore.simulation.oracle import Address
from lbcore.simulation.questions import announced

__all__ = ["Ground", "Promises", "Views"]


@frozen(kw_only=True)
class Promises:
    """Seconds: `noticed` after which the others have taken over from one who is gone; `alone` after which one who is
    cut off is silent; `lone` the same for one who was left alone before; `settled` after which, whatever happened,
    those who reach each other have one announcer for each address; `steady` after which no member is lost any more;
    `waiting` for which at most one that came back may be no candidate.
    """

    noticed: float
    alone: float
    lone: float
    settled: float
    steady: float
    waiting: float


class Ground(Protocol):
    """What was done to nodes and to the paths between them."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """All of them."""
        ...

    @property
    def disturbed_at(self) -> float:
        """When the life of a node, a path or the weather last changed."""
        ...

    @property
    def is_foul(self) -> bool:
        """Whether the weather is such that nothing is promised."""
        ...

    def reaches(self, one: str, other: str) -> bool:
        """Whether anything passes from one node to the other."""
        ...

    def reaches_clients(self, node: str) -> bool:
        """Whether clients and the API server are within reach of a node, both ways."""
        ...

    def runs(self, node: str) -> bool:
        """Whether a node's processes have their machine, and its cable is in."""
        ...

    def fit_since(self, node: str) -> float | None:
        """Since when nothing is wrong with a node but its paths; None while something is."""
        ...

    def told_until(self, node: str) -> float:
        """Up to when a node has heard of what users changed."""
        ...

    def deaf_since(self, node: str) -> float | None:
        """Since when nothing reaches a node that could know it, since its gateway has answered before."""
        ...

    def was_alone(self, node: str) -> bool:
        """Whether one who is deaf may have been left alone before it was."""
        ...


class Views:
    """`look` judges what is so now, `reported` what a node has just told of its members."""

    def __init__(self, checker: Checker, ground: Ground, promises: Promises, interface: str) -> None:
        self.promises = promises
        self._checker = checker
        self._ground = ground
        self._interface = interface
        self._members: dict[str, frozenset[str]] = {}
        self._believed: dict[Address, str] = {}  # by clients, as they were told last

    # What a node tells

    def heard(self, sender: str, frame: bytes) -> None:
        """A node has put a frame on the wire."""
        told = announced(frame)
        if told is None:
            return
        if self._ground.reaches_clients(sender):
            self._believed[told[0]] = sender
        else:  # what moves where no client is, none need believe
            self._believed.pop(told[0], None)

    def reported(self, node: str, members: frozenset[str]) -> None:
        """A node's process has told its speaker who lives."""
        before = self._members.get(node, frozenset())
        self._members[node] = members
        ground, now = self._ground, self._checker.now
        if ground.is_foul or now - ground.disturbed_at <= self.promises.steady:
            return
        lost = sorted(before - members)
        if lost:
            since = now - ground.disturbed_at
            self._checker.complain(
                "no member flaps", f"{node} loses {', '.join(lost)}, {since:.1f} s after the last fault"
            )

    # What is so

    def look(self, *, after: float | None = None) -> None:
        """Judge each view, if nothing has happened for as long as is stated, or for `after`."""
        ground, now = self._ground, self._checker.now
        self.look_at_the_deaf()
        if ground.is_foul or now - ground.disturbed_at <= (self.promises.settled if after is None else after):
            return
        for view in self._views():
            since = [ground.fit_since(node) for node in view]
            told = min(ground.told_until(node) for node in view)
            fit = {node for node, each in zip(view, since, strict=True) if each is not None and each < told - REACTION}
            for address in self._checker.addresses_unchanged(told):
                self._judge(view, fit, address)

    def look_at_the_deaf(self) -> None:
        """Whoever is cut off for long enough is silent."""
        ground, now = self._ground, self._checker.now
        for node in ground.nodes:
            deaf, fit = ground.deaf_since(node), ground.fit_since(node)
            if deaf is None or fit is None or fit > deaf - self.promises.settled or not ground.runs(node):
                continue
            if now - deaf > (self.promises.lone if ground.was_alone(node) else self.promises.alone):
                for address in self._checker.addresses:
                    if node in self._checker.answers(address):
                        text = f"{node} answers for {address}, {now - deaf:.2f} s after it was cut off"
                        self._checker.complain("one who is cut off announces nothing", text)

    def _views(self) -> Iterable[tuple[str, ...]]:
        ground = self._ground
        left = [node for node in ground.nodes if ground.runs(node)]
        while left:
            view = self._joined(left[0], left)
            left = [node for node in left if node not in view]
            whole = all(ground.reaches(one, other) for one in view for other in view if one != other)
            if whole and (len(view) > 1 or ground.reaches_clients(view[0])):
                yield view

    def _joined(self, first: str, among: list[str]) -> tuple[str, ...]:
        """All to whom any path leads, in whatever direction, over whomever."""
        found = [first]
        for node in found:
            found += [
                each
                for each in among
                if each not in found and (self._ground.reaches(node, each) or self._ground.reaches(each, node))
            ]
        return tuple(found)

    def _candidates(self, view: tuple[str, ...]) -> set[str]:
        """Those of a view who may announce; for a while after a fault, as they all have told."""
        if self._checker.now - self._ground.disturbed_at > self.promises.waiting:
            return set(view)
        return set(view).intersection(*(self._members.get(node, frozenset()) for node in view))

    def _judge(self, view: tuple[str, ...], fit: set[str], address: Address) -> None:
        candidates = self._candidates(view)
        waiting = set(view) - candidates
        wanted = self._checker.cluster.announcers(address, candidates, self._interface, waiting)
        answering = [node for node in self._checker.answers(address) if node in fit]
        names = ", ".join(view)
        if len(answering) > max(1, len(wanted)):
            self._checker.complain("one announcer in a view at most", f"{answering} answer for {address} among {names}")
        elif len(fit) == len(view) and len(answering) != len(wanted):
            right = list(wanted) or "nobody"
            text = f"{answering or 'nobody'} answers for {address} among {names}; {right} would be right"
            self._checker.complain("one announcer in each view", text)
        elif len(fit) == len(view) and len(answering) == 1 and all(map(self._ground.reaches_clients, view)):
            self._judge_belief(address, answering[0])

    def _judge_belief(self, address: Address, node: str) -> None:
        """Clients were told of who announces, also those who heard another while the network was parted."""
        believed, now = self._believed.get(address, node), self._checker.now
        calm = now - max(self._ground.disturbed_at, self._checker.lossy_at)
        if believed != node and calm > self.promises.waiting + LAST_WORD:
            self._checker.complain("clients believe who announces", f"{address} is {node}'s, {believed} spoke last")

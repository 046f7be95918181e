"""What goes wrong between nodes that gossip: partitions, one-way links, loss, lateness, all that restart at once.

Beside `faults`, which has what goes wrong with machines. The book of it is kept here for the judge (`views.Ground`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from lbcore.simulation.fabric import Fabric
from lbcore.simulation.faults import Faults
from lbcore.simulation.gossip import GossipNetwork
from lbcore.simulation.node import Node
from lbcore.simulation.paths import GATEWAY, Paths

__all__ = ["Splits"]

_LONG = 900.0  # seconds: until it is mended
_RECORDS = ("store cut", "slow store", "node cut off")  # what goes wrong with those who keep records


class Splits:
    """Breaks paths and opens them again. As `Ground` it says which are open, and since when."""

    def __init__(
        self,
        fabric: Fabric,
        gossip: GossipNetwork,
        faults: Faults,
        nodes: list[Node],
        rng: random.Random,
        *,
        settled: float,
    ) -> None:
        self._in = fabric
        self._gossip = gossip
        self._paths: Paths = gossip.paths
        self._faults = faults
        self._nodes = {node.name: node for node in nodes}
        self._rng = rng
        self._deaf: dict[str, float] = {}
        self._lonely: set[str] = set()  # those of them who may have been left alone before
        self._settled = settled
        self._paths.changing.insert(0, self._see_company)
        self._company: set[str] = set()
        self._number = 0
        self.deafening: list[Callable[[], None]] = []  # called when a node begins to hear nothing
        kinds = (
            (4, "node cut off", self._cut_off),
            (4, "partition", self._part),
            (3, "half a cable", self._break_half),
            (3, "path broken", self._break_path),
            (3, "datagrams lost", self._lose),
            (2, "datagrams slow", self._slow),
            (3, "machines busy", self._keep_busy),
            (2, "all restart", self._restart_all),
        )
        faults.know(kinds, instead_of=_RECORDS)

    # What the judge may know

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes."""
        return tuple(self._nodes)

    @property
    def disturbed_at(self) -> float:
        """When the life of a node, a path or the weather last changed."""
        return self._gossip.disturbed_at

    @property
    def is_foul(self) -> bool:
        """Whether datagrams are lost or slow, or machines busy, more than anybody promises anything for."""
        return self._in.weather.is_foul

    def reaches(self, one: str, other: str) -> bool:
        """Whether anything passes from one node to the other."""
        return self._gossip.reaches(self._nodes[one], self._nodes[other])

    def reaches_clients(self, node: str) -> bool:
        """Whether clients and the API server are within reach, both ways."""
        return self._nodes[node].carrier and self._paths.open(node, GATEWAY) and self._paths.open(GATEWAY, node)

    def runs(self, node: str) -> bool:
        """Whether its processes have their machine, and its cable is in."""
        machine = self._nodes[node]
        return machine.reflex is not None and not machine.frozen and machine.carrier

    def fit_since(self, node: str) -> float | None:
        """Since when nothing is wrong with it but its paths; who starts anew while it is apart knows nothing."""
        since, apart = self._faults.fit_since(node), self._faults.apart.get(node)
        return None if since is not None and apart is not None and since > apart else since

    def told_until(self, node: str) -> float:
        """Up to when it has heard of what users changed."""
        return self._faults.apart.get(node, self._in.clock.now)

    def deaf_since(self, node: str) -> float | None:
        """Since when nothing reaches it, if its gateway has answered before."""
        member = self._gossip.member(node)
        return self._deaf.get(node) if member is not None and member.has_witness else None

    def was_alone(self, node: str) -> bool:
        """Whether one who is deaf may have been left alone before it was."""
        return node in self._lonely

    # What is done on purpose

    def lose(self, node: str) -> None:
        """A node is gone for all others, until all is mended: cut off, frozen or without power."""
        how = self._rng.choice(("cut", "cut", "freeze", "crash"))
        self._in.counts[f"lost on purpose: {how}"] += 1
        if how == "cut":
            self._shut(self._name("cut"), self._paths.between([node], self._others(node)), _LONG)
        elif how == "freeze":
            self._faults.freeze(self._nodes[node], _LONG)
        else:
            self._faults.crash(self._nodes[node], _LONG)

    def break_path(self) -> None:
        """Two nodes do not hear each other until all is mended, while all others hear both."""
        one, other = self._rng.sample(list(self._nodes), 2)
        self._shut(self._name("path broken"), [(one, other), (other, one)], _LONG)

    def part(self, *nodes: str) -> None:
        """These reach each other, and neither the others nor clients, until all is mended."""
        self._shut(self._name("parted"), self._paths.between(nodes, self._others(*nodes)), _LONG)

    def flap(self, node: str, duration: float) -> None:
        """A node is cut off for a moment."""
        self._shut(self._name("flap"), self._paths.between([node], self._others(node)), duration)

    def mend(self) -> None:
        """Nothing is wrong any more."""
        self._faults.mend_all()

    # Paths

    def _others(self, *nodes: str) -> list[str]:
        return [each for each in (*self._nodes, GATEWAY) if each not in nodes]

    def _shut(self, why: str, pairs: Iterable[tuple[str, str]], duration: float | None = None) -> None:
        pairs = sorted(pairs)
        self._in.trace.add("paths", f"{why}: {' '.join(f'{one}>{other}' for one, other in pairs)}")
        self._paths.shut(why, pairs)
        self._note()
        if duration is not None:
            self._faults.last(why, lambda: self._open(why), duration)

    def _open(self, why: str) -> None:
        self._paths.reopen(why)
        self._note()

    def _note(self) -> None:
        """See who reaches the API server, and who hears nothing any more."""
        self._faults.lossy_at = self._in.clock.now  # what was said meanwhile not all have heard
        for name, node in self._nodes.items():
            apart = not (self._paths.open(name, GATEWAY) and self._paths.open(GATEWAY, name))
            if apart and name not in self._faults.apart:
                self._faults.part(node)
            elif not apart and name in self._faults.apart:
                self._faults.reunite(node)
            if not self._paths.is_deaf(name):
                self._deaf.pop(name, None)
            elif name not in self._deaf:
                self._deaf[name] = self._in.clock.now
                if name in self._company:
                    self._lonely.discard(name)
                else:
                    self._lonely.add(name)
                for hear in self.deafening:
                    hear()

    def _see_company(self) -> None:
        """Just before something changes: who is with others, and has been for long enough to know it."""
        self._company.clear()
        if self._in.clock.now - self._gossip.disturbed_at > self._settled and not self.is_foul:
            for node in self._nodes:
                others = [each for each in self._nodes if each != node and self.runs(each)]
                if any(self.reaches(node, each) and self.reaches(each, node) for each in others):
                    self._company.add(node)

    def _name(self, what: str) -> str:
        self._number += 1
        return f"{what} {self._number}"

    def _some(self) -> str:
        return self._rng.choice(list(self._nodes))

    def _cut_off(self) -> None:
        node = self._some()
        pairs = self._paths.between([node], self._others(node))
        self._shut(
            self._name("cut off"), pairs, self._rng.choice([0.1, 0.3, 1.0, 5.0, 20.0]) * self._rng.uniform(0.8, 1.2)
        )

    def _part(self) -> None:
        """Two sides, of which one has the gateway, or both have one."""
        names = list(self._nodes)
        self._rng.shuffle(names)
        count = self._rng.randint(1, len(names) - 1)
        one, other = names[:count], names[count:]
        pairs = self._paths.between(one, other if self._rng.random() < 0.3 else (*other, GATEWAY))
        self._shut(self._name("partition"), pairs, self._rng.uniform(0.2, 15.0))

    def _break_half(self) -> None:
        """One direction of one node's cable."""
        node = self._some()
        others = self._others(node)
        pairs = [(each, node) for each in others] if self._rng.random() < 0.5 else [(node, each) for each in others]
        self._shut(self._name("half a cable"), pairs, self._rng.uniform(0.2, 10.0))

    def _break_path(self) -> None:
        """Between two nodes, in one direction or in both."""
        one, other = self._rng.sample(list(self._nodes), 2)
        pairs = [(one, other)] if self._rng.random() < 0.5 else [(one, other), (other, one)]
        self._shut(self._name("path broken"), pairs, self._rng.uniform(0.2, 20.0))

    # Weather

    def _foul(self, **figures: float) -> None:
        self._gossip.rouse()
        self._faults.storm("gossip", **figures)

    def _lose(self) -> None:
        self._foul(datagrams_lost=self._rng.choice([0.05, 0.2, 0.5]))

    def _slow(self) -> None:
        self._foul(slowest_datagram=self._rng.choice([0.02, 0.1, 0.3]))

    def _keep_busy(self) -> None:
        self._foul(lateness=self._rng.choice([0.05, 0.2, 0.5]))

    # All at once

    def _restart_all(self) -> None:
        """A power cut, or an update of all speakers without any patience."""
        for node in self._nodes.values():
            if self._faults.fit_since(node.name) is not None and not self._faults.ails(node.name):
                self._faults.crash(node, self._rng.uniform(0.5, 3.0))

"""The judge: whether a history kept what lbcore promises. It reads the pretend cluster and the wire only.

It shares no code with the core and never looks into a brain; what is right it works out from the
manifests (`oracle`), what is done it sees in statuses and in the answers to its own questions
(`questions`). What it needs to know beside these is what was done to the machines, and when.

Stated times, in seconds: `REACTION` after a change has reached nobody's notice later than that in
the worst weather; `STABLE` after which all know who lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import frozen

from lbcore.simulation.causes import Cause, Causes
from lbcore.simulation.oracle import (
    Address,
    Cluster,
    Document,
    Holders,
    Pool,
    addresses_of,
    is_ours,
    name_of,
    read_pools,
    read_request,
)
from lbcore.simulation.questions import announced, answered, question

__all__ = ["LAST_WORD", "REACTION", "STABLE", "Checker", "Health", "Violation"]

REACTION = 4.0
STABLE = 4.0
LAST_WORD = 11.0  # a node answers another's announcement at once, or 10 s after its last answer (RFC 5227)
_CONFIG = ("ipaddresspools", "l2advertisements")


@frozen
class Violation:
    """One broken promise: when, which, and what was seen."""

    moment: float
    promise: str
    text: str

    def __str__(self) -> str:
        return f"{self.moment:.3f} s: {self.promise}: {self.text}"


class Health(Protocol):
    """What was done to the machines."""

    def healthy_since(self, node: str) -> float | None:
        """Since when nothing has been wrong with a node; None while something is."""
        ...

    @property
    def unchanged_since(self) -> float:
        """Since when nobody's life has been in doubt; to come, while nodes that live may have to wait."""
        ...

    @property
    def lossy_at(self) -> float:
        """When the wire last lost frames."""
        ...

    @property
    def members(self) -> Iterable[str]:
        """The nodes whose records are kept alive."""
        ...


class Checker:
    """Watches one history. `changed` and `heard` are told what happens, `look` and `settled` judge."""

    def __init__(
        self,
        now: Callable[[], float],
        ask: Callable[[bytes], list[tuple[str, bytes]]],
        health: Health,
        interface: str,
    ) -> None:
        self.violations: list[Violation] = []
        self._now = now
        self._ask = ask
        self._health = health
        self._interface = interface
        self._objects: dict[str, dict[str, Document]] = {
            resource: {} for resource in ("services", "endpointslices", "nodes", "namespaces", *_CONFIG)
        }
        self._pools: list[Pool] = []
        self._sound = True
        self._cluster: Cluster | None = None
        self._touched: dict[Address, float] = {}
        self._touched_nodes: dict[str, float] = {}
        self._touched_config = 0.0
        self._holders = Holders()
        self._causes = Causes(self._objects, self._holders)
        self._spoke: dict[Address, tuple[str, float]] = {}  # who announced it last, and when
        self._buried: dict[str, None] = {}  # pools that are no more
        self._reborn: dict[str, None] = {}  # those whose name came again: their status is written when a count changes

    @property
    def cluster(self) -> Cluster:
        """The cluster at this moment."""
        if self._cluster is None:
            self._cluster = Cluster(self._objects, self._pools, self._holders)
        return self._cluster

    @property
    def now(self) -> float:
        """The time."""
        return self._now()

    @property
    def lossy_at(self) -> float:
        """When the wire last lost frames."""
        return self._health.lossy_at

    @property
    def addresses(self) -> list[Address]:
        """Every address that somebody may answer for."""
        return list(self._touched)

    def addresses_unchanged(self, until: float) -> list[Address]:
        """The addresses of which all that decides has been the same for `REACTION` up to `until`, and is so now."""
        last = until - REACTION
        if not self._sound or max(self._touched_config, *self._touched_nodes.values(), 0.0) > last:
            return []
        return [address for address, touched in self._touched.items() if touched <= last]

    @property
    def sound(self) -> bool:
        """Whether the configuration is sound just now."""
        return self._sound

    # What happens

    def changed(self, resource: str, before: Document | None, after: Document | None, who: str) -> None:
        """An object was created, changed or deleted by the user or by the controller."""
        name = name_of(after if after is not None else before or {})
        if after is None:
            del self._objects[resource][name]
        else:
            self._objects[resource][name] = after
        if resource == "services":
            shown = self._holders.changed(name, after)
            self._causes.shown(name, (*shown, *(addresses_of(after) if after is not None else ())))
        elif resource in ("namespaces", *_CONFIG):
            self._causes.terms_changed()
        self._touch(resource, name, before, after)
        if who == "controller":
            if resource == "services" and before is not None and after is not None:
                self._judge_write(name, before, after)
            return
        if resource in _CONFIG:
            self._read_config()
        if resource == "ipaddresspools":
            self._note_birth((after or before or {})["metadata"]["name"], before, after)
        if resource == "services":
            self._causes.service_changed(name, after)
        if resource in ("services", "namespaces", *_CONFIG):
            self._causes.note()

    def heard(self, sender: str, frame: bytes) -> None:
        """A frame was put on the wire."""
        told = announced(frame)
        if told is not None:
            self._spoke[told[0]] = sender, self._now()
            self._touched.setdefault(told[0], self._now())

    def _touch(self, resource: str, name: str, before: Document | None, after: Document | None) -> None:
        now = self._now()
        if resource in _CONFIG:
            self._touched_config = now
        elif resource == "nodes":
            self._touched_nodes[name] = now
        elif resource == "services":
            for document in (before, after):
                for address in addresses_of(document) if document is not None else ():
                    self._touched[address] = now
        elif resource == "endpointslices":
            owner = ((after or before or {})["metadata"]).get("labels", {}).get("kubernetes.io/service-name")
            service = self._objects["services"].get(f"{name.partition('/')[0]}/{owner}")
            for address in addresses_of(service) if service is not None else ():
                self._touched[address] = now

    def _note_birth(self, pool: str, before: Document | None, after: Document | None) -> None:
        if after is None:
            self._buried[pool] = None
        elif before is None and pool in self._buried:
            self._reborn[pool] = None

    def _read_config(self) -> None:
        pools = read_pools(self._objects["ipaddresspools"].values(), self._objects["l2advertisements"].values())
        self._sound = pools is not None
        if pools is not None:
            self._pools = pools
            self._causes.config_changed(pools)
        self._cluster = None

    # What is judged at once

    def _judge_write(self, name: str, before: Document, after: Document) -> None:
        had, has = addresses_of(before), addresses_of(after)
        if not is_ours(after):
            return
        for address in has:
            if address not in had:
                self._judge_gain(name, after, address)
        for address in had:
            if address not in has:
                self._judge_loss(name, before, address, has)

    def _judge_gain(self, name: str, service: Document, address: Address) -> None:
        self._causes.given(name, service, address)
        for other in self.cluster.holders(address, but=name):
            if not self.cluster.compatible(service, other) and not self._causes.can_have_shared(name, name_of(other)):
                text = f"{name} is given {address} of {name_of(other)}"
                self._complain("one Service for an address and port", text)

    def _judge_loss(self, name: str, before: Document, address: Address, has: tuple[Address, ...]) -> None:
        cluster = self.cluster
        cause = self._causes.of(before, address)
        if cause is Cause.MAY_NOT or address.version not in read_request(before).families:
            return
        if self._causes.was_shared(name, address) or not cluster.permits(before, address):
            return
        text = f"{name} loses {address} and has {_texts(has)}"
        unasked = cause is None and cluster.as_asked(before, address)
        if (not unasked and has) or self._causes.part(name, address, text):
            return
        if unasked:
            self._complain("no address changes without a cause", text)
        else:
            self._complain("nothing is let go before something better is had", text)

    # What is judged now and then

    def look(self) -> None:
        """Ask who answers for each address, and judge those nodes whom nothing keeps from doing right."""
        now = self._now()
        if now - self._touched_config <= REACTION or not self._sound:
            return
        healthy = [
            node
            for node in self._objects["nodes"]
            if (since := self._health.healthy_since(node)) is not None
            and now - max(since, self._touched_nodes.get(node, 0.0)) > REACTION
        ]
        calm = now - max(self._health.unchanged_since, *self._touched_nodes.values(), 0.0) > max(STABLE, REACTION)
        for address, touched in self._touched.items():
            if now - touched > REACTION:
                self._judge_answers(address, healthy, calm=calm)

    def _judge_answers(self, address: Address, healthy: list[str], *, calm: bool) -> None:
        said = self.answers(address)
        answering = [node for node in said if node in healthy]
        for node in answering:
            if not self.cluster.entitled(node, address):
                self._complain("nobody announces who may not", f"{node} answers for {address}")
        if calm:
            wanted = self.cluster.announcers(address, self._health.members, self._interface)
            right = [node for node in wanted if node in healthy]
            if not self._is_right(right, answering):
                self._complain("one announcer for an address", f"{answering} answer for {address}, and {right} should")

    def answers(self, address: Address) -> list[str]:
        """Who answers for an address, wherever he can be heard."""
        found: dict[str, None] = {}
        for node, frame in self._ask(question(address)):
            mac = answered(frame, address)
            if mac is None:
                self._complain("answers are true", f"{node} answers {frame.hex()} for {address}")
            found[node] = None
        return list(found)

    # What is judged when all must be settled

    def settled(self) -> None:
        """Judge everything, since for long enough nothing has happened; what follows needs causes of its own."""
        cluster = self.cluster
        for name, service in self._objects["services"].items():
            self._judge_service(cluster, name, service)
        for parting in self._causes.broken_partings():
            self._complain("no address changes without a cause", f"{parting.text}: {parting.others} never got it")
        self._judge_usage(cluster)
        self._judge_announcers(cluster)
        self._causes.settle()

    def _judge_service(self, cluster: Cluster, name: str, service: Document) -> None:
        held = addresses_of(service)
        if not is_ours(service):
            if held and service["spec"]["type"] != "LoadBalancer":
                self._complain("what is not asked for is given back", f"{name} still has {_texts(held)}")
            return
        for address in held:
            pools = cluster.pools_with(address)
            if len(pools) != 1:
                self._complain("an address lies in exactly one pool", f"{address} of {name} lies in {len(pools)}")
            elif not cluster.permits(service, address):
                self._complain("nobody holds what he may not", f"{name} has {address}")
        lacking = cluster.could_have_more(service)
        if lacking is not None:
            self._complain("everything that can be served is served", f"{name} lacks {lacking}, has {_texts(held)}")
        said = service["metadata"].get("annotations", {}).get("metallb.io/ip-allocated-from-pool")
        names = [pool.name for address in sorted(held, key=_number) for pool in cluster.pools_with(address)]
        true = ",".join(dict.fromkeys(names)) or None
        if held and said != true:
            self._complain("the annotation names the pool", f"{name} has {_texts(held)} from {true}, it says {said}")

    def _judge_usage(self, cluster: Cluster) -> None:
        for document in self._objects["ipaddresspools"].values():
            pool = next(pool for pool in cluster.pools if pool.name == document["metadata"]["name"])
            for family, key in ((4, "assignedIPv4"), (6, "assignedIPv6")):
                used = sum(1 for address in cluster.held if address.version == family and address in pool)
                said = document.get("status", {}).get(key)
                if said is None and pool.name in self._reborn:
                    continue
                if said != used:
                    self._complain("a pool's status counts what is used", f"{pool.name} has {used}, {key} is {said}")

    def _judge_announcers(self, cluster: Cluster) -> None:
        members = list(self._health.members)
        gone: list[Address] = []
        for address in self._touched:
            wanted = list(cluster.announcers(address, members, self._interface))
            answering = self.answers(address)
            if not self._is_right(wanted, answering):
                self._complain("one announcer for an address", f"{answering} answer for {address}, and {wanted} should")
            if not wanted and not answering and not cluster.holders(address):
                gone.append(address)
            if len(wanted) == 1:
                self._judge_last_word(address, answering[0] if len(answering) == 1 else wanted[0])
        for address in gone:
            del self._touched[address]

    def _is_right(self, wanted: list[str], answering: list[str]) -> bool:
        """Whether those answer who should; as many, while it is known of nobody whether he may have to wait."""
        if self._now() < self._health.unchanged_since:
            return len(wanted) == len(answering)
        return sorted(wanted) == sorted(answering)

    def _judge_last_word(self, address: Address, node: str) -> None:
        speaker, moment = self._spoke.get(address, (None, 0.0))
        heard = moment > self._health.lossy_at and self._now() - moment > LAST_WORD
        if speaker is None or (speaker != node and heard):
            self._complain("a take-over is told", f"{node} has {address}, {speaker} spoke last")

    def _complain(self, promise: str, text: str) -> None:
        self.violations.append(Violation(self._now(), promise, text))

    def complain(self, promise: str, text: str) -> None:
        """Note a broken promise that somebody else has seen."""
        self._complain(promise, text)


def _number(address: Address) -> tuple[int, int]:
    return address.version, int(address)


def _texts(addresses: Iterable[Address]) -> str:
    return " and ".join(map(str, addresses)) or "nothing"

"""The judge: whether a history kept what lbcore promises. It reads the pretend cluster and the wire only.

It shares no code with the core and never looks into a brain; what is right it works out from the
manifests (`oracle`), what is done it sees in statuses and in the answers to its own questions
(`questions`). What it needs to know beside these is what was done to the machines, and when.

Stated times, in seconds: `REACTION` after a change has reached nobody's notice later than that in
the worst weather; `STABLE` after which all know who lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol

from attrs import frozen

from lbcore.simulation.oracle import (
    Address,
    Cluster,
    Document,
    Pool,
    addresses_of,
    is_ours,
    name_of,
    ports_of,
    read_pools,
    read_request,
    sharing_of,
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


@frozen
class _Exchange:
    """An address that was given to another while its holder still had it, for what the other had."""

    address: Address
    returned: frozenset[Address]
    text: str


class _Cause(Enum):
    """Why a Service may lose an address."""

    MAY_NOT = "it may not hold it"
    OTHER_WISH = "it asks for another"


@frozen
class _Terms:
    """On which a Service was ready to share at some moment: the key and backends, and its ports."""

    sharing: tuple[str, str]
    ports: frozenset[tuple[str, int]]

    def agree_with(self, other: _Terms) -> bool:
        return self.sharing == other.sharing and not self.ports & other.ports


class Health(Protocol):
    """What was done to the machines."""

    def healthy_since(self, node: str) -> float | None:
        """Since when nothing has been wrong with a node; None while something is."""
        ...

    @property
    def unchanged_since(self) -> float:
        """Since when nobody's life has been in doubt."""
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
        # Every sound configuration since all was settled: a controller may have missed the last of them, and
        # it may hear of a Service's change before that of a pool which came first.
        self._variants: list[list[Pool]] = [[]]
        self._sound = True
        self._cluster: Cluster | None = None
        self._touched: dict[Address, float] = {}
        self._touched_nodes: dict[str, float] = {}
        self._touched_config = 0.0
        self._causes: dict[tuple[str, Address], _Cause] = {}
        self._exchanges: dict[str, _Exchange] = {}
        self._edited: dict[str, None] = {}  # Services whose wishes changed since all was settled
        self._shared: dict[Address, None] = {}  # what several Services had at some moment since then
        self._terms: dict[str, dict[_Terms, None]] = {}  # all that a Service has been ready for since then
        self._spoke: dict[Address, tuple[str, float]] = {}  # who announced it last, and when
        self._buried: dict[str, None] = {}  # pools that are no more
        self._reborn: dict[str, None] = {}  # those whose name came again: their status is written when a count changes

    @property
    def cluster(self) -> Cluster:
        """The cluster at this moment."""
        if self._cluster is None:
            self._cluster = Cluster(self._objects, self._pools)
        return self._cluster

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
        self._cluster = None
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
            self._edited[name] = None
            self._note_terms(name, after)
        if resource in ("services", "namespaces", *_CONFIG):
            self._note_causes()

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
            self._variants.append(pools)
        self._cluster = None

    def _note_causes(self) -> None:
        """Every hold for whose end there is a reason from now on, until all is settled."""
        self._note_shared(self.cluster)
        for pools in self._variants:
            self._note_causes_in(Cluster(self._objects, pools))

    def _note_causes_in(self, cluster: Cluster) -> None:
        for address in cluster.held:
            for service in cluster.holders(address):
                hold = service["metadata"]["uid"], address
                wanted = address.version in read_request(service).families
                if not wanted or not cluster.permits(service, address):
                    self._causes[hold] = _Cause.MAY_NOT
                elif not cluster.as_asked(service, address):
                    self._causes.setdefault(hold, _Cause.OTHER_WISH)

    def _note_shared(self, cluster: Cluster) -> None:
        for address in cluster.held:
            if len(cluster.holders(address)) > 1:
                self._shared[address] = None

    def _note_terms(self, name: str, service: Document | None) -> None:
        sharing = sharing_of(service) if service is not None else None
        if service is not None and sharing is not None:
            self._terms.setdefault(name, {})[_Terms(sharing, ports_of(service))] = None

    # What is judged at once

    def _judge_write(self, name: str, before: Document, after: Document) -> None:
        had, has = addresses_of(before), addresses_of(after)
        if not is_ours(after):
            return
        self._settle_exchange(name, has)
        for address in has:
            if address not in had:
                self._judge_gain(name, after, address, had)
        for address in had:
            if address not in has:
                self._judge_loss(name, before, address, has)

    def _judge_gain(self, name: str, service: Document, address: Address, had: tuple[Address, ...]) -> None:
        for other in self.cluster.holders(address, but=name):
            edited = name in self._edited or name_of(other) in self._edited
            if edited or self.cluster.compatible(service, other):
                continue
            text = f"{name} is given {address} of {name_of(other)}"
            self._exchanges[name_of(other)] = _Exchange(address, frozenset(had), text)
            if not had:
                self._settle_exchange(name_of(other), ())

    def _settle_exchange(self, name: str, has: tuple[Address, ...]) -> None:
        """One that another was given an address of must get that one's in return, with its next write."""
        exchange = self._exchanges.pop(name, None)
        if exchange is not None and (exchange.address in has or not exchange.returned.intersection(has)):
            self._complain("one Service for an address and port", exchange.text)

    def _judge_loss(self, name: str, before: Document, address: Address, has: tuple[Address, ...]) -> None:
        cluster, uid = self.cluster, before["metadata"]["uid"]
        request = read_request(before)
        cause = self._causes.get((uid, address))
        if cause is _Cause.MAY_NOT or address.version not in request.families:
            return
        if name in self._edited and address in self._shared:
            return  # changes of several objects may be told in an order in which it could not keep the address
        if name in self._edited and self._had_company(name):
            return  # another was given the address to share, and then the controller heard that it shares no more
        if not cluster.permits(before, address):
            return
        if cause is None and cluster.as_asked(before, address):
            self._complain("no address changes without a cause", f"{name} loses {address} and has {_texts(has)}")
        elif not has:
            self._complain("nothing is let go before something better is had", f"{name} loses {address}")

    def _had_company(self, name: str) -> bool:
        """Whether a Service was ready, before it was edited, to share with another that there has been since."""
        now = self._objects["services"][name]
        given_up = [terms for terms in self._terms.get(name, ()) if terms.sharing != sharing_of(now)]
        others = [terms for other, known in self._terms.items() if other != name for terms in known]
        return any(mine.agree_with(other) for mine in given_up for other in others)

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
        said = self._answers(address)
        answering = [node for node in said if node in healthy]
        for node in answering:
            if not self.cluster.entitled(node, address):
                self._complain("nobody announces who may not", f"{node} answers for {address}")
        if calm:
            wanted = self.cluster.announcers(address, self._health.members, self._interface)
            right = [node for node in wanted if node in healthy]
            if sorted(right) != sorted(answering):
                self._complain("one announcer for an address", f"{answering} answer for {address}, and {right} should")

    def _answers(self, address: Address) -> list[str]:
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
        for name in list(self._exchanges):
            self._settle_exchange(name, ())
        self._judge_usage(cluster)
        self._judge_announcers(cluster)
        self._causes.clear()
        self._edited.clear()
        self._variants = [self._pools]
        self._shared.clear()
        self._note_shared(cluster)
        self._terms.clear()
        for name, service in self._objects["services"].items():
            self._note_terms(name, service)

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
            answering = self._answers(address)
            if sorted(wanted) != sorted(answering):
                self._complain("one announcer for an address", f"{answering} answer for {address}, and {wanted} should")
            if not wanted and not answering and not cluster.holders(address):
                gone.append(address)
            if len(wanted) == 1:
                self._judge_last_word(address, wanted[0])
        for address in gone:
            del self._touched[address]

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

"""Pretend clusters for the brains: what an API server would tell them, late and twice, and say back.

`Desk` is one brain with its clock. `Controlled` is the cluster as the controller's brain meets it:
events come in order for each object but when they like, writes are carried out late or refused, and
what is written comes back. `Nodes` is the same for the speakers of a few nodes. `world_of` says a
controller's world in the words of `model_allocation`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import attrs
from hypothesis import strategies as st

import model_allocation as model
from lbcore import announcement
from lbcore.addresses import Address, AddressRange
from lbcore.announcement import AnnouncementSettings, AnnouncementState, NotAnnounced, explain_bgp
from lbcore.brain import Brain
from lbcore.config import Config, ConfigDocument, Origin, Pool, Resource, ServiceAllocation
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    ConfigGone,
    ConfigSeen,
    Event,
    Failed,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    NamespaceGone,
    NamespaceSeen,
    ServiceGone,
    ServiceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import Announce, Intent, ReportConfig, SetAddresses, SetPresence, StandBy, Withdraw
from lbcore.model import LabelSelector, Link, Namespace, Port, Service, ServiceKey, TrafficPolicy
from lbcore.requests import Request
from lbcore.verdicts import NodeVerdict, Reason
from strategies import services

__all__ = [
    "POOL_SETS",
    "Controlled",
    "Desk",
    "Nodes",
    "Speaker",
    "bgp_announcers",
    "broken",
    "document",
    "ipv4",
    "ipv6",
    "link",
    "origin",
    "plain_service",
    "pool_sets",
    "wish_of",
    "wishful_services",
    "world_of",
]

S = TypeVar("S")
MOST_STEPS = 20_000  # far more than any test needs: a brain that never settles must fail, not hang
ALLOCATED_FROM = "metallb.io/ip-allocated-from-pool"


def ipv4(number: int) -> Address:
    """10.0.0.0 and what follows it."""
    return Address(4, 0x0A000000 + number)


def ipv6(number: int) -> Address:
    """2001:db8:: and what follows it."""
    return Address(6, (0x20010DB8 << 96) + number)


def origin(name: str, kind: str = "IPAddressPool") -> Origin:
    """The object of that name in the system's namespace."""
    return Origin(kind=kind, namespace="metallb-system", name=name)


def document(resource: Resource) -> ConfigDocument:
    """The object that holds one pool or one advertisement."""
    kind = "IPAddressPool" if isinstance(resource, Pool) else "L2Advertisement"
    return ConfigDocument(origin=origin(resource.name, kind), resources=(resource,))


def broken(name: str, kind: str = "IPAddressPool") -> ConfigDocument:
    """An object that cannot be read."""
    where = origin(name, kind)
    return ConfigDocument(origin=where, problems=(where.problem("spec.addresses[0]", "'x' is not an IP address"),))


def plain_service(name: str, **fields: object) -> Service:
    """A Service of one port that wants one IPv4 address, unless `fields` say otherwise."""
    given: dict[str, object] = {"uid": f"uid-of-{name}", "cluster_ips": ("10.96.0.1",), "ports": (Port("TCP", 80),)}
    return Service(key=ServiceKey("red", name), **{**given, **fields})  # type: ignore[arg-type]


class Desk(Generic[S]):
    """One brain, its state and its clock; keeps every intent. `on_step` sees those of each step."""

    def __init__(self, brain: Brain[S], state: S, on_step: Callable[[tuple[Intent, ...]], None] | None = None) -> None:
        self.brain = brain
        self.state = state
        self.now = 0.0
        self.wake_at: float | None = None
        self.intents: list[Intent] = []
        self.on_step = on_step or (lambda _: None)

    def feed(self, *events: Event) -> list[Intent]:
        """Give it events, one step each; returns what it wants done because of them."""
        before = len(self.intents)
        for event in events:
            step = self.brain(self.state, event, self.now)
            self.state, self.wake_at = step.state, step.wake_at
            self.intents += step.intents
            self.on_step(step.intents)
        return self.intents[before:]

    def settle(self, until: float | None = None) -> list[Intent]:
        """Let time pass, and give it every `Tick` that it asks for (only those due by `until`, if given)."""
        before = len(self.intents)
        for _ in range(MOST_STEPS):
            if self.wake_at is None or (until is not None and self.wake_at > until):
                return self.intents[before:]
            self.now = max(self.now, self.wake_at)
            self.feed(Tick())
        raise AssertionError(f"not settled after {MOST_STEPS} steps")

    def run(self, *events: Event) -> list[Intent]:
        """Feed, then settle."""
        return [*self.feed(*events), *self.settle()]


class Controlled:
    """Services, namespaces and configuration, what of them has not been told yet, and writes under way.

    With `annotates`, a written status brings the annotation that names the pool, and the condition that says what is
    missing, as with Kubernetes.
    """

    def __init__(self, *, annotates: bool) -> None:
        self.annotates = annotates
        self.services: dict[ServiceKey, Service] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.documents: dict[Origin, ConfigDocument] = {}
        self.untold: list[Event] = []
        self.asked: dict[ServiceKey, SetAddresses] = {}
        self._uids = 0

    def new_uid(self) -> str:
        """The uid of an object that is created now."""
        self._uids += 1
        return f"uid-{self._uids}"

    def put(self, service: Service) -> None:
        """Create or change a Service; its status stays, and with it its uid."""
        known = self.services.get(service.key)
        if known is None:
            self._see(attrs.evolve(service, uid=self.new_uid(), created=f"2026-01-01T00:{self._uids:06}Z", held=()))
            return
        annotations = dict(service.annotations)
        if ALLOCATED_FROM in known.annotations:
            annotations[ALLOCATED_FROM] = known.annotations[ALLOCATED_FROM]
        kept = attrs.evolve(service, uid=known.uid, created=known.created, annotations=annotations)
        self._see(attrs.evolve(kept, held=known.held, pending=known.pending))

    def _see(self, service: Service) -> None:
        if self.services.get(service.key) != service:
            self.services[service.key] = service
            self.untold.append(ServiceSeen(service))

    def delete(self, key: ServiceKey, *, noticed: bool = True) -> None:
        """A Service goes; a watch that was cut at that moment may miss it if it comes back at once."""
        gone = self.services.pop(key)
        if noticed:
            self.untold.append(ServiceGone(key, gone.uid))

    def claim_from_outside(self, key: ServiceKey, address: Address) -> None:
        """Another controller writes a status."""
        self._see(attrs.evolve(self.services[key], held=(address,)))

    def put_namespace(self, namespace: Namespace) -> None:
        if self.namespaces.get(namespace.name) != namespace:
            self.namespaces[namespace.name] = namespace
            self.untold.append(NamespaceSeen(namespace))

    def delete_namespace(self, name: str) -> None:
        del self.namespaces[name]
        self.untold.append(NamespaceGone(name))

    def put_document(self, given: ConfigDocument) -> None:
        if self.documents.get(given.origin) != given:
            self.documents[given.origin] = given
            self.untold.append(ConfigSeen(given))

    def delete_document(self, where: Origin) -> None:
        del self.documents[where]
        self.untold.append(ConfigGone(where))

    def ask(self, intents: Iterable[Intent]) -> None:
        """Take in what a brain wants written; a newer wish replaces one that has not been carried out."""
        for intent in intents:
            if isinstance(intent, SetAddresses):
                self.asked.pop(intent.key, None)
                self.asked[intent.key] = intent

    def carry_out(self, key: ServiceKey, *, answer_first: bool) -> None:
        """Write one status. The answer and the watch's event are not told in a fixed order."""
        intent = self.asked.pop(key)
        service = self.services.get(key)
        if service is None or service.uid != intent.uid:
            self.untold.append(Failed(intent=intent, message="the object has been replaced", retry=False))
            return
        if answer_first:
            self.untold.append(Applied(intent))
        annotations = {name: value for name, value in service.annotations.items() if name != ALLOCATED_FROM}
        if self.annotates and intent.pool is not None:
            annotations[ALLOCATED_FROM] = intent.pool
        pending = intent.refusal.shown if self.annotates and intent.refusal is not None else None
        self._see(attrs.evolve(service, held=intent.addresses, annotations=annotations, pending=pending))
        if not answer_first:
            self.untold.append(Applied(intent))

    def refuse(self, key: ServiceKey) -> None:
        """Refuse one write because the object is newer than the writer thought; what is newer is told."""
        intent = self.asked.pop(key)
        self.untold.append(Failed(intent=intent, message="the object has been modified", retry=False))
        if key in self.services:
            self.untold.append(ServiceSeen(self.services[key]))

    def objects(self) -> dict[Kind, list[Event]]:
        """An event for everything that is there now."""
        return {
            Kind.CONFIG: [ConfigSeen(each) for each in self.documents.values()],
            Kind.NAMESPACES: [NamespaceSeen(each) for each in self.namespaces.values()],
            Kind.SERVICES: [ServiceSeen(each) for each in self.services.values()],
        }

    def listing(self, rng: random.Random) -> list[Event]:
        """What a controller is told when it starts: everything in any order, and of each kind that this was all."""
        lists = {kind: rng.sample(events, len(events)) for kind, events in self.objects().items()}
        turns = [kind for kind, events in lists.items() for _ in range(len(events) + 1)]
        rng.shuffle(turns)
        return [lists[kind].pop() if lists[kind] else Listed(kind) for kind in turns]


# Small worlds for the controller: windows of a few addresses, so that waiting is common.

_BASE_4 = 0x0A0000FC  # 10.0.0.252: the window lies across .255 and .0, which avoidBuggyIPs passes over
_BASE_6 = (0x20010DB8 << 96) + 0xFE


def _v4(first: int, count: int) -> AddressRange:
    return AddressRange(4, _BASE_4 + first, _BASE_4 + first + count - 1)


def _v6(first: int, count: int) -> AddressRange:
    return AddressRange(6, _BASE_6 + first, _BASE_6 + first + count - 1)


_RED_ONLY = ServiceAllocation(namespaces=("red",), priority=1)
_GOLD_NAMESPACES = ServiceAllocation(namespace_selectors=(LabelSelector.of(tier="gold"),))
_TIN_SERVICES = ServiceAllocation(service_selectors=(LabelSelector.of(team="tin"), LabelSelector.of(tier="tin")))


def _a(*ranges: AddressRange, terms: ServiceAllocation | None = None, avoid: bool = False) -> Pool:
    return Pool(name="pool-a", ranges=ranges, allocation=terms, avoid_buggy_ips=avoid)


def _b(*ranges: AddressRange, terms: ServiceAllocation | None = None, auto: bool = True) -> Pool:
    return Pool(name="pool-b", ranges=ranges, allocation=terms, auto_assign=auto)


POOL_SETS: tuple[tuple[Pool, ...], ...] = (
    (_a(_v4(0, 2), _v6(0, 1)),),
    (_a(_v4(0, 3)), _b(_v6(0, 2))),
    (_a(_v4(0, 2)), _b(_v4(2, 2), _v6(0, 2), auto=False)),
    (_a(_v4(2, 2)), _b(_v4(0, 2), _v6(1, 1))),
    (_a(_v4(0, 1), _v6(0, 1)), _b(_v4(1, 1), _v6(1, 1))),
    (_a(_v4(0, 6), _v6(0, 3), avoid=True),),
    (_a(_v4(0, 2), terms=_RED_ONLY), _b(_v4(2, 1), _v6(0, 1))),
    (_a(_v4(0, 1), _v6(0, 1), terms=_GOLD_NAMESPACES), _b(_v4(1, 1))),
    (_b(_v4(0, 2), _v6(0, 2), terms=_TIN_SERVICES),),
    (),
)
"""Pools that are sound together; from one set to the next, ranges change hands, shrink and go."""

pool_sets = st.sampled_from(POOL_SETS)

_wanted_addresses = st.sampled_from(
    [*(str(Address(4, _BASE_4 + n)) for n in range(4)), *(str(Address(6, _BASE_6 + n)) for n in range(3))]
)


_KINDS_OF_WISHES = (
    *("any", "any", "sharing", "sharing", "sharing"),
    *("static", "annotated", "both", "garbage", "headless", "other"),
)


@st.composite
def wishful_services(draw: st.DrawFn, key: ServiceKey) -> Service:
    """A Service with any wish, also those that make no sense, of any type and class."""
    service = draw(services(key))
    annotations = dict(service.annotations)
    changes: dict[str, object] = {}
    match draw(st.sampled_from(_KINDS_OF_WISHES)):
        case "sharing":
            annotations["metallb.io/allow-shared-ip"] = "k"
            changes["ports"] = (draw(st.sampled_from([Port("TCP", 80), Port("TCP", 443), Port("UDP", 53)])),)
            changes["external_traffic_policy"] = TrafficPolicy.CLUSTER
        case "static":
            changes["load_balancer_ip"] = draw(_wanted_addresses)
        case "annotated":
            wanted = draw(st.lists(_wanted_addresses, min_size=1, max_size=2, unique=True))
            annotations["metallb.io/loadBalancerIPs"] = ",".join(wanted)
        case "both":
            changes["load_balancer_ip"] = annotations["metallb.io/loadBalancerIPs"] = draw(_wanted_addresses)
        case "garbage":
            changes["load_balancer_ip"] = "an address, please"
        case "headless":
            changes["cluster_ips"] = ("None",)
        case "other":
            changes |= draw(st.sampled_from([{"type": "ClusterIP"}, {"load_balancer_class": "example.com/other"}]))
    return attrs.evolve(service, annotations=annotations, **changes)  # type: ignore[arg-type]


# The same worlds in the words of the brute-force model.


def wish_of(request: Request) -> model.Wish:
    """A request in the model's words."""
    return model.Wish(
        name=request.key.name,
        namespace=request.key.namespace,
        families=[family.version for family in request.families],
        insists=request.all_families,
        addresses=[(address.version, address.value) for address in request.addresses],
        pool=request.pool,
        ports={(port.protocol, port.number) for port in request.ports},
        terms=(request.sharing.key, request.sharing.backend) if request.sharing else None,
        labels=dict(request.labels),
    )


def world_of(
    config: Config, namespaces: Mapping[str, Namespace], holders: Iterable[tuple[Request, tuple[Address, ...]]]
) -> model.World:
    """Pools, namespaces and who holds what, in the model's words."""
    return model.World(
        pools=[_pool_of(pool) for pool in config.pools],
        namespaces={name: dict(each.labels) for name, each in namespaces.items()},
        held={str(request.key): _held(wish_of(request), addresses) for request, addresses in holders},
    )


def _held(wish: model.Wish, addresses: tuple[Address, ...]) -> model.Held:
    return model.Held([(address.version, address.value) for address in addresses], wish.ports, wish.terms)


def _pool_of(pool: Pool) -> model.WorldPool:
    terms = pool.allocation or ServiceAllocation()
    return model.WorldPool(
        name=pool.name,
        ranges=[(each.version, each.first, each.last) for each in pool.ranges],
        automatic=pool.auto_assign,
        avoids_edges=pool.avoid_buggy_ips,
        pinned=pool.allocation is not None,
        priority=terms.priority,
        namespaces=list(terms.namespaces),
        namespace_matchers=[selector.matches for selector in terms.namespace_selectors],
        service_matchers=[selector.matches for selector in terms.service_selectors],
    )


# A few nodes, each with a speaker's brain and an answering process, told the same facts at different times.

ALL_KINDS = (Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG, Kind.LINKS, Kind.MEMBERS)


def link(name: str, index: int, *, carrier: bool = True) -> Link:
    """An Ethernet interface that can carry both families."""
    local = Address(6, (0xFE80 << 112) + index)
    return Link(index=index, name=name, mac=bytes([2, 0, 0, 0, 0, index]), carrier=carrier, link_local=local)


@attrs.define
class Speaker:
    """One node's speaker: its brain, what it has not been told yet, and what its answering process does."""

    desk: Desk[AnnouncementState]
    untold: list[Event] = attrs.field(factory=list)
    answering: dict[Address, tuple[str, ...]] = attrs.field(factory=dict)
    yielding: set[Address] = attrs.field(factory=set)
    standing_by: dict[Address, str] = attrs.field(factory=dict)  # for which member
    present: bool = False
    links: tuple[Link, ...] = ()
    kinds: set[Kind] = attrs.field(factory=set)
    has_config: bool = False
    stopping: bool = False
    anew: bool = False  # its answering process is another than it knows of

    @property
    def may_act(self) -> bool:
        """Whether it has been told everything that decides."""
        return self.kinds.issuperset(ALL_KINDS) and self.has_config


class Nodes:
    """The facts of a cluster, the speakers that live, and who can be heard by whom."""

    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], Event] = {}
        self.speakers: dict[str, Speaker] = {}

    @property
    def members(self) -> frozenset[str]:
        """The nodes whose speakers can be heard and want to be candidates."""
        return frozenset(name for name, speaker in self.speakers.items() if speaker.present)

    def tell(self, event: Event) -> None:
        """A fact changes; an event that tells an end takes the place of what it ends."""
        self.facts[event.subject] = event
        for speaker in self.speakers.values():
            speaker.untold.append(event)

    def boot(self, name: str, rng: random.Random, links: tuple[Link, ...] = (), **chosen: object) -> None:
        """A speaker starts. If its node had one, the answering process is found running."""
        old = self.speakers.get(name)
        given: dict[str, object] = {"node": name, "tells": True, "stands_by": True, **chosen}
        desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(**given)))  # type: ignore[arg-type]
        speaker = Speaker(desk, links=links)
        if old is not None:
            speaker.answering, speaker.present, speaker.links = old.answering, old.present, old.links
        self.speakers[name] = speaker
        desk.on_step = lambda intents: self._carry_out(name, speaker, intents)
        speaker.untold = self.listing(speaker, rng)

    def listing(self, speaker: Speaker, rng: random.Random) -> list[Event]:
        """What a speaker is told when it starts, in any order."""
        events: list[Event] = [*self.facts.values(), LinksSeen(speaker.links), MembersSeen(self.members)]
        rng.shuffle(events)
        listed = [Listed(kind) for kind in ALL_KINDS]
        rng.shuffle(listed)
        return [AnsweringSeen(tuple(sorted(speaker.answering.items()))), *events, *listed]

    def die(self, name: str) -> None:
        """A node loses its power."""
        gone = self.speakers.pop(name)
        if gone.present:
            self._tell_members()

    def kill_answering(self, name: str) -> None:
        """The answering process of a node is killed and started anew."""
        self.speakers[name].answering.clear()
        self.speakers[name].yielding.clear()
        self.speakers[name].standing_by.clear()
        self.speakers[name].anew = True
        self.speakers[name].untold.append(AnsweringSeen(()))

    def set_links(self, name: str, links: tuple[Link, ...]) -> None:
        self.speakers[name].links = links
        self.speakers[name].untold.append(LinksSeen(links))

    def stop(self, name: str) -> None:
        """A speaker is asked to end."""
        self.speakers[name].untold.append(Stopping())

    def deliver(self, name: str, count: int | None = None) -> None:
        """Tell a speaker what it has not been told yet, or the first `count` of it."""
        speaker = self.speakers[name]
        events = speaker.untold[:count]
        speaker.untold = speaker.untold[len(events) :]
        for event in events:
            if isinstance(event, Listed):
                speaker.kinds.add(event.kind)
            speaker.stopping |= isinstance(event, Stopping)
            if isinstance(event, AnsweringSeen):  # says what is so when it is told
                speaker.anew = False
                speaker.desk.feed(AnsweringSeen(tuple(sorted(speaker.answering.items()))))
            else:
                speaker.desk.feed(event)

    def rest(self) -> None:
        """Everything is told to everybody, and all is done; who stopped is gone."""
        for _ in range(200):
            for name in sorted(self.speakers):
                self.deliver(name)
                self.speakers[name].desk.settle()
            for name in [each for each, speaker in self.speakers.items() if speaker.desk.state.stopped]:
                del self.speakers[name]
            if not any(speaker.untold for speaker in self.speakers.values()):
                return
        raise AssertionError("the speakers go on for ever")

    def _tell_members(self) -> None:
        for speaker in self.speakers.values():
            speaker.untold.append(MembersSeen(self.members))

    def _carry_out(self, name: str, speaker: Speaker, intents: tuple[Intent, ...]) -> None:
        for intent in intents:
            match intent:
                case ReportConfig(config=config):
                    speaker.has_config = config is not None
                case SetPresence(present=present) if speaker.present != present:
                    speaker.present = present
                    self._tell_members()
                case Announce(address=address, yielding=True) if speaker.anew and address not in speaker.answering:
                    pass  # meant for a process that is no more: who gives an address up takes none
                case Announce(address=address, interfaces=interfaces, yielding=True):
                    assert speaker.answering.get(address) == interfaces, "gives up what it has not"
                    if any(address in other.answering for other in self.speakers.values() if other is not speaker):
                        speaker.untold.append(AddressHeard(address=address, mac=bytes(6), link="eth0"))
                    speaker.yielding.add(address)
                case Announce(address=address, interfaces=interfaces):
                    assert speaker.may_act
                    assert not speaker.stopping or address in speaker.answering
                    taken_back = address in speaker.yielding
                    assert taken_back or speaker.answering.get(address) != interfaces, "announced twice"
                    speaker.yielding.discard(address)
                    speaker.standing_by.pop(address, None)
                    speaker.answering[address] = interfaces
                    self._let_others_hear(name, address)
                case Withdraw(address=address) | StandBy(address=address):
                    assert speaker.may_act or speaker.stopping
                    speaker.answering.pop(address, None)
                    speaker.yielding.discard(address)
                    speaker.standing_by.pop(address, None)
                    if isinstance(intent, StandBy):
                        assert not speaker.stopping
                        speaker.standing_by[address] = intent.member
                case _:
                    pass

    def _let_others_hear(self, name: str, address: Address) -> None:
        for other, speaker in self.speakers.items():
            if other != name and address in speaker.answering:
                speaker.untold.append(AddressHeard(address=address, mac=bytes(6), link="eth0"))


def bgp_announcers(state: AnnouncementState, key: ServiceKey) -> tuple[tuple[Address, tuple[str, ...]], ...]:
    """For each address of one Service the nodes that announce it over BGP, sorted; nothing where nobody may."""
    judged = explain_bgp(state, key)
    parts = () if judged is None or isinstance(judged, NotAnnounced) else judged
    return tuple((address, _announcing(verdicts)) for address, verdicts in parts)


def _announcing(verdicts: Iterable[NodeVerdict]) -> tuple[str, ...]:
    return tuple(verdict.node for verdict in verdicts if verdict.reason is Reason.OK)

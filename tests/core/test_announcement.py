"""Several speakers' brains, told the same facts at different times, against one brute-force election.

Each brain acts on an answering process that the test plays; what all of them do together is compared
with what a few plain loops over nodes, advertisements and endpoints say it should be.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from hashlib import sha256

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lbcore import announcement
from lbcore.addresses import Address
from lbcore.announcement import (
    LOOK,
    AnnouncementSettings,
    AnnouncementState,
    NotAnnounced,
    explain,
)
from lbcore.config import Config, L2Advertisement, Pool, PreferredNodes, build
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    ConfigGone,
    ConfigSeen,
    Event,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    NodeGone,
    NodeSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
    SpeakerPodsSeen,
    Stopping,
)
from lbcore.intents import (
    Announce,
    Intent,
    RecordEvent,
    ReportAnnounced,
    SetLinks,
    SetPeers,
    SetPresence,
    SettleAnnounced,
    Withdraw,
)
from lbcore.model import (
    Endpoint,
    EndpointSlice,
    LabelSelector,
    Link,
    Node,
    Service,
    ServiceKey,
    SliceKey,
    TrafficPolicy,
)
from lbcore.verdicts import NodeVerdict, Reason
from worlds import ALL_KINDS, Desk, Nodes, broken, document, ipv4, ipv6, link, plain_service

NAMES = ("n1", "n2", "n3", "n4")
ETH0, ETH1 = link("eth0", 2), link("eth1", 3)
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


# The second opinion.


@attrs.frozen
class Facts:
    """The facts of a cluster as plain collections."""

    services: list[Service]
    slices: list[EndpointSlice]
    nodes: dict[str, Node]
    config: Config
    members: frozenset[str]

    @classmethod
    def of(cls, cluster: Nodes, config: Config) -> Facts:
        seen = cluster.facts.values()
        return cls(
            services=[event.service for event in seen if isinstance(event, ServiceSeen)],
            slices=[event.slice for event in seen if isinstance(event, SliceSeen)],
            nodes={event.node.name: event.node for event in seen if isinstance(event, NodeSeen)},
            config=config,
            members=cluster.members,
        )

    def usable(self, service: Service) -> list[Endpoint]:
        return [
            endpoint
            for each in self.slices
            if (each.key.namespace, each.service) == (service.key.namespace, service.key.name)
            for endpoint in each.endpoints
            if endpoint.addresses and (endpoint.ready is None or endpoint.ready or endpoint.serving)
        ]

    def adverts(self, service: Service, address: Address) -> list[L2Advertisement]:
        (pool,) = [each for each in self.config.pools if address in each]
        return [
            advert
            for advert in self.config.l2_advertisements
            if ((not advert.pools and not advert.pool_selectors) or pool.name in advert.pools)
            and (not advert.service_selectors or any(each.matches(service.labels) for each in advert.service_selectors))
        ]

    def lets_in(self, advert: L2Advertisement, name: str) -> bool:
        labels = self.nodes[name].labels if name in self.nodes else {}
        return not advert.node_selectors or any(each.matches(labels) for each in advert.node_selectors)

    def candidates(self, service: Service, adverts: list[L2Advertisement]) -> list[str]:
        local = {endpoint.node for endpoint in self.usable(service)}
        return [
            name
            for name in self.members
            if (name in self.nodes or not self.nodes)
            and not (
                name in self.nodes and (EXCLUDE in self.nodes[name].labels or self.nodes[name].network_unavailable)
            )
            and any(self.lets_in(advert, name) for advert in adverts)
            and (service.external_traffic_policy is TrafficPolicy.CLUSTER or name in local)
        ]

    def ranked_by(self, service: Service, address: Address) -> Address:
        """The first address of the Service, or of a sharer that has the address as its second."""
        sharers = [
            each
            for each in self.services
            if address in each.held[1:]
            and (each.type, each.load_balancer_class) == ("LoadBalancer", None)
            and "metallb.io/allow-shared-ip" in each.annotations
        ]
        return min((each.held[0] for each in sharers), default=service.held[0])

    def winner(self, service: Service, address: Address, adverts: list[L2Advertisement]) -> str | None:
        def order(name: str) -> tuple[bool, int, bytes]:
            drained = name in self.nodes and self.nodes[name].drained
            labels = self.nodes[name].labels if name in self.nodes else {}
            met = [
                preferred.weight
                for advert in adverts
                if self.lets_in(advert, name)
                for preferred in advert.preferred_nodes
                if preferred.preference.matches(labels)
            ]
            return drained, -sum(met), sha256(f"{name}#{self.ranked_by(service, address)}".encode()).digest()

        return min(self.candidates(service, adverts), key=order, default=None)

    def announced(self) -> dict[str, dict[Address, tuple[str, ...]]]:
        """For each node the addresses that it should answer for, and where."""
        by_address: dict[str, dict[Address, list[set[str]]]] = {}
        for name, _, address, sets in self.wanted():
            by_address.setdefault(name, {}).setdefault(address, []).extend(sets)
        return {name: {each: _joined(sets) for each, sets in found.items()} for name, found in by_address.items()}

    def told(self, name: str) -> dict[ServiceKey, tuple[str, ...]]:
        """The Services that a node should say it announces, and where."""
        by_service: dict[ServiceKey, list[set[str]]] = {}
        for each, service, _, sets in self.wanted():
            if each == name:
                by_service.setdefault(service.key, []).extend(sets)
        return {key: _joined(sets) for key, sets in by_service.items()}

    def wanted(self) -> Iterator[tuple[str, Service, Address, list[set[str]]]]:
        """Node, Service, address, and the interfaces of each advertisement for it, none for all."""
        for service in self.services:
            if service.type != "LoadBalancer" or service.load_balancer_class or not self.usable(service):
                continue
            if not all(any(address in pool for pool in self.config.pools) for address in service.held):
                continue
            by_address = {address: self.adverts(service, address) for address in service.held}
            shares = "metallb.io/allow-shared-ip" in service.annotations
            if shares and any(advert.service_selectors for adverts in by_address.values() for advert in adverts):
                continue
            for address, adverts in by_address.items():
                name = self.winner(service, address, adverts)
                if name is not None:
                    mine = [set(advert.interfaces) for advert in adverts if self.lets_in(advert, name)]
                    yield name, service, address, mine


def _joined(sets: list[set[str]]) -> tuple[str, ...]:
    return () if not all(sets) else tuple(sorted(set.union(*sets)))


# Worlds.

POOLS = (
    Pool.parse("pool-a", "10.0.0.0/29", "2001:db8::/125"),
    Pool.parse("pool-b", "10.0.0.8/29", "2001:db8::8/125"),
)
ZONE_A, ZONE_B = LabelSelector.of(zone="a"), LabelSelector.of(zone="b")
ADVERTS = (
    L2Advertisement(name="one"),
    L2Advertisement(name="one", node_selectors=(ZONE_A,), interfaces=("eth0",)),
    L2Advertisement(name="one", pools=("pool-a",), interfaces=("eth1",)),
    L2Advertisement(name="one", service_selectors=(LabelSelector.of(tier="gold"),)),
    L2Advertisement(name="one", preferred_nodes=(PreferredNodes(weight=10, preference=ZONE_B),)),
    L2Advertisement(name="two", node_selectors=(ZONE_B,), interfaces=("eth1",)),
    L2Advertisement(name="two", pools=("pool-b",)),
    L2Advertisement(
        name="two",
        node_selectors=(ZONE_A, ZONE_B),
        preferred_nodes=(PreferredNodes(weight=5, preference=ZONE_A), PreferredNodes(weight=10, preference=ZONE_B)),
    ),
)


def node_named(names: Iterable[str]) -> st.SearchStrategy[Node]:
    """A node, in eight of ten cases one that may be elected."""
    zones = [{"zone": "a"}, {"zone": "b"}]
    return st.builds(
        Node,
        name=st.sampled_from([*names]),
        labels=st.sampled_from([*zones, *zones, *zones, *zones, {}, {EXCLUDE: ""}]),
        network_unavailable=st.sampled_from([*[False] * 9, True]),
        drained=st.sampled_from([*[False] * 4, True]),
    )


def slice_named(numbers: Iterable[int]) -> st.SearchStrategy[EndpointSlice]:
    """A slice of one of three Services; two of three endpoints are usable."""
    endpoint = st.builds(
        Endpoint,
        addresses=st.sampled_from([("fd00::9",), ("10.244.0.9",), ("10.244.0.9",), ()]),
        node=st.sampled_from([*NAMES, *NAMES, None]),
        ready=st.sampled_from([True, True, None, False]),
        serving=st.sampled_from([True, None, False]),
    )
    return st.sampled_from([*numbers]).flatmap(
        lambda number: st.builds(
            EndpointSlice,
            key=st.just(SliceKey("red", f"slice-{number}")),
            service=st.sampled_from([f"s{number % 3 + 1}"] * 5 + ["s1"]),
            endpoints=st.lists(endpoint, min_size=0 if number > 2 else 1, max_size=3).map(tuple),
        )
    )


nodes = node_named([*NAMES, "without-speaker"])
slices = slice_named(range(6))
link_sets = st.sampled_from(
    [(ETH0, ETH1), (ETH0, ETH1), (ETH0,), (ETH0, attrs.evolve(ETH1, carrier=False)), (), (link("lo", 1),)]
)


@st.composite
def services(draw: st.DrawFn) -> Service:
    """A Service with addresses of its own, or with one that others are on, too."""
    number = draw(st.integers(1, 3))
    four, six, far = ipv4(number), ipv6(number), ipv6(number + 9)
    own = [(six,), (six,), (four, six), (six, four), (four, far), ()]
    fields: dict[str, object] = {
        "held": draw(st.sampled_from(own)),
        "external_traffic_policy": draw(st.sampled_from(TrafficPolicy)),
    }
    match draw(st.sampled_from([*["plain"] * 8, *["sharing"] * 3, "foreign", "other type", "other class"])):
        case "sharing":
            shared = draw(
                st.sampled_from([(ipv6(9),), (ipv6(9),), (ipv4(number), ipv6(9)), (ipv6(9), ipv4(9)), (ipv4(9),)])
            )
            fields = {"held": shared, "annotations": {"metallb.io/allow-shared-ip": "k"}}
        case "foreign":
            fields["held"] = (ipv4(99),)
        case "other type":
            fields["type"] = "NodePort"
        case "other class":
            fields["load_balancer_class"] = "example.com/other"
    labels = draw(st.sampled_from([{}, {"tier": "gold"}]))
    uid = draw(st.sampled_from(["first", "second"]))
    return plain_service(f"s{number}", uid=uid, labels=labels, **fields)


class AnyHistory(RuleBasedStateMachine):
    """Nodes come and go, everything changes, and everybody hears of it at another time."""

    @initialize(
        given_nodes=st.just([]) | st.tuples(*(node_named([name]) for name in NAMES)).map(list),
        given_services=st.lists(services(), min_size=2, max_size=4),
        given_slices=st.tuples(*(slice_named([number]) for number in range(3))).map(list),
        adverts=st.lists(st.sampled_from(ADVERTS), min_size=1, max_size=2, unique_by=lambda each: each.name),
    )
    def begin(
        self,
        given_nodes: list[Node],
        given_services: list[Service],
        given_slices: list[EndpointSlice],
        adverts: list[L2Advertisement],
    ) -> None:
        self.cluster = Nodes()
        self.config: Config | None = None
        facts: list[Event] = [ConfigSeen(document(pool)) for pool in POOLS]
        facts += [ConfigSeen(document(advert)) for advert in adverts]
        facts += [NodeSeen(node) for node in given_nodes]
        facts += [ServiceSeen(service) for service in given_services]
        facts += [SliceSeen(slice_) for slice_ in given_slices]
        for fact in facts:
            self.cluster.tell(fact)
        for name in NAMES[:3]:
            self.cluster.boot(name, random.Random(0), (ETH0, ETH1))

    @rule(given_services=st.lists(services(), min_size=1, max_size=4))
    def see_services(self, given_services: list[Service]) -> None:
        for service in given_services:
            self.cluster.tell(ServiceSeen(service))

    @rule(number=st.integers(1, 3), node=st.sampled_from(NAMES))
    def lose_service_and_node(self, number: int, node: str) -> None:
        self.cluster.tell(NodeGone(node))
        known = self.cluster.facts.get(("service", f"red/s{number}"))
        if isinstance(known, ServiceSeen):
            self.cluster.tell(ServiceGone(known.service.key, known.service.uid))

    @rule(slice_=slices)
    def see_slice(self, slice_: EndpointSlice) -> None:
        self.cluster.tell(SliceSeen(slice_))

    @rule(node=nodes, slice_=st.integers(1, 6))
    def see_node_and_lose_slice(self, node: Node, slice_: int) -> None:
        self.cluster.tell(NodeSeen(node))
        self.cluster.tell(SliceGone(SliceKey("red", f"slice-{slice_}")))

    @rule(resource=st.sampled_from([*ADVERTS, *POOLS]), there=st.sampled_from([*["yes"] * 8, "broken", "no"]))
    def configure(self, resource: L2Advertisement | Pool, there: str) -> None:
        given_document = document(resource)
        if there == "yes":
            self.cluster.tell(ConfigSeen(given_document))
        elif there == "no":
            self.cluster.tell(ConfigGone(given_document.origin))
        elif isinstance(resource, L2Advertisement):
            self.cluster.tell(ConfigSeen(broken(resource.name, "L2Advertisement")))

    @rule(name=st.sampled_from(NAMES), links=link_sets)
    def change_links(self, name: str, links: tuple[Link, ...]) -> None:
        if name in self.cluster.speakers:
            self.cluster.set_links(name, links)

    @rule(name=st.sampled_from(NAMES), rng=st.randoms(use_true_random=False), effort=st.sampled_from([1, 4000]))
    def boot_or_restart(self, name: str, rng: random.Random, effort: int) -> None:
        self.cluster.boot(name, rng, (ETH0, ETH1), effort=effort)

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["die", "stop", "kill", "kill"]))
    def harm(self, name: str, how: str) -> None:
        if name not in self.cluster.speakers:
            return
        if how == "die":
            self.cluster.die(name)
        elif how == "stop":
            self.cluster.stop(name)
        else:
            self.cluster.kill_answering(name)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 6), seconds=st.sampled_from([0.0, 0.05, 0.2, 2.5]))
    def deliver_and_wait(self, name: str, count: int, seconds: float) -> None:
        if name not in self.cluster.speakers:
            return
        self.cluster.deliver(name, count)
        desk = self.cluster.speakers[name].desk
        until = desk.now + seconds
        desk.settle(until)
        desk.now = max(desk.now, until)

    @rule()
    def look_at_rest(self) -> None:
        self.cluster.rest()
        documents = [event.document for event in self.cluster.facts.values() if isinstance(event, ConfigSeen)]
        built = build(documents)
        if not isinstance(built, Config):
            return  # each goes by the last good configuration that it happened to see
        facts = Facts.of(self.cluster, built)
        expected = facts.announced()
        assert {name: found for name, found in expected.items() if name not in self.cluster.speakers} == {}
        for name, speaker in self.cluster.speakers.items():
            assert expected.get(name, {}) == speaker.answering
            said = {each.key: each for each in speaker.desk.intents if isinstance(each, ReportAnnounced)}
            assert facts.told(name) == {key: each.interfaces for key, each in said.items() if each.is_any}
            assert speaker.present == any(each.carrier and each.name != "lo" for each in speaker.links)
        announcers = [address for of_node in expected.values() for address in of_node]
        assert len(announcers) == len(set(announcers))
        self.compare_with_explanations(expected, facts)

    def compare_with_explanations(self, expected: dict[str, dict[Address, tuple[str, ...]]], facts: Facts) -> None:
        """Every node says the same, and names the one that does announce first."""
        for service in facts.services:
            answers = [explain(speaker.desk.state, service.key) for speaker in self.cluster.speakers.values()]
            assert all(answer == answers[0] for answer in answers), (answers, service)
            for answer in answers[:1]:
                if answer is None or isinstance(answer, NotAnnounced):
                    assert answer is not None
                    continue
                for address, verdicts in answer:
                    names = [verdict.node for verdict in verdicts if verdict.reason is Reason.OK]
                    assert names == [verdict.node for verdict in verdicts[:1] if verdict.reason is Reason.OK]
                    assert all(address in expected[name] for name in names)
                    if "metallb.io/allow-shared-ip" not in service.annotations:
                        self.compare_who_stands_by(address, verdicts)

    def compare_who_stands_by(self, address: Address, verdicts: Iterable[NodeVerdict]) -> None:
        """The one who is said to be next, for the one who announces; of those that are not leaving."""
        able = (Reason.OK, Reason.NOT_ELECTED, Reason.NODE_DRAINED)
        order = [verdict.node for verdict in verdicts if verdict.reason in able]
        expected = {order[1]: order[0]} if len(order) > 1 else {}
        standing = {name: speaker.standing_by for name, speaker in self.cluster.speakers.items()}
        assert expected == {name: parts[address] for name, parts in standing.items() if address in parts}

    @rule(rng=st.randoms(use_true_random=False))
    def restart_all_and_echo(self, rng: random.Random) -> None:
        """At rest, nothing that is told again and no restart makes anybody announce or withdraw."""
        self.look_at_rest()
        documents = [event.document for event in self.cluster.facts.values() if isinstance(event, ConfigSeen)]
        if not isinstance(build(documents), Config):
            return
        for name, speaker in sorted(self.cluster.speakers.items()):
            for event in self.cluster.listing(speaker, rng):
                if not isinstance(event, AnsweringSeen):
                    assert [] == speaker.desk.run(event)
            self.cluster.boot(name, rng)
        self.cluster.rest()
        for speaker in self.cluster.speakers.values():
            assert [] == [each for each in speaker.desk.intents if isinstance(each, Announce | Withdraw)]

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.restart_all_and_echo(random.Random(1))


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.slow
def test_many_more_histories() -> None:
    run_state_machine_as_test(AnyHistory, settings=settings(max_examples=400, stateful_step_count=50, deadline=None))


# A speaker alone with its events.

SOME_LINKS = LinksSeen((ETH0, ETH1))
ENDPOINT = Endpoint(addresses=("fd00::9",), node="n1", ready=True)


def slice_of(service: Service, *endpoints: Endpoint) -> SliceSeen:
    key = SliceKey(service.key.namespace, f"of-{service.key.name}")
    return SliceSeen(EndpointSlice(key=key, service=service.key.name, endpoints=endpoints or (ENDPOINT,)))


def holding(count: int) -> list[Service]:
    return [plain_service(f"s{number}", held=(ipv6(number),)) for number in range(count)]


def speaker(
    *events: Event,
    members: Iterable[str] = ("n1",),
    answering: dict[Address, tuple[str, ...]] | None = None,
    without: Kind | None = None,
    **chosen: object,
) -> Desk[AnnouncementState]:
    """The speaker on n1 with one pool and one advertisement for all, told this, at rest; not told that of one
    kind this was all, if `without` names one.
    """
    fields: dict[str, object] = {"node": "n1", **chosen}
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(**fields)))  # type: ignore[arg-type]
    pool = Pool.parse("p", "10.0.0.0/24", "2001:db8::/64")
    config: list[Event] = [ConfigSeen(document(pool)), ConfigSeen(document(L2Advertisement(name="all")))]
    given_members = MembersSeen(frozenset(members))
    found = AnsweringSeen(tuple(sorted((answering or {}).items())))
    listed = [Listed(kind) for kind in ALL_KINDS if kind is not without]
    desk.run(found, SOME_LINKS, *config, *events, given_members, *listed)
    return desk


def announcing(*services: Service) -> list[Event]:
    return [event for service in services for event in (ServiceSeen(service), slice_of(service))]


def acts(intents: Iterable[Intent]) -> list[Announce | Withdraw]:
    """What is taken up and let go; what is handed over is neither yet."""
    wanted = [intent for intent in intents if isinstance(intent, Announce | Withdraw)]
    return [each for each in wanted if isinstance(each, Withdraw) or not each.yielding]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_nothing_is_announced_or_withdrawn_before_everything_that_decides_is_known(kind: Kind) -> None:
    orphan: dict[Address, tuple[str, ...]] = {ipv6(77): ()}
    desk = speaker(*announcing(*holding(2)), without=kind, answering=orphan)
    assert [] == acts(desk.intents)
    intents = desk.run(Listed(kind))
    assert [Announce(address=ipv6(0)), Announce(address=ipv6(1)), Withdraw(address=ipv6(77))] == acts(intents)


def test_a_restart_keeps_what_the_answering_process_does_and_lets_go_of_orphans_last() -> None:
    kept: dict[Address, tuple[str, ...]] = {ipv6(0): (), ipv6(77): ("eth0",)}
    desk = speaker(*announcing(*holding(2)), answering=kept)
    assert [Announce(address=ipv6(1)), Withdraw(address=ipv6(77))] == acts(desk.intents)


def test_an_answering_process_that_is_started_anew_gets_everything_again() -> None:
    desk = speaker(*announcing(*holding(3)))
    intents = desk.run(AnsweringSeen(()))
    assert [Announce(address=ipv6(number)) for number in range(3)] == sorted(
        acts(intents), key=lambda each: each.address
    )
    assert [SetLinks(links=(ETH0, ETH1))] == [each for each in intents if isinstance(each, SetLinks)]
    assert [True] == [each.present for each in intents if isinstance(each, SetPresence)]


def test_the_addresses_of_nodes_are_where_peers_are_looked_for_and_told_once() -> None:
    desk = speaker()
    one, two, old = Address.parse("fd00::1"), Address.parse("fd00::2"), Address.parse("192.0.2.2")
    told = []
    for node in (
        Node(name="b", addresses=(old, two)),
        Node(name="a", addresses=(one,)),
        Node(name="a", addresses=(one,), network_unavailable=True),
    ):
        told += [each for each in desk.run(NodeSeen(node)) if isinstance(each, SetPeers)]
    assert [SetPeers((old, two)), SetPeers((old, one, two))] == told


def test_speakers_are_looked_for_at_their_pods_beside_nodes() -> None:
    desk = speaker()
    node, pod = Address.parse("fd00::1"), Address.parse("fd00:244::2")
    desk.run(NodeSeen(Node(name="a", addresses=(node,))))
    told: list[Intent] = []
    for pods in ((pod,), (pod, node), ()):
        told += [each for each in desk.run(SpeakerPodsSeen(pods)) if isinstance(each, SetPeers)]
    assert [SetPeers((node, pod)), SetPeers((node,))] == told


def test_the_successor_of_a_lost_member_announces_in_the_same_step() -> None:
    services = holding(12)
    desk = speaker(*announcing(*services), members=("n1", "n2"), effort=100_000)
    before = {each.address for each in acts(desk.intents)}
    assert 0 < len(before) < 12
    taken_over = acts(desk.feed(MembersSeen(frozenset({"n1"}))))
    assert {ipv6(number) for number in range(12)} - before == {each.address for each in taken_over}
    assert all(isinstance(each, Announce) for each in taken_over)


def test_what_a_lost_member_announced_comes_before_a_sweep() -> None:
    services = holding(40)
    desk = speaker(*announcing(*services), members=("n1", "n2"), effort=10 * LOOK)
    lost = 40 - len(acts(desk.intents))
    desk.feed(NodeSeen(Node(name="n1")), NodeSeen(Node(name="n2")))  # two sweeps
    first = acts(desk.feed(MembersSeen(frozenset({"n1"}))))
    assert min(lost, 9) <= len(first)
    assert lost == len(first) + len(acts(desk.settle()))


def test_a_member_that_returns_before_its_loss_was_looked_at_costs_nothing() -> None:
    desk = speaker(*announcing(*holding(20)), members=("n1", "n2"), effort=1)
    desk.feed(MembersSeen(frozenset({"n1"})), MembersSeen(frozenset({"n1", "n2"})))
    before = {each.address for each in acts(desk.intents) if isinstance(each, Announce)}
    desk.settle()
    withdrawn = {each.address for each in acts(desk.intents) if isinstance(each, Withdraw)}
    announced_since = {each.address for each in acts(desk.intents) if isinstance(each, Announce)} - before
    assert announced_since <= withdrawn


@pytest.mark.parametrize("effort", [1, 3 * LOOK, 10 * LOOK])
def test_a_step_does_no_more_than_its_effort(effort: int) -> None:
    desk = speaker(*announcing(*holding(30)), effort=effort)
    looks: list[int] = []
    desk.on_step = lambda intents: looks.append(len(acts(intents)))
    desk.run(ConfigGone(document(L2Advertisement(name="all")).origin))
    assert 30 == sum(looks)
    assert max(looks) <= max(1, effort // LOOK)


@pytest.mark.parametrize("effort", [1, 3 * LOOK, 10 * LOOK])
def test_an_answering_process_started_anew_is_told_within_the_effort_of_a_step(effort: int) -> None:
    desk = speaker(*announcing(*holding(30)), effort=effort)
    told: list[int] = []
    desk.on_step = lambda intents: told.append(len(acts(intents)))
    desk.run(AnsweringSeen(()))
    assert 30 == sum(told)
    assert max(told) <= max(1, effort // LOOK)


def test_who_stops_goes_on_answering_until_the_successor_is_heard() -> None:
    desk = speaker(*announcing(*holding(2)), members=("n1", "n2", "n3"))
    (mine,) = (each.address for each in acts(desk.intents))
    desk.now = 100.0
    assert [False] == [each.present for each in desk.feed(Stopping()) if isinstance(each, SetPresence)]
    assert [] == acts(desk.feed(MembersSeen(frozenset({"n2", "n3"}))))
    assert (False, 102.0) == (desk.state.stopped, desk.wake_at)
    heard = AddressHeard(address=mine, mac=bytes(6), link="eth0")
    assert [Withdraw(address=mine)] == acts(desk.feed(heard))
    assert (True, None) == (desk.state.stopped, desk.wake_at)
    assert [] == acts(desk.run(heard, *announcing(*holding(3)), MembersSeen(frozenset({"n1"}))))


def test_who_wants_to_hear_is_told_when_all_has_been_told_and_who_stops_takes_all_back() -> None:
    desk = speaker(*announcing(*holding(2)), members=("n1", "n2"), tells=True)
    mine = [each for each in desk.intents if isinstance(each, ReportAnnounced | SettleAnnounced)]
    assert SettleAnnounced(node="n1", living=frozenset({"n1", "n2"}), sweeps=True) == mine[-1]
    assert [] == desk.run(*announcing(*holding(2)), MembersSeen(frozenset({"n1", "n2"})))
    reports = [each for each in mine if isinstance(each, ReportAnnounced)]
    assert reports
    assert all(each.interfaces == () for each in reports)
    desk.run(Stopping())
    assert desk.state.stopped
    last = [each for each in desk.intents if isinstance(each, ReportAnnounced)][len(reports) :]
    assert [(each.key, None) for each in reports] == [(each.key, each.interfaces) for each in last]
    quiet = speaker(*announcing(*holding(2))).intents
    assert [] == [each for each in quiet if isinstance(each, ReportAnnounced | SettleAnnounced)]


def test_the_successor_may_be_heard_before_it_is_known_that_we_left() -> None:
    desk = speaker(*announcing(*holding(2)), members=("n1", "n2", "n3"))
    mine = [each.address for each in acts(desk.intents)]
    desk.feed(Stopping())
    heard = [AddressHeard(address=address, mac=bytes(6), link="eth0") for address in mine]
    assert [Withdraw(address=address) for address in mine] == acts(desk.feed(*heard))
    assert [] == acts(desk.run(NodeSeen(Node(name="n1")), MembersSeen(frozenset({"n2", "n3"}))))


def test_who_stops_unheard_lets_go_after_two_seconds() -> None:
    desk = speaker(*announcing(*holding(4)), members=("n1", "n2"))
    mine = [each.address for each in acts(desk.intents)]
    assert mine
    desk.feed(Stopping(), MembersSeen(frozenset({"n2"})))
    assert [] == acts(desk.settle(until=1.99))
    assert [Withdraw(address=address) for address in sorted(mine)] == acts(desk.settle(until=2.0))
    assert desk.state.stopped


def test_who_stops_alone_lets_go_at_once() -> None:
    desk = speaker(*announcing(*holding(2)))
    assert [Withdraw(address=ipv6(0)), Withdraw(address=ipv6(1))] == acts(desk.feed(Stopping()))
    assert desk.state.stopped


def test_a_speaker_that_never_was_ready_can_stop() -> None:
    desk = speaker(without=Kind.SERVICES, answering={ipv6(7): ()})
    intents = desk.run(Stopping())
    assert [Withdraw(address=ipv6(7))] == acts(intents)
    assert [False] == [each.present for each in intents if isinstance(each, SetPresence)]
    assert desk.state.stopped
    assert desk.wake_at is None


def test_without_a_carrier_a_node_is_no_candidate() -> None:
    desk = speaker()
    down = tuple(attrs.evolve(each, carrier=False) for each in (ETH0, ETH1))
    assert [SetLinks, SetPresence] == [type(each) for each in desk.run(LinksSeen(down))]
    assert [] == desk.run(LinksSeen(down))
    assert [True] == [each.present for each in desk.run(LinksSeen((ETH0,))) if isinstance(each, SetPresence)]


def test_an_interface_that_does_not_exist_is_said_and_announced_for_when_it_comes() -> None:
    advert = ConfigSeen(document(L2Advertisement(name="all", interfaces=("eth7",))))
    desk = speaker(advert, *announcing(*holding(1)))
    assert [Announce(address=ipv6(0), interfaces=("eth7",))] == acts(desk.intents)
    events = [each for each in desk.intents if isinstance(each, RecordEvent)]
    assert ["announceFailed"] == [each.reason for each in events]


def test_two_services_on_one_address_are_answered_for_until_the_last_is_gone() -> None:
    terms = {"metallb.io/allow-shared-ip": "k"}
    first, second = (plain_service(name, held=(ipv6(1),), annotations=terms) for name in ("first", "second"))
    desk = speaker(*announcing(first, second))
    assert [Announce(address=ipv6(1))] == acts(desk.intents)
    assert [] == acts(desk.run(ServiceGone(first.key, first.uid)))
    assert [] == acts(desk.run(ServiceGone(second.key, "an-earlier-uid")))
    assert [Withdraw(address=ipv6(1))] == acts(desk.run(ServiceGone(second.key, second.uid)))


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        (Reason.NOT_LOAD_BALANCER, {"type": "ClusterIP"}),
        (Reason.NOT_LOAD_BALANCER, {"load_balancer_class": "example.com/other"}),
        (Reason.NO_ADDRESS, {"held": ()}),
        (Reason.ADDRESS_NOT_IN_POOL, {"held": (ipv4(1), ipv4(999))}),
    ],
)
def test_a_service_that_cannot_be_announced_is_withdrawn_and_says_why(
    reason: Reason, change: dict[str, object]
) -> None:
    (service,) = holding(1)
    desk = speaker(*announcing(service))
    changed = attrs.evolve(service, **change)  # type: ignore[arg-type]
    assert [Withdraw(address=ipv6(0))] == acts(desk.run(ServiceSeen(changed)))
    why = explain(desk.state, service.key)
    assert isinstance(why, NotAnnounced)
    assert reason is why.reason


def test_an_endpoint_slice_that_changes_its_service_leaves_the_other_without() -> None:
    first, second = holding(2)
    desk = speaker(*announcing(first), ServiceSeen(second))
    assert [Announce(address=ipv6(0))] == acts(desk.intents)
    slice_ = slice_of(first).slice
    intents = desk.run(SliceSeen(attrs.evolve(slice_, service=second.key.name)))
    assert [Withdraw(address=ipv6(0)), Announce(address=ipv6(1))] == acts(intents)
    assert [Withdraw(address=ipv6(1))] == acts(desk.run(SliceGone(slice_.key)))


def test_an_orphan_is_let_go_only_when_everything_has_been_looked_at() -> None:
    kept: dict[Address, tuple[str, ...]] = {ipv6(number): () for number in (0, 1, 2, 77)}
    desk = speaker(*announcing(*holding(3)), answering=kept, effort=1)
    assert [Withdraw(address=ipv6(77))] == acts(desk.intents)


def ranked_first(address: Address, names: Iterable[str] = ("n1", "n2", "n3")) -> str:
    return min(names, key=lambda name: sha256(f"{name}#{address}".encode()).digest())


@pytest.mark.parametrize("number", range(6))
def test_a_first_address_that_is_added_takes_the_second_with_it(number: int) -> None:
    six, both = (plain_service("a", held=held) for held in [(ipv6(number),), (ipv4(number), ipv6(number))])
    desk = speaker(*announcing(six), members=("n1", "n2", "n3"))
    desk.run(ServiceSeen(both))
    expected = {ipv4(number), ipv6(number)} if ranked_first(ipv4(number)) == "n1" else set()
    assert expected == set(desk.state.announced)


@pytest.mark.parametrize("number", range(6))
def test_sharers_of_an_address_elect_one_node_though_it_is_the_second_of_one(number: int) -> None:
    terms = {"metallb.io/allow-shared-ip": "k"}
    six = plain_service("six", held=(ipv6(number),), annotations=terms)
    both = plain_service("both", held=(ipv4(number), ipv6(number)), annotations=terms)
    desk = speaker(*announcing(six), members=("n1", "n2", "n3"))
    desk.run(*announcing(both))
    expected = {ipv4(number), ipv6(number)} if ranked_first(ipv4(number)) == "n1" else set()
    assert expected == set(desk.state.announced)
    desk.run(ServiceGone(both.key, both.uid))
    assert ({ipv6(number)} if ranked_first(ipv6(number)) == "n1" else set()) == set(desk.state.announced)


def test_an_advertisement_that_changes_is_looked_at_anew_and_each_names_interfaces_for_its_nodes() -> None:
    here, there = LabelSelector.of(zone="a"), LabelSelector.of(zone="b")
    desk = speaker(NodeSeen(Node(name="n1", labels={"zone": "a"})), *announcing(*holding(1)))
    others = L2Advertisement(name="all", node_selectors=(there,), interfaces=("eth1",))
    assert [Withdraw(address=ipv6(0))] == acts(desk.run(ConfigSeen(document(others))))
    ours = L2Advertisement(name="ours", node_selectors=(here,), interfaces=("eth0",))
    assert [Announce(address=ipv6(0), interfaces=("eth0",))] == acts(desk.run(ConfigSeen(document(ours))))


@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_order_in_which_facts_are_told_changes_nothing(count: int, seed: int) -> None:
    events = announcing(*holding(count))
    expected = speaker(*events, members=("n1", "n2", "n3")).state.announced
    random.Random(seed).shuffle(events)
    assert expected == speaker(*events, members=("n1", "n2", "n3")).state.announced


def test_two_services_on_one_address_are_answered_for_wherever_one_of_them_wants_it() -> None:
    one, other = (plain_service(name, held=(ipv6(0),), labels={"team": name}) for name in "ab")
    narrow = L2Advertisement(name="all", service_selectors=(LabelSelector.of(team="a"),), interfaces=("eth0",))
    wide = L2Advertisement(name="wide", service_selectors=(LabelSelector.of(team="b"),))
    desk = speaker(*announcing(one))
    assert (Announce(address=ipv6(0), interfaces=("eth0",))) in desk.run(ConfigSeen(document(narrow)))
    desk.run(ConfigSeen(document(wide)), *announcing(other))
    assert {ipv6(0): ()} == dict(desk.state.announced)


def test_one_interface_of_several_is_enough() -> None:
    advert = L2Advertisement(name="all", interfaces=("absent0", "eth0"))
    desk = speaker(*announcing(*holding(1)), ConfigSeen(document(advert)))
    events = [intent.reason for intent in desk.run(ConfigSeen(document(advert))) if isinstance(intent, RecordEvent)]
    told = [intent.reason for intent in desk.intents if isinstance(intent, RecordEvent)]
    assert ([], "nodeAssigned") == (events, told[-1])


def test_an_empty_annotation_counts_as_sharing_where_services_are_selected() -> None:
    """MetalLB asks whether the annotation is there, not what it says."""
    advert = L2Advertisement(name="all", service_selectors=(LabelSelector.of(team="a"),))
    web = plain_service("a", held=(ipv6(0),), labels={"team": "a"}, annotations={"metallb.io/allow-shared-ip": ""})
    desk = speaker(*announcing(web), ConfigSeen(document(advert)))
    found = explain(desk.state, web.key)
    assert isinstance(found, NotAnnounced)
    assert Reason.SHARED_WITH_SERVICE_SELECTORS is found.reason


def test_who_would_take_over_is_numbered_in_the_order_of_taking_over() -> None:
    desk = speaker(*announcing(*holding(1)), members=("n1", "n2", "n3"))
    found = explain(desk.state, holding(1)[0].key)
    assert isinstance(found, tuple)
    ((_, verdicts),) = found
    assert ["announces it", *(f"number {n} of 3 to take over" for n in (2, 3))] == [
        verdict.detail.rpartition("; ")[2] for verdict in verdicts
    ]


def test_an_advertisement_for_all_interfaces_outdoes_one_that_names_some() -> None:
    narrow, wide = L2Advertisement(name="all", interfaces=("eth0",)), L2Advertisement(name="wide")
    desk = speaker(*announcing(*holding(1)))
    desk.run(ConfigSeen(document(narrow)))
    assert {ipv6(0): ("eth0",)} == dict(desk.state.announced)
    desk.run(ConfigSeen(document(wide)))
    assert {ipv6(0): ()} == dict(desk.state.announced)

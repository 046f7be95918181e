"""Who announces an address over BGP: every node that may, each for reasons of its own."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lbcore import announcement
from lbcore.addresses import Address, Family
from lbcore.advertising import Case, Speakers, bgp_verdicts, every_peer_verdict, peer_verdicts
from lbcore.announcement import (
    AnnouncementSettings,
    AnnouncementState,
    NotAnnounced,
    explain_bgp,
    explain_routes,
)
from lbcore.bgp import BGPAdvertisement, BGPPeer
from lbcore.config import ConfigDocument, Origin, Pool, Resource
from lbcore.endpoints import Reach
from lbcore.events import (
    ConfigSeen,
    Event,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
    Tick,
)
from lbcore.model import Endpoint, EndpointSlice, LabelSelector, Node, Service, ServiceKey, SliceKey, TrafficPolicy
from lbcore.verdicts import Reason
from worlds import bgp_announcers

EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
KEY = ServiceKey("default", "web")
RACK_A, RACK_B = LabelSelector.of(rack="a"), LabelSelector.of(rack="b")
POOL = Pool.parse("dual", "2001:db8::/64", "10.0.0.0/24")
SPINE = BGPPeer(name="spine", my_asn=64500, peer_asn=64501, address=Address.parse("2001:db8:f::1"))
ADVERT = BGPAdvertisement(name="all")
NODES = {
    "node-a": Node(name="node-a", labels={"rack": "a"}),
    "node-b": Node(name="node-b", labels={"rack": "b"}),
    "node-c": Node(name="node-c"),
}
WEB = Service(key=KEY, labels={"tier": "gold"}, held=(Address.parse("2001:db8::5"),))
EVERYWHERE = Reach(True, frozenset(NODES))


def verdicts(
    service: Service = WEB,
    family: Family = Family.IPV6,
    adverts: tuple[BGPAdvertisement, ...] = (ADVERT,),
    peers: tuple[BGPPeer, ...] = (SPINE,),
    reach: Reach = EVERYWHERE,
    **speakers: Any,
) -> dict[str, Reason]:
    who = Speakers(**({"nodes": NODES, "members": frozenset(NODES)} | speakers))
    return {v.node: v.reason for v in bgp_verdicts(Case.of(service, family, POOL, adverts, reach), peers, who)}


def those(found: dict[str, Reason], reason: Reason = Reason.OK) -> set[str]:
    return {name for name, each in found.items() if each is reason}


def test_every_node_announces_where_nothing_speaks_against_it() -> None:
    assert dict.fromkeys(["node-a", "node-b", "node-c"], Reason.OK) == verdicts()


def test_a_node_that_the_advertisement_does_not_select_stays_silent() -> None:
    found = verdicts(adverts=(evolve(ADVERT, node_selectors=(RACK_A,)), evolve(ADVERT, node_selectors=(RACK_B,))))
    assert {"node-a", "node-b"} == those(found)
    assert Reason.NODE_NOT_SELECTED is found["node-c"]


def test_advertisements_of_another_pool_or_other_services_do_not_count() -> None:
    other_pool = BGPAdvertisement(name="p", pools=("other",))
    other_services = BGPAdvertisement(name="s", service_selectors=(LabelSelector.of(tier="tin"),))
    assert those(verdicts(adverts=(other_pool, other_services)), Reason.NO_ADVERTISEMENT) == set(NODES)
    mine = BGPAdvertisement(name="s", service_selectors=(LabelSelector.of(tier="gold"),))
    assert set(NODES) == those(verdicts(adverts=(other_pool, mine)))


def test_preferences_that_contradict_each_other_silence_the_nodes_where_they_meet() -> None:
    high = BGPAdvertisement(name="high", local_pref=200, node_selectors=(RACK_A,))
    low = BGPAdvertisement(name="low", local_pref=100, node_selectors=(RACK_A, RACK_B))
    found = verdicts(adverts=(high, low))
    assert (Reason.CONFLICTING_ADVERTISEMENTS, Reason.OK) == (found["node-a"], found["node-b"])


def test_a_node_without_network_or_with_the_exclude_label_stays_silent() -> None:
    nodes = {
        "cut": Node(name="cut", network_unavailable=True),
        "kept-out": Node(name="kept-out", labels={EXCLUDE: ""}),
    }
    members = frozenset(nodes)
    found = verdicts(nodes=nodes, members=members)
    assert {"cut": Reason.NODE_NETWORK_UNAVAILABLE, "kept-out": Reason.NODE_EXCLUDED} == found
    assert {"kept-out"} == those(verdicts(nodes=nodes, members=members, ignore_exclude_label=True))


def test_local_traffic_wants_an_endpoint_on_the_node_and_other_traffic_one_anywhere() -> None:
    local = evolve(WEB, external_traffic_policy=TrafficPolicy.LOCAL)
    on_a = Reach(True, frozenset({"node-a"}))
    found = verdicts(local, reach=on_a)
    assert ({"node-a"}, {"node-b", "node-c"}) == (those(found), those(found, Reason.NO_LOCAL_ENDPOINTS))
    assert set(NODES) == those(verdicts(WEB, reach=on_a))
    assert set(NODES) == those(verdicts(WEB, reach=Reach(True)))  # an endpoint that names no node
    assert set(NODES) == those(verdicts(WEB, reach=Reach()), Reason.NO_ENDPOINTS)


def test_a_node_without_a_living_speaker_or_without_a_node_stays_silent() -> None:
    found = verdicts(members=frozenset({"node-a", "stranger"}))
    assert {"node-a"} == those(found)
    assert (Reason.NOT_A_MEMBER, Reason.NODE_UNKNOWN) == (found["node-b"], found["stranger"])


def test_where_no_nodes_are_listed_the_members_announce() -> None:
    assert {"x"} == those(verdicts(nodes={}, members=frozenset({"x"})))


@pytest.mark.parametrize(
    ("advert", "peer", "announcing"),
    [
        (ADVERT, evolve(SPINE, node_selectors=(RACK_A,)), {"node-a"}),
        (evolve(ADVERT, peers=("spine",)), SPINE, set(NODES)),
        (evolve(ADVERT, peers=("spnie",)), SPINE, set()),
        (ADVERT, evolve(SPINE, address=Address.parse("10.9.9.9")), set()),
        (ADVERT, evolve(SPINE, address=Address.parse("10.9.9.9"), dual_stack=True), set(NODES)),
        (ADVERT, evolve(SPINE, address=None, interface="eth1"), set(NODES)),
    ],
    ids=["other-nodes", "named", "misspelt", "other-family", "both-families", "unnumbered"],
)
def test_a_node_announces_only_where_a_session_takes_the_route(
    advert: BGPAdvertisement, peer: BGPPeer, announcing: set[str]
) -> None:
    found = verdicts(adverts=(advert,), peers=(peer,))
    assert announcing == those(found)
    assert set(NODES) - announcing == those(found, Reason.NO_PEER)


def test_without_any_peer_nobody_announces() -> None:
    assert set(NODES) == those(verdicts(peers=()), Reason.NO_PEER)


selectors = st.lists(st.sampled_from([RACK_A, RACK_B]), max_size=2, unique=True).map(tuple)
advertisements = st.builds(
    BGPAdvertisement,
    name=st.sampled_from(["x", "y", "z"]),
    pools=st.sampled_from([(), ("dual",), ("other",)]),
    node_selectors=selectors,
    service_selectors=st.sampled_from([(), (LabelSelector.of(tier="gold"),), (LabelSelector.of(tier="tin"),)]),
    peers=st.sampled_from([(), ("spine",), ("leaf",)]),
)
peers = st.builds(evolve, st.just(SPINE), name=st.sampled_from(["spine", "leaf"]), node_selectors=selectors)


@given(st.lists(advertisements, max_size=3), st.lists(peers, max_size=2), st.sets(st.sampled_from(list(NODES))))
def test_a_node_announces_iff_one_of_its_routes_reaches_one_of_its_sessions(
    adverts: list[BGPAdvertisement], sessions: list[BGPPeer], members: set[str]
) -> None:
    def selects(given: tuple[LabelSelector, ...], name: str) -> bool:
        rack = NODES[name].labels.get("rack")
        return not given or any(selector == LabelSelector.of(rack=rack) for selector in given if rack)

    expected = {
        name
        for name in members
        for advert in adverts
        for session in sessions
        if advert.pools != ("other",)
        and advert.service_selectors != (LabelSelector.of(tier="tin"),)
        and (not advert.peers or session.name in advert.peers)
        and selects(advert.node_selectors, name)
        and selects(session.node_selectors, name)
    }
    assert expected == those(verdicts(adverts=tuple(adverts), peers=tuple(sessions), members=frozenset(members)))


# The same through the speaker's brain.


def config(*resources: Resource) -> list[Event]:
    found: list[Event] = []
    for each in resources:
        origin = Origin(kind=type(each).__name__, namespace="metallb-system", name=each.name, source="x.yaml")
        found.append(ConfigSeen(ConfigDocument(origin=origin, resources=(each,))))
    return found


def speaker(*events: Event) -> AnnouncementState:
    state = AnnouncementState(settings=AnnouncementSettings(node="node-a"))
    known: list[Event] = [*(NodeSeen(node) for node in NODES.values()), *events]
    known += [LinksSeen(()), MembersSeen(frozenset(NODES)), *(Listed(kind) for kind in Kind), Tick()]
    for event in known:
        state = announcement.step(state, event, 1.0).state
    return state


ENDPOINTS = SliceSeen(
    EndpointSlice(
        key=SliceKey("default", "web-1"),
        service="web",
        endpoints=(Endpoint(addresses=("2001:db8:1::1",), node="node-b", ready=True),),
    )
)


def test_a_dual_stack_service_is_announced_to_the_sessions_of_each_family() -> None:
    both = evolve(WEB, held=(Address.parse("10.0.0.5"), Address.parse("2001:db8::5")))
    old = BGPPeer(
        name="old",
        my_asn=1,
        peer_asn=2,
        address=Address.parse("10.9.9.9"),
        node_selectors=(LabelSelector.of(rack="b"),),
    )
    state = speaker(*config(POOL, ADVERT, SPINE, old), ServiceSeen(both), ENDPOINTS)
    assert (
        (Address.parse("10.0.0.5"), ("node-b",)),
        (Address.parse("2001:db8::5"), ("node-a", "node-b", "node-c")),
    ) == bgp_announcers(state, KEY)


def test_local_traffic_comes_to_the_node_with_the_endpoint() -> None:
    local = evolve(WEB, external_traffic_policy=TrafficPolicy.LOCAL)
    state = speaker(*config(POOL, ADVERT, SPINE), ServiceSeen(local), ENDPOINTS)
    assert ((Address.parse("2001:db8::5"), ("node-b",)),) == bgp_announcers(state, KEY)


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (evolve(WEB, type="ClusterIP"), Reason.NOT_LOAD_BALANCER),
        (evolve(WEB, load_balancer_class="other"), Reason.NOT_LOAD_BALANCER),
        (evolve(WEB, held=()), Reason.NO_ADDRESS),
        (evolve(WEB, held=(Address.parse("2001:db8:1::5"),)), Reason.ADDRESS_NOT_IN_POOL),
    ],
    ids=["type", "class", "no-address", "foreign"],
)
def test_what_nobody_may_announce_says_why(service: Service, reason: Reason) -> None:
    state = speaker(*config(POOL, ADVERT, SPINE), ServiceSeen(service), ENDPOINTS)
    judged = explain_bgp(state, KEY)
    assert isinstance(judged, NotAnnounced)
    assert reason is judged.reason
    assert () == bgp_announcers(state, KEY)


def test_a_service_that_does_not_exist_is_announced_by_nobody() -> None:
    state = speaker(*config(POOL))
    assert explain_bgp(state, KEY) is None
    assert () == bgp_announcers(state, KEY)


def test_each_router_is_told_which_prefix_by_which_node_or_why_not() -> None:
    spare = evolve(SPINE, name="spare")
    old = BGPPeer(name="old", my_asn=1, peer_asn=2, address=Address.parse("10.9.9.9"))
    here = evolve(
        SPINE, name="here", address=Address.parse("2001:db8::aa"), node_selectors=(LabelSelector.of(rack="b"),)
    )
    advert = evolve(ADVERT, peers=("here", "old", SPINE.name), aggregation_length_v6=120, local_pref=7)
    spare = evolve(spare, address=Address.parse("2001:db8::bb"))
    state = speaker(*config(POOL, advert, SPINE, spare, old, here), ServiceSeen(WEB), ENDPOINTS)
    found = explain_routes(state, KEY)
    assert isinstance(found, tuple)
    said = {(each.node, each.peer.name): each for each in found if each.peer is not None}
    assert {(node, peer) for node in NODES for peer in ("spine", "spare", "old", "here")} == set(said)
    assert ("2001:db8::/120", 7) == (str(said["node-a", "spine"].prefix), said["node-a", "spine"].path.local_pref)
    assert "names other peers" in said["node-a", "spare"].detail
    assert "carries no IPv6 routes" in said["node-a", "old"].detail
    assert "its nodeSelectors do not match" in said["node-a", "here"].detail
    assert Reason.OK is said["node-b", "here"].reason
    # What is explained for this node is what its routers are told.
    told = {(str(prefix), offer.peer) for prefix, offers in state.exports.told.items() for offer in offers}
    ours = [each for each in found if each.node == "node-a" and each.reason is Reason.OK]
    assert told == {(str(each.prefix), each.peer.name) for each in ours if each.peer is not None}


class Asked(dict[str, Node]):
    """Nodes, and how often one was asked for."""

    times = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.times += 1
        return super().get(key, default)


@pytest.mark.parametrize("drained", [0, 5])
def test_what_routers_are_told_of_a_service_with_few_nodes_costs_no_more_for_each_node_where_there_are_many(
    drained: int,
) -> None:
    few = evolve(WEB, annotations={"lbcore.io/announcing-nodes": "2"})
    times = []
    for count in (10, 100):
        nodes = Asked({f"n{number:03}": Node(name=f"n{number:03}") for number in range(count)})
        out = frozenset(list(nodes)[:drained])
        who = Speakers(nodes=nodes, members=frozenset(nodes), drained=out)
        case = Case.of(few, Family.IPV6, POOL, (ADVERT,), Reach(True, frozenset(nodes)))
        found = list(every_peer_verdict(few.held[0], case, (SPINE,), who))
        times.append(nodes.times)
        one_by_one = [each for name in nodes for each in peer_verdicts(name, few.held[0], case, (SPINE,), who)]
        assert one_by_one == found
        assert 2 == sum(each.reason is Reason.OK for each in found)
    assert times[1] <= 11 * times[0]


def test_a_node_that_tells_nobody_is_one_line() -> None:
    local = evolve(WEB, external_traffic_policy=TrafficPolicy.LOCAL)
    found = explain_routes(speaker(*config(POOL, ADVERT, SPINE), ServiceSeen(local), ENDPOINTS), KEY)
    assert isinstance(found, tuple)
    assert [("node-a", None), ("node-b", "spine"), ("node-c", None)] == [
        (each.node, each.peer.name if each.peer is not None else None) for each in found
    ]
    assert () == explain_routes(speaker(*config(POOL), ServiceSeen(WEB), ENDPOINTS), KEY)

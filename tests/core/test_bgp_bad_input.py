"""What is wrong with BGP's objects is told in one line, and no session and no route is touched by it."""

from __future__ import annotations

import pytest
from attrs import evolve

from drained import NAMES, told, with_endpoints
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementState
from lbcore.bfd import BfdState, WatchStatus
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer
from lbcore.config import ConfigDocument, Origin, Resource
from lbcore.events import ConfigGone, ConfigSeen, MembersSeen, NodeSeen, PeerSeen, WatchSeen
from lbcore.intents import Intent, RecordEvent, ReportConfig, ReportPeer
from lbcore.model import LabelSelector, Node
from lbcore.routes import PeerState, PeerStatus
from worlds import Desk, ipv4, ipv6, plain_service

TOR = BGPPeer(name="tor", my_asn=64513, peer_asn=64512, address=Address.parse("2001:db8:f::1"), dual_stack=True)
OTHER = evolve(TOR, name="other", address=Address.parse("192.0.2.1"))
ADVERT = BGPAdvertisement(name="all", local_pref=100)


def seen(resource: Resource) -> ConfigSeen:
    origin = Origin(kind=type(resource).__name__, namespace="metallb-system", name=resource.name)
    if isinstance(resource, BGPPeer):
        resource = evolve(resource, origin=origin)
    return ConfigSeen(ConfigDocument(origin=origin, resources=(resource,)))


def speaker(node: str = "n1") -> Desk[AnnouncementState]:
    """A speaker whose router is told of a Service with two addresses."""
    web = plain_service("web", held=(ipv4(1), ipv6(1)))
    return told(seen(TOR), seen(ADVERT), *with_endpoints(web, *NAMES), node=node)


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        (evolve(ADVERT, name="bad", community_texts=("nobody",)), "communities[0]", "there is no community 'nobody'"),
        (BGPAdvertisement(name="bad", local_pref=7), "localPref", "7 contradicts 100 of BGPAdvertisement 'all'"),
        (evolve(ADVERT, name="bad", aggregation_length=16), "aggregationLength", "16 is wider than 10.0.0.0/24"),
        (evolve(ADVERT, name="bad", aggregation_length_v6=63), "aggregationLengthV6", "63 is wider than 2001:db8::/64"),
        (evolve(OTHER, name="bad", bfd_profile="quick"), "bfdProfile", "there is no BFDProfile 'quick'"),
        (evolve(TOR, name="zbad"), "peerAddress", "2001:db8:f::1 port 179 is BGPPeer 'tor' already"),
    ],
)
def test_an_object_that_makes_no_sense_is_one_problem_and_leaves_sessions_and_routes_alone(
    bad: Resource, field: str, words: str
) -> None:
    desk = speaker()
    before = desk.state
    (told_of,) = desk.run(seen(bad))
    assert isinstance(told_of, ReportConfig)
    (problem,) = told_of.problems
    assert (f"{type(bad).__name__} metallb-system/{bad.name}", f"spec.{field}") == (problem.object, problem.field)
    assert words in problem.message
    assert "\n" not in str(problem)
    assert (before.configuration.current, before.exports.told) == (told_of.config, desk.state.exports.told)
    # Taken away again, it has changed nothing.
    document = seen(bad).document
    (told_of,) = desk.run(ConfigGone(document.origin))
    assert ReportConfig(config=before.configuration.current, problems=()) == told_of


def lonely(intents: list[Intent]) -> list[tuple[str, str]]:
    return [(each.about, each.message) for each in intents if isinstance(each, RecordEvent) and "peer" in each.reason]


def test_a_peer_that_no_node_has_is_told_of_once_by_one_speaker() -> None:
    rack = evolve(OTHER, name="rack", node_selectors=(LabelSelector.of(rack="b"),))
    desk, second = speaker(), speaker("n2")
    text = "no node has a session with 192.0.2.1: none of 4 matches its nodeSelectors; label one, or widen them"
    assert [("BGPPeer metallb-system/rack", text)] == lonely(desk.run(seen(rack)))
    assert [] == lonely(second.run(seen(rack)))
    assert [] == lonely(desk.run(NodeSeen(Node(name="n3", external=(ipv4(9),)))))
    # A node is labelled, and loses the label again. The first of the living speakers is another by then.
    assert [] == lonely(desk.run(NodeSeen(Node(name="n3", labels={"rack": "b"})), NodeSeen(Node(name="n4"))))
    second.run(NodeSeen(Node(name="n3", labels={"rack": "b"})), MembersSeen(frozenset({"n2", "n3"})))
    assert [text] == [message for _, message in lonely(second.run(NodeSeen(Node(name="n3"))))]


@pytest.mark.parametrize(
    ("several", "ttl", "words"),
    [
        (True, 63, "and 250 is asked for: set minimumTtl of BFDProfile 'fast' to 63 or less, or let the router send"),
        (False, 254, "and of a neighbour on a link they have 255: set ebgpMultiHop: true if a router is in between"),
    ],
)
def test_a_peer_whose_bfd_packets_have_too_small_a_ttl_is_told_of_once_with_what_to_do(
    several: bool, ttl: int, words: str
) -> None:
    far = evolve(OTHER, name="far", bfd_profile="fast", ebgp_multihop=several)
    desk = speaker()
    desk.run(seen(BFDProfile(name="fast", minimum_ttl=250)), seen(far))
    desk.run(PeerSeen("far", PeerStatus(state=PeerState.ESTABLISHED, since=1.0)))
    down = WatchStatus(state=BfdState.DOWN, refused_ttl=ttl)
    report, event = sorted(desk.run(WatchSeen("far", down)), key=lambda each: not isinstance(each, ReportPeer))
    assert isinstance(event, RecordEvent)
    assert ("BGPPeer metallb-system/far", "sessionProblem") == (event.about, event.reason)
    line = f"BFD: packets of 192.0.2.1 arrive with a TTL of {ttl}, {words}"
    assert event.message.startswith(f"node n1: {line}")
    assert "\n" not in event.message
    assert isinstance(report, ReportPeer)
    assert report.status is not None
    assert report.status.error.startswith(line)
    # The session over BGP is as it was, and nobody is told again; when it is up, nothing is wrong any more.
    assert [] == desk.run(WatchSeen("far", evolve(down, sent=9)))
    (report,) = desk.run(WatchSeen("far", WatchStatus(state=BfdState.UP, ups=1)))
    assert isinstance(report, ReportPeer)
    assert report.status is not None
    assert "" == report.status.error

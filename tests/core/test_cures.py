"""Every refusal says what would satisfy it, not only what is the case: for each reason, in each place that gives it."""

from __future__ import annotations

import re

import pytest

from lbcore import announcement
from lbcore.advertising import Case, Speakers, bgp_verdicts
from lbcore.allocation import allocate, verdicts
from lbcore.announcement import AnnouncementSettings, AnnouncementState, NotAnnounced
from lbcore.bgp import BGPAdvertisement, BGPPeer
from lbcore.config import L2Advertisement, Pool, ServiceAllocation
from lbcore.election import EXCLUDE_LABEL, judge_node
from lbcore.endpoints import Reach
from lbcore.events import ConfigSeen, Listed, MembersSeen, ServiceSeen, SliceSeen
from lbcore.ledger import Claim, Ledger
from lbcore.model import (
    Endpoint,
    EndpointSlice,
    IPFamilyPolicy,
    LabelSelector,
    Node,
    Port,
    Service,
    ServiceKey,
    SliceKey,
    TrafficPolicy,
)
from lbcore.pools import Catalog
from lbcore.requests import Request, read_request
from lbcore.sharing import Sharing
from lbcore.verdicts import NODE_TEXTS, Reason, Refusal
from worlds import ALL_KINDS, Desk, document, ipv4, ipv6, plain_service

CURE = re.compile(
    r"(?:; |To change that, )(?:add|allow|ask|change|correct|create|give|keep|label|leave|let|look|mend|name|remove|run"
    r"|see|set|start|take|to share it, both need|use)\b"
)
REQUESTS: dict[Reason, dict[str, object]] = {
    Reason.BAD_REQUEST: {"load_balancer_ip": "web.example.com"},
    Reason.CONFLICTING_REQUEST: {
        "load_balancer_ip": "10.0.0.1",
        "annotations": {"metallb.io/loadBalancerIPs": "10.0.0.1"},
    },
    Reason.NO_CLUSTER_IP: {"cluster_ips": ("None",)},
    Reason.FAMILY_MISMATCH: {"load_balancer_ip": "2001:db8::1"},
    Reason.NOT_DUAL_STACK: {"ip_family_policy": IPFamilyPolicy.REQUIRE_DUAL_STACK},
}
HELD = Ledger().claim(Claim(key=ServiceKey("red", "other"), addresses=(ipv6(0), ipv6(1)), pools=("p", "p")))
SHARED = Ledger().claim(
    Claim(
        key=ServiceKey("red", "other"),
        addresses=(ipv6(0),),
        pools=("p",),
        ports=(Port("TCP", 80),),
        sharing=Sharing("k"),
    )
)
NOT_RED = ServiceAllocation(namespaces=("blue",))
TIN = ServiceAllocation(service_selectors=(LabelSelector.of(tier="tin"),))
SIX = Pool.parse("p", "2001:db8::/127")
POOLS: list[tuple[Reason, Pool | None, Ledger, dict[str, object]]] = [
    (Reason.NO_POOLS, None, Ledger(), {}),
    (Reason.POOL_NOT_FOUND, SIX, Ledger(), {"pool": "q"}),
    (Reason.POOL_NOT_AUTOMATIC, Pool.parse("p", "2001:db8::/127", auto_assign=False), Ledger(), {}),
    (Reason.POOL_NOT_FOR_NAMESPACE, Pool(name="p", ranges=SIX.ranges, allocation=NOT_RED), Ledger(), {}),
    (Reason.POOL_NOT_FOR_SERVICE, Pool(name="p", ranges=SIX.ranges, allocation=TIN), Ledger(), {}),
    (Reason.POOL_LACKS_FAMILY, Pool.parse("p", "10.0.0.0/24"), Ledger(), {}),
    (Reason.POOL_EXHAUSTED, SIX, HELD, {}),
    (Reason.ADDRESS_NOT_IN_POOL, SIX, Ledger(), {"addresses": (ipv6(9),)}),
    (Reason.ADDRESS_IN_OTHER_POOL, SIX, Ledger(), {"addresses": (ipv6(0),), "pool": "q"}),
    (
        Reason.ADDRESS_AVOIDED,
        Pool.parse("p", "10.0.0.0/24", avoid_buggy_ips=True),
        Ledger(),
        {"addresses": (ipv4(0),)},
    ),
    (
        Reason.POOL_NOT_FOR_NAMESPACE,
        Pool(name="p", ranges=SIX.ranges, allocation=NOT_RED),
        Ledger(),
        {"addresses": (ipv6(0),)},
    ),
    (
        Reason.POOL_NOT_FOR_SERVICE,
        Pool(name="p", ranges=SIX.ranges, allocation=TIN),
        Ledger(),
        {"addresses": (ipv6(0),)},
    ),
    (Reason.ADDRESS_IN_USE, SIX, HELD, {"addresses": (ipv6(0),)}),
    (Reason.SHARING_REFUSED, SIX, HELD, {"addresses": (ipv6(0),), "sharing": Sharing("k")}),
    (
        Reason.SHARING_REFUSED,
        SIX,
        SHARED,
        {"addresses": (ipv6(0),), "sharing": Sharing("k"), "ports": (Port("TCP", 80),)},
    ),
]
SELECTIVE = LabelSelector.of(rack="a")
NODES: dict[Reason, tuple[Node | None, frozenset[str]]] = {
    Reason.NODE_UNKNOWN: (None, frozenset({"n1"})),
    Reason.NOT_A_MEMBER: (Node(name="n1"), frozenset()),
    Reason.NODE_EXCLUDED: (Node(name="n1", labels={EXCLUDE_LABEL: ""}), frozenset({"n1"})),
    Reason.NODE_NETWORK_UNAVAILABLE: (Node(name="n1", network_unavailable=True), frozenset({"n1"})),
    Reason.NODE_NOT_SELECTED: (Node(name="n1"), frozenset({"n1"})),
}
SERVICES: list[tuple[Reason, dict[str, object]]] = [
    (Reason.NOT_LOAD_BALANCER, {"type": "ClusterIP"}),
    (Reason.NOT_LOAD_BALANCER, {"load_balancer_class": "example.com/other"}),
    (Reason.NO_ADDRESS, {}),
    (Reason.ADDRESS_NOT_IN_POOL, {"held": (ipv4(1),)}),
    (Reason.NO_ENDPOINTS, {"held": (ipv6(0),)}),
    (Reason.NO_ADVERTISEMENT, {"held": (ipv6(0),), "labels": {"tier": "tin"}}),
    (Reason.SHARED_WITH_SERVICE_SELECTORS, {"held": (ipv6(0),), "annotations": {"metallb.io/allow-shared-ip": "k"}}),
]
ADVERT = L2Advertisement(name="ad", service_selectors=(LabelSelector.of(tier="gold"),))


def not_announced(service: Service, *, endpoints: bool) -> NotAnnounced:
    """Why a speaker that knows pool `p` and an advertisement for gold Services says nobody announces one."""
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")))
    ready = (Endpoint(addresses=("fd00::1",), node="n1"),) if endpoints else ()
    slice_ = EndpointSlice(key=SliceKey("red", "web-1"), service="web", endpoints=ready)
    desk.run(
        *(ConfigSeen(document(each)) for each in (SIX, ADVERT)),
        ServiceSeen(service),
        SliceSeen(slice_),
        MembersSeen(frozenset({"n1"})),
        *map(Listed, ALL_KINDS),
    )
    found = announcement.explain(desk.state, service.key)
    assert isinstance(found, NotAnnounced)
    return found


@pytest.mark.parametrize("reason", REQUESTS, ids=lambda reason: reason.value)
def test_a_request_that_no_pool_could_grant_is_told_how_to_mend_it(reason: Reason) -> None:
    answer = read_request(plain_service("web", **REQUESTS[reason]))
    assert isinstance(answer, Refusal)
    assert reason is answer.reason
    assert CURE.search(answer.detail) or "; write " in answer.detail


@pytest.mark.parametrize("row", POOLS, ids=lambda row: row[0].value)
def test_a_request_that_the_pools_refuse_is_told_what_would_help(
    row: tuple[Reason, Pool | None, Ledger, dict[str, object]],
) -> None:
    reason, pool, ledger, wishes = row
    families = (pool.ranges[0].family,) if pool is not None and wishes else (ipv6(0).family,)
    request = Request(key=ServiceKey("red", "web"), **{"families": families, **wishes})  # type: ignore[arg-type]
    catalog = Catalog.of([pool] if pool is not None else [])
    answer = allocate(request, catalog, ledger)
    assert isinstance(answer, Refusal)
    assert reason is answer.reason
    if reason is not Reason.POOL_NOT_FOUND:  # its cure is the list of the pools there are
        assert CURE.search(answer.detail), answer.detail
    if request.addresses:  # `explain` asks this way
        assert [answer.detail] == [verdict.detail for verdict in verdicts(request, catalog, ledger)]


@pytest.mark.parametrize("reason", NODES, ids=lambda reason: reason.value)
def test_a_node_that_is_passed_over_says_what_would_bring_it_in(reason: Reason) -> None:
    node, members = NODES[reason]
    nodes = {"n0": Node(name="n0"), **({"n1": node} if node is not None else {})}
    advert = L2Advertisement(name="ad", node_selectors=(SELECTIVE,))
    layer_2 = judge_node("n1", [advert], nodes, members)
    speakers = Speakers(nodes=nodes, members=members)
    bgp_advert = BGPAdvertisement(name="ad", node_selectors=(SELECTIVE,))
    web = plain_service("web", held=(ipv6(0),))
    over_bgp = bgp_verdicts(Case.of(web, ipv6(0).family, SIX, [bgp_advert], Reach(True)), [], speakers)
    for verdict in (layer_2, next(each for each in over_bgp if each.node == "n1")):
        assert reason is verdict.reason
        assert CURE.search(verdict.detail), verdict.detail


def test_a_node_that_waits_says_what_to_look_at() -> None:
    assert CURE.search(NODE_TEXTS[Reason.NODE_WAITS])


def bgp_refusal(
    service: Service, reach: Reach, *adverts: BGPAdvertisement, peers: tuple[BGPPeer, ...] = ()
) -> tuple[Reason, str]:
    speakers = Speakers(nodes={"n1": Node(name="n1")}, members=frozenset({"n1"}))
    (verdict,) = bgp_verdicts(Case.of(service, ipv6(0).family, SIX, adverts, reach), peers, speakers)
    return verdict.reason, verdict.detail


def test_what_else_keeps_a_node_from_announcing_over_bgp_says_what_to_do() -> None:
    here, web = Reach(True, frozenset({"n1"})), plain_service("web", held=(ipv6(0),))
    local = plain_service("web", held=(ipv6(0),), external_traffic_policy=TrafficPolicy.LOCAL)
    one, other = BGPAdvertisement(name="one"), BGPAdvertisement(name="other", local_pref=100)
    said = {
        Reason.NO_ADVERTISEMENT: bgp_refusal(web, here),
        Reason.CONFLICTING_ADVERTISEMENTS: bgp_refusal(web, here, one, other),
        Reason.NO_ENDPOINTS: bgp_refusal(web, Reach(), one),
        Reason.NO_LOCAL_ENDPOINTS: bgp_refusal(local, Reach(True), one),
        Reason.NO_PEER: bgp_refusal(web, here, one),
    }
    assert list(said) == [reason for reason, _ in said.values()]
    assert [] == [text for _, text in said.values() if not CURE.search(text)]


@pytest.mark.parametrize("row", SERVICES, ids=lambda row: row[0].value)
def test_a_service_that_nobody_announces_is_told_what_is_missing(row: tuple[Reason, dict[str, object]]) -> None:
    reason, fields = row
    service = plain_service("web", **{"labels": {"tier": "gold"}, **fields})
    found = not_announced(service, endpoints=reason is not Reason.NO_ENDPOINTS)
    assert reason is found.reason
    assert CURE.search(found.detail), found.detail


def test_a_speaker_without_a_valid_configuration_says_where_to_look() -> None:
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")))
    desk.feed(ServiceSeen(plain_service("web", held=(ipv6(0),))))
    found = announcement.explain(desk.state, ServiceKey("red", "web"))
    assert isinstance(found, NotAnnounced)
    assert (Reason.NOT_READY, True) == (found.reason, bool(CURE.search(found.detail)))

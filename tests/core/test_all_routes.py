"""What all nodes tell all routers of all Services, worked out together: what the answers for each one add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from drained import NAMES, told, with_endpoints
from lbcore import announcement
from lbcore.addresses import Address
from lbcore.advertising import ANNOUNCING_NODES
from lbcore.announcement import AnnouncementState
from lbcore.bgp import BGPAdvertisement, BGPPeer
from lbcore.config import Pool
from lbcore.duties import announcers
from lbcore.events import ConfigSeen, DrainsSeen, MembersSeen, NodeSeen
from lbcore.exports import joined
from lbcore.model import LabelSelector, Node, Service, ServiceKey, TrafficPolicy
from lbcore.routes import Offer, Path, Prefix
from lbcore.verdicts import Reason
from worlds import bgp_announcers, document, ipv6, plain_service

MORE = Pool.parse("more", "2001:db8:1::/64")  # beside the pool of both families that `told` has
RACKS = (LabelSelector.of(rack="a"), LabelSelector.of(rack="b"))
NODES = [NodeSeen(Node(name=name, labels={"rack": rack})) for name, rack in zip(NAMES, "abbc", strict=True)]
TOR = BGPPeer(name="tor", my_asn=64513, peer_asn=64512, address=Address.parse("2001:db8:f::1"))

in_six = st.sampled_from(["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "2001:db8:1::2"])
held = st.just(()) | st.tuples(in_six) | st.tuples(in_six, st.sampled_from(["10.0.0.1", "10.0.0.2"]))
some_nodes = st.frozensets(st.sampled_from(NAMES))
services = st.builds(
    plain_service,
    st.sampled_from(["web", "mail", "news", "wiki"]),
    labels=st.sampled_from([{}, {"tier": "gold"}, {"tier": "tin"}]),
    held=held.map(lambda texts: tuple(map(Address.parse, texts))),
    external_traffic_policy=st.sampled_from(TrafficPolicy),
    annotations=st.sampled_from([{}, {}, {ANNOUNCING_NODES: "1"}, {ANNOUNCING_NODES: "some"}]),
)
adverts = st.builds(
    BGPAdvertisement,
    name=st.sampled_from("xyz"),
    pools=st.sampled_from([(), ("p",), ("more",)]),
    node_selectors=st.sampled_from([(), (), RACKS[:1], RACKS]),
    service_selectors=st.sampled_from([(), (), (LabelSelector.of(tier="gold"),)]),
    peers=st.sampled_from([(), (), ("leaf",)]),
    aggregation_length_v6=st.sampled_from([128, 127]),
    local_pref=st.sampled_from([0, 0, 7]),
    community_texts=st.sampled_from([(), ("64512:1",), ("64512:2", "64512:1")]),
)
peers = st.builds(
    BGPPeer,
    name=st.sampled_from(["leaf", "spine"]),
    my_asn=st.just(64513),
    peer_asn=st.just(64512),
    address=st.sampled_from(["2001:db8:f::1", "10.9.9.9"]).map(Address.parse),
    dual_stack=st.booleans(),
    node_selectors=st.sampled_from([(), (), RACKS[:1]]),
)


def speaker(
    known: Iterable[tuple[Service, Iterable[str]]],
    wishes: Iterable[BGPAdvertisement | BGPPeer | Pool],
    drained: frozenset[str] = frozenset(),
    members: frozenset[str] = frozenset(NAMES),
) -> AnnouncementState:
    """One that knows Services, each with the nodes of its endpoints."""
    config = [ConfigSeen(document(each)) for each in wishes]
    ends = [event for service, nodes in known for event in with_endpoints(service, *nodes)]
    return told(*config, *NODES, *ends, DrainsSeen(drained), MembersSeen(members)).state


def added_up(state: AnnouncementState) -> dict[tuple[str, str], dict[Prefix, Path]]:
    """What is explained of each Service by itself, joined as a speaker joins what it gives to its routers."""
    given: dict[tuple[str, Prefix], dict[Offer, None]] = {}
    for key in state.services:
        verdicts = announcement.explain_routes(state, key)
        for each in verdicts if isinstance(verdicts, tuple) else ():
            if each.reason is Reason.OK and each.peer is not None:
                given.setdefault((each.node, each.prefix), {})[Offer(each.peer.name, each.path)] = None
    found: dict[tuple[str, str], dict[Prefix, Path]] = {}
    for (node, prefix), offers in given.items():
        for offer in joined(offers):
            found.setdefault((node, offer.peer), {})[prefix] = offer.path
    return found


@given(
    known=st.lists(st.tuples(services, some_nodes), min_size=1, max_size=4, unique_by=lambda each: each[0].key),
    wishes=st.lists(adverts, min_size=1, max_size=3, unique_by=lambda each: each.name),
    routers=st.lists(peers, min_size=1, max_size=2, unique_by=lambda each: each.name),
    drained=some_nodes,
    gone=some_nodes,
)
def test_what_routers_are_told_of_all_services_is_what_is_explained_of_each(
    known: list[tuple[Service, frozenset[str]]],
    wishes: list[BGPAdvertisement],
    routers: list[BGPPeer],
    drained: frozenset[str],
    gone: frozenset[str],
) -> None:
    state = speaker(known, [MORE, *wishes, *routers], drained, frozenset(NAMES) - gone)
    assert added_up(state) == announcement.routes(state)
    assert {
        (key, address): nodes for key in state.services for address, nodes in bgp_announcers(state, key)
    } == announcement.all_bgp_announcers(state)
    alone = {key: announced_by(state, key) for key in state.services}
    assert {key: nodes for key, nodes in alone.items() if nodes} == announcers(state)


def announced_by(state: AnnouncementState, key: ServiceKey) -> tuple[str, ...]:
    """Who announces a Service, as it is explained of it by itself: on Layer 2, then over BGP."""
    found = announcement.explain(state, key)
    parts = found if isinstance(found, tuple) else ()
    layer2 = [verdicts[0].node for _, verdicts in parts if verdicts[0].reason is Reason.OK]
    bgp = sorted({node for _, nodes in bgp_announcers(state, key) for node in nodes})
    return tuple(dict.fromkeys([*layer2, *bgp]))


class Asked(dict[str, Node]):
    """Nodes, and how often one was asked for."""

    times = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.times += 1
        return super().get(key, default)


@pytest.mark.parametrize("ask", [announcement.routes, announcement.all_bgp_announcers])
def test_nodes_are_looked_at_as_often_for_many_services_that_are_alike_as_for_few(ask: Any) -> None:
    times = []
    for count in (3, 30):
        alike = [(plain_service(f"s{number}", held=(ipv6(number),)), NAMES) for number in range(1, count + 1)]
        state = speaker(alike, [BGPAdvertisement(name="x"), TOR])
        nodes = Asked(state.nodes)
        assert ask(evolve(state, nodes=nodes)) == ask(state) != {}  # type: ignore[arg-type]
        times.append(nodes.times)
    assert times[0] == times[1]

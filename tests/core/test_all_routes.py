"""What all nodes tell all routers of all Services, worked out together: what the answers for each one add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given
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

# Of both pools, and two that lie in one aggregate; a Service may have none yet.
held = st.sampled_from([
    ("2001:db8::2",), ("2001:db8::3",), ("2001:db8:1::2",), ("2001:db8::3", "10.0.0.1"),
    ("2001:db8::2", "10.0.0.2"), (),
])  # fmt: skip
some_nodes = st.frozensets(st.sampled_from(NAMES))
# Most nodes live, and most Services have endpoints and are announced: of what nobody hears there is nothing to add up.
few_nodes = st.just(frozenset[str]()) | st.just(frozenset[str]()) | some_nodes
most_nodes = st.just(frozenset(NAMES)) | some_nodes.filter(bool) | some_nodes
# What of a Service decides who announces it, beside its addresses; the last are the nodes of its endpoints.
RESPECTS: tuple[st.SearchStrategy[Any], ...] = (
    st.sampled_from([{}, {"tier": "gold"}, {"tier": "tin"}]),
    st.sampled_from(TrafficPolicy),
    st.sampled_from([{}, {ANNOUNCING_NODES: "1"}, {ANNOUNCING_NODES: "some"}]),
    most_nodes,
)
names = st.lists(st.sampled_from(["web", "mail", "news", "wiki"]), min_size=2, unique=True)


@st.composite
def neighbours(draw: st.DrawFn) -> list[tuple[Service, frozenset[str]]]:
    """Services that are almost alike, each with the nodes of its endpoints: those are the ones to be confounded."""
    alike = draw(st.tuples(*RESPECTS))
    found = []
    for name in draw(names):
        own = list(alike)
        which = draw(st.integers(0, 5))
        if which < len(own):
            own[which] = draw(RESPECTS[which])
        labels, policy, annotations, nodes = own
        addresses = tuple(map(Address.parse, draw(held)))
        service = plain_service(
            name, held=addresses, labels=labels, external_traffic_policy=policy, annotations=annotations
        )
        found.append((service, nodes))
    return found


PLAIN = BGPAdvertisement(name="plain", community_texts=("64512:9",))
LOUD = BGPAdvertisement(name="loud", pools=("more",), local_pref=7, aggregation_length_v6=127)
for_all = st.sampled_from([(PLAIN,), (PLAIN,), (PLAIN, LOUD), ()])
adverts = st.builds(
    BGPAdvertisement,
    name=st.sampled_from("xyz"),
    pools=st.sampled_from([(), ("p",), ("more",)]),
    node_selectors=st.sampled_from([(), (), RACKS[:1], RACKS]),
    service_selectors=st.sampled_from([(), (), (LabelSelector.of(tier="gold"),)]),
    peers=st.sampled_from([(), (), ("leaf",)]),
    aggregation_length_v6=st.sampled_from([128, 127]),
    community_texts=st.sampled_from([(), ("64512:1",), ("64512:2", "64512:1")]),
)
ROUTERS = {"leaf": ("2001:db8:f::2", "10.9.9.2"), "spine": ("2001:db8:f::3", "10.9.9.3")}
peers = st.sampled_from(sorted(ROUTERS)).flatmap(
    lambda name: st.builds(
        BGPPeer,
        name=st.just(name),
        my_asn=st.just(64513),
        peer_asn=st.just(64512),
        address=st.sampled_from(ROUTERS[name]).map(Address.parse),
        dual_stack=st.booleans(),
        node_selectors=st.sampled_from([(), (), RACKS[:1]]),
    )
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


def known_as(
    name: str, number: int, *nodes: str, policy: TrafficPolicy = TrafficPolicy.CLUSTER, tier: str = "", count: str = ""
) -> tuple[Service, frozenset[str]]:
    service = plain_service(
        name,
        held=(ipv6(number),),
        labels={"tier": tier} if tier else {},
        annotations={ANNOUNCING_NODES: count} if count else {},
        external_traffic_policy=policy,
    )
    return service, frozenset(nodes or NAMES)


GOLD = BGPAdvertisement(name="gold", service_selectors=(LabelSelector.of(tier="gold"),), community_texts=("64512:1",))
NOBODY: frozenset[str] = frozenset()


# Services that are alike but for one thing: how many nodes they ask for, or the address by which those are chosen; the
# advertisements that are for them; the nodes of their endpoints.
@example(
    known=[known_as("web", 2, count="1"), known_as("mail", 2, count="some"), known_as("news", 3, count="1")],
    plain=(PLAIN,), wishes=[], routers=[], drained=NOBODY, gone=NOBODY,
)  # fmt: skip
@example(
    known=[known_as("web", 2), known_as("mail", 3, tier="gold"), known_as("news", 4)],
    plain=(PLAIN,), wishes=[GOLD], routers=[], drained=NOBODY, gone=NOBODY,
)  # fmt: skip
@example(
    known=[known_as("web", 2, "n1", policy=TrafficPolicy.LOCAL), known_as("mail", 3, "n2", policy=TrafficPolicy.LOCAL)],
    plain=(PLAIN,), wishes=[], routers=[], drained=NOBODY, gone=NOBODY,
)  # fmt: skip
@given(
    known=neighbours(),
    plain=for_all,
    wishes=st.lists(adverts, max_size=2, unique_by=lambda each: each.name),
    routers=st.lists(peers, max_size=2, unique_by=lambda each: each.name),
    drained=few_nodes,
    gone=few_nodes,
)
def test_what_routers_are_told_of_all_services_is_what_is_explained_of_each(
    known: list[tuple[Service, frozenset[str]]],
    plain: tuple[BGPAdvertisement, ...],
    wishes: list[BGPAdvertisement],
    routers: list[BGPPeer],
    drained: frozenset[str],
    gone: frozenset[str],
) -> None:
    state = speaker(known, [MORE, TOR, *plain, *wishes, *routers], drained, frozenset(NAMES) - gone)
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

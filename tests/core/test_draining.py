"""Drained nodes: they serve what no other node can, and nothing else."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from drained import ADVERT, NAMES, WEB, order_of, told, with_endpoints
from lbcore.announcement import AnnouncementState, NotAnnounced, explain
from lbcore.config import L2Advertisement, PreferredNodes
from lbcore.draining import drained_nodes
from lbcore.duties import duties
from lbcore.election import Election, electorate, rank, re_elect
from lbcore.events import DrainsSeen, NodeSeen
from lbcore.model import LabelSelector, Node, Service, TrafficPolicy
from lbcore.verdicts import Reason
from worlds import Desk, ipv6, plain_service

PREFERRING = L2Advertisement(
    name="some", preferred_nodes=(PreferredNodes(weight=100, preference=LabelSelector.of(fast="yes")),)
)
names = st.frozensets(st.sampled_from(NAMES))


def winner(election: Election | None) -> str | None:
    return election.winner if election is not None else None


@given(
    members=names,
    drained=names,
    fast=names,
    before=st.tuples(names, names),
    number=st.integers(1, 50),
    adverts=st.sampled_from([(ADVERT,), (PREFERRING,), (ADVERT, PREFERRING)]),
)
def test_a_drained_node_is_elected_only_where_nobody_else_could_be(
    members: frozenset[str],
    drained: frozenset[str],
    fast: frozenset[str],
    before: tuple[frozenset[str], frozenset[str]],
    number: int,
    adverts: tuple[L2Advertisement, ...],
) -> None:
    nodes = {name: Node(name=name, labels=Map({"fast": "yes"} if name in fast else {})) for name in NAMES}
    address = ipv6(number)
    among = electorate(adverts, nodes, members, drained=drained)
    others = electorate(adverts, nodes, (members - drained) or members)
    assert members == among.candidates
    assert winner(re_elect(None, others, address)) == winner(re_elect(None, among, address))
    # Who would take over next: drained ones come last, in the order that they have among themselves.
    order = rank(among.candidates, address, among.scores)
    fresh = [name for name in order if name not in drained]
    assert [*fresh, *(name for name in order if name in drained)] == list(order)
    # At the cost of what changed, from whatever was before.
    earlier = re_elect(None, electorate(adverts, nodes, before[0], drained=before[1]), address)
    assert winner(re_elect(None, among, address)) == winner(re_elect(earlier, among, address))


def test_a_node_is_drained_by_its_node_by_a_mark_or_by_a_cordon_where_that_is_chosen() -> None:
    nodes = [Node(name="a", drained=True), Node(name="b", cordoned=True), Node(name="c")]
    assert {"a", "x"} == drained_nodes(nodes, {"x"}, cordons=False)
    assert {"a", "b"} == drained_nodes(nodes, (), cordons=True)


def verdicts(desk: Desk[AnnouncementState], service: Service) -> list[tuple[str, Reason]]:
    found = explain(desk.state, service.key)
    assert found is not None
    assert not isinstance(found, NotAnnounced)
    return [(each.node, each.reason) for _, each_of in found for each in each_of]


def test_explain_says_who_is_drained_and_that_it_would_take_over_last() -> None:
    first, *others = order_of(ipv6(1))
    desk = told(*with_endpoints(WEB, *NAMES))
    assert (first, Reason.OK) == verdicts(desk, WEB)[0]
    desk.run(NodeSeen(Node(name=first, drained=True)))
    expected = [(others[0], Reason.OK), *((name, Reason.NOT_ELECTED) for name in others[1:])]
    assert [*expected, (first, Reason.NODE_DRAINED)] == verdicts(desk, WEB)
    # All of them: then it is as if none were.
    desk.run(DrainsSeen(frozenset(NAMES)))
    assert (first, Reason.OK) == verdicts(desk, WEB)[0]
    found = explain(desk.state, WEB.key)
    assert "though drained" in found[0][1][0].detail  # type: ignore[index]
    desk.run(DrainsSeen(frozenset()), NodeSeen(Node(name=first)))
    assert (first, Reason.OK) == verdicts(desk, WEB)[0]


def test_with_the_policy_local_a_drained_node_keeps_what_only_it_can_serve() -> None:
    local = evolve(WEB, external_traffic_policy=TrafficPolicy.LOCAL)
    desk = told(*with_endpoints(local, "n2"), DrainsSeen(frozenset({"n2"})))
    assert ("n2", Reason.OK) == verdicts(desk, local)[0]
    desk.run(*with_endpoints(local, "n2", "n3"))
    assert [("n3", Reason.OK), ("n2", Reason.NODE_DRAINED)] == verdicts(desk, local)[:2]


def test_a_cordon_drains_only_where_the_operator_says_so() -> None:
    first = order_of(ipv6(1))[0]
    cordoned = NodeSeen(Node(name=first, cordoned=True))
    assert (first, Reason.OK) == verdicts(told(*with_endpoints(WEB, *NAMES), cordoned), WEB)[0]
    assert first != verdicts(told(*with_endpoints(WEB, *NAMES), cordoned, drain_cordoned=True), WEB)[0][0]


def test_the_duties_of_each_node_add_up_to_all_addresses() -> None:
    services = [plain_service(f"s{number}", held=(ipv6(number),)) for number in range(1, 9)]
    desk = told(*(event for service in services for event in with_endpoints(service, *NAMES)))
    assert 8 == sum(each.layer2 for each in duties(desk.state))
    desk.run(DrainsSeen(frozenset({"n1", "stranger"})))
    found = {each.node: each for each in duties(desk.state)}
    assert (0, 8) == (found["n1"].layer2, sum(each.layer2 for each in found.values()))
    assert (True, True, False) == (found["n1"].drained, found["n1"].lives, found["stranger"].lives)

"""Elections: MetalLB's order byte for byte, and re-election that always equals an election from nothing."""

from __future__ import annotations

from hashlib import sha256

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

from lbcore.addresses import Address
from lbcore.config import L2Advertisement, PreferredNodes
from lbcore.election import (
    EXCLUDE_LABEL,
    Election,
    Electorate,
    elect,
    electorate,
    judge_node,
    rank,
    re_elect,
    restrict_to_endpoints,
)
from lbcore.model import LabelSelector, Node, Service, ServiceKey, TrafficPolicy
from lbcore.verdicts import Reason
from strategies import addresses, label_selectors, labels


@pytest.mark.parametrize(
    ("nodes", "address", "expected"),
    [
        ("node1 node2 node3", "2001:db8::1", "node3 node2 node1"),
        ("node1 node2 node3", "192.168.1.240", "node3 node1 node2"),
        ("node-a node-b node-c", "10.0.0.1", "node-b node-a node-c"),
        ("node-a node-b node-c", "10.0.0.2", "node-b node-c node-a"),
        ("iris1 iris2", "10.20.30.1", "iris2 iris1"),
    ],
)
def test_the_order_is_that_of_metallb(nodes: str, address: str, expected: str) -> None:
    assert tuple(expected.split()) == rank(nodes.split(), Address.parse(address))


def test_the_digest_is_over_node_hash_sign_and_canonical_text() -> None:
    election = re_elect(None, Electorate(frozenset({"node1"})), Address.parse("192.168.1.240"))
    assert election is not None
    assert bytes.fromhex("bee60cd4") == election.rank[1][:4]
    six = re_elect(None, Electorate(frozenset({"nœud"})), Address.parse("2001:DB8:0:0::1"))
    assert six is not None
    assert (0, sha256("nœud#2001:db8::1".encode()).digest()) == six.rank


NAMES = [f"node-{letter}" for letter in "abcdefgh"]
candidates = st.frozensets(st.sampled_from(NAMES), max_size=8)
scores = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=8)


@given(candidates, addresses(), scores)
def test_preferences_come_before_digests_and_digests_ascend(
    among: frozenset[str], address: Address, some: dict[str, int]
) -> None:
    def place(name: str) -> tuple[int, str]:
        return -some.get(name, 0), sha256(f"{name}#{address}".encode()).hexdigest()

    assert tuple(sorted(among, key=place)) == rank(among, address, some)


@given(candidates, addresses(), scores, st.randoms(use_true_random=False))
def test_the_winner_is_the_first_of_the_rank_in_whatever_order_candidates_come(
    among: frozenset[str], address: Address, some: dict[str, int], random: object
) -> None:
    shuffled = sorted(among)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = next(iter(rank(among, address, some)), None)
    assert expected == elect(shuffled, address, some) == elect(shuffled * 2, address, some)
    assert rank(among, address, some) == rank(shuffled * 2, address, some)
    if not any(some.values()):
        assert expected == elect(shuffled, address)


@given(candidates, addresses(), scores)
def test_the_rest_of_the_rank_stays_when_one_leaves(
    among: frozenset[str], address: Address, some: dict[str, int]
) -> None:
    before = rank(among, address, some)
    for gone in among:
        assert tuple(name for name in before if name != gone) == rank(among - {gone}, address, some)


def from_nothing(among: Electorate, address: Address) -> tuple[str, int] | None:
    ordered = rank(among.candidates, address, among.scores)
    return (ordered[0], -among.scores.get(ordered[0], 0)) if ordered else None


@given(addresses(), st.lists(st.tuples(candidates, scores | st.just({})), max_size=8))
@settings(max_examples=200)
def test_re_election_after_any_changes_equals_an_election_from_nothing(
    address: Address, changes: list[tuple[frozenset[str], dict[str, int]]]
) -> None:
    election: Election | None = None
    for among, some in changes:
        electors = Electorate(among, Map(some))
        election = re_elect(election, electors, address)
        assert from_nothing(electors, address) == (election and (election.winner, election.rank[0]))
        assert election is None or election.among == electors
        assert re_elect(None, electors, address) == election


@given(addresses(), st.lists(candidates, min_size=1, max_size=8), scores)
@settings(max_examples=200)
def test_re_election_with_the_same_scores_takes_the_quick_way_to_the_same_end(
    address: Address, changes: list[frozenset[str]], some: dict[str, int]
) -> None:
    election: Election | None = None
    for among in changes:
        electors = Electorate(among, Map(some))
        election = re_elect(election, electors, address)
        assert re_elect(None, electors, address) == election


@given(candidates.filter(bool), addresses())
def test_a_loser_that_leaves_changes_nothing_and_costs_nothing(among: frozenset[str], address: Address) -> None:
    electors = Electorate(among)
    election = re_elect(None, electors, address)
    assert election is not None
    assert election is re_elect(election, electors, address)
    for loser in among - {election.winner}:
        after = re_elect(election, Electorate(among - {loser}), address)
        assert after is not None
        assert (election.winner, election.rank) == (after.winner, after.rank)


def test_nobody_is_elected_from_nobody() -> None:
    address = Address.parse("2001:db8::1")
    assert elect([], address) is None
    assert () == rank([], address)
    before = re_elect(None, Electorate(frozenset({"a"})), address)
    assert re_elect(before, Electorate(), address) is None


def test_addresses_spread_over_nodes() -> None:
    """1,000 addresses over 5 nodes: 200 each on average, and a fair hash stays within a third of that."""
    nodes = [f"node-{number}" for number in range(5)]
    base = Address.parse("2001:db8::").value
    winners = [elect(nodes, Address(6, base + number)) for number in range(1000)]
    assert set(nodes) == set(winners)
    assert all(133 < winners.count(name) < 267 for name in nodes)


def node(name: str, /, network_unavailable: bool = False, **of: str) -> Node:
    return Node(name=name, labels=of, network_unavailable=network_unavailable)


ANY = L2Advertisement(name="any")
RACK = L2Advertisement(name="rack", node_selectors=(LabelSelector.of(rack="1"), LabelSelector.of(rack="2")))


@pytest.mark.parametrize(
    ("nodes", "members", "adverts", "expected"),
    [
        ([node("n")], {"n"}, (ANY,), Reason.OK),
        ([], {"n"}, (ANY,), Reason.OK),  # a cluster that lists no Nodes has its members as nodes
        ([], {"n"}, (RACK,), Reason.NODE_NOT_SELECTED),
        ([], set(), (ANY,), Reason.NOT_A_MEMBER),
        ([node("other")], {"n"}, (ANY,), Reason.NODE_UNKNOWN),
        ([node("n")], {"other"}, (ANY,), Reason.NOT_A_MEMBER),
        ([Node(name="n", labels=Map({EXCLUDE_LABEL: "false"}))], {"n"}, (ANY,), Reason.NODE_EXCLUDED),
        ([node("n", network_unavailable=True)], {"n"}, (ANY,), Reason.NODE_NETWORK_UNAVAILABLE),
        ([node("n", rack="2")], {"n"}, (RACK,), Reason.OK),
        ([node("n", rack="3")], {"n"}, (RACK,), Reason.NODE_NOT_SELECTED),
        ([node("n", rack="3")], {"n"}, (RACK, ANY), Reason.OK),
        ([node("n")], {"n"}, (), Reason.NODE_NOT_SELECTED),
    ],
)
def test_which_node_may_be_elected(
    nodes: list[Node], members: set[str], adverts: tuple[L2Advertisement, ...], expected: Reason
) -> None:
    by_name = {each.name: each for each in nodes}
    verdict = judge_node("n", adverts, by_name, frozenset(members))
    assert ("n", expected) == (verdict.node, verdict.reason)
    assert bool(verdict.detail) == (expected is not Reason.OK)
    assert ("n" in electorate(adverts, by_name, frozenset(members)).candidates) == (expected is Reason.OK)


def test_the_exclude_label_may_be_ignored() -> None:
    nodes = {"n": Node(name="n", labels=Map({EXCLUDE_LABEL: ""}))}
    assert Reason.NODE_EXCLUDED is judge_node("n", (ANY,), nodes, frozenset({"n"})).reason
    assert Reason.OK is judge_node("n", (ANY,), nodes, frozenset({"n"}), ignore_exclude_label=True).reason
    assert frozenset() == electorate((ANY,), nodes, frozenset({"n"})).candidates
    assert {"n"} == electorate((ANY,), nodes, frozenset({"n"}), ignore_exclude_label=True).candidates


@given(
    st.dictionaries(st.sampled_from(NAMES), labels, max_size=5),
    candidates,
    st.lists(
        st.builds(
            L2Advertisement,
            name=st.just("some"),
            node_selectors=st.lists(label_selectors, max_size=2).map(tuple),
            preferred_nodes=st.lists(
                st.builds(PreferredNodes, weight=st.integers(1, 9), preference=label_selectors), max_size=2
            ).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
)
def test_candidates_and_scores_are_those_of_a_scan(
    known: dict[str, dict[str, str]], members: frozenset[str], adverts: tuple[L2Advertisement, ...]
) -> None:
    nodes = {name: Node(name=name, labels=of) for name, of in known.items()}
    expected: dict[str, int] = {}
    for name in sorted(members):
        if known and name not in known:
            continue
        of = known.get(name, {})
        letting_in = [a for a in adverts if not a.node_selectors or any(s.matches(of) for s in a.node_selectors)]
        if letting_in:
            preferred = [p for a in letting_in for p in a.preferred_nodes]
            expected[name] = sum(p.weight for p in preferred if p.preference.matches(of))
    found = electorate(adverts, nodes, members)
    assert set(expected) == found.candidates
    assert {name: score for name, score in expected.items() if score} == dict(found.scores)


def test_local_traffic_wants_an_endpoint_on_the_node() -> None:
    among = Electorate(frozenset({"a", "b"}), Map({"a": 1}))
    service = Service(key=ServiceKey("red", "web"))
    local = attrs.evolve(service, external_traffic_policy=TrafficPolicy.LOCAL)
    assert among is restrict_to_endpoints(among, service, frozenset())
    assert Electorate(frozenset({"b"}), among.scores) == restrict_to_endpoints(among, local, frozenset({"b", "c"}))

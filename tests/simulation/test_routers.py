"""The simulated cluster with routers: no promise broken, everything happens, and the judge's own reading of BGP."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.adapters.bgp.attributes import Attributes
from lbcore.adapters.bgp.messages import HEADER
from lbcore.adapters.bgp.updates import NextHop, announcements, end_of_rib, withdrawals
from lbcore.addresses import Address, Family
from lbcore.bgp import Community
from lbcore.routes import Prefix
from lbcore.simulation.contacts import Contact, Contacts
from lbcore.simulation.rib import UPDATE, Reading, Rib
from lbcore.simulation.run import has_routers, simulate

HOPS = {Family.IPV4: NextHop(Address.parse("192.0.2.9")), Family.IPV6: NextHop(Address.parse("2001:db8::9"))}

prefixes = st.sampled_from(Family).flatmap(
    lambda family: st.lists(
        st.builds(
            lambda value, length: Prefix.of(Address(family.version, value), length),
            st.integers(0, 2**family.bits - 1),
            st.integers(1, family.bits),
        ),
        min_size=1,
        max_size=30,
        unique=True,
    )
)
communities = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(Community),
        st.tuples(*[st.integers(0, 2**32 - 1)] * 3).map(Community),
    ),
    max_size=5,
    unique=True,
)


@pytest.mark.parametrize("seed", range(4))
def test_no_promise_is_broken_in_a_quarter_of_an_hour_with_routers(seed: int) -> None:
    report = simulate(seed, 0.25, routers=True)
    assert () == report.violations
    assert report.counts["sessions judged"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2006))
def test_no_promise_is_broken_in_half_an_hour_with_routers(seed: int) -> None:
    assert () == simulate(seed, 0.5, routers=True).violations


@pytest.mark.slow
def test_every_mishap_of_routers_and_every_kind_of_change_occurs() -> None:
    counts: Counter[str] = Counter()
    for seed in range(20):
        counts.update(simulate(seed, 0.2, routers=True).counts)
    mishaps = ("router crashed", "router's daemon crashed", "router froze", "way to a router cut", "router asks again")
    wanted = [*(f"fault: {each}" for each in mishaps), "BFD packets", "connections", "nodes drained", "nodes returned"]
    assert [] == [name for name in wanted if not counts[name]]


def test_one_seed_is_one_history_with_routers_and_another_without() -> None:
    hashes = [simulate(6, 0.1, routers=routers).trace_hash for routers in (True, None, False)]
    assert has_routers(6)
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def text(prefix: Prefix) -> str:
    """A prefix as the judge writes it: of ::ffff:0:0/96 there are two ways."""
    return str(ip_network(str(prefix)))


@given(prefixes, communities, st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1))
@example([Prefix.of(Address(6, 0xFFFF << 32), 96)], [], 0, 1)
def test_the_judge_reads_what_is_announced_and_taken_back(
    given: list[Prefix], said: list[Community], preference: int, asn: int
) -> None:
    family, rib, reading = given[0].family, Rib(), Reading()
    attributes = Attributes(as_path=(asn,), local_pref=preference, communities=tuple(said))
    stream = b"".join(announcements(given, family, attributes, HOPS[family], four_octets=True))
    for half in (stream[: len(stream) // 2], stream[len(stream) // 2 :]):
        for kind, body in reading.feed(half):
            assert UPDATE == kind
            assert [] == rib.take(body)
    assert {text(prefix) for prefix in given} == set(rib.routes)
    route = rib.routes[text(given[0])]
    assert (str(HOPS[family].address), (asn,), preference) == (route.next_hop, route.as_path, route.local_pref)
    assert sorted(map(str, said)) == list(route.communities)
    (back,) = withdrawals(given[:1], family)
    assert [(text(given[0]), route)] == rib.take(back[HEADER:])
    assert {text(prefix) for prefix in given[1:]} == set(rib.routes)


@given(prefixes)
def test_what_is_not_told_again_after_a_restart_goes_with_the_end_of_its_own_family(given: list[Prefix]) -> None:
    family, rib = given[0].family, Rib()
    other = next(each for each in Family if each is not family)
    for message in announcements(given, family, Attributes(), HOPS[family], four_octets=True):
        rib.take(message[HEADER:])
    rib.keep_for_now()
    for message in announcements(given[:1], family, Attributes(), HOPS[family], four_octets=True):
        rib.take(message[HEADER:])
    assert [] == rib.take(end_of_rib(other)[HEADER:])
    gone = rib.take(end_of_rib(family)[HEADER:])
    assert [text(prefix) for prefix in given[1:]] == [prefix for prefix, _ in gone]
    assert {text(given[0])} == set(rib.routes)
    assert not rib.routes[text(given[0])].stale


def test_the_book_of_contacts_knows_since_when_and_tells_of_each_end() -> None:
    now, state = [0.0], [(False, False, True)]
    parted: list[tuple[float, bool]] = []
    book = Contacts(
        lambda: now[0], lambda node, router: state[0], lambda each: parted.append((each.since, each.linked))
    )
    book.add("node", "router")
    for moment, each in ((1.0, (True, True, True)), (2.0, (True, False, True)), (3.0, (False, False, False))):
        now[0], state[0] = moment, each
        book.note()
    assert [(2.0, True), (3.0, False)] == parted
    assert Contact("node", "router", False, False, 3.0, False, 3.0) == book.pairs["node", "router"]

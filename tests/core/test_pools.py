"""Pools: exact capacity, whose address is it, the order they are tried in, and whom they serve."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange, Family
from lbcore.config import Pool, ServiceAllocation
from lbcore.errors import AddressError
from lbcore.model import LabelSelector, ServiceKey
from lbcore.pools import Catalog, candidates, capacity, is_buggy, permits
from lbcore.requests import Request
from lbcore.verdicts import Reason
from strategies import addresses, families, label_selectors, labels, pools, ranges

RED = ServiceKey("red", "web")


@given(st.lists(ranges(max_size=900), min_size=1, max_size=3), families, st.booleans())
def test_capacity_is_what_counting_gives(some: list[AddressRange], family: Family, avoid: bool) -> None:
    pool = Pool(name="p", ranges=tuple(some), avoid_buggy_ips=avoid)
    values = (Address(each.version, value) for each in some for value in range(each.first, each.last + 1))
    counted = sum(
        1 for a in values if a.family is family and not (avoid and a.version == 4 and a.value & 255 in (0, 255))
    )
    assert counted == capacity(pool, family)


@given(ranges(), st.booleans())
def test_capacity_is_never_negative_and_never_more_than_there_are(within: AddressRange, avoid: bool) -> None:
    pool = Pool(name="p", ranges=(within,), avoid_buggy_ips=avoid)
    assert 0 <= capacity(pool, within.family) <= within.size
    assert 0 == capacity(pool, within.family.other)


@pytest.mark.parametrize(
    ("text", "avoid", "expected"),
    [
        ("2001:db8::/64", True, 2**64),
        ("2001:db8::/120", True, 256),
        ("::/0", True, 2**128),
        ("0.0.0.0/0", False, 2**32),
        ("0.0.0.0/0", True, 2**32 - 2 * 2**24),
        ("10.0.0.0/32", True, 0),
        ("10.0.0.0/32", False, 1),
        ("10.0.0.255/32", True, 0),
        ("10.0.0.1/32", True, 1),
        ("255.255.255.255/32", True, 0),
        ("10.0.0.0/24", True, 254),
        ("10.0.0.255-10.0.1.0", True, 0),
        ("10.0.0.254-10.0.1.1", True, 2),
        ("192.168.144.0/20", True, 4096 - 32),
    ],
)
def test_capacity_is_exact_at_any_size(text: str, avoid: bool, expected: int) -> None:
    pool = Pool.parse("p", text, avoid_buggy_ips=avoid)
    assert expected == capacity(pool, AddressRange.parse(text).family)


def test_families_count_apart() -> None:
    pool = Pool.parse("p", "2001:db8::/127", "192.0.2.0/24", "198.51.100.8/29", avoid_buggy_ips=True)
    assert (2, 254 + 8) == (capacity(pool, Family.IPV6), capacity(pool, Family.IPV4))
    assert {Family.IPV4, Family.IPV6} == pool.families
    assert {Family.IPV6} == Pool.parse("p", "2001:db8::/127").families


def test_a_pool_without_addresses_is_refused() -> None:
    with pytest.raises(AddressError, match="at least one"):
        Pool.parse("empty")


@given(addresses())
def test_only_ipv4_addresses_at_the_end_of_a_24_are_buggy(address: Address) -> None:
    assert (str(address).endswith((".0", ".255")) and address.version == 4) == is_buggy(address)


@given(pools(), st.data())
def test_the_owner_is_the_pool_that_a_scan_finds(some: tuple[Pool, ...], data: st.DataObject) -> None:
    catalog = Catalog.of(reversed(some))
    each = data.draw(st.sampled_from([each for pool in some for each in pool.ranges]))
    for value in (each.first - 1, each.first, each.last, each.last + 1):
        for version in (each.version, 10 - each.version):
            address = Address(version, value)
            expected = next((pool for pool in some for r in pool.ranges if address in r), None)
            assert expected == catalog.owner(address)
            assert [address in pool for pool in some] == [pool == expected for pool in some]


def test_a_catalog_without_pools_owns_nothing() -> None:
    assert Catalog.of([]).owner(Address.parse("2001:db8::1")) is None
    assert Catalog.of([]).named("p") is None


@given(pools())
def test_pinned_pools_come_first_then_priorities_then_names(some: tuple[Pool, ...]) -> None:
    ordered = Catalog.of(reversed(some)).in_order
    assert sorted(pool.name for pool in some) == sorted(pool.name for pool in ordered)
    assert tuple(sorted(some, key=lambda pool: pool.name)) == Catalog.of(reversed(some)).pools
    for one, other in itertools.pairwise(ordered):
        if one.allocation is None or other.allocation is None:
            # A general pool is never followed by a pinned one; general ones go by name.
            assert other.allocation is None
            assert one.allocation is not None or one.name < other.name
            continue
        first, second = one.allocation.priority, other.allocation.priority
        assert first == second or (first != 0 and (second == 0 or first < second))
        assert first != second or one.name < other.name


def test_a_pinned_pool_without_a_priority_is_the_last_of_the_pinned() -> None:
    general, default = Pool.parse("a", "192.0.2.0/32"), pinned()
    named = {number: attrs.evolve(pinned(priority=number), name=f"n{number}") for number in (9, 1)}
    ordered = Catalog.of([general, default, *named.values()]).in_order
    assert ["n1", "n9", "p", "a"] == [pool.name for pool in ordered]


@given(pools(), st.sampled_from(["pool-a", "pool-b", "no-such", None]))
def test_a_named_pool_is_the_only_one_asked_and_need_not_be_automatic(some: tuple[Pool, ...], name: str | None) -> None:
    request = Request(key=RED, families=(Family.IPV6, Family.IPV4), all_families=False, pool=name)
    catalog = Catalog.of(some)
    asked = list(candidates(request, catalog))
    if name is not None:
        assert [pool for pool in some if pool.name == name] == [pool for pool, _ in asked]
        assert Reason.POOL_NOT_AUTOMATIC not in {verdict.reason for _, verdict in asked}
        assert [permits(pool, request, {}) for pool, _ in asked] == [verdict for _, verdict in asked]
        return
    assert catalog.in_order == tuple(pool for pool, _ in asked)
    assert [not pool.auto_assign for pool, _ in asked] == [v.reason is Reason.POOL_NOT_AUTOMATIC for _, v in asked]
    assert all(pool.name == verdict.pool for pool, verdict in asked)


def test_a_pool_that_is_not_automatic_says_how_to_ask_for_it() -> None:
    ((_, verdict),) = candidates(Request(key=RED), Catalog.of([Pool.parse("p", "192.0.2.0/24", auto_assign=False)]))
    assert "metallb.io/address-pool: p" in verdict.detail


def pinned(**terms: object) -> Pool:
    return Pool(
        name="p",
        ranges=(AddressRange.parse("2001:db8::/64"), AddressRange.parse("192.0.2.0/24")),
        allocation=ServiceAllocation(**terms),  # type: ignore[arg-type]
    )


GOLD = LabelSelector.of(tier="gold")


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (pinned(), Reason.OK),
        (pinned(namespaces=("red",)), Reason.OK),
        (pinned(namespaces=("blue",)), Reason.POOL_NOT_FOR_NAMESPACE),
        (pinned(namespaces=("blue", "red")), Reason.OK),
        (pinned(namespace_selectors=(GOLD,)), Reason.OK),
        (pinned(namespaces=("blue",), namespace_selectors=(GOLD,)), Reason.OK),
        (pinned(namespace_selectors=(LabelSelector.of(tier="tin"), GOLD)), Reason.OK),
        # In MetalLB a selector that matches nothing leaves the pool open to every explicit request.
        (pinned(namespace_selectors=(LabelSelector.of(tier="tin"),)), Reason.POOL_NOT_FOR_NAMESPACE),
        (pinned(service_selectors=(LabelSelector.of(team="a"),)), Reason.OK),
        (pinned(service_selectors=(GOLD,)), Reason.POOL_NOT_FOR_SERVICE),
        (pinned(service_selectors=(GOLD, LabelSelector())), Reason.OK),
        (pinned(namespaces=("red",), service_selectors=(GOLD,)), Reason.POOL_NOT_FOR_SERVICE),
        (pinned(namespaces=("blue",), service_selectors=(LabelSelector(),)), Reason.POOL_NOT_FOR_NAMESPACE),
    ],
)
def test_whom_a_pinned_pool_serves(pool: Pool, expected: Reason) -> None:
    request = Request(key=RED, families=(Family.IPV6,), labels={"team": "a"})  # type: ignore[arg-type]
    verdict = permits(pool, request, {"red": {"tier": "gold"}, "blue": {}})  # type: ignore[dict-item]
    assert (expected, "p") == (verdict.reason, verdict.pool)
    assert bool(verdict.detail) == (expected is not Reason.OK)


def test_a_namespace_that_is_not_known_matches_no_selector() -> None:
    everything = pinned(namespace_selectors=(LabelSelector(),))
    assert Reason.POOL_NOT_FOR_NAMESPACE is permits(everything, Request(key=RED), {}).reason
    assert Reason.OK is permits(everything, Request(key=RED), {"red": {}}).reason  # type: ignore[dict-item]


@given(label_selectors, label_selectors, labels, labels)
def test_a_pool_serves_iff_namespace_and_service_both_match(
    for_namespaces: LabelSelector, for_services: LabelSelector, of_namespace: dict[str, str], of_service: dict[str, str]
) -> None:
    pool = pinned(namespace_selectors=(for_namespaces,), service_selectors=(for_services,))
    request = Request(key=RED, labels=of_service)  # type: ignore[arg-type]
    verdict = permits(pool, request, {"red": of_namespace})  # type: ignore[dict-item]
    assert (for_namespaces.matches(of_namespace) and for_services.matches(of_service)) == (verdict.reason is Reason.OK)


def test_a_pool_without_any_family_wanted_says_which_it_lacks() -> None:
    six = Pool.parse("p", "2001:db8::/64")
    verdict = permits(six, Request(key=RED, families=(Family.IPV4,)), {})
    assert (Reason.POOL_LACKS_FAMILY, "the pool has no IPv4 addresses") == (verdict.reason, verdict.detail)
    assert Reason.OK is permits(six, Request(key=RED, families=(Family.IPV6,)), {}).reason

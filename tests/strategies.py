"""Hypothesis strategies for the vocabulary: small worlds on awkward places, shared by all tests.

Collisions are what makes rules fail, so every alphabet here is small, and addresses come from a few
short windows that lie across the borders where bitmaps, octets and families end.
"""

from __future__ import annotations

from itertools import combinations

from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange, Family
from lbcore.config import Pool, ServiceAllocation
from lbcore.model import (
    IPFamilyPolicy,
    LabelRequirement,
    LabelSelector,
    Operator,
    Port,
    Service,
    ServiceKey,
    TrafficPolicy,
)
from lbcore.sharing import Sharing

__all__ = [
    "AWKWARD_PLACES",
    "addresses",
    "awkward_values",
    "clumped_ranges",
    "families",
    "keys",
    "label_selectors",
    "labels",
    "pools",
    "ports",
    "ranges",
    "services",
    "sharings",
    "worlds_of_ranges",
]

BITS = {4: 32, 6: 128}

# Where a window of a few addresses crosses, or ends at, a border of the family's tree.
AWKWARD_PLACES = {
    4: (0, 0x0A0000F8, 0x0A00FFF0, 0x0AFFFFF0, 0x0A01FE00, 0xC0A81400, 0xFFFFFF00, 0xFFFFFFF0),
    6: (
        0,
        0xF8,
        0x20010DB8 << 96 | 0xFFF0,
        (0x20010DB8 << 96) - 16,
        1 << 127,
        (1 << 127) - 8,
        (1 << 128) - 256,
        (1 << 128) - 16,
    ),
}

versions = st.sampled_from([4, 6])
families = st.sampled_from(Family)
family_policies = st.sampled_from(IPFamilyPolicy)


@st.composite
def awkward_values(draw: st.DrawFn, version: int) -> int:
    """A number near a border, or anywhere."""
    if draw(st.booleans()):
        return draw(st.integers(0, (1 << BITS[version]) - 1))
    place = draw(st.sampled_from(AWKWARD_PLACES[version]))
    return min(place + draw(st.integers(0, 520)), (1 << BITS[version]) - 1)


@st.composite
def addresses(draw: st.DrawFn, version: int | None = None) -> Address:
    """Any address, often one near a border."""
    version = version or draw(versions)
    return Address(version, draw(awkward_values(version)))


@st.composite
def ranges(draw: st.DrawFn, version: int | None = None, max_size: int | None = None) -> AddressRange:
    """Any range of one family, at most `max_size` addresses long."""
    version = version or draw(versions)
    first = draw(awkward_values(version))
    last_possible = (1 << BITS[version]) - 1
    if max_size is None and draw(st.booleans()):
        last = draw(st.integers(first, last_possible))
    else:
        last = min(first + draw(st.integers(0, (max_size or 1024) - 1)), last_possible)
    return AddressRange(version, first, last)


@st.composite
def worlds_of_ranges(draw: st.DrawFn, max_ranges: int = 8, max_size: int = 6) -> tuple[AddressRange, ...]:
    """Short ranges of both families that do not overlap, in any order."""
    found: list[AddressRange] = []
    for each in draw(st.lists(clumped_ranges(max_size), min_size=1, max_size=max_ranges)):
        if not any(each.overlaps(other) for other in found):
            found.append(each)
    return tuple(found)


def clumped_ranges(max_size: int) -> st.SearchStrategy[AddressRange]:
    """Short ranges around the end of one /24, so that many of them collide."""
    return st.builds(
        lambda base, offset, size: AddressRange(base[0], base[1] + offset, base[1] + offset + size),
        st.sampled_from([(4, 0x0A0000F8), (6, 0x20010DB8 << 96 | 0xF8)]),
        st.integers(0, 24),
        st.integers(0, max_size - 1),
    )


# Drawn whole from all there are: a tenth of the time that building them piece by piece takes.
keys = st.sampled_from([ServiceKey(namespace, name) for namespace in ("red", "blue") for name in "abcdef"])
_ports = [Port(protocol, number) for protocol in ("TCP", "UDP") for number in (53, 80, 443)]
ports = st.sampled_from([found for size in range(4) for found in combinations(sorted(_ports), size)])
sharings = st.sampled_from([None, *(Sharing(key, backend) for key in "kl" for backend in ("", "app=web"))])
_words = (None, "gold", "tin")
labels = st.sampled_from(
    [
        {key: value for key, value in (("tier", tier), ("team", team)) if value is not None}
        for tier in _words
        for team in _words
    ]
)

requirements = st.builds(
    LabelRequirement,
    st.sampled_from(["tier", "team"]),
    st.sampled_from(Operator),
    st.lists(st.sampled_from(["gold", "tin"]), max_size=2, unique=True).map(tuple),
)
label_selectors = st.lists(requirements, max_size=2).map(lambda found: LabelSelector(tuple(found)))

allocations = st.builds(
    ServiceAllocation,
    priority=st.integers(0, 3),
    namespaces=st.lists(st.sampled_from(["red", "blue"]), max_size=1).map(tuple),
    namespace_selectors=st.lists(label_selectors, max_size=1).map(tuple),
    service_selectors=st.lists(label_selectors, max_size=1).map(tuple),
)


@st.composite
def pools(draw: st.DrawFn, max_pools: int = 4) -> tuple[Pool, ...]:
    """Pools that do not overlap: pinned or general, automatic or not, of one family or of both."""
    chopped = draw(worlds_of_ranges())
    names = [f"pool-{letter}" for letter in "abcd"[:max_pools]]
    owners = {each: draw(st.sampled_from(names)) for each in chopped}
    return tuple(
        Pool(
            name=name,
            ranges=tuple(each for each in chopped if owners[each] == name),
            auto_assign=draw(st.sampled_from([True, True, True, False])),
            avoid_buggy_ips=draw(st.booleans()),
            allocation=draw(st.sampled_from([st.none(), st.none(), allocations]).flatmap(lambda found: found)),
        )
        for name in names
        if name in owners.values()
    )


cluster_ips = st.sampled_from(
    [("10.96.0.1",), ("fd00::1",), ("10.96.0.1", "fd00::1"), ("fd00::1", "10.96.0.1"), ()],
)


@st.composite
def services(draw: st.DrawFn, key: ServiceKey | None = None) -> Service:
    """A Service of type LoadBalancer that could exist: what its policy says fits its cluster IPs."""
    given = draw(cluster_ips)
    policy = draw(family_policies)
    if len(given) == 1 and policy is IPFamilyPolicy.REQUIRE_DUAL_STACK:
        policy = IPFamilyPolicy.PREFER_DUAL_STACK
    if len(given) == 2 and policy is IPFamilyPolicy.SINGLE_STACK:
        policy = IPFamilyPolicy.REQUIRE_DUAL_STACK
    wishes: dict[str, str] = {}
    if draw(st.booleans()):
        wishes["metallb.io/allow-shared-ip"] = draw(st.sampled_from(["k", "l"]))
    if draw(st.integers(0, 4)) == 0:
        wishes["metallb.io/address-pool"] = draw(st.sampled_from(["pool-a", "pool-b", "no-such"]))
    return Service(
        key=key or draw(keys),
        labels=draw(labels),
        annotations=wishes,
        cluster_ips=given,
        ip_families=draw(st.lists(families, max_size=2, unique=True).map(tuple)) if not given else (),
        ip_family_policy=policy,
        external_traffic_policy=draw(st.sampled_from(TrafficPolicy)),
        selector=draw(labels),
        ports=draw(ports),
    )

"""Strategies for the smallest values: addresses, ranges, labels, ports, names.

Collisions are what makes rules fail, so every alphabet here is small, and addresses often come from a
few windows that lie across the borders where octets, bitmaps and families end.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import combinations

from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange, Family
from lbcore.model import LabelRequirement, LabelSelector, Operator, Port, ServiceKey

__all__ = [
    "AWKWARD_PLACES",
    "NAMESPACES",
    "addresses",
    "awkward_values",
    "clumped_ranges",
    "disjoint_ranges",
    "families",
    "label_requirements",
    "label_selectors",
    "labels",
    "ports",
    "ranges",
    "service_keys",
    "versions",
]

_BITS = {4: 32, 6: 128}

NAMESPACES = ("red", "blue")
"""The namespaces of everything that is drawn, unless others are asked for."""

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
"""By IP version, numbers from which a window of a few addresses crosses, or ends at, a border."""

versions = st.sampled_from([4, 6])
"""IP versions."""

families = st.sampled_from(Family)
"""IP families."""


@st.composite
def awkward_values(draw: st.DrawFn, version: int) -> int:
    """The number of an address of one IP version: near a border, or anywhere."""
    last = (1 << _BITS[version]) - 1
    if draw(st.booleans()):
        return draw(st.integers(0, last))
    place = draw(st.sampled_from(AWKWARD_PLACES[version]))
    return min(place + draw(st.integers(0, 520)), last)


@st.composite
def addresses(draw: st.DrawFn, version: int | None = None, within: Iterable[AddressRange] = ()) -> Address:
    """Any address, often one near a border; of one IP version, or of these ranges, where given."""
    given = [each for each in within if version in (None, each.version)]
    if given:
        chosen = draw(st.sampled_from(given))
        value = draw(st.sampled_from([chosen.first, chosen.last]) | st.integers(chosen.first, chosen.last))
        return Address(chosen.version, value)
    version = version or draw(versions)
    return Address(version, draw(awkward_values(version)))


@st.composite
def ranges(draw: st.DrawFn, version: int | None = None, max_size: int | None = None) -> AddressRange:
    """Any range of one family, at most `max_size` addresses long."""
    version = version or draw(versions)
    first = draw(awkward_values(version))
    last_possible = (1 << _BITS[version]) - 1
    if max_size is None and draw(st.booleans()):
        last = draw(st.integers(first, last_possible))
    else:
        last = min(first + draw(st.integers(0, (max_size or 1024) - 1)), last_possible)
    return AddressRange(version, first, last)


@cache
def clumped_ranges(max_size: int) -> st.SearchStrategy[AddressRange]:
    """Ranges of at most `max_size` addresses around the end of one /24, so that many of them collide."""
    return st.builds(
        lambda base, offset, size: AddressRange(base[0], base[1] + offset, base[1] + offset + size),
        st.sampled_from([(4, 0x0A0000F8), (6, 0x20010DB8 << 96 | 0xF8)]),
        st.integers(0, 24),
        st.integers(0, max_size - 1),
    )


@st.composite
def disjoint_ranges(draw: st.DrawFn, max_ranges: int = 8, max_size: int = 6) -> tuple[AddressRange, ...]:
    """Short ranges of both families that do not overlap, in any order; at least one."""
    found: list[AddressRange] = []
    for each in draw(st.lists(clumped_ranges(max_size), min_size=1, max_size=max_ranges)):
        if not any(each.overlaps(other) for other in found):
            found.append(each)
    return tuple(found)


# Drawn whole from all there are, from strategies that are made once: a tenth of the time that it takes
# to build them piece by piece.


def service_keys(
    namespaces: Iterable[str] = NAMESPACES, names: Iterable[str] = "abcdef"
) -> st.SearchStrategy[ServiceKey]:
    """The keys of Services: every name in every namespace."""
    given = [*names]
    return st.sampled_from([ServiceKey(namespace, name) for namespace in namespaces for name in given])


@cache
def ports(max_size: int = 3) -> st.SearchStrategy[tuple[Port, ...]]:
    """The ports of a Service: none to `max_size` of six, sorted."""
    known = sorted(Port(protocol, number) for protocol in ("TCP", "UDP") for number in (53, 80, 443))
    return st.sampled_from([found for size in range(max_size + 1) for found in combinations(known, size)])


_WORDS = (None, "gold", "tin")
_LABELS = [
    {key: value for key, value in (("tier", tier), ("team", team)) if value is not None}
    for tier in _WORDS
    for team in _WORDS
]


@cache
def labels() -> st.SearchStrategy[dict[str, str]]:
    """Labels `tier` and `team`, each `gold`, `tin` or absent."""
    return st.sampled_from(_LABELS)


@cache
def label_requirements() -> st.SearchStrategy[LabelRequirement]:
    """One line of a selector for such labels."""
    return st.builds(
        LabelRequirement,
        st.sampled_from(["tier", "team"]),
        st.sampled_from(Operator),
        st.lists(st.sampled_from(["gold", "tin"]), max_size=2, unique=True).map(tuple),
    )


@cache
def label_selectors() -> st.SearchStrategy[LabelSelector]:
    """A selector for such labels; one in a few matches everything, another nothing."""
    return st.lists(label_requirements(), max_size=2).map(lambda found: LabelSelector(tuple(found)))

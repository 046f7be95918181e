"""Which pools may serve a request, in which order, and how many addresses they have.

Sources: IPAddressPool `autoAssign`, `avoidBuggyIPs`, `serviceAllocation`. Where MetalLB tries
general pools in random order, these are tried by name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address, AddressRange, Family
from lbcore.config import Pool
from lbcore.model import Labels, matches_any
from lbcore.requests import Request
from lbcore.verdicts import PoolVerdict, Reason

__all__ = ["Catalog", "candidates", "capacity", "is_buggy", "permits"]

Namespaces = Mapping[str, Labels]


def _by_pool_name(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    return tuple(sorted(pools, key=lambda pool: pool.name))


@frozen
class Catalog:
    """All pools, ready to be asked: by name, by address (O(log n) in the number of ranges), in order.

    Pools must not overlap, as `lbcore.config.build` makes sure; `namespaces` are the labels that
    `namespaceSelectors` are matched against.
    """

    pools: tuple[Pool, ...] = field(converter=_by_pool_name)
    namespaces: Namespaces = field(factory=Map)
    _by_name: dict[str, Pool] = field(init=False, eq=False, repr=False)
    _placed: list[tuple[AddressRange, Pool]] = field(init=False, eq=False, repr=False)
    _starts: list[tuple[int, int]] = field(init=False, eq=False, repr=False)
    _order: tuple[Pool, ...] = field(init=False, eq=False, repr=False)

    @_by_name.default
    def _index_names(self) -> dict[str, Pool]:
        return {pool.name: pool for pool in self.pools}

    @_placed.default
    def _place(self) -> list[tuple[AddressRange, Pool]]:
        return sorted(((each, pool) for pool in self.pools for each in pool.ranges), key=lambda entry: entry[0])

    @_starts.default
    def _index_starts(self) -> list[tuple[int, int]]:
        return [(each.version, each.first) for each, _ in self._placed]

    @_order.default
    def _sort(self) -> tuple[Pool, ...]:
        """Pinned pools before general ones; lower priority numbers first, 0 last; then by name."""
        return tuple(sorted(self.pools, key=lambda pool: (pool.allocation is None, _priority(pool), pool.name)))

    @classmethod
    def of(cls, pools: Iterable[Pool], namespaces: Namespaces | None = None) -> Catalog:
        """A catalog of these pools."""
        return cls(tuple(pools), namespaces if namespaces is not None else Map())

    def named(self, name: str) -> Pool | None:
        """The pool of that name."""
        return self._by_name.get(name)

    def owner(self, address: Address) -> Pool | None:
        """The pool that an address lies in, avoided or not."""
        index = bisect_right(self._starts, (address.version, address.value)) - 1
        if index < 0 or address not in self._placed[index][0]:
            return None
        return self._placed[index][1]

    @property
    def in_order(self) -> tuple[Pool, ...]:
        """Every pool in the order in which automatic allocation tries them."""
        return self._order


def _priority(pool: Pool) -> float:
    priority = pool.allocation.priority if pool.allocation else 0
    return priority if priority != 0 else float("inf")


def candidates(request: Request, catalog: Catalog) -> Iterator[tuple[Pool, PoolVerdict]]:
    """Every pool with what it says to a request, lazily and in the order tried.

    With `request.pool` only that pool is asked, `autoAssign` or not. Otherwise all, pinned pools
    first: those with `Reason.OK` may serve it. Whether an address is free is not asked here.
    """
    if request.pool is not None:
        named = catalog.named(request.pool)
        if named is not None:
            yield named, permits(named, request, catalog.namespaces)
        return
    for pool in catalog.in_order:
        if pool.auto_assign:
            yield pool, permits(pool, request, catalog.namespaces)
        else:
            text = f"autoAssign is false; ask for it with the annotation metallb.io/address-pool: {pool.name}"
            yield pool, PoolVerdict(pool=pool.name, reason=Reason.POOL_NOT_AUTOMATIC, detail=text)


def permits(pool: Pool, request: Request, namespaces: Namespaces) -> PoolVerdict:
    """May this pool serve a Service at all: its namespace, its labels, at least one of its families?

    One family of two is enough: another pool may have the other.
    """
    allocation = pool.allocation
    namespace = request.key.namespace
    if allocation is not None and not _permits_namespace(pool, namespace, namespaces):
        text = f"the pool's serviceAllocation does not allow namespace {namespace!r}"
        return PoolVerdict(pool=pool.name, reason=Reason.POOL_NOT_FOR_NAMESPACE, detail=text)
    selectors = allocation.service_selectors if allocation else ()
    if selectors and not matches_any(selectors, request.labels):
        wanted = " or ".join(str(selector) for selector in selectors)
        text = f"the pool's serviceSelectors want labels {wanted}"
        return PoolVerdict(pool=pool.name, reason=Reason.POOL_NOT_FOR_SERVICE, detail=text)
    if pool.families.isdisjoint(request.families):
        text = f"the pool has no {' and no '.join(family.value for family in request.families)} addresses"
        return PoolVerdict(pool=pool.name, reason=Reason.POOL_LACKS_FAMILY, detail=text)
    return PoolVerdict(pool=pool.name, reason=Reason.OK)


def _permits_namespace(pool: Pool, namespace: str, namespaces: Namespaces) -> bool:
    """A selector that matches no namespace allows none; in MetalLB it allowed every explicit request."""
    allocation = pool.allocation
    if allocation is None or not (allocation.namespaces or allocation.namespace_selectors):
        return True
    labels = namespaces.get(namespace)
    return namespace in allocation.namespaces or (
        labels is not None and matches_any(allocation.namespace_selectors, labels)
    )


def is_buggy(address: Address) -> bool:
    """Whether some old equipment drops it: an IPv4 address that ends in .0 or .255."""
    return address.version == 4 and address.value & 255 in (0, 255)


def capacity(pool: Pool, family: Family) -> int:
    """How many addresses of a family a pool can give out, exact at any size."""
    ranges = [each for each in pool.ranges if each.family is family]
    total = sum(each.size for each in ranges)
    if not pool.avoid_buggy_ips or family is Family.IPV6:
        return total
    return total - sum(_buggy_up_to(each.last) - _buggy_up_to(each.first - 1) for each in ranges)


def _buggy_up_to(value: int) -> int:
    """How many of the IPv4 addresses from 0.0.0.0 to a number end in .0 or .255; none up to -1."""
    return (value >> 8) * 2 + (1 if value & 255 < 255 else 2)

"""The operator's wishes as values, one object of the cluster each: address pools and Layer 2 advertisements.

Whether they make sense together is asked in `lbcore.soundness`; `lbcore.config` joins them. Sources:
the CRDs `IPAddressPool` and `L2Advertisement` of `metallb.io`.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address, AddressRange, Family
from lbcore.errors import AddressError, Problem
from lbcore.model import Labels, LabelSelector, matches_any

__all__ = ["L2Advertisement", "Origin", "Pool", "PreferredNodes", "ServiceAllocation", "selects_pool"]


@frozen(kw_only=True, order=True)
class Origin:
    """Where a piece of configuration stands: the object, and the file (or API server) it is in."""

    kind: str
    namespace: str
    name: str
    source: str = field(default="", eq=False, order=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def problem(self, path: str, message: str) -> Problem:
        """A problem at a field of this object."""
        return Problem(source=self.source, object=str(self), field=path, message=message)


def _labels(value: Mapping[str, str]) -> Labels:
    return Map(value)


@frozen(kw_only=True)
class ServiceAllocation:
    """`IPAddressPool.spec.serviceAllocation`: whom a pool is for.

    `priority`: lower is tried first, 0 is last. Empty lists put no condition.
    """

    priority: int = 0
    namespaces: tuple[str, ...] = ()
    namespace_selectors: tuple[LabelSelector, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()


@frozen(kw_only=True)
class Pool:
    """An IPAddressPool: named ranges of addresses, in the order in which they are tried.

    `keep_for` is how many seconds an address stays reserved for a Service that was deleted, in case
    one of its name comes back (annotation `lbcore.io/keep-for`); 0 is not at all. `path` is where
    the pool's fields stand in its object.
    """

    name: str
    ranges: tuple[AddressRange, ...]
    auto_assign: bool = True
    avoid_buggy_ips: bool = False
    labels: Labels = field(factory=Map, converter=_labels)
    allocation: ServiceAllocation | None = None
    keep_for: float = 0.0
    origin: Origin | None = field(default=None, eq=False)
    path: str = field(default="spec", eq=False)

    @classmethod
    def parse(cls, name: str, *addresses: str, auto_assign: bool = True, avoid_buggy_ips: bool = False) -> Pool:
        """A pool from texts as in `spec.addresses`: CIDRs and `a-b` ranges.

        Raises `AddressError` for a text that is neither, or when there is none.
        """
        if not addresses:
            raise AddressError(f"pool {name!r} has no addresses; give at least one CIDR or range")
        ranges = tuple(AddressRange.parse(text) for text in addresses)
        return cls(name=name, ranges=ranges, auto_assign=auto_assign, avoid_buggy_ips=avoid_buggy_ips)

    @property
    def families(self) -> frozenset[Family]:
        """The families that this pool has addresses of."""
        return frozenset(each.family for each in self.ranges)

    def __contains__(self, address: Address) -> bool:
        return any(address in each for each in self.ranges)


@frozen(kw_only=True)
class PreferredNodes:
    """One of `L2Advertisement.spec.preferredNodeSelectors`: `weight` (1 to 100) for matching nodes."""

    weight: int
    preference: LabelSelector


@frozen(kw_only=True)
class L2Advertisement:
    """An L2Advertisement: which pools are announced on Layer 2, by which nodes, on which interfaces.

    Empty `pools` and `pool_selectors` together mean all pools; an empty list of any other
    selectors means all; empty `interfaces` means every usable interface.
    """

    name: str
    pools: tuple[str, ...] = ()
    pool_selectors: tuple[LabelSelector, ...] = ()
    node_selectors: tuple[LabelSelector, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()
    interfaces: tuple[str, ...] = ()
    preferred_nodes: tuple[PreferredNodes, ...] = ()
    origin: Origin | None = field(default=None, eq=False)
    path: str = field(default="spec", eq=False)

    def selects_pool(self, pool: Pool) -> bool:
        """Whether this advertisement announces addresses of that pool."""
        return selects_pool(self.pools, self.pool_selectors, pool)


def selects_pool(names: tuple[str, ...], selectors: tuple[LabelSelector, ...], pool: Pool) -> bool:
    """Whether an advertisement with these `ipAddressPools` and `ipAddressPoolSelectors` is for a pool: either
    may name it, and both empty name all. Names of pools that do not exist are passed over.
    """
    if not names and not selectors:
        return True
    return pool.name in names or matches_any(selectors, pool.labels)

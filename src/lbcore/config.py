"""The operator's wishes as values: pools, advertisements, and the one whole `Config`.

Documents come in one by one and possibly broken; `build` joins them into a configuration that is
sound as a whole, or says everything that is wrong with it. Sources: the CRDs of `metallb.io`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address, AddressRange, Family
from lbcore.errors import AddressError, Problem
from lbcore.model import Labels, LabelSelector

__all__ = [
    "Config",
    "ConfigDocument",
    "Configuration",
    "InvalidConfig",
    "L2Advertisement",
    "Origin",
    "Pool",
    "PreferredNodes",
    "Resource",
    "ServiceAllocation",
    "build",
]


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
    """An IPAddressPool: named ranges of addresses, in the order in which they are tried."""

    name: str
    ranges: tuple[AddressRange, ...]
    auto_assign: bool = True
    avoid_buggy_ips: bool = False
    labels: Labels = field(factory=Map, converter=_labels)
    allocation: ServiceAllocation | None = None
    origin: Origin | None = field(default=None, eq=False)

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

    def selects_pool(self, pool: Pool) -> bool:
        """Whether this advertisement announces addresses of that pool."""
        if not self.pools and not self.pool_selectors:
            return True
        return pool.name in self.pools or any(selector.matches(pool.labels) for selector in self.pool_selectors)


Resource = Pool | L2Advertisement


@frozen(kw_only=True)
class ConfigDocument:
    """One object that configures lbcore, decoded: its resources, or the problems that spoil it.

    An old ConfigMap holds many resources; an IPAddressPool is one.
    """

    origin: Origin
    resources: tuple[Resource, ...] = ()
    problems: tuple[Problem, ...] = ()


@frozen(kw_only=True)
class Config:
    """A configuration that is sound as a whole; pools and advertisements are sorted by name."""

    pools: tuple[Pool, ...] = ()
    l2_advertisements: tuple[L2Advertisement, ...] = ()


@frozen(kw_only=True)
class InvalidConfig:
    """Why documents do not make a configuration; the last good one stays in force."""

    problems: tuple[Problem, ...]


@frozen(kw_only=True)
class Configuration:
    """The documents as they stand, and the last sound configuration they made: the one in force.

    `current` is None until documents have made a sound one. `problems` is what is wrong with the
    documents now; as long as there are any, `current` stays what it was.
    """

    documents: Map[Origin, ConfigDocument] = field(factory=Map)
    current: Config | None = None
    problems: tuple[Problem, ...] = ()

    def seen(self, document: ConfigDocument) -> Configuration:
        """One document is there, or has changed. Nothing is in force before `settled`."""
        return evolve(self, documents=self.documents.set(document.origin, document))

    def gone(self, origin: Origin) -> Configuration:
        """One document was deleted."""
        if origin not in self.documents:
            return self
        return evolve(self, documents=self.documents.delete(origin))

    def settled(self) -> Configuration:
        """The documents joined: a new configuration in force, or the problems that keep the old one."""
        built = build(self.documents.values())
        if isinstance(built, InvalidConfig):
            return evolve(self, problems=built.problems)
        return evolve(self, current=built, problems=())


def build(documents: Iterable[ConfigDocument]) -> Config | InvalidConfig:
    """Join documents into one configuration, in an order that does not matter.

    Refused as a whole when any document is broken, when two pools or two advertisements have one
    name, or when one address lies in two ranges (MetalLB: poolsFor).
    """
    ordered = sorted(documents, key=lambda document: (document.origin, document.origin.source))
    problems = [problem for document in ordered for problem in document.problems]
    located = [(document.origin, resource) for document in ordered for resource in document.resources]
    pools = [(resource.origin or origin, resource) for origin, resource in located if isinstance(resource, Pool)]
    adverts = [
        (resource.origin or origin, resource) for origin, resource in located if isinstance(resource, L2Advertisement)
    ]
    problems += _repeated_names([(origin, pool.name) for origin, pool in pools], "pool")
    problems += _repeated_names([(origin, advert.name) for origin, advert in adverts], "L2Advertisement")
    problems += _overlaps(pools)
    if problems:
        return InvalidConfig(problems=tuple(problems))
    return Config(
        pools=tuple(sorted((pool for _, pool in pools), key=lambda pool: pool.name)),
        l2_advertisements=tuple(sorted((advert for _, advert in adverts), key=lambda advert: advert.name)),
    )


def _repeated_names(named: list[tuple[Origin, str]], what: str) -> list[Problem]:
    first: dict[str, Origin] = {}
    problems = []
    for origin, name in named:
        if name in first:
            where = f"{first[name]} in {first[name].source}" if first[name].source else str(first[name])
            problems.append(
                origin.problem("metadata.name", f"{what} {name!r} is defined twice (also by {where}); rename one")
            )
        first.setdefault(name, origin)
    return problems


def _overlaps(pools: list[tuple[Origin, Pool]]) -> list[Problem]:
    """Every range that shares an address with an earlier one, found in one pass over sorted ranges."""
    placed = sorted(
        (each, pool.name, index, origin) for origin, pool in pools for index, each in enumerate(pool.ranges)
    )
    problems = []
    widest: tuple[AddressRange, str, int, Origin] | None = None
    for entry in placed:
        each, name, index, origin = entry
        if widest is not None and widest[0].overlaps(each):
            other, other_name = widest[0], widest[1]
            whose = "this pool" if other_name == name else f"pool {other_name!r}"
            text = f"{each} overlaps {other} of {whose}; an address may lie in one range only, so take it out of one"
            problems.append(origin.problem(f"spec.addresses[{index}]", text))
        if widest is None or each.version != widest[0].version or each.last > widest[0].last:
            widest = entry
    return problems

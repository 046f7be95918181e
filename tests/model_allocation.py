"""A second opinion on allocation: plain dictionaries and exhaustive scans, sharing no code with lbcore.

An address is `(version, number)`. Nothing is indexed, nothing is lazy, nothing is clever: every
question walks over every address of every pool and over every holder. Only for tiny worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Held", "Outcome", "Wish", "World", "WorldPool", "allocate", "keep", "settle"]

Addr = tuple[int, int]
Terms = tuple[str, str] | None  # the sharing key and what keeps backends apart
Matcher = Callable[[dict[str, str]], bool]
Grant = dict[Addr, str]  # address -> pool


@dataclass
class WorldPool:
    """A pool, with its selectors as plain functions of labels."""

    name: str
    ranges: list[tuple[int, int, int]]  # version, first, last; in the order written
    automatic: bool = True
    avoids_edges: bool = False
    pinned: bool = False
    priority: int = 0
    namespaces: list[str] = field(default_factory=list)
    namespace_matchers: list[Matcher] = field(default_factory=list)
    service_matchers: list[Matcher] = field(default_factory=list)

    def usable(self, version: int) -> list[Addr]:
        """Every address of a family that it may give out, in the order it gives them."""
        values = [(v, n) for v, first, last in self.ranges if v == version for n in range(first, last + 1)]
        return [a for a in values if not (self.avoids_edges and a[0] == 4 and a[1] % 256 in (0, 255))]

    def serves(self, wish: Wish, namespaces: dict[str, dict[str, str]]) -> bool:
        """Whether the namespace and the labels of a Service are let in."""
        if not self.pinned:
            return True
        if self.namespaces or self.namespace_matchers:
            labels = namespaces.get(wish.namespace)
            listed = wish.namespace in self.namespaces
            matched = labels is not None and any(matcher(labels) for matcher in self.namespace_matchers)
            if not (listed or matched):
                return False
        return not self.service_matchers or any(matcher(wish.labels) for matcher in self.service_matchers)


@dataclass
class Wish:
    """What a Service asks for; `insists` means all families or nothing."""

    name: str
    namespace: str
    families: list[int]
    insists: bool
    addresses: list[Addr] = field(default_factory=list)
    pool: str | None = None
    ports: set[tuple[str, int]] = field(default_factory=set)
    terms: Terms = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass
class Held:
    """What one Service holds."""

    addresses: list[Addr]
    ports: set[tuple[str, int]]
    terms: Terms


@dataclass
class World:
    """Pools, namespaces and holders."""

    pools: list[WorldPool]
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    def owner(self, address: Addr) -> WorldPool | None:
        """The pool whose ranges hold an address."""
        for pool in self.pools:
            if any(v == address[0] and first <= address[1] <= last for v, first, last in pool.ranges):
                return pool
        return None

    def is_open(self, address: Addr, wish: Wish) -> bool:
        """Whether the others on this address, if any, would share it."""
        for identity, other in self.held.items():
            if identity == wish.identity or address not in other.addresses:
                continue
            if wish.terms is None or other.terms != wish.terms or other.ports & wish.ports:
                return False
        return True

    def grantable(self, address: Addr, wish: Wish) -> bool:
        """Whether this very address may be had, wherever it lies."""
        pool = self.owner(address)
        return (
            pool is not None
            and address in pool.usable(address[0])
            and pool.serves(wish, self.namespaces)
            and self.is_open(address, wish)
        )

    def asked(self, wish: Wish) -> list[WorldPool]:
        """The pools that are tried, in order."""
        if wish.pool is not None:
            return [p for p in self.pools if p.name == wish.pool and p.serves(wish, self.namespaces)]
        last = max((p.priority for p in self.pools), default=0) + 1
        order = sorted(self.pools, key=lambda p: (not p.pinned, (p.priority or last) if p.pinned else 0, p.name))
        return [p for p in order if p.automatic and p.serves(wish, self.namespaces)]


def _offers(world: World, wish: Wish, pool: WorldPool) -> dict[int, Addr]:
    found = {}
    for version in wish.families:
        fitting = [address for address in pool.usable(version) if world.is_open(address, wish)]
        if fitting:
            found[version] = fitting[0]
    return found


def _from_one_pool(world: World, wish: Wish, pools: Sequence[WorldPool]) -> Grant | None:
    for pool in pools:
        offers = _offers(world, wish, pool)
        if len(offers) == len(wish.families):
            return dict.fromkeys(offers.values(), pool.name)
    return None


def _from_any(world: World, wish: Wish, pools: Sequence[WorldPool]) -> dict[int, tuple[Addr, str]]:
    found: dict[int, tuple[Addr, str]] = {}
    for version in wish.families:
        for pool in pools:
            offers = _offers(world, wish, pool)
            if version in offers:
                found[version] = (offers[version], pool.name)
                break
    return found


def allocate(world: World, wish: Wish) -> Grant | None:
    """What a Service without any address gets, or None."""
    if wish.addresses:
        pools = {address: world.owner(address) for address in wish.addresses}
        if not all(world.grantable(address, wish) for address in wish.addresses):
            return None
        if wish.pool is not None and any(pool is None or pool.name != wish.pool for pool in pools.values()):
            return None
        return {address: pool.name for address, pool in pools.items() if pool is not None}
    pools_asked = world.asked(wish)
    if wish.insists or len(wish.families) == 1:
        one = _from_one_pool(world, wish, pools_asked)
        if one is not None:
            return one
        found = _from_any(world, wish, pools_asked)
        return dict(found.values()) if len(found) == len(wish.families) else None
    # Two families, one of which will do: what pinned pools have comes first, and general pools add the rest.
    pinned = [pool for pool in pools_asked if pool.pinned]
    general = [pool for pool in pools_asked if not pool.pinned]
    one = _from_one_pool(world, wish, pinned)
    if one is not None:
        return one
    found = _from_any(world, wish, pinned)
    if not found:
        one = _from_one_pool(world, wish, general)
        if one is not None:
            return one
    found = {**_from_any(world, wish, general), **found}
    if len(found) == len(wish.families):
        return dict(found.values())
    for version in wish.families:
        if version in found:
            return dict([found[version]])
    return None


def keep(world: World, wish: Wish, held: Sequence[Addr]) -> Grant:
    """The lowest permitted address of each family wanted, of those held."""
    kept: Grant = {}
    for version in wish.families:
        fitting = sorted(address for address in held if address[0] == version and world.grantable(address, wish))
        for address in fitting[:1]:
            owner = world.owner(address)
            assert owner is not None
            kept[address] = owner.name
    return kept


@dataclass
class Outcome:
    """What it has in the end, and whether something it asked for was refused."""

    grant: Grant
    refused: bool


def settle(world: World, wish: Wish, held: Sequence[Addr]) -> Outcome:
    """What a Service that holds something should have now."""
    kept = keep(world, wish, held)
    good = {address: pool for address, pool in kept.items() if wish.pool in (None, pool)}
    if wish.addresses and set(good) != set(wish.addresses):
        good = {}
    if good:
        have = {address[0] for address in good}
        missing = [version for version in wish.families if version not in have]
        if missing:
            good |= _addition(world, wish, missing, pool=next(good[address] for address in sorted(good)))
        if not wish.insists or len(good) == len(wish.families):
            return Outcome(good, refused=False)
    granted = allocate(world, wish)
    if granted is not None:
        return Outcome(granted, refused=False)
    return Outcome(kept, refused=True)


def _addition(world: World, wish: Wish, missing: list[int], pool: str) -> Grant:
    """An address of the missing family: from the pool it is in, or from any that is automatic."""

    def ask(name: str | None) -> Grant | None:
        more = Wish(
            name=wish.name,
            namespace=wish.namespace,
            families=missing,
            insists=True,
            pool=name,
            ports=wish.ports,
            terms=wish.terms,
            labels=wish.labels,
        )
        return allocate(world, more)

    if wish.pool is not None:
        return ask(wish.pool) or {}
    return ask(pool) or ask(None) or {}

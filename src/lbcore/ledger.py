"""Who holds which address: one immutable value, every operation O(log n) in the number of holders.

It knows addresses and holders, no pools and no rules about who may have what; `claim` refuses only
what would make it contradict itself. Keeping the old ledger costs nothing: the new one shares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address, AddressRange, Family
from lbcore.model import Port, ServiceKey
from lbcore.occupancy import CountingSet, Occupancy, first_joinable
from lbcore.sharing import Sharing
from lbcore.worklist import Fifo

__all__ = ["Claim", "Conflict", "Ledger", "Usage"]


def _distinct(ports: Iterable[Port]) -> tuple[Port, ...]:
    return tuple(dict.fromkeys(ports))


@frozen(kw_only=True)
class Claim:
    """What one Service holds: addresses (sorted), the pool of each, and on which terms it shares.

    `kept`: the Service was deleted, and the addresses are reserved for one of its name.
    """

    key: ServiceKey
    addresses: tuple[Address, ...]
    pools: tuple[str, ...]
    ports: tuple[Port, ...] = field(default=(), converter=_distinct)
    sharing: Sharing | None = None
    kept: bool = False


@frozen(kw_only=True)
class Conflict:
    """Why an address cannot be claimed: who is in the way, and the port both want if that is all.

    `kept`: who is in the way was deleted, and the address is reserved for one of its name.
    """

    address: Address
    holder: ServiceKey
    port: Port | None = None
    kept: bool = False


@frozen
class Usage:
    """Distinct addresses of one pool in use, by family."""

    ipv4: int = 0
    ipv6: int = 0

    def plus(self, version: int, by: int) -> Usage:
        """One family's count changed."""
        return Usage(self.ipv4 + by, self.ipv6) if version == 4 else Usage(self.ipv4, self.ipv6 + by)


@frozen(kw_only=True)
class _Sharers:
    """Two or more Services on one address, in the order they came, and who has which port.

    `pool` is the one that counts the address; all sharers have the same terms.
    """

    sharing: Sharing
    pool: str
    keys: Fifo[ServiceKey]
    ports: Map[Port, ServiceKey]


@frozen(kw_only=True)
class _Group:
    """All addresses held on the same terms in one family, and those on which each port is used."""

    members: CountingSet
    by_port: Map[Port, CountingSet] = field(factory=Map)


@frozen
class _Shelf:
    """The part of the ledger for one family. One Service alone on an address is its bare key: its claim says the rest,
    and most Services that may share never do.
    """

    bits: int
    taken: Occupancy
    holders: Map[int, ServiceKey | _Sharers] = field(factory=Map)
    groups: Map[Sharing, _Group] = field(factory=Map)

    @classmethod
    def empty(cls, bits: int) -> _Shelf:
        return cls(bits, Occupancy(bits))


_Kept = Map[tuple[str, int], Fifo[tuple[Address, ServiceKey]]]  # by pool and IP version, those kept longest first


@frozen
class Ledger:
    """Who holds what. `Ledger()` is empty; `claim` and `release` return a new one."""

    _claims: Map[ServiceKey, Claim] = field(factory=Map)
    _v4: _Shelf = field(factory=lambda: _Shelf.empty(32))
    _v6: _Shelf = field(factory=lambda: _Shelf.empty(128))
    _usage: Map[str, Usage] = field(factory=Map)
    _kept: _Kept = field(factory=Map)

    def __len__(self) -> int:
        return len(self._claims)

    def __iter__(self) -> Iterator[Claim]:
        """Every claim, in no order that means anything."""
        return iter(self._claims.values())

    def of(self, key: ServiceKey) -> Claim | None:
        """What a Service holds."""
        return self._claims.get(key)

    def holders(self, address: Address) -> tuple[ServiceKey, ...]:
        """The Services on an address, sorted."""
        holder = self._shelf(address.version).holders.get(address.value)
        if isinstance(holder, _Sharers):
            return tuple(sorted(holder.keys))
        return (holder,) if holder is not None else ()

    def usage(self, pool: str) -> Usage:
        """How many distinct addresses of a pool are in use."""
        return self._usage.get(pool, Usage())

    def conflict(
        self, address: Address, key: ServiceKey, *, ports: tuple[Port, ...] = (), sharing: Sharing | None = None
    ) -> Conflict | None:
        """What keeps a Service from an address, or None. Its own hold on it is no conflict.

        Of several holders in the way it names the one that came first.
        """
        holder = self._shelf(address.version).holders.get(address.value)
        if holder is None or holder == key:
            return None
        if not isinstance(holder, _Sharers):
            return self._conflict_with_one(self._claims[holder], address, ports, sharing)
        if sharing != holder.sharing:
            return self._conflict(address, next(other for other in holder.keys if other != key))
        for port in ports:
            user = holder.ports.get(port)
            if user is not None and user != key:
                return self._conflict(address, user, port)
        return None

    def _conflict(self, address: Address, holder: ServiceKey, port: Port | None = None) -> Conflict:
        return Conflict(address=address, holder=holder, port=port, kept=self._claims[holder].kept)

    def _conflict_with_one(
        self, other: Claim, address: Address, ports: tuple[Port, ...], sharing: Sharing | None
    ) -> Conflict | None:
        if sharing is None or sharing != other.sharing:
            return self._conflict(address, other.key)
        theirs = frozenset(other.ports)
        port = next((port for port in ports if port in theirs), None)
        return None if port is None else self._conflict(address, other.key, port)

    def first_kept(self, pool: str, family: Family) -> tuple[Address, ServiceKey] | None:
        """The address of a pool that is kept the longest for a deleted Service, and for which; None if none is."""
        kept = self._kept.get((pool, family.version))
        return kept.first() if kept is not None else None

    def first_free(self, within: AddressRange, *, avoid_buggy: bool = False) -> Address | None:
        """The lowest address of a range that nobody holds, or None."""
        found = self._shelf(within.version).taken.first_free(within.first, within.last, avoid_edges=avoid_buggy)
        return None if found is None else Address(within.version, found)

    def first_joinable(
        self, within: AddressRange, sharing: Sharing, ports: tuple[Port, ...], *, avoid_buggy: bool = False
    ) -> Address | None:
        """The lowest address of a range that is held on these terms with all these ports still free, or None."""
        group = self._shelf(within.version).groups.get(sharing)
        if group is None:
            return None
        used = tuple(group.by_port[port] for port in ports if port in group.by_port)
        found = first_joinable(group.members, used, within.first, within.last, avoid_edges=avoid_buggy)
        return None if found is None else Address(within.version, found)

    def claim(self, claim: Claim) -> Ledger:
        """The ledger in which a Service holds exactly this, and nothing it held before.

        Raises `ValueError` when that contradicts another claim: ask `conflict` first.
        """
        if self._claims.get(claim.key) == claim:
            return self
        for address in claim.addresses:
            conflict = self.conflict(address, claim.key, ports=claim.ports, sharing=claim.sharing)
            if conflict is not None:
                raise ValueError(f"{claim.key} cannot claim {address}: {conflict.holder} holds it")
        ledger = self.release(claim.key)
        for address, pool in zip(claim.addresses, claim.pools, strict=True):
            ledger = ledger._take(claim, address, pool)
        kept = _entered(ledger._kept, claim) if claim.kept else ledger._kept
        return evolve(ledger, claims=ledger._claims.set(claim.key, claim), kept=kept)

    def release(self, key: ServiceKey) -> Ledger:
        """The ledger in which a Service holds nothing."""
        claim = self._claims.get(key)
        if claim is None:
            return self
        ledger = self
        for address, pool in zip(claim.addresses, claim.pools, strict=True):
            ledger = ledger._let_go(claim, address, pool)
        kept = _left(ledger._kept, claim) if claim.kept else ledger._kept
        return evolve(ledger, claims=ledger._claims.delete(key), kept=kept)

    def _shelf(self, version: int) -> _Shelf:
        return self._v4 if version == 4 else self._v6

    def _with(self, version: int, shelf: _Shelf, *, counted: str | None = None, uncounted: str | None = None) -> Ledger:
        """The same ledger with another shelf, and an address counted for one pool or no longer for another."""
        usage = self._usage
        if counted != uncounted:
            usage = _counted(_counted(usage, uncounted, version, -1), counted, version, 1)
        if version == 4:
            return Ledger(self._claims, shelf, self._v6, usage, self._kept)
        return Ledger(self._claims, self._v4, shelf, usage, self._kept)

    def _take(self, claim: Claim, address: Address, pool: str) -> Ledger:
        version, value = address.version, address.value
        shelf = self._shelf(version)
        groups = shelf.groups if claim.sharing is None else _join_group(shelf, claim.sharing, claim.ports, value)
        before = shelf.holders.get(value)
        if before is None:
            holders = shelf.holders.set(value, claim.key)
            return self._with(version, _Shelf(shelf.bits, shelf.taken.add(value), holders, groups), counted=pool)
        sharers = before if isinstance(before, _Sharers) else _as_sharers(self._claims[before], address)
        # A sharer that knows the address by another pool's name (a rename) moves the count.
        after = _Sharers(
            sharing=sharers.sharing,
            pool=pool,
            keys=sharers.keys.push(claim.key),
            ports=sharers.ports.update(dict.fromkeys(claim.ports, claim.key)),
        )
        shelf = _Shelf(shelf.bits, shelf.taken, shelf.holders.set(value, after), groups)
        return self._with(version, shelf, counted=pool, uncounted=sharers.pool)

    def _let_go(self, claim: Claim, address: Address, pool: str) -> Ledger:
        version, value = address.version, address.value
        shelf = self._shelf(version)
        holder = shelf.holders[value]
        alone = not isinstance(holder, _Sharers)
        groups = shelf.groups
        if claim.sharing is not None:
            groups = _leave_group(shelf, claim.sharing, claim.ports, value, last=alone)
        if not isinstance(holder, _Sharers):
            shelf = _Shelf(shelf.bits, shelf.taken.discard(value), shelf.holders.delete(value), groups)
            return self._with(version, shelf, uncounted=pool)
        keys = holder.keys.remove(claim.key)
        if len(keys) == 1:
            last = self._claims[next(iter(keys))]
            shelf = _Shelf(shelf.bits, shelf.taken, shelf.holders.set(value, last.key), groups)
            return self._with(version, shelf, counted=_pool_of(last, address), uncounted=holder.pool)
        with holder.ports.mutate() as mutation:
            for port in claim.ports:
                del mutation[port]
            ports = mutation.finish()
        after = _Sharers(sharing=holder.sharing, pool=holder.pool, keys=keys, ports=ports)
        return self._with(version, _Shelf(shelf.bits, shelf.taken, shelf.holders.set(value, after), groups))


def _counted(usage: Map[str, Usage], pool: str | None, version: int, by: int) -> Map[str, Usage]:
    if pool is None:
        return usage
    count = usage.get(pool, Usage()).plus(version, by)
    return usage.set(pool, count) if count.ipv4 or count.ipv6 else usage.delete(pool)


def _entered(kept: _Kept, claim: Claim) -> _Kept:
    for address, pool in zip(claim.addresses, claim.pools, strict=True):
        line = kept.get((pool, address.version)) or Fifo[tuple[Address, ServiceKey]]()
        kept = kept.set((pool, address.version), line.push((address, claim.key)))
    return kept


def _left(kept: _Kept, claim: Claim) -> _Kept:
    for address, pool in zip(claim.addresses, claim.pools, strict=True):
        line = kept[pool, address.version].remove((address, claim.key))
        kept = kept.set((pool, address.version), line) if line else kept.delete((pool, address.version))
    return kept


def _pool_of(claim: Claim, address: Address) -> str:
    return claim.pools[claim.addresses.index(address)]


def _as_sharers(claim: Claim, address: Address) -> _Sharers:
    assert claim.sharing is not None
    return _Sharers(
        sharing=claim.sharing,
        pool=_pool_of(claim, address),
        keys=Fifo[ServiceKey]().push(claim.key),
        ports=Map(dict.fromkeys(claim.ports, claim.key)),
    )


def _join_group(shelf: _Shelf, sharing: Sharing, ports: tuple[Port, ...], value: int) -> Map[Sharing, _Group]:
    group = shelf.groups.get(sharing) or _Group(members=CountingSet(shelf.bits))
    by_port = group.by_port
    for port in ports:
        by_port = by_port.set(port, by_port.get(port, CountingSet(shelf.bits)).add(value))
    return shelf.groups.set(sharing, _Group(members=group.members.add(value), by_port=by_port))


def _leave_group(
    shelf: _Shelf, sharing: Sharing, ports: tuple[Port, ...], value: int, *, last: bool
) -> Map[Sharing, _Group]:
    group = shelf.groups[sharing]
    by_port = group.by_port
    for port in ports:
        used = by_port[port].discard(value)
        by_port = by_port.set(port, used) if used else by_port.delete(port)
    members = group.members.discard(value) if last else group.members
    if not members:
        return shelf.groups.delete(sharing)
    return shelf.groups.set(sharing, _Group(members=members, by_port=by_port))

"""Who holds which address: one immutable value, every operation O(log n) in the number of holders.

It knows addresses and holders, no pools and no rules about who may have what; `claim` refuses only
what would make it contradict itself. Keeping the old ledger costs nothing: the new one shares it.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address, AddressRange
from lbcore.model import Port, ServiceKey
from lbcore.occupancy import CountingSet, Occupancy, first_joinable
from lbcore.sharing import Sharing

__all__ = ["Claim", "Conflict", "Ledger", "Usage"]


@frozen(kw_only=True)
class Claim:
    """What one Service holds: addresses (sorted), the pool of each, and on which terms it shares."""

    key: ServiceKey
    addresses: tuple[Address, ...]
    pools: tuple[str, ...]
    ports: tuple[Port, ...] = ()
    sharing: Sharing | None = None


@frozen(kw_only=True)
class Conflict:
    """Why an address cannot be claimed: who is in the way, and the port both want if that is all."""

    address: Address
    holder: ServiceKey
    port: Port | None = None


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
    """The Services on an address that is shared, or may be: who they are, and who has which port."""

    sharing: Sharing
    pool: str
    keys: Map[ServiceKey, None] = field(factory=Map)
    ports: Map[Port, ServiceKey] = field(factory=Map)


@frozen(kw_only=True)
class _Group:
    """All addresses held on the same terms in one family, and those on which each port is used."""

    members: CountingSet
    by_port: Map[Port, CountingSet] = field(factory=Map)


@frozen
class _Shelf:
    """The part of the ledger for one family. A holder that does not share is its bare key."""

    bits: int
    taken: Occupancy
    holders: Map[int, ServiceKey | _Sharers] = field(factory=Map)
    groups: Map[Sharing, _Group] = field(factory=Map)

    @classmethod
    def empty(cls, bits: int) -> _Shelf:
        return cls(bits, Occupancy(bits))


@frozen
class Ledger:
    """Who holds what. `Ledger()` is empty; `claim` and `release` return a new one."""

    _claims: Map[ServiceKey, Claim] = field(factory=Map)
    _v4: _Shelf = field(factory=lambda: _Shelf.empty(32))
    _v6: _Shelf = field(factory=lambda: _Shelf.empty(128))
    _usage: Map[str, Usage] = field(factory=Map)

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
        """What keeps a Service from an address, or None. Its own hold on it is no conflict."""
        holder = self._shelf(address.version).holders.get(address.value)
        if holder is None or holder == key:
            return None
        if not isinstance(holder, _Sharers):
            return Conflict(address=address, holder=holder)
        if len(holder.keys) == 1 and key in holder.keys:
            return None
        if sharing != holder.sharing:
            return Conflict(address=address, holder=min(other for other in _some(holder.keys) if other != key))
        for port in ports:
            user = holder.ports.get(port)
            if user is not None and user != key:
                return Conflict(address=address, holder=user, port=port)
        return None

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
        return evolve(ledger, claims=ledger._claims.set(claim.key, claim))

    def release(self, key: ServiceKey) -> Ledger:
        """The ledger in which a Service holds nothing."""
        claim = self._claims.get(key)
        if claim is None:
            return self
        ledger = self
        for address, pool in zip(claim.addresses, claim.pools, strict=True):
            ledger = ledger._let_go(claim, address, pool)
        return evolve(ledger, claims=ledger._claims.delete(key))

    def _shelf(self, version: int) -> _Shelf:
        return self._v4 if version == 4 else self._v6

    def _with(self, version: int, shelf: _Shelf, pool: str, by: int) -> Ledger:
        """The same ledger with another shelf, and a pool's count changed."""
        usage = self._usage
        if by:
            counted = usage.get(pool, Usage()).plus(version, by)
            usage = usage.set(pool, counted) if counted != Usage() else usage.delete(pool)
        if version == 4:
            return Ledger(self._claims, shelf, self._v6, usage)
        return Ledger(self._claims, self._v4, shelf, usage)

    def _take(self, claim: Claim, address: Address, pool: str) -> Ledger:
        shelf, value = self._shelf(address.version), address.value
        if claim.sharing is None:
            holders = shelf.holders.set(value, claim.key)
            return self._with(address.version, evolve(shelf, taken=shelf.taken.add(value), holders=holders), pool, 1)
        before = shelf.holders.get(value)
        sharers = before if isinstance(before, _Sharers) else _Sharers(sharing=claim.sharing, pool=pool)
        ports = sharers.ports.update(dict.fromkeys(claim.ports, claim.key))
        after = evolve(sharers, pool=pool, keys=sharers.keys.set(claim.key, None), ports=ports)
        shelf = _join_group(shelf, claim, value)
        shelf = evolve(shelf, taken=shelf.taken.add(value), holders=shelf.holders.set(value, after))
        if before is None:
            return self._with(address.version, shelf, pool, 1)
        # A sharer that knows the address by another pool's name (a rename) moves the count.
        moved = self._with(address.version, shelf, sharers.pool, -1)
        return moved._with(address.version, shelf, pool, 1)

    def _let_go(self, claim: Claim, address: Address, pool: str) -> Ledger:
        shelf, value = self._shelf(address.version), address.value
        holder = shelf.holders[value]
        if not isinstance(holder, _Sharers):
            shelf = evolve(shelf, taken=shelf.taken.discard(value), holders=shelf.holders.delete(value))
            return self._with(address.version, shelf, pool, -1)
        ports = holder.ports
        with ports.mutate() as mutation:
            for port in claim.ports:
                del mutation[port]
            ports = mutation.finish()
        keys = holder.keys.delete(claim.key)
        shelf = _leave_group(shelf, claim, value, last=not keys)
        if keys:
            holders = shelf.holders.set(value, evolve(holder, keys=keys, ports=ports))
            return self._with(address.version, evolve(shelf, holders=holders), pool, 0)
        shelf = evolve(shelf, taken=shelf.taken.discard(value), holders=shelf.holders.delete(value))
        return self._with(address.version, shelf, holder.pool, -1)


def _some(keys: Map[ServiceKey, None]) -> Iterator[ServiceKey]:
    """Up to 8 of an address's holders: enough to name one, however many there are."""
    return (key for key, _ in zip(keys, range(8), strict=False))


def _join_group(shelf: _Shelf, claim: Claim, value: int) -> _Shelf:
    assert claim.sharing is not None
    group = shelf.groups.get(claim.sharing) or _Group(members=CountingSet(shelf.bits))
    by_port = group.by_port
    for port in claim.ports:
        by_port = by_port.set(port, by_port.get(port, CountingSet(shelf.bits)).add(value))
    group = _Group(members=group.members.add(value), by_port=by_port)
    return evolve(shelf, groups=shelf.groups.set(claim.sharing, group))


def _leave_group(shelf: _Shelf, claim: Claim, value: int, *, last: bool) -> _Shelf:
    assert claim.sharing is not None
    group = shelf.groups[claim.sharing]
    by_port = group.by_port
    for port in claim.ports:
        used = by_port[port].discard(value)
        by_port = by_port.set(port, used) if used else by_port.delete(port)
    members = group.members.discard(value) if last else group.members
    if not members:
        return evolve(shelf, groups=shelf.groups.delete(claim.sharing))
    return evolve(shelf, groups=shelf.groups.set(claim.sharing, _Group(members=members, by_port=by_port)))

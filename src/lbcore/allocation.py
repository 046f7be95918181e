"""Which addresses does a Service get? Pure questions over pools and a ledger.

`allocate` answers for a Service that has none; `settle` for one that may hold some already, and
never lets a working address go before a better one is granted. Both stop at the first yes;
`verdicts` reads the same decision to the end, for `explain`.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, field, frozen

from lbcore.addresses import Address, Family
from lbcore.config import Pool
from lbcore.ledger import Claim, Conflict, Ledger
from lbcore.model import ServiceKey
from lbcore.pools import Catalog, candidates, is_buggy, permits
from lbcore.requests import Request
from lbcore.verdicts import PoolVerdict, Reason, Refusal

__all__ = ["Allocation", "Outcome", "allocate", "judge_held", "settle", "verdicts"]


@frozen(kw_only=True)
class Allocation:
    """Addresses granted to a Service, IPv4 before IPv6, and the pool that each comes from."""

    key: ServiceKey
    addresses: tuple[Address, ...]
    pools: tuple[str, ...]

    def claim(self, request: Request) -> Claim:
        """What to enter into the ledger when this is accepted."""
        return Claim(
            key=self.key,
            addresses=self.addresses,
            pools=self.pools,
            ports=request.ports,
            sharing=request.sharing,
        )


@frozen(kw_only=True)
class Outcome:
    """What a Service ends up with: addresses, or a refusal, or both when it keeps what it has
    because what it asks for cannot be granted now.
    """

    allocation: Allocation | None = None
    refusal: Refusal | None = field(default=None)


def allocate(request: Request, catalog: Catalog, ledger: Ledger) -> Allocation | Refusal:
    """Addresses for a request, or why not and what would help.

    Exactly the addresses asked for, if any; else the first pool in order that can give every family
    wanted; else one address of each family from two pools; else, if the request does not insist on
    both families, one address. Within a pool: ranges as written, addresses ascending, the lowest
    that is free or may be shared. Costs O(log n) in the holders for each pool asked.
    """
    if request.addresses:
        return _grant_exactly(request, catalog, ledger)
    if request.pool is not None and catalog.named(request.pool) is None:
        known = [pool.name for pool in catalog.pools[:10]] + (["..."] if len(catalog.pools) > 10 else [])
        # An annotation may be a quarter of a megabyte long; this is read in a log, a condition and an Event.
        text = f"there is no pool {request.pool[:80]!r}; pools: {', '.join(known) or 'none'}"
        return Refusal(key=request.key, reason=Reason.POOL_NOT_FOUND, detail=text)
    if not catalog.pools:
        text = "no address pool is configured; create an IPAddressPool"
        return Refusal(key=request.key, reason=Reason.NO_POOLS, detail=text)
    return _grant_any(request, catalog, ledger)


@frozen(kw_only=True)
class _Answer:
    """What one pool says, and the addresses it would give, by family."""

    pool: Pool
    verdict: PoolVerdict
    offers: dict[Family, Address] = field(factory=dict)


def _answers(request: Request, catalog: Catalog, ledger: Ledger) -> Iterator[_Answer]:
    """Each pool's answer to a request for any address, lazily: who needs one yes stops there."""
    for pool, verdict in candidates(request, catalog):
        if verdict.reason is not Reason.OK:
            yield _Answer(pool=pool, verdict=verdict)
            continue
        offers = {}
        for family in request.families:
            address = _offer(request, pool, family, ledger)
            if address is not None:
                offers[family] = address
        missing = [family for family in request.families if family not in offers]
        answer = _exhausted(request, pool, missing, offers, ledger) if missing else verdict
        yield _Answer(pool=pool, verdict=answer, offers=offers)


def _grant_any(request: Request, catalog: Catalog, ledger: Ledger) -> Allocation | Refusal:
    trace: list[PoolVerdict] = []
    found: dict[Family, tuple[Address, str]] = {}
    in_general = False
    only_adds = False
    for answer in _answers(request, catalog, ledger):
        trace.append(answer.verdict)
        if not in_general and answer.pool.allocation is None:
            in_general = True
            # Pools pinned to this Service gave something: general pools may only add what is missing.
            only_adds = bool(found) and not request.all_families
        granted = {family: (address, answer.pool.name) for family, address in answer.offers.items()}
        if len(granted) == len(request.families) and not only_adds:
            return _allocation(request, granted)
        found = {**granted, **found}  # kept for the case that no single pool has it all
        if only_adds and len(found) == len(request.families):
            break
    if len(found) == len(request.families):
        return _allocation(request, found)
    if found and not request.all_families:
        family = next(family for family in request.families if family in found)
        return _allocation(request, {family: found[family]})
    return _refuse_by(request, trace)


def _allocation(request: Request, granted: dict[Family, tuple[Address, str]]) -> Allocation:
    ordered = sorted(granted.values())
    return Allocation(
        key=request.key,
        addresses=tuple(address for address, _ in ordered),
        pools=tuple(pool for _, pool in ordered),
    )


def _offer(request: Request, pool: Pool, family: Family, ledger: Ledger) -> Address | None:
    """The first address of a family that a pool can give, range by range as written."""
    for within in pool.ranges:
        if within.family is not family:
            continue
        free = ledger.first_free(within, avoid_buggy=pool.avoid_buggy_ips)
        if request.sharing is not None:
            joined = ledger.first_joinable(within, request.sharing, request.ports, avoid_buggy=pool.avoid_buggy_ips)
            free = min((each for each in (free, joined) if each is not None), default=None)
        if free is not None:
            return free
    return None


def _would_give(pool: Pool, offers: dict[Family, Address]) -> PoolVerdict:
    addresses = " and ".join(str(address) for address in sorted(offers.values()))
    return PoolVerdict(pool=pool.name, reason=Reason.OK, detail=f"would give {addresses}")


def _exhausted(
    request: Request, pool: Pool, missing: list[Family], offers: dict[Family, Address], ledger: Ledger
) -> PoolVerdict:
    lacking = [family.value for family in missing if family not in pool.families]
    if lacking:
        reason, text = Reason.POOL_LACKS_FAMILY, f"the pool has no {' and no '.join(lacking)} addresses"
    else:
        which = " and ".join(family.value for family in missing)
        shared = " or may be shared on these ports" if request.sharing is not None else ""
        reason, text = Reason.POOL_EXHAUSTED, f"no {which} address of the pool is free{shared}"
    if offers:
        text += f", only {' and '.join(str(address) for address in offers.values())}"
    kept = [found for family in missing if (found := ledger.first_kept(pool.name, family)) is not None]
    text += "".join(f"; {address} is kept for {key} (keep-for)" for address, key in kept)
    return PoolVerdict(pool=pool.name, reason=reason, detail=text)


# Which of several pools' reasons is the one to tell: the nearest to a yes.
_NEAREST = (
    Reason.POOL_EXHAUSTED,
    Reason.POOL_LACKS_FAMILY,
    Reason.POOL_NOT_FOR_SERVICE,
    Reason.POOL_NOT_FOR_NAMESPACE,
    Reason.POOL_NOT_AUTOMATIC,
)

_CURES = {
    Reason.POOL_EXHAUSTED: "add addresses to a pool, or delete a Service that no longer needs one",
    Reason.POOL_LACKS_FAMILY: "add addresses of that family to a pool, or change the Service's ipFamilies",
    Reason.POOL_NOT_FOR_SERVICE: "label the Service so that a pool's serviceSelectors match",
    Reason.POOL_NOT_FOR_NAMESPACE: "allow the namespace in a pool's serviceAllocation",
    Reason.POOL_NOT_AUTOMATIC: "name the pool in the annotation, or set autoAssign: true on one",
}


def _refuse_by(request: Request, trace: list[PoolVerdict]) -> Refusal:
    reasons = {verdict.reason for verdict in trace}
    reason = next(reason for reason in _NEAREST if reason in reasons)
    said = "; ".join(f"pool {verdict.pool!r}: {verdict.detail}" for verdict in trace[:4])
    more = f"; and {len(trace) - 4} more pools" if len(trace) > 4 else ""
    detail = f"{said}{more}. To change that, {_CURES[reason]}"
    return Refusal(key=request.key, reason=reason, detail=detail, pools=tuple(trace))


def _grant_exactly(request: Request, catalog: Catalog, ledger: Ledger) -> Allocation | Refusal:
    pools = []
    for address in request.addresses:
        verdict = _judge_address(request, request.pool, address, catalog, ledger)
        if verdict.reason is not Reason.OK:
            trace = (verdict,) if verdict.pool else ()
            return Refusal(key=request.key, reason=verdict.reason, detail=verdict.detail, pools=trace)
        pools.append(verdict.pool)
    return Allocation(key=request.key, addresses=request.addresses, pools=tuple(pools))


def _judge_address(
    request: Request, asked: str | None, address: Address, catalog: Catalog, ledger: Ledger
) -> PoolVerdict:
    """May this Service have this very address? The verdict of the pool that the address lies in.

    `asked` is the pool it must lie in, None for any; a start asks this twice for every Service.
    """
    pool = catalog.owner(address)
    if pool is None:
        text = f"{address} is in no address pool; ask for an address of a pool, or add {address} to one"
        return PoolVerdict(pool="", reason=Reason.ADDRESS_NOT_IN_POOL, detail=text)
    if asked is not None and asked != pool.name:
        text = f"{address} is in pool {pool.name!r}, but pool {asked[:80]!r} was asked for; change one of the two"
        return PoolVerdict(pool=pool.name, reason=Reason.ADDRESS_IN_OTHER_POOL, detail=text)
    if pool.avoid_buggy_ips and is_buggy(address):
        text = f"{address} ends in .0 or .255, which pool {pool.name!r} avoids (avoidBuggyIPs); ask for another"
        return PoolVerdict(pool=pool.name, reason=Reason.ADDRESS_AVOIDED, detail=text)
    # The address is the pool's, so of its families it is this one that counts.
    about = request if address.family in request.families else evolve(request, families=(address.family,))
    permitted = permits(pool, about, catalog.namespaces)
    if permitted.reason is not Reason.OK:
        text = f"{address} is in pool {pool.name!r}: {permitted.detail}. To change that, {_CURES[permitted.reason]}"
        return evolve(permitted, detail=text)
    conflict = ledger.conflict(address, request.key, ports=request.ports, sharing=request.sharing)
    if conflict is not None:
        return _judge_conflict(request, pool, conflict)
    return PoolVerdict(pool=pool.name, reason=Reason.OK)


def _judge_conflict(request: Request, pool: Pool, conflict: Conflict) -> PoolVerdict:
    address, holder = conflict.address, conflict.holder
    if conflict.kept:
        text = f"{address} is kept for {holder} (keep-for); ask for another, or wait until it is let go"
        return PoolVerdict(pool=pool.name, reason=Reason.ADDRESS_IN_USE, detail=text)
    if conflict.port is not None:
        text = f"{address} is shared, but {holder} already uses {conflict.port} on it; use another port or address"
        return PoolVerdict(pool=pool.name, reason=Reason.SHARING_REFUSED, detail=text)
    if request.sharing is None:
        text = (
            f"{address} is in use by {holder}; ask for another, or give both Services the same "
            "annotation metallb.io/allow-shared-ip and different ports"
        )
        return PoolVerdict(pool=pool.name, reason=Reason.ADDRESS_IN_USE, detail=text)
    text = (
        f"{address} is in use by {holder} on other terms; to share it, both need the same allow-shared-ip, "
        "and with externalTrafficPolicy: Local the same selector"
    )
    return PoolVerdict(pool=pool.name, reason=Reason.SHARING_REFUSED, detail=text)


def judge_held(
    request: Request, held: tuple[Address, ...], catalog: Catalog, ledger: Ledger
) -> tuple[Allocation | None, Refusal | None]:
    """May a Service go on holding these addresses? Its wish for other addresses or another pool is not asked.

    Returns what it may keep (one address of each family that it still wants), and the refusal of the
    first address that it may not.
    """
    kept: dict[Family, tuple[Address, str]] = {}
    refusal = None
    for address in sorted(held):
        if address.family not in request.families or address.family in kept:
            continue
        verdict = _judge_address(request, None, address, catalog, ledger)
        if verdict.reason is Reason.OK:
            kept[address.family] = (address, verdict.pool)
        elif refusal is None:
            refusal = Refusal(key=request.key, reason=verdict.reason, detail=verdict.detail)
    if not kept:
        return None, refusal
    return _allocation(request, kept), refusal


def settle(request: Request, held: tuple[Address, ...], catalog: Catalog, ledger: Ledger) -> Outcome:
    """What a Service that holds `held` should have now.

    It keeps what it has if that is still permitted and is what it asks for, with a family added
    that it lacks. Otherwise it gets what `allocate` grants. If nothing can be granted, it keeps
    what is still permitted, and the refusal says why it does not get what it asks for.
    """
    kept, _ = judge_held(request, held, catalog, ledger)
    good = _as_asked(request, kept) if kept is not None else None
    if good is not None:
        whole = _complete(request, good, catalog, ledger)
        if isinstance(whole, Allocation):
            return Outcome(allocation=whole)
        # No pool has the family it lacks, so `allocate` could not grant both afresh either.
        return Outcome(allocation=kept, refusal=whole) if request.all_families else Outcome(allocation=good)
    granted = allocate(request, catalog, ledger)
    if isinstance(granted, Allocation):
        return Outcome(allocation=granted)
    return Outcome(allocation=kept, refusal=granted)


def _as_asked(request: Request, kept: Allocation) -> Allocation | None:
    """The part of it that is what is asked for now: exactly these addresses, or those of that pool."""
    if request.addresses and kept.addresses != request.addresses:
        return None
    if request.pool is None:
        return kept
    pairs = [pair for pair in zip(kept.addresses, kept.pools, strict=True) if pair[1] == request.pool]
    if not pairs or len(pairs) < len(request.addresses):
        return None
    return _allocation(request, {pair[0].family: pair for pair in pairs})


def _complete(request: Request, kept: Allocation, catalog: Catalog, ledger: Ledger) -> Allocation | Refusal:
    """Add the family that a dual-stack Service lacks, or why no pool has one; first from the pool it is in."""
    missing = tuple(family for family in request.families if family not in {each.family for each in kept.addresses})
    if not missing:
        return kept
    lacking = evolve(request, families=missing, all_families=True, pool=request.pool or kept.pools[0])
    added = allocate(lacking, catalog, ledger)
    if isinstance(added, Refusal) and request.pool is None:
        added = allocate(evolve(lacking, pool=None), catalog, ledger)
    if isinstance(added, Refusal):
        return added
    pairs = zip(kept.addresses + added.addresses, kept.pools + added.pools, strict=True)
    return _allocation(request, {address.family: (address, pool) for address, pool in pairs})


def verdicts(request: Request, catalog: Catalog, ledger: Ledger) -> Iterator[PoolVerdict]:
    """What every pool says to a request, in the order asked: the decision of `allocate`, read to the end."""
    if request.addresses:
        yield from (_judge_address(request, request.pool, address, catalog, ledger) for address in request.addresses)
        return
    for answer in _answers(request, catalog, ledger):
        yield _would_give(answer.pool, answer.offers) if answer.verdict.reason is Reason.OK else answer.verdict

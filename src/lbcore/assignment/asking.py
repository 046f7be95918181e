"""What a request lacks, and what it could be waiting for."""

from __future__ import annotations

from attrs import evolve

from lbcore.addresses import Address, Family
from lbcore.allocation import Allocation, Outcome, allocate
from lbcore.ledger import Ledger
from lbcore.model import Service
from lbcore.pools import Catalog, candidates
from lbcore.requests import Request, annotation
from lbcore.sharing import sharing_of
from lbcore.verdicts import Reason, Refusal
from lbcore.waiting import Company, Place, WaitsFor

__all__ = ["lacks_nothing", "plain_request", "waits_for"]


def plain_request(service: Service) -> Request:
    """What a Service whose wishes make no sense may at least keep: one address of each family."""
    return Request(
        key=service.key,
        families=(Family.IPV4, Family.IPV6),
        all_families=False,
        ports=tuple(sorted(set(service.ports))),
        sharing=sharing_of(service, annotation(service, "allow-shared-ip") or ""),
        labels=service.labels,
    )


def lacks_nothing(request: Request, kept: Allocation, held: tuple[Address, ...]) -> bool:
    """Whether what a Service may keep is all it holds and all it asks for."""
    return (
        len(kept.addresses) == len(request.families) == len(held)
        and (not request.addresses or kept.addresses == request.addresses)
        and (request.pool is None or {request.pool} == set(kept.pools))
    )


def waits_for(request: Request, outcome: Outcome, catalog: Catalog, ledger: Ledger) -> tuple[WaitsFor, ...]:
    """What could give a Service what it does not have yet; nothing if it has all it asked for.

    Only what cannot be had now: when that changes, it is time to look again.
    """
    kept = outcome.allocation
    has = {address.family for address in kept.addresses} if kept is not None else set()
    if outcome.refusal is None and has.issuperset(request.families):
        return ()
    places = _places(request, outcome, catalog, ledger)
    if request.sharing is None:
        return tuple(places)
    return tuple(what for place in places for what in (place, Company(place, request.sharing, request.ports)))


def _places(request: Request, outcome: Outcome, catalog: Catalog, ledger: Ledger) -> list[Place]:
    if request.addresses:
        ports, sharing = request.ports, request.sharing
        conflicts = (
            (each, ledger.conflict(each, request.key, ports=ports, sharing=sharing)) for each in request.addresses
        )
        return [each for each, conflict in conflicts if conflict is not None]
    asked = [pool for pool, verdict in candidates(request, catalog) if verdict.reason is Reason.OK]
    if request.pool is None and outcome.allocation is not None:
        # A family that it lacks may come from the pool it is in, even if that is not automatic.
        named = (catalog.named(name) for name in outcome.allocation.pools)
        asked = [*dict.fromkeys((*asked, *(pool for pool in named if pool is not None)))]
    lacking = [family for family in request.families if _is_lacking(family, request, catalog, ledger)]
    return [(pool.name, family) for pool in asked for family in lacking if family in pool.families]


def _is_lacking(family: Family, request: Request, catalog: Catalog, ledger: Ledger) -> bool:
    """Whether no pool has an address of that family for a request that was not granted in full."""
    if len(request.families) == 1:
        return True
    alone = evolve(request, families=(family,), all_families=True)
    return isinstance(allocate(alone, catalog, ledger), Refusal)

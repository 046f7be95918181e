"""Why a Service has the addresses it has, or none, and who has an address."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from lbcore.addresses import Address
from lbcore.allocation import settle, verdicts
from lbcore.assignment.reporting import listed
from lbcore.assignment.state import AssignmentState
from lbcore.ledger import Claim, Ledger
from lbcore.model import ServiceKey
from lbcore.pools import Catalog
from lbcore.requests import Request, read_request
from lbcore.verdicts import PoolVerdict, Reason, Refusal

__all__ = ["AddressStory", "PendingReason", "explain", "explain_address"]


@frozen(kw_only=True)
class PendingReason:
    """Why a Service has what it has: the refusal in force, if any, and what each pool says to it now."""

    key: ServiceKey
    addresses: tuple[Address, ...]
    refusal: Refusal | None
    pools: tuple[PoolVerdict, ...]


def explain(state: AssignmentState, key: ServiceKey) -> PendingReason | None:
    """Why a Service has the addresses it has, or none, pool by pool; None for a Service that is not known."""
    service = state.services.get(key)
    if service is None:
        return None
    claim = state.ledger.of(key)
    if claim is not None and claim.kept:
        claim = None  # kept for it, but not what it asks for
    addresses = claim.addresses if claim is not None else ()
    request = read_request(service)
    if isinstance(request, Refusal):
        return PendingReason(key=key, addresses=addresses, refusal=request, pools=())
    if state.catalog is None:
        return PendingReason(key=key, addresses=addresses, refusal=None, pools=())
    # Worked out anew: the status still names the holder that was in the way when it was written.
    refusal = settle(request, addresses, state.catalog, state.ledger).refusal if key in state.told else None
    pools = tuple(_pool_verdicts(request, state.catalog, state.ledger, claim))
    return PendingReason(key=key, addresses=addresses, refusal=refusal, pools=pools)


def _pool_verdicts(request: Request, catalog: Catalog, ledger: Ledger, claim: Claim | None) -> Iterator[PoolVerdict]:
    # Asked as if the Service held nothing, so that its own address shows as one it could have.
    for verdict in verdicts(request, catalog, ledger.release(request.key)):
        pairs = zip(claim.addresses, claim.pools, strict=True) if claim is not None else ()
        given = listed(tuple(address for address, pool in pairs if pool == verdict.pool))
        yield evolve(verdict, detail=f"gave {given}") if given and verdict.reason is Reason.OK else verdict


@frozen(kw_only=True)
class AddressStory:
    """What is to be said of one address: the pool it lies in, who holds it, and what a Service that
    asked for it now would be told.
    """

    address: Address
    pool: str | None
    holders: tuple[ServiceKey, ...]
    verdict: PoolVerdict


def explain_address(state: AssignmentState, address: Address) -> AddressStory | None:
    """Who has an address, and could another Service have it; None before there is any configuration."""
    if state.catalog is None:
        return None
    asking = Request(key=ServiceKey("", ""), families=(address.family,), addresses=(address,))
    (verdict,) = verdicts(asking, state.catalog, state.ledger)
    owner = state.catalog.owner(address)
    return AddressStory(
        address=address,
        pool=owner.name if owner is not None else None,
        holders=state.ledger.holders(address),
        verdict=verdict,
    )

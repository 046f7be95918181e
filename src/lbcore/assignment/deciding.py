"""Looking at one Service: what it should have, and what follows from that."""

from __future__ import annotations

from lbcore.addresses import Address
from lbcore.allocation import Outcome, judge_held, settle
from lbcore.assignment.asking import lacks_nothing, plain_request, waits_for
from lbcore.assignment.holding import hold, is_open, reserve
from lbcore.assignment.reporting import tell, write
from lbcore.assignment.turn import Turn
from lbcore.intents import SetAddresses
from lbcore.keeping import Reservation
from lbcore.ledger import Claim
from lbcore.model import Service, ServiceKey
from lbcore.requests import Request, read_request
from lbcore.verdicts import Refusal
from lbcore.waiting import Chance

__all__ = ["adopt", "is_unfinished", "look_at", "offer"]


def _is_ours(turn: Turn, service: Service) -> bool:
    return service.is_load_balancer and service.load_balancer_class == turn.before.settings.load_balancer_class


def adopt(turn: Turn, key: ServiceKey) -> None:
    """Claim what a Service holds. One that may hold it and lacks nothing is done; the others get their turn
    when all claims are in.
    """
    service = turn.services.get(key)
    if service is None:
        return
    if service.held and _is_ours(turn, service) and turn.ledger.of(key) is None:
        request = read_request(service)
        sound = request if isinstance(request, Request) else plain_request(service)
        kept, _ = judge_held(sound, service.held, turn.pools, turn.ledger)
        if kept is not None and sound is request and lacks_nothing(sound, kept, service.held):
            hold(turn, key, kept.claim(sound))
            tell(turn, service, Outcome(allocation=kept), kept.addresses)
            return
        _claim_shown(turn, service, sound)
    turn.work = turn.work.touch(key)


def _claim_shown(turn: Turn, service: Service, request: Request) -> None:
    """Claim what a Service shows, may it keep that or not: nobody else is given it before it has been looked at."""
    key, ports, sharing = service.key, request.ports, request.sharing
    shown = [
        (address, pool.name)
        for address in sorted(service.held)
        if (pool := turn.pools.owner(address)) is not None
        and turn.ledger.conflict(address, key, ports=ports, sharing=sharing) is None
    ]
    if shown:
        addresses, pools = zip(*shown, strict=True)
        hold(turn, key, Claim(key=key, addresses=addresses, pools=pools, ports=ports, sharing=sharing))


def look_at(turn: Turn, key: ServiceKey) -> None:
    """Work out what one Service should have, and write the difference."""
    reservation = turn.keeping.of(key)
    if reservation is not None:
        reservation = reservation.still(turn.pools, turn.now)
        reserve(turn, key, reservation)
    service = turn.services.get(key)
    if service is None:
        return
    if not _is_ours(turn, service):
        _let_be(turn, service)
        return
    claim = turn.ledger.of(key) if reservation is None else None
    held = claim.addresses if claim is not None else service.held
    request = read_request(service)
    outcome, sound = _outcome_for(turn, service, request, held, reservation)
    if outcome.allocation is None and held != service.held:
        # What was given instead is lost before it was ever shown: better what it still shows than nothing.
        outcome, sound = _outcome_for(turn, service, request, service.held, reservation)
    if outcome.allocation is not None:
        turn.keeping = turn.keeping.remove(key)
        hold(turn, key, outcome.allocation.claim(sound))
    elif reservation is None:
        hold(turn, key, None)
    whats = waits_for(sound, outcome, turn.pools, turn.ledger) if isinstance(request, Request) else ()
    turn.waiting = turn.waiting.put(key, whats)
    tell(turn, service, outcome, held)


def _outcome_for(
    turn: Turn,
    service: Service,
    request: Request | Refusal,
    held: tuple[Address, ...],
    reservation: Reservation | None,
) -> tuple[Outcome, Request]:
    if isinstance(request, Request):
        if reservation is not None and not held:
            # It is back: what was kept is its own again, unless it asks for something else now.
            back = settle(request, reservation.claim.addresses, turn.pools, turn.ledger)
            if back.refusal is None:
                return back, request
        return settle(request, held, turn.pools, turn.ledger), request
    # A request that makes no sense takes nothing away: what it has, it keeps.
    plain = plain_request(service)
    kept, _ = judge_held(plain, held, turn.pools, turn.ledger)
    return Outcome(allocation=kept, refusal=request), plain


def _let_be(turn: Turn, service: Service) -> None:
    """Not, or no longer, ours: give back what it held, and clear the status that we wrote."""
    key = service.key
    had = turn.ledger.of(key) is not None and key not in turn.keeping
    left_over = bool(service.held) and not service.is_load_balancer
    turn.keeping = turn.keeping.remove(key)
    hold(turn, key, None)
    turn.waiting = turn.waiting.remove(key)
    if had or left_over:
        write(turn, SetAddresses(key=key, uid=service.uid), service)


def offer(turn: Turn, chance: Chance) -> None:
    """Ask the next of those who could use a chance; what is left of it stays in line."""
    key, left = None, chance.elsewhere
    if is_open(turn, chance.address, chance.queues[0]):
        key, left = turn.waiting.next(chance)
    if left is not None:
        turn.chances.insert(0, left)
    if key is not None:
        look_at(turn, key)


def is_unfinished(turn: Turn) -> bool:
    """Whether there are Services that must be looked at."""
    lined_up = turn.adopting or turn.chances or turn.work or turn.recalled
    return bool(lined_up) or turn.keeping.due(turn.now) is not None

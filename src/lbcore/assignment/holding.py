"""The ledger, what is kept for who comes back, and who is asked next when something becomes free."""

from __future__ import annotations

from lbcore.addresses import Address
from lbcore.assignment.turn import Turn
from lbcore.keeping import Reservation
from lbcore.ledger import Claim
from lbcore.model import ServiceKey
from lbcore.pools import is_buggy
from lbcore.waiting import Chance, Company, Place, WaitsFor

__all__ = ["hold", "is_open", "keep", "reserve"]

_NOBODY = ServiceKey("", "")  # asks the ledger about an address on no Service's behalf


def hold(turn: Turn, key: ServiceKey, claim: Claim | None) -> None:
    """Enter a claim (or its end) into the ledger, and give those who wait their chance."""
    before = turn.ledger.of(key)
    if before == claim:
        return
    turn.ledger = turn.ledger.claim(claim) if claim is not None else turn.ledger.release(key)
    for each in (before, claim):
        if each is not None:
            turn.touched_pools.update(each.pools)
    if not turn.waiting:
        return
    left = before.addresses if before is not None else ()
    entered = claim.addresses if claim is not None else ()
    for address in dict.fromkeys(left + entered):
        _give_chance(turn, address, joined=address not in left)
        if (before is not None and before.kept) is not (claim is not None and claim.kept):
            _recall(turn, address)


def _recall(turn: Turn, address: Address) -> None:
    """Tell the first of those whom an address keeps waiting that it is kept now, or no longer."""
    pool = turn.pools.owner(address)
    places: list[Place] = [address, *([(pool.name, address.family)] if pool is not None else [])]
    firsts = (turn.waiting.queue(place).first() for place in places)
    for key in firsts:
        turn.recalled = turn.recalled.push(key) if key is not None else turn.recalled


def _give_chance(turn: Turn, address: Address, *, joined: bool) -> None:
    """Line up those who could use an address now that its holders have changed.

    Where one more has `joined` others, there is less to have than before, and nothing to give.
    """
    holders = turn.ledger.holders(address)
    if joined and len(holders) > 1:
        return
    places: list[Place] = [address]
    pool = turn.pools.owner(address)
    # An address that a pool no longer gives out helps nobody who waits for any address of that pool.
    if pool is not None and not (pool.avoid_buggy_ips and is_buggy(address)):
        places.append((pool.name, address.family))
    queues: list[WaitsFor] = []
    if not holders:
        queues += [place for place in places if turn.waiting.anyone_for(place)]
    elif (claim := turn.ledger.of(holders[0])) is not None and claim.sharing is not None:
        for place in places:
            queues += turn.waiting.companies(place, claim.sharing)
    queues = [what for what in queues if is_open(turn, address, what)]
    if queues:
        turn.chances.append(Chance(address=address, queues=tuple(queues)))


def is_open(turn: Turn, address: Address, what: WaitsFor) -> bool:
    """Whether an address is what somebody waits for: free, or held on the right terms with the ports to spare."""
    if not isinstance(what, Company):
        return not turn.ledger.holders(address)
    return turn.ledger.conflict(address, _NOBODY, ports=what.ports, sharing=what.sharing) is None


def keep(turn: Turn, key: ServiceKey) -> None:
    """What a deleted Service held stays reserved for one of its name, as far as the pools say so."""
    claim = turn.ledger.of(key)
    reservation = turn.keeping.of(key)  # of one that was deleted before, if this one never took it
    if reservation is None and claim is not None and turn.catalog is not None:
        reservation = Reservation.of(claim, turn.catalog, turn.now)
    reserve(turn, key, reservation)


def reserve(turn: Turn, key: ServiceKey, reservation: Reservation | None) -> None:
    """Enter what is kept under a key, or the end of it."""
    turn.keeping = turn.keeping.put(reservation) if reservation is not None else turn.keeping.remove(key)
    hold(turn, key, reservation.claim if reservation is not None else None)
    if key not in turn.services:
        # Enrolled, it is looked at when the pools change.
        turn.work = turn.work.enrol(key) if reservation is not None else turn.work.strike(key)

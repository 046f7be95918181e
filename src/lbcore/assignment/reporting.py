"""What the world is told: statuses, each written once and in order, Events, and the counts of pools."""

from __future__ import annotations

from attrs import evolve

from lbcore.addresses import Address, Family
from lbcore.allocation import Outcome
from lbcore.assignment.turn import Turn
from lbcore.config import Pool
from lbcore.intents import EventType, RecordEvent, SetAddresses, SetPoolUsage
from lbcore.ledger import Ledger
from lbcore.model import Service, ServiceKey
from lbcore.pools import capacity
from lbcore.requests import annotation
from lbcore.verdicts import Reason, Refusal

__all__ = ["POOL", "confirm", "listed", "says", "tell", "tell_usage", "usage_of", "write"]

POOL = "ip-allocated-from-pool"  # the annotation that says which pool an address is from


def tell(turn: Turn, service: Service, outcome: Outcome, held: tuple[Address, ...]) -> None:
    """Write what a Service has, or why it has nothing, and an Event where that is news."""
    allocation, refusal = outcome.allocation, outcome.refusal
    addresses = allocation.addresses if allocation is not None else ()
    pool = ",".join(dict.fromkeys(allocation.pools)) if allocation is not None else None
    # The trace stays here: `explain` works it out anew, and a status that lists every pool would
    # be written again whenever any of them changed.
    said = evolve(refusal, pools=()) if refusal is not None else None
    wanted = SetAddresses(key=service.key, uid=service.uid, addresses=addresses, pool=pool, refusal=said)
    before = turn.told.get(service.key)
    write(turn, wanted, service)
    if before == wanted:
        return
    if addresses and (set(addresses) != set(held) or (before is not None and before.addresses != addresses)):
        text = f"assigned {listed(addresses)} from pool {pool}"
        moved = f" in place of {listed(held)}" if held else ""
        _record(turn, service, EventType.NORMAL, "IPAllocated", text + moved)
    elif held and not addresses:
        _record(turn, service, EventType.NORMAL, "ClearAssignment", f"{listed(held)} had to be given up")
    if said is not None and not (says(service, said) if before is None else before.refusal == said):
        malformed = said.reason in (Reason.BAD_REQUEST, Reason.CONFLICTING_REQUEST)
        reason = "LoadBalancerFailed" if malformed else "AllocationFailed"
        _record(turn, service, EventType.WARNING, reason, str(said))


def write(turn: Turn, wanted: SetAddresses, service: Service) -> None:
    """Ask for a status write, unless it says so already or is about to."""
    key = wanted.key
    before = turn.told.get(key)
    # In which order the addresses stand says nothing to us, but elections go by the first: leave it.
    shown = service.held == wanted.addresses or tuple(sorted(service.held)) == wanted.addresses
    if before is None and shown and says(service, wanted.refusal) and _shows_pool(service, wanted):
        turn.told = turn.told.set(key, wanted)
        return
    if before == wanted and (shown or key in turn.unconfirmed):
        return
    wanted = _in_order(turn, wanted, service)
    turn.told = turn.told.set(key, wanted)
    turn.unconfirmed = turn.unconfirmed.set(key, wanted)
    turn.intents.append(wanted)


def _in_order(turn: Turn, wanted: SetAddresses, service: Service) -> SetAddresses:
    """The write, to be done after those of whoever may still show what it gives."""
    key, under_way = wanted.key, turn.unconfirmed.get(wanted.key)
    shown = {*service.held, *(under_way.addresses if under_way else ()), *(under_way.gives_up if under_way else ())}
    gives_up = frozenset(shown.difference(wanted.addresses))
    # Several, where they shared it: the write must wait for every one of them.
    shown_by = frozenset[ServiceKey]().union(*(turn.showing.get(each, ()) for each in wanted.addresses))
    for address in wanted.addresses:
        _shows_no_more(turn, address, key)
    for address in gives_up:
        turn.showing = turn.showing.set(address, turn.showing.get(address, frozenset()) | {key})
    return evolve(wanted, gives_up=gives_up, after=tuple(sorted(shown_by - {key})))


def confirm(turn: Turn, key: ServiceKey) -> None:
    """Nothing more is to be written about a Service: what it gave up it shows no more."""
    written = turn.unconfirmed.get(key)
    if written is None:
        return
    turn.unconfirmed = turn.unconfirmed.delete(key)
    for address in written.gives_up:
        _shows_no_more(turn, address, key)


def _shows_no_more(turn: Turn, address: Address, key: ServiceKey) -> None:
    others = turn.showing.get(address, frozenset()) - {key}
    if others:
        turn.showing = turn.showing.set(address, others)
    elif address in turn.showing:
        turn.showing = turn.showing.delete(address)


def _record(turn: Turn, service: Service, type_: EventType, reason: str, message: str) -> None:
    about = f"Service {service.key}"
    turn.intents.append(RecordEvent(about=about, type=type_, reason=reason, message=message))


def tell_usage(turn: Turn) -> None:
    """Write the counts of those pools that were touched, where they differ."""
    for name in sorted(turn.touched_pools):
        pool = turn.pools.named(name)
        if pool is None:
            turn.told_usage = turn.told_usage.delete(name) if name in turn.told_usage else turn.told_usage
            continue
        wanted = usage_of(pool, turn.ledger)
        if turn.told_usage.get(name) != wanted:
            turn.told_usage = turn.told_usage.set(name, wanted)
            turn.intents.append(wanted)
    turn.touched_pools = set()


def usage_of(pool: Pool, ledger: Ledger) -> SetPoolUsage:
    """A pool's counts. Addresses that it no longer gives out can still be held: free is never below zero."""
    used = ledger.usage(pool.name)
    return SetPoolUsage(
        pool=pool.name,
        assigned_ipv4=used.ipv4,
        assigned_ipv6=used.ipv6,
        available_ipv4=max(0, capacity(pool, Family.IPV4) - used.ipv4),
        available_ipv6=max(0, capacity(pool, Family.IPV6) - used.ipv6),
    )


def listed(addresses: tuple[Address, ...]) -> str:
    """Addresses, as a sentence has them."""
    return " and ".join(str(address) for address in addresses)


def _shows_pool(service: Service, wanted: SetAddresses) -> bool:
    shown = annotation(service, POOL)
    return shown is None or shown == wanted.pool


def says(service: Service, refusal: Refusal | None) -> bool:
    """Whether a Service's status says why it lacks something, or that it lacks nothing, as before a restart."""
    return service.pending == (refusal.shown if refusal is not None else None)

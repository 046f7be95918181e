"""Looking at Services in slices: the vote on each address, and what follows from it for this node."""

from __future__ import annotations

from collections.abc import Iterable

from lbcore.addresses import Address
from lbcore.announcement.answering import be_next, show, want, withdraw_orphans
from lbcore.announcement.judging import candidates_for, contributions_of, electorate_of, interfaces_of, parts_of
from lbcore.announcement.routers import export, withhold
from lbcore.announcement.state import LOOK, NOBODY, Part, number
from lbcore.announcement.turn import Turn
from lbcore.config import L2Advertisement
from lbcore.election import Electorate, is_next, re_elect
from lbcore.intents import Intent, StandBy
from lbcore.model import Service, ServiceKey
from lbcore.requests import annotation
from lbcore.telling import Telling
from lbcore.worklist import Fifo

__all__ = ["drop", "look_at_some", "say"]


def look_at_some(turn: Turn) -> None:
    """Look at what must be looked at, for as long as this step's effort lasts."""
    if turn.state.unshown:
        count = max(1, turn.state.settings.effort // LOOK)
        turn.effort += count * LOOK
        for address in turn.state.unshown[:count]:
            show(turn, address)
        turn.change(unshown=turn.state.unshown[count:])
    while turn.effort < turn.state.settings.effort and turn.state.unfinished:
        turn.effort += LOOK
        key = _next(turn)
        if key is not None:
            _look_at(turn, key)
    if not turn.state.unfinished and turn.state.orphans:
        withdraw_orphans(turn)


def _next(turn: Turn) -> ServiceKey | None:
    """The next Service to look at: what a lost member announced comes before all else."""
    if not turn.state.lost:
        key, work = turn.state.work.take()
        turn.change(work=work)
        return key
    queue, *others = turn.state.lost
    first = queue.first()
    turn.change(lost=tuple(others) if first is None else (queue.remove(first), *others))
    return first


def _look_at(turn: Turn, key: ServiceKey) -> None:
    """Vote on one Service's addresses, and announce or withdraw the difference."""
    service = turn.state.services.get(key)
    if service is None:
        return
    export(turn, key, contributions_of(turn.state, service))
    withhold(turn, key, service)
    before = {part.address: part for part in turn.state.parts.get(key, ())}
    parts = tuple(_elect(turn, service, each, before.get(each.address)) for each in parts_of(turn.state, service))
    _keep_parts(turn, key, parts)
    mine = {
        part.address: interfaces_of(part.adverts, turn.state.nodes.get(turn.state.settings.node))
        for part in parts
        if part.election is not None and part.election.winner == turn.state.settings.node
    }
    moved = {part.address for part in parts if part.election is not None} - mine.keys()
    for address in sorted({*before, *mine}):
        want(turn, service, address, mine.get(address), moved=address in moved)
    if turn.state.settings.stands_by:
        _see_what_is_next(turn, service, parts, before)
    _tell_of(turn, key, mine.values())


def _see_what_is_next(turn: Turn, service: Service, parts: Iterable[Part], before: Iterable[Address]) -> None:
    """What of a Service would be ours if who announces it went. Not what several share: they may elect apart."""
    found: dict[Address, StandBy] = {}
    if annotation(service, "allow-shared-ip") is None:
        name = turn.state.settings.node
        for part in parts:
            if part.election is None or part.election.winner not in turn.state.members:
                continue  # who waits and announces is no member to whom answers it
            if is_next(name, part.election, part.ranked_by):
                interfaces = interfaces_of(part.adverts, turn.state.nodes.get(name))
                member = part.election.winner
                found[part.address] = StandBy(address=part.address, member=member, interfaces=interfaces)
    for address in sorted({*before, *found}, key=number):
        be_next(turn, address, found.get(address))


def _elect(turn: Turn, service: Service, part: Part, before: Part | None) -> Part:
    among = candidates_for(turn.state, service, part.adverts, _known_electorate(turn, part.adverts))
    # Ranks by another first address say nothing about this one.
    last = before.election if before is not None and before.ranked_by == part.ranked_by else None
    election = re_elect(last, among, part.ranked_by)
    if election is not last:
        anew = last is None or last.winner not in among.candidates
        known = frozenset[str]() if anew or last is None else last.among.candidates
        turn.effort += len(among.candidates - known)
    return Part(part.address, part.ranked_by, part.adverts, election)


def _known_electorate(turn: Turn, adverts: tuple[L2Advertisement, ...]) -> Electorate:
    names = tuple(advert.name for advert in adverts)
    known = turn.state.electorates.get(names)
    if known is not None:
        return known
    among = electorate_of(turn.state, adverts)
    turn.change(electorates=turn.state.electorates.set(names, among))
    return among


def _keep_parts(turn: Turn, key: ServiceKey, parts: tuple[Part, ...]) -> None:
    before, after = _winners(turn.state.parts.get(key, ())), _winners(parts)
    won = turn.state.won
    for winner in before - after:
        rest = won[winner].remove(key)
        won = won.set(winner, rest) if rest else won.delete(winner)
    for winner in after - before:
        won = won.set(winner, won.get(winner, Fifo[ServiceKey]()).push(key))
    kept = turn.state.parts
    if parts:
        kept = kept.set(key, parts)
    elif key in kept:
        kept = kept.delete(key)
    turn.change(won=won, parts=kept)


def _winners(parts: Iterable[Part]) -> set[str]:
    return {part.election.winner if part.election is not None else NOBODY for part in parts}


def drop(turn: Turn, key: ServiceKey) -> None:
    """Forget what a Service that is gone was announced with."""
    service = turn.state.services[key]
    before = [part.address for part in turn.state.parts.get(key, ())]
    _keep_parts(turn, key, ())
    export(turn, key, ())
    withhold(turn, key, None)
    for address in before:
        want(turn, service, address, None)
        be_next(turn, address, None)
    _tell_of(turn, key, ())


def _tell_of(turn: Turn, key: ServiceKey, interfaces: Iterable[tuple[str, ...]]) -> None:
    """Say what this node announces of a Service, to those who want to hear it."""
    if turn.state.settings.tells and not turn.state.stopped:
        peers = (offer.peer for _, offer in turn.state.exports.given.get(key, ()))
        say(turn, *turn.state.telling.say(key, interfaces, peers))


def say(turn: Turn, telling: Telling, said: tuple[Intent, ...]) -> None:
    """Keep what was said, and say it."""
    if said:
        turn.change(telling=telling)
        turn.intents += said

"""The speaker's brain: what this node announces, how, and why not.

Every node works out from the same facts who announces each address (`lbcore.election`), and acts
on its own part. Level-triggered like the controller's brain, and in slices. Membership is the one
input that must be fast: a member that is lost puts only the addresses that it announced back to
the vote, and they come before everything else.
"""

from __future__ import annotations

from attrs import evolve

from lbcore.announcement.answering import announce_anew, set_links, set_presence, withdraw
from lbcore.announcement.explaining import (
    all_bgp_announcers,
    explain,
    explain_bgp,
    explain_routes,
    routes,
)
from lbcore.announcement.knowing import end_waits, keep_config_in_force, note, set_peers
from lbcore.announcement.routers import end_drain, set_sessions, tell_of_drain
from lbcore.announcement.state import (
    ALL_BUT_MEMBERS,
    LOOK,
    NEEDS,
    AnnouncementSettings,
    AnnouncementState,
    NotAnnounced,
    number,
)
from lbcore.announcement.turn import Turn
from lbcore.announcement.voting import look_at_some, say
from lbcore.brain import Step
from lbcore.events import Event

__all__ = [
    "LOOK",
    "NEEDS",
    "AnnouncementSettings",
    "AnnouncementState",
    "NotAnnounced",
    "all_bgp_announcers",
    "explain",
    "explain_bgp",
    "explain_routes",
    "routes",
    "step",
]


def step(state: AnnouncementState, event: Event, now: float) -> Step[AnnouncementState]:
    """One event: what is known afterwards, and what this node has to do.

    Intents: `Announce`, `AnnounceAnew`, `StandBy`, `Withdraw`, `SetLinks`, `SetPeers`, `SetPresence`, `RecordEvent`,
    `ReportConfig`, and for BGP `SetSessions`, `SetWatches`, `LoseSession`, `AdvertiseRoute`, `WithdrawRoute`,
    `ReportPeer`, `ReportWithheld`; to who asks `ReportAnnounced` and `SettleAnnounced`. The same event twice yields no
    second intent. Never raises for anything a cluster can contain.
    """
    turn = Turn(evolve(state), now)
    note(turn, event)
    _work_on(turn)
    return Step(state=turn.state, intents=tuple(turn.intents), wake_at=_wake_at(turn.state, now))


def _wake_at(state: AnnouncementState, now: float) -> float | None:
    if state.ready and state.unfinished:
        return now
    times = [state.stop_at if not state.stopped else None, state.handing_over.deadline]
    times.append(state.settling.deadline if state.ready else None)
    times += [state.drain_ends if state.drain_ends is not None and state.drain_ends > now else None]
    if state.listed >= ALL_BUT_MEMBERS:
        times.append(state.config_due)
    return min((time for time in times if time is not None), default=None)


def _work_on(turn: Turn) -> None:
    if turn.state.listed >= ALL_BUT_MEMBERS:
        keep_config_in_force(turn)
        if turn.state.taken_up:
            set_links(turn)
            set_peers(turn)
    if turn.state.taken_up and (turn.state.listed >= ALL_BUT_MEMBERS or turn.state.stop_at is not None):
        set_presence(turn)
    if turn.state.ready:
        end_drain(turn)
        end_waits(turn)
        look_at_some(turn)
        tell_of_drain(turn)
        announce_anew(turn)
        if turn.state.peers_due and (turn.state.peers or not turn.state.unfinished):
            set_sessions(turn)
        if turn.state.settings.tells and not turn.state.unfinished and turn.state.stop_at is None:
            say(turn, *turn.state.telling.settle(turn.state.members | turn.state.waiting))
    for address in tuple(turn.state.handing_over.due(turn.now)):
        withdraw(turn, address)
    if turn.state.stop_at is not None and turn.now >= turn.state.stop_at:
        turn.change(lingers=False)
        for address in sorted(turn.state.announced, key=number):
            withdraw(turn, address)
    if turn.state.stopped:
        say(turn, *turn.state.telling.end())

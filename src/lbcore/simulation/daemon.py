"""One daemon's loop on the virtual clock: what `daemons.carrier` is to asyncio.

A daemon thinks for a moment before each look at its inbox, stands still while its machine does,
and is born anew with every start: nothing outlives it but what the world keeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lbcore.brain import Brain
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Dispatch, Loop, Turn
from lbcore.events import Applied, Event, Failed
from lbcore.intents import (
    AdvertiseRoute,
    Announce,
    AnnounceAnew,
    Intent,
    LoseSession,
    PublishIngress,
    RecordEvent,
    ReportAnnounced,
    ReportConfig,
    ReportPeer,
    ReportWithheld,
    ServeRoutes,
    SetAddresses,
    SetLinks,
    SetPeers,
    SetPoolUsage,
    SetPresence,
    SetSessions,
    SettleAnnounced,
    SetWatches,
    StandBy,
    Withdraw,
    WithdrawRoute,
)
from lbcore.simulation.clock import Clock, Trace

__all__ = ["Daemon", "line_of"]

S = TypeVar("S")

_STEPS = 4  # of the brain before others get their turn: a daemon can be killed between them
_THOUGHT = 0.001  # seconds at most between an event and the step that takes it


class Daemon(Generic[S]):
    """A loop that is carried: `carry_out` starts an intent, and `done` takes the outcome back."""

    def __init__(
        self,
        name: str,
        brain: Brain[S],
        state: S,
        lanes: Sequence[Lane],
        *,
        clock: Clock,
        trace: Trace,
        rng: random.Random,
        carry_out: Callable[[Dispatch], None],
        after_turn: Callable[[Turn], None] | None = None,
    ) -> None:
        self.name = name
        self.loop = Loop(brain, state, lanes, rng)
        self.frozen = False
        self.dead = False
        self._clock = clock
        self._trace = trace
        self._rng = rng
        self._carry_out = carry_out
        self._after_turn = after_turn
        self._due: float | None = None
        self._backlog: list[Callable[[], None]] = []

    def receive(self, event: Event) -> None:
        """An event has arrived at the process."""
        if self.dead:
            return
        if self.frozen:
            self._backlog.append(lambda: self.loop.receive(event))
            return
        self.loop.receive(event)
        self._plan()

    def done(self, lane: str, outcome: Applied | Failed) -> None:
        """The outcome of an intent has arrived at the process."""
        if self.dead:
            return
        if self.frozen:
            self._backlog.append(lambda: self._take(lane, outcome))
            return
        self._take(lane, outcome)
        self._look_soon()  # what waited for this one may start, though the loop has no event

    def freeze(self) -> None:
        """Stand still: what arrives waits."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for each in backlog:
            each()
        self._due = None
        self._look_soon()

    def kill(self) -> None:
        """End at once: nothing that arrives is taken, nothing that waits is done."""
        self.dead = True

    def _take(self, lane: str, outcome: Applied | Failed) -> None:
        self.loop.done(lane, outcome, self._clock.now)

    def _plan(self) -> None:
        deadline = self.loop.deadline
        if deadline is not None and not self.dead:
            self._think_at(max(self._clock.now + self._rng.random() * _THOUGHT, deadline))

    def _look_soon(self) -> None:
        self._think_at(self._clock.now + self._rng.random() * _THOUGHT)

    def _think_at(self, at: float) -> None:
        if self._due is None or at < self._due:
            self._due = at
            self._clock.at(at, self._think, at)

    def _think(self, planned: float) -> None:
        if self._due != planned or self.frozen or self.dead:
            return
        self._due = None
        now = self._clock.now
        for _ in range(_STEPS):
            turn = self.loop.tick(now)
            for intent in turn.intents:
                self._trace.add(self.name, line_of(intent))
            for dispatch in turn.dispatches:
                self._carry_out(dispatch)
            if self._after_turn is not None:
                self._after_turn(turn)
            if not self._has_more(now):
                break
        self._plan()

    def _has_more(self, now: float) -> bool:
        deadline = self.loop.deadline
        return not self.dead and deadline is not None and deadline <= now


def line_of(intent: Intent) -> str:
    """An intent in one line, the same on every machine."""
    match intent:
        case SetAddresses():
            addresses = ",".join(map(str, intent.addresses))
            return f"set {intent.key} [{addresses}] from {intent.pool}; {intent.refusal or 'served'}"
        case RecordEvent():
            return f"record {intent.about} {intent.reason}"
        case SetPoolUsage():
            return f"usage {intent.pool} {intent.assigned_ipv4} {intent.assigned_ipv6}"
        case ReportConfig():
            return f"config {intent.config is not None} {'; '.join(map(str, intent.problems))}"
        case Announce():
            return f"announce {intent.address} on {','.join(intent.interfaces) or 'all'}"
        case AnnounceAnew():
            return f"announce anew {intent.reunions}"
        case Withdraw():
            return f"withdraw {intent.address}"
        case StandBy():
            return f"stand by for {intent.member} with {intent.address} on {','.join(intent.interfaces) or 'all'}"
        case SetLinks():
            return f"links {','.join(link.name for link in intent.links)}"
        case SetPeers():
            return f"peers {','.join(map(str, intent.addresses))}"
        case ServeRoutes():
            return f"routes {len(intent.table.sites)}"
        case PublishIngress():
            return f"publish {intent.key} {','.join(intent.addresses)}"
        case SetPresence():
            return f"present {intent.present}"
        case SetSessions():
            return f"sessions {','.join(peer.name for peer in intent.peers)}"
        case LoseSession():
            return f"lose {intent.peer}: {intent.why}"
        case SetWatches():
            return f"watches {','.join(watch.peer for watch in intent.watches)}"
        case AdvertiseRoute():
            return f"advertise {intent.prefix} to {','.join(offer.peer for offer in intent.offers)}"
        case WithdrawRoute():
            return f"withdraw {intent.prefix}"
        case ReportAnnounced():
            return f"report {intent.key} announced {intent.is_any}"
        case SettleAnnounced():
            return f"all reported to {','.join(sorted(intent.living))}"
        case ReportWithheld():
            return f"withheld {intent.key}: {intent.after}"
        case ReportPeer():
            return f"session {intent.peer} {intent.status.state.value if intent.status is not None else 'gone'}"

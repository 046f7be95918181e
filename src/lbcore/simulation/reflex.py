"""The answering process of a pretend node: the real engines, with a pretend wire, store and parent.

It does what `daemons.reflex_loop` does with sockets. `Pulse` spares it the heartbeats that change
nothing: while the same members live, their records only count up, so when nobody's life is in
doubt all stop beating, and before anything happens to one of them each beats once more, so that
they are found as if they had never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from lbcore.adapters.base import Hangup, Report, Send
from lbcore.adapters.heartbeat import Heartbeat, HeartbeatOutput, RemoveRecord, WriteRecord
from lbcore.adapters.responder import Responder
from lbcore.adapters.understudy import Understudy
from lbcore.events import Event, MembersSeen
from lbcore.intents import (
    Announce,
    AnnounceAnew,
    Intent,
    SetLinks,
    SetPeers,
    SetPresence,
    SetWatches,
    StandBy,
    Withdraw,
)
from lbcore.simulation.clock import Clock, Trace
from lbcore.simulation.gossip import GossipMember
from lbcore.simulation.segment import MemberRecords
from lbcore.simulation.watching import Watching

__all__ = ["EXPIRY", "INTERVAL", "Pulse", "Reflex", "ReflexWiring"]

INTERVAL, EXPIRY, SETTLE = 0.1, 0.5, 2.0  # seconds: what `lbcore.daemons.reflex` is started with
_PORTION, _PAUSE = 2, 0.0001  # addresses taken over at a time, as few as makes portions of it; seconds
_UNREST = SETTLE + 2 * EXPIRY  # seconds after which whatever happened to a member is known to all


class ReflexWiring:
    """What a reflex process is connected to: `send` a frame, `report` to whatever parent there is."""

    def __init__(
        self,
        clock: Clock,
        trace: Trace,
        records: MemberRecords,
        pulse: Pulse,
        *,
        send: Callable[[bytes], None],
        report: Callable[[Event], None],
        is_running: Callable[[], bool],
        gossip: Callable[[Callable[[Event], None], random.Random], GossipMember] | None = None,
    ) -> None:
        self.clock = clock
        self.trace = trace
        self.records = records
        self.pulse = pulse
        self.send = send
        self.report = report
        self.is_running = is_running
        self.gossip = gossip  # makes a member of who is to hear its reports; None: members keep records


class Pulse:
    """All heartbeats: whether they are needed just now."""

    def __init__(self, clock: Clock, records: MemberRecords) -> None:
        self._clock = clock
        self._records = records
        self._reflexes: list[Reflex] = []
        self._until = 0.0
        self._resting = False
        self.last_doubt = 0.0  # when somebody's life was last in question
        self.rousing: list[Callable[[], None]] = []  # others that rest while nobody's life is

    def join(self, reflex: Reflex) -> None:
        """A reflex process has been born."""
        self.rouse()
        self._reflexes.append(reflex)
        reflex.beat()

    def leave(self, reflex: Reflex) -> None:
        """A reflex process has ended, in whatever way."""
        self.rouse()
        self._reflexes.remove(reflex)

    def rouse(self) -> None:
        """Something is about to happen to a member: everybody beats again, from a state as if they always had."""
        self.last_doubt = self._clock.now
        for rouse in self.rousing:
            rouse()
        self._until = self._clock.now + _UNREST
        if not self._resting:
            return
        self._resting = False
        running = [reflex for reflex in self._reflexes if reflex.is_running]
        for reflex in running:
            reflex.catch_up_writing()
        for reflex in running:
            reflex.catch_up_reading()
        for reflex in self._reflexes:
            reflex.plan_beat()

    @property
    def resting(self) -> bool:
        """Whether nobody needs to beat; worked out anew when enough time has passed since the last doubt."""
        if not self._resting and self._clock.now >= self._until:
            self._resting = self._is_steady()
        return self._resting

    @property
    def beating(self) -> frozenset[str]:
        """The nodes that are alive to all who can read the store."""
        return frozenset(reflex.node for reflex in self._reflexes if reflex.is_beating)

    def _is_steady(self) -> bool:
        living = self.beating
        return all(
            reflex.seen is not None and reflex.seen.names == living
            for reflex in self._reflexes
            if reflex.is_running and reflex.node not in self._records.cut
        )


class Reflex:
    """One reflex process, from its birth to its end."""

    def __init__(
        self,
        node: str,
        wiring: ReflexWiring,
        rng: random.Random,
        *,
        refresh: float | None,
        watching: Watching | None = None,
    ) -> None:
        self.node = node
        self.watching = watching
        self.ended = False
        self._in = wiring
        self.responder = Responder(rng=rng, refresh=refresh)
        self.understudy = Understudy(node)
        self.heartbeat = Heartbeat(node, rng.getrandbits(62), rng=rng, interval=INTERVAL, expiry=EXPIRY, settle=SETTLE)
        self._gossip = None if wiring.gossip is None else wiring.gossip(self._report_soon, rng)
        self._tick_at: float | None = None
        self._beat_planned = False

    @property
    def is_running(self) -> bool:
        """Whether it gets any time from its machine."""
        return not self.ended and self._in.is_running()

    @property
    def is_beating(self) -> bool:
        """Whether the others can see that it lives."""
        if self._gossip is not None:
            return self.is_running and self._gossip.present
        return self.is_running and self.heartbeat.present and self.node not in self._in.records.cut

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported of members, or None before the first report."""
        return self.heartbeat.seen if self._gossip is None else self._gossip.seen

    def end(self, *, politely: bool) -> None:
        """Be gone: with a word to the others, or without."""
        if self.ended:
            return
        if self._gossip is not None:
            self._gossip.end(politely=politely)
        elif politely:
            self._in.pulse.rouse()
            self._carry_out(self.heartbeat.command(SetPresence(present=False, why="the end"), self._in.clock.now))
        self._in.pulse.leave(self)
        if self.watching is not None and politely:
            self.watching.close()
        elif self.watching is not None:
            self.watching.die()
        self.ended = True

    # What comes in

    def obey(self, intent: Intent) -> None:
        """Carry out a command of the parent."""
        now = self._in.clock.now
        match intent:
            case SetPresence() if self._gossip is not None:
                self._in.pulse.rouse()
                self._gossip.command(intent)
            case SetPresence():
                self._in.pulse.rouse()
                self._carry_out(self.heartbeat.command(intent, now))
            case Announce() | Withdraw():
                self.understudy.settle(intent.address)
                self._carry_out(self.responder.command(intent, now))
                self._plan_tick()
            case StandBy():
                self._carry_out(self.responder.command(Withdraw(address=intent.address), now))
                self.understudy.command(intent)
                self._take_over()
            case AnnounceAnew() | SetLinks():
                self._carry_out(self.responder.command(intent, now))
                self._plan_tick()
            case SetWatches(watches) if self.watching is not None:
                self.watching.set(watches)
            case SetPeers():
                pass  # who shares the records is found there, and who gossips was named at the start
            case _:
                raise ValueError(f"{type(intent).__name__} is not for Layer 2")

    def take_frame(self, frame: bytes, link: int) -> None:
        """A frame has arrived on a link."""
        outputs = self.responder.receive(frame, link, self._in.clock.now)
        if outputs:
            self._carry_out(outputs)
        self._plan_tick()

    def answer(self, frame: bytes, link: int) -> list[bytes]:
        """The frames that it would send in answer to one."""
        outputs = self.responder.receive(frame, link, self._in.clock.now)
        return [output.data for output in outputs if isinstance(output, Send)]

    # Time

    def beat(self) -> None:
        """Look at the others' records and renew the own one, when it is time."""
        self._beat_planned = False
        if not self.is_running or self._gossip is not None:
            return
        now = self._in.clock.now
        if self.heartbeat.deadline <= now:
            records = self._in.records.read(self.node)
            if records is not None:
                self._carry_out(self.heartbeat.observe(records, now))
            self._carry_out(self.heartbeat.tick(now))
        if not self._in.pulse.resting:
            self.plan_beat()

    def plan_beat(self) -> None:
        """Beat when it is time."""
        if not self._beat_planned and not self.ended and self._gossip is None:
            self._beat_planned = True
            self._in.clock.at(self.heartbeat.deadline, self.beat)

    def catch_up_writing(self) -> None:
        """Renew the own record, as if it had been renewed all the time."""
        if self._gossip is not None:
            return
        for output in self.heartbeat.tick(self._in.clock.now):
            if isinstance(output, WriteRecord):
                self._in.records.write_now(self.node, output.data)
            elif isinstance(output, Report):
                self._see(output.event)
                self._in.report(output.event)

    def catch_up_reading(self) -> None:
        """See everybody's records renewed."""
        if self._gossip is not None:
            return
        records = self._in.records.read(self.node)
        if records is not None:
            self._carry_out(self.heartbeat.observe(records, self._in.clock.now))

    def wake(self) -> None:
        """After standing still: do what has become due."""
        self._tick_at = None
        if self._gossip is not None:
            self._gossip.wake()
        self._take_over()
        self.plan_beat()
        self._plan_tick()

    def _plan_tick(self) -> None:
        deadline = self.responder.deadline
        if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = deadline
            self._in.clock.at(deadline, self._tick, deadline)

    def _tick(self, planned: float) -> None:
        if self._tick_at != planned or not self.is_running:
            return
        self._tick_at = None
        self._carry_out(self.responder.tick(self._in.clock.now))
        self._plan_tick()

    # Outputs

    def _carry_out(self, outputs: Sequence[Send[int] | Report | Hangup | HeartbeatOutput]) -> None:
        for output in outputs:
            match output:
                case Send(data, _):
                    self._in.send(data)
                case Report(event):
                    self._report_soon(event)
                case WriteRecord(data):
                    self._in.records.write(self.node, data)
                case RemoveRecord():
                    self._in.records.remove(self.node)
                case Hangup(reason):
                    self._in.trace.add(self.node, f"reflex: {reason}")

    def _see(self, event: Event) -> None:
        if isinstance(event, MembersSeen):
            self.understudy.see(event.names)
            self._take_over()

    def _take_over(self) -> None:
        """What was told beforehand, in portions between which others have their turn."""
        for intent in self.understudy.due(_PORTION):
            self._carry_out(self.responder.command(intent, self._in.clock.now))
        self._plan_tick()
        if self.understudy.waiting:
            self._in.clock.after(_PAUSE, self._take_over_more)

    def _take_over_more(self) -> None:
        if self.is_running:
            self._take_over()

    def _report_soon(self, event: Event) -> None:
        self._see(event)
        self._in.clock.after(0.0002, partial(self._report, event))

    def _report(self, event: Event) -> None:
        if not self.ended:
            self._in.report(event)

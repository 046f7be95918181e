"""The loop, without I/O: one inbox, one brain, and who carries out which intent when.

It holds the one state variable. `receive` takes events in, `tick` does one step and says what to
carry out now, `done` takes the outcome back; asyncio (`carrier`) or a virtual clock drives it.

- The inbox keeps the newest event per subject, in the place of the one it replaces, and never
  merges a deleted Service with one created anew under its name, nor a change with what was listed
  before a `Listed`: a list without what went away meanwhile, and without what came in its place, is
  a cluster that never was. What failover depends on overtakes the rest.
- Each intent type has one sink, and waits for its turn in that one's lane (`lanes`). What failed is
  tried again later, at growing and jittered intervals, unless something newer has come.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from attrs import frozen

from lbcore.brain import Brain, Step
from lbcore.daemons.lanes import Lane, LaneState
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    Event,
    Failed,
    LeadershipSeen,
    LinksSeen,
    Listed,
    MembersSeen,
    ServiceGone,
    ServiceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import Intent

__all__ = ["Dispatch", "Loop", "Turn"]

S = TypeVar("S")

_URGENT = (MembersSeen, LeadershipSeen, LinksSeen, AddressHeard, AnsweringSeen, Stopping)
_FIRST_RETRY, _LAST_RETRY = 0.1, 30.0  # seconds, doubling in between, each +-25 %


@frozen
class Dispatch:
    """Carry out this intent now, in that lane; report with `done`."""

    lane: str
    intent: Intent


@frozen(kw_only=True)
class Turn:
    """What one tick did: the event that the brain saw (None: none was due), what it wants, what to start."""

    event: Event | None = None
    intents: tuple[Intent, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()


def _identity(event: Event) -> Hashable:
    """What an event is about, for merging: a Service's uid keeps its incarnations apart."""
    match event:
        case ServiceSeen(service):
            return (*event.subject, service.uid)
        case ServiceGone(_, uid):
            return (*event.subject, uid)
        case _:
            return event.subject


class Loop(Generic[S]):
    """One brain at work. `state` is the brain's, `deadline` when `tick` is due (None: after an event only)."""

    def __init__(self, brain: Brain[S], state: S, lanes: Sequence[Lane], rng: random.Random) -> None:
        self.state = state
        self._brain = brain
        self._rng = rng
        # Taken from the front: a dict passes over every place that was taken before, 5.7 s for 100,000 events.
        self._urgent: OrderedDict[Hashable, Event] = OrderedDict()
        self._inbox: OrderedDict[Hashable, Event] = OrderedDict()
        self._lists = 0  # told so far
        self._lanes = {lane.name: LaneState(lane) for lane in lanes}
        self._lane_of: Mapping[type[Intent], LaneState] = {
            intent: self._lanes[lane.name] for lane in lanes for intent in lane.handles
        }
        self._wake_at: float | None = None
        self._retries: list[tuple[float, int, Intent]] = []
        self._retry_count = 0

    @property
    def deadline(self) -> float | None:
        """When `tick` should be called next, on the clock of `now`; in the past when there is work now."""
        if self._urgent or self._inbox or any(lane.can_start for lane in self._lanes.values()):
            return 0.0
        times = [time for time in (self._wake_at, self._retries[0][0] if self._retries else None) if time is not None]
        return min(times, default=None)

    @property
    def idle(self) -> bool:
        """Whether nothing waits: no event, no intent on its way or waiting for another try."""
        return all(lane.idle for lane in self._lanes.values()) and not (self._urgent or self._inbox)

    @property
    def events_waiting(self) -> int:
        """How many events the brain has yet to look at."""
        return len(self._urgent) + len(self._inbox)

    @property
    def intents_pending(self) -> int:
        """How many intents wait, are under way, or will be tried again."""
        return sum(lane.pending for lane in self._lanes.values())

    def receive(self, event: Event) -> None:
        """Take an event in; it replaces one about the same thing that has not been looked at yet."""
        if isinstance(event, _URGENT):
            self._urgent[_identity(event)] = event
            return
        self._inbox[self._lists, _identity(event)] = event
        if isinstance(event, Listed):
            self._lists += 1

    def tick(self, now: float) -> Turn:
        """One step of the brain, if one is due, and every intent that may start now."""
        self._collect_retries(now)
        event = self._next_event(now)
        if event is None:
            return Turn(dispatches=self._start())
        step: Step[S] = self._brain(self.state, event, now)
        self.state, self._wake_at = step.state, step.wake_at
        if isinstance(event, LeadershipSeen) and not event.leading:
            for each in self._lanes.values():
                each.forget()
        for intent in step.intents:
            self._lane_of[type(intent)].put(intent)
        return Turn(event=event, intents=step.intents, dispatches=self._start())

    def done(self, lane_name: str, outcome: Applied | Failed, now: float) -> None:
        """A dispatched intent has been carried out, or has failed."""
        lane, subject = self._lanes[lane_name], outcome.intent.subject
        if subject in lane.unwanted:
            lane.unwanted.discard(subject)
            lane.refused(outcome.intent)
            return
        if isinstance(outcome, Failed) and outcome.retry:
            again = lane.failed(outcome.intent)
            if again is not None:
                self._try_again(lane, again, now)
            return
        lane.attempts.pop(subject, None)
        if isinstance(outcome, Applied):
            lane.applied(outcome.intent)
        else:
            lane.refused(outcome.intent)
        if lane.lane.reports:
            self.receive(outcome)

    def _next_event(self, now: float) -> Event | None:
        for lane in (self._urgent, self._inbox):
            if lane:
                return lane.popitem(last=False)[1]
        if self._wake_at is not None and self._wake_at <= now:
            return Tick()
        return None

    def _start(self) -> tuple[Dispatch, ...]:
        dispatches = []
        for name, lane in self._lanes.items():
            while lane.can_start:
                dispatches.append(Dispatch(name, lane.start()))
        return tuple(dispatches)

    def _try_again(self, lane: LaneState, intent: Intent, now: float) -> None:
        attempt = lane.attempts.get(intent.subject, 0)
        lane.attempts[intent.subject] = attempt + 1
        pause = min(_FIRST_RETRY * 2 ** min(attempt, 16), _LAST_RETRY) * self._rng.uniform(0.75, 1.25)
        self._retry_count += 1
        lane.retrying[intent.subject] = self._retry_count
        heapq.heappush(self._retries, (now + pause, self._retry_count, intent))

    def _collect_retries(self, now: float) -> None:
        while self._retries and self._retries[0][0] <= now:
            _, number, intent = heapq.heappop(self._retries)
            lane = self._lane_of[type(intent)]
            # What failed before something newer was wanted must not come after it, even when that failed too.
            if lane.retrying.get(intent.subject) == number:
                del lane.retrying[intent.subject]
                lane.line_up(intent)

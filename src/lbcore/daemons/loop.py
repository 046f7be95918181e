"""The loop, without I/O: one inbox, one brain, and who carries out which intent when.

It holds the one state variable. `receive` takes events in, `tick` does one step and says what to
carry out now, `done` takes the outcome back; asyncio (`carrier`) or a virtual clock drives it.

- The inbox keeps the newest event per subject, in the place of the one it replaces, and never
  merges a deleted Service with one created anew under its name, nor a change with what was listed
  before a `Listed`: a list without what went away meanwhile, and without what came in its place, is
  a cluster that never was. What failover depends on overtakes the rest.
- Each intent type has one sink. For one subject, intents are carried out one at a time and in
  order; one that still waits is replaced by a newer. What failed is tried again later, at growing
  and jittered intervals, unless something newer has come. A status that shows an address which
  another gives up is written when that one is.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from attrs import define, field, frozen

from lbcore.brain import Brain, Step
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    Event,
    Failed,
    LinksSeen,
    Listed,
    MembersSeen,
    ServiceGone,
    ServiceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import Intent, SetAddresses

__all__ = ["Dispatch", "Lane", "Loop", "Turn"]

S = TypeVar("S")

_URGENT = (MembersSeen, LinksSeen, AddressHeard, AnsweringSeen, Stopping)
_FIRST_RETRY, _LAST_RETRY = 0.1, 30.0  # seconds, doubling in between, each +-25 %


@frozen(kw_only=True)
class Lane:
    """A way out: the intent types that go there, and how many may be under way at once."""

    name: str
    handles: tuple[type[Intent], ...]
    concurrency: int = 16


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


@define
class _LaneState:
    """Intents by subject: which may start, which wait behind one that is under way, which for another
    subject's (`held`, each with the subject that it waits for; `holds` is the way back), and which failed.
    """

    lane: Lane
    ready: dict[Hashable, Intent] = field(factory=dict)
    behind: dict[Hashable, Intent] = field(factory=dict)
    held: dict[Hashable, tuple[Intent, Hashable]] = field(factory=dict)
    holds: dict[Hashable, dict[Hashable, None]] = field(factory=dict)
    running: dict[Hashable, Intent] = field(factory=dict)
    attempts: dict[Hashable, int] = field(factory=dict)
    retrying: dict[Hashable, int] = field(factory=dict)  # the number of the try that is still wanted

    @property
    def can_start(self) -> bool:
        """Whether something could be carried out now."""
        return bool(self.ready) and len(self.running) < self.lane.concurrency

    @property
    def pending(self) -> int:
        """How many wait, are under way, or will be tried again."""
        return len(self.ready) + len(self.behind) + len(self.held) + len(self.running) + len(self.retrying)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, is under way, or will be tried again."""
        return not (self.ready or self.behind or self.held or self.running or self.retrying)

    def is_pending(self, subject: Hashable) -> bool:
        """Whether something about a subject is still to be carried out."""
        return any(subject in each for each in (self.ready, self.behind, self.held, self.running, self.retrying))

    def put(self, intent: Intent) -> None:
        """Line an intent up, in the place of an older one for its subject."""
        subject = intent.subject
        if subject in self.running:
            self.behind[subject] = intent
            return
        first = next((each for each in _after(intent) if self._goes_first(each, subject)), None)
        if first is None:
            self.held.pop(subject, None)
            self.ready[subject] = intent
            return
        self.ready.pop(subject, None)
        self.held[subject] = (intent, first)
        self.holds.setdefault(first, {})[subject] = None

    def _goes_first(self, other: Hashable, subject: Hashable) -> bool:
        """Whether a subject has to wait for another: not where that one, in the end, waits for it."""
        last = other
        while last in self.held and last != subject:
            last = self.held[last][1]
        return last != subject and self.is_pending(other)

    def release(self, subject: Hashable) -> None:
        """Line up anew what was held up by a subject, if nothing about that is left to do."""
        if not self.is_pending(subject):
            for each in self.holds.pop(subject, ()):
                if each in self.held:
                    self.put(self.held[each][0])

    def start(self) -> Intent:
        """Take the one that has waited longest under way."""
        subject = next(iter(self.ready))
        intent = self.running[subject] = self.ready.pop(subject)
        return intent

    def finish(self, subject: Hashable) -> bool:
        """One is no longer under way; whether a newer one waited behind it, which may start now."""
        self.running.pop(subject, None)
        newer = self.behind.pop(subject, None)
        if newer is not None:
            self.put(newer)
        return newer is not None


def _after(intent: Intent) -> tuple[Hashable, ...]:
    """The subjects that an intent is to be carried out after."""
    return tuple(("service", str(key)) for key in intent.after) if isinstance(intent, SetAddresses) else ()


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
        self._urgent: dict[Hashable, Event] = {}
        self._inbox: dict[Hashable, Event] = {}
        self._lists = 0  # told so far
        self._lanes = {lane.name: _LaneState(lane) for lane in lanes}
        self._lane_of: Mapping[type[Intent], _LaneState] = {
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
        for intent in step.intents:
            lane = self._lane_of[type(intent)]
            lane.put(intent)
            lane.attempts.pop(intent.subject, None)
            lane.retrying.pop(intent.subject, None)
        return Turn(event=event, intents=step.intents, dispatches=self._start())

    def done(self, lane_name: str, outcome: Applied | Failed, now: float) -> None:
        """A dispatched intent has been carried out, or has failed."""
        lane, subject = self._lanes[lane_name], outcome.intent.subject
        newer = lane.finish(subject)
        if isinstance(outcome, Failed) and outcome.retry:
            if not newer:
                self._try_again(lane, outcome.intent, now)
            return
        lane.attempts.pop(subject, None)
        lane.release(subject)
        self.receive(outcome)

    def _next_event(self, now: float) -> Event | None:
        for lane in (self._urgent, self._inbox):
            if lane:
                return lane.pop(next(iter(lane)))
        if self._wake_at is not None and self._wake_at <= now:
            return Tick()
        return None

    def _start(self) -> tuple[Dispatch, ...]:
        dispatches = []
        for name, lane in self._lanes.items():
            while lane.can_start:
                dispatches.append(Dispatch(name, lane.start()))
        return tuple(dispatches)

    def _try_again(self, lane: _LaneState, intent: Intent, now: float) -> None:
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
                lane.put(intent)

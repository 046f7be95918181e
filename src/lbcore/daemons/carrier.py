"""Asyncio carries a loop: sources in, sinks out, one consumer, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from attrs import field, frozen

from lbcore.backends import heap
from lbcore.backends.base import Sink, Source
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Dispatch, Loop
from lbcore.events import Applied, Event, Failed, Stopping
from lbcore.intents import Intent

__all__ = ["Carrier", "MonotonicClock", "Observer", "Outlet", "calm_collector"]

S = TypeVar("S")

Observer = Callable[[Event | None, Sequence[Intent]], None]

_TAKE = 64  # events taken from one source before the brain gets its turn
_TURN = 0.001  # seconds of steps before others get theirs: requests under way wait no longer than for one long step
_DRAIN = 2.0  # seconds that intents under way are given when the brain of a daemon that stops has let go


class MonotonicClock:
    """Seconds since the event loop's own beginning."""

    def now(self) -> float:
        """The time."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, moment: float) -> None:
        """Return at `moment` or later."""
        await asyncio.sleep(max(0.0, moment - self.now()))


def calm_collector() -> None:
    """Set the garbage collector so that no step of a brain waits long for it.

    What a brain keeps is long-lived and has no cycles: reference counts do the work, and there is
    little to find. Measured with 10,000 Services: a look at the 50,000 youngest objects takes 13 ms, at
    2,000 it takes 1; one at everything takes 80 ms (1 s with 50,000 Services), which is why a daemon that
    has settled freezes them. Two looks at the youngest 700 are followed by one at what they left, at 2,100 or
    less; with (2,000, 5), at 12,000, the longest step of an election took nearly twice as long. The last
    number puts off the look at everything: 95,000 times those 2,100 are 200 million new objects.
    """
    gc.set_threshold(700, 2, 95_000)


@frozen(kw_only=True)
class Outlet:
    """A sink with the lane that leads to it."""

    sink: Sink
    lane: Lane

    @classmethod
    def to(
        cls,
        name: str,
        sink: Sink,
        *,
        concurrency: int = 16,
        only: Iterable[type[Intent]] | None = None,
        reports: bool = True,
    ) -> Outlet:
        """An outlet for everything that a sink handles, or for some of it."""
        handles = sink.handles if only is None else tuple(only)
        return cls(sink=sink, lane=Lane(name=name, handles=handles, concurrency=concurrency, reports=reports))


@frozen(kw_only=True)
class Carrier(Generic[S]):
    """Everything that one daemon is made of, ready to run.

    `is_stopped` says whether a state has let go of everything after `Stopping`, `is_settled` whether
    the brain has caught up with all there was at the start. `on_step` is told how many seconds each
    step took.
    """

    loop: Loop[S]
    sources: tuple[Source, ...]
    outlets: tuple[Outlet, ...]
    is_stopped: Callable[[S], bool]
    is_settled: Callable[[S], bool]
    observers: tuple[Observer, ...] = ()
    on_step: Callable[[float], None] | None = None
    clock: MonotonicClock = field(factory=MonotonicClock)
    _wake: asyncio.Event = field(factory=asyncio.Event, init=False)

    def stop(self) -> None:
        """Ask the brain to hand over; `run` returns when it has."""
        self.receive(Stopping())

    def receive(self, event: Event) -> None:
        """Put an event into the inbox."""
        self.loop.receive(event)
        self._wake.set()

    async def run(self) -> None:
        """Run until stopped. An exception of a source ends it, and is raised as it is."""
        calm_collector()
        tasks = [asyncio.create_task(self._follow(source)) for source in self.sources]
        work = asyncio.create_task(self._work())
        try:
            running: set[asyncio.Task[None]] = {work, *tasks}
            while not work.done():
                finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    task.result()
        finally:
            for task in (work, *tasks):
                task.cancel()
            await asyncio.gather(work, *tasks, return_exceptions=True)

    async def _follow(self, source: Source) -> None:
        events = source.events()
        taken = 0
        try:
            async for event in events:
                self.receive(event)
                taken += 1
                if taken % _TAKE == 0:
                    await asyncio.sleep(0)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    async def _work(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        try:
            await self._take_turns(under_way)
        finally:
            # A write that hangs does not outlive the daemon that asked for it.
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _take_turns(self, under_way: set[asyncio.Task[None]]) -> None:
        sinks = {outlet.lane.name: outlet.sink for outlet in self.outlets}
        stopping = settled = False
        give_up_at: float | None = None
        began = self.clock.now()
        while True:
            now = self.clock.now()
            turn = self.loop.tick(now)
            if self.on_step is not None and turn.event is not None:
                self.on_step(self.clock.now() - now)
            for observer in self.observers:
                observer(turn.event, turn.intents)
            for dispatch in turn.dispatches:
                task = asyncio.create_task(self._carry_out(sinks[dispatch.lane], dispatch))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            if not settled and self.is_settled(self.loop.state):
                settled = True
                heap.trim()
                gc.freeze()  # 7 us; an older generation then holds only what has come since
            stopping |= isinstance(turn.event, Stopping)
            if stopping and self.is_stopped(self.loop.state):
                give_up_at = now + _DRAIN if give_up_at is None else give_up_at
                if self.loop.idle or now >= give_up_at:
                    return
            deadline = self.loop.deadline
            if deadline is None or deadline > now or self.clock.now() - began > _TURN:
                await self._pause(deadline, give_up_at)
                began = self.clock.now()

    async def _pause(self, deadline: float | None, at_most_until: float | None) -> None:
        """Give others their turn; sleep until something is due."""
        if at_most_until is not None:
            deadline = at_most_until if deadline is None else min(deadline, at_most_until)
        if deadline is not None and deadline <= self.clock.now():
            await asyncio.sleep(0)
            return
        timeout = None if deadline is None else deadline - self.clock.now()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout)
        self._wake.clear()

    async def _carry_out(self, sink: Sink, dispatch: Dispatch) -> None:
        try:
            outcome: Applied | Failed = await sink.apply(dispatch.intent)
        except Exception as error:
            outcome = Failed(intent=dispatch.intent, message=f"{type(error).__name__}: {error}")
        for observer in self.observers:
            observer(outcome, ())
        self.loop.done(dispatch.lane, outcome, self.clock.now())
        self._wake.set()

"""asyncio carries a controller between a cluster in memory and itself: what comes in, goes out, fails and ends."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from lbcore import assignment
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.base import Sink, Source
from lbcore.backends.memory import MemoryCluster
from lbcore.config import Pool
from lbcore.daemons.carrier import Carrier, Outlet
from lbcore.daemons.loop import Loop
from lbcore.events import Applied, Event, Failed, NamespaceSeen
from lbcore.intents import Intent, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.model import Namespace, Service
from worlds import ipv6, plain_service

POOL = Pool.parse("p", "2001:db8::/120")


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    """A carrier sets the garbage collector for a daemon's life; other tests have theirs."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def controller(
    cluster: MemoryCluster, *more: Source, sink: Sink | None = None, stopped: bool = True
) -> Carrier[AssignmentState]:
    outlet = Outlet.to("cluster", sink or cluster.sink, concurrency=4)
    settings = AssignmentSettings(config_quiet=0.01)
    return Carrier(
        loop=Loop(assignment.step, AssignmentState(settings=settings), [outlet.lane], random.Random(1)),
        sources=(cluster.source(assignment.NEEDS), *more),
        outlets=(outlet,),
        is_stopped=lambda _: stopped,
        is_settled=lambda state: state.settled,
    )


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what is waited for is any state of either side
            await asyncio.sleep(0.001)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(bounded())


def cluster_of(count: int) -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.put(POOL, Namespace(name="red"), *(six(f"s{number}") for number in range(count)))
    return cluster


def six(name: str) -> Service:
    return plain_service(name, cluster_ips=("fd00::1",))


def test_services_get_addresses_end_to_end_and_then_it_is_quiet() -> None:
    async def story() -> None:
        cluster = cluster_of(20)
        carrier = controller(cluster)
        task = asyncio.create_task(carrier.run())
        await until(lambda: len(cluster.statuses) == 20 and carrier.loop.idle)
        held = [address for service in cluster.services.values() for address in service.held]
        assert [ipv6(number) for number in range(20)] == sorted(held)
        written = len(cluster.written)
        cluster.put(six("late"))
        await until(lambda: len(cluster.statuses) == 21 and carrier.loop.idle)
        new = [type(intent) for intent in cluster.written[written:]]
        assert sorted([SetAddresses, RecordEvent, SetPoolUsage], key=str) == sorted(new, key=str)
        carrier.stop()
        await task

    run(story)


def test_a_controller_that_is_started_again_writes_nothing_to_those_who_hold() -> None:
    async def story() -> None:
        cluster = cluster_of(20)
        for expected in (20, 0):
            before = len(cluster.written)
            carrier = controller(cluster)
            task = asyncio.create_task(carrier.run())
            await until(lambda: carrier.loop.state.settled and carrier.loop.idle)  # noqa: B023
            carrier.stop()
            await task
            writes = [intent for intent in cluster.written[before:] if isinstance(intent, SetAddresses)]
            assert expected == len(writes)

    run(story)


def test_writes_that_fail_are_tried_again_until_they_succeed() -> None:
    async def story() -> None:
        cluster = cluster_of(5)
        cluster.fail_next(12)
        carrier = controller(cluster)
        task = asyncio.create_task(carrier.run())
        await until(lambda: len(cluster.statuses) == 5 and carrier.loop.idle)
        carrier.stop()
        await task

    run(story)


class Raising:
    """A sink that breaks the contract: it raises, every other time."""

    handles: tuple[type[Intent], ...] = (SetAddresses, RecordEvent, SetPoolUsage, ReportConfig)

    def __init__(self, inner: Sink) -> None:
        self.inner = inner
        self.calls = 0

    async def apply(self, intent: Intent) -> Applied | Failed:
        self.calls += 1
        if self.calls % 2:
            raise ConnectionResetError("the API server went away")
        return await self.inner.apply(intent)


def test_a_sink_that_raises_has_failed_and_is_asked_again() -> None:
    async def story() -> None:
        cluster = cluster_of(3)
        heard: list[Event | None] = []
        plain = controller(cluster, sink=Raising(cluster.sink))
        carrier = Carrier(
            loop=plain.loop,
            sources=plain.sources,
            outlets=plain.outlets,
            is_stopped=plain.is_stopped,
            is_settled=plain.is_settled,
            observers=(lambda event, _: heard.append(event),),
        )
        task = asyncio.create_task(carrier.run())
        await until(lambda: len(cluster.statuses) == 3 and carrier.loop.idle)
        messages = {event.message for event in heard if isinstance(event, Failed)}
        assert {"ConnectionResetError: the API server went away"} == messages
        carrier.stop()
        await task

    run(story)


class Telling:
    """A source that tells one thing, and then fails or waits; knows whether it was closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = False

    async def events(self) -> AsyncIterator[Event]:
        try:
            yield NamespaceSeen(Namespace(name="blue"))
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.closed = True


def test_an_exception_of_a_source_ends_the_daemon_as_it_is() -> None:
    async def story() -> None:
        error = PermissionError("netlink says no")
        waiting = Telling()
        carrier = controller(cluster_of(1), Telling(error), waiting, stopped=False)
        with pytest.raises(PermissionError) as caught:
            await carrier.run()
        assert error is caught.value
        assert waiting.closed
        assert {asyncio.current_task()} == asyncio.all_tasks()  # nothing of it goes on

    run(story)


class Hanging:
    """A sink whose statuses never arrive; knows which were given up."""

    handles: tuple[type[Intent], ...] = (SetAddresses, RecordEvent, SetPoolUsage, ReportConfig)

    def __init__(self) -> None:
        self.under_way = 0
        self.given_up = 0

    async def apply(self, intent: Intent) -> Applied | Failed:
        if not isinstance(intent, SetAddresses):
            return Applied(intent)
        self.under_way += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return Applied(intent)


@pytest.mark.slow
def test_a_write_that_hangs_holds_up_the_end_for_two_seconds_and_no_longer() -> None:
    async def story() -> None:
        sink = Hanging()
        carrier = controller(cluster_of(3), sink=sink)
        task = asyncio.create_task(carrier.run())
        await until(lambda: sink.under_way == 3)
        carrier.stop()
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(4):
            await task
        assert 1.9 <= asyncio.get_running_loop().time() - began
        assert 3 == sink.given_up

    run(story)


class Slow:
    """A sink that takes a moment for each status."""

    handles: tuple[type[Intent], ...] = (SetAddresses, RecordEvent, SetPoolUsage, ReportConfig)

    def __init__(self) -> None:
        self.done: list[Intent] = []

    async def apply(self, intent: Intent) -> Applied | Failed:
        await asyncio.sleep(0.05)
        self.done.append(intent)
        return Applied(intent)


def test_what_is_under_way_when_the_daemon_stops_is_finished() -> None:
    async def story() -> None:
        sink = Slow()
        carrier = controller(cluster_of(6), sink=sink)
        task = asyncio.create_task(carrier.run())
        await until(lambda: not carrier.loop.idle and carrier.loop.state.settled)
        carrier.stop()
        await task
        assert 6 == len([intent for intent in sink.done if isinstance(intent, SetAddresses)])

    run(story)


def test_a_daemon_whose_brain_has_not_let_go_goes_on() -> None:
    async def story() -> None:
        cluster = cluster_of(1)
        carrier = controller(cluster, stopped=False)
        task = asyncio.create_task(carrier.run())
        carrier.stop()
        cluster.put(six("late"))
        await until(lambda: len(cluster.statuses) == 2)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story)

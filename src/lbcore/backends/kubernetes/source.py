"""One list and one watch for each kind asked for, carried by asyncio; what they mean is the engine's to say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable

import aiohttp

from lbcore.adapters.base import Hangup, Report
from lbcore.adapters.kubernetes.api import RESOURCES, ApiResource
from lbcore.adapters.kubernetes.watching import Fetch, Follow, ListEnded, Setback, Watching, WatchOutput
from lbcore.backends.kubernetes.client import Client
from lbcore.events import Event, Kind, Listed

__all__ = ["KubernetesSource", "drive", "follow"]

Emit = Callable[[Watching, Event | None], None]


class KubernetesSource:
    """Lists the objects of some kinds, then follows them. `watchings` are those of the last `events()`.

    `resources` are where objects of these kinds are read; a kind may be read in several places.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        kinds: frozenset[Kind],
        say: Callable[[str], None],
        resources: Iterable[ApiResource] = RESOURCES,
    ) -> None:
        self.kinds = kinds
        self.watchings: tuple[Watching, ...] = ()
        self._client = client
        self._namespace = namespace
        self._say = say
        self._resources = tuple(resources)

    async def events(self) -> AsyncGenerator[Event, None]:
        """What is there, `Listed` for each kind, then every change."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        rng = random.Random()
        self.watchings = tuple(Watching(each, rng=rng) for each in self._resources if each.kind in self.kinds)
        # Not `Watching.listed`: an engine has its list before what that tells has been put into the queue, and a
        # configuration that counts as told without its pools would take addresses away.
        untold = {kind: {each.resource for each in self.watchings if each.resource.kind is kind} for kind in Kind}

        def emit(watching: Watching, event: Event | None) -> None:
            kind, resource = watching.resource.kind, watching.resource
            if event is not None:
                queue.put_nowait(event)
            elif resource in untold[kind]:
                untold[kind].discard(resource)
                if not untold[kind]:
                    queue.put_nowait(Listed(kind))

        tasks = [
            asyncio.create_task(drive(self._client, each.resource.path(self._namespace), each, emit, self._say))
            for each in self.watchings
        ]
        for task in tasks:
            task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def newest(self, kind: str, name: str) -> dict[str, object] | None:
        """The newest document of an object, by its kind and `namespace/name`, where it is kept."""
        for watching in self.watchings:
            if watching.resource.name == kind and name in watching.latest:
                return watching.latest[name]
        return None


async def follow(
    client: Client, namespace: str, watching: Watching, say: Callable[[str], None]
) -> AsyncGenerator[Event, None]:
    """The events of one engine, for ever; `namespace` is the system's."""
    queue: asyncio.Queue[Event] = asyncio.Queue()

    def emit(_watching: Watching, event: Event | None) -> None:
        if event is not None:
            queue.put_nowait(event)

    task = asyncio.create_task(drive(client, watching.resource.path(namespace), watching, emit, say))
    try:
        while True:
            yield await queue.get()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drive(client: Client, path: str, watching: Watching, emit: Emit, say: Callable[[str], None]) -> None:
    """Carry one engine, for ever: `emit` gets its events, and None when its list has ended."""
    clock = asyncio.get_running_loop().time
    waiting: list[WatchOutput] = watching.start()
    said = ""
    while True:
        asked: Fetch | Follow | None = None
        for output in waiting:
            match output:
                case Report(event):
                    emit(watching, event)
                case ListEnded():
                    emit(watching, None)
                case Fetch() | Follow():
                    asked = output
                case Hangup():
                    pass  # the watch was left by then
        said = _tell_trouble(watching, said, say)
        if isinstance(asked, Fetch):
            answer = await client.request("GET", path, query=asked.query, within=60.0)
            if answer.setback is not None:
                waiting = watching.failed(answer.setback, clock())
            else:
                waiting = watching.page(answer.body, clock())
                await asyncio.sleep(0)
        elif isinstance(asked, Follow):
            waiting = await _follow(client, path, asked, watching, emit, clock)
        else:
            deadline = watching.deadline
            await asyncio.sleep(max(0.0, deadline - clock()) if deadline is not None else 0.0)
            waiting = watching.tick(clock())


async def _follow(
    client: Client, path: str, asked: Follow, watching: Watching, emit: Emit, clock: Callable[[], float]
) -> list[WatchOutput]:
    """One watch from its beginning to its end; what the engine says to that."""
    opened = False
    try:
        async with client.watch(path, asked.query) as stream:
            if isinstance(stream, Setback):
                return watching.failed(stream, clock())
            watching.opened(clock())
            opened = True
            async for data in stream:
                for output in watching.receive(data):
                    if isinstance(output, Hangup):
                        return watching.closed(clock())
                    if isinstance(output, Report):
                        emit(watching, output.event)
        return watching.closed(clock())
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        if opened:
            return watching.closed(clock())  # cut, as connections are: nobody's trouble unless the next one is refused
        return watching.failed(Setback(message=str(error) or type(error).__name__), clock())


def _tell_trouble(watching: Watching, said: str, say: Callable[[str], None]) -> str:
    """Say what keeps a kind from being read, once, and when that is over."""
    trouble = watching.trouble
    if trouble is not None and trouble.status == 401:
        return said  # of everything alike, and told by the client
    now = "" if trouble is None else trouble.message or f"status {trouble.status}"
    if now and not said:
        say(f"cannot read {watching.resource.plural}: {now}")
    elif said and not now:
        say(f"can read {watching.resource.plural} again")
    return now

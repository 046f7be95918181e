"""A folder of manifests as a cluster: what one gives to `kubectl apply -f FOLDER`, watched for change.

`FilesCluster` joins three parts that know nothing of each other: the reader of the folder
(`folder`), the watch that says when to look (`watch`), and the status beside the manifests
(`statuses`). It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator
from pathlib import Path

from lbcore.adapters.kubernetes.changes import OBJECT_KINDS, only_objects
from lbcore.adapters.kubernetes.documents import Ignored
from lbcore.backends.folder import FolderReader
from lbcore.backends.lock import hold
from lbcore.backends.statuses import DRAINED, STATUS_FOLDER, StatusWriter, UnsafeNameError, is_lasting, life_path
from lbcore.backends.watch import FolderWatch
from lbcore.events import Applied, Event, Failed, IngressGone, Kind, Listed, ServiceGone
from lbcore.ingress import ObjectKey
from lbcore.intents import (
    Intent,
    PublishIngress,
    RecordEvent,
    ReportConfig,
    ReportPeer,
    ReportWithheld,
    SetAddresses,
    SetPoolUsage,
)
from lbcore.model import ServiceKey

__all__ = ["FilesCluster", "FilesSink", "FilesSource", "PublishedSink", "SessionSink"]

BATCH = 500  # events taken from the reading thread at once: enough to make the hand-over cheap


def _pass_over(_note: Ignored) -> None:
    """Notes that nobody wants to hear."""


class FilesCluster:
    """A folder of YAML and JSON manifests, with as many sources as are asked for and one sink.

    The process that takes the `sink` is the one that writes status, and it also takes away the
    status of Services that are gone; processes that only take sources never write. `on_note` hears,
    once, of each document that has no effect (a Deployment, say); it is called from a thread.
    """

    def __init__(self, folder: str | os.PathLike[str], *, on_note: Callable[[Ignored], None] = _pass_over) -> None:
        # Made absolute but not resolved: a link that is turned to another folder is followed.
        self.folder = Path(folder).absolute()
        self._on_note = on_note
        self._readers: list[FolderReader] = []
        self._sink: FilesSink | None = None
        self._published: PublishedSink | None = None

    def source(self, kinds: Iterable[Kind]) -> FilesSource:
        """A source of these kinds. Raises `ValueError` for kinds that are no objects (members, links)."""
        return FilesSource(self, only_objects(kinds))

    @property
    def sink(self) -> FilesSink:
        """Where intents for this cluster go; there is one."""
        if self._sink is None:
            self._sink = FilesSink(self.folder, self._is_gone)
        return self._sink

    @property
    def published(self) -> PublishedSink:
        """Where statuses of Ingresses go. Who takes it also takes away those of Ingresses that are gone."""
        if self._published is None:
            self._published = PublishedSink(self.folder)
        return self._published

    def _is_gone(self, key: ServiceKey) -> bool:
        """Whether a source of this cluster knows all Services, and not this one."""
        listed = [reader for reader in self._readers if reader.listed and Kind.SERVICES in reader.kinds]
        return bool(listed) and not any(reader.tells(str(key)) for reader in listed)


class FilesSource:
    """Lists the objects of some kinds, then follows the folder.

    A folder that is not there is waited for: nothing is `Listed` before it has been read.
    """

    def __init__(self, cluster: FilesCluster, kinds: frozenset[Kind]) -> None:
        self._cluster = cluster
        self._kinds = kinds

    async def events(self) -> AsyncGenerator[Event, None]:
        """What is there, `Listed` for each kind, then every change.

        Reading and parsing happen in a thread, in pieces, so that the event loop stays free.
        """
        cluster = self._cluster
        reader = FolderReader(cluster.folder, self._kinds, cluster._on_note)
        cluster._readers.append(reader)
        try:
            async with FolderWatch(cluster.folder, _is_interesting(cluster.folder)) as watch:
                changed: Collection[str] | None = None
                while True:
                    listed = reader.listed
                    async for event in _in_thread(reader.look(time.monotonic(), changed)):
                        if isinstance(event, ServiceGone):
                            await self._take_away_status([str(event.key)])
                        if isinstance(event, IngressGone) and cluster._published is not None:
                            await cluster._published.forget([event.key])
                        yield event
                    if reader.listed and not listed:
                        for kind in OBJECT_KINDS:
                            if kind in self._kinds:
                                yield Listed(kind)
                        await self._take_away_status(reader.orphans())
                        if cluster._published is not None and Kind.INGRESSES in self._kinds and reader.is_whole:
                            await cluster._published.keep(lambda key: reader.tells(str(key), "ingress"))
                    changed = await watch.wait(_time_left(reader.look_again_at))
        finally:
            cluster._readers.remove(reader)

    async def _take_away_status(self, services: list[str]) -> None:
        if self._cluster._sink is not None:
            await self._cluster._sink.forget(services)


class FilesSink:
    """Writes status beside the manifests."""

    handles: tuple[type[Intent], ...] = (SetAddresses, RecordEvent, SetPoolUsage, ReportConfig)

    def __init__(self, folder: Path, is_gone: Callable[[ServiceKey], bool]) -> None:
        self._writer = StatusWriter(folder)
        self._is_gone = is_gone

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent, in a thread: a disk may be slow, a mount may hang."""
        if not isinstance(intent, self.handles):
            return Failed(intent=intent, message=f"a cluster does not do {type(intent).__name__}", retry=False)
        try:
            await asyncio.to_thread(self._write, intent)
        except UnsafeNameError as error:
            return Failed(intent=intent, message=str(error), retry=False)
        except OSError as error:
            return Failed(intent=intent, message=str(error), retry=not is_lasting(error))
        return Applied(intent)

    async def forget(self, services: list[str]) -> None:
        """Take away the status of Services (`namespace/name`) that are gone; one that stays does no harm."""
        if services:
            await asyncio.to_thread(self._remove, services)

    def _write(self, intent: Intent) -> None:
        match intent:
            case SetAddresses() if self._is_gone(intent.key):
                self._writer.remove(intent.key)
            case SetAddresses():
                self._writer.set_addresses(intent)
            case RecordEvent():
                self._writer.record_event(intent)
            case SetPoolUsage():
                self._writer.set_pool_usage(intent)
            case ReportConfig():
                self._writer.report_config(intent)

    def _remove(self, services: list[str]) -> None:
        for name in services:
            try:
                self._writer.remove(ServiceKey.parse(name))
            except OSError:
                return  # it is passed over when read, and taken away at the next start


class SessionSink:
    """What a speaker writes into the folder: how its BGP sessions are, what happened to them and to its node, and of
    which Services it tells routers later.
    """

    handles: tuple[type[Intent], ...] = (ReportPeer, ReportWithheld, RecordEvent)

    def __init__(self, folder: Path, node: str) -> None:
        self._writer = StatusWriter(folder)
        self._folder = folder
        self._node = node
        self._life: int | None = None  # the descriptor that shows it, open until the process ends

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent. Events about Services are the controller's to write, and said in the log here."""
        try:
            if isinstance(intent, ReportPeer):
                await asyncio.to_thread(self._writer.report_peer, intent)
            elif isinstance(intent, ReportWithheld):
                await asyncio.to_thread(self._writer.report_withheld, intent)
            elif isinstance(intent, RecordEvent) and intent.about.startswith(("BGPPeer ", "Node ")):
                await asyncio.to_thread(self._writer.record_event, intent)
        except UnsafeNameError as error:
            return Failed(intent=intent, message=str(error), retry=False)
        except OSError as error:
            return Failed(intent=intent, message=str(error), retry=not is_lasting(error))
        return Applied(intent)

    def begin(self) -> None:
        """Show that there is a speaker here, for as long as this process lives, and that it has no sessions yet."""
        self.clear()  # one that was killed took nothing back
        with contextlib.suppress(OSError):
            self._life = hold(life_path(self._folder, self._node))

    def clear(self) -> None:
        """A speaker that begins or ends has no sessions."""
        with contextlib.suppress(OSError):
            self._writer.remove_peers(self._node)
            self._writer.remove_withheld(self._node)


class PublishedSink:
    """Writes the addresses that Ingresses show, each beside the manifests."""

    handles: tuple[type[Intent], ...] = (PublishIngress,)

    def __init__(self, folder: Path) -> None:
        self._writer = StatusWriter(folder)

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent."""
        if not isinstance(intent, PublishIngress):
            return Failed(intent=intent, message=f"not done here: {type(intent).__name__}", retry=False)
        try:
            await asyncio.to_thread(self._writer.publish_ingress, intent)
        except UnsafeNameError as error:
            return Failed(intent=intent, message=str(error), retry=False)
        except OSError as error:
            return Failed(intent=intent, message=str(error), retry=not is_lasting(error))
        return Applied(intent)

    async def forget(self, keys: Iterable[ObjectKey]) -> None:
        """Take away the status of Ingresses that are gone; one that stays does no harm."""
        for key in keys:
            with contextlib.suppress(OSError, UnsafeNameError):
                await asyncio.to_thread(self._writer.remove_ingress, key)

    async def keep(self, wanted: Callable[[ObjectKey], bool]) -> None:
        """Take away the status of all others."""
        found = await asyncio.to_thread(self._writer.published)
        await self.forget(key for key in found if not wanted(key))


async def _in_thread(look: Iterator[Event | None]) -> AsyncIterator[Event]:
    """The events of a look, worked out in a thread a batch at a time."""
    while True:
        batch, is_over = await asyncio.to_thread(_some, look)
        for event in batch:
            yield event
        if is_over:
            return


def _some(look: Iterator[Event | None]) -> tuple[list[Event], bool]:
    """The next events of a look, up to where it takes a breath, and whether it is over."""
    batch: list[Event] = []
    for event in look:
        if event is None:
            return batch, False
        batch.append(event)
        if len(batch) == BATCH:
            return batch, False
    return batch, True


def _time_left(moment: float | None) -> float | None:
    return None if moment is None else moment - time.monotonic()


def _is_interesting(root: Path) -> Callable[[str], bool]:
    """Whether a change of a path can change what a source tells: of all in `.lbcore`, only the
    statuses of Services and the marks of drained nodes, and not the files that are about to be
    renamed to them; nothing else that is hidden (`.git`, an editor's swap file) but `..data`, the
    link that turns when a mounted ConfigMap changes.
    """
    start = len(str(root)) + 1
    services, drained = f"{STATUS_FOLDER}/services/", f"{STATUS_FOLDER}/{DRAINED}"
    # A folder that is new is told; what is put into it at once, before it is watched, is not.
    folders = {STATUS_FOLDER, services.rstrip("/"), drained}

    def is_interesting(path: str) -> bool:
        if path[start:] in folders:
            return True
        inside = path[start:].removeprefix(services).removeprefix(f"{drained}/")
        return not any(part[0:1] == "." and part[1:2] != "." for part in inside.split("/"))

    return is_interesting

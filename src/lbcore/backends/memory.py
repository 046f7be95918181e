"""A cluster that lives in memory: deterministic, for tests, for planning, and for embedding lbcore.

It is to an API server what a list is to a database: objects are put in and deleted, any number of
sources list and then follow, and what a sink writes is kept and comes back. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping

import attrs

from lbcore.adapters.kubernetes.changes import OBJECT_KINDS, Gone, gone, kind_of, kind_of_refused, only_objects
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read_all, read_text
from lbcore.config import ConfigDocument, L2Advertisement, Origin, Pool
from lbcore.events import (
    Applied,
    ConfigSeen,
    Event,
    Failed,
    Kind,
    Listed,
    ManifestRefused,
    NamespaceSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
)
from lbcore.intents import Intent, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.model import EndpointSlice, Namespace, Node, Service, ServiceKey

__all__ = ["MemoryCluster", "MemorySink", "MemorySource", "Value"]

Value = Service | EndpointSlice | Node | Namespace | Pool | L2Advertisement | ConfigDocument

_NAMESPACE = "metallb-system"  # of pools and advertisements that come as bare values


class MemoryCluster:
    """Objects in memory, with as many sources as are asked for and one sink.

    What was written can be read back: `services` (with the addresses they hold), `statuses`,
    `events`, `pools` (their usage), `config`, and `written`, every intent carried out, in order.
    """

    def __init__(self) -> None:
        self.statuses: dict[ServiceKey, SetAddresses] = {}
        self.events: list[RecordEvent] = []
        self.pools: dict[str, SetPoolUsage] = {}
        self.config: ReportConfig | None = None
        self.written: list[Intent] = []
        self._objects: dict[tuple[str, str], Seen] = {}
        self._refused: dict[str, list[Refused]] = {}
        self._feeds: list[_Feed] = []
        self._failures: list[tuple[str, bool]] = []
        self._sink = MemorySink(self)

    @property
    def services(self) -> Mapping[ServiceKey, Service]:
        """Every Service, as it looks now."""
        return {seen.service.key: seen.service for seen in self._objects.values() if isinstance(seen, ServiceSeen)}

    @property
    def sink(self) -> MemorySink:
        """Where intents for this cluster go."""
        return self._sink

    def source(self, kinds: Iterable[Kind]) -> MemorySource:
        """A source of these kinds. Raises `ValueError` for kinds that are no objects (members, links)."""
        return MemorySource(self, only_objects(kinds))

    def put(self, *values: Value) -> None:
        """Create objects or replace them, status as written by the sink kept; an equal one is no change."""
        for value in values:
            self._see(_seen(value))

    def delete(self, *values: Value | ServiceKey) -> None:
        """Remove objects; of a value only its identity counts. One that is not there is no error."""
        for value in values:
            subject = ("service", str(value)) if isinstance(value, ServiceKey) else _seen(value).subject
            self._forget(subject)

    def apply(self, manifests: str | Iterable[object], name: str = "memory") -> tuple[Ignored, ...]:
        """Put what manifests describe: a YAML text, or documents as from JSON. Returns what has no effect.

        `name` stands for a file: applying under it again takes back what was refused under it
        before. A broken document raises nothing: it is told as an event, and the last good form stays.
        """
        entries = (
            list(read_text(manifests, name))
            if isinstance(manifests, str)
            else [entry for document in manifests for entry in read_all(document, name)]
        )
        refused = [entry for entry in entries if isinstance(entry, Refused)]
        before, self._refused[name] = self._refused.get(name, []), refused
        for entry in entries:
            if isinstance(entry, Refused):
                self._refuse(entry, before)
            elif not isinstance(entry, Ignored):
                self._see(entry)
            elif entry.subject is not None:
                self._forget(entry.subject)
        still = {entry.event.subject for entry in refused}
        for entry in before:
            if isinstance(entry.event, ConfigSeen) and entry.event.subject not in still:
                self._forget(entry.event.subject)
        return tuple(entry for entry in entries if isinstance(entry, Ignored))

    def fail_next(self, count: int = 1, *, message: str = "the cluster refused the write", retry: bool = True) -> None:
        """Let the next `count` writes fail, to see what a daemon does about it."""
        self._failures += [(message, retry)] * count

    def _see(self, seen: Seen) -> None:
        if isinstance(seen, ServiceSeen) and seen.service.key in self.statuses:
            seen = _holding(seen.service, self.statuses[seen.service.key])
        if self._objects.get(seen.subject) != seen:
            self._objects[seen.subject] = seen
            self._tell(kind_of(seen.subject), seen)

    def _refuse(self, entry: Refused, before: list[Refused]) -> None:
        if isinstance(entry.event, ConfigSeen):
            self._see(entry.event)
        elif entry not in before:
            self._tell(kind_of_refused(entry), entry.event)

    def _forget(self, subject: tuple[str, str]) -> None:
        seen = self._objects.pop(subject, None)
        if seen is None:
            return
        if isinstance(seen, ServiceSeen):
            self.statuses.pop(seen.service.key, None)
        self._tell(kind_of(subject), gone(seen))

    def _tell(self, kind: Kind | None, event: Seen | Gone | ManifestRefused) -> None:
        for feed in self._feeds:
            if kind is None or kind in feed.kinds:
                feed.waiting.put_nowait(event)

    def _listing(self, kinds: frozenset[Kind]) -> list[Event]:
        events: list[Event] = []
        for kind in OBJECT_KINDS:
            if kind in kinds:
                events += [self._objects[subject] for subject in sorted(self._objects) if kind_of(subject) is kind]
                events.append(Listed(kind))
        for refused in (entry for name in sorted(self._refused) for entry in self._refused[name]):
            kind_refused = kind_of_refused(refused)
            if isinstance(refused.event, ManifestRefused) and (kind_refused is None or kind_refused in kinds):
                events.insert(0, refused.event)
        return events

    def _carry_out(self, intent: Intent) -> Applied | Failed:
        if self._failures:
            message, retry = self._failures.pop(0)
            return Failed(intent=intent, message=message, retry=retry)
        self.written.append(intent)
        match intent:
            case SetAddresses():
                self._set_addresses(intent)
            case RecordEvent():
                self.events.append(intent)
            case SetPoolUsage():
                self.pools[intent.pool] = intent
            case ReportConfig():
                self.config = intent
            case _:
                return Failed(intent=intent, message=f"a cluster does not do {type(intent).__name__}", retry=False)
        return Applied(intent)

    def _set_addresses(self, intent: SetAddresses) -> None:
        seen = self._objects.get(intent.subject)
        if not isinstance(seen, ServiceSeen) or _other_incarnation(seen.service, intent):
            return  # what the status was meant for is gone
        self.statuses[intent.key] = intent
        self._see(seen)


class MemorySource:
    """Lists the objects of some kinds, then follows."""

    def __init__(self, cluster: MemoryCluster, kinds: frozenset[Kind]) -> None:
        self._cluster = cluster
        self._kinds = kinds

    async def events(self) -> AsyncGenerator[Event, None]:
        """What is there, `Listed` for each kind, then every change from the moment of listing."""
        feed = _Feed(self._kinds)
        listing = self._cluster._listing(self._kinds)
        self._cluster._feeds.append(feed)
        try:
            for event in listing:
                yield event
            while True:
                yield await feed.waiting.get()
        finally:
            self._cluster._feeds.remove(feed)


class MemorySink:
    """Writes to the cluster; `fail_next` of the cluster makes it fail."""

    handles: tuple[type[Intent], ...] = (SetAddresses, RecordEvent, SetPoolUsage, ReportConfig)

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent."""
        return self._cluster._carry_out(intent)


@attrs.frozen
class _Feed:
    kinds: frozenset[Kind]
    waiting: asyncio.Queue[Event] = attrs.field(factory=asyncio.Queue)


def _holding(service: Service, status: SetAddresses) -> ServiceSeen:
    if _other_incarnation(service, status):
        return ServiceSeen(service)
    refusal = status.refusal
    pending = refusal.shown if refusal is not None else None
    return ServiceSeen(attrs.evolve(service, held=status.addresses, pending=pending))


def _other_incarnation(service: Service, status: SetAddresses) -> bool:
    return bool(service.uid and status.uid and service.uid != status.uid)


def _seen(value: Value) -> Seen:
    match value:
        case Service():
            return ServiceSeen(value)
        case EndpointSlice():
            return SliceSeen(value)
        case Node():
            return NodeSeen(value)
        case Namespace():
            return NamespaceSeen(value)
        case ConfigDocument():
            return ConfigSeen(value)
        case Pool():
            origin = value.origin or Origin(kind="IPAddressPool", namespace=_NAMESPACE, name=value.name)
            return ConfigSeen(ConfigDocument(origin=origin, resources=(value,)))
        case L2Advertisement():
            origin = value.origin or Origin(kind="L2Advertisement", namespace=_NAMESPACE, name=value.name)
            return ConfigSeen(ConfigDocument(origin=origin, resources=(value,)))

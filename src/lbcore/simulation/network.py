"""What stands between a daemon and the API server: delays, cuts, writes that fail, lists in any order.

`ApiLink` is one daemon's connection. It keeps the promises of a Kubernetes watch and no others:
changes of one resource come in order, those of two resources in any; after a cut a watch goes on
where it was, or lists anew; an object that went away meanwhile is told as gone. Documents become
events by `lbcore.adapters.kubernetes`, once for each version.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from attrs import define, field, frozen

from lbcore.adapters.kubernetes.changes import gone
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read_all
from lbcore.events import Applied, Event, Failed, Kind, Listed, ManifestRefused
from lbcore.intents import Intent, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.simulation.clock import Clock
from lbcore.simulation.world import ApiServer, Change, Document, WriteResult, name_of

__all__ = ["ApiLink", "Decoder", "Weather"]

_RESOURCES = {
    Kind.SERVICES: ("services",),
    Kind.SLICES: ("endpointslices",),
    Kind.NODES: ("nodes",),
    Kind.NAMESPACES: ("namespaces",),
    Kind.CONFIG: (
        "ipaddresspools", "l2advertisements", "bgppeers", "bgpadvertisements", "bfdprofiles", "communities",
    ),
}  # fmt: skip
_TIMEOUT = 1.0  # seconds that a client waits for the answer to a write


@define
class Weather:
    """How bad it is just now, everywhere: shares of messages, and seconds."""

    slowest: float = 0.05  # of a message from or to the API server
    writes_lost: float = 0.0  # requests that never arrive
    answers_lost: float = 0.0  # writes that are done, and nobody hears of it
    writes_refused: float = 0.0  # 409, 429, 500: not done, try again
    told_twice: float = 0.0  # changes that a watch tells again
    frames_lost: float = 0.0
    frames_twice: float = 0.0
    slowest_frame: float = 0.001
    slowest_record: float = 0.01  # until a member record can be read by others
    datagrams_lost: float = 0.0
    slowest_datagram: float = 0.001
    lateness: float = 0.0  # seconds at most that a process that gossips waits for its processor

    @property
    def is_foul(self) -> bool:
        """Whether members may doubt each other because of it."""
        fair = Weather()
        return (self.datagrams_lost, self.slowest_datagram, self.lateness) != (0.0, fair.slowest_datagram, 0.0)

    def clear(self) -> None:
        """The weather is fair again."""
        for name, value in _figures(Weather()).items():
            setattr(self, name, value)


def _figures(weather: Weather) -> dict[str, float]:
    """Every figure by name."""
    return {name: getattr(weather, name) for name in Weather.__slots__ if name != "__weakref__"}


class Decoder:
    """Documents to events; each version of an object is decoded once for all who watch it."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Document, Seen | ManifestRefused | None]] = {}

    def decode(self, document: Document) -> Seen | ManifestRefused | None:
        """The event that tells of a document, or None for one that nobody needs to hear of."""
        known = self._known.get(id(document))
        if known is not None:
            return known[1]
        if len(self._known) > 4000:
            self._known.clear()
        entry = next(iter(read_all(document, "api")))
        event = _event_of(entry)
        self._known[id(document)] = (document, event)
        return event


def _event_of(entry: Seen | Ignored | Refused) -> Seen | ManifestRefused | None:
    match entry:
        case Refused():
            return entry.event
        case Ignored():
            return None
        case _:
            return entry


@frozen
class _Surroundings:
    clock: Clock
    server: ApiServer
    decoder: Decoder
    weather: Weather
    rng: random.Random
    counts: Counter[str]


@define
class _Watch:
    """One resource, listed and followed. `generation` tells messages of this connection from older ones."""

    resource: str
    next: int = 0  # the first change that was not sent yet
    received: int = 0  # the first that has not arrived: from here on a broken watch goes on
    generation: int = 0
    connected: bool = False
    listed: bool = False
    last: float = 0.0  # when the newest message arrives: none may overtake it
    known: dict[str, Seen] = field(factory=dict)


class ApiLink:
    """One daemon's list, watch and write. `deliver` takes the events; after `close` it is silent for ever."""

    def __init__(
        self,
        clock: Clock,
        server: ApiServer,
        decoder: Decoder,
        weather: Weather,
        rng: random.Random,
        counts: Counter[str],
        kinds: Iterable[Kind],
        deliver: Callable[[Event], None],
    ) -> None:
        self._in = _Surroundings(clock, server, decoder, weather, rng, counts)
        self._deliver = deliver
        self._kinds = tuple(kind for kind in _RESOURCES if kind in set(kinds))
        self._resources = {
            kind: [resource for resource in _RESOURCES[kind] if resource in server.resources] for kind in self._kinds
        }
        self._watches = {resource: _Watch(resource) for kind in self._kinds for resource in self._resources[kind]}
        self._told: set[Kind] = set()
        self._cut = False
        self._closed = False
        server.watchers.append(self._committed)
        for watch in self._watches.values():
            self._list(watch)

    def close(self) -> None:
        """The daemon is no more."""
        self._closed = True
        self._in.server.watchers.remove(self._committed)

    @property
    def is_cut(self) -> bool:
        """Whether the API server is out of reach."""
        return self._cut

    def cut(self) -> None:
        """The API server is out of reach: what is under way is lost."""
        self._cut = True
        for watch in self._watches.values():
            self._drop(watch)

    def heal(self) -> None:
        """It is within reach again."""
        if self._cut and not self._closed:
            self._cut = False
            for watch in self._watches.values():
                self._resume(watch)

    def disconnect(self, number: int) -> None:
        """One watch breaks and is opened again, as proxies and timeouts have it."""
        watch = list(self._watches.values())[number % len(self._watches)]
        if not self._cut:
            self._drop(watch)
            self._resume(watch)

    # Reading

    def _drop(self, watch: _Watch) -> None:
        watch.connected = False
        watch.generation += 1
        watch.next = watch.received

    def _resume(self, watch: _Watch) -> None:
        if watch.listed and self._in.rng.random() < 0.5:
            self._in.clock.after(self._delay(), self._reopen, watch, watch.generation)
        else:
            self._list(watch)

    def _reopen(self, watch: _Watch, generation: int) -> None:
        if self._is_over(watch, generation):
            return
        if self._in.server.changes(watch.resource, watch.next) is None:
            self._list(watch)
            return
        watch.connected = True
        self._committed(watch.resource)

    def _list(self, watch: _Watch) -> None:
        self._in.clock.after(self._delay(), self._serve_list, watch, watch.generation)

    def _serve_list(self, watch: _Watch, generation: int) -> None:
        if self._is_over(watch, generation):
            return
        documents, watch.next = self._in.server.listing(watch.resource)
        self._in.rng.shuffle(documents)  # no order is promised
        watch.connected = True
        self._arrive(watch, self._take_list, documents)

    def _committed(self, resource: str) -> None:
        watch = self._watches.get(resource)
        if watch is None or not watch.connected:
            return
        upto = self._in.server.position(resource)
        if watch.next < upto:
            changes = self._in.server.changes(resource, watch.next)
            watch.next = upto
            self._arrive(watch, self._take_changes, changes)

    def _arrive(self, watch: _Watch, take: Callable[..., None], what: object) -> None:
        watch.last = max(watch.last, self._in.clock.now + self._delay())
        self._in.clock.at(watch.last, take, watch, watch.generation, what, watch.next)

    def _take_list(self, watch: _Watch, generation: int, documents: list[Document], upto: int) -> None:
        if self._is_over(watch, generation):
            return
        watch.received = upto
        names = {name_of(document) for document in documents}
        for name in [name for name in watch.known if name not in names]:
            self._deliver(gone(watch.known.pop(name)))
        for document in documents:
            self._tell(watch, Change(name_of(document), document))
        if not watch.listed:
            watch.listed = True
            self._tell_listed()

    def _take_changes(self, watch: _Watch, generation: int, changes: list[Change], upto: int) -> None:
        if self._is_over(watch, generation):
            return
        watch.received = upto
        for change in changes:
            self._tell(watch, change)

    def _tell(self, watch: _Watch, change: Change) -> None:
        if change.document is None:
            known = watch.known.pop(change.name, None)
            if known is not None:
                self._deliver(gone(known))
            return
        event = self._in.decoder.decode(change.document)
        if event is None or isinstance(event, ManifestRefused):
            return
        before = watch.known.get(change.name)
        if before is not None and (before is event or before == event):
            return
        watch.known[change.name] = event
        self._deliver(event)
        if self._in.weather.told_twice and self._in.rng.random() < self._in.weather.told_twice:
            self._in.counts["event told twice"] += 1
            self._in.clock.after(0.0, self._tell_again, watch, watch.generation, change.name, event)

    def _tell_again(self, watch: _Watch, generation: int, name: str, event: Seen) -> None:
        if not self._is_over(watch, generation) and watch.known.get(name) is event:
            self._deliver(event)

    def _tell_listed(self) -> None:
        for kind in self._kinds:
            if kind not in self._told and all(self._watches[name].listed for name in self._resources[kind]):
                self._told.add(kind)
                self._deliver(Listed(kind))

    def _is_over(self, watch: _Watch, generation: int) -> bool:
        return self._closed or watch.generation != generation

    def _delay(self) -> float:
        return 0.0005 + self._in.rng.random() * self._in.weather.slowest

    # Writing

    def write(self, intent: Intent, answer: Callable[[Applied | Failed], None]) -> None:
        """Send one write; `answer` hears of it, unless the daemon is gone by then."""
        assert isinstance(intent, SetAddresses | SetPoolUsage | RecordEvent | ReportConfig)
        weather, rng = self._in.weather, self._in.rng
        if self._cut or (weather.writes_lost and rng.random() < weather.writes_lost):
            self._in.counts["write lost"] += 1
            self._in.clock.after(_TIMEOUT, answer, Failed(intent=intent, message="timeout"))
            return
        self._in.clock.after(min(self._delay(), _TIMEOUT), self._serve_write, intent, answer)

    def _serve_write(
        self, intent: SetAddresses | SetPoolUsage | RecordEvent | ReportConfig, answer: Callable[..., None]
    ) -> None:
        weather, rng = self._in.weather, self._in.rng
        if weather.writes_refused and rng.random() < weather.writes_refused:
            self._in.counts["write refused"] += 1
            self._reply(answer, Failed(intent=intent, message="conflict"))
            return
        result = self._in.server.write(intent)
        if weather.answers_lost and rng.random() < weather.answers_lost:
            self._in.counts["answer lost"] += 1
            self._in.clock.after(_TIMEOUT, answer, Failed(intent=intent, message="timeout"))
        elif result is WriteResult.GONE:
            self._reply(answer, Failed(intent=intent, message="gone", retry=False))
        else:
            self._reply(answer, Applied(intent))

    def _reply(self, answer: Callable[..., None], outcome: Applied | Failed) -> None:
        self._in.clock.after(self._delay(), partial(answer, outcome))

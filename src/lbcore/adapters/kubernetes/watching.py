"""List, then watch, one kind of object: an engine that turns the API server's pages and lines into events.

It holds what was told, so that an object which looks the same is not told again, and one that a list no
longer has is told to be gone. It opens nothing: `Fetch` and `Follow` say what to ask, the answers come in as
bytes in whatever pieces the network makes, and `deadline` says when to try again.

A watch goes on where it was cut, at the last `resourceVersion` seen; bookmarks keep that young. A server that
has forgotten so old a version (410), or takes it for none, is asked for everything anew. What was told is kept all
the while: an API server that cannot be reached has lost no Service.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from attrs import frozen

from lbcore.adapters.base import Hangup, Report
from lbcore.adapters.kubernetes.api import ApiResource, Line, Page
from lbcore.adapters.kubernetes.changes import gone, kind_of
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read_all
from lbcore.events import Event, ManifestRefused

__all__ = [
    "Fetch",
    "Follow",
    "Gathering",
    "KeepingUp",
    "ListEnded",
    "Setback",
    "WatchOutput",
    "Watching",
    "pause_after",
]

PAGE = 500  # objects asked for at once: a megabyte of Services, some 20 ms of the server's time
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 30.0  # seconds, doubled in between and then shortened by up to a half
_SHORT = 1.0  # seconds; a watch that ends sooner counts as a failure, or a broken proxy would be asked without end
_LIFE = (300.0, 600.0)  # seconds that a watch is asked to last: spread, so that clients do not come back together
# A watch refused with one of these is asked for again as it was; any other 4xx (410: so old a version is forgotten,
# 400: it is none of this server's) says that the version will not do, however often it is shown.
_NOT_THE_VERSION = (401, 403, 408, 429)

Query = tuple[tuple[str, str], ...]


@frozen
class Fetch:
    """Ask for a page of the list; answer with `page` or `failed`."""

    query: Query


@frozen
class Follow:
    """Ask for a watch; answer with `opened`, `receive` for what comes, and `closed` or `failed`."""

    query: Query


@frozen
class ListEnded:
    """Everything that exists has been told, for the first time or again."""


WatchOutput = Fetch | Follow | ListEnded | Report | Hangup


@frozen(kw_only=True)
class Setback:
    """Why something was not answered: the HTTP status (0: no answer at all), and how many seconds the server
    wants to be left alone (`Retry-After`).
    """

    status: int = 0
    message: str = ""
    retry_after: float | None = None


def pause_after(attempt: int, setback: Setback, rng: Random) -> float:
    """Seconds to wait before the next try after so many in a row (from 0) that failed."""
    pause = min(_FIRST_PAUSE * 2.0 ** min(attempt, 16), _LAST_PAUSE) * rng.uniform(0.5, 1.0)
    if setback.retry_after is None:
        return pause
    return setback.retry_after + pause  # never sooner than asked, and not all at once either


class Watching:
    """One kind of object, listed and followed. Times in seconds on the clock of `now`.

    `source` names the server in problems. `latest` holds, for kinds whose status somebody wants to write, the
    newest document by `namespace/name`; `trouble` is what keeps it from working now.
    """

    def __init__(self, resource: ApiResource, *, rng: Random, source: str = "cluster") -> None:
        self.resource = resource
        self.latest: dict[str, dict[str, Any]] = {}
        self.trouble: Setback | None = None
        self.listed = False
        self._rng = rng
        self._source = source
        self._told: dict[tuple[str, str], Seen] = {}
        self._subjects: dict[str, tuple[str, str]] = {}
        self._refused: dict[str, ManifestRefused] = {}
        self._present: set[str] | None = None
        self._version = ""
        self._rest = b""
        self._failures = 0
        self._opened_at = 0.0
        self._again_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `tick` is due; None while an answer is awaited."""
        return self._again_at

    def tick(self, now: float) -> list[WatchOutput]:
        """Ask what is to be asked, if it is time."""
        if self._again_at is not None and now < self._again_at:
            return []
        return self.start()

    def start(self) -> list[WatchOutput]:
        """Ask: for the list, or for the watch from where it was cut."""
        self._again_at = None
        return [self._follow() if self._version else self._fetch("")]

    def page(self, data: bytes, now: float) -> list[WatchOutput]:
        """One page has come."""
        try:
            page = msgspec.json.decode(data, type=Page)
            # All before any is told: what is noted as told and then lost with a bad page is never told again.
            documents = [self._decode(raw) for raw in page.items or ()]
        except (msgspec.MsgspecError, UnicodeError) as error:
            return self.failed(Setback(message=f"sent a list that cannot be read: {error}"), now)
        if self._present is None:
            self._present = set()
        outputs = [out for document in documents for out in self._see(document)]
        if page.metadata.continue_:
            return [*outputs, self._fetch(page.metadata.continue_)]
        self._version, self._failures, self.trouble = page.metadata.version, 0, None
        absent = [name for name in self._known() if name not in self._present]
        self._present = None
        for name in dict.fromkeys(absent):
            outputs += self._forget(name)
        self.listed = True
        return [*outputs, ListEnded(), self._follow()]

    def opened(self, now: float) -> list[WatchOutput]:
        """The watch has begun."""
        self._rest, self._opened_at, self.trouble = b"", now, None
        return []

    def receive(self, data: bytes) -> list[WatchOutput]:
        """Some bytes of the watch; the end of the last line may be missing. What follows a `Hangup` is not read."""
        *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        outputs: list[WatchOutput] = []
        for line in lines:
            if line:
                outputs += self._line(line)
            if outputs and isinstance(outputs[-1], Hangup):
                # Nobody listens any more: what the rest says is found out by listing.
                self._rest = b""
                break
        return outputs

    def closed(self, now: float) -> list[WatchOutput]:
        """The watch has ended as watches do. The half line that was left is asked for again."""
        self._rest = b""
        if now - self._opened_at < _SHORT:
            if self._failures:
                return self.failed(Setback(message="ended the watch at once"), now)
            self._failures = 1  # once is a server that is started anew, or a connection that was cut: no trouble yet
            return self._pause(pause_after(0, Setback(), self._rng), now)
        self._failures = 0
        return self._pause(self._rng.uniform(0.0, 0.05), now)

    def failed(self, setback: Setback, now: float) -> list[WatchOutput]:
        """No answer, or a bad one."""
        self._rest = b""
        # A list that broke off is begun anew: its next page may be of another moment.
        self._present = None
        if 400 <= setback.status < 500 and setback.status not in _NOT_THE_VERSION:
            self._version = ""
        if self.resource.optional and setback.status in (403, 404) and not self._told:
            # Nothing of this kind exists for us; it may come later, so it is asked for again, seldom.
            first, self.listed = not self.listed, True
            self._failures, self.trouble = 8, None
            outputs: list[WatchOutput] = [ListEnded()] if first else []
            return [*outputs, *self._pause(pause_after(self._failures, setback, self._rng), now)]
        self.trouble = setback
        pause = pause_after(self._failures, setback, self._rng)
        self._failures += 1
        return self._pause(pause, now)

    def _pause(self, seconds: float, now: float) -> list[WatchOutput]:
        self._again_at = now + seconds
        return []

    def _fetch(self, continued: str) -> Fetch:
        query: Query = (*self.resource.selector, ("limit", str(PAGE)))
        return Fetch((*query, ("continue", continued)) if continued else query)

    def _follow(self) -> Follow:
        life = self._rng.uniform(*_LIFE)
        return Follow(
            (
                *self.resource.selector,
                ("watch", "1"),
                ("allowWatchBookmarks", "true"),
                ("resourceVersion", self._version),
                ("timeoutSeconds", f"{life:.0f}"),
            )
        )

    def _line(self, line: bytes) -> list[WatchOutput]:
        try:
            change = msgspec.json.decode(line, type=Line)
            if change.type == "ERROR":
                return self._error(change.object)
            document = self._decode(change.object)
            metadata = document.get("metadata")
            version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
            outputs: list[WatchOutput] = []
            if change.type == "DELETED":
                outputs = self._forget(_name_of(document))
            elif change.type != "BOOKMARK":
                outputs = self._see(document)
        except (msgspec.MsgspecError, UnicodeError):
            # Not cut, but broken. What it said is found out by listing.
            self._version = ""
            return [Hangup("sent a line that cannot be read")]
        if isinstance(version, str) and version and self._version:
            self._version, self._failures = version, 0
        return outputs

    def _error(self, raw: msgspec.Raw) -> list[WatchOutput]:
        """The server ends the watch with a Status; 410 where it has forgotten the version that was asked for."""
        status = msgspec.json.decode(raw, type=dict)
        code = status.get("code")
        self.trouble = Setback(
            status=code if isinstance(code, int) else 0, message=str(status.get("message") or "")[:200]
        )
        self._version = ""
        return [Hangup(self.trouble.message)]

    def _decode(self, raw: msgspec.Raw) -> dict[str, Any]:
        return self.resource.decode(raw)

    def _known(self) -> list[str]:
        return [*self._subjects, *self._refused, *self.latest]

    def _see(self, document: dict[str, Any]) -> list[WatchOutput]:
        name = _name_of(document)
        if self._present is not None:
            self._present.add(name)
        if self.resource.keeps_status:
            self.latest[name] = document
        outputs: list[WatchOutput] = []
        for entry in read_all(document, self._source):
            if isinstance(entry, Ignored):
                outputs += self._forget(name, keep_latest=True)
            elif isinstance(entry, Refused) and isinstance(entry.event, ManifestRefused):
                if self._refused.get(name) != entry.event:
                    self._refused[name] = entry.event
                    outputs.append(Report(entry.event))
            else:
                seen = entry.event if isinstance(entry, Refused) else entry
                # MetalLB's old ConfigMap is configuration, every other one is what Ingresses name.
                told = kind_of(seen.subject) is self.resource.kind
                outputs += self._tell(name, seen) if told else self._forget(name)
        return outputs

    def _tell(self, name: str, seen: Any) -> list[WatchOutput]:
        self._refused.pop(name, None)
        subject = seen.subject
        if self._told.get(subject) == seen:
            return []
        self._told[subject] = seen
        self._subjects[name] = subject
        return [Report(seen)]

    def _forget(self, name: str, *, keep_latest: bool = False) -> list[WatchOutput]:
        if not keep_latest:
            self.latest.pop(name, None)
        self._refused.pop(name, None)
        subject = self._subjects.pop(name, None)
        seen = self._told.pop(subject, None) if subject is not None else None
        return [Report(gone(seen))] if seen is not None else []


class KeepingUp(Watching):
    """The same for objects of which no brain is told: `latest` holds them all."""

    def _see(self, document: dict[str, Any]) -> list[WatchOutput]:
        name = _name_of(document)
        if self._present is not None:
            self._present.add(name)
        self.latest[name] = document
        return []


class Gathering(KeepingUp):
    """The same, and one event about all of them together (`_gist`), whenever that changes."""

    _said: Event | None = None

    def _gist(self) -> Event:
        raise NotImplementedError

    def _see(self, document: dict[str, Any]) -> list[WatchOutput]:
        return [*super()._see(document), *self._changes()]

    def _forget(self, name: str, *, keep_latest: bool = False) -> list[WatchOutput]:
        self.latest.pop(name, None)
        return self._changes()

    def _changes(self) -> list[WatchOutput]:
        seen = self._gist()
        if seen == self._said:
            return []
        self._said = seen
        return [Report(seen)]


def _name_of(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    return f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"

"""Events (events.k8s.io/v1) as they are to be written: one for a change, counted when it comes again.

A backlog that keeps what has not been written yet: the same thing said again while it waits is one
Event with a count; said again after it was written, it becomes a series of that Event. The backlog is
bounded, and what does not fit is counted: Events tell people what happened, no decision rests on them.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import define, frozen

from lbcore.intents import RecordEvent

__all__ = ["Backlog", "EventWrite", "Regarding"]

_MOST_WAITING = 20_000  # two Events for each of 10,000 Services that come at once
_MOST_REMEMBERED = 2_000
_SERIES = 360.0  # seconds in which the same thing again belongs to the series; Kubernetes' own recorder: 6 minutes
_MOST_NOTE = 1024  # bytes, by the API

_API_VERSIONS = {
    "Service": "v1", "Node": "v1", "Namespace": "v1", "ConfigMap": "v1", "EndpointSlice": "discovery.k8s.io/v1",
    "BGPPeer": "metallb.io/v1beta2", "Ingress": "networking.k8s.io/v1", "IngressClass": "networking.k8s.io/v1",
    "Secret": "v1",
}  # fmt: skip


@frozen(kw_only=True)
class Regarding:
    """The object that Events are about; `uid` where it is known, so that `kubectl describe` finds them."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""

    @classmethod
    def parse(cls, about: str, uid: str = "") -> Regarding:
        """From `Kind namespace/name` or `Kind name`."""
        kind, _, path = about.partition(" ")
        namespace, _, name = path.rpartition("/")
        version = _API_VERSIONS.get(kind, "metallb.io/v1beta1")
        return cls(api_version=version, kind=kind, namespace=namespace, name=name, uid=uid)


# What was said, and the `uid` of the object: one that was made anew under an old name has Events of its own,
# as `kubectl describe` asks for those with its uid.
Said = tuple[RecordEvent, str]


@frozen(kw_only=True)
class EventWrite:
    """One request: create an Event in a namespace, or with `name` patch the series of one that is there.

    `said` is for `Backlog.forget`.
    """

    namespace: str
    body: dict[str, Any]
    name: str = ""
    said: Said


@define
class _Waiting:
    regarding: Regarding
    intent: RecordEvent
    first: str
    last: str
    count: int = 1


@define
class _Written:
    name: str
    count: int
    at: float


class Backlog:
    """What is to be said. `when` is the time as RFC 3339 with microseconds, `now` seconds on any clock.

    `reporter` is the component, `instance` its Pod or host.
    """

    def __init__(self, *, reporter: str, instance: str, rng: Random) -> None:
        self.dropped = 0
        self._reporter = reporter
        self._instance = instance[:128]
        self._rng = rng
        self._waiting: dict[Said, _Waiting] = {}
        self._written: dict[Said, _Written] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, intent: RecordEvent, uid: str, when: str) -> None:
        """Line one up."""
        waiting = self._waiting.get((intent, uid))
        if waiting is not None:
            waiting.count += 1
            waiting.last = when
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting[intent, uid] = _Waiting(Regarding.parse(intent.about, uid), intent, when, when)
        else:
            self.dropped += 1

    def next(self, now: float) -> EventWrite | None:
        """The request that has waited longest; it counts as written."""
        if not self._waiting:
            return None
        said = next(iter(self._waiting))
        waiting, before = self._waiting.pop(said), self._written.pop(said, None)
        regarding = waiting.regarding
        namespace = regarding.namespace or "default"
        if before is not None and now - before.at < _SERIES:
            total = before.count + waiting.count
            self._remember(said, _Written(before.name, total, now))
            series = {"count": total, "lastObservedTime": waiting.last}
            return EventWrite(namespace=namespace, name=before.name, body={"series": series}, said=said)
        name = f"{regarding.name[:200]}.{self._rng.getrandbits(64):016x}"
        self._remember(said, _Written(name, waiting.count, now))
        return EventWrite(namespace=namespace, body=self._event(waiting, name, namespace), said=said)

    def forget(self, write: EventWrite) -> None:
        """What was to be written is not there, or not any more: the next one is a new Event."""
        self._written.pop(write.said, None)

    def _remember(self, said: Said, written: _Written) -> None:
        if len(self._written) >= _MOST_REMEMBERED:
            self._written.pop(next(iter(self._written)))
        self._written[said] = written

    def _event(self, waiting: _Waiting, name: str, namespace: str) -> dict[str, Any]:
        regarding, intent = waiting.regarding, waiting.intent
        about: dict[str, Any] = {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "name": regarding.name,
        }
        if regarding.namespace:
            about["namespace"] = regarding.namespace
        if regarding.uid:
            about["uid"] = regarding.uid
        event: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": waiting.first,
            "reportingController": self._reporter,
            "reportingInstance": self._instance,
            "action": intent.reason,
            "reason": intent.reason,
            "type": intent.type.value,
            "note": _cut(intent.message),
            "regarding": about,
        }
        if waiting.count > 1:
            event["series"] = {"count": waiting.count, "lastObservedTime": waiting.last}
        return event


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= _MOST_NOTE:
        return text
    return data[: _MOST_NOTE - 3].decode(errors="ignore") + "..."

"""Statuses, Events and the state of the configuration, written to the API server.

One write for one assignment. Where the watch shows an object as it should be, nothing is written; where a write
is refused because somebody was faster (409), the object is read again: if nothing that decisions rest on has
changed it is written once more, else the brain, which hears of the change by the watch, decides anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from lbcore.adapters.kubernetes.api import object_path
from lbcore.adapters.kubernetes.writes import configuration_state, pool_status_patch, service_patch, shows_state
from lbcore.backends.kubernetes.client import JSON, MERGE_PATCH, Answer, Client
from lbcore.backends.kubernetes.recorder import Recorder, now_text
from lbcore.events import Applied, Failed
from lbcore.intents import EventType, Intent, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage

__all__ = ["Component", "KubernetesSink"]

_METALLB = "metallb.io/v1beta1"
_TRIES = 4  # of one write that others keep overtaking, before the loop's own pauses take over
_LULL = 0.005  # seconds: 16 clients get a Service created every 4 ms or so, on a machine of two cores
_POOL_PAUSE = (
    1.0  # seconds between two writes of one pool's counts: an assignment changes them, and nobody waits for them
)

_KEEPS_FROM_WRITING = (0, 401, 403, 503)  # the other failures are about one object, or over at the next try

Newest = Callable[[str, str], dict[str, Any] | None]


class Component:
    """Which of the daemons writes: how its ConfigurationState is called, and what stands in it."""

    def __init__(self, node: str | None = None) -> None:
        speaker = node is not None
        self.name = f"speaker-{node}" if speaker else "controller"
        self.condition = "configReconcilerValid" if speaker else "poolReconcilerValid"
        self.reporter = "lbcore-speaker" if speaker else "lbcore-controller"
        self.labels = {"metallb.io/component-type": "speaker" if speaker else "controller"}
        if node is not None:
            self.labels["metallb.io/node-name"] = node[:63].rstrip("-.")


class KubernetesSink:
    """Writes to one cluster. `newest` gives an object as a watch last showed it (None: not watched), `fence` why
    nothing may be written now (None: all is well).
    """

    handles: tuple[type[Intent], ...] = (SetAddresses, RecordEvent, SetPoolUsage, ReportConfig)

    def __init__(
        self,
        client: Client,
        namespace: str,
        component: Component,
        recorder: Recorder,
        *,
        newest: Newest,
        fence: Callable[[], str | None],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._component = component
        self._recorder = recorder
        self._newest = newest
        self._fence = fence
        self._pool_written: dict[str, float] = {}
        self._told_problems: frozenset[tuple[str, str]] = frozenset()
        self._under_way = 0
        self._rested_at = 0.0
        self.writes = 0
        self.troubles: dict[str, str] = {}  # what cannot be written just now, and why

    @property
    def busy(self) -> bool:
        """Whether statuses are being written. Between two of a burst there are moments without: they do not count."""
        return self._under_way > 0 or time.monotonic() - self._rested_at < _LULL

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent."""
        if not isinstance(intent, self.handles):
            return Failed(intent=intent, message=f"a cluster does not do {type(intent).__name__}", retry=False)
        closed = self._fence()
        if closed is not None:
            return Failed(intent=intent, message=closed)  # the loop forgets it when another leads
        match intent:
            case SetAddresses():
                self._under_way += 1
                try:
                    return await self._set_addresses(intent)
                finally:
                    self._under_way -= 1
                    self._rested_at = time.monotonic()
            case RecordEvent():
                self._record(intent)
                return Applied(intent)
            case SetPoolUsage():
                return await self._set_pool_usage(intent)
            case ReportConfig():
                return await self._report_config(intent)
            case _:
                raise AssertionError(intent)

    # Services

    async def _set_addresses(self, intent: SetAddresses) -> Applied | Failed:
        path = object_path("v1", "services", intent.key.namespace, intent.key.name)
        service = self._newest("Service", str(intent.key))
        if service is None:
            answer = await self._client.request("GET", path)
            if answer.setback is not None:
                return _outcome(intent, answer)
            service = answer.document()
        for _ in range(_TRIES):
            if intent.uid and _uid(service) != intent.uid:
                return Applied(intent)  # what the status was meant for is gone
            patch = service_patch(intent, service, now_text())
            if patch is None:
                return Applied(intent)
            closed = self._fence()
            if closed is not None:
                return Failed(intent=intent, message=closed)  # the loop forgets it when another leads
            answer = await self._write("PATCH", f"{path}/status", patch, MERGE_PATCH, "services/status")
            if answer.status != 409:
                return _outcome(intent, answer)
            again = await self._client.request("GET", path)
            if again.setback is not None:
                return _outcome(intent, again)
            before, service = service, again.document()
            if _matters(before) != _matters(service):
                return Failed(intent=intent, message="changed while it was written; it is looked at again")
        return Failed(intent=intent, message="others write this Service all the time")

    # Pools and configuration

    async def _set_pool_usage(self, intent: SetPoolUsage) -> Applied | Failed:
        pause = self._pool_written.get(intent.pool, 0.0) + _POOL_PAUSE - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        patch = pool_status_patch(intent, self._newest("IPAddressPool", f"{self._namespace}/{intent.pool}"))
        if patch is None:
            return Applied(intent)
        closed = self._fence()
        if closed is not None:
            return Failed(intent=intent, message=closed)  # the loop forgets it when another leads
        self._pool_written[intent.pool] = time.monotonic()
        path = object_path(_METALLB, "ipaddresspools", self._namespace, intent.pool, "status")
        # 404: a pool of an old ConfigMap, which has no status; or one that has just been deleted.
        return _outcome(intent, await self._write("PATCH", path, patch, MERGE_PATCH, "ipaddresspools/status"))

    async def _report_config(self, intent: ReportConfig) -> Applied | Failed:
        self._tell_problems(intent)
        component = self._component
        wanted = configuration_state(intent, component.condition, now_text())
        path = object_path(_METALLB, "configurationstates", self._namespace, component.name)
        answer = await self._client.request("GET", path)
        if answer.status == 404:
            body = {
                "apiVersion": _METALLB,
                "kind": "ConfigurationState",
                "metadata": {"name": component.name, "namespace": self._namespace, "labels": component.labels},
            }
            made = await self._write("POST", path.rpartition("/")[0], body, JSON, "configurationstates")
            if made.status == 404:
                return Applied(intent)  # a cluster without this definition has no place for it
            if made.setback is not None:
                return _outcome(intent, made)
        elif answer.setback is not None:
            return _outcome(intent, answer)
        elif shows_state(wanted, answer.document().get("status") or {}):
            return Applied(intent)
        what = "configurationstates/status"
        return _outcome(intent, await self._write("PATCH", f"{path}/status", {"status": wanted}, MERGE_PATCH, what))

    def _tell_problems(self, intent: ReportConfig) -> None:
        """An Event on each object that a newer configuration is refused for, once for each thing wrong with it."""
        problems = frozenset((each.object, f"{each.field}: {each.message}") for each in intent.problems)
        for about, message in sorted(problems - self._told_problems):
            kind, _, name = about.partition(" ")
            if kind and name:
                event = RecordEvent(about=about, type=EventType.WARNING, reason="ConfigurationError", message=message)
                self._record(event)
        self._told_problems = problems

    def _record(self, intent: RecordEvent) -> None:
        kind, _, name = intent.about.partition(" ")
        document = self._newest(kind, name)
        self._recorder.record(intent, _uid(document) if document is not None else "")

    async def _write(self, method: str, path: str, body: object, content_type: str, what: str) -> Answer:
        self.writes += 1
        answer = await self._client.request(method, path, body=body, content_type=content_type)
        self.troubles.pop(what, None)
        if answer.setback is not None and answer.setback.status in _KEEPS_FROM_WRITING:
            self.troubles[what] = answer.setback.message
        return answer


def _uid(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("uid") or "") if isinstance(metadata, dict) else ""


def _matters(service: dict[str, Any]) -> tuple[object, ...]:
    """What a decision about a Service rests on."""
    metadata, status = service.get("metadata") or {}, service.get("status") or {}
    return (
        metadata.get("uid"),
        metadata.get("labels"),
        metadata.get("annotations"),
        service.get("spec"),
        (status.get("loadBalancer") or {}).get("ingress"),
    )


def _outcome(intent: Intent, answer: Answer) -> Applied | Failed:
    setback = answer.setback
    if setback is None or setback.status == 404:
        return Applied(intent)  # 404: what it was about is gone
    # No answer, too much, a server's own fault, a race; and rights, which somebody may give yet.
    passing = setback.status in (0, 401, 403, 409, 429) or setback.status >= 500
    return Failed(intent=intent, message=setback.message, retry=passing)

"""A cluster on the Kubernetes API as an Ingress controller has it: what is served, and where it shows its addresses.

Every instance serves; of several one writes: it holds a Lease, and every write asks its fence.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from attrs import frozen

from lbcore.adapters.kubernetes.api import ApiResource, object_path
from lbcore.adapters.kubernetes.changes import only_objects
from lbcore.adapters.kubernetes.notes import Backlog
from lbcore.adapters.kubernetes.served import InstanceWatching, ingress_status, instances_resource
from lbcore.adapters.lease import LeaseTimes
from lbcore.backends.kubernetes.access import Access
from lbcore.backends.kubernetes.client import MERGE_PATCH, Client
from lbcore.backends.kubernetes.leading import ControllerLease
from lbcore.backends.kubernetes.recorder import Recorder
from lbcore.backends.kubernetes.source import KubernetesSource, follow
from lbcore.events import Applied, Event, Failed, Kind
from lbcore.intents import Intent, PublishIngress, RecordEvent

__all__ = ["Election", "IngressCluster"]

_NETWORKING = "networking.k8s.io/v1"
_REPORTER = "lbcore-ingress"


@frozen(kw_only=True)
class Election:
    """How one of several instances is chosen: the Lease's name, and how many seconds it lasts. Without, all write."""

    name: str
    seconds: float = 30.0


class IngressCluster:
    """`resources` are where objects are read. `pod` is our own Pod's name if we are one; `say` hears of troubles."""

    def __init__(
        self,
        access: Access,
        resources: Iterable[ApiResource],
        *,
        election: Election | None,
        pod: str = "",
        say: Callable[[str], None],
    ) -> None:
        self.access = access
        self.client = Client(access, agent=_REPORTER, concurrency=8)
        self.lease: ControllerLease | None = None
        self._resources = tuple(resources)
        self._say = say
        self._pod = pod
        self._source: KubernetesSource | None = None
        if election is not None:
            seconds = election.seconds
            times = LeaseTimes(duration=seconds, renew_deadline=seconds * 2 / 3, retry_period=seconds / 6)
            identity = pod or f"{socket.gethostname()}_{secrets.token_hex(4)}"
            self.lease = ControllerLease(
                self.client, access.namespace, identity, name=election.name, times=times, say=say
            )
        backlog = Backlog(reporter=_REPORTER, instance=pod or socket.gethostname(), rng=random.Random())
        self._recorder = Recorder(
            self.client, backlog, is_busy=lambda: False, may_write=lambda: self._fence() is None, say=say
        )
        self.sink = _IngressSink(self.client, self._recorder, newest=self._newest, fence=self._fence)

    def source(self, kinds: Iterable[Kind]) -> KubernetesSource:
        """The source of these kinds."""
        self._source = KubernetesSource(
            self.client, self.access.namespace, only_objects(kinds), self._say, self._resources
        )
        return self._source

    def instances(self) -> _Instances | None:
        """The source of `InstancesSeen`; None where we are no Pod."""
        return _Instances(self.client, self.access.namespace, self._pod, self._say) if self._pod else None

    async def close(self) -> None:
        """Say what is left to say, give up the Lease, and hang up."""
        await self._recorder.close()
        if self.lease is not None:
            await self.lease.release()
        await self.client.close()

    def _fence(self) -> str | None:
        return self.lease.fence() if self.lease is not None else None

    def _newest(self, kind: str, name: str) -> dict[str, Any] | None:
        return self._source.newest(kind, name) if self._source is not None else None


class _Instances:
    """Which Pods are instances of this controller: those with the labels of our own, in its namespace."""

    def __init__(self, client: Client, namespace: str, pod: str, say: Callable[[str], None]) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod
        self._say = say

    async def events(self) -> AsyncGenerator[Event, None]:
        """`InstancesSeen`, whenever it changes."""
        labels = await self._labels()
        resource = instances_resource(self._namespace, labels)
        watching = InstanceWatching(resource, rng=random.Random())
        async with aclosing(follow(self._client, self._namespace, watching, self._say)) as events:
            async for event in events:
                yield event

    async def _labels(self) -> dict[str, str]:
        path, said = object_path("v1", "pods", self._namespace, self._pod), False
        while True:
            answer = await self._client.request("GET", path)
            metadata = answer.document().get("metadata") if answer.setback is None else None
            labels = metadata.get("labels") if isinstance(metadata, dict) else None
            if isinstance(labels, dict) and labels:
                return {str(name): str(value) for name, value in labels.items()}
            if not said:
                why = answer.setback.message if answer.setback is not None else "it has no labels"
                self._say(f"cannot tell which Pods are instances of this controller: Pod {self._pod}: {why}")
                said = True
            await asyncio.sleep(5.0)


class _IngressSink:
    """Writes statuses of Ingresses and Events."""

    handles: tuple[type[Intent], ...] = (PublishIngress, RecordEvent)

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        *,
        newest: Callable[[str, str], dict[str, Any] | None],
        fence: Callable[[], str | None],
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._newest = newest
        self._fence = fence

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent."""
        closed = self._fence()
        if closed is not None:
            return Failed(intent=intent, message=closed)  # the loop forgets it when another leads
        match intent:
            case RecordEvent():
                kind, _, name = intent.about.partition(" ")
                metadata = (self._newest(kind, name) or {}).get("metadata") or {}
                self._recorder.record(intent, str(metadata.get("uid") or ""))
                return Applied(intent)
            case PublishIngress(key=key):
                path = object_path(_NETWORKING, "ingresses", key.namespace, key.name, "status")
                answer = await self._client.request(
                    "PATCH", path, body=ingress_status(intent), content_type=MERGE_PATCH
                )
                # 404, 409: what it was meant for is gone, or another under its name, which is told by the watch.
                setback = answer.setback
                if setback is None or setback.status in (404, 409):
                    return Applied(intent)
                passing = setback.status in (0, 401, 403, 429) or setback.status >= 500
                return Failed(intent=intent, message=setback.message, retry=passing)
            case _:
                return Failed(intent=intent, message=f"not done here: {type(intent).__name__}", retry=False)

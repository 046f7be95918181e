"""Which speakers live, told by the API server: one Lease for each node, renewed by its speaker.

The rule is the heartbeat engine's, the same as with a folder: a member lives while its record keeps changing as
we see it, by our clock alone. What the API server does not tell does not age: while it cannot be reached the
membership stays as it was, for the announcements that were right a moment ago are the best guess there is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from lbcore.adapters.base import Report
from lbcore.adapters.heartbeat import Heartbeat, HeartbeatOutput, RemoveRecord, WriteRecord
from lbcore.adapters.kubernetes.api import LEASES, SPEAKER_LABEL, SPEAKERS, object_path
from lbcore.adapters.kubernetes.watching import KeepingUp, Watching
from lbcore.backends.kubernetes.client import SERVER_SIDE_APPLY, Client
from lbcore.backends.kubernetes.recorder import now_text
from lbcore.backends.kubernetes.source import drive
from lbcore.backends.troubles import Troubles
from lbcore.events import Applied, Event, Failed, Kind, Listed, MembersSeen
from lbcore.intents import Intent, SetPresence

__all__ = ["EXPIRY", "INTERVAL", "LeaseMembers"]

# A hundred nodes are a hundred small writes a second. A node that is lost is seen to be after 5 to 6.1 s; one
# that is stopped, or loses its links, takes its Lease away and is seen at once.
INTERVAL = 1.0
EXPIRY = 5.0
RECORD = "lbcore.io/record"  # the annotation that holds the heartbeat's record


class LeaseMembers:
    """Source of `MembersSeen`, sink for `SetPresence`. Our own Lease is renewed only while `is_able` says that this
    node could answer.
    """

    handles: tuple[type[Intent], ...] = (SetPresence,)

    def __init__(
        self,
        client: Client,
        namespace: str,
        node: str,
        *,
        is_able: Callable[[], bool],
        say: Callable[[str], None],
        interval: float = INTERVAL,
        expiry: float = EXPIRY,
    ) -> None:
        rng = random.Random()
        self._client = client
        self._namespace = namespace
        self._node = node
        self._path = object_path(LEASES, "leases", namespace, f"lbcore-speaker-{node}")
        self._say = say
        self._is_able = is_able
        self._troubles = Troubles(say)
        self._timeout = max(expiry / 2, 1.0)
        self._expiry = expiry
        # A node joins when its second record was seen: a first list is given that long.
        self._heartbeat = Heartbeat(
            node, rng.getrandbits(62), rng=rng, interval=interval, expiry=expiry, settle=2 * interval + 1.0
        )
        self._watching = KeepingUp(SPEAKERS, rng=rng)
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._wish: bytes | None = None
        self._remove = False
        self._removed = asyncio.Event()
        self._wake = asyncio.Event()
        self._told = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """Who lives, whenever that changes; after the first `Listed`."""
        tasks = [
            asyncio.create_task(
                drive(self._client, SPEAKERS.path(self._namespace), self._watching, lambda *_: None, self._say)
            ),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._keep()),
        ]
        try:
            while True:
                event = await self._queue.get()
                yield event
                if not self._told:
                    self._told = True
                    yield Listed(Kind.MEMBERS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Begin to renew our Lease, or take it away: then the others are told at once."""
        if not isinstance(intent, SetPresence):
            return Failed(intent=intent, message=f"members do not do {type(intent).__name__}", retry=False)
        self._carry_out(self._heartbeat.command(intent, asyncio.get_running_loop().time()))
        if not intent.present:
            with suppress(TimeoutError):  # it runs out by itself, only later
                async with asyncio.timeout(self._timeout):
                    await self._removed.wait()
        return Applied(intent)

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(max(0.0, self._heartbeat.deadline - clock()))
            now = clock()
            if _is_following(self._watching):
                self._carry_out(self._heartbeat.observe(self._records(), now))
            self._carry_out(self._heartbeat.tick(now))

    def _records(self) -> dict[str, bytes]:
        records = {}
        for document in self._watching.latest.values():
            metadata = document.get("metadata") or {}
            labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
            spec = document.get("spec") or {}
            node, record = spec.get("holderIdentity"), annotations.get(RECORD)
            if isinstance(node, str) and isinstance(record, str) and SPEAKER_LABEL in labels:
                records[node] = record.encode()
        return records

    def _carry_out(self, outputs: list[HeartbeatOutput]) -> None:
        for output in outputs:
            match output:
                case WriteRecord() if not self._is_able():
                    pass
                case WriteRecord(data):
                    self._wish, self._remove = data, False
                    self._wake.set()
                case RemoveRecord():
                    self._wish, self._remove = None, True
                    self._removed.clear()
                    self._wake.set()
                case Report(event):
                    assert isinstance(event, MembersSeen)
                    self._queue.put_nowait(event)

    async def _keep(self) -> None:
        """Write what is to be written, the newest alone: a slow server gets no backlog."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._remove:
                answer = await self._client.request("DELETE", self._path, within=self._timeout)
                self._remove = False
                self._removed.set()
            elif self._wish is not None:
                body = self._lease(self._wish)
                self._wish = None
                answer = await self._client.request(
                    "PATCH",
                    self._path,
                    query=(("fieldManager", "lbcore-speaker"), ("force", "true")),
                    body=body,
                    content_type=SERVER_SIDE_APPLY,
                    within=self._timeout,
                )
            else:
                continue
            setback = answer.setback
            wrong = None if setback is None or setback.status == 404 else setback.message
            self._troubles.note("the Lease of this speaker cannot be kept", wrong)

    def _lease(self, record: bytes) -> dict[str, object]:
        return {
            "apiVersion": LEASES,
            "kind": "Lease",
            "metadata": {
                "name": self._path.rpartition("/")[2],
                "namespace": self._namespace,
                "labels": {SPEAKER_LABEL: "true"},
                "annotations": {RECORD: record.decode().strip()},
            },
            "spec": {
                "holderIdentity": self._node,
                "leaseDurationSeconds": max(1, round(self._expiry)),
                "renewTime": now_text(micro=True),
            },
        }


def _is_following(watching: Watching) -> bool:
    """Whether what it shows is what there is now."""
    return watching.listed and watching.trouble is None and watching.deadline is None

"""Events are sent by a worker of their own: while no status is written, and where that lasts too long, one by one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from lbcore.adapters.kubernetes.api import collection_path, object_path
from lbcore.adapters.kubernetes.notes import Backlog, EventWrite
from lbcore.backends.kubernetes.client import MERGE_PATCH, Client
from lbcore.intents import RecordEvent

__all__ = ["Recorder", "now_text"]

_API = "events.k8s.io/v1"
_PATIENCE = 5.0  # seconds that statuses may keep Events waiting
_LOOK = 0.02  # seconds between two looks whether statuses are still written: each takes 50 us
_TRICKLE = 0.02  # seconds between two Events while they are: 50 a second, where an API server of two cores serves 250
_AT_ONCE = 4  # Events under way while nothing else is
_FLUSH = 2.0  # seconds at the end for what is left


def now_text(*, micro: bool = False) -> str:
    """The time as RFC 3339 in UTC, as Kubernetes writes `Time` and `MicroTime`."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return f"{now.isoformat(timespec='microseconds' if micro else 'seconds')}Z"


class Recorder:
    """Takes Events and sends them. `is_busy` says whether something more important is under way, `may_write`
    whether anything may be written at all.
    """

    def __init__(
        self,
        client: Client,
        backlog: Backlog,
        *,
        is_busy: Callable[[], bool],
        may_write: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self._backlog = backlog
        self._is_busy = is_busy
        self._may_write = may_write
        self._say = say
        self._wake = asyncio.Event()
        self._behind_since = 0.0
        self._worker: asyncio.Task[None] | None = None
        self._unsent = ""

    def record(self, intent: RecordEvent, uid: str) -> None:
        """Line one up."""
        if not len(self._backlog):
            self._behind_since = time.monotonic()
        self._backlog.add(intent, uid, now_text(micro=True))
        self._wake.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Send what is left, for a bounded time."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH):
                while self._may_write() and await self._send_one():
                    pass

    async def _work(self) -> None:
        while True:
            if not len(self._backlog):
                self._wake.clear()
                await self._wake.wait()
            if not self._may_write():
                await asyncio.sleep(0.5)
            elif not self._is_busy():
                # One where the last was refused: what a server does not take is lost, and it is asked again for less.
                await asyncio.gather(*(self._send_one() for _ in range(1 if self._unsent else _AT_ONCE)))
            elif time.monotonic() - self._behind_since > _PATIENCE:
                await self._send_one()
                await asyncio.sleep(_TRICKLE)
            else:
                await asyncio.sleep(_LOOK)

    async def _send_one(self) -> bool:
        write = self._backlog.next(time.monotonic())
        if write is None:
            return False
        answer = await self._client.request(
            "PATCH" if write.name else "POST", _path(write), body=write.body,
            content_type=MERGE_PATCH if write.name else "application/json",
        )  # fmt: skip
        setback = answer.setback
        if setback is None:
            self._unsent = ""
            return True
        if not write.name or setback.status == 404:
            self._backlog.forget(write)  # a series of an Event that is not there would be lost, too
        if not self._unsent and setback.status != 401:
            self._say(f"cannot write Events: {setback.message}")
        self._unsent = setback.message
        if setback.status in (0, 429) or setback.status >= 500:
            # Told to nobody is better than told late to a server that drowns.
            await asyncio.sleep(random.uniform(0.5, 1.0) + (setback.retry_after or 0.0))
        return True


def _path(write: EventWrite) -> str:
    if write.name:
        return object_path(_API, "events", write.namespace, write.name)
    return collection_path(_API, "events", write.namespace)

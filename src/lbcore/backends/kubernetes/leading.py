"""Which of several controllers writes: a Lease, carried for its engine, and the fence that every write asks.

The clock is CLOCK_BOOTTIME: it goes on while the machine sleeps and while this process is stopped, so that one that
wakes up late finds the fence closed before it hears anything.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from lbcore.adapters.kubernetes.api import LEASES, collection_path, object_path
from lbcore.adapters.lease import Leading, LeaseEngine, LeaseOutput, LeaseRecord, LeaseTimes, ReadLease, WriteLease
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.recorder import now_text
from lbcore.events import Event, LeadershipSeen

__all__ = ["LEASE_NAME", "ControllerLease", "Rivals"]

LEASE_NAME = "lbcore-controller"
_MARGIN = 2.0  # seconds that a write is given before the Lease could be another's
_NOT_LOOKED = "other controllers have not been looked for yet"
_RIVALS_EVERY = 30.0  # seconds between two looks for other controllers of the same Services

Rivals = Callable[[], Awaitable[str | None]]


def boot_time() -> float:
    """Seconds since the machine was started, those that it slept through included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def _no_rivals() -> str | None:
    return None


class ControllerLease:
    """Source of `LeadershipSeen`; `fence` is what a sink asks before each write.

    `rivals` says which other controller serves the same Services (None: none): as long as there is one, we do not
    lead, Lease or not.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        identity: str,
        *,
        say: Callable[[str], None],
        name: str = LEASE_NAME,
        rivals: Rivals = _no_rivals,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._path = object_path(LEASES, "leases", namespace, name)
        self._engine = LeaseEngine(identity, rng=random.Random(), times=times)
        self._say = say
        self._rivals = rivals
        self._clock = clock
        self._rival: str | None = _NOT_LOOKED
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._told = False
        self._document: dict[str, Any] = {}
        self._trouble = ""

    def fence(self) -> str | None:
        """Why nothing may be written now; None while it may."""
        if self._rival == _NOT_LOOKED:
            return _NOT_LOOKED
        if self._rival is not None:
            return f"another controller: {self._rival}"
        if not self._engine.leads(self._clock(), _MARGIN):
            return f"the Lease is held by {self._engine.holder or 'nobody'}"
        return None

    def missing(self) -> str | None:
        """What keeps it from being ready; a standby that sees who leads is."""
        if self._rival == _NOT_LOOKED:
            return _NOT_LOOKED
        if self._rival is not None:
            return f"another controller serves these Services: {self._rival}"
        if self._engine.leads(self._clock()) or self._engine.holder:
            return None
        return self._trouble or "the Lease has not been seen yet"

    @property
    def leads(self) -> bool:
        """Whether it is ours to write."""
        return self.fence() is None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Leadership, whenever it changes."""
        tasks = [asyncio.create_task(self._carry()), asyncio.create_task(self._look_for_rivals())]
        try:
            while True:
                yield await self._queue.get()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def release(self) -> None:
        """Give the Lease up, so that the next one need not wait for it to run out."""
        for output in self._engine.release(self._clock()):
            if isinstance(output, WriteLease):
                await self._client.request("PUT", self._path, body=self._body(output.record), within=2.0)

    async def _carry(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, min(self._engine.deadline - self._clock(), 1.0)))
            outputs = self._engine.tick(self._clock())
            while outputs:
                question = self._tell(outputs)
                outputs = await self._ask(question) if question is not None else []

    def _tell(self, outputs: list[LeaseOutput]) -> ReadLease | WriteLease | None:
        question = None
        for output in outputs:
            if isinstance(output, Leading):
                self._say(f"leading: {output.why}" if output.leading else f"not leading: {output.why}")
            else:
                question = output
        self._report()
        return question

    def _report(self) -> None:
        closed = self.fence() if not self._engine.leads(self._clock()) or self._rival is not None else None
        if (closed is None) != self._told:
            self._told = closed is None
            self._queue.put_nowait(LeadershipSeen(self._told, closed or "the Lease is ours"))

    async def _ask(self, question: ReadLease | WriteLease) -> list[LeaseOutput]:
        # Shorter than the time in which a Lease has to be renewed: a renewal that hangs leaves room for another.
        within = self._engine.times.renew_deadline / 2
        asking = asyncio.create_task(self._answered(question, within))
        while True:
            # What we believe may end while an answer is awaited.
            await asyncio.wait((asking,), timeout=max(0.01, min(self._engine.deadline - self._clock(), 1.0)))
            if asking.done():
                return asking.result()
            self._tell(self._engine.tick(self._clock()))

    async def _answered(self, question: ReadLease | WriteLease, within: float) -> list[LeaseOutput]:
        if isinstance(question, ReadLease):
            answer = await self._client.request("GET", self._path, within=within)
        elif question.record.version:
            answer = await self._client.request("PUT", self._path, body=self._body(question.record), within=within)
        else:
            path = collection_path(LEASES, "leases", self._namespace)
            answer = await self._client.request("POST", path, body=self._body(question.record), within=within)
        now = self._clock()
        absent = isinstance(question, ReadLease) and answer.status == 404
        self._note(None if absent or answer.status == 409 else answer.setback)
        if absent:
            return self._engine.seen(None, now)
        if answer.status in (404, 409):
            return self._engine.refused(now)
        if answer.setback is not None:
            return self._engine.failed(now)
        document = answer.document()
        self._document = document
        record = _record(document)
        return (
            self._engine.seen(record, now)
            if isinstance(question, ReadLease)
            else self._engine.written(record.version, now)
        )

    def _note(self, setback: Any) -> None:
        said, self._trouble = self._trouble, "" if setback is None else f"the Lease: {setback.message}"
        if setback is not None and setback.status == 401:
            return  # told by the client
        if bool(said) != bool(self._trouble):
            self._say(self._trouble or "the Lease can be read and written again")

    def _body(self, record: LeaseRecord) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        if record.version:
            # Whatever else stands in it (labels of a chart) stays.
            metadata = {**(self._document.get("metadata") or {}), "resourceVersion": record.version}
        now = now_text(micro=True)
        before = self._document.get("spec") or {}
        same = before.get("holderIdentity") == record.holder
        return {
            "apiVersion": LEASES,
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": max(1, round(record.duration)),
                "leaseTransitions": record.transitions,
                "acquireTime": before.get("acquireTime") or now if same else now,
                "renewTime": now,
            },
        }

    async def _look_for_rivals(self) -> None:
        while True:
            found = await self._rivals()
            if found != self._rival:
                if found is not None:
                    self._say(f"writes nothing: {found}")
                self._rival = found
                self._report()
            await asyncio.sleep(_RIVALS_EVERY if found is None else _RIVALS_EVERY / 6)


def _record(document: dict[str, Any]) -> LeaseRecord:
    spec, metadata = document.get("spec") or {}, document.get("metadata") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return LeaseRecord(
        holder=str(spec.get("holderIdentity") or ""),
        duration=float(duration) if isinstance(duration, int) else 15.0,
        transitions=transitions if isinstance(transitions, int) else 0,
        version=str(metadata.get("resourceVersion") or ""),
    )

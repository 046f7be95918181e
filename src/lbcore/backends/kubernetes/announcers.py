"""What this node announces, written down for those who ask: ServiceL2Status and ServiceBGPStatus.

Nobody waits for it, so a worker of its own writes, a few at once, the newest of each Service only. What is there is
asked once at the start and after each change of membership, and compared: a speaker that is started again writes
nothing that is written already, and takes away what no longer holds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice

import msgspec

from lbcore.adapters.kubernetes.announced import (
    Owner,
    Row,
    new_object,
    node_label,
    node_of,
    read_row,
    status_patch,
    wanted_status,
)
from lbcore.adapters.kubernetes.api import ANNOUNCED, ApiResource, Page
from lbcore.adapters.kubernetes.watching import PAGE, Setback, pause_after
from lbcore.backends.kubernetes.client import MERGE_PATCH, Client
from lbcore.backends.troubles import Troubles
from lbcore.events import Applied, Failed
from lbcore.intents import Intent, ReportAnnounced, SettleAnnounced
from lbcore.model import ServiceKey

__all__ = ["AnnouncedKeeper"]

_AT_ONCE = 4
_FLUSH = 2.0  # seconds at the end for what is left; the rest goes with the Pod
_TROUBLE = "who announces what cannot be written"


class AnnouncedKeeper:
    """Takes reports of one node and keeps its objects. `owner` is its Pod, where it is one."""

    handles: tuple[type[Intent], ...] = (ReportAnnounced, SettleAnnounced)

    def __init__(
        self, client: Client, namespace: str, node: str, owner: Owner | None, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._node = node
        self._owner = owner
        self._troubles = Troubles(say)
        self._rng = random.Random()
        self._said: dict[ServiceKey, ReportAnnounced] = {}
        self._open: dict[ServiceKey, None] = {}  # to be compared with what is written
        self._settle: SettleAnnounced | None = None
        self._rows: dict[tuple[str, ServiceKey], Row] = {}
        self._absent: set[str] = set()  # kinds that the API server does not have
        self._listed = False
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Take a report; it is written when its turn comes."""
        match intent:
            case ReportAnnounced():
                self._said[intent.key] = intent
                self._open[intent.key] = None
            case SettleAnnounced():
                self._settle = intent
            case _:
                return Failed(intent=intent, message=f"not written: {type(intent).__name__}", retry=False)
        self._wake.set()
        self._idle.clear()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return Applied(intent)

    async def drain(self, within: float) -> bool:
        """Wait until all is written, at most so many seconds; whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()
        return self._idle.is_set()

    async def close(self) -> None:
        """Write what is left, for a bounded time; twice does no harm."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        await self.drain(_FLUSH)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    async def _work(self) -> None:
        failures = 0
        while True:
            if not self._open and self._settle is None:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            setback = await self._some()
            self._troubles.note(_TROUBLE, setback.message if setback is not None else None)
            if setback is None:
                failures = 0
                continue
            await asyncio.sleep(pause_after(failures, setback, self._rng))
            failures += 1

    async def _some(self) -> Setback | None:
        """Some of what is to be done; what went wrong, and is still to be done."""
        settle = self._settle
        if settle is not None or not self._listed:
            setback = await self._look()
            if setback is not None:
                return setback
        if settle is not None:
            self._open |= dict.fromkeys([*self._said, *(key for _, key in self._rows)])
            setback = await self._sweep(settle.living) if settle.sweeps else None
            if setback is not None:
                return setback
            if self._settle is settle:
                self._settle = None
        keys = list(islice(self._open, _AT_ONCE))
        for key in keys:
            del self._open[key]
        outcomes = await asyncio.gather(*(self._write(key) for key in keys))
        bad = [(key, each) for key, each in zip(keys, outcomes, strict=True) if each is not None]
        self._open |= dict.fromkeys(key for key, _ in bad)
        return bad[0][1] if bad else None

    # What is there

    async def _look(self) -> Setback | None:
        """Learn what is written of this node; take away what is there twice."""
        rows: dict[tuple[str, ServiceKey], Row] = {}
        absent = set()
        for resource in ANNOUNCED:
            found = await self._list(resource, (("labelSelector", f"metallb.io/node={node_label(self._node)}"),))
            if isinstance(found, Setback):
                if found.status != 404:
                    return found
                absent.add(resource.plural)
                continue
            for document in found:
                known = read_row(document)
                if known is None:
                    continue
                key, row = known
                if (resource.plural, key) in rows:
                    await self._delete(resource, row.name)
                else:
                    rows[resource.plural, key] = row
        self._rows, self._absent, self._listed = rows, absent, True
        return None

    async def _sweep(self, living: Iterable[str]) -> Setback | None:
        """Take away what is written of speakers that are gone."""
        labels = {node_label(node) for node in living}
        for resource in ANNOUNCED:
            if resource.plural in self._absent:
                continue
            found = await self._list(resource, ())
            if isinstance(found, Setback):
                return found
            for document in found:
                if node_of(document) not in labels and (known := read_row(document)) is not None:
                    setback = await self._delete(resource, known[1].name)
                    if setback is not None:
                        return setback
        return None

    async def _list(
        self, resource: ApiResource, selector: tuple[tuple[str, str], ...]
    ) -> list[Mapping[str, object]] | Setback:
        found: list[Mapping[str, object]] = []
        continued = ""
        while True:
            query = (*selector, ("limit", str(PAGE)), *((("continue", continued),) if continued else ()))
            answer = await self._client.request("GET", resource.path(self._namespace), query=query)
            if answer.setback is not None:
                return answer.setback
            try:
                page = msgspec.json.decode(answer.body, type=Page)
                found += [resource.decode(raw) for raw in page.items or ()]
            except (msgspec.MsgspecError, UnicodeError) as error:
                return Setback(status=answer.status, message=f"its answer is no list ({error})")
            continued = page.metadata.continue_
            if not continued:
                return found

    # What is to be there

    async def _write(self, key: ServiceKey) -> Setback | None:
        said = self._said.get(key) or ReportAnnounced(key=key, node=self._node)
        for resource in ANNOUNCED:
            if resource.plural not in self._absent:
                setback = await self._keep(resource, said)
                if setback is not None:
                    return setback
        if not said.is_any and self._said.get(key) is said:
            del self._said[key]
        return None

    async def _keep(self, resource: ApiResource, said: ReportAnnounced) -> Setback | None:
        """Make the object of one kind what it should be."""
        at = (resource.plural, said.key)
        wanted, row = wanted_status(resource, said), self._rows.get(at)
        if wanted is None:
            if row is None:
                return None
            setback = await self._delete(resource, row.name)
            if setback is None:
                self._rows.pop(at, None)
            return setback
        if row is None:
            made = await self._create(resource, said)
            if not isinstance(made, Row):
                return made
            row = self._rows[at] = made
        elif self._owner is not None and row.owners != self._owners:
            # A Pod before us made it, and it would go with that one.
            taken = {"metadata": {"ownerReferences": [self._owner.reference]}}
            setback = await self._patch(resource, at, row.name, taken)
            if setback is not None:
                return setback
            row = self._rows[at] = Row(name=row.name, status=row.status, owners=self._owners)
        patch = status_patch(wanted, row.status)
        if patch is None:
            return None
        setback = await self._patch(resource, at, f"{row.name}/status", patch)
        if setback is None:
            self._rows[at] = Row(name=row.name, status=wanted, owners=row.owners)
        return setback

    @property
    def _owners(self) -> frozenset[str]:
        return frozenset() if self._owner is None else frozenset({self._owner.uid})

    async def _create(self, resource: ApiResource, said: ReportAnnounced) -> Row | Setback | None:
        """The object as it is after its making; None where there is no such kind."""
        body = new_object(resource, said, self._owner)
        answer = await self._client.request("POST", resource.path(self._namespace), body=body)
        setback = answer.setback
        if setback is not None and setback.status == 404:
            self._absent.add(resource.plural)
            return None
        if setback is not None and setback.status != 409:  # 409: it was made by a request whose answer was lost
            return setback
        return Row(name=str(body["metadata"]["name"]), owners=self._owners)

    async def _patch(
        self, resource: ApiResource, at: tuple[str, ServiceKey], path: str, patch: Mapping[str, object]
    ) -> Setback | None:
        url = f"{resource.path(self._namespace)}/{path}"
        answer = await self._client.request("PATCH", url, body=patch, content_type=MERGE_PATCH)
        if answer.setback is not None and answer.setback.status == 404:
            self._rows.pop(at, None)  # somebody has deleted it: it is made anew
        return answer.setback

    async def _delete(self, resource: ApiResource, name: str) -> Setback | None:
        answer = await self._client.request("DELETE", f"{resource.path(self._namespace)}/{name}")
        return None if answer.setback is None or answer.setback.status == 404 else answer.setback

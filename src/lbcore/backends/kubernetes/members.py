"""Which speakers live, told by the API server: one Lease for each node, renewed by its speaker.

The rule is the heartbeat engine's, the same as with a folder: a member lives while its record keeps changing as
we see it, by our clock alone. What the API server does not tell does not age: while it cannot be reached the
membership stays as it was, for the announcements that were right a moment ago are the best guess there is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable

from lbcore.adapters.base import Report
from lbcore.adapters.heartbeat import Heartbeat, HeartbeatOutput, RemoveRecord, WriteRecord
from lbcore.adapters.kubernetes.api import SPEAKERS
from lbcore.adapters.kubernetes.speakers import lease_document, read_lease
from lbcore.adapters.kubernetes.watching import KeepingUp, Watching
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.own_lease import OwnLease
from lbcore.backends.kubernetes.recorder import now_text
from lbcore.backends.kubernetes.source import drive
from lbcore.events import Applied, Event, Failed, Kind, Listed, MembersSeen
from lbcore.intents import Intent, SetPresence

__all__ = ["EXPIRY", "INTERVAL", "LeaseMembers", "is_following"]

# A hundred nodes are a hundred small writes a second. A node that is lost is seen to be after 5 to 6.1 s; one
# that is stopped, or loses its links, takes its Lease away and is seen at once.
INTERVAL = 1.0
EXPIRY = 5.0


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
        self._lease = OwnLease(client, namespace, node, timeout=max(expiry / 2, 1.0), say=say)
        self._say = say
        self._is_able = is_able
        self._expiry = expiry
        # A node joins when its second record was seen: a first list is given that long.
        self._heartbeat = Heartbeat(
            node, rng.getrandbits(62), rng=rng, interval=interval, expiry=expiry, settle=2 * interval + 1.0
        )
        self._watching = KeepingUp(SPEAKERS, rng=rng)
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._told = False
        self._shown: dict[str, bytes] = {}

    async def events(self) -> AsyncGenerator[Event, None]:
        """Who lives, whenever that changes; after the first `Listed`."""
        tasks = [
            asyncio.create_task(
                drive(self._client, SPEAKERS.path(self._namespace), self._watching, lambda *_: None, self._say)
            ),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._lease.run()),
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
            await self._lease.gone()
        return Applied(intent)

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(max(0.0, self._heartbeat.deadline - clock()))
            now = clock()
            # Our own record changes with every renewal, so that a watch which shows no change at all shows nothing: its
            # server may have lost power, and a connection to it stands for minutes. Then nobody ages either.
            records = self._records()
            if is_following(self._watching) and records != self._shown:
                self._shown = records
                self._carry_out(self._heartbeat.observe(records, now))
            self._carry_out(self._heartbeat.tick(now))

    def _records(self) -> dict[str, bytes]:
        found = (read_lease(document) for document in self._watching.latest.values())
        return {each.node: each.record for each in found if each is not None and each.record is not None}

    def _carry_out(self, outputs: list[HeartbeatOutput]) -> None:
        for output in outputs:
            match output:
                case WriteRecord() if not self._is_able():
                    pass
                case WriteRecord(data):
                    self._lease.keep(
                        lease_document(
                            self._lease.name,
                            self._namespace,
                            self._node,
                            lasts=max(1, round(self._expiry)),
                            renewed=now_text(micro=True),
                            record=data,
                            view=None,
                        )
                    )
                case RemoveRecord():
                    self._lease.remove()
                case Report(event):
                    assert isinstance(event, MembersSeen)
                    self._queue.put_nowait(event)


def is_following(watching: Watching) -> bool:
    """Whether what it shows is what there is now."""
    return watching.listed and watching.trouble is None and watching.deadline is None

"""Members by gossip in a cluster behind an API server, where some speakers may still know each other by Leases.

What gossip says comes from the reflex process, the others from their Leases (`lbcore.adapters.crossing`). Our own Lease
says what we see, for `lbcore get members` and `explain`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Protocol

from attrs import evolve

from lbcore.adapters.base import Report
from lbcore.adapters.crossing import Crossing, CrossingOutput, Keep, Remove, Unheard
from lbcore.adapters.kubernetes.api import SPEAKERS
from lbcore.adapters.kubernetes.speakers import lease_document, read_lease
from lbcore.adapters.kubernetes.watching import KeepingUp
from lbcore.adapters.views import View
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.members import is_following
from lbcore.backends.kubernetes.own_lease import OwnLease
from lbcore.backends.kubernetes.recorder import now_text
from lbcore.backends.kubernetes.source import drive
from lbcore.backends.troubles import Troubles
from lbcore.events import Applied, Event, Failed, Kind, Listed, MembersSeen
from lbcore.intents import Intent, SetPresence

__all__ = ["GossipMembers"]

_LASTS = 60  # seconds that our Lease is good for; it is renewed after 20 at the latest
_TIMEOUT = 5.0


class Gossips(Protocol):
    """Who gossips for us."""

    @property
    def view(self) -> View | None:
        """What it sees, once it does."""
        ...

    def divert_members(self, hear: Callable[[MembersSeen], None]) -> None:
        """Have somebody else hear who the members are."""
        ...

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Come in, or leave."""
        ...


class GossipMembers:
    """Source of `MembersSeen`, sink for `SetPresence`, of a speaker that gossips."""

    handles: tuple[type[Intent], ...] = (SetPresence,)

    def __init__(
        self, client: Client, namespace: str, node: str, gossip: Gossips, *, say: Callable[[str], None]
    ) -> None:
        rng = random.Random()
        self._client = client
        self._namespace = namespace
        self._node = node
        self._gossip = gossip
        self._say = say
        self._lease = OwnLease(client, namespace, node, timeout=_TIMEOUT, say=say)
        self._crossing = Crossing(node, rng.getrandbits(62), rng=rng)
        self._unheard = Unheard(node)
        self._gossiping = frozenset[str]()
        self._troubles = Troubles(say)
        # Where Leases may not be read there are none, as with rights that were made for MetalLB.
        self._watching = KeepingUp(evolve(SPEAKERS, optional=True), rng=rng)
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._told = False
        self._shown: dict[str, dict[str, Any]] | None = None
        gossip.divert_members(self._hear)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Who lives, whenever that changes; after the first `Listed`."""
        path = SPEAKERS.path(self._namespace)
        tasks = [
            asyncio.create_task(drive(self._client, path, self._watching, lambda *_: None, self._say)),
            asyncio.create_task(self._look()),
            asyncio.create_task(self._lease.run()),
        ]
        try:
            while True:
                yield await self._queue.get()
                if not self._told:
                    self._told = True
                    yield Listed(Kind.MEMBERS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Come in, or leave: by gossip and by our Lease."""
        if not isinstance(intent, SetPresence):
            return Failed(intent=intent, message=f"members do not do {type(intent).__name__}", retry=False)
        self._carry_out(self._crossing.command(intent, self._now()))
        outcome = await self._gossip.apply(intent)
        if not intent.present:
            await self._lease.gone()
        return outcome

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _hear(self, seen: MembersSeen) -> None:
        self._gossiping = seen.names | seen.waiting
        self._carry_out(self._crossing.gossiped(seen, self._now()))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._crossing.deadline - self._now()))
            follows = is_following(self._watching)
            if self._watching.listed and (follows or not self._watching.latest):
                if self._is_news():
                    self._carry_out(self._crossing.observe(self._records(), self._now()))
                if follows and f"{self._namespace}/{self._lease.name}" not in self._watching.latest:
                    self._carry_out(self._crossing.miss(self._now()))
            self._carry_out(self._crossing.tick(self._now(), self._gossip.view))
            self._say_unheard()

    def _is_news(self) -> bool:
        """Whether the API server shows that it lives: nobody ages by the Leases of one that is silent.

        While anybody lives by Leases our own changes every second, so that a watch which shows no change at all shows
        nothing: its server may have lost power, and a connection to it stands for minutes. Where ours may not be
        written there is nothing to tell that by.
        """
        shown = dict(self._watching.latest)
        news = shown != self._shown or self._lease.refused
        self._shown = shown
        return news

    def _say_unheard(self) -> None:
        """Where gossip does not pass each node is alone, and announces everything."""
        found = [read_lease(document) for document in self._watching.latest.values()]
        renewals = {each.node: str(each.written) for each in found if each is not None and each.gossips}
        unheard = self._unheard.look(renewals, self._gossiping, self._now())
        what = "speakers renew their Leases and are not heard by gossip"
        cure = "let its port pass between all nodes, by UDP and TCP, and give all the same Secret"
        self._troubles.note(what, f"{', '.join(unheard)}; {cure}" if unheard else None)

    def _records(self) -> dict[str, bytes]:
        """Of those who live by them alone."""
        found = [read_lease(document) for document in self._watching.latest.values()]
        return {
            each.node: each.record
            for each in found
            if each is not None and each.record is not None and not each.gossips
        }

    def _carry_out(self, outputs: Iterable[CrossingOutput]) -> None:
        for output in outputs:
            match output:
                case Keep(data):
                    view = self._gossip.view or View(node=self._node, fast=False, why="it has just begun")
                    document = lease_document(
                        self._lease.name,
                        self._namespace,
                        self._node,
                        lasts=_LASTS,
                        renewed=now_text(micro=True),
                        record=data,
                        view=view,
                    )
                    self._lease.keep(document)
                case Remove():
                    self._lease.remove()
                case Report(event):
                    assert isinstance(event, MembersSeen)
                    self._queue.put_nowait(event)

"""Members by Leases, at a real API server: nobody dies of its silence, and who was away is back; nor does somebody who
lives by Leases, for one that gossips.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lbcore.adapters.views import View
from lbcore.backends.kubernetes import Access, GossipMembers, LeaseMembers
from lbcore.backends.kubernetes.client import Client
from lbcore.events import Applied, Failed, MembersSeen
from lbcore.intents import Intent, SetPresence
from lbcore.lab.controlplane import ApiServer, kubeconfig_text
from tlsrelay import relayed

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl")]

INTERVAL, EXPIRY = 0.4, 2.0  # seconds, as 1 and 5 in a cluster
SILENT = 7.0  # seconds; for one who gossips a Lease that does not change for 5 is that of a dead one
BOTH = frozenset({"near", "far"})


class Alone:
    """Gossip of one node that nobody else takes part in."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.view = View(node=node, fast=False, why="it is alone")
        self.hear: Callable[[MembersSeen], None] = lambda _: None

    def divert_members(self, hear: Callable[[MembersSeen], None]) -> None:
        self.hear = hear

    async def apply(self, intent: Intent) -> Applied | Failed:
        self.hear(MembersSeen(frozenset({self.node})))
        return Applied(intent)


@asynccontextmanager
async def member(access: Access, node: str, *, gossips: bool = False) -> AsyncIterator[list[MembersSeen]]:
    """A speaker's membership, present; what it tells."""
    client = Client(access, agent="test")
    await client.sign_in()
    members: GossipMembers | LeaseMembers
    if gossips:
        members = GossipMembers(client, access.namespace, node, Alone(node), say=lambda _: None)
    else:
        members = LeaseMembers(
            client,
            access.namespace,
            node,
            is_able=lambda: True,
            say=lambda _: None,
            interval=INTERVAL,
            expiry=EXPIRY,
        )
    told: list[MembersSeen] = []

    async def follow() -> None:
        async for event in members.events():
            if isinstance(event, MembersSeen):
                told.append(event)  # noqa: PERF401 - it never ends

    task = asyncio.create_task(follow())
    try:
        await members.apply(SetPresence(present=True, why="test"))
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited in vain for {what}")


def beyond(relay_url: str, api: ApiServer, namespace: str) -> Access:
    """The API server as it is reached through a relay."""
    path = api.folder / "far.kubeconfig"
    path.write_text(kubeconfig_text(relay_url, api.token, api.authority), encoding="utf-8")
    return Access(kubeconfig=path, namespace=namespace)


def test_who_hears_nothing_of_the_server_loses_nobody_and_is_back_for_all_when_it_hears_again(
    api: ApiServer, namespace: str
) -> None:
    with relayed(api) as relay:

        async def live() -> tuple[list[MembersSeen], list[MembersSeen]]:
            near_access = Access(kubeconfig=api.kubeconfig, namespace=namespace)
            far_access = beyond(relay.url, api, namespace)
            async with member(near_access, "near") as near, member(far_access, "far") as far:
                await until(lambda: all(each and each[-1].names == BOTH for each in (near, far)), "both")
                before = len(far)
                # Not a byte passes, and no connection ends: a host that lost power, or a cable that is cut further on.
                relay.silent = True
                await until(lambda: near[-1].names == {"near"}, "one to be lost")
                await asyncio.sleep(EXPIRY)
                relay.silent = False
                await until(lambda: near[-1].names == BOTH, "both again")
                await until(lambda: far[-1].reunions > 0, "the other to know that it was away")
                return near, far[before:]

        near, far = asyncio.run(live())
    assert 1 == near[-1].reunions
    assert {BOTH} == {each.names for each in far}


def test_who_gossips_keeps_those_who_live_by_leases_while_the_server_is_silent_and_misses_the_dead_afterwards(
    api: ApiServer, namespace: str
) -> None:
    with relayed(api) as relay:

        async def live() -> list[MembersSeen]:
            far_access = beyond(relay.url, api, namespace)
            async with member(far_access, "far", gossips=True) as far:
                async with member(Access(kubeconfig=api.kubeconfig, namespace=namespace), "near"):
                    await until(lambda: bool(far) and far[-1].names == BOTH, "both")
                    before = len(far)
                    relay.silent = True
                    await asyncio.sleep(SILENT)
                    relay.silent = False
                    await until(lambda: len(far) > before, "what it says afterwards")
                    told = far[before:]
                await until(lambda: far[-1].names == {"far"}, "the other to be missed")
                return told

        told = asyncio.run(live())
    assert {BOTH} == {each.names for each in told}
    assert 1 == told[-1].reunions

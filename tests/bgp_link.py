"""A node and a router on one cable, in namespaces; on the node the speaker's BGP backend, carried by a thread.

No daemon, no cluster: intents go in, sessions and a real router's routes come out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from lbcore.addresses import Address
from lbcore.backends.bgp import BgpSpeaker
from lbcore.bgp import BGPPeer, Community
from lbcore.events import Applied, PeerSeen
from lbcore.intents import AdvertiseRoute, Intent, SetSessions, WithdrawRoute
from lbcore.lab.namespaces import Namespace
from lbcore.routes import Offer, Path, PeerState, PeerStatus, Prefix

__all__ = ["NODE", "ROUTER", "Cable", "Speaking", "prefixes", "session", "texts"]

NODE = {4: "192.0.2.2", 6: "2001:db8::2"}
ROUTER = {4: "192.0.2.1", 6: "2001:db8::1"}
FAR_NODE, FAR_ROUTER = "10.255.0.2", "10.255.0.1"  # on no link: sessions of several hops
PATIENCE = 40.0  # seconds: many times what anything here takes, for a machine that is busy


class Cable:
    """The two namespaces `node` and `router`, with addresses of both families, and one on no link each."""

    def __init__(self) -> None:
        self.node, self.router = Namespace("node"), Namespace("router")
        peer = ["peer", "name", "eth0", "netns", str(self.router.pid)]
        self.node.run(["ip", "link", "add", "eth0", "type", "veth", *peer], check=True)
        for space, own, far, via in (
            (self.node, NODE, FAR_NODE, (ROUTER[4], FAR_ROUTER)),
            (self.router, ROUTER, FAR_ROUTER, (NODE[4], FAR_NODE)),
        ):
            space.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.accept_dad=0"])
            lines = ["link set lo up", "link set eth0 up", f"addr add {own[4]}/24 dev eth0"]
            lines += [f"addr add {own[6]}/64 dev eth0 nodad", f"addr add {far}/32 dev lo"]
            lines += [f"route add {via[1]}/32 via {via[0]} src {far}"]
            space.run(["ip", "-batch", "-"], text="\n".join(lines) + "\n", check=True)

    def close(self) -> None:
        self.node.close()
        self.router.close()

    @contextlib.contextmanager
    def speaking(self, *peers: BGPPeer, listen_port: int | None = None) -> Iterator[Speaking]:
        """The node's BGP speaker with these peers; at the end it stops in order."""
        speaking = Speaking(self.node, listen_port)
        try:
            speaking.set_peers(*peers)
            yield speaking
        finally:
            speaking.stop()

    def listener(self, address: str, port: int = 179) -> socket.socket:
        """A socket of the router's that waits for the node."""

        def listen() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(8)
            sock.settimeout(PATIENCE)
            return sock

        return self.router.call(listen)


class Speaking:
    """A `BgpSpeaker` in a namespace, and the newest of each of its sessions."""

    def __init__(self, space: Namespace, listen_port: int | None = None) -> None:
        self.sessions: dict[str, PeerStatus] = {}
        self.reports: list[PeerSeen] = []
        self._listen_port = listen_port
        self._ready: Future[tuple[asyncio.AbstractEventLoop, BgpSpeaker, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=space.call, args=(self._main,))
        self._thread.start()
        self._loop, self._speaker, self._end = self._ready.result(PATIENCE)

    @property
    def speaker(self) -> BgpSpeaker:
        return self._speaker

    def _main(self) -> None:
        asyncio.run(self._carry())

    async def _carry(self) -> None:
        speaker, end = BgpSpeaker("node", self._listen_port), asyncio.Event()
        self._ready.set_result((asyncio.get_running_loop(), speaker, end))
        hearing = asyncio.create_task(self._hear(speaker))
        await end.wait()
        hearing.cancel()
        await speaker.close()

    async def _hear(self, speaker: BgpSpeaker) -> None:
        async for event in speaker.events():
            assert isinstance(event, PeerSeen)
            self.reports.append(event)
            if event.status is not None:
                self.sessions[event.peer] = event.status
            else:
                self.sessions.pop(event.peer, None)

    def apply(self, *intents: Intent) -> None:
        async def carry_out() -> None:
            for intent in intents:
                assert Applied(intent) == await self._speaker.apply(intent)

        asyncio.run_coroutine_threadsafe(carry_out(), self._loop).result(PATIENCE)

    def set_peers(self, *peers: BGPPeer) -> None:
        self.apply(SetSessions(peers))

    def advertise(self, wanted: Sequence[Prefix], *peers: str, path: Path | None = None) -> None:
        offers = tuple(Offer(name, path or Path()) for name in sorted(peers))
        self.apply(*(AdvertiseRoute(prefix=prefix, offers=offers) for prefix in wanted))

    def withdraw(self, gone: Sequence[Prefix]) -> None:
        self.apply(*(WithdrawRoute(prefix) for prefix in gone))

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}; sessions: {self.sessions}"
            time.sleep(0.02)

    def wait_up(self, *names: str) -> None:
        wanted = names or tuple(self.sessions)
        self.wait(
            lambda: all(
                name in self.sessions and self.sessions[name].state is PeerState.ESTABLISHED for name in wanted
            ),
            f"sessions {names}",
        )

    def wait_error(self, name: str, words: str, timeout: float = PATIENCE) -> str:
        """Until a session's last error has these words; the error."""
        self.wait(lambda: words in self._error(name), f"{words!r} about {name}", timeout)
        return self._error(name)

    def _error(self, name: str) -> str:
        return self.sessions[name].error if name in self.sessions else ""

    def stop(self) -> None:
        """End in order, as at SIGTERM."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(PATIENCE)


def session(name: str, address: str, **fields: Any) -> BGPPeer:
    wanted: dict[str, Any] = {"my_asn": 64513, "peer_asn": 64512, "hold_time": 9, "connect_time": 1, **fields}
    return BGPPeer(name=name, address=Address.parse(address) if address else None, **wanted)


def prefixes(count: int, version: int, first: int = 0) -> list[Prefix]:
    start = (198 << 24) + (18 << 16) if version == 4 else 0xFD000077 << 96
    return [Prefix(version, start + first + each, 32 if version == 4 else 128) for each in range(count)]


def texts(wanted: Sequence[Prefix]) -> set[str]:
    return {str(each) for each in wanted}


COMMUNITIES = (Community((64513, 7)), Community((64513, 1, 2)))

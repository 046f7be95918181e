"""BGP sessions over TCP: a source of `PeerSeen` and the sink that holds peers and tells them routes.

Each peer has an engine and its sockets (`lbcore.backends.bgp_peering`); asyncio waits for them. A peer that
changes gets a new session, and the others' are not touched. The node connects, as MetalLB does; it listens
only where it is told to, for routers that want to be the ones who connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator

from attrs import evolve

from lbcore.adapters.bgp.notifications import Cease
from lbcore.adapters.bgp.session import Session
from lbcore.addresses import Address
from lbcore.backends.bgp_peering import Peering
from lbcore.backends.tcp import listen, sign
from lbcore.bgp import BGPPeer
from lbcore.errors import LbcoreError
from lbcore.events import Applied, Event, Failed, PeerSeen
from lbcore.intents import AdvertiseRoute, Intent, LoseSession, SetSessions, WithdrawRoute
from lbcore.routes import Path, Prefix

__all__ = ["BgpSpeaker"]


class BgpSpeaker:
    """All sessions of a node, and the routes that are told in them."""

    handles: tuple[type[Intent], ...] = (SetSessions, LoseSession, AdvertiseRoute, WithdrawRoute)

    def __init__(self, node: str, listen_port: int | None = None) -> None:
        """Raises `LbcoreError` where `listen_port` cannot be listened on."""
        self._node = node
        families = () if listen_port is None else (socket.AF_INET, socket.AF_INET6)
        try:
            self._listeners = {family: listen(family, listen_port or 0) for family in families}
        except OSError as error:
            text = f"cannot wait for routers on port {listen_port}: {error.strerror}; see --bgp-listen"
            raise LbcoreError(text) from None
        self._peerings: dict[str, Peering] = {}
        self._routes: dict[Prefix, dict[str, Path]] = {}
        self._news: dict[str, PeerSeen] = {}
        self._wake = asyncio.Event()

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent; what is there already is left alone."""
        match intent:
            case SetSessions(peers, leaving):
                self._set_peers({peer.name: peer for peer in peers})
                for name, peering in self._peerings.items():
                    peering.session.leave(leaving=name in leaving, now=asyncio.get_running_loop().time())
                    peering.wake()
            case LoseSession(peer, why) if peer in self._peerings:
                self._peerings[peer].lose(why)
            case LoseSession():
                pass
            case AdvertiseRoute(prefix=prefix, offers=offers):
                self._set_route(prefix, {offer.peer: offer.path for offer in offers})
            case WithdrawRoute(prefix):
                self._set_route(prefix, {})
            case _:
                return Failed(intent=intent, message=f"BGP does not do {type(intent).__name__}", retry=False)
        return Applied(intent)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The newest of each session, whenever it changes."""
        for listener in self._listeners.values():
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._news:
                yield self._news.pop(next(iter(self._news)))

    @property
    def sessions(self) -> tuple[tuple[BGPPeer, Session], ...]:
        """Every peer and its engine, to be read only; from any thread."""
        return tuple((peering.peer, peering.session) for peering in list(self._peerings.values()))

    async def close(self) -> None:
        """End all sessions, each with a word unless its peer is to keep our routes."""
        for listener in self._listeners.values():
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for peering in self._peerings.values():
            peering.stop(Cease.SHUTDOWN, f"the speaker on {self._node} stops")
        self._peerings.clear()

    def _set_peers(self, wanted: dict[str, BGPPeer]) -> None:
        for name, peering in list(self._peerings.items()):
            if wanted.get(name) == peering.peer:
                continue
            peering.stop(Cease.CHANGED if name in wanted else Cease.DECONFIGURED)
            del self._peerings[name]
            self._expect(peering.peer, "")
            if name not in wanted:
                self._tell(PeerSeen(name, None))
        for name, peer in wanted.items():
            if name in self._peerings:
                continue
            peering = self._peerings[name] = Peering(peer, self._node, self._tell)
            self._expect(peer, peer.password)
            now = asyncio.get_running_loop().time()
            for prefix, paths in self._routes.items():
                if name in paths:
                    peering.session.offer(prefix, paths[name], now)
            peering.carry_out(peering.session.start(now))

    def _expect(self, peer: BGPPeer, password: str) -> None:
        """Have connections of a router signed, if any are waited for."""
        if peer.address is None:
            return
        listener = self._listeners.get(socket.AF_INET if peer.address.version == 4 else socket.AF_INET6)
        if listener is not None:
            sign(listener, peer.address, password)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # gone before we looked
            sock, where = listener.accept()
            sock.setblocking(False)
            text, _, zone = str(where[0]).partition("%")
            address = Address.parse(text)
            peering = next((each for each in self._peerings.values() if each.is_from(address, zone)), None)
            if peering is not None:
                peering.accept(sock)
            else:
                sock.close()  # a stranger

    def _set_route(self, prefix: Prefix, paths: dict[str, Path]) -> None:
        before = self._routes.pop(prefix, {})
        if paths:
            self._routes[prefix] = paths
        now = asyncio.get_running_loop().time()
        for name in before.keys() | paths.keys():
            peering = self._peerings.get(name)
            if peering is not None and before.get(name) != paths.get(name):
                peering.session.offer(prefix, paths.get(name), now)
                peering.wake()

    def _tell(self, event: PeerSeen) -> None:
        if event.status is not None:
            # The engine's clock means nothing to others.
            since = time.time() - (time.monotonic() - event.status.since)
            event = PeerSeen(event.peer, evolve(event.status, since=round(since, 3)))
        self._news[event.peer] = event
        self._wake.set()

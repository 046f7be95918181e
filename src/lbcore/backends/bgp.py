"""BGP sessions over TCP: a source of `PeerSeen` and the sink that holds peers and tells them routes.

Each peer has an engine (`lbcore.adapters.bgp.session`) and at most one socket; asyncio waits for it.
A peer that changes gets a new session, and the others' are not touched. Nothing listens: as with MetalLB
the node connects, so that no two connections collide.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable

from attrs import evolve

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bgp.connection import SessionSettings
from lbcore.adapters.bgp.notifications import Cease, cease
from lbcore.adapters.bgp.session import Dial, Drop, Session, SessionOutput, Side
from lbcore.addresses import Family
from lbcore.backends.tcp import describe_error, local_end, open_socket
from lbcore.bgp import BGPPeer
from lbcore.events import Applied, Event, Failed, PeerSeen
from lbcore.intents import AdvertiseRoute, Intent, LoseSession, SetSessions, WithdrawRoute
from lbcore.routes import Path, Prefix

__all__ = ["BgpSpeaker"]

RESTART_TIME = 120  # seconds that a router is asked to keep routes for, FRR's own default
DEFAULT_HOLD_TIME = 90
_READ = 1 << 16
_UNNUMBERED = "sessions by interface are not served yet; give the peer's address (spec.peerAddress)"


def _settings(peer: BGPPeer, *, restarted: bool) -> SessionSettings:
    expected = peer.peer_asn if peer.peer_asn is not None else peer.dynamic_asn
    assert expected is not None  # its reader sees to that
    return SessionSettings(
        asn=peer.local_asn or peer.my_asn,
        peer_asn=expected,
        families=frozenset(family for family in Family if peer.carries(family)),
        hold_time=DEFAULT_HOLD_TIME if peer.hold_time is None else peer.hold_time,
        keepalive_time=peer.keepalive_time,
        connect_retry=peer.connect_time,
        restart_time=RESTART_TIME if peer.graceful_restart else None,
        restarted=restarted,
        has_password=bool(peer.password),
    )


class _Peering:
    """One peer: its engine, and the socket that the engine has asked for."""

    def __init__(self, peer: BGPPeer, node: str, tell: Callable[[PeerSeen], None]) -> None:
        self.peer = peer
        self.session = Session(peer.name, _settings(peer, restarted=True), random.Random())
        self._node = node
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._dialing: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self._unsent = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def carry_out(self, outputs: Iterable[SessionOutput]) -> None:
        """Do what the engine wants, and come back when it wants to be asked."""
        for output in outputs:
            match output:
                case Dial():
                    self._dialing = self._loop.create_task(self._dial())
                case Send(data=data):
                    self._unsent += data
                    self._write()
                case Drop():
                    self._close()
                case Report(event):
                    assert isinstance(event, PeerSeen)
                    self._tell(event)
        self.wake()

    def wake(self) -> None:
        """Set the timer to the engine's deadline, which may have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.session.deadline
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._tick)

    def stop(self, cause: Cease, text: str = "") -> None:
        """End the session; a peer that keeps routes meanwhile, and is asked to at a shutdown, is told nothing."""
        negotiated = self.session.negotiated
        keeps = self.peer.graceful_restart and negotiated is not None and negotiated.keeps_routes
        silent = keeps and cause is Cease.SHUTDOWN
        self.carry_out(self.session.stop(None if silent else cease(cause, text), self._loop.time()))
        self._close()
        if self._timer is not None:
            self._timer.cancel()

    def lose(self, why: str) -> None:
        """End the session, since the path to the peer is lost, and try again."""
        self.carry_out(self.session.lose(cease(Cease.BFD_DOWN), why, self._loop.time()))

    def _tick(self) -> None:
        self._timer = None
        self.carry_out(self.session.tick(self._loop.time()))

    async def _dial(self) -> None:
        if self.peer.address is None:
            self.carry_out(self.session.failed(_UNNUMBERED, self._loop.time()))
            return
        sock: socket.socket | None = None
        try:
            sock, where = open_socket(self.peer)
            await self._loop.sock_connect(sock, where)
            end = local_end(sock, self.peer, self._node)
        except OSError as error:
            if sock is not None:
                sock.close()
            self.carry_out(self.session.failed(describe_error(error, self.peer), self._loop.time()))
            return
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            raise
        self._dialing = None
        self._socket = sock
        self._loop.add_reader(sock, self._read)
        self.carry_out(self.session.connected(Side.DIALED, end, self._loop.time()))

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(describe_error(error, self.peer))
            return
        if not data:
            self._broken("the peer closed the connection without a word")
            return
        self.carry_out(self.session.receive(Side.DIALED, data, self._loop.time()))

    def _write(self) -> None:
        if self._socket is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
            self._loop.remove_writer(self._socket)
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._socket, self._writable)
        except OSError:
            # The reader sees the same, and says why.
            self._loop.remove_writer(self._socket)
        self.session.drained(Side.DIALED, len(self._unsent), self._loop.time())

    def _writable(self) -> None:
        self._write()
        self.wake()

    def _broken(self, why: str) -> None:
        self._close()
        self.carry_out(self.session.closed(Side.DIALED, why, self._loop.time()))

    def _close(self) -> None:
        if self._dialing is not None and self._dialing is not asyncio.current_task():
            self._dialing.cancel()
        self._dialing = None
        self._unsent.clear()
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with contextlib.suppress(OSError):
            # What has come and was not read would turn the end into a reset, which loses our last words.
            self._socket.recv(1 << 20)
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()
        self._socket = None


class BgpSpeaker:
    """All sessions of a node, and the routes that are told in them."""

    handles: tuple[type[Intent], ...] = (SetSessions, LoseSession, AdvertiseRoute, WithdrawRoute)

    def __init__(self, node: str) -> None:
        self._node = node
        self._peerings: dict[str, _Peering] = {}
        self._routes: dict[Prefix, dict[str, Path]] = {}
        self._news: dict[str, PeerSeen] = {}
        self._wake = asyncio.Event()

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent; what is there already is left alone."""
        match intent:
            case SetSessions(peers):
                self._set_peers({peer.name: peer for peer in peers})
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
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._news:
                yield self._news.pop(next(iter(self._news)))

    async def close(self) -> None:
        """End all sessions, each with a word unless its peer is to keep our routes."""
        for peering in self._peerings.values():
            peering.stop(Cease.SHUTDOWN, f"the speaker on {self._node} stops")
        self._peerings.clear()

    def _set_peers(self, wanted: dict[str, BGPPeer]) -> None:
        for name, peering in list(self._peerings.items()):
            if wanted.get(name) == peering.peer:
                continue
            peering.stop(Cease.CHANGED if name in wanted else Cease.DECONFIGURED)
            del self._peerings[name]
            if name not in wanted:
                self._tell(PeerSeen(name, None))
        for name, peer in wanted.items():
            if name in self._peerings:
                continue
            peering = self._peerings[name] = _Peering(peer, self._node, self._tell)
            now = asyncio.get_running_loop().time()
            for prefix, paths in self._routes.items():
                if name in paths:
                    peering.session.offer(prefix, paths[name], now)
            peering.carry_out(peering.session.start(now))

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

"""One BGP peer: its engine, and the sockets that the engine has asked for.

Of the two connections that may exist at a time (we dialed, the router did) each is a `_Line`; which of them
stays is the engine's affair (`lbcore.adapters.bgp.session`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterable

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bgp.connection import SessionSettings
from lbcore.adapters.bgp.notifications import Cease, cease
from lbcore.adapters.bgp.session import Dial, Drop, Session, SessionOutput, Side
from lbcore.addresses import Address, Family
from lbcore.backends.neighbours import CableEnd
from lbcore.backends.tcp import describe_error, hold_to_hops, is_far, local_end, open_socket
from lbcore.bgp import BGPPeer, DynamicASN
from lbcore.events import PeerSeen

__all__ = ["Peering", "session_settings"]

RESTART_TIME = 120  # seconds that a router is asked to keep routes for, FRR's own default
DEFAULT_HOLD_TIME = 90
_READ = 1 << 16
_LISTEN_FOR = 5.0  # seconds for a router's advertisement, half of what an attempt to connect may take


def session_settings(peer: BGPPeer) -> SessionSettings:
    """What a BGPPeer's session is to be like."""
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
        restarted=True,
        has_password=bool(peer.password),
        ttl_security=peer.ttl_security_hops is not None,
    )


def _suspicion(peer: BGPPeer, address: Address) -> str:
    """An external peer several hops away sends with a TTL of 1 unless it is told otherwise: its answer gets lost."""
    external = peer.peer_asn != peer.my_asn if peer.peer_asn is not None else peer.dynamic_asn is DynamicASN.EXTERNAL
    if peer.interface or not external or not is_far(address, peer.vrf):
        return ""
    ours = "" if peer.ebgp_multihop else "set ebgpMultiHop: true, and "
    return (
        f"it is on no link of this node, and packets with a TTL of 1 do not come from there: {ours}"
        "let the router speak over several hops, too (ebgp-multihop)"
    )


class Peering:
    """A session with a router, from `carry_out(session.start(now))` until `stop`."""

    def __init__(self, peer: BGPPeer, node: str, tell: Callable[[PeerSeen], None]) -> None:
        self.peer = peer
        self.session = Session(peer.name, session_settings(peer), random.Random())
        self._node = node
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._dialing: asyncio.Task[None] | None = None
        self._cable: CableEnd | None = None
        self._lines: dict[Side, _Line] = {}
        self._timer: asyncio.TimerHandle | None = None

    def carry_out(self, outputs: Iterable[SessionOutput]) -> None:
        """Do what the engine wants, and come back when it wants to be asked."""
        for output in outputs:
            match output:
                case Dial():
                    self._dialing = self._loop.create_task(self._dial())
                case Send(data, side):
                    line = self._lines.get(side)
                    if line is not None:
                        line.send(data)
                case Drop(side):
                    self._drop(side)
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
        for side in Side:
            self._drop(side)
        if self._cable is not None:
            self._cable.close()
        if self._timer is not None:
            self._timer.cancel()

    def lose(self, why: str) -> None:
        """End the session, since the path to the peer is lost, and try again."""
        self.carry_out(self.session.lose(cease(Cease.BFD_DOWN), why, self._loop.time()))

    def is_from(self, address: Address, interface: str) -> bool:
        """Whether a connection from there, on a link-local address of this interface or "", is this router's."""
        return address == self.peer.address or (bool(interface) and interface == self.peer.interface)

    def accept(self, sock: socket.socket) -> None:
        """Take a connection that the router has made, if one is wanted."""
        if not self.session.may_accept:
            sock.close()
            return
        try:
            self._connected(Side.ACCEPTED, sock)
        except OSError:
            sock.close()  # gone again before we looked; the router will try anew

    def _tick(self) -> None:
        self._timer = None
        self.carry_out(self.session.tick(self._loop.time()))

    async def _dial(self) -> None:
        sock: socket.socket | None = None
        try:
            address = self.peer.address or await self._find()
            self.session.suspect(_suspicion(self.peer, address))
            sock, where = open_socket(self.peer, address)
            await self._loop.sock_connect(sock, where)
            self._dialing = None
            self._connected(Side.DIALED, sock)
        except OSError as error:
            if sock is not None:
                sock.close()
            self.carry_out(self.session.failed(describe_error(error, self.peer), self._loop.time()))
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            raise

    async def _find(self) -> Address:
        """Who is at the other end of an unnumbered peer's interface. Raises `OSError`."""
        if self._cable is None:
            self._cable = CableEnd(self.peer.interface)
        try:
            return await asyncio.wait_for(self._cable.neighbour(), _LISTEN_FOR)
        except TimeoutError:
            text = (
                f"no router advertises itself on {self.peer.interface}; is its end of the cable unnumbered, too "
                "(FRR: neighbor INTERFACE interface remote-as ...)?"
            )
            raise OSError(text) from None

    def _connected(self, side: Side, sock: socket.socket) -> None:
        if self.peer.ttl_security_hops is not None:
            hold_to_hops(sock, self.peer.ttl_security_hops)
        end = local_end(sock, self.peer, self._node)
        self._lines[side] = _Line(self, side, sock)
        self.carry_out(self.session.connected(side, end, self._loop.time()))

    def heard(self, side: Side, data: bytes) -> None:
        """Bytes of a line."""
        self.carry_out(self.session.receive(side, data, self._loop.time()))

    def sent(self, side: Side, waiting: int) -> None:
        """A line has tried to send, and the kernel has yet to take so many bytes."""
        self.session.drained(side, waiting, self._loop.time())

    def broken(self, side: Side, why: str) -> None:
        """A line has ended."""
        self._drop(side)
        self.carry_out(self.session.closed(side, why, self._loop.time()))

    def _drop(self, side: Side) -> None:
        if side is Side.DIALED and self._dialing is not None:
            if self._dialing is not asyncio.current_task():
                self._dialing.cancel()
            self._dialing = None
        line = self._lines.pop(side, None)
        if line is not None:
            line.close()


class _Line:
    """One connection with a router, whoever began it."""

    def __init__(self, peering: Peering, side: Side, sock: socket.socket) -> None:
        self._peering = peering
        self._side = side
        self._socket = sock
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)

    def send(self, data: bytes) -> None:
        """Send, now or when the kernel takes it."""
        self._unsent += data
        self._write()

    def close(self) -> None:
        """Close, behind what has been sent."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with contextlib.suppress(OSError):
            # What has come and was not read would turn the end into a reset, which loses our last words.
            self._socket.recv(1 << 20)
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._peering.broken(self._side, describe_error(error, self._peering.peer))
            return
        if data:
            self._peering.heard(self._side, data)
        else:
            self._peering.broken(self._side, "the peer closed the connection without a word")

    def _write(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
            self._loop.remove_writer(self._socket)
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._socket, self._writable)
        except OSError:
            # The reader sees the same, and says why.
            self._loop.remove_writer(self._socket)
        self._peering.sent(self._side, len(self._unsent))

    def _writable(self) -> None:
        self._write()
        self._peering.wake()

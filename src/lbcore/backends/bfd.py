"""BFD's ports (RFC 5881 section 4, RFC 5883 section 4), driven by a selector that somebody else waits on.

Datagrams are heard on 3784 (one hop) and 4784 (several), of both families, for as long as a session is wanted;
each session sends from a port of its own. What is said and when is decided by `lbcore.adapters.bfd`.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bfd.engine import BfdEngine, BfdOutput, Origin, Way
from lbcore.addresses import Address
from lbcore.backends.troubles import Troubles
from lbcore.bfd import Watch
from lbcore.events import Event

__all__ = ["BfdPorts"]

SINGLE_HOP, MULTIHOP = 3784, 4784
_SOURCE_PORTS = (49152, 65535)  # RFC 5881 section 4
_TTL = 255
_CONTROL = 0xC0  # internetwork control, the DSCP of routing protocols
_BURST = 64  # datagrams read before others get their turn
_LONGEST = 256  # bytes; a packet has 24, and 28 more where it is authenticated
_PATIENCE = 5.0  # seconds until a port that could not be had is tried again

_IN_PKTINFO = struct.Struct("=i4s4s")  # struct in_pktinfo: interface, local address, header's destination
_IN6_PKTINFO = struct.Struct("=16sI")
_INT = struct.Struct("=i")
# Linux's numbers, which Python does not have.
_IP_PKTINFO, _IP_RECVTTL = 8, 12


class BfdPorts:
    """The BFD sessions of a node. `report` hears of changes, `say` what is wrong with a port; times by `clock`."""

    def __init__(
        self,
        *,
        rng: random.Random,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        say: Callable[[str], None],
    ) -> None:
        self._engine = BfdEngine(rng)
        self._rng = rng
        self._selector = selector
        self._clock = clock
        self._report = report
        self._troubles = Troubles(say)
        self._heard: dict[tuple[int, int], socket.socket] = {}
        self._sending: dict[Watch, socket.socket] = {}
        self._watches: dict[str, Watch] = {}
        self._retry_at: float | None = None

    @property
    def deadline(self) -> float:
        """When to call `tick`."""
        times = (self._engine.deadline, self._retry_at)
        return min((each for each in times if each is not None), default=float("inf"))

    def set(self, watches: Iterable[Watch]) -> None:
        """Watch these peers, and no other."""
        self._watches = {watch.peer: watch for watch in watches}
        self._carry_out(self._engine.set(self._watches.values(), self._clock()))
        for watch in self._sending.keys() - set(self._watches.values()):
            self._sending.pop(watch).close()
        self._listen()

    def recount(self) -> None:
        """Report all sessions, to somebody who has just come to listen."""
        self._carry_out(self._engine.recount())

    def tick(self) -> None:
        """Whatever is due."""
        now = self._clock()
        if self._retry_at is not None and self._retry_at <= now:
            self._listen()
        due = self._engine.deadline
        if due is not None and due <= now:
            # What has come while we were held up counts as heard, before anybody is called silent.
            for (family, port), listening in self._heard.items():
                self._hear(listening, family, port == MULTIHOP, selectors.EVENT_READ)
            self._carry_out(self._engine.tick(self._clock()))

    def close(self) -> None:
        """The last words to all peers, and the ports are given back."""
        self._carry_out(self._engine.close(self._clock()))
        self._watches = {}
        self._listen()
        for each in self._sending.values():
            each.close()
        self._sending.clear()

    # Ports

    def _listen(self) -> None:
        """Have the ports that the sessions need, and no other."""
        self._retry_at = None
        wanted = {each for watch in self._watches.values() for each in _ports_of(watch)}
        for key in self._heard.keys() - wanted:
            listening = self._heard.pop(key)
            self._selector.unregister(listening)
            listening.close()
        for family, port in sorted(wanted - self._heard.keys()):
            what = f"BFD port {port} ({'IPv4' if family == socket.AF_INET else 'IPv6'}) cannot be had"
            try:
                listening = _listener(family, port)
            except OSError as error:
                self._troubles.note(what, f"{error.strerror}; does another BFD daemon run on this node?")
                self._retry_at = self._clock() + _PATIENCE
                continue
            self._troubles.note(what, None)
            self._heard[family, port] = listening
            hear = partial(self._hear, listening, family, port == MULTIHOP)
            self._selector.register(listening, selectors.EVENT_READ, hear)

    def _hear(self, listening: socket.socket, family: int, multihop: bool, _events: int) -> None:
        for _ in range(_BURST):
            try:
                data, ancillary, _flags, source = listening.recvmsg(_LONGEST, 256)
            except OSError:
                return
            ttl, index = _told(family, ancillary)
            address = Address.parse(source[0].partition("%")[0])
            origin = Origin(source=address, interface=_name(index), ttl=ttl, multihop=multihop)
            self._carry_out(self._engine.receive(data, origin, self._clock()))

    def _carry_out(self, outputs: Iterable[BfdOutput]) -> None:
        for output in outputs:
            match output:
                case Send(data, way):
                    self._send(data, way)
                case Report(event):
                    self._report(event)

    def _send(self, data: bytes, way: Way) -> None:
        watch, address = way.watch, way.address
        if address is None:
            return
        trouble = f"BFD packets for {watch.peer} cannot be sent"
        try:
            sending = self._sending.get(watch)
            if sending is None:
                sending = self._sending[watch] = _sender(watch, address, self._rng)
            for multihop in way.hops:
                sending.sendto(data, _where(watch, address, multihop=multihop))
        except BlockingIOError:
            pass  # as good as lost on the way
        except OSError as error:
            self._troubles.note(trouble, error.strerror)
            if watch in self._sending:  # its address may have gone: the next one is made anew
                self._sending.pop(watch).close()
        else:
            self._troubles.note(trouble, None)


def _ports_of(watch: Watch) -> list[tuple[int, int]]:
    is_four = watch.address is not None and watch.address.version == 4
    family = socket.AF_INET if is_four else socket.AF_INET6
    either = {None: (SINGLE_HOP, MULTIHOP), False: (SINGLE_HOP,), True: (MULTIHOP,)}
    return [(family, port) for port in either[watch.multihop]]


def _listener(family: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.bind(("", port))
    except BaseException:
        sock.close()
        raise
    return sock


def _sender(watch: Watch, address: Address, rng: random.Random) -> socket.socket:
    """A socket that sends from a port of BFD's range, with the TTL by which the peer sees that we are near."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _TTL)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL)
        if watch.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, watch.interface.encode() + b"\0")
        source = "" if watch.source is None else str(watch.source)
        for _ in range(32):
            with contextlib.suppress(OSError):
                sock.bind((source, rng.randint(*_SOURCE_PORTS)))
                return sock
        sock.bind((source, 0))  # the reason why not, or a port outside the range, which peers take, too
    except BaseException:
        sock.close()
        raise
    return sock


def _where(watch: Watch, address: Address, *, multihop: bool) -> tuple[str, int] | tuple[str, int, int, int]:
    port = MULTIHOP if multihop else SINGLE_HOP
    if address.is_link_local and watch.interface:
        return str(address), port, 0, socket.if_nametoindex(watch.interface)
    return str(address), port


def _told(family: int, ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """The TTL that a datagram had, and the index of the interface that it came by; 0 where the kernel is silent."""
    ttl = index = 0
    for level, kind, data in ancillary:
        if family == socket.AF_INET and level == socket.IPPROTO_IP:
            if kind == socket.IP_TTL:
                (ttl,) = _INT.unpack_from(data)
            elif kind == _IP_PKTINFO:
                index = _IN_PKTINFO.unpack_from(data)[0]
        elif family == socket.AF_INET6 and level == socket.IPPROTO_IPV6:
            if kind == socket.IPV6_HOPLIMIT:
                (ttl,) = _INT.unpack_from(data)
            elif kind == socket.IPV6_PKTINFO:
                index = _IN6_PKTINFO.unpack_from(data)[1]
    return ttl, index


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""

"""Those who can tell a node that it is not cut off: its default gateways, by ICMP echo, and servers, by TCP.

A connection that is refused is an answer, too. Gateways are looked up anew at every routine question. The sockets
are in a selector that somebody else waits on; nothing blocks, and nothing here decides what silence means.
"""

from __future__ import annotations

import errno
import random
import selectors
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from lbcore.adapters.gateways import Gateway, gateways4, gateways6
from lbcore.adapters.icmp import ECHO_REPLY, decode_echo_reply, encode_echo_request
from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError

__all__ = ["Asked", "OpenWitnesses", "Witnesses", "nobody"]

_ICMP_FILTER = 1  # linux/icmp.h, at level SOL_RAW
_SOL_RAW = 255
_ICMPV6_FILTER = 1  # linux/icmpv6.h
_PATIENCE = 1.0  # seconds for a connection; the next question may be asked meanwhile
_MOST = 16  # gateways and servers asked


class Asked(Protocol):
    """Somebody who can be asked."""

    def ask(self, *, routine: bool) -> None:
        """Ask everybody; `routine` when nothing is wrong."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


OpenWitnesses = Callable[[selectors.BaseSelector, Callable[[], None]], Asked]
"""Makes them, of the selector that will be waited on and who hears of answers."""


class _Nobody:
    def ask(self, *, routine: bool) -> None:
        pass

    def close(self) -> None:
        pass


def nobody(_selector: selectors.BaseSelector, _answered: Callable[[], None]) -> Asked:
    """Where there is nobody to ask."""
    return _Nobody()


class Witnesses:
    """Gateways are found in `routes` (a folder as /proc/net is); `hosts` are pinged, `servers` connected to, beside
    them. `answered` is called at each answer. Without CAP_NET_RAW only servers are asked.
    """

    def __init__(
        self,
        *,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        answered: Callable[[], None],
        say: Callable[[str], None],
        hosts: Iterable[Address] = (),
        servers: Iterable[Endpoint] = (),
        routes: Path = Path("/proc/net"),
    ) -> None:
        self._selector = selector
        self._clock = clock
        self._answered = answered
        self._hosts = tuple(Gateway(each, "") for each in hosts)
        self._servers = tuple(servers)
        self._routes = routes
        self._identifier = random.SystemRandom().getrandbits(16)
        self._token = random.SystemRandom().randbytes(8)
        self._sequence = 0
        self._pinged: tuple[Gateway, ...] = ()
        self._known: set[Endpoint] = set()  # servers that have answered
        self._dials: dict[Endpoint, tuple[socket.socket, float]] = {}
        self._raw: dict[int, socket.socket] = {}
        for version in (4, 6):
            try:
                self._raw[version] = _raw(version)
            except OSError as error:
                say(f"gateways cannot be asked by IPv{version}: {error.strerror}")
            else:
                selector.register(self._raw[version], selectors.EVENT_READ, partial(self._hear, version))

    def ask(self, *, routine: bool) -> None:
        """Ask everybody. A routine question spares servers that are known to be there: theirs would be in their log."""
        if routine or not self._pinged:  # in doubt the routes may already be gone with the link
            self._pinged = (*self._hosts, *self._gateways())[:_MOST]
        self._sequence = (self._sequence + 1) & 0xFFFF
        for each in self._pinged:
            self._ping(each)
        for server in self._servers[:_MOST]:
            if routine and server in self._known:
                self._answered()
            else:
                self._dial(server)

    def close(self) -> None:
        """Give the sockets back."""
        for server in tuple(self._dials):
            self._drop(server)
        for each in self._raw.values():
            self._selector.unregister(each)
            each.close()

    def _gateways(self) -> tuple[Gateway, ...]:
        return (*gateways4(self._read("route")), *gateways6(self._read("ipv6_route")))

    def _read(self, name: str) -> str:
        try:
            return (self._routes / name).read_text(encoding="ascii", errors="replace")
        except OSError:
            return ""  # a kernel without that family

    def _ping(self, target: Gateway) -> None:
        raw = self._raw.get(target.address.version)
        if raw is None:
            return
        packet = encode_echo_request(target.address.version, self._identifier, self._sequence, self._token)
        try:
            scope = socket.if_nametoindex(target.interface) if target.interface else 0
            host = str(target.address)
            raw.sendto(packet, (host, 0) if target.address.version == 4 else (host, 0, 0, scope))
        except OSError:
            pass  # nobody is reached: that is an answer, too, and it is the silence that counts

    def _hear(self, version: int, _events: int) -> None:
        try:
            packet, source = self._raw[version].recvfrom(2048)
            identifier, _, data = decode_echo_reply(version, packet)
        except (OSError, RemoteProtocolError):
            return
        host = Address.parse(str(source[0]).partition("%")[0])
        if (identifier, data) == (self._identifier, self._token) and any(host == each.address for each in self._pinged):
            self._answered()

    def _dial(self, server: Endpoint) -> None:
        now = self._clock()
        if server in self._dials:
            if self._dials[server][1] > now:
                return
            self._drop(server)
        family = socket.AF_INET6 if server.address.version == 6 else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            status = connection.connect_ex((str(server.address), server.port))
        except OSError:
            status = errno.EIO
        if status not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):
            connection.close()
            return
        self._dials[server] = connection, now + _PATIENCE
        self._selector.register(connection, selectors.EVENT_WRITE, partial(self._end, server))

    def _end(self, server: Endpoint, _events: int) -> None:
        if server not in self._dials:
            return
        status = self._dials[server][0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._drop(server)
        if status in (0, errno.ECONNREFUSED):
            self._known.add(server)
            self._answered()

    def _drop(self, server: Endpoint) -> None:
        connection, _ = self._dials.pop(server)
        self._selector.unregister(connection)
        connection.close()


def _raw(version: int) -> socket.socket:
    """A socket that hears echo replies and no other ICMP."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    wanted = ECHO_REPLY[version]
    if version == 4:
        raw.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~(1 << wanted)))
    else:
        words = [0xFFFFFFFF] * 8
        words[wanted // 32] &= ~(1 << wanted % 32)
        raw.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *words))
    return raw

"""Who is at the other end of a cable: Router Advertisements in and out on one interface, for unnumbered peers.

Needs CAP_NET_RAW, as the speaker's ARP does. What is heard is read in `lbcore.adapters.bgp.discovery`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

from lbcore.adapters.bgp.discovery import ADVERTISEMENT, HOP_LIMIT, SOLICITATION, check_advertisement
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError

__all__ = ["CableEnd"]

_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"
_FIRST, _THEN = 3, 10.0  # so many at the start, one second apart, then one every 10 s, FRR's own interval
_ICMP6_FILTER = 1  # Linux's number (linux/icmpv6.h), which Python does not have
_ADVERTISEMENT = 134


class CableEnd:
    """Sends Router Advertisements on an interface until it is closed, and learns from whom others come.

    Making one raises `OSError`: no such interface, no IPv6, not allowed.
    """

    def __init__(self, interface: str) -> None:
        self._index = socket.if_nametoindex(interface)
        self._found: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
        try:
            self._prepare(interface)
        except BaseException:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)
        self._talking = self._loop.create_task(self._talk())

    def _prepare(self, interface: str) -> None:
        sock = self._socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        # All but advertisements is dropped in the kernel (RFC 3542 section 3.2; a set bit blocks).
        blocked = [0xFFFFFFFF] * 8
        blocked[_ADVERTISEMENT >> 5] &= ~(1 << (_ADVERTISEMENT & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *blocked))

    async def neighbour(self) -> Address:
        """The link-local address of whoever advertised last, as soon as anybody has."""
        return await asyncio.shield(self._found)

    def close(self) -> None:
        """No more is sent or heard."""
        self._talking.cancel()
        self._found.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def _talk(self) -> None:
        sent = 0
        while True:
            with contextlib.suppress(OSError):  # the link is down just now
                self._socket.sendto(ADVERTISEMENT, (_ALL_NODES, 0, 0, self._index))
                if not self._found.done():
                    self._socket.sendto(SOLICITATION, (_ALL_ROUTERS, 0, 0, self._index))
            sent += 1
            await asyncio.sleep(1.0 if sent < _FIRST or not self._found.done() else _THEN)

    def _read(self) -> None:
        try:
            data, notes, _, sender = self._socket.recvmsg(2048, 64)
        except OSError:
            return
        limits = [int.from_bytes(value, sys.byteorder) for _, kind, value in notes if kind == socket.IPV6_HOPLIMIT]
        try:
            check_advertisement(data, limits[0] if limits else 0)
            address = Address.parse(sender[0].partition("%")[0])
        except (RemoteProtocolError, ValueError):
            return
        if self._found.done() and self._found.result() != address:
            self._found = self._loop.create_future()  # another router is on the cable now
        if not self._found.done():
            self._found.set_result(address)

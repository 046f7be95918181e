"""Membership in IPv6 multicast groups, by plain sockets that never receive anything.

A packet socket sees what the interface lets in. Joining a group by IPV6_JOIN_GROUP (RFC 3493
section 5.2) opens the interface's filter and sends the MLD report that a snooping switch waits
for; it needs no privilege and is the same on every system.
"""

from __future__ import annotations

import errno
import socket
import struct

from lbcore.addresses import Address
from lbcore.backends.base import LinkFault

__all__ = ["Memberships"]

# Linux charges each membership to the socket (net.core.optmem_max, 20 kB before 6.8: some 360
# groups); when one is full the next is opened.
_FULL = (errno.ENOMEM, errno.ENOBUFS)


class Memberships:
    """The groups that the interface with this index has joined for us."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._sockets: list[socket.socket] = []
        self._wanted: frozenset[Address] = frozenset()
        self._joined: dict[Address, socket.socket] = {}

    def set(self, groups: frozenset[Address]) -> LinkFault | None:
        """Leave those not in `groups`, join those missing; one that cannot be joined is tried again next time."""
        self._wanted = groups
        for group in sorted(self._joined.keys() - groups):
            self._leave(group)
        faults = [self._join(group) for group in sorted(groups - self._joined.keys())]
        return next((fault for fault in faults if fault is not None), None)

    def renew(self) -> LinkFault | None:
        """Leave and join every group: only a first join is told to the switches."""
        for group in sorted(self._joined):
            self._leave(group)
        return self.set(self._wanted)

    def close(self) -> None:
        """Leave all groups."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        self._joined.clear()

    def _join(self, group: Address) -> LinkFault | None:
        try:
            self._joined[group] = self._join_somewhere(group)
        except OSError as error:
            return LinkFault.GONE if error.errno == errno.ENODEV else LinkFault.NO_GROUPS
        return None

    def _join_somewhere(self, group: Address) -> socket.socket:
        request = self._request(group)
        if self._sockets:
            try:
                self._sockets[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            else:
                return self._sockets[-1]
        fresh = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sockets.append(fresh)
        fresh.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        return fresh

    def _leave(self, group: Address) -> None:
        member = self._joined.pop(group)
        try:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, self._request(group))
        except OSError:
            return  # the interface is gone, and its memberships with it

    def _request(self, group: Address) -> bytes:
        return group.packed + struct.pack("@I", self._index)

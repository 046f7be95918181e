"""An interface by AF_PACKET sockets (Linux, packet(7)): ARP and Neighbor Discovery, filtered in the kernel.

One socket for each EtherType: one for all EtherTypes would be woken by every packet of the node,
our own included. Needs CAP_NET_RAW, and nothing else. No asyncio, no library: the process that
answers imports this and is to stay small.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from contextlib import ExitStack
from typing import Final

from lbcore.addresses import Address
from lbcore.backends.base import LinkFault
from lbcore.backends.groups import Memberships
from lbcore.errors import LbcoreError
from lbcore.model import Link

__all__ = ["BATCH", "CapabilityError", "PacketLink", "fault_of", "is_there", "require_packet_sockets", "told"]

BATCH: Final = 64  # frames a call: enough to drain a burst, few enough that nothing else waits over 1 ms
_FRAME: Final = 2048  # no ARP or Neighbor Discovery packet is longer than an Ethernet frame

# Bytes; the kernel gives twice that, or twice net.core.rmem_max where that is less: some 550 frames at least,
# and 270 without asking. A longer burst of broadcasts pushes out the question that is for us.
_BUFFER: Final = 1 << 20

_ETH_P_ARP: Final = 0x0806
_ETH_P_IPV6: Final = 0x86DD
_SO_ATTACH_FILTER: Final = 26

# Classic BPF (Linux: Documentation/networking/filter.rst): code, jump if true, jump if false, operand.
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD = 0x30, 0x28, 0x20
_IF_EQUAL, _IF_GREATER, _RETURN = 0x15, 0x25, 0x06
_PACKET_TYPE = 0xFFFF_F004  # SKF_AD_OFF + SKF_AD_PKTTYPE
# To us (0), broadcast (1), multicast (2). 3 is for other stations, and that is also what a frame of a
# VLAN without an interface of its own becomes when its tag is taken off: answering would be in the wrong VLAN.
_MULTICAST = 2
_KEEP, _DROP = 0xFFFF, 0

_Program = tuple[tuple[int, int, int, int], ...]

_ARP_FILTER: Final[_Program] = (
    (_LOAD_HALF, 0, 0, _PACKET_TYPE),
    (_IF_GREATER, 5, 0, _MULTICAST),
    (_LOAD_HALF, 0, 0, 12),
    (_IF_EQUAL, 0, 3, _ETH_P_ARP),
    (_LOAD_WORD, 0, 0, 14),  # hardware and protocol: Ethernet, IPv4
    (_IF_EQUAL, 0, 1, 0x0001_0800),
    (_RETURN, 0, 0, _KEEP),
    (_RETURN, 0, 0, _DROP),
)
_NDP_FILTER: Final[_Program] = (
    (_LOAD_HALF, 0, 0, _PACKET_TYPE),
    (_IF_GREATER, 8, 0, _MULTICAST),
    (_LOAD_HALF, 0, 0, 12),
    (_IF_EQUAL, 0, 6, _ETH_P_IPV6),
    (_LOAD_HALF, 0, 0, 20),  # next header and hop limit: ICMPv6, 255
    (_IF_EQUAL, 0, 4, 0x3AFF),
    (_LOAD_HALF, 0, 0, 54),  # type and code
    (_IF_EQUAL, 1, 0, 0x8700),  # Neighbor Solicitation
    (_IF_EQUAL, 0, 1, 0x8800),  # Neighbor Advertisement
    (_RETURN, 0, 0, _KEEP),
    (_RETURN, 0, 0, _DROP),
)

_FAULTS: Final = {
    errno.ENETDOWN: LinkFault.DOWN,
    errno.ENODEV: LinkFault.GONE,
    errno.ENXIO: LinkFault.GONE,
    errno.ENOBUFS: LinkFault.BUSY,
    errno.EAGAIN: LinkFault.BUSY,
}


class CapabilityError(LbcoreError):
    """The process may not open the sockets that Layer 2 needs; the message says the cure in one line."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: not allowed to open a packet socket; grant CAP_NET_RAW "
            f"(run as root, or give the container the capability NET_RAW)"
        )


def require_packet_sockets(who: str) -> None:
    """Raise `CapabilityError` where `who`, this process, may not open packet sockets at all."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        raise CapabilityError(who) from None


def fault_of(error: OSError) -> LinkFault:
    """The fault that an error of a packet socket means; raises `error` itself when it means none."""
    fault = _FAULTS.get(error.errno or 0)
    if fault is None:
        raise error
    return fault


class PacketLink:
    """A `FrameLink` by AF_PACKET."""

    def __init__(self, link: Link, *sockets: socket.socket) -> None:
        self._link = link
        self._sockets = sockets
        self._memberships = Memberships(link.index)

    @classmethod
    def open(cls, link: Link) -> PacketLink | LinkFault:
        """Open the interface of this name and index, which may be down.

        `LinkFault.GONE` when there is no such interface (any more). Raises `CapabilityError`.
        """
        try:
            with ExitStack() as undo:
                sockets = [
                    undo.enter_context(_open_socket(link.name, ethertype, program))
                    for ethertype, program in ((_ETH_P_ARP, _ARP_FILTER), (_ETH_P_IPV6, _NDP_FILTER))
                ]
                if not is_there(link):
                    return LinkFault.GONE
                undo.pop_all()
                return cls(link, *sockets)
        except PermissionError:
            raise CapabilityError(link.name) from None
        except OSError as error:
            return fault_of(error)

    @property
    def readers(self) -> tuple[int, ...]:
        """The file descriptors to wait on."""
        return tuple(each.fileno() for each in self._sockets if each.fileno() >= 0)

    def receive(self) -> list[bytes] | LinkFault:
        """At most `BATCH` frames of each protocol. A fault is told when there are no frames."""
        frames: list[bytes] = []
        fault: LinkFault | None = None
        for each in self._sockets:
            fault = _drain(each, frames) or fault
        return frames or told(fault, self._link) or []

    def send(self, frame: bytes) -> LinkFault | None:
        """Put one frame on the wire."""
        try:
            self._sockets[0].send(frame)
        except OSError as error:
            return fault_of(error)
        return None

    def set_groups(self, groups: frozenset[Address]) -> LinkFault | None:
        """Be a member of exactly these IPv6 multicast groups."""
        return self._memberships.set(groups)

    def rejoin(self) -> LinkFault | None:
        """Tell the switches of all groups anew."""
        return self._memberships.renew()

    def close(self) -> None:
        """Leave the groups and close the sockets."""
        self._memberships.close()
        for each in self._sockets:
            each.close()


def is_there(link: Link) -> bool:
    """Whether an interface has this name and this index: a name alone may have passed to another."""
    try:
        return socket.if_nametoindex(link.name) == link.index
    except OSError:
        return False


def told(fault: LinkFault | None, link: Link) -> LinkFault | None:
    """The fault to tell: reading from an interface that was deleted says only, and once, that it is down."""
    return LinkFault.GONE if fault is LinkFault.DOWN and not is_there(link) else fault


def _open_socket(name: str, ethertype: int, program: _Program) -> socket.socket:
    """A socket that never holds a frame which its filter would drop: protocol 0 receives nothing until `bind`."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
        opened.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code))
        )
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        opened.bind((name, ethertype))
    except OSError:
        opened.close()
        raise
    return opened


def _drain(source: socket.socket, frames: list[bytes]) -> LinkFault | None:
    """Append what has arrived, at most `BATCH`; the fault that came instead of a frame, if one did."""
    for _ in range(BATCH):
        try:
            frames.append(source.recv(_FRAME))
        except BlockingIOError:
            return None
        except OSError as error:
            return fault_of(error)
    return None

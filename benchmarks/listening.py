"""What is said of an address on a segment, and when: a socket at one station's cable, stamped by the kernel.

Frames wait in the socket until somebody asks for them, so that listening takes no time from what is measured.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

from attrs import frozen

from lbcore.adapters import arp, ndp
from lbcore.adapters.arp import ArpPacket, Operation
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError
from lbcore.lab.namespaces import Namespace
from lbcore.lab.network import Station

__all__ = ["ALL", "ARP", "IPV6", "Claim", "Ear", "answerers", "claim_of"]

ARP, IPV6 = 0x0806, 0x86DD
ALL = 0x0003  # what a port of a bridge hears is told to those alone who want everything
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35  # asm-generic/socket.h
_BUFFER = 32 << 20  # bytes: some 20,000 frames
_STAMP = struct.Struct("=qq")


@frozen
class Claim:
    """A station with this MAC said at a moment (`time.time`) that it has an address."""

    at: float
    address: Address
    mac: str


class Ear:
    """Hears frames of one EtherType (or `ALL`) on a link, from when it is made."""

    def __init__(self, space: Namespace, ethertype: int = ARP, *, link: str = "eth0") -> None:
        self._socket: socket.socket = space.call(_open, link, ethertype)

    def frames(self) -> Iterator[tuple[float, bytes]]:
        """All that has been heard since the last time, each with its moment (`time.time`)."""
        while True:
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(2048, 128)
            except BlockingIOError:
                return
            yield _stamp(ancillary), frame

    def claims(self) -> Iterator[Claim]:
        """The same, as far as somebody says that it has an address."""
        for at, frame in self.frames():
            claim = claim_of(frame, at)
            if claim is not None:
                yield claim

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _open(link: str, ethertype: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.bind((link, ethertype))
    return opened


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _STAMP.unpack(data)
            return float(seconds + nanoseconds / 1e9)
    raise RuntimeError("the kernel does not say when it heard a frame")


def claim_of(frame: bytes, at: float) -> Claim | None:
    """What a frame says of who has an address, if it says that."""
    found = _read(frame)
    return None if found is None else Claim(at, *found)


def _read(frame: bytes) -> tuple[Address, str] | None:
    """Who says that it has which address, if that is what the frame says."""
    try:
        packet = arp.decode(frame) if frame[12:14] == b"\x08\x06" else ndp.decode(frame)
    except RemoteProtocolError:
        return None
    match packet:
        case ArpPacket():
            return packet.sender, packet.sender_mac.hex(":")
        case ndp.NeighborAdvertisement():
            return packet.target, (packet.link_layer or packet.source_mac).hex(":")
        case _:
            return None


def answerers(asker: Station, address: Address, patience: float = 0.04) -> set[str]:
    """The MACs of all stations that answer one question for an IPv4 address, asked at a station's own cable."""
    ours = bytes.fromhex(asker.mac.replace(":", ""))
    packet = ArpPacket(
        operation=Operation.REQUEST,
        sender_mac=ours,
        sender=asker.address(4),
        target_mac=bytes(6),
        target=address,
        destination=b"\xff" * 6,
        source=ours,
    )
    heard: set[str] = set()

    def ask() -> None:
        with _open("eth0", ARP) as wire:
            wire.send(arp.encode(packet))
            end = time.monotonic() + patience
            while (left := end - time.monotonic()) > 0 and select.select([wire], [], [], left)[0]:
                heard.update(_answers(wire.recv(2048), address, asker.mac))

    call: Callable[[], None] = ask
    asker.namespace.call(call)
    return heard


def _answers(frame: bytes, address: Address, asker: str) -> set[str]:
    claim = _read(frame)
    return {claim[1]} - {asker} if claim is not None and claim[0] == address else set()

"""ARP for IPv4 over Ethernet (RFC 826), and the announcements of RFC 5227: bytes <-> `ArpPacket`.

`decode` and `encode` are the whole truth about a packet. `is_plain_request` and `answer` are the
same truth by offsets, for the path that every broadcast of the segment takes: a tenth of the
time, because no value is built (tests hold the two readings equal).
"""

from __future__ import annotations

import struct
from enum import Enum

from attrs import evolve, frozen

from lbcore.adapters.ethernet import BROADCAST, ETHERTYPE_ARP, NO_MAC, check_frame, check_mac, mac_text
from lbcore.addresses import Address
from lbcore.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "ArpPacket",
    "Operation",
    "answer",
    "decode",
    "encode",
    "gratuitous_reply",
    "gratuitous_request",
    "is_plain_request",
    "probe",
    "reply_to",
]

_LAYOUT = struct.Struct(">6s6sHHHBBH6s4s6s4s")
_SIZE = _LAYOUT.size  # 42
_PADDING = bytes(60 - _SIZE)  # Ethernet's shortest frame is 60 bytes, the checksum not counted
_ETHERNET, _IPV4 = 1, 0x0800
_HEAD = ETHERTYPE_ARP + struct.pack(">HHBB", _ETHERNET, _IPV4, 6, 4)
_REQUEST_HEAD = _HEAD + b"\x00\x01"
_REPLY_HEAD = _HEAD + b"\x00\x02"
_UNSPECIFIED = Address(4, 0)


class Operation(Enum):
    """`ar$op`: the two that Ethernet stations use."""

    REQUEST = 1
    REPLY = 2


_OPERATIONS = {operation.value: operation for operation in Operation}


@frozen(kw_only=True)
class ArpPacket:
    """One ARP packet and the Ethernet header around it; MACs have 6 bytes, addresses are IPv4.

    `destination` and `source` are the header's; `sender_mac` is what the packet says of `sender`.
    """

    operation: Operation
    sender_mac: bytes
    sender: Address
    target_mac: bytes
    target: Address
    destination: bytes
    source: bytes

    @property
    def is_announcement(self) -> bool:
        """Whether it tells everybody who has an address, and asks nothing (RFC 5227 section 3)."""
        return self.sender == self.target


def decode(frame: bytes) -> ArpPacket:
    """Read a frame, Ethernet header included and padding ignored.

    Raises `RemoteProtocolError`, and nothing else, for whatever is not ARP for IPv4 over Ethernet.
    """
    check_frame(frame, ETHERTYPE_ARP, "ARP", _SIZE)
    (destination, source, _, hardware, protocol, mac_size, address_size, number, sha, spa, tha, tpa) = (
        _LAYOUT.unpack_from(frame)
    )
    if (hardware, protocol, mac_size, address_size) != (_ETHERNET, _IPV4, 6, 4):
        raise RemoteProtocolError(
            f"ARP is for hardware {hardware} ({mac_size} bytes) and protocol 0x{protocol:04x} ({address_size} bytes), "
            f"not for IPv4 over Ethernet"
        )
    operation = _OPERATIONS.get(number)
    if operation is None:
        raise RemoteProtocolError(f"ARP operation {number} is neither request (1) nor reply (2)")
    if sha[0] & 1:  # RFC 1812 section 3.3.2: never believe that a station has a group address
        raise RemoteProtocolError(f"ARP sender {mac_text(sha)} is a group address, which no station has")
    return ArpPacket(
        operation=operation,
        sender_mac=sha,
        sender=Address.from_bytes(spa),
        target_mac=tha,
        target=Address.from_bytes(tpa),
        destination=destination,
        source=source,
    )


def encode(packet: ArpPacket) -> bytes:
    """The frame of 60 bytes: 42 and the padding. Raises `LocalProtocolError` for a MAC or address that does not fit."""
    for what, mac in (
        ("destination", packet.destination),
        ("source", packet.source),
        ("sender's MAC", packet.sender_mac),
        ("target's MAC", packet.target_mac),
    ):
        check_mac(mac, what)
    if packet.sender.version != 4 or packet.target.version != 4:
        raise LocalProtocolError(f"ARP is for IPv4, not for {packet.sender} and {packet.target}")
    if packet.sender_mac[0] & 1:
        raise LocalProtocolError(f"ARP sender {mac_text(packet.sender_mac)} is a group address")
    head = _REQUEST_HEAD if packet.operation is Operation.REQUEST else _REPLY_HEAD
    sender = packet.sender_mac + packet.sender.packed
    target = packet.target_mac + packet.target.packed
    return packet.destination + packet.source + head + sender + target + _PADDING


def reply_to(request: ArpPacket, mac: bytes) -> ArpPacket:
    """The unicast answer "`request.target` is at `mac`", also to a probe (sender 0.0.0.0, RFC 5227 section 2.1.1)."""
    return ArpPacket(
        operation=Operation.REPLY,
        sender_mac=mac,
        sender=request.target,
        target_mac=request.sender_mac,
        target=request.sender,
        destination=request.sender_mac,
        source=mac,
    )


def gratuitous_request(address: Address, mac: bytes) -> ArpPacket:
    """The announcement of RFC 5227 section 2.3: a broadcast request with both addresses ours, target MAC zero."""
    return ArpPacket(
        operation=Operation.REQUEST,
        sender_mac=mac,
        sender=address,
        target_mac=NO_MAC,
        target=address,
        destination=BROADCAST,
        source=mac,
    )


def probe(address: Address, mac: bytes) -> ArpPacket:
    """The question who has an address, in the form that changes nobody's cache (RFC 5227 section 2.1.1)."""
    return evolve(gratuitous_request(address, mac), sender=_UNSPECIFIED)


def gratuitous_reply(address: Address, mac: bytes) -> ArpPacket:
    """The announcement as a broadcast reply, for stations that ignore the request form.

    The target MAC is our own: Linux calls a reply gratuitous, and lets it replace an entry younger
    than a second (`locktime`), only when target and sender MAC are equal.
    """
    return evolve(gratuitous_request(address, mac), operation=Operation.REPLY, target_mac=mac)


def is_plain_request(frame: bytes) -> bool:
    """Whether `decode` would read a request from this frame."""
    return frame[12:22] == _REQUEST_HEAD and len(frame) >= _SIZE and not frame[22] & 1


def answer(frame: bytes, mac: bytes) -> bytes:
    """`encode(reply_to(decode(frame), mac))` for a frame of which `is_plain_request` holds."""
    asker = frame[22:28]
    return asker + mac + _REPLY_HEAD + mac + frame[38:42] + asker + frame[28:32] + _PADDING

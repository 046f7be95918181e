"""Neighbor Solicitation and Advertisement (RFC 4861) over Ethernet (RFC 2464): bytes <-> values.

The rest of Neighbor Discovery (routers, redirects) is not lbcore's. Extension headers before
ICMPv6 are refused: no station puts them there, and RFC 6980 forbids the one that could hide
something, the fragment header.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from attrs import frozen

from lbcore.adapters.ethernet import ETHERTYPE_IPV6, HEADER, check_frame, check_mac, mac_text
from lbcore.addresses import Address
from lbcore.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "ALL_NODES",
    "UNSPECIFIED",
    "NeighborAdvertisement",
    "NeighborSolicitation",
    "advertisement_for",
    "decode",
    "encode",
    "multicast_mac",
    "solicited_node",
    "unsolicited",
]

UNSPECIFIED = Address(6, 0)
ALL_NODES = Address(6, 0xFF02 << 112 | 1)

_SOLICITED_NODE = 0xFF02 << 112 | 0x1_FF00_0000  # ff02::1:ff00:0/104, RFC 4291 section 2.7.1
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_HOP_LIMIT = 255  # a router would have lowered it: proof that the sender is on this link (RFC 4861 section 3.1)
_IPV6 = struct.Struct(">IHBB16s16s")
_BODY = struct.Struct(">BBHB3x16s")
_OPTIONS = HEADER + _IPV6.size + _BODY.size  # 78: where the options begin
_ICMP = HEADER + _IPV6.size  # 54: where ICMPv6 begins


@frozen(kw_only=True)
class NeighborSolicitation:
    """The question who has `target`. `source` is `::` while the asker checks that nobody has it (RFC 4862 section 5.4).

    `destination_mac` and `source_mac` are the Ethernet header's; `link_layer` is the source
    link-layer option, 6 bytes, or None where the asker left it out (unicast probes often do).
    """

    source: Address
    destination: Address
    target: Address
    source_mac: bytes
    destination_mac: bytes
    link_layer: bytes | None = None

    @property
    def is_duplicate_check(self) -> bool:
        """Whether the asker wants to take the address, and asks if it may."""
        return self.source == UNSPECIFIED


@frozen(kw_only=True)
class NeighborAdvertisement:
    """The word that `target` is at `link_layer`, with the three flags of RFC 4861 section 4.4."""

    source: Address
    destination: Address
    target: Address
    source_mac: bytes
    destination_mac: bytes
    link_layer: bytes | None = None
    router: bool = False
    solicited: bool = False
    override: bool = False


def solicited_node(address: Address) -> Address:
    """The multicast group in which an address is asked for: ff02::1:ff and its last 24 bits."""
    return Address(6, _SOLICITED_NODE | address.value & 0xFF_FFFF)


def multicast_mac(group: Address) -> bytes:
    """The Ethernet address of an IPv6 group: 33:33 and its last 32 bits (RFC 2464 section 7)."""
    return b"\x33\x33" + (group.value & 0xFFFF_FFFF).to_bytes(4, "big")


def decode(frame: bytes) -> NeighborSolicitation | NeighborAdvertisement:
    """Read a frame, Ethernet header included; bytes behind the IPv6 packet are padding.

    Raises `RemoteProtocolError`, and nothing else, for whatever RFC 4861 sections 7.1.1 and 7.1.2
    tell a receiver to discard.
    """
    check_frame(frame, ETHERTYPE_IPV6, "Neighbor Discovery", _OPTIONS)
    first_word, length, next_header, hop_limit, source_bytes, destination_bytes = _IPV6.unpack_from(frame, HEADER)
    kind, code, _, flags, target_bytes = _BODY.unpack_from(frame, _ICMP)
    end = _ICMP + length
    if first_word >> 28 != 6:
        _refuse(f"IP version {first_word >> 28} in a frame of EtherType IPv6")
    if next_header != _ICMPV6:
        _refuse(f"next header {next_header} is not ICMPv6, {_ICMPV6}")
    if hop_limit != _HOP_LIMIT:
        _refuse(f"hop limit {hop_limit} is not {_HOP_LIMIT}: the sender may be beyond a router")
    if length < _BODY.size or end > len(frame):
        _refuse(f"an ICMPv6 message of {length} bytes; at least {_BODY.size} needed, {len(frame) - _ICMP} present")
    if kind not in (_SOLICITATION, _ADVERTISEMENT):
        _refuse(f"ICMPv6 type {kind} is neither Neighbor Solicitation (135) nor Advertisement (136)")
    if code != 0:
        _refuse(f"code {code} of a Neighbor Discovery message is not 0")
    if _checksum(frame[HEADER + 8 : _ICMP] + _pseudo_tail(length) + frame[_ICMP:end]) != 0:
        _refuse("the ICMPv6 checksum is wrong")
    source, destination = Address.from_bytes(source_bytes), Address.from_bytes(destination_bytes)
    target = Address.from_bytes(target_bytes)
    if source_bytes[0] == 0xFF or target_bytes[0] == 0xFF:
        _refuse(f"a multicast address as source ({source}) or target ({target})")
    wanted = _SOURCE_LINK_LAYER if kind == _SOLICITATION else _TARGET_LINK_LAYER
    link_layer = _link_layer(frame[_OPTIONS:end], wanted)
    if kind == _SOLICITATION:
        _check_duplicate_check(source, destination, link_layer)
        return NeighborSolicitation(
            source=source,
            destination=destination,
            target=target,
            source_mac=frame[6:12],
            destination_mac=frame[:6],
            link_layer=link_layer,
        )
    if flags & _SOLICITED and destination_bytes[0] == 0xFF:
        _refuse("an advertisement to a group that calls itself solicited")
    return NeighborAdvertisement(
        source=source,
        destination=destination,
        target=target,
        source_mac=frame[6:12],
        destination_mac=frame[:6],
        link_layer=link_layer,
        router=bool(flags & _ROUTER),
        solicited=bool(flags & _SOLICITED),
        override=bool(flags & _OVERRIDE),
    )


def encode(packet: NeighborSolicitation | NeighborAdvertisement) -> bytes:
    """The whole frame, at least 78 bytes. Raises `LocalProtocolError` for what `decode` would refuse."""
    check_mac(packet.destination_mac, "destination")
    check_mac(packet.source_mac, "source")
    _check_sendable(packet)
    if isinstance(packet, NeighborSolicitation):
        kind, option, flags = _SOLICITATION, _SOURCE_LINK_LAYER, 0
    else:
        kind, option = _ADVERTISEMENT, _TARGET_LINK_LAYER
        flags = packet.router * _ROUTER | packet.solicited * _SOLICITED | packet.override * _OVERRIDE
    options = b"" if packet.link_layer is None else bytes((option, 1)) + packet.link_layer
    length = _BODY.size + len(options)
    target = packet.target.packed
    addresses = packet.source.packed + packet.destination.packed
    zero_sum = _BODY.pack(kind, 0, 0, flags, target) + options
    body = _BODY.pack(kind, 0, _checksum(addresses + _pseudo_tail(length) + zero_sum), flags, target) + options
    header = struct.pack(">IHBB", 6 << 28, length, _ICMPV6, _HOP_LIMIT) + addresses
    return packet.destination_mac + packet.source_mac + ETHERTYPE_IPV6 + header + body


def advertisement_for(solicitation: NeighborSolicitation, mac: bytes) -> NeighborAdvertisement:
    """The answer "the target is at `mac`": to the asker, or to everybody when the asker has no address yet.

    Override is always set: without it a client keeps the MAC of the node that had the address
    before (RFC 4861 section 7.2.5). The source is the address itself, which every client accepts.
    """
    if solicitation.is_duplicate_check:  # RFC 4861 section 7.2.4: to all nodes, not solicited
        return unsolicited(solicitation.target, mac)
    return NeighborAdvertisement(
        source=solicitation.target,
        destination=solicitation.source,
        target=solicitation.target,
        source_mac=mac,
        destination_mac=solicitation.link_layer or solicitation.source_mac,
        link_layer=mac,
        solicited=True,
        override=True,
    )


def unsolicited(address: Address, mac: bytes) -> NeighborAdvertisement:
    """The announcement "`address` is at `mac`" to all nodes of the link (RFC 4861 section 7.2.6)."""
    return NeighborAdvertisement(
        source=address,
        destination=ALL_NODES,
        target=address,
        source_mac=mac,
        destination_mac=multicast_mac(ALL_NODES),
        link_layer=mac,
        override=True,
    )


def duplicate_check(address: Address, mac: bytes) -> NeighborSolicitation:
    """The question who has an address, in the form that changes nobody's cache (RFC 4862 section 5.4.2)."""
    group = solicited_node(address)
    return NeighborSolicitation(
        source=UNSPECIFIED,
        destination=group,
        target=address,
        source_mac=mac,
        destination_mac=multicast_mac(group),
    )


def _link_layer(options: bytes, wanted: int) -> bytes | None:
    """The first option of type `wanted`, when there is one and every option is well-formed."""
    found: bytes | None = None
    while options:
        size = options[1] * 8 if len(options) > 1 else 0  # RFC 4861 section 4.6: in units of 8 bytes
        if size == 0 or size > len(options):
            _refuse(f"an option claims {size} of the {len(options)} bytes that are left")
        if options[0] == wanted and found is None:
            if size != 8 or options[2] & 1:
                _refuse(f"link-layer option {options[2:size].hex(':')} is no station's Ethernet address")
            found = options[2:8]
        options = options[size:]
    return found


def _check_duplicate_check(source: Address, destination: Address, link_layer: bytes | None) -> None:
    """RFC 4861 section 7.1.1: what a solicitation from `::` may not be."""
    if source != UNSPECIFIED:
        return
    if destination.value >> 24 != _SOLICITED_NODE >> 24:
        _refuse(f"a solicitation from :: to {destination}, which is no solicited-node group")
    if link_layer is not None:
        _refuse("a solicitation from :: with a source link-layer option")


def _check_sendable(packet: NeighborSolicitation | NeighborAdvertisement) -> None:
    addresses = (packet.source, packet.destination, packet.target)
    if any(address.version != 6 for address in addresses):
        raise LocalProtocolError(f"Neighbor Discovery is for IPv6, not for {', '.join(map(str, addresses))}")
    if packet.link_layer is not None:
        check_mac(packet.link_layer, "link-layer option")
        if packet.link_layer[0] & 1:
            raise LocalProtocolError(f"link-layer option {mac_text(packet.link_layer)} is a group address")
    if packet.source.value >> 120 == 0xFF or packet.target.value >> 120 == 0xFF:
        raise LocalProtocolError(f"a multicast address as source ({packet.source}) or target ({packet.target})")
    if isinstance(packet, NeighborAdvertisement):
        if packet.solicited and packet.destination.value >> 120 == 0xFF:
            raise LocalProtocolError("an advertisement to a group cannot be solicited")
        return
    try:
        _check_duplicate_check(packet.source, packet.destination, packet.link_layer)
    except RemoteProtocolError as error:
        raise LocalProtocolError(str(error)) from None


def _pseudo_tail(length: int) -> bytes:
    """What follows the two addresses in the pseudo-header (RFC 8200 section 8.1)."""
    return struct.pack(">II", length, _ICMPV6)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that contains its own correct checksum.

    A number modulo 2^16 - 1 is the one's complement sum of its 16-bit words: one division in C
    instead of a loop over 36 words. Data of nothing but zeros cannot occur: 58 is in it. We send
    an even number of bytes; an odd one would miss a factor of 256, which makes no 0 of another sum.
    """
    return (0xFFFF - int.from_bytes(data, "big") % 0xFFFF) % 0xFFFF


def _refuse(what: str) -> NoReturn:
    raise RemoteProtocolError(what)

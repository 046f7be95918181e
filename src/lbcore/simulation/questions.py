"""What a client on the segment asks and hears, byte by byte: the judge's own reading of ARP and NDP.

Shares no code with lbcore's adapters. RFC 826, RFC 4861 section 4.3 and 4.4.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["announced", "answered", "question"]

Address = IPv4Address | IPv6Address

_MAC = bytes.fromhex("02c1e0000001")
_V4 = ip_address("10.255.255.254").packed
_V6 = ip_address("fe80::c1e0").packed
_ARP, _IPV6 = b"\x08\x06", b"\x86\xdd"


def question(address: Address) -> bytes:
    """The frame "who has this address?" to everybody whom it concerns."""
    target = address.packed
    if address.version == 4:
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + _MAC + _V4 + bytes(6) + target
        return b"\xff" * 6 + _MAC + _ARP + body + bytes(18)
    group = ip_address("ff02::1:ff00:0").packed[:13] + target[13:]
    icmp = struct.pack(">BBHI", 135, 0, 0, 0) + target + b"\x01\x01" + _MAC
    pseudo = _V6 + group + struct.pack(">II", len(icmp), 58)
    total = sum(struct.unpack(f">{len(pseudo + icmp) // 2}H", pseudo + icmp))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    icmp = icmp[:2] + struct.pack(">H", total ^ 0xFFFF) + icmp[4:]
    header = struct.pack(">IHBB", 6 << 28, len(icmp), 58, 255) + _V6 + group
    return b"\x33\x33" + group[12:] + _MAC + _IPV6 + header + icmp


def answered(frame: bytes, address: Address) -> bytes | None:
    """The MAC that a frame gives for an address in answer to `question`, or None when it is no such answer."""
    if frame[:6] != _MAC:
        return None
    if address.version == 4 and frame[12:14] == _ARP and frame[20:22] == b"\x00\x02":
        return frame[22:28] if frame[28:32] == address.packed else None
    if address.version == 6 and frame[12:14] == _IPV6 and frame[54] == 136 and frame[62:78] == address.packed:
        return frame[80:86] if frame[78:80] == b"\x02\x01" else None
    return None


def announced(frame: bytes) -> tuple[Address, bytes] | None:
    """The address and MAC that a frame tells everybody unasked, or None when it does not."""
    if frame[12:14] == _ARP and frame[28:32] == frame[38:42]:
        return ip_address(frame[28:32]), frame[22:28]
    if frame[12:14] == _IPV6 and frame[:6] == b"\x33\x33\x00\x00\x00\x01" and frame[54] == 136:
        return ip_address(frame[62:78]), frame[80:86]
    return None

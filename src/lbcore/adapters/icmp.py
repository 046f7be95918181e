"""ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4): a question to whoever has an address, and its answer."""

from __future__ import annotations

import struct

from lbcore.errors import RemoteProtocolError

__all__ = ["ECHO_REPLY", "decode_echo_reply", "encode_echo_request"]

_ECHO = struct.Struct(">BBHHH")
_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
"""The type of an answer, by IP version."""


def encode_echo_request(version: int, identifier: int, sequence: int, data: bytes) -> bytes:
    """The ICMP message. The checksum of ICMPv6, which covers addresses, is the kernel's to fill in."""
    plain = _ECHO.pack(_REQUEST[version], 0, 0, identifier, sequence) + data
    checksum = _checksum(plain) if version == 4 else 0
    return _ECHO.pack(_REQUEST[version], 0, checksum, identifier, sequence) + data


def decode_echo_reply(version: int, packet: bytes) -> tuple[int, int, bytes]:
    """Identifier, sequence number and data of an answer as a raw socket reads it: by IPv4 with its IP header.

    Raises `RemoteProtocolError`, and nothing else, for anything that is none.
    """
    if version == 4:
        packet = packet[(packet[0] & 15) * 4 :] if packet else packet
    if len(packet) < _ECHO.size:
        raise RemoteProtocolError(f"no echo reply: {len(packet)} bytes")
    kind, code, _, identifier, sequence = _ECHO.unpack_from(packet)
    if (kind, code) != (ECHO_REPLY[version], 0):
        raise RemoteProtocolError(f"no echo reply: type {kind}, code {code}")
    return identifier, sequence, packet[_ECHO.size :]


def _checksum(data: bytes) -> int:
    """RFC 1071: the complement of the one's complement sum of all 16-bit words."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

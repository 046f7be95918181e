"""Router Advertisements by which two ends of a cable find each other for an unnumbered session (RFC 4861 section 4.2).

FRR and what is built on it learns the other end's link-local address from them, and sends its own. Ours
have a lifetime of 0 ("no default router") and no prefix: no host configures anything from them. Bytes only;
the checksum is the kernel's affair (RFC 3542 section 3.1).
"""

from __future__ import annotations

import struct

from lbcore.errors import RemoteProtocolError

__all__ = ["ADVERTISEMENT", "HOP_LIMIT", "SOLICITATION", "check_advertisement"]

HOP_LIMIT = 255  # a router would have lowered it: proof that the sender is on this link

_ADVERTISEMENT, _SOLICITATION = 134, 133
_HEAD = struct.Struct("!BBHBBHII")  # type, code, checksum, hop limit, flags, lifetime, reachable, retransmit

ADVERTISEMENT = _HEAD.pack(_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0)
SOLICITATION = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0)


def check_advertisement(data: bytes, hop_limit: int) -> None:
    """Whether an ICMPv6 message is a Router Advertisement of a neighbour's; raises `RemoteProtocolError` if not."""
    if len(data) < _HEAD.size:
        raise RemoteProtocolError(f"an ICMPv6 message of {len(data)} octets is no Router Advertisement")
    if data[:2] != bytes((_ADVERTISEMENT, 0)):
        raise RemoteProtocolError(f"ICMPv6 type {data[0]} code {data[1]} is no Router Advertisement")
    if hop_limit != HOP_LIMIT:
        raise RemoteProtocolError(f"a Router Advertisement with hop limit {hop_limit} came over a router")

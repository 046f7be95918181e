"""What a speaker can do, as it says in its OPEN (RFC 5492): capabilities to bytes and back.

Ours are multiprotocol (RFC 4760), route refresh (RFC 2918), extended next hop (RFC 8950), graceful
restart (RFC 4724) and 4-octet AS numbers (RFC 6793). Whatever else a peer can do is passed over.
Of a capability sent twice the last one counts, but families add up (RFC 5492 section 4).
"""

from __future__ import annotations

import struct

from attrs import frozen

from lbcore.adapters.bgp.nlri import AFI
from lbcore.addresses import Family

__all__ = ["Capabilities", "GracefulRestart", "decode_capabilities", "encode_capabilities"]

_MULTIPROTOCOL, _ROUTE_REFRESH, _EXTENDED_NEXT_HOP, _GRACEFUL_RESTART, _FOUR_OCTETS = 1, 2, 5, 64, 65
_UNICAST = 1  # the only SAFI here
_FAMILIES = {number: family for family, number in AFI.items()}
_RESTARTED, _FORWARDING = 0x8000, 0x80  # flags of graceful restart


@frozen(kw_only=True)
class GracefulRestart:
    """A speaker whose routes are to be kept when its connection ends without a NOTIFICATION.

    `seconds` is for how long at most; `restarted` says that it has just done so; `families` are those
    kept, each with whether forwarding went on meanwhile.
    """

    seconds: int
    restarted: bool = False
    families: tuple[tuple[Family, bool], ...] = ()


@frozen(kw_only=True)
class Capabilities:
    """`families` are those of unicast routes; none at all means that IPv4 alone is understood.

    `extended_next_hop`: IPv4 routes may have IPv6 next hops. `asn` is the AS number in four octets,
    None for a speaker that only knows two.
    """

    families: frozenset[Family] = frozenset()
    route_refresh: bool = False
    extended_next_hop: bool = False
    graceful_restart: GracefulRestart | None = None
    asn: int | None = None


def encode_capabilities(capabilities: Capabilities) -> bytes:
    """The capabilities one after the other, as the value of the optional parameter 2."""
    parts = [
        _one(_MULTIPROTOCOL, struct.pack("!HBB", AFI[family], 0, _UNICAST)) for family in _sorted(capabilities.families)
    ]
    if capabilities.route_refresh:
        parts.append(_one(_ROUTE_REFRESH, b""))
    if capabilities.extended_next_hop:
        parts.append(_one(_EXTENDED_NEXT_HOP, struct.pack("!HHH", AFI[Family.IPV4], _UNICAST, AFI[Family.IPV6])))
    restart = capabilities.graceful_restart
    if restart is not None:
        flags = (_RESTARTED if restart.restarted else 0) | min(restart.seconds, 0xFFF)
        value = struct.pack("!H", flags)
        for family, forwarding in restart.families:
            value += struct.pack("!HBB", AFI[family], _UNICAST, _FORWARDING if forwarding else 0)
        parts.append(_one(_GRACEFUL_RESTART, value))
    if capabilities.asn is not None:
        parts.append(_one(_FOUR_OCTETS, struct.pack("!I", capabilities.asn)))
    return b"".join(parts)


def _one(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def _sorted(families: frozenset[Family]) -> list[Family]:
    return sorted(families, key=lambda family: family.version)


def decode_capabilities(data: bytes) -> Capabilities:
    """The capabilities that we know. Raises `ValueError` where they do not add up to the bytes there are.

    One whose value has a length that it cannot have is passed over like one that is not known.
    """
    families: set[Family] = set()
    refresh = extended = False
    restart: GracefulRestart | None = None
    asn: int | None = None
    position = 0
    while position < len(data):
        if position + 2 > len(data) or position + 2 + data[position + 1] > len(data):
            raise ValueError("a capability is cut off")
        code, value = data[position], data[position + 2 : position + 2 + data[position + 1]]
        position += 2 + len(value)
        if code == _MULTIPROTOCOL and len(value) == 4:
            afi, _, safi = struct.unpack("!HBB", value)
            if safi == _UNICAST and afi in _FAMILIES:
                families.add(_FAMILIES[afi])
        elif code == _ROUTE_REFRESH:
            refresh = True
        elif code == _EXTENDED_NEXT_HOP and len(value) % 6 == 0:
            extended = (AFI[Family.IPV4], _UNICAST, AFI[Family.IPV6]) in struct.iter_unpack("!HHH", value)
        elif code == _GRACEFUL_RESTART and len(value) % 4 == 2:
            restart = _restart(value)
        elif code == _FOUR_OCTETS and len(value) == 4:
            (asn,) = struct.unpack("!I", value)
    return Capabilities(
        families=frozenset(families),
        route_refresh=refresh,
        extended_next_hop=extended,
        graceful_restart=restart,
        asn=asn,
    )


def _restart(value: bytes) -> GracefulRestart:
    (head,) = struct.unpack("!H", value[:2])
    found = {
        _FAMILIES[afi]: bool(flags & _FORWARDING)
        for afi, safi, flags in struct.iter_unpack("!HBB", value[2:])
        if safi == _UNICAST and afi in _FAMILIES
    }
    families = tuple((family, found[family]) for family in _sorted(frozenset(found)))
    return GracefulRestart(seconds=head & 0xFFF, restarted=bool(head & _RESTARTED), families=families)

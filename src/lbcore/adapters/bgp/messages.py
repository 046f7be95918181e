"""BGP messages, all but UPDATE, to bytes and back, and the frame that all of them are in (RFC 4271 section 4).

`Framer` cuts a stream of bytes into messages and holds less than one of them. A message has at most
4,096 octets. Broken ones raise `BgpError` with the NOTIFICATION of RFC 4271 section 6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attrs import frozen

from lbcore.adapters.bgp.attributes import AS_TRANS
from lbcore.adapters.bgp.capabilities import Capabilities, decode_capabilities, encode_capabilities
from lbcore.adapters.bgp.nlri import AFI
from lbcore.adapters.bgp.notifications import BgpError, Code, Notification
from lbcore.addresses import Address, Family
from lbcore.errors import LocalProtocolError

__all__ = [
    "KEEPALIVE",
    "MAX_MESSAGE",
    "Framer",
    "Kind",
    "Open",
    "RouteRefresh",
    "decode_notification",
    "decode_open",
    "decode_route_refresh",
    "encode_notification",
    "encode_open",
    "encode_route_refresh",
    "frame",
    "kinds_of",
]

MAX_MESSAGE = 4096
HEADER = 19
_MARKER = b"\xff" * 16
_VERSION = 4
_CAPABILITIES = 2  # the only optional parameter that is left, RFC 5492
_EXTENDED = 255  # RFC 9072


class Kind:
    """The types of messages."""

    OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = range(1, 6)


# The shortest and longest that each may be. ROUTE-REFRESH has its own complaint about its length (RFC 7313).
_LENGTHS = {
    Kind.OPEN: (29, MAX_MESSAGE),
    Kind.UPDATE: (23, MAX_MESSAGE),
    Kind.NOTIFICATION: (21, MAX_MESSAGE),
    Kind.KEEPALIVE: (HEADER, HEADER),
    Kind.ROUTE_REFRESH: (HEADER, MAX_MESSAGE),
}


def frame(kind: int, body: bytes) -> bytes:
    """A message. Raises `LocalProtocolError` for one that would be too long."""
    length = HEADER + len(body)
    if length > MAX_MESSAGE:
        raise LocalProtocolError(f"a message of {length} octets; {MAX_MESSAGE} are allowed")
    return _MARKER + struct.pack("!HB", length, kind) + body


KEEPALIVE = frame(Kind.KEEPALIVE, b"")


def kinds_of(messages: bytes) -> Iterator[int]:
    """The types of whole messages of our own, one behind the other."""
    position = 0
    while position < len(messages):
        length, kind = struct.unpack_from("!HB", messages, position + 16)
        yield kind
        position += length


class Framer:
    """Bytes as they arrive, cut into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Every message that is whole now: its type, and what is behind the header.

        Raises `BgpError` for a header that is none; nothing that comes after it can be understood.
        """
        self._data += data
        position = 0
        try:
            while len(self._data) - position >= HEADER:
                length, kind = _check_header(self._data, position)
                if len(self._data) - position < length:
                    break
                body = bytes(self._data[position + HEADER : position + length])
                position += length
                yield kind, body
        finally:
            del self._data[:position]


def _check_header(data: bytearray, at: int) -> tuple[int, int]:
    if data[at : at + 16] != _MARKER:
        raise BgpError("a message does not begin with the marker", Notification(Code.HEADER, 1))
    length, kind = struct.unpack_from("!HB", data, at + 16)
    shortest, longest = _LENGTHS.get(kind, (HEADER, MAX_MESSAGE))
    if not shortest <= length <= longest:
        error = Notification(Code.HEADER, 2, struct.pack("!H", length))
        raise BgpError(f"a message of type {kind} with {length} octets", error)
    if kind not in _LENGTHS:
        raise BgpError(f"a message of type {kind}", Notification(Code.HEADER, 3, bytes((kind,))))
    return length, kind


@frozen(kw_only=True)
class Open:
    """Who a speaker is. `asn` is in two octets; `hold_time` in seconds, 0 for no timers."""

    asn: int
    hold_time: int
    router_id: Address
    capabilities: Capabilities

    @property
    def true_asn(self) -> int:
        """The AS number, in four octets where the speaker knows them (RFC 6793)."""
        return self.asn if self.capabilities.asn is None else self.capabilities.asn


def encode_open(message: Open) -> bytes:
    """The OPEN, with all capabilities in one parameter. An AS number that does not fit becomes AS_TRANS."""
    value = encode_capabilities(message.capabilities)
    parameter = bytes((_CAPABILITIES, len(value))) + value if value else b""
    asn = message.asn if message.asn <= 0xFFFF else AS_TRANS
    head = struct.pack("!BHH4sB", _VERSION, asn, message.hold_time, message.router_id.packed, len(parameter))
    return frame(Kind.OPEN, head + parameter)


def decode_open(body: bytes) -> Open:
    """Read an OPEN. Raises `BgpError` for what makes none; whether it is the right peer's is asked elsewhere."""
    version, asn, hold_time, identifier, length = struct.unpack_from("!BHH4sB", body)
    if version != _VERSION:
        raise BgpError(f"BGP version {version}", Notification(Code.OPEN, 1, struct.pack("!H", _VERSION)))
    if hold_time in (1, 2):
        raise BgpError(f"a hold time of {hold_time} s", Notification(Code.OPEN, 6))
    router_id = Address.from_bytes(identifier)
    if router_id.value == 0:
        raise BgpError("a router ID of 0.0.0.0", Notification(Code.OPEN, 3))
    try:
        values = b"".join(_parameters(body[10:], length))
        capabilities = decode_capabilities(values)
    except ValueError as error:
        raise BgpError(f"in an OPEN {error}", Notification(Code.OPEN, 0)) from None
    if capabilities.asn == 0 or (capabilities.asn is None and asn == 0):
        raise BgpError("AS number 0", Notification(Code.OPEN, 2))  # RFC 7607
    return Open(asn=asn, hold_time=hold_time, router_id=router_id, capabilities=capabilities)


def _parameters(data: bytes, length: int) -> Iterator[bytes]:
    """The values of the parameters with capabilities; long ones, RFC 9072, as well."""
    wide = length == _EXTENDED and len(data) >= 3 and data[0] == _EXTENDED
    if wide:
        (length,) = struct.unpack_from("!H", data, 1)
        data = data[3:]
    if length != len(data):
        raise ValueError(f"the optional parameters are said to have {length} octets, and have {len(data)}")
    head = 3 if wide else 2
    position = 0
    while position < len(data):
        if len(data) - position < head:
            raise ValueError("a parameter is cut off")
        kind = data[position]
        size = int.from_bytes(data[position + 1 : position + head], "big")
        position += head
        if len(data) - position < size:
            raise ValueError("a parameter is cut off")
        if kind != _CAPABILITIES:
            raise BgpError(f"the optional parameter {kind}", Notification(Code.OPEN, 4))
        yield data[position : position + size]
        position += size


def encode_notification(message: Notification) -> bytes:
    """The NOTIFICATION; its data is cut to what fits."""
    room = MAX_MESSAGE - HEADER - 2
    return frame(Kind.NOTIFICATION, bytes((message.code, message.subcode)) + message.data[:room])


def decode_notification(body: bytes) -> Notification:
    """Read a NOTIFICATION; the frame has made sure that it is long enough."""
    return Notification(body[0], body[1], body[2:])


@frozen
class RouteRefresh:
    """A wish to be sent all routes of a family again (RFC 2918); None for a family that we do not know.

    `subtype` 1 and 2 mark the begin and end of a refresh (RFC 7313), which we never ask for.
    """

    family: Family | None
    subtype: int = 0


def encode_route_refresh(message: RouteRefresh) -> bytes:
    """The ROUTE-REFRESH. Raises `LocalProtocolError` without a family."""
    if message.family is None:
        raise LocalProtocolError("a ROUTE-REFRESH needs a family")
    return frame(Kind.ROUTE_REFRESH, struct.pack("!HBB", AFI[message.family], message.subtype, 1))


def decode_route_refresh(body: bytes) -> RouteRefresh:
    """Read a ROUTE-REFRESH; one with filters (RFC 5291) asks for as much as one without."""
    if len(body) < 4:
        text = f"a ROUTE-REFRESH of {len(body)} octets"
        raise BgpError(text, Notification(Code.ROUTE_REFRESH, 1, body))
    afi, subtype, safi = struct.unpack_from("!HBB", body)
    families = {number: family for family, number in AFI.items()}
    return RouteRefresh(families.get(afi) if safi == 1 else None, subtype)

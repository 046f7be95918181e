"""What a router has learnt in a session, read from the bytes that came: the judge's own reading of BGP.

Shares no code with lbcore's adapters, and reads no more than our speakers send: RFC 4271 section 4.3, RFC 4760,
RFC 6793 (AS numbers of four octets), RFC 1997, RFC 8092, RFC 8950, and End-of-RIB of RFC 4724.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

__all__ = ["NOTIFICATION", "UPDATE", "Reading", "Rib", "Route", "UnreadableError"]

UPDATE, NOTIFICATION = 2, 3
_HEAD = 19
_AS_PATH, _NEXT_HOP, _LOCAL_PREF, _COMMUNITIES, _MP_REACH, _MP_UNREACH, _LARGE = 2, 3, 5, 8, 14, 15, 32
_EXTENDED_LENGTH = 0x10


class UnreadableError(Exception):
    """Bytes that are no BGP."""


@dataclass(frozen=True)
class Route:
    """What is said of a prefix. Communities as text, sorted; `stale` since its session broke (RFC 4724)."""

    next_hop: str
    as_path: tuple[int, ...]
    local_pref: int | None
    communities: tuple[str, ...]
    stale: bool = False

    def __str__(self) -> str:
        said = " ".join(self.communities) or "no communities"
        return f"via {self.next_hop}, AS {self.as_path}, preference {self.local_pref}, {said}"


class Reading:
    """A stream cut into messages."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Every message that is whole now: type, and what is behind the header."""
        self._data += data
        found = []
        while len(self._data) >= _HEAD:
            marker, length, kind = struct.unpack_from(">16sHB", self._data)
            if marker != b"\xff" * 16 or not _HEAD <= length <= 4096:
                raise UnreadableError(self._data[:_HEAD].hex())
            if len(self._data) < length:
                break
            found.append((kind, self._data[_HEAD:length]))
            self._data = self._data[length:]
        return found


@dataclass
class Rib:
    """The routes of one session, by prefix as text."""

    routes: dict[str, Route] = field(default_factory=dict)

    def take(self, body: bytes) -> list[tuple[str, Route]]:
        """An UPDATE; the routes that it took away, stale ones at an End-of-RIB among them."""
        (withdrawn,) = struct.unpack_from(">H", body)
        (length,) = struct.unpack_from(">H", body, 2 + withdrawn)
        gone = _prefixes(4, body[2 : 2 + withdrawn])
        attributes = _attributes(body[4 + withdrawn : 4 + withdrawn + length])
        new = _prefixes(4, body[4 + withdrawn + length :])
        if not body.strip(b"\0") or (list(attributes) == [_MP_UNREACH] and len(attributes[_MP_UNREACH]) == 3):
            return self.drop_stale(6 if attributes else 4)
        if _MP_UNREACH in attributes:
            version = _version(attributes[_MP_UNREACH])
            gone += _prefixes(version, attributes[_MP_UNREACH][3:])
        if new:
            self._put(new, attributes, _hop(attributes[_NEXT_HOP]))
        if _MP_REACH in attributes:
            reach = attributes[_MP_REACH]
            size = reach[3]
            self._put(_prefixes(_version(reach), reach[5 + size :]), attributes, _hop(reach[4 : 4 + size]))
        return [(prefix, self.routes.pop(prefix)) for prefix in gone if prefix in self.routes]

    def keep_for_now(self) -> None:
        """The session broke, and its routes are kept for its return."""
        self.routes = {prefix: replace(route, stale=True) for prefix, route in self.routes.items()}

    def drop_stale(self, version: int) -> list[tuple[str, Route]]:
        """What has not been told again is gone, of one IP version."""
        mark = ":" if version == 6 else "."
        gone = [prefix for prefix, route in self.routes.items() if route.stale and mark in prefix]
        return [(prefix, self.routes.pop(prefix)) for prefix in gone]

    def _put(self, prefixes: list[str], attributes: dict[int, bytes], hop: str) -> None:
        path = attributes[_AS_PATH]
        asns: tuple[int, ...] = struct.unpack(f">{(len(path) - 2) // 4}I", path[2:]) if path else ()
        preference = attributes.get(_LOCAL_PREF)
        standard = [f"{one}:{two}" for one, two in struct.iter_unpack(">HH", attributes.get(_COMMUNITIES, b""))]
        large = [f"large:{a}:{b}:{c}" for a, b, c in struct.iter_unpack(">III", attributes.get(_LARGE, b""))]
        route = Route(
            next_hop=hop,
            as_path=asns,
            local_pref=None if preference is None else int.from_bytes(preference, "big"),
            communities=tuple(sorted([*standard, *large])),
        )
        self.routes.update(dict.fromkeys(prefixes, route))


def _version(value: bytes) -> int:
    return {1: 4, 2: 6}[int.from_bytes(value[:2], "big")]


def _hop(value: bytes) -> str:
    """The address, without the link-local one that may stand behind it."""
    return str(ip_address(value[:16]))


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        flags, kind = data[0], data[1]
        wide = 2 if flags & _EXTENDED_LENGTH else 1
        length = int.from_bytes(data[2 : 2 + wide], "big")
        found[kind] = data[2 + wide : 2 + wide + length]
        data = data[2 + wide + length :]
    return found


def _prefixes(version: int, data: bytes) -> list[str]:
    found = []
    size = 4 if version == 4 else 16
    while data:
        length = data[0]
        octets = (length + 7) // 8
        packed = data[1 : 1 + octets].ljust(size, b"\0")
        found.append(f"{ip_address(packed)}/{length}")
        data = data[1 + octets :]
    return found

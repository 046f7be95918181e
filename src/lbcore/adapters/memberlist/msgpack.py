"""The msgpack dialect of memberlist: what go-msgpack writes by default, and everything it reads.

It is the old specification: text and bytes share one family (*raw*), and a signed Go `int` is
written with the signed codes even when it is positive. A library would write today's codes, which
old peers do not read, so the little that is needed is here. Reading is bounded: no container has more
than `MAX_ITEMS` members, nor are there more than `MAX_DEPTH` within each other.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from attrs import frozen

from lbcore.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "Signed", "TruncatedError", "Value", "pack", "unpack"]

MAX_ITEMS = 256  # memberlist's largest map has 8 members, and byte fields may come as arrays of numbers
MAX_DEPTH = 4


class TruncatedError(RemoteProtocolError):
    """The bytes end before the value does; at least `wanted` bytes from the start are needed."""

    def __init__(self, wanted: int) -> None:
        super().__init__(f"the message ends early: at least {wanted} bytes are needed")
        self.wanted = wanted


@frozen
class Signed:
    """A number that Go keeps in a signed `int`."""

    value: int


Plain = None | bool | int | float | bytes
Value = Plain | list["Value"] | dict[bytes, "Value"]
Packable = None | bool | int | str | bytes | Signed


def pack(fields: Mapping[str, Packable]) -> bytes:
    """One struct as a map, its keys in ascending order. Raises `LocalProtocolError` for what Go could not hold."""
    if len(fields) > 15:
        raise LocalProtocolError(f"{len(fields)} fields; memberlist has no message with more than 15")
    parts = [bytes((0x80 | len(fields),))]
    for key in sorted(fields):
        parts += (_pack_raw(key.encode()), _pack_value(fields[key]))
    return b"".join(parts)


def _pack_value(value: Packable) -> bytes:
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _pack_unsigned(value)
        case Signed(number):
            return _pack_signed(number)
        case str():
            return _pack_raw(value.encode())
        case bytes():
            return _pack_raw(value)


def _pack_raw(data: bytes) -> bytes:
    size = len(data)
    if size < 32:
        return bytes((0xA0 | size,)) + data
    if size < 1 << 16:
        return struct.pack(">BH", 0xDA, size) + data
    return struct.pack(">BI", 0xDB, size) + data


def _pack_unsigned(number: int) -> bytes:
    if 0 <= number < 1 << 7:
        return bytes((number,))
    if 0 <= number < 1 << 8:
        return bytes((0xCC, number))
    if 0 <= number < 1 << 16:
        return struct.pack(">BH", 0xCD, number)
    if 0 <= number < 1 << 32:
        return struct.pack(">BI", 0xCE, number)
    raise LocalProtocolError(f"{number} does not fit into 32 bits")


def _pack_signed(number: int) -> bytes:
    if 0 <= number < 1 << 7:
        return bytes((number,))
    if 0 <= number < 1 << 15:
        return struct.pack(">Bh", 0xD1, number)
    if 0 <= number < 1 << 31:
        return struct.pack(">Bi", 0xD2, number)
    raise LocalProtocolError(f"{number} is no count")


def unpack(data: bytes, offset: int = 0) -> tuple[Value, int]:
    """The value that begins at `offset`, and where it ends.

    Raises `TruncatedError` when there are too few bytes, `RemoteProtocolError` for what memberlist never sends.
    """
    return _unpack(data, offset, 0)


def _unpack(data: bytes, offset: int, depth: int) -> tuple[Value, int]:
    code = data[_need(data, offset, 1) - 1]
    offset += 1
    if code < 0x80:
        return code, offset
    if code >= 0xE0:
        return code - 0x100, offset
    if code < 0x90:
        return _unpack_map(data, offset, code & 0x0F, depth)
    if code < 0xA0:
        return _unpack_list(data, offset, code & 0x0F, depth)
    if code < 0xC0:
        return _unpack_raw(data, offset, code & 0x1F)
    if code in _CONSTANTS:
        return _CONSTANTS[code], offset
    layout = _LAYOUTS.get(code)
    if layout is None:
        raise RemoteProtocolError(f"0x{code:02x} begins no value that memberlist knows")
    end = _need(data, offset, layout.size)
    (number,) = layout.unpack_from(data, offset)
    match code:
        case 0xC4 | 0xC5 | 0xC6 | 0xD9 | 0xDA | 0xDB:
            return _unpack_raw(data, end, number)
        case 0xDC | 0xDD:
            return _unpack_list(data, end, number, depth)
        case 0xDE | 0xDF:
            return _unpack_map(data, end, number, depth)
        case _:
            return number, end


_CONSTANTS: dict[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}

_LAYOUTS: dict[int, struct.Struct] = {
    code: struct.Struct(layout)
    for code, layout in (
        *((0xC4, ">B"), (0xC5, ">H"), (0xC6, ">I")),  # bytes
        *((0xCA, ">f"), (0xCB, ">d")),
        *((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q")),
        *((0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q")),
        *((0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I")),  # text
        *((0xDC, ">H"), (0xDD, ">I"), (0xDE, ">H"), (0xDF, ">I")),  # lists, maps
    )
}


def _need(data: bytes, offset: int, size: int) -> int:
    """Where `size` bytes from `offset` on end."""
    if offset + size > len(data):
        raise TruncatedError(offset + size)
    return offset + size


def _unpack_raw(data: bytes, offset: int, size: int) -> tuple[Value, int]:
    end = _need(data, offset, size)
    return data[offset:end], end


def _unpack_list(data: bytes, offset: int, count: int, depth: int) -> tuple[Value, int]:
    _check_container(count, depth)
    items: list[Value] = []
    for _ in range(count):
        item, offset = _unpack(data, offset, depth + 1)
        items.append(item)
    return items, offset


def _unpack_map(data: bytes, offset: int, count: int, depth: int) -> tuple[Value, int]:
    _check_container(count, depth)
    fields: dict[bytes, Value] = {}
    for _ in range(count):
        key, offset = _unpack(data, offset, depth + 1)
        if not isinstance(key, bytes):
            raise RemoteProtocolError(f"{key!r} is no field's name")
        fields[key], offset = _unpack(data, offset, depth + 1)
    return fields, offset


def _check_container(count: int, depth: int) -> None:
    if count > MAX_ITEMS or depth >= MAX_DEPTH:
        raise RemoteProtocolError(f"{count} members at depth {depth}: no message of memberlist is like that")

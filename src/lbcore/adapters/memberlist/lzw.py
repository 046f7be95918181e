"""LZW as Go's `compress/lzw` with least significant bits first and literals of 8 bits (GIF's variant).

Codes are 9 to 12 bits wide; 256 clears the table and 257 ends the stream. The writer clears the table
after code 4095; the reader takes any stream that the format allows, up to a stated size.
"""

from __future__ import annotations

from lbcore.errors import RemoteProtocolError

__all__ = ["compress", "decompress"]

_CLEAR, _END = 256, 257
_FIRST_WIDTH, _MAX_WIDTH = 9, 12
_MAX_CODE = (1 << _MAX_WIDTH) - 1


def compress(data: bytes) -> bytes:
    """`data` as one stream."""
    out = _Bits()
    out.put(_CLEAR)
    if not data:
        out.put(_END)
        return out.finish()
    table: dict[int, int] = {}
    current = data[0]
    for byte in memoryview(data)[1:]:
        key = current << 8 | byte
        known = table.get(key)
        if known is not None:
            current = known
            continue
        out.put(current)
        current = byte
        if out.count():
            table[key] = out.newest
        else:
            table.clear()
    out.put(current)
    out.count()
    out.put(_END)
    return out.finish()


class _Bits:
    """Codes to bytes, and how wide a code is: that follows from how many were written since the last clear."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._pending = self._pending_bits = 0
        self._reset()

    def _reset(self) -> None:
        self._width = _FIRST_WIDTH
        self.newest = _END

    def put(self, code: int) -> None:
        self._pending |= code << self._pending_bits
        self._pending_bits += self._width
        while self._pending_bits >= 8:
            self._bytes.append(self._pending & 0xFF)
            self._pending >>= 8
            self._pending_bits -= 8

    def count(self) -> bool:
        """A code was written: the table grows by `newest`, or (False) is full and has been cleared."""
        self.newest += 1
        if self.newest == 1 << self._width:
            self._width += 1
        if self.newest == _MAX_CODE:
            self.put(_CLEAR)
            self._reset()
            return False
        return True

    def finish(self) -> bytes:
        if self._pending_bits:
            self._bytes.append(self._pending)
        return bytes(self._bytes)


def decompress(data: bytes, limit: int) -> bytes:
    """The bytes of a stream. Raises `RemoteProtocolError` when it is none, is cut, or gives more than `limit` bytes.

    Time and memory are bounded by the size of `data` and `limit`: an entry refers to where in the
    output its text stands, so that no entry costs more than its own bytes.
    """
    out = bytearray()
    starts, sizes = [0] * (_MAX_CODE + 1), [0] * (_MAX_CODE + 1)  # of the texts of codes from 258 on
    width, newest, last = _FIRST_WIDTH, _END, None
    bits = count = 0
    for byte in data:
        bits |= byte << count
        count += 8
        if count < width:
            continue
        code = bits & ((1 << width) - 1)
        bits >>= width
        count -= width
        if code == _CLEAR:
            width, newest, last = _FIRST_WIDTH, _END, None
            continue
        if code == _END:
            return bytes(out)
        begin = len(out)
        if code < _CLEAR:
            out.append(code)
        elif last is not None and code == newest:
            # The entry being made: the last text and its own first byte, as it will stand here.
            out += out[last:begin]
            out.append(out[last])
        elif code < newest or (code == newest and newest == _MAX_CODE and sizes[code]):
            out += out[starts[code] : starts[code] + sizes[code]]
        else:
            raise RemoteProtocolError(f"code {code} was not defined when it came")
        if len(out) > limit:
            raise RemoteProtocolError(f"more than {limit} bytes when decompressed")
        if last is not None:
            starts[newest], sizes[newest] = last, begin - last + 1
        newest, width, full = _grown(newest, width)
        last = None if full else begin
    raise RemoteProtocolError("the compressed stream has no end")


def _grown(newest: int, width: int) -> tuple[int, int, bool]:
    """The table after one more code: its newest code, the width of the next, and whether it is full."""
    newest += 1
    if newest < 1 << width:
        return newest, width, False
    if width == _MAX_WIDTH:
        return newest - 1, width, True
    return newest, width + 1, False

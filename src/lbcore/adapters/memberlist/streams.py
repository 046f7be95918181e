"""The framing of memberlist's TCP connections, each of which carries one message and at most one back.

A `StreamReader` is fed with bytes as they come and tells when the message is whole. With keys its length
stands in front; without, the message itself must be followed, map by map, since nothing says how
long it is. Work is bounded: what was followed once is not looked at again, and no stream may be longer than
`MAX_STREAM`.
"""

from __future__ import annotations

import struct

from lbcore.adapters.memberlist.envelope import Envelope, deflate, inflate
from lbcore.adapters.memberlist.messages import MAX_NODES, Code, Message, User, decode
from lbcore.adapters.memberlist.msgpack import TruncatedError, unpack
from lbcore.errors import RemoteProtocolError

__all__ = ["MAX_STREAM", "StreamReader", "frame_stream"]

MAX_STREAM = 8 << 20  # bytes, sent or decompressed: an exchange of 5,000 members takes 0.5 MB
_ENCRYPTED = struct.Struct(">BI")


def frame_stream(envelope: Envelope, message: bytes, *, opening: bool) -> bytes:
    """One message as the bytes of a stream; `opening` ones carry the label, answers do not."""
    body = deflate(message) if envelope.compressed else message
    if envelope.sealer is not None:
        header = _ENCRYPTED.pack(Code.ENCRYPT, envelope.sealer.size(len(body)))
        body = header + envelope.sealer.seal(body, header + envelope.label)
    return (envelope.header if opening else b"") + body


class StreamReader:
    """One direction of one connection. `opening` is the side that was dialled, which sees the label first."""

    def __init__(self, envelope: Envelope, *, opening: bool) -> None:
        self._envelope = envelope
        self._data = bytearray()
        self._labelled = opening
        self._end: int | None = None  # where the message ends, once that is known
        self._wanted = 1  # bytes before it is worth looking again
        self._seen = 1  # bytes up to which plain text was followed
        self._maps: int | None = None  # maps that are to come from there on; None: not even the first has come
        self._fields: object = None
        self._looks = 0
        self._rest = 0  # bytes after the last map

    def feed(self, data: bytes) -> Message | None:
        """The message, once it is whole. Raises `RemoteProtocolError`: hang up."""
        self._data += data
        if len(self._data) > MAX_STREAM:
            raise RemoteProtocolError(f"more than {MAX_STREAM} bytes in one message")
        if self._labelled and not self._take_label():
            return None
        if len(self._data) < self._wanted:
            return None
        encrypted = self._envelope.sealer is not None
        whole = self._whole_encrypted() if encrypted else self._whole_plain()
        if whole is None:
            return None
        return _decode(whole)

    def _take_label(self) -> bool:
        header = self._envelope.header
        have = bytes(self._data[: max(1, len(header))])
        if len(have) < len(header) and header.startswith(have):
            return False
        if not have:
            return False
        self._envelope.unlabelled(have)  # raises when it is another
        del self._data[: len(header)]
        self._labelled = False
        return True

    def _whole_encrypted(self) -> bytes | None:
        sealer = self._envelope.sealer
        if sealer is None or self._data[0] != Code.ENCRYPT:
            raise RemoteProtocolError("not encrypted, and only what is encrypted is taken")
        if len(self._data) < _ENCRYPTED.size:
            self._wanted = _ENCRYPTED.size
            return None
        header = bytes(self._data[: _ENCRYPTED.size])
        (length,) = struct.unpack_from(">I", header, 1)
        if length > MAX_STREAM:
            raise RemoteProtocolError(f"an encrypted message of {length} bytes; {MAX_STREAM} are allowed")
        self._wanted = _ENCRYPTED.size + length
        if len(self._data) < self._wanted:
            return None
        return sealer.open(bytes(self._data[_ENCRYPTED.size : self._wanted]), header + self._envelope.label)

    def _whole_plain(self) -> bytes | None:
        if self._data[0] == Code.ENCRYPT:
            raise RemoteProtocolError("encrypted, and we have no key")
        try:
            if self._maps is None:
                self._begin()
            while self._maps:
                self._seen += self._step(_MAP)
                self._maps -= 1
        except TruncatedError as error:
            self._wanted = self._seen + error.wanted
            return None
        self._wanted = self._seen + self._rest
        if self._wanted > MAX_STREAM:
            raise RemoteProtocolError(f"a message of {self._wanted} bytes; {MAX_STREAM} are allowed")
        return bytes(self._data[: self._wanted]) if len(self._data) >= self._wanted else None

    def _step(self, limit: int) -> int:
        """The length of the map that is next. Raises `TruncatedError` when it is not whole."""
        window = bytes(self._data[self._seen : self._seen + limit])
        try:
            fields, length = unpack(window)
        except TruncatedError as error:
            if error.wanted > limit:
                raise RemoteProtocolError(f"a member of more than {limit} bytes") from None
            raise
        self._fields = fields
        return length

    def _begin(self) -> None:
        """The first map says how many more there are, and how many bytes after them."""
        # A map is looked at again when more of it has come: a peer's takes a few looks, one made to cost us many.
        self._looks += 1
        if self._looks > _MAX_LOOKS:
            raise RemoteProtocolError("a message that begins with too many small pieces")
        length = self._step(MAX_STREAM)
        fields = self._fields
        if not isinstance(fields, dict):
            raise RemoteProtocolError("a message's body is a map, and this is none")
        self._seen += length
        self._maps = 0
        if self._data[0] == Code.PUSH_PULL:
            self._maps = _count(fields.get(b"Nodes"), MAX_NODES)
            self._rest = _count(fields.get(b"UserStateLen"), MAX_STREAM)
        elif self._data[0] == Code.USER:
            self._rest = _count(fields.get(b"UserMsgLen"), MAX_STREAM)


_MAP = 4096  # bytes that the map of one member may take: 512 of them are metadata
_MAX_LOOKS = 64


def _count(value: object, limit: int) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= limit:
        raise RemoteProtocolError(f"{value!r} is no count, or more than the {limit} that are allowed")
    return value


def _decode(message: bytes) -> Message:
    if message[:1] == bytes((Code.COMPRESS,)):
        message = inflate(message, MAX_STREAM)
    if message[:1] == bytes((Code.USER,)):  # by stream, its length comes first
        _, end = unpack(message, 1)
        return User(message[end:])
    return decode(message)

"""What is around messages on their way: compound, compression, checksum, encryption, label, in this order.

A datagram is label(encrypt(crc(compress(compound(messages))))), each layer where it is wanted; a stream's
message is encrypt(compress(message)) behind a header, see `streams`. Reading is bounded: so many
layers, so many messages and so many bytes out of one datagram, whatever it says of itself.
"""

from __future__ import annotations

import struct
import zlib
from random import Random

from attrs import field, frozen

from lbcore.adapters.memberlist.lzw import compress, decompress
from lbcore.adapters.memberlist.messages import Code, Message, decode
from lbcore.adapters.memberlist.msgpack import pack, unpack
from lbcore.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["MAX_PACKET", "Envelope", "Sealer", "compound", "deflate", "inflate"]

MAX_PACKET = 1400  # bytes in a datagram that we make: memberlist's UDPBufferSize
OVERHEAD = 29  # bytes: version, nonce and tag around what is encrypted without padding
MAX_PARTS = 255
_MAX_DEPTH = 4
_MAX_MESSAGES = 1024  # out of one datagram
_MAX_INFLATED = 1 << 16  # bytes out of one datagram; it was made of at most that much
_NONCE, _TAG, _BLOCK = 12, 16, 16


def compound(messages: list[bytes]) -> bytes:
    """Up to 255 messages as one; a single one stays bare."""
    if len(messages) == 1:
        return messages[0]
    if not 0 < len(messages) <= MAX_PARTS:
        raise LocalProtocolError(f"{len(messages)} messages do not fit into a compound")
    lengths = struct.pack(f">{len(messages)}H", *map(len, messages))
    return bytes((Code.COMPOUND, len(messages))) + lengths + b"".join(messages)


def _parts(data: bytes) -> list[bytes]:
    """The messages of a compound; those that are cut off at its end are left out."""
    if len(data) < 2:
        raise RemoteProtocolError("a compound message without a count")
    count = data[1]
    begin = 2 + 2 * count
    if len(data) < begin:
        raise RemoteProtocolError(f"a compound message of {count} parts without their lengths")
    found = []
    for length in struct.unpack_from(f">{count}H", data, 2):
        if begin + length > len(data):
            break
        found.append(data[begin : begin + length])
        begin += length
    return found


def deflate(message: bytes) -> bytes:
    """A message compressed, as a message."""
    return bytes((Code.COMPRESS,)) + pack({"Algo": 0, "Buf": compress(message)})


def inflate(message: bytes, limit: int) -> bytes:
    """The message in a compressed one. Raises `RemoteProtocolError`, also when it has more than `limit` bytes."""
    fields, _ = unpack(message, 1)
    if not isinstance(fields, dict) or fields.get(b"Algo", 0) != 0:
        raise RemoteProtocolError("compressed in a way that is unknown")
    data = fields.get(b"Buf")
    if not isinstance(data, bytes):
        raise RemoteProtocolError("compressed, but there is nothing in it")
    return decompress(data, limit)


class Sealer:
    """AES-GCM under a ring of keys of 16, 24 or 32 bytes: the first encrypts, each is tried to decrypt.

    `version` 1 is what peers of our time write; 0 pads to whole blocks. Both are read.
    """

    def __init__(self, keys: tuple[bytes, ...], rng: Random, *, version: int = 1) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - for those who have a key

        if not keys or any(len(key) not in {16, 24, 32} for key in keys):
            raise ValueError("a key has 16, 24 or 32 bytes")
        if version not in {0, 1}:
            raise ValueError(f"there is no encryption of version {version}")
        self._ciphers = [AESGCM(key) for key in keys]
        self._rng = rng
        self._version = version

    def size(self, plain: int) -> int:
        """How many bytes so many become."""
        padding = 0 if self._version else _BLOCK - plain % _BLOCK
        return OVERHEAD + plain + padding

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """`plain` encrypted; `associated` must be the same when it is opened."""
        if self._version == 0:
            padding = _BLOCK - len(plain) % _BLOCK
            plain += bytes((padding,)) * padding
        nonce = self._rng.randbytes(_NONCE)
        return bytes((self._version,)) + nonce + self._ciphers[0].encrypt(nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What was encrypted. Raises `RemoteProtocolError` when no key opens it."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        if len(sealed) < OVERHEAD or sealed[0] > 1:
            raise RemoteProtocolError("not encrypted, and only what is encrypted is taken")
        nonce, body = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(nonce, body, associated)
            except InvalidTag:
                continue
            return plain if sealed[0] == 1 else _unpadded(plain)
        raise RemoteProtocolError("encrypted with another key")


def _unpadded(plain: bytes) -> bytes:
    """PKCS #7 off again (RFC 5652 section 6.3)."""
    if not plain or not 1 <= plain[-1] <= _BLOCK or plain[-1] > len(plain):
        raise RemoteProtocolError("encrypted, but padded in no way that is known")
    return plain[: -plain[-1]]


@frozen(kw_only=True)
class Envelope:
    """How datagrams are wrapped: with which keys if any, which label if any, compressed and checked or not."""

    sealer: Sealer | None = None
    label: bytes = field(default=b"")
    compressed: bool = True
    checked: bool = False

    @label.validator
    def _short_enough(self, _attribute: object, label: bytes) -> None:
        if len(label) > 255:
            raise ValueError(f"a label has at most 255 bytes, not {len(label)}")

    @property
    def header(self) -> bytes:
        """The label as it stands before a datagram and at the start of a stream; empty without one."""
        return bytes((Code.LABEL, len(self.label))) + self.label if self.label else b""

    @property
    def room(self) -> int:
        """How many bytes of messages fit into one datagram."""
        return MAX_PACKET - len(self.header) - (0 if self.sealer is None else OVERHEAD + _BLOCK) - 5

    def wrap(self, messages: list[bytes]) -> bytes:
        """One datagram that carries these messages."""
        body = compound(messages)
        if self.compressed:
            smaller = deflate(body)
            body = smaller if len(smaller) < len(body) else body
        if self.checked:
            body = struct.pack(">BI", Code.CRC, zlib.crc32(body)) + body
        if self.sealer is not None:
            body = self.sealer.seal(body, self.label)
        return self.header + body

    def unwrap(self, datagram: bytes) -> list[Message]:
        """The messages in a datagram, those that are none left out.

        Raises `RemoteProtocolError` when it is not for us: another label, another key, a wrong checksum.
        """
        body = self.unlabelled(datagram)
        if self.sealer is not None:
            body = self.sealer.open(body, self.label)
        if body[:1] == bytes((Code.CRC,)) and len(body) >= 5:
            (sum_,) = struct.unpack_from(">I", body, 1)
            body = body[5:]
            if zlib.crc32(body) != sum_:
                raise RemoteProtocolError("the checksum is not that of the message")
        reading = _Reading()
        reading.read(body, 0)
        if not reading.found and reading.trouble is not None:
            raise reading.trouble
        return reading.found

    def unlabelled(self, data: bytes) -> bytes:
        """What follows the label. Raises `RemoteProtocolError` when it is not ours, or there where we have none."""
        if self.label:
            if not data.startswith(self.header):
                raise RemoteProtocolError("the label is not ours")
        elif data[:1] == bytes((Code.LABEL,)):
            raise RemoteProtocolError("labelled, and we have no label")
        return data[len(self.header) :]


class _Reading:
    """One datagram being taken apart, with what it may still cost."""

    def __init__(self) -> None:
        self.found: list[Message] = []
        self.trouble: RemoteProtocolError | None = None
        self._left = _MAX_MESSAGES
        self._bytes_left = _MAX_INFLATED

    def read(self, data: bytes, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            self.trouble = RemoteProtocolError("too many messages within messages")
            return
        try:
            self._read(data, depth)
        except RemoteProtocolError as error:
            self.trouble = error

    def _read(self, data: bytes, depth: int) -> None:
        match data[:1]:
            case b"\x07":
                for part in _parts(data):
                    self.read(part, depth + 1)
            case b"\x09":
                plain = inflate(data, self._bytes_left)
                self._bytes_left -= len(plain)
                self.read(plain, depth + 1)
            case _:
                self.found.append(decode(data))

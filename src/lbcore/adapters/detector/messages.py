"""What detectors say to each other, as bytes of a memberlist user message: sealed with the same key as all others.

    "lbcore" version kind, then
    beat:  flags life(8) number(8) name
    vote:  flags life(8) number(8) life-of-the-subject(8) name subject

Integers are big-endian, names have a length byte before them. A `life` is drawn when a process starts and
`number` counts within it, so that what was recorded and is sent again is old.
"""

from __future__ import annotations

import struct

from attrs import frozen

from lbcore.errors import RemoteProtocolError

__all__ = ["Beat", "Vote", "decode", "encode"]

_MAGIC = b"lbcore\x01"
_HEAD = struct.Struct(">7sBBQQ")
_LIFE = struct.Struct(">Q")
_BEAT, _VOTE = 1, 2
_SET = 1


@frozen(kw_only=True)
class Beat:
    """I am here. `asks`: say so, too, at once."""

    name: str
    life: int
    number: int
    asks: bool = False


@frozen(kw_only=True)
class Vote:
    """Whether `name` still hears the subject, in that life of it; newer votes of one observer replace older ones."""

    name: str
    life: int
    number: int
    subject: str
    subject_life: int
    accuses: bool


def encode(message: Beat | Vote) -> bytes:
    """The bytes of a message."""
    match message:
        case Beat():
            return _head(_BEAT, message.asks, message) + _text(message.name)
        case Vote():
            head = _head(_VOTE, message.accuses, message) + _LIFE.pack(message.subject_life)
            return head + _text(message.name) + _text(message.subject)


def _head(kind: int, flag: bool, message: Beat | Vote) -> bytes:
    return _HEAD.pack(_MAGIC, kind, _SET if flag else 0, message.life, message.number)


def _text(name: str) -> bytes:
    data = name.encode()
    return bytes((len(data),)) + data


def decode(data: bytes) -> Beat | Vote:
    """The message. Raises `RemoteProtocolError`, and nothing else, for bytes that are none."""
    try:
        magic, kind, flags, life, number = _HEAD.unpack_from(data)
        at = _HEAD.size
        if magic != _MAGIC:
            raise ValueError("another program's")
        if kind == _BEAT:
            (name,) = _names(data, at, 1)
            return Beat(name=name, life=life, number=number, asks=bool(flags & _SET))
        if kind == _VOTE:
            (subject_life,) = _LIFE.unpack_from(data, at)
            name, subject = _names(data, at + _LIFE.size, 2)
            return Vote(
                name=name,
                life=life,
                number=number,
                subject=subject,
                subject_life=subject_life,
                accuses=bool(flags & _SET),
            )
        raise ValueError(f"of kind {kind}")
    except (struct.error, ValueError, IndexError) as error:
        raise RemoteProtocolError(f"no detector's message: {error}") from None


def _names(data: bytes, at: int, count: int) -> list[str]:
    names = []
    for _ in range(count):
        end = at + 1 + data[at]
        if end > len(data) or end == at + 1:
            raise ValueError("a name is cut off, or empty")
        names.append(data[at + 1 : end].decode())
        at = end
    if at != len(data):
        raise ValueError("something follows")
    return names

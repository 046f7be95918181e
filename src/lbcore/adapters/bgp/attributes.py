"""Path attributes: ours to bytes, and a peer's looked at as RFC 7606 wants it.

A broken attribute is no longer the end of a session: its UPDATE counts as a withdrawal, or the
attribute alone is passed over. Only what makes the prefixes themselves unreadable resets. The table
`_CHECKS` says which is which, attribute by attribute (RFC 7606 section 7). Sources besides: RFC 4271
section 5, RFC 6793 (4-octet AS), RFC 1997 and RFC 8092 (communities), RFC 4760 (other families).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from attrs import field, frozen

from lbcore.adapters.bgp.nlri import AFI, Nlri, NlriError
from lbcore.adapters.bgp.notifications import BgpError, Code, Notification
from lbcore.addresses import Address, Family
from lbcore.bgp import Community

__all__ = ["AS_TRANS", "Attributes", "Reading", "attribute", "decode_attributes", "encode_attributes", "mp_reach_head"]

AS_TRANS = 23456  # stands for an AS number that does not fit into two octets, RFC 6793 section 9

_ORIGIN, _AS_PATH, _NEXT_HOP, _MED, _LOCAL_PREF, _ATOMIC, _AGGREGATOR, _COMMUNITIES = range(1, 9)
_ORIGINATOR, _CLUSTERS, _MP_REACH, _MP_UNREACH, _EXTENDED, _AS4_PATH, _AS4_AGGREGATOR = 9, 10, 14, 15, 16, 17, 18
_LARGE = 32
_OPTIONAL, _TRANSITIVE, _EXTENDED_LENGTH = 0x80, 0x40, 0x10
_WELL_KNOWN, _NON_TRANSITIVE, _BOTH = _TRANSITIVE, _OPTIONAL, _OPTIONAL | _TRANSITIVE
_SET, _SEQUENCE = 1, 2
_FAMILIES = {number: family for family, number in AFI.items()}
_UNICAST = 1


@frozen(kw_only=True)
class Attributes:
    """What is said about the prefixes of an UPDATE. `as_path` is one sequence, the nearest AS first.

    `next_hop` is that of IPv4 prefixes in the classic place; others have theirs with them.
    """

    as_path: tuple[int, ...] = ()
    next_hop: Address | None = None
    local_pref: int | None = None
    med: int | None = None
    communities: tuple[Community, ...] = ()


def attribute(flags: int, kind: int, value: bytes) -> bytes:
    """One attribute with its head; the length takes two octets where one is not enough."""
    if len(value) > 255:
        return struct.pack("!BBH", flags | _EXTENDED_LENGTH, kind, len(value)) + value
    return struct.pack("!BBB", flags, kind, len(value)) + value


def encode_attributes(attributes: Attributes, *, four_octets: bool) -> bytes:
    """All but those of other families, in ascending order; `four_octets` says how the peer reads AS numbers."""
    path = attributes.as_path
    parts = [attribute(_WELL_KNOWN, _ORIGIN, b"\0"), attribute(_WELL_KNOWN, _AS_PATH, _as_path(path, four_octets))]
    if attributes.next_hop is not None:
        parts.append(attribute(_WELL_KNOWN, _NEXT_HOP, attributes.next_hop.packed))
    if attributes.med is not None:
        parts.append(attribute(_NON_TRANSITIVE, _MED, struct.pack("!I", attributes.med)))
    if attributes.local_pref is not None:
        parts.append(attribute(_WELL_KNOWN, _LOCAL_PREF, struct.pack("!I", attributes.local_pref)))
    standard = [each for each in attributes.communities if not each.is_large]
    large = [each for each in attributes.communities if each.is_large]
    if standard:
        value = b"".join(struct.pack("!HH", *each.fields) for each in standard)
        parts.append(attribute(_BOTH, _COMMUNITIES, value))
    if not four_octets and any(asn > 0xFFFF for asn in path):
        # The path as it is, for those behind the peer (RFC 6793 section 4.2.2).
        parts.append(attribute(_BOTH, _AS4_PATH, _as_path(path, True)))
    if large:
        parts.append(attribute(_BOTH, _LARGE, b"".join(struct.pack("!III", *each.fields) for each in large)))
    return b"".join(parts)


def _as_path(path: Sequence[int], four_octets: bool) -> bytes:
    if not path:
        return b""  # our own AS's routes to our own AS, RFC 4271 section 5.1.2
    if four_octets:
        return struct.pack(f"!BB{len(path)}I", _SEQUENCE, len(path), *path)
    short = [asn if asn <= 0xFFFF else AS_TRANS for asn in path]
    return struct.pack(f"!BB{len(path)}H", _SEQUENCE, len(path), *short)


def mp_reach_head(family: Family, next_hop: bytes) -> bytes:
    """What stands before the prefixes in MP_REACH_NLRI (RFC 4760 section 3)."""
    return struct.pack("!HBB", AFI[family], _UNICAST, len(next_hop)) + next_hop + b"\0"


class Treatment(Enum):
    """What becomes of an UPDATE with a broken attribute (RFC 7606 section 2), the mildest first."""

    DISCARD = "the attribute is passed over"
    WITHDRAW = "the routes count as withdrawn"


@frozen(kw_only=True)
class Reading:
    """A peer's attributes: what is sound of them, and what is wrong, in words.

    `reached` and `withdrawn` are the prefixes in MP_REACH_NLRI and MP_UNREACH_NLRI, None where the
    attribute is not there; both are of families that we know, others are passed over (`foreign`).
    """

    attributes: Attributes = field(factory=Attributes)
    reached: Nlri | None = None
    withdrawn: Nlri | None = None
    faults: tuple[str, ...] = ()
    treat_as_withdraw: bool = False
    foreign: bool = False


def decode_attributes(data: bytes, *, four_octets: bool, internal: bool, announces: bool) -> Reading:
    """Look at a peer's attributes. `announces`: the UPDATE has IPv4 prefixes in the classic place.

    Raises `BgpError` for what leaves no choice but to end the session.
    """
    reader = _Reader(four_octets=four_octets, internal=internal)
    for flags, kind, value in _walk(data, reader):
        reader.look(flags, kind, value)
    reader.finish(announces)
    return reader.reading()


def _walk(data: bytes, reader: _Reader) -> Iterator[tuple[int, int, bytes]]:
    position, end = 0, len(data)
    while position < end:
        if end - position < 3:
            reader.fault(Treatment.WITHDRAW, "an attribute's head is cut off")
            return
        flags, kind, length = data[position], data[position + 1], data[position + 2]
        position += 3
        if flags & _EXTENDED_LENGTH:
            if position >= end:
                reader.fault(Treatment.WITHDRAW, "an attribute's head is cut off")
                return
            length = length << 8 | data[position]
            position += 1
        if end - position < length:
            # RFC 7606 section 4: those before it are good, and the prefixes are known by the lengths outside.
            reader.fault(Treatment.WITHDRAW, f"attribute {kind} is longer than what is left")
            return
        yield flags, kind, data[position : position + length]
        position += length


class _Reader:
    """One pass over the attributes of an UPDATE."""

    def __init__(self, *, four_octets: bool, internal: bool) -> None:
        self.four_octets = four_octets
        self.internal = internal
        self.seen: set[int] = set()
        self.sound: dict[str, object] = {}
        self.communities: list[Community] = []
        self.reached: Nlri | None = None
        self.withdrawn: Nlri | None = None
        self.foreign = self.worst = False
        self.faults: list[str] = []

    def fault(self, treatment: Treatment, text: str) -> None:
        """Something is wrong with the attribute at hand."""
        self.worst |= treatment is Treatment.WITHDRAW
        self.faults.append(f"{text}: {treatment.value}")

    def look(self, flags: int, kind: int, value: bytes) -> None:
        """One attribute."""
        if kind in self.seen:
            if kind in (_MP_REACH, _MP_UNREACH):
                raise _malformed(f"attribute {kind} stands there twice")
            self.fault(Treatment.DISCARD, f"attribute {kind} stands there twice")
            return
        self.seen.add(kind)
        known = _CHECKS.get(kind)
        if known is None:
            if not flags & _OPTIONAL:
                raise BgpError(
                    f"attribute {kind} is well-known, and we do not know it",
                    Notification(Code.UPDATE, 2, attribute(flags, kind, value[:64])),
                )
            return
        wanted, treatment, check = known
        if (flags & _BOTH) != wanted:
            if kind in (_MP_REACH, _MP_UNREACH):
                # Its prefixes are readable all the same; RFC 7606 section 3 (c).
                self.fault(Treatment.WITHDRAW, f"attribute {kind} has the flags {flags:#04x}")
            else:
                self.fault(Treatment.WITHDRAW, f"attribute {kind} has the flags {flags:#04x}")
                return
        try:
            check(self, value)
        except ValueError as error:
            self.fault(treatment, f"attribute {kind}: {error}")

    def finish(self, announces: bool) -> None:
        """What can be said only when all have been looked at."""
        reaches = self.reached is not None and self.reached.count > 0
        if announces or reaches:
            wanted = {_ORIGIN, _AS_PATH} | ({_NEXT_HOP} if announces else set())
            wanted |= {_LOCAL_PREF} if self.internal else set()
            missing = sorted(wanted - self.seen)
            if missing:
                self.fault(Treatment.WITHDRAW, f"attribute {missing[0]} is missing")
        elif self.worst and not self.foreign:
            # Nothing is announced, and the broken attribute may be what hides it: RFC 7606 section 5.2.
            raise _malformed(self.faults[0])

    def reading(self) -> Reading:
        """The outcome."""
        attributes = Attributes(communities=tuple(self.communities), **self.sound)  # type: ignore[arg-type]
        return Reading(
            attributes=attributes,
            reached=self.reached,
            withdrawn=self.withdrawn,
            faults=tuple(self.faults),
            treat_as_withdraw=self.worst,
            foreign=self.foreign,
        )

    # One method for each kind of attribute: raises ValueError in words for a value that is broken.

    def origin(self, value: bytes) -> None:
        _length(value, 1)
        if value[0] > 2:
            raise ValueError(f"an origin of {value[0]}")

    def as_path(self, value: bytes) -> None:
        self.sound["as_path"] = _read_path(value, 4 if self.four_octets else 2)

    def next_hop(self, value: bytes) -> None:
        _length(value, 4)
        self.sound["next_hop"] = Address.from_bytes(value)

    def med(self, value: bytes) -> None:
        self.sound["med"] = _number(value)

    def local_pref(self, value: bytes) -> None:
        if not self.internal:
            self.fault(Treatment.DISCARD, "LOCAL_PREF from another AS")
            return
        self.sound["local_pref"] = _number(value)

    def atomic(self, value: bytes) -> None:
        _length(value, 0)

    def aggregator(self, value: bytes) -> None:
        _length(value, 8 if self.four_octets else 6)

    def standard(self, value: bytes) -> None:
        self.communities += [Community(fields) for fields in struct.iter_unpack("!HH", _multiple(value, 4))]

    def large(self, value: bytes) -> None:
        self.communities += [Community(fields) for fields in struct.iter_unpack("!III", _multiple(value, 12))]

    def extended(self, value: bytes) -> None:
        _multiple(value, 8)

    def originator(self, value: bytes) -> None:
        if self.internal:
            _length(value, 4)

    def clusters(self, value: bytes) -> None:
        if self.internal:
            _multiple(value, 4)

    def as4_path(self, value: bytes) -> None:
        _read_path(value, 4)

    def as4_aggregator(self, value: bytes) -> None:
        _length(value, 8)

    def mp_reach(self, value: bytes) -> None:
        if len(value) < 5 or len(value) < 5 + value[3]:
            raise _unreadable("MP_REACH_NLRI is cut off")
        afi, safi, length = struct.unpack("!HBB", value[:4])
        family = _FAMILIES.get(afi)
        if family is None or safi != _UNICAST:
            self.foreign = True
            return
        allowed = (4, 16, 32) if family is Family.IPV4 else (16, 32)
        if length not in allowed:
            raise _unreadable(f"a next hop of {length} octets in MP_REACH_NLRI")
        self.reached = _prefixes(family, value[5 + length :], "MP_REACH_NLRI")

    def mp_unreach(self, value: bytes) -> None:
        if len(value) < 3:
            raise _unreadable("MP_UNREACH_NLRI is cut off")
        afi, safi = struct.unpack("!HB", value[:3])
        family = _FAMILIES.get(afi)
        if family is None or safi != _UNICAST:
            self.foreign = True
            return
        self.withdrawn = _prefixes(family, value[3:], "MP_UNREACH_NLRI")


_Check = Callable[[_Reader, bytes], None]

# Flags that it must have, what happens to one that is broken, and how that is seen.
_CHECKS: dict[int, tuple[int, Treatment, _Check]] = {
    _ORIGIN: (_WELL_KNOWN, Treatment.WITHDRAW, _Reader.origin),
    _AS_PATH: (_WELL_KNOWN, Treatment.WITHDRAW, _Reader.as_path),
    _NEXT_HOP: (_WELL_KNOWN, Treatment.WITHDRAW, _Reader.next_hop),
    _MED: (_NON_TRANSITIVE, Treatment.WITHDRAW, _Reader.med),
    _LOCAL_PREF: (_WELL_KNOWN, Treatment.WITHDRAW, _Reader.local_pref),
    _ATOMIC: (_WELL_KNOWN, Treatment.DISCARD, _Reader.atomic),
    _AGGREGATOR: (_BOTH, Treatment.DISCARD, _Reader.aggregator),
    _COMMUNITIES: (_BOTH, Treatment.WITHDRAW, _Reader.standard),
    _ORIGINATOR: (_NON_TRANSITIVE, Treatment.WITHDRAW, _Reader.originator),
    _CLUSTERS: (_NON_TRANSITIVE, Treatment.WITHDRAW, _Reader.clusters),
    _MP_REACH: (_NON_TRANSITIVE, Treatment.WITHDRAW, _Reader.mp_reach),
    _MP_UNREACH: (_NON_TRANSITIVE, Treatment.WITHDRAW, _Reader.mp_unreach),
    _EXTENDED: (_BOTH, Treatment.WITHDRAW, _Reader.extended),
    _AS4_PATH: (_BOTH, Treatment.DISCARD, _Reader.as4_path),
    _AS4_AGGREGATOR: (_BOTH, Treatment.DISCARD, _Reader.as4_aggregator),
    _LARGE: (_BOTH, Treatment.WITHDRAW, _Reader.large),
}


def _length(value: bytes, wanted: int) -> None:
    if len(value) != wanted:
        raise ValueError(f"{len(value)} octets instead of {wanted}")


def _multiple(value: bytes, unit: int) -> bytes:
    if not value or len(value) % unit:
        raise ValueError(f"{len(value)} octets, not a multiple of {unit}")
    return value


def _number(value: bytes) -> int:
    _length(value, 4)
    return int.from_bytes(value, "big")


def _read_path(value: bytes, width: int) -> tuple[int, ...]:
    """The AS numbers of all segments in a row; sets count like sequences, as nobody here compares paths."""
    found: list[int] = []
    position = 0
    while position < len(value):
        if len(value) - position < 2:
            raise ValueError("a segment is cut off")
        kind, count = value[position], value[position + 1]
        if not 1 <= kind <= 4 or count == 0:  # 3 and 4 are those of confederations, RFC 5065
            raise ValueError(f"a segment of type {kind} with {count} AS numbers")
        position += 2
        if len(value) - position < count * width:
            raise ValueError("a segment is cut off")
        found += struct.unpack_from(f"!{count}{'I' if width == 4 else 'H'}", value, position)
        position += count * width
    return tuple(found)


def _prefixes(family: Family, data: bytes, where: str) -> Nlri:
    try:
        return Nlri.check(family, data)
    except NlriError as error:
        raise _unreadable(f"{where}: {error}") from None


def _malformed(text: str) -> BgpError:
    return BgpError(text, Notification(Code.UPDATE, 1))


def _unreadable(text: str) -> BgpError:
    return BgpError(text, Notification(Code.UPDATE, 9))

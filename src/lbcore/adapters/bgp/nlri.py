"""Prefixes as they stand in an UPDATE (RFC 4271 section 4.3): a length in bits, then as few bytes as hold them.

What a peer sends is checked and counted in one pass, without a value for each: a router that sends
its million routes costs us 0.2 us each. `prefixes` is for those who want to see them.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from lbcore.addresses import Family
from lbcore.routes import Prefix

__all__ = ["AFI", "Nlri", "NlriError", "encode_prefix"]

AFI = {Family.IPV4: 1, Family.IPV6: 2}  # address family numbers, RFC 4760 section 3


class NlriError(ValueError):
    """Bytes that are no prefixes: a length beyond the family's, or an end before the last one's."""


def encode_prefix(prefix: Prefix) -> bytes:
    """The prefix in 1 to 17 bytes."""
    octets = (prefix.length + 7) // 8
    size = 4 if prefix.version == 4 else 16
    return bytes((prefix.length,)) + prefix.value.to_bytes(size, "big")[:octets]


@frozen
class Nlri:
    """Prefixes of one family, as bytes that `check` has looked at; `count` is how many."""

    family: Family
    data: bytes
    count: int

    @classmethod
    def check(cls, family: Family, data: bytes) -> Nlri:
        """Look at the bytes once. Raises `NlriError`; then nothing in them can be relied on."""
        position, count, end, bits = 0, 0, len(data), family.bits
        while position < end:
            length = data[position]
            if length > bits:
                raise NlriError(f"a prefix of {length} bits, and {family.value} has {bits}")
            position += 1 + (length + 7 >> 3)
            count += 1
        if position != end:
            raise NlriError("the last prefix is cut off")
        return cls(family, data, count)

    def prefixes(self) -> Iterator[Prefix]:
        """Each prefix; bits behind its length do not count (RFC 4271 section 4.3)."""
        version, size = self.family.version, self.family.bits // 8
        position = 0
        while position < len(self.data):
            length = self.data[position]
            octets = (length + 7) // 8
            packed = self.data[position + 1 : position + 1 + octets].ljust(size, b"\0")
            kept = self.family.bits - length
            yield Prefix(version, int.from_bytes(packed, "big") >> kept << kept, length)
            position += 1 + octets

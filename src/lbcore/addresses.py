"""Addresses and ranges as frozen values; the only file that knows netaddr.

netaddr's own objects are mutable though hashable, and untyped, so they never leave this module:
netaddr parses and prints, `Address` and `AddressRange` are what the rest of lbcore holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Literal

import netaddr
from attrs import field, frozen

from lbcore.errors import AddressError

__all__ = ["Address", "AddressRange", "Family", "merge_ranges"]


class Family(Enum):
    """An IP family, named as Kubernetes names it in `spec.ipFamilies`."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self is Family.IPV4 else 6

    @property
    def bits(self) -> int:
        """How long an address of this family is: 32 or 128."""
        return 32 if self is Family.IPV4 else 128

    @property
    def other(self) -> Family:
        """The other of the two."""
        return Family.IPV6 if self is Family.IPV4 else Family.IPV4


_FAMILIES = {4: Family.IPV4, 6: Family.IPV6}
_IPV4_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2


@frozen(order=True)
class Address:
    """One IPv4 or IPv6 address: `version` is 4 or 6, `value` the address as a number.

    Addresses sort as numbers, all of IPv4 before all of IPv6.
    """

    version: int
    value: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `192.0.2.1` or `2001:db8::1`.

        Raises `AddressError` for anything else: host names, masks, zones, shortened IPv4, and
        IPv4-mapped IPv6 (one address must not have two spellings that compare unequal).
        """
        try:
            parsed = netaddr.IPAddress(text.strip())
        except (netaddr.AddrFormatError, ValueError, TypeError):
            raise AddressError(f"{text!r} is not an IP address; write 192.0.2.1 or 2001:db8::1") from None
        address = cls(int(parsed.version), int(parsed))
        if address.version == 6 and address.value >> 32 == 0xFFFF:
            plain = cls(4, address.value - _IPV4_MAPPED)
            raise AddressError(f"{text!r} is an IPv4-mapped IPv6 address; write {plain}")
        return address

    @classmethod
    def from_bytes(cls, packed: bytes) -> Address:
        """The address in 4 or 16 bytes, network order, as it stands in a frame."""
        if len(packed) == 4:
            return cls(4, int.from_bytes(packed, "big"))
        if len(packed) == 16:
            return cls(6, int.from_bytes(packed, "big"))
        raise AddressError(f"an address has 4 or 16 bytes, not {len(packed)}")

    @property
    def family(self) -> Family:
        """The family this address belongs to."""
        return _FAMILIES[self.version]

    @property
    def packed(self) -> bytes:
        """4 or 16 bytes in network order, as they stand in a frame."""
        return self.value.to_bytes(4 if self.version == 4 else 16, "big")

    @property
    def is_link_local(self) -> bool:
        """Whether it is of one link alone: fe80::/10 (RFC 4291 section 2.5.6) or 169.254.0.0/16 (RFC 3927)."""
        return self.value >> 16 == 0xA9FE if self.version == 4 else self.value >> 118 == 0xFE80 >> 6

    def __str__(self) -> str:
        if self.version == 4:
            v = self.value
            return f"{v >> 24}.{v >> 16 & 255}.{v >> 8 & 255}.{v & 255}"
        if 0xFFFF < self.value <= 0xFFFFFFFF:
            # RFC 5952 section 5 keeps the dotted form for well-known prefixes, and ::/96 is none any
            # more (RFC 4291 section 2.5.5.1); inet_ntop, and so netaddr, would write ::192.0.2.1.
            return f"::{self.value >> 16:x}:{self.value & 0xFFFF:x}"
        # Otherwise netaddr's default dialect is RFC 5952, the canonical text that elections hash.
        return str(netaddr.IPAddress(self.value, 6))


@frozen(order=True)
class AddressRange:
    """The addresses from `first` to `last`, both included, of one family."""

    version: int
    first: int
    last: int = field()

    @last.validator
    def _not_before_first(self, _attribute: object, last: int) -> None:
        if last < self.first:
            start, end = Address(self.version, self.first), Address(self.version, last)
            raise AddressError(f"range {start}-{end} ends before it starts; swap the two addresses")

    @classmethod
    def parse(cls, text: str) -> AddressRange:
        """Read a CIDR (`192.0.2.0/24`, host bits are masked off) or a range (`192.0.2.1-192.0.2.9`).

        Raises `AddressError`, also for a bare address without a mask and for a range whose ends
        are of two families (MetalLB's `spec.addresses` knows neither).
        """
        text = text.strip()
        if "-" in text:
            start_text, _, end_text = text.partition("-")
            start, end = Address.parse(start_text), Address.parse(end_text)
            if start.version != end.version:
                raise AddressError(
                    f"range {text!r} mixes {start.family.value} and {end.family.value}; give each its own"
                )
            return cls(start.version, start.value, end.value)
        if "/" not in text:
            address = Address.parse(text)
            raise AddressError(f"{text!r} has no mask; for one address write {address}/{address.family.bits}")
        base_text, _, length_text = text.partition("/")
        base = Address.parse(base_text)
        bits = base.family.bits
        readable = length_text.isascii() and length_text.isdigit() and len(length_text) <= 3
        if not (readable and int(length_text) <= bits):
            raise AddressError(f"{text!r} has no prefix length; write one from /0 to /{bits}")
        size = 1 << (bits - int(length_text))
        first = base.value & ~(size - 1)
        return cls(base.version, first, first + size - 1)

    @property
    def family(self) -> Family:
        """The family of both ends."""
        return _FAMILIES[self.version]

    @property
    def size(self) -> int:
        """How many addresses; Python's integers do not overflow, whatever the range."""
        return self.last - self.first + 1

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and self.first <= address.value <= self.last

    def overlaps(self, other: AddressRange) -> bool:
        """Whether at least one address lies in both."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last

    def cidrs(self) -> tuple[str, ...]:
        """The fewest aligned CIDRs that cover this range exactly, ascending."""
        version: Literal[4, 6] = 4 if self.version == 4 else 6
        first, last = netaddr.IPAddress(self.first, version), netaddr.IPAddress(self.last, version)
        return tuple(str(cidr) for cidr in netaddr.iprange_to_cidrs(first, last))

    def __str__(self) -> str:
        size = self.size
        if size & (size - 1) == 0 and self.first % size == 0:
            return f"{Address(self.version, self.first)}/{self.family.bits - size.bit_length() + 1}"
        return f"{Address(self.version, self.first)}-{Address(self.version, self.last)}"


def merge_ranges(ranges: Iterable[AddressRange]) -> Iterator[AddressRange]:
    """The same addresses in ascending, disjoint ranges; ranges that touch become one."""
    current: AddressRange | None = None
    for each in sorted(ranges):
        if current is not None and each.version == current.version and each.first <= current.last + 1:
            current = AddressRange(current.version, current.first, max(current.last, each.last))
            continue
        if current is not None:
            yield current
        current = each
    if current is not None:
        yield current

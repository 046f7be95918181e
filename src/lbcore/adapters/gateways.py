"""The default gateways, as Linux writes its routes into /proc/net/route and /proc/net/ipv6_route (proc(5))."""

from __future__ import annotations

from attrs import frozen

from lbcore.addresses import Address

__all__ = ["Gateway", "gateways4", "gateways6"]

_GATEWAY = 0x2  # RTF_GATEWAY
_UP = 0x1


@frozen(order=True)
class Gateway:
    """A router, and the interface that leads to it: a link-local address means nothing without."""

    address: Address
    interface: str


def gateways4(table: str) -> tuple[Gateway, ...]:
    """Those of the default routes of IPv4, sorted; lines that cannot be read are passed over."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or (fields[1], fields[7]) != ("00000000", "00000000"):
            continue
        flags, gateway = _hex(fields[3]), _hex(fields[2])
        if flags is None or gateway is None or flags & (_GATEWAY | _UP) != _GATEWAY | _UP:
            continue
        # As the kernel has it in memory; every machine that we run on is little-endian.
        found.add(Gateway(Address(4, int.from_bytes(gateway.to_bytes(4, "little"), "big")), fields[0]))
    return tuple(sorted(found))


def gateways6(table: str) -> tuple[Gateway, ...]:
    """Those of the default routes of IPv6."""
    found = set()
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 10 or (fields[0], fields[1]) != ("0" * 32, "00"):
            continue
        flags, gateway = _hex(fields[8]), _hex(fields[4])
        if flags is None or gateway is None or flags & (_GATEWAY | _UP) != _GATEWAY | _UP:
            continue
        found.add(Gateway(Address(6, gateway), fields[9]))
    return tuple(sorted(found))


def _hex(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None

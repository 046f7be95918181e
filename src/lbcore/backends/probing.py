"""Asking a network actively, for `lbcore doctor`: does a port answer, and who answers for an address?"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from enum import Enum

from lbcore.addresses import Address
from lbcore.errors import LbcoreError

__all__ = ["Port", "answering", "probe_ports"]

_PATIENCE = 2.0  # seconds; a live host on the same continent takes less than 0.3
_AT_ONCE = 64


class Port(Enum):
    """What a connection to a port came to."""

    OPEN = "open"
    CLOSED = "closed"
    SILENT = "silent"  # no answer at all: a firewall, or a dead host


async def probe_ports(targets: Iterable[tuple[str, Address, int]]) -> dict[tuple[str, int], Port]:
    """Try to connect by TCP: `targets` are a name, its address and a port. By name and port, what came of it."""
    bound = asyncio.Semaphore(_AT_ONCE)

    async def probe(name: str, address: Address, port: int) -> tuple[tuple[str, int], Port]:
        async with bound:
            return (name, port), await _connect(str(address), port)

    return dict(await asyncio.gather(*(probe(*target) for target in targets)))


async def _connect(address: str, port: int) -> Port:
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return Port.SILENT
    except OSError as error:
        return Port.CLOSED if error.errno == errno.ECONNREFUSED else Port.SILENT
    writer.close()
    return Port.OPEN


def answering(interface: str, addresses: Iterable[Address]) -> dict[Address, str]:
    """Who answers for addresses on an interface's segment, by ARP or NDP: the MAC by address. Takes some 2 s.

    Needs CAP_NET_RAW. Raises `LbcoreError` where that is missing, or the interface.
    """
    # 55 MB and half a second, for those who ask for it.
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6  # noqa: PLC0415
    from scapy.layers.l2 import ARP, Ether  # noqa: PLC0415
    from scapy.sendrecv import srp  # noqa: PLC0415
    from scapy.utils6 import in6_getnsma, in6_getnsmac  # noqa: PLC0415

    frames = []
    for address in addresses:
        if address.version == 4:
            # A probe from 0.0.0.0 teaches nobody anything (RFC 5227 section 2.1.1).
            frames.append(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="0.0.0.0", pdst=str(address)))  # noqa: S104
        else:
            group = in6_getnsma(address.packed)
            question = ICMPv6ND_NS(tgt=str(address)) / ICMPv6NDOptSrcLLAddr()
            frames.append(Ether(dst=in6_getnsmac(group)) / IPv6(dst=str(address), hlim=255) / question)
    if not frames:
        return {}
    try:
        answered, _ = srp(frames, iface=interface, timeout=_PATIENCE, verbose=False)
    except PermissionError:
        raise LbcoreError(f"asking on {interface} needs CAP_NET_RAW; run as root, or leave --probe out") from None
    except (OSError, ValueError) as error:
        raise LbcoreError(f"cannot ask on {interface}: {error}") from None
    found = {}
    for _, answer in answered:
        about = answer[ARP].psrc if ARP in answer else answer[ICMPv6ND_NA].tgt if ICMPv6ND_NA in answer else None
        if about is not None:
            found[Address.parse(str(about))] = str(answer.src)
    return found

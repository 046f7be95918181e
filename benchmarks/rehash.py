"""How many connections move when one of several next hops goes: all nodes announce a Service, or only a few.

The router is a real kernel's (Linux, `fib_multipath_hash_policy=1`), asked by `ip route get` for each connection; the
nodes of each Service are lbcore's own choice. The node that goes is the first in the kernel's order: the worst place.
"""

from __future__ import annotations

import json

from benchmarks.report import Row
from lbcore.addresses import Address
from lbcore.election import rank
from lbcore.lab.namespaces import Namespace
from lbcore.lab.privileges import ensure_privileges

NAME = "rehash: connections that move when one of 8 nodes goes"
NODES, SERVICES, CONNECTIONS = 8, 48, 200


def _moved(router: Namespace, most: int) -> tuple[float, float]:
    """The share of connections that had the node that goes, and of those that moved altogether."""
    names = [f"n{number}" for number in range(1, NODES + 1)]
    gone, had, moved = names[0], 0, 0
    for number in range(SERVICES):
        address = Address.parse(f"203.0.113.{number + 1}")
        chosen, left = (set(rank(those, address)[:most]) for those in (names, [n for n in names if n != gone]))
        before, after = _hops(router, address, chosen), _hops(router, address, left)
        had += sum(hop == names.index(gone) + 1 for hop in before)
        moved += sum(one != other for one, other in zip(before, after, strict=True))
    total = SERVICES * CONNECTIONS
    return had / total, moved / total


def _hops(router: Namespace, address: Address, nodes: set[str]) -> list[int]:
    hops = [f"nexthop via 192.0.2.{10 + int(name[1:])} dev eth0" for name in sorted(nodes)]
    router.run(["ip", "route", "replace", f"{address}/32", *" ".join(hops).split()], check=True)
    asked = "\n".join(
        f"route get {address} from 192.0.2.1 ipproto tcp sport {20000 + n} dport 80" for n in range(CONNECTIONS)
    )
    out = router.run(["sh", "-c", f"printf '%s' '{asked}' | ip -json -batch -"], check=True).stdout
    decoder, found, rest = json.JSONDecoder(), [], out.strip()
    while rest:
        answer, end = decoder.raw_decode(rest)
        found.append(int(answer[0]["gateway"].rpartition(".")[2]) - 10)
        rest = rest[end:].strip()
    return found


def run() -> list[Row]:
    """A row for each number of nodes that a Service is announced from."""
    ensure_privileges()
    router = Namespace("router")
    try:
        for command in (
            "ip link add eth0 type veth peer name wire",
            "ip link set wire up",
            "ip addr add 192.0.2.1/24 dev eth0",
            "ip link set eth0 up",
            "sysctl -qw net.ipv4.fib_multipath_hash_policy=1",
        ):
            router.run(command.split(), check=True)
        rows = []
        for most in (NODES, 4, 3, 2, 1):
            had, moved = _moved(router, most)
            note = f"{100 * had:.1f} % had the node that went"
            rows.append(Row(what=f"announced from {most}", figure=100 * moved, unit="%", note=note))
        return rows
    finally:
        router.close()

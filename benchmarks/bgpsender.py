"""The speaker's BGP backend as a program, for benchmarks: routes and peers by its arguments, changes by lines on stdin.

`python -m benchmarks.bgpsender VERSION COUNT ADDRESS:PORT... [internal]`: peers of our own AS or of another. A line
`withdraw` takes all routes back, `change` gives one of them another community, and `usage` prints processor seconds
and resident kilobytes.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path as File

from lbcore.addresses import Address
from lbcore.backends.bgp import BgpSpeaker
from lbcore.bgp import BGPPeer, Community
from lbcore.intents import AdvertiseRoute, SetSessions, WithdrawRoute
from lbcore.routes import Offer, Path, Prefix

__all__ = ["prefixes"]

FIRST = {4: (198 << 24) + (18 << 16), 6: 0xFD000077 << 96}
ASN = 64513


def prefixes(version: int, count: int) -> list[Prefix]:
    """Host routes that follow each other."""
    return [Prefix(version, FIRST[version] + number, 32 if version == 4 else 128) for number in range(count)]


def _usage() -> tuple[float, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = File("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(each.split()[1] for each in status.splitlines() if each.startswith("VmRSS"))
    return used.ru_utime + used.ru_stime, int(kilobytes)


async def _main(version: int, count: int, routers: list[str]) -> None:
    internal = routers[-1:] == ["internal"]
    peers = []
    for number, router in enumerate(routers[: len(routers) - internal]):
        address, _, port = router.rpartition(":")
        peers.append(
            BGPPeer(
                name=f"p{number}",
                my_asn=ASN,
                peer_asn=ASN if internal else 64512,
                address=Address.parse(address),
                port=int(port),
                hold_time=90,
                connect_time=1,
            )
        )
    speaker = BgpSpeaker("n1")
    wanted = prefixes(version, count)
    offers = tuple(Offer(peer.name, Path()) for peer in peers)
    for prefix in wanted:
        await speaker.apply(AdvertiseRoute(prefix=prefix, offers=offers))
    await speaker.apply(SetSessions(tuple(peers)))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().strip():
        if line == "withdraw":
            for prefix in wanted:
                await speaker.apply(WithdrawRoute(prefix))
        elif line == "change":
            path = Path(communities=(Community((ASN, 1)),))
            changed = tuple(Offer(peer.name, path) for peer in peers)
            await speaker.apply(AdvertiseRoute(prefix=wanted[count // 2], offers=changed))
        elif line == "usage":
            print(*_usage(), flush=True)
    await speaker.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))

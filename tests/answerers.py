"""Run as a script (`answerers.py INTERFACE INTERVAL ADDRESS...`) at a client: who answers for addresses, on the wire.

Every INTERVAL seconds each address is asked for by ARP or NDP, as by a station that is not there: its answers are
heard, and no kernel's neighbour table learns of them. A round in which more than one station answers is one in which
two nodes announce. When standard input ends it says as JSON, for each address, in seconds: for how long two answered
(`doubled`), the `longest` time of that, and how long nobody (`silent`).
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence

from lbcore.adapters import arp, ndp
from lbcore.adapters.arp import ArpPacket, Operation
from lbcore.adapters.ndp import NeighborAdvertisement, NeighborSolicitation
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError
from lbcore.lab.namespaces import Namespace

__all__ = ["Answerers"]

_ALL = 0x0003  # ETH_P_ALL
_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1  # SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC
_MAC = bytes.fromhex("02005eaa0001")  # the stranger's


class Answerers:
    """The script at work in a namespace, from its first round on. `interval` in seconds."""

    def __init__(self, client: Namespace, addresses: Sequence[Address], interval: float = 0.01) -> None:
        command = [sys.executable, __file__, "eth0", str(interval), *map(str, addresses)]
        self._process = client.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"asking\n"

    def end(self) -> dict[Address, dict[str, float]]:
        """What was heard of each address."""
        out, _ = self._process.communicate(timeout=30)
        return {Address.parse(address): counts for address, counts in json.loads(out).items()}


def _question(address: Address, mac: bytes, own: Address) -> bytes:
    if address.version == 4:
        asked = ArpPacket(
            operation=Operation.REQUEST,
            sender_mac=mac,
            sender=own,
            target_mac=bytes(6),
            target=address,
            destination=b"\xff" * 6,
            source=mac,
        )
        return arp.encode(asked)
    group = ndp.solicited_node(address)
    solicitation = NeighborSolicitation(
        source=own,
        destination=group,
        target=address,
        source_mac=mac,
        destination_mac=ndp.multicast_mac(group),
        link_layer=mac,
    )
    return ndp.encode(solicitation)


def _answer(frame: bytes) -> tuple[Address, bytes] | None:
    """For which address it answers, and who says so; what is told to everybody is no answer."""
    try:
        if frame[12:14] == b"\x08\x06":
            packet = arp.decode(frame)
            return (packet.sender, packet.sender_mac) if packet.operation is Operation.REPLY else None
        if frame[12:14] == b"\x86\xdd":
            told = ndp.decode(frame)
            if isinstance(told, NeighborAdvertisement) and told.solicited and told.link_layer is not None:
                return told.target, told.link_layer
    except RemoteProtocolError:
        pass
    return None


def main(interface: str, interval: str, *texts: str) -> None:
    addresses = [Address.parse(each) for each in texts]
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    wire.bind((interface, 0))
    promiscuous = struct.pack("IHH8x", socket.if_nametoindex(interface), _PROMISCUOUS, 0)
    wire.setsockopt(_PACKET, _ADD_MEMBERSHIP, promiscuous)
    wire.setblocking(False)
    counts = {text: dict.fromkeys(("doubled", "longest", "silent"), 0.0) for text in texts}
    running = dict.fromkeys(texts, 0.0)
    selector = selectors.DefaultSelector()
    selector.register(wire, selectors.EVENT_READ, "wire")
    selector.register(sys.stdin, selectors.EVENT_READ, "end")
    print("asking", flush=True)
    ended, following = False, time.monotonic()
    while not ended:
        began = time.monotonic()
        heard: dict[Address, set[bytes]] = {each: set() for each in addresses}
        for each in addresses:
            wire.send(_question(each, _MAC, _stranger(each)))
        following = max(following + float(interval), time.monotonic())
        while (left := following - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.data == "end":
                    ended = True
                    selector.unregister(sys.stdin)
                    continue
                frame = wire.recv(2048)
                found = _answer(frame) if frame[:6] == _MAC else None
                if found is not None and found[0] in heard:
                    heard[found[0]].add(found[1])
        for each, text in zip(addresses, texts, strict=True):
            _count(counts[text], running, text, len(heard[each]), time.monotonic() - began)
    print(json.dumps(counts))


def _count(counts: dict[str, float], running: dict[str, float], text: str, answered: int, seconds: float) -> None:
    counts["silent"] += seconds if answered == 0 else 0.0
    counts["doubled"] += seconds if answered > 1 else 0.0
    running[text] = running[text] + seconds if answered > 1 else 0.0
    counts["longest"] = max(counts["longest"], running[text])


def _stranger(address: Address) -> Address:
    """An address beside it that nobody has."""
    bits, host = (8, 253) if address.version == 4 else (64, 0xFAFA)
    return Address(address.version, address.value >> bits << bits | host)


if __name__ == "__main__":
    main(*sys.argv[1:])

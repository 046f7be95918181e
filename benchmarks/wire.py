"""Two hosts and a cable, and a client that asks who has an address and looks at the clock.

The hosts are network namespaces made here, with a veth pair between them: `server` runs lbcore (or
its kernel answers), `asker` asks through packet sockets, the same way whoever answers.
"""

from __future__ import annotations

import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pyroute2 import IPRoute

from lbcore.adapters import arp, ndp
from lbcore.adapters.arp import ArpPacket, Operation
from lbcore.adapters.ndp import NeighborSolicitation
from lbcore.addresses import Address
from lbcore.lab.namespaces import Namespace

__all__ = ["ASKER4", "ASKER6", "SERVER4", "SERVER6", "Asker", "Wire", "cpu_seconds", "log_of", "start"]

T = TypeVar("T")

SERVER4, SERVER6 = Address.parse("192.0.2.1"), Address.parse("2001:db8::1")
ASKER4, ASKER6 = Address.parse("192.0.2.2"), Address.parse("2001:db8::2")
_SERVER_MAC, _ASKER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
_NODAD = 0x02  # if_addr.h: use the address at once
_ETHERTYPES = {4: 0x0806, 6: 0x86DD}
_PAUSE = 0.05  # seconds; a packet socket holds some 500 frames or more, for which lbcore needs 5 ms
_PATIENCE = 1.0  # seconds for one answer: then it is lost


class Wire:
    """The two namespaces; with the block everything in them ends."""

    def __init__(self) -> None:
        self.server, self.asker = Namespace("server"), Namespace("asker")
        try:
            self.server.call(_cable, self.asker.pid)
            for space, addresses in ((self.server, (SERVER4, SERVER6)), (self.asker, (ASKER4, ASKER6))):
                space.call(_configure, addresses)
        except BaseException:
            self.close()
            raise

    def ask(self, asking: Callable[[Asker], T], version: int) -> T:
        """Call something with a client on the asking host."""

        def inside() -> T:
            asker = Asker(version)
            try:
                return asking(asker)
            finally:
                asker.close()

        return self.asker.call(inside)

    def close(self) -> None:
        """End every process on both hosts."""
        for space in (self.server, self.asker):
            space.release()
        for space in (self.server, self.asker):
            space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cable(peer: int) -> None:
    with IPRoute() as ip:
        end = {"ifname": "eth0", "address": _ASKER_MAC, "net_ns_pid": peer}
        ip.link("add", ifname="eth0", kind="veth", address=_SERVER_MAC, peer=end)


def _configure(addresses: Sequence[Address]) -> None:
    with IPRoute() as ip:
        for name in ("lo", "eth0"):
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
        eth0 = ip.link_lookup(ifname="eth0")[0]
        for address in addresses:
            options: dict[str, Any] = {"flags": _NODAD} if address.version == 6 else {}
            length = 24 if address.version == 4 else 64
            ip.addr("add", index=eth0, address=str(address), prefixlen=length, **options)


class Asker:
    """A station on the asking host; made and used in its namespace."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._mac = bytes.fromhex(_ASKER_MAC.replace(":", ""))
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("eth0", _ETHERTYPES[version]))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def question(self, address: Address) -> bytes:
        """Who has this address?"""
        if address.version == 4:
            packet = ArpPacket(operation=Operation.REQUEST, sender_mac=self._mac, sender=ASKER4, target_mac=bytes(6),
                               target=address, destination=b"\xff" * 6, source=self._mac)  # fmt: skip
            return arp.encode(packet)
        group = ndp.solicited_node(address)
        asked = NeighborSolicitation(source=ASKER6, destination=group, target=address, source_mac=self._mac,
                                     destination_mac=ndp.multicast_mac(group), link_layer=self._mac)  # fmt: skip
        return ndp.encode(asked)

    def pause(self) -> None:
        """Let lbcore read what the kernel was asked: it hears every broadcast, and the kernel is faster."""
        time.sleep(_PAUSE)

    def latencies(self, addresses: Sequence[Address], times: int) -> list[int]:
        """Ask one at a time, at random; how long each answer took, in nanoseconds. A lost one takes `_PATIENCE`."""
        dice = random.Random(times)
        asked = [(self.question(address), address.packed) for address in dice.choices(addresses, k=times)]
        clock, found = time.perf_counter_ns, []
        for question, wanted in asked:
            begin = clock()
            self._socket.send(question)
            self._answer({wanted})
            found.append(clock() - begin)
        return found

    def rate(self, addresses: Sequence[Address], bursts: int, size: int) -> tuple[float, int]:
        """Ask `size` at once, wait for all, and again: answers a second, and how many were lost."""
        dice = random.Random(bursts)
        asked = [
            [(self.question(address), address.packed) for address in dice.choices(addresses, k=size)]
            for _ in range(bursts)
        ]
        lost, begin = 0, time.perf_counter()
        for burst in asked:
            for question, _ in burst:
                self._socket.send(question)
            left = size
            while left and self._answer({packed for _, packed in burst}):
                left -= 1
            lost += left
        return (bursts * size - lost) / (time.perf_counter() - begin), lost

    def answered(self, address: Address, patience: float) -> bool:
        """Whether there is an answer within so many seconds."""
        self._socket.send(self.question(address))
        return self._answer({address.packed}, patience)

    def announcement(self, address: Address, patience: float) -> float:
        """The moment (time.time) at which the segment is told of an address unasked; 0.0 for never."""
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
            frame = self._socket.recv(2048)
            target = frame[38:42] if self._version == 4 else frame[62:78]
            if target == address.packed and frame[0] & 1 and frame[6:12] != self._mac:
                return time.time()
        return 0.0

    def _answer(self, wanted: set[bytes], patience: float = _PATIENCE) -> bool:
        """Wait for an answer to us about one of these addresses."""
        receive, mac, poll = self._socket.recv, self._mac, select.select
        v4 = self._version == 4
        deadline = time.monotonic() + patience
        while True:
            try:
                frame = receive(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not poll([self._socket], [], [], left)[0]:
                    return False
                continue
            if frame[:6] != mac:
                continue
            if frame[28:32] in wanted if v4 else (frame[54] == 136 and frame[62:78] in wanted):
                return True


def start(space: Namespace, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `lbcore ARGUMENTS` for the cluster in a folder, in a namespace. Its log lies beside the folder."""
    argv = [sys.executable, "-m", "lbcore.cli.main", *arguments, "--cluster", str(folder), "--log-format", "json"]
    with log_of(folder).open("ab") as log:
        return space.spawn(argv, stderr=log)


def log_of(folder: Path) -> Path:
    """Where daemons of a folder's cluster log, one JSON object a line."""
    return folder.with_suffix(".log")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

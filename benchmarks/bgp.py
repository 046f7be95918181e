"""BGP: from the first byte of the first UPDATE to the last route in the router's kernel, beside other senders.

BIRD is the router for all. A packet socket at its end of the cable sees when the first routes come, the
kernel's own news when the last is there. ExaBGP has its routes from its configuration; GoBGP, which has none,
from a session with lbcore before the router is let in.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

from benchmarks import bgpmetallb
from benchmarks.bgpsender import FIRST
from benchmarks.report import Row, progress
from benchmarks.wire import ASKER4, ASKER6, SERVER4, SERVER6, Wire
from lbcore.adapters.bgp.capabilities import Capabilities
from lbcore.adapters.bgp.messages import KEEPALIVE, Framer, Kind, Open, encode_open
from lbcore.addresses import Address, Family
from lbcore.lab.router import bird

__all__ = ["NAME", "run"]

NAME = "bgp (wall clock): routes into a router"
ROUNDS = 7
PATIENCE = 60.0
_LONG = 60.0  # seconds until a sender was ready and has told its routes: it has one round
NODE, ROUTER = {4: str(SERVER4), 6: str(SERVER6)}, {4: str(ASKER4), 6: str(ASKER6)}
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_GROUPS = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
_PEERS = 8


class Clock:
    """Two moments, seen at the router: the first UPDATE that is no mere mark, and that so many routes have changed."""

    def __init__(self, wire: Wire, version: int) -> None:
        self._version = version
        self._packets, self._news = wire.asker.call(self._open)
        self._first: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def _open() -> tuple[socket.socket, socket.socket]:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        packets.settimeout(0.2)
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        news.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing may be lost
        news.bind((0, _GROUPS))
        news.settimeout(PATIENCE)
        return packets, news

    def _watch(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                frame, where = self._packets.recvfrom(4096)
                at = frame.find(b"\xff" * 16, 54)
                told = at > 0 and len(frame) > at + 18 and frame[at + 18] == Kind.UPDATE
                if where[2] != socket.PACKET_OUTGOING and told and struct.unpack_from("!H", frame, at + 16)[0] > 30:
                    self._first = self._first or time.monotonic()

    def wait(self, count: int, kind: int) -> float:
        """Seconds from the first UPDATE until so many routes have come (or gone)."""
        seen: set[bytes] = set()
        while len(seen) < count:
            data = self._news.recv(1 << 20)
            position = 0
            while position < len(data):
                length, found = struct.unpack_from("=IH", data, position)
                if found == kind and (destination := self._destination(data[position + 16 : position + length])):
                    seen.add(destination)
                position += (length + 3) & ~3
        last = time.monotonic()
        self.close()
        assert self._first is not None
        return last - self._first

    def _destination(self, message: bytes) -> bytes | None:
        position = 12  # behind struct rtmsg
        while position + 4 <= len(message):
            length, kind = struct.unpack_from("=HH", message, position)
            if kind == 1:  # RTA_DST
                destination = message[position + 4 : position + length]
                start = FIRST[self._version].to_bytes(len(destination), "big")[: len(destination) // 2]
                return (
                    destination
                    if len(destination) == (4 if self._version == 4 else 16) and destination.startswith(start)
                    else None
                )
            position += max(4, (length + 3) & ~3)
        return None

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._packets.close()
        self._news.close()


@contextlib.contextmanager
def _router(wire: Wire, folder: Path) -> Iterator[None]:
    router = bird(wire.asker, folder, {NODE[4]: 64513, NODE[6]: 64513}).start()
    try:
        time.sleep(0.5)
        yield
    finally:
        router.stop()
        for version in ("-4", "-6"):
            wire.asker.run(["ip", version, "route", "flush", "proto", "bird"])


Sender = Callable[[Wire, Path, int, int], contextlib.AbstractContextManager[subprocess.Popen[bytes]]]


@contextlib.contextmanager
def _program(wire: Wire, command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    program = wire.server.spawn(command, stderr=subprocess.DEVNULL, **options)
    try:
        yield program
    finally:
        program.kill()
        program.wait()


def _lbcore(
    wire: Wire, _folder: Path, version: int, count: int, *routers: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    there = routers or (f"{ROUTER[version]}:179",)
    command = [sys.executable, "-m", "benchmarks.bgpsender", str(version), str(count), *there]
    return _program(wire, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _exabgp(
    wire: Wire, folder: Path, version: int, count: int
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    bits = 32 if version == 4 else 128
    routes = "".join(
        f"route {Address(version, FIRST[version] + n)}/{bits} next-hop {NODE[version]};\n" for n in range(count)
    )
    config = folder / "exabgp.conf"
    family = f"ipv{version} unicast"
    config.write_text(
        f"neighbor {ROUTER[version]} {{ router-id 10.0.0.9; local-address {NODE[version]}; local-as 64513; "
        f"peer-as 64512; hold-time 90; family {{ {family}; }} static {{ {routes} }} }}\n"
    )
    settings = {"exabgp.daemon.user": "root", "exabgp.daemon.drop": "false", "exabgp.cli.pipe": ""}
    return _program(wire, ["exabgp", str(config)], env=os.environ | settings, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _gobgp(wire: Wire, folder: Path, version: int, count: int) -> Iterator[subprocess.Popen[bytes]]:
    # GoBGP takes no routes by way of a loopback address.
    own = {4: "192.0.2.77", 6: "2001:db8::77"}[version]
    device = json.loads(wire.server.run(["ip", "-j", "route", "get", ROUTER[version]], check=True).stdout)[0]["dev"]
    bits = {4: "32", 6: "128"}[version]
    wire.server.run(
        ["ip", "address", "replace", f"{own}/{bits}", "dev", device, *["nodad"][: version // 6]], check=True
    )

    def neighbour(address: str, asn: int, *, passive: bool, down: bool) -> dict[str, object]:
        families = [{"config": {"afi-safi-name": f"ipv{each}-unicast"}} for each in (4, 6)]
        return {
            "config": {"neighbor-address": address, "peer-as": asn, "admin-down": down},
            "transport": {"config": {"passive-mode": passive, "local-address": NODE[version] if down else own}},
            "timers": {"config": {"connect-retry": 1, "hold-time": 90}},
            "afi-safis": families,
        }

    feeder = neighbour(own, 64513, passive=True, down=False)
    peers = [neighbour(ROUTER[version], 64512, passive=False, down=True), feeder]
    config = {"global": {"config": {"as": 64513, "router-id": "10.0.0.9", "port": 1790}}, "neighbors": peers}
    path = folder / "gobgp.json"
    path.write_text(json.dumps(config))
    command = ["gobgpd", "-t", "json", "-f", str(path), "--api-hosts", "127.0.0.1:50051", "--pprof-disable"]
    try:
        with _program(wire, command, stdout=subprocess.DEVNULL) as program:
            internal = [
                sys.executable,
                "-m",
                "benchmarks.bgpsender",
                str(version),
                str(count),
                f"{own}:1790",
                "internal",
            ]
            with _program(wire, internal, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL):
                end = time.monotonic() + PATIENCE
                summary = ["gobgp", "global", "rib", "summary", "-a", f"ipv{version}"]
                while f"Destination: {count}," not in wire.server.run(summary).stdout:
                    if time.monotonic() > end:
                        raise TimeoutError("GoBGP does not get its routes")
                    time.sleep(0.2)
                wire.server.run(["gobgp", "neighbor", ROUTER[version], "enable"], check=True)
                yield program
    finally:
        wire.server.run(
            ["ip", "address", "delete", f"{own}/{bits}", "dev", device]
        )  # nobody else is to connect from it


def _announced(wire: Wire, sender: Sender, version: int, count: int) -> float:
    with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name, _router(wire, Path(name)):
        clock = Clock(wire, version)
        with sender(wire, Path(name), version, count):
            return clock.wait(count, _RTM_NEWROUTE)


def _tell(program: subprocess.Popen[bytes], line: str) -> None:
    assert program.stdin is not None
    program.stdin.write(line.encode() + b"\n")
    program.stdin.flush()


def _changes(wire: Wire, version: int, count: int) -> tuple[float, float]:
    """Seconds for one change among so many, and for the withdrawal of all: from the UPDATE to the kernel."""
    with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name, _router(wire, Path(name)):
        clock = Clock(wire, version)
        with _lbcore(wire, Path(name), version, count) as program:
            clock.wait(count, _RTM_NEWROUTE)
            time.sleep(1.0)
            began = time.monotonic()
            seen = _first_update(wire, lambda: _tell(program, "change"))
            change = seen - began
            clock = Clock(wire, version)
            _tell(program, "withdraw")
            return change, clock.wait(count, _RTM_DELROUTE)


def _first_update(wire: Wire, action: Callable[[], None]) -> float:
    """When the router has the next UPDATE on its cable after an action; kernels do not see a new community."""
    packets = wire.asker.call(Clock._open)[0]
    packets.settimeout(PATIENCE)
    action()
    with packets:
        while True:
            frame = packets.recv(4096)
            at = frame.find(b"\xff" * 16, 54)
            if at > 0 and frame[at + 18] == Kind.UPDATE:
                return time.monotonic()


def _eight_peers(wire: Wire, count: int) -> tuple[float, float]:
    """Processor seconds until eight routers have so many routes each, and megabytes then."""
    listeners = [wire.asker.call(_listen, 1800 + number) for number in range(_PEERS)]
    done = [threading.Event() for _ in listeners]
    for listener, event in zip(listeners, done, strict=True):
        threading.Thread(target=_sink, args=(listener, count, event), daemon=True).start()
    routers = [f"{ROUTER[4]}:{1800 + number}" for number in range(_PEERS)]
    with _lbcore(wire, Path(), 4, count, *routers) as program:
        for event in done:
            if not event.wait(PATIENCE):
                raise TimeoutError("a peer does not get its routes")
        _tell(program, "usage")
        assert program.stdout is not None
        seconds, kilobytes = map(float, program.stdout.readline().split())
    return seconds, kilobytes / 1024


def _listen(port: int) -> socket.socket:
    sock = socket.create_server((ROUTER[4], port))
    sock.settimeout(PATIENCE)
    return sock


def _sink(listener: socket.socket, count: int, done: threading.Event) -> None:
    with contextlib.suppress(OSError), listener:
        connection, _ = listener.accept()
        families = Capabilities(families=frozenset(Family), asn=64512)
        greeting = Open(asn=64512, hold_time=0, router_id=Address.parse("10.255.0.1"), capabilities=families)
        connection.sendall(encode_open(greeting) + KEEPALIVE)
        framer, octets = Framer(), 0
        while data := connection.recv(1 << 16):
            octets += sum(len(body) for kind, body in framer.feed(data) if kind == Kind.UPDATE)
            if octets >= count * 5:
                done.set()


@contextlib.contextmanager
def _with_metallb(wire: Wire, senders: Mapping[str, Sender], count: int) -> Iterator[Mapping[str, Sender]]:
    if not count or not bgpmetallb.is_there():
        yield senders
        return
    with bgpmetallb.metallb(wire, count) as sender:
        yield {**senders, "MetalLB": sender}


def _contest(wire: Wire, senders: Mapping[str, Sender], version: int, count: int, rounds: int) -> Iterator[Row]:
    """All senders in turns, so many rounds; ours is to be no slower than the fastest other.

    Who does not get as far is left out, and who needs a minute to get ready has one round.
    """
    found: dict[str, list[float]] = {name: [] for name in senders}
    turns = dict(senders)
    for _ in range(rounds):
        for name, sender in tuple(turns.items()):
            began = time.monotonic()
            try:
                found[name].append(_announced(wire, sender, version, count))
            except TimeoutError as error:
                progress(f"{name} is left out: {error}")
                del turns[name], found[name]
            else:
                if time.monotonic() - began > _LONG:
                    del turns[name]
    best = min((median(times) for name, times in found.items() if name != "lbcore"), default=None)
    for name, times in found.items():
        what = f"{count:,} /{32 if version == 4 else 128}, first UPDATE to the last in the kernel: {name}"
        aim = best * 1000 if name == "lbcore" and best is not None else None
        note = f"{min(times) * 1000:,.0f} to {max(times) * 1000:,.0f} in {len(times)}"
        yield Row(what=what, figure=median(times) * 1000, unit="ms", at_most=aim, note=note)


def run() -> Iterator[Row]:
    """Every row, as soon as it is known; senders that are not installed are left out."""
    for tool in ("bird", "ip"):
        if shutil.which(tool) is None:
            return
    senders: dict[str, Sender] = {"lbcore": _lbcore}
    senders |= {"ExaBGP": _exabgp} if shutil.which("exabgp") else {}
    senders |= {"GoBGP": _gobgp} if shutil.which("gobgpd") else {}
    with Wire() as wire:
        for count in (1000, 10_000):
            for version, bits in ((4, 32), (6, 128)):
                progress(f"{count} routes of {bits} bits")
                # MetalLB's own BGP speaks no IPv6.
                with _with_metallb(wire, senders, count if version == 4 else 0) as contestants:
                    yield from _contest(wire, contestants, version, count, ROUNDS)
        for count in (1000, 10_000):
            progress(f"changes among {count}")
            changes, withdrawals = zip(*(_changes(wire, 4, count) for _ in range(ROUNDS)), strict=True)
            yield Row(what=f"one change among {count:,}, until its UPDATE", figure=median(changes) * 1000, unit="ms")
            yield Row(what=f"withdrawal of {count:,}", figure=median(withdrawals) * 1000, unit="ms")
        progress("eight peers")
        seconds, megabytes = _eight_peers(wire, 10_000)
        yield Row(what=f"10,000 routes told to {_PEERS} peers: CPU", figure=seconds, unit="s")
        yield Row(what="the same: memory of the process", figure=megabytes, unit="MB")

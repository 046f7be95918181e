"""A lab with lbcore's own daemons in it, and what one asks of it from outside: manifests, the wire, the command line.

Nothing here looks into a daemon: what counts is what the client gets, what is on the wire, what
lies in the folder and what the log says.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, TypeVar

import yaml
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from lbcore.addresses import Address
from lbcore.lab import Lab, Program, Station, anchor

__all__ = [
    "BASE",
    "Fleet",
    "advertisement",
    "deployment",
    "lbcore",
    "pool",
    "running",
    "service",
    "wait_for",
    "who_answers",
]

T = TypeVar("T")

PATIENCE = 30.0  # seconds: many times what anything here takes, for a machine that is busy
_ASKS = 3
_LISTEN = 0.25  # seconds after the last question in which a second answerer would be heard; one takes 1 ms


# Manifests


def manifest(api: str, kind: str, name: str, namespace: str, spec: Mapping[str, Any], **metadata: Any) -> str:
    document = {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": dict(spec),
    }
    return "---\n" + yaml.safe_dump(document, sort_keys=False)


def pool(name: str, *addresses: str, **spec: Any) -> str:
    fields = {"addresses": list(addresses), **spec}
    return manifest("metallb.io/v1beta1", "IPAddressPool", name, "metallb-system", fields)


def advertisement(name: str = "l2", **spec: Any) -> str:
    return manifest("metallb.io/v1beta1", "L2Advertisement", name, "metallb-system", spec)


def deployment(name: str = "web", replicas: int = 3) -> str:
    container = {"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return manifest("apps/v1", "Deployment", name, "default", spec)


def service(name: str = "web", *, app: str = "web", annotations: Mapping[str, str] | None = None, **spec: Any) -> str:
    fields = {
        "type": "LoadBalancer",
        "selector": {"app": app},
        "ports": [{"port": 80, "targetPort": 80}],
        **spec,
    }
    metadata = {"annotations": dict(annotations)} if annotations else {}
    return manifest("v1", "Service", name, "default", fields, **metadata)


BASE = (
    pool("first", "192.168.20.20-192.168.20.199", "fd00:20::100-fd00:20::1ff")
    + pool("reserved", "192.168.20.200/29", "fd00:20::200/120", autoAssign=False)
    + advertisement()
    + deployment()
)


# The command line


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lbcore.cli.main", *arguments]


def lbcore(*arguments: str, before: Sequence[str] = (), timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    argv = [*before, *command(*arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def running(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon outside any lab, killed at the end if it still runs."""
    with log.open("ab") as output:
        process = subprocess.Popen(command(*arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Wait for something true and return it."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, f"waited {timeout:g} s in vain for {what}"
        time.sleep(0.01)
    return result


# The cluster


class Fleet:
    """A lab whose controller and speakers run. Those that are started again have the options of `start`, unless given
    others.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.controller: Program | None = None
        self.speakers: dict[str, Program] = {}
        self._options: tuple[str, ...] = ()

    def start(self, *speaker_options: str) -> Fleet:
        self._options = speaker_options
        self.start_controller()
        for node in self.lab.nodes:
            self.start_speaker(node)
        return self

    def start_controller(self, *options: str) -> Program:
        self.controller = self.lab.start_controller(*options)
        return self.controller

    def start_speaker(self, node: str, *options: str) -> Program:
        self.speakers[node] = self.lab.start_speaker(node, *(options or self._options))
        return self.speakers[node]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return lbcore(*arguments, "--cluster", str(self.lab.folder))

    def json(self, *arguments: str) -> Any:
        done = self.cli(*arguments, "-o", "json")
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)

    # Services

    def serve(self, name: str, **fields: Any) -> tuple[Address, ...]:
        """Apply a Service and wait until each of its addresses answers `curl`."""
        self.lab.apply(service(name, **fields))
        addresses = self.lab.wait_for_address(name, timeout=PATIENCE)
        self.lab.wait_for_pods(PATIENCE)
        for address in addresses:
            self.wait_for_page(address)
        return addresses

    def wait_for_page(self, address: Address) -> None:
        self.lab.wait_until(lambda: self.lab.curl(address).ok, f"a page from {address}", PATIENCE)

    def status(self, name: str) -> Any:
        """The status file of a Service; None when there is none."""
        path = self.status_path(name)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def status_path(self, name: str) -> Path:
        return self.lab.folder / ".lbcore" / "services" / "default" / f"{name}.json"

    def wait_for_refusal(self, name: str) -> Any:
        """What the status says about a Service that was refused."""

        def refusal() -> Any:
            status = self.status(name)
            return status and status["refusal"]

        return self.lab.wait_until(refusal, f"a refusal of {name}", PATIENCE)

    # Who answers

    def answers(self, address: Address) -> Counter[str]:
        """How often which station (by name, or MAC if a stranger) answers when the client asks three times
        on the wire for an address: what every host on the segment would hear.
        """
        macs = self.lab.client.namespace.call(who_answers, self.lab.client, address)
        return Counter(self.lab.node_of(mac) or mac for mac in macs)

    def wait_for_one_answerer(self, address: Address) -> str:
        """The one node that answers for an address, and answers every question, once things have settled."""

        def only() -> str | None:
            answers = self.answers(address)
            return next(iter(answers)) if len(answers) == 1 and answers.total() == _ASKS else None

        return self.lab.wait_until(only, f"exactly one node to answer for {address}", PATIENCE) or ""

    def announcer(self, addresses: Sequence[Address], expected: str | None = None) -> str:
        """The one node that answers for all of these addresses, once they agree (on `expected`, if given)."""

        def agreed() -> str | None:
            names = {self.wait_for_one_answerer(address) for address in addresses}
            return names.pop() if len(names) == 1 and (expected is None or names == {expected}) else None

        what = f"{expected or 'one node'} alone to answer for {', '.join(map(str, addresses))}"
        return self.lab.wait_until(agreed, what, PATIENCE) or ""

    def wait_for_silence(self, address: Address) -> None:
        self.lab.wait_until(lambda: not self.answers(address), f"nobody to answer for {address}", PATIENCE)

    def outages(self, addresses: Sequence[Address], during: Callable[[], object]) -> dict[Address, float]:
        """The outage of each address in seconds, all of them measured at the same time."""
        if not addresses:
            during()
            return {}
        rest: dict[Address, float] = {}
        first = self.lab.outage(addresses[0], lambda: rest.update(self.outages(addresses[1:], during)))
        return {addresses[0]: first, **rest}

    # Daemons

    def restore(self) -> None:
        """Mend what a test broke: cables, frozen nodes, speakers."""
        for name, station in self.lab.nodes.items():
            if station.frozen:
                self.lab.thaw(name)
            self.lab.heal(name)
            if not self.speakers[name].running:
                self.start_speaker(name)
        self.wait_for_members(*self.lab.nodes)
        self.lab.wait_for_pods(PATIENCE)

    def log(self, program: str, since: int = 0) -> str:
        """What a daemon has logged, from a former length of that on."""
        return (self.lab.directory / f"{program}.log").read_text(encoding="utf-8")[since:]

    def wait_for_log(self, program: str, *words: str, since: int = 0) -> str:
        """The first line of a log that has all these words."""

        def line() -> str | None:
            lines = self.log(program, since).splitlines()
            return next((line for line in lines if all(word in line for word in words)), None)

        return self.lab.wait_until(line, f"{words} in the log of {program}", PATIENCE) or ""

    def members(self) -> set[str]:
        """The nodes with a member record."""
        return {path.name for path in (self.lab.folder / ".lbcore" / "members").glob("[!.]*")}

    def wait_for_members(self, *names: str) -> None:
        self.lab.wait_until(lambda: self.members() == set(names), f"the members to be {names}", PATIENCE)

    def reflex(self, node: str) -> list[int]:
        """The pids of a node's reflex processes."""
        station = self.lab.nodes[node]
        return [pid for pid in anchor.processes_in(station.namespace.id) if _is_reflex(pid)]


def _is_reflex(pid: int) -> bool:
    try:
        return b"lbcore.daemons.reflex" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def who_answers(client: Station, address: Address) -> list[str]:
    """Inside the client's namespace: ask on the wire, and collect the MACs of all that answer."""
    question = bytes(_question(client, address))
    macs = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.bind(("eth0", 3))
        for _ in range(_ASKS):
            wire.send(question)
        end = time.monotonic() + _LISTEN
        while (left := end - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                frame = wire.recv(2048)
            except TimeoutError:
                break
            macs += _answer(frame, client, address)
    return macs


def _question(client: Station, address: Address) -> Ether:
    asker = str(client.address(address.version))
    if address.version == 4:
        body = ARP(op="who-has", hwsrc=client.mac, psrc=asker, pdst=str(address))
        return Ether(src=client.mac, dst="ff:ff:ff:ff:ff:ff") / body
    low = address.value & 0xFFFFFF  # RFC 4291 section 2.7.1: the solicited-node group
    group = IPv6Address((0xFF02 << 112) | (0x1FF << 24) | low)
    mac = "33:33:ff:" + ":".join(f"{byte:02x}" for byte in low.to_bytes(3, "big"))
    body = IPv6(src=asker, dst=str(group), hlim=255) / ICMPv6ND_NS(tgt=str(address))
    return Ether(src=client.mac, dst=mac) / body / ICMPv6NDOptSrcLLAddr(lladdr=client.mac)


def _answer(frame: bytes, client: Station, address: Address) -> list[str]:
    """The MAC that a frame says an address is at, if it is an answer to the client."""
    packet = Ether(frame)
    if packet.dst != client.mac:
        return []
    if ARP in packet and packet[ARP].op == 2 and packet[ARP].psrc == str(address):
        return [packet[ARP].hwsrc]
    if ICMPv6ND_NA in packet and packet[ICMPv6ND_NA].tgt == str(address):
        return [packet[ICMPv6NDOptDstLLAddr].lladdr]
    return []

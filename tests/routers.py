"""A real router for tests in a namespace: BIRD, with the routes that its kernel has.

A router speaks for AS 64512 unless told otherwise, waits for the nodes to connect, and accepts everything.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrs import define, field

from lbcore.lab.namespaces import Namespace

__all__ = ["Router", "bird", "kernel_routes"]


@define
class Router:
    """The programs of a router; they end with their namespace at the latest."""

    space: Namespace
    folder: Path
    commands: Sequence[Sequence[str]]
    programs: list[subprocess.Popen[bytes]] = field(factory=list)

    def start(self) -> Router:
        for command in self.commands:
            log = (self.folder / f"{Path(command[0]).name}.log").open("ab")
            self.programs.append(self.space.spawn(command, stdout=log, stderr=log))
        return self

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.kill()
            program.wait()
        self.programs.clear()

    def signal(self, number: int) -> None:
        """A signal to the program that speaks BGP."""
        self.programs[-1].send_signal(number)


def bird(space: Namespace, folder: Path, peers: Mapping[str, int], *, asn: int = 64512, extra: str = "") -> Router:
    """`peers` are the nodes' addresses with their AS numbers; `extra` goes into each protocol."""
    parts = ["router id 10.255.0.1;", "protocol device { }"]
    parts += [f"protocol kernel {{ ipv{n} {{ import none; export all; }}; merge paths on; }}" for n in (4, 6)]
    for index, (address, peer_asn) in enumerate(peers.items()):
        families = " ".join(
            f"ipv{n} {{ import all; export none; {'extended next hop on;' if n == 4 and ':' in address else ''} }};"
            for n in (4, 6)
        )
        parts.append(
            f"protocol bgp p{index} {{ local as {asn}; neighbor {address} as {peer_asn}; direct; passive on; "
            f"hold time 9; error wait time 1, 2; {extra} {families} }}"
        )
    config = folder / "bird.conf"
    config.write_text("\n".join(parts))
    control, pid = str(folder / "bird.ctl"), str(folder / "bird.pid")
    return Router(space, folder, [["bird", "-f", "-c", str(config), "-s", control, "-P", pid]])


def kernel_routes(space: Namespace) -> dict[str, list[str]]:
    """The prefixes that routing protocols put into the kernel, each with its next hops, sorted."""
    found: dict[str, list[str]] = {}
    for version in ("-4", "-6"):
        for route in _listed(space, version, "route", "show", "proto", "bird"):
            found.setdefault(str(ip_network(route["dst"])), []).extend(_hops(route))
    return {prefix: sorted(hops) for prefix, hops in found.items()}


def _listed(space: Namespace, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(space.run(["ip", "-j", *arguments], check=True).stdout or "[]")
    return found


def _hops(route: Mapping[str, Any]) -> list[str]:
    parts = route.get("nexthops") or [route]
    return [part.get("gateway") or part.get("via", {}).get("host", "") for part in parts]

"""A router in a namespace: BIRD, with ECMP, and the routes that its kernel has got of it.

The programs are found, started and ended here; what a lab's nodes say to them is the nodes' affair. A
router speaks for AS 64512 unless told otherwise, waits for the nodes to connect, and accepts everything.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrs import define, field

from lbcore.lab.namespaces import Namespace
from lbcore.lab.waiting import wait_for

__all__ = ["HOLD_TIME", "ROUTER_ASN", "Router", "Routes", "bird", "kernel_routes"]

ROUTER_ASN = 64512
HOLD_TIME = 9  # seconds that BIRD asks for; BGP's own default is 90
_PATIENCE = 20.0  # seconds

Routes = dict[str, list[str]]
"""Prefixes, each with its next hops, sorted."""


@define
class Router:
    """The programs of a router, started in order; they end with their namespace at the latest.

    `lookup` asks it for its routes; the last command is the program that speaks BGP. Programs after the first start
    when `first_opens`, the first one's socket, is there.
    """

    space: Namespace
    folder: Path
    commands: Sequence[Sequence[str]]
    lookup: Callable[[], Routes]
    control: Sequence[str] = ()  # asks the program that speaks BGP something, followed by what
    first_opens: Path | None = None
    programs: list[subprocess.Popen[bytes]] = field(factory=list)

    def start(self) -> Router:
        """Start its programs, and return as soon as all are started, without waiting until they are ready."""
        for command in self.commands:
            if self.programs and self.first_opens is not None:
                there, logs = self.first_opens, self.first_opens.parent
                wait_for(there.is_socket, _PATIENCE, f"no {there.name} within {_PATIENCE:g} s; see the logs in {logs}")
            with (self.folder / f"{Path(command[0]).name}.log").open("ab") as log:
                self.programs.append(self.space.spawn(command, stdout=log, stderr=log))
        return self

    def stop(self) -> None:
        """End it as a power cut would."""
        for program in reversed(self.programs):
            program.kill()
            program.wait()
        self.programs.clear()

    def signal(self, number: int) -> None:
        """A signal to the program that speaks BGP."""
        self.programs[-1].send_signal(number)

    def routes(self) -> Routes:
        """What it has learnt and would send traffic by."""
        return self.lookup()

    def ask(self, *words: str) -> str:
        """What the program that speaks BGP answers to a command of its own."""
        return self.space.run([*self.control, *words]).stdout


def bird(
    space: Namespace,
    folder: Path,
    peers: Mapping[str, int],
    *,
    asn: int = ROUTER_ASN,
    extra: str = "",
    imports: str = "import all;",
    hops: str = "direct;",
    own: Mapping[int, str] | None = None,
    more: str = "",
) -> Router:
    """`peers` are the nodes' addresses with their AS numbers; `extra` goes into each protocol, `more` beside them.

    `imports` says what is taken of a peer's routes, and `hops` how far away the peers are. `own` has its address of
    each IP version, which BIRD wants to be told for BFD over several hops.
    """
    parts = ["router id 10.255.0.1;", "protocol device { }", more]
    parts += [f"protocol kernel {{ ipv{n} {{ import none; export all; }}; merge paths on; }}" for n in (4, 6)]
    for index, (address, peer_asn) in enumerate(peers.items()):
        families = " ".join(
            f"ipv{n} {{ {imports} export none; {'extended next hop on;' if n == 4 and ':' in address else ''} }};"
            for n in (4, 6)
        )
        local = (own or {}).get(6 if ":" in address else 4, "")
        parts.append(
            f"protocol bgp p{index} {{ local {local} as {asn}; neighbor {address} as {peer_asn}; {hops} passive on; "
            f"hold time {HOLD_TIME}; error wait time 1, 2; {extra} {families} }}"
        )
    config = folder / "bird.conf"
    config.write_text("\n".join(parts))
    control, pid = str(folder / "bird.ctl"), str(folder / "bird.pid")
    return Router(
        space,
        folder,
        [["bird", "-f", "-c", str(config), "-s", control, "-P", pid]],
        lambda: kernel_routes(space),
        ("birdc", "-s", control),
    )


def kernel_routes(space: Namespace, protocol: str = "bird") -> Routes:
    """The prefixes that a routing protocol (a name of /etc/iproute2/rt_protos, or its number) put into the kernel."""
    found: Routes = {}
    for version in ("-4", "-6"):
        for route in _listed(space, version, "route", "show", "proto", protocol):
            found.setdefault(str(ip_network(route["dst"])), []).extend(_hops(route))
    return {prefix: sorted(hops) for prefix, hops in found.items()}


def _listed(space: Namespace, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(space.run(["ip", "-j", *arguments], check=True).stdout or "[]")
    return found


def _hops(route: Mapping[str, Any]) -> list[str]:
    parts = route.get("nexthops") or [route]
    return [part.get("gateway") or part.get("via", {}).get("host", "") for part in parts]

"""How long a client waits when the node that answers for an address goes: lbcore, keepalived, MetalLB in one lab.

    python -m benchmarks.failover --ours 100 --rivals 15   # as root, or behind tools/privileged; see --help

Three nodes, a client that asks for a page every 5 ms, IPv4. The pages come from the node that answers (with lbcore and
MetalLB by `externalTrafficPolicy: Local`), so that what is measured is the take-over and nothing that kube-proxy
does. MetalLB's programs are found by LBCORE_PEERS and run on a Kubernetes control plane (KUBEBUILDER_ASSETS).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from benchmarks.report import Row, progress
from fleet import advertisement, deployment, pool, service
from lbcore.addresses import Address
from lbcore.lab import Lab
from lbcore.lab.errors import LabError, LabUnavailable
from lbcore.lab.segment import Segment

__all__ = ["NAME", "run"]

NAME = "failover, from the client's side (wall clock): the longest time without a page, three nodes"
AIM_MEDIAN, AIM_WORST = 300.0, 450.0  # ms, for a cut and for a freeze
SCENARIOS = ("silent cut", "freeze", "kill -9", "second cut", "clean stop")
# Seconds for a node that is back to be a member everywhere. Ours may not be a candidate by then, which matters to none:
# the others are, or nobody is and then all are.
_BACK, _RIVALS_BACK = 1.6, 5.0

_KEEPALIVED = """global_defs {{
    vrrp_version 3
    vrrp_garp_master_refresh 0
}}
vrrp_instance lb {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {interval}
    virtual_ipaddress {{
        {address}/24
    }}
}}
"""


class Contestant:
    """One way of failing over in a lab: `address` is served, `revive` brings a node back whose programs were killed."""

    def __init__(self, name: str, lab: Segment, address: Address, revive: Callable[[str], None]) -> None:
        self.name = name
        self.lab = lab
        self.address = address
        self.revive = revive
        self.stop: Callable[[str], None] | None = None
        self.members: Callable[[], int] | None = None  # how often members have changed
        self.back = _RIVALS_BACK

    def announcer(self) -> str:
        """The node that the client's frames go to, once it has answered."""

        def found() -> str | None:
            return self.lab.announcer(self.address) if self.lab.curl(self.address, timeout=1.0).ok else None

        return self.lab.wait_until(found, f"{self.address} to answer", 60) or ""

    def outage(self, scenario: str) -> float:
        """One fault, healed again; in milliseconds."""
        node = self.announcer()
        kill = _killer(self.lab, node)
        faults: dict[str, Callable[[], object]] = {
            "silent cut": lambda: self.lab.cut_silently(node),
            "freeze": lambda: self.lab.freeze(node),
            "kill -9": kill,
            "second cut": lambda: self.lab.cut_silently(node),
            "clean stop": lambda: self.stop is not None and self.stop(node),
        }
        before = None
        if scenario == "second cut":
            before = node
            self.lab.cut_silently(before)
            node = self.lab.wait_until(lambda: self._other_than(before), "a successor", 60) or ""
        waited = self.lab.outage(self.address, faults[scenario], interval=0.005, settle=0.4, limit=60) * 1000
        if scenario == "freeze":
            self.lab.thaw(node)
        if scenario in {"kill -9", "clean stop"}:
            self.revive(node)
        for each in (node, before):
            if each is not None:
                self.lab.heal(each)
        time.sleep(self.back)
        return waited

    def _other_than(self, node: str) -> str | None:
        now = self.lab.announcer(self.address)
        return now if now not in {None, node} and self.lab.curl(self.address, timeout=0.5).ok else None


def _killer(lab: Segment, node: str) -> Callable[[], None]:
    """Kill what fails over on a node, and nothing else: its pods live."""
    words = (b"lbcore.daemons.reflex", b"lbcore.cli.main", b"keepalived", b"metallb-speaker")

    def kill() -> None:
        from lbcore.lab import anchor  # noqa: PLC0415

        for pid in anchor.processes_in(lab.nodes[node].namespace.id):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if any(word in line for word in words):
                    os.kill(pid, 9)
            except OSError:
                continue

    return kill


@contextmanager
def lbcore(nodes: int = 3) -> Iterator[Contestant]:
    """Ours, as it comes: gossip with the detector, because the nodes' addresses are given."""
    with Lab(nodes, network6=None, grace=0.3) as lab:
        lab.apply(_base())
        lab.start_controller()

        def start(node: str) -> None:
            peers = [part for each in lab.nodes.values() for part in ("--peer", str(each.address(4)))]
            before = _count(lab, node, _UP)
            running[node] = lab.start_speaker(node, "--bind-address", str(lab.nodes[node].address(4)), *peers)
            lab.wait_until(lambda: _count(lab, node, _UP) > before, f"the speaker of {node}", 60)

        running: dict[str, Any] = {}
        for node in lab.nodes:
            start(node)
        lab.apply(service("web", externalTrafficPolicy="Local"))
        (address,) = lab.wait_for_address("web", timeout=30)
        lab.wait_for_pods(30)
        ours = Contestant("lbcore", lab, address, start)
        ours.stop = lambda node: running[node].stop()
        ours.members = lambda: sum(_count(lab, node, " members ") for node in lab.nodes)
        ours.back = _BACK
        ours.announcer()
        lab.wait_until(lambda: all(_sees_all(lab, node) for node in lab.nodes), "all nodes to be members", 120)
        yield ours


def _count(lab: Lab, node: str, words: str) -> int:
    """How often a speaker's log has these words."""
    log = lab.directory / f"speaker-{node}.log"
    return log.read_text("utf-8").count(words) if log.exists() else 0


def _sees_all(lab: Lab, node: str) -> bool:
    """Whether a speaker's last word on members is that they are all there."""
    text = (lab.directory / f"speaker-{node}.log").read_text("utf-8")
    lines = ["", *(line for line in text.splitlines() if " members " in line)]
    return lines[-1].endswith("names=" + ",".join(lab.nodes))


def _base() -> str:
    return pool("first", "192.168.20.20-192.168.20.199") + advertisement() + deployment()


@contextmanager
def keepalived(interval: float) -> Iterator[Contestant]:
    """VRRP, with a web server on every node."""
    address = Address.parse("192.168.20.20")
    with Lab(3, network6=None, grace=0.3) as lab:

        def start(node: str) -> None:
            station = lab.nodes[node]
            config = lab.directory / f"keepalived-{node}.conf"
            text = _KEEPALIVED.format(priority=100 + station.number, interval=interval, address=address)
            config.write_text(text, encoding="utf-8")
            pid = lab.directory / f"keepalived-{node}"
            for each in (pid.with_suffix(".pid"), pid.with_suffix(".vrrp")):
                each.unlink(missing_ok=True)
            _drop_address(lab, node, address)
            argv = ["keepalived", "--dont-fork", "--vrrp", "-f", str(config)]
            argv += ["-p", str(pid.with_suffix(".pid")), "-r", str(pid.with_suffix(".vrrp"))]
            process = station.namespace.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running[node] = process

        running: dict[str, Any] = {}
        for node, station in lab.nodes.items():
            argv = [sys.executable, "-m", "http.server", "80", "--directory", str(lab.folder)]
            station.namespace.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            start(node)
        rival = Contestant(f"keepalived, {interval:g} s", lab, address, start)
        rival.stop = lambda node: running[node].terminate()
        rival.announcer()
        time.sleep(4 * interval + 1)
        yield rival


def _drop_address(lab: Segment, node: str, address: Address) -> None:
    lab.nodes[node].namespace.run(["ip", "address", "del", f"{address}/24", "dev", "eth0"], timeout=10)


@contextmanager
def metallb() -> Iterator[Contestant]:
    """MetalLB's own controller and speakers, as its manifests run them."""
    from kubefleet import KubeFleet, install_crds, start_metallb, start_metallb_speaker  # noqa: PLC0415
    from lbcore.lab.kubernetes import KubernetesLab  # noqa: PLC0415

    with KubernetesLab(3, network6=None) as lab:
        fleet = KubeFleet(lab)
        install_crds(lab.api)
        start_metallb(lab)
        lab.wait_until(lambda: _applied(lab, _base()), "the pool to be taken", 60)
        lab.kubectl("apply", "-f", "-", text=service("web", externalTrafficPolicy="Local"))
        (address,) = fleet.wait_for_addresses("web")

        def revive(node: str) -> None:
            start_metallb_speaker(lab, node)

        rival = Contestant("MetalLB", lab, address, revive)
        rival.announcer()
        time.sleep(5.0)
        yield rival


def _applied(lab: Any, text: str) -> bool:
    try:
        lab.kubectl("apply", "-f", "-", text=text)
    except LabError:
        return False
    return True


def measured(contestant: Contestant, scenario: str, count: int) -> list[Row]:
    """So many faults of one kind."""
    found = []
    for number in range(count):
        progress(f"{contestant.name}: {scenario} {number + 1} of {count}")
        try:
            found.append(contestant.outage(scenario))
        except LabError as error:
            progress(f"{contestant.name}: {scenario}: {error}")
    if not found:
        return []
    what, note = f"{contestant.name}: {scenario}", f"{len(found)} times"
    aims = contestant.name == "lbcore" and scenario in {"silent cut", "freeze"}
    return [
        Row(what=f"{what}, median", figure=median(found), unit="ms", at_most=AIM_MEDIAN if aims else None, note=note),
        Row(what=f"{what}, worst", figure=max(found), unit="ms", at_most=AIM_WORST if aims else None, note=note),
    ]


def busy(contestant: Contestant, seconds: float) -> list[Row]:
    """Both cores busy, and nothing wrong: how often members change; then a real cut."""
    assert contestant.members is not None
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        before = contestant.members()
        for minute in range(int(seconds // 10)):
            progress(f"{contestant.name}: {10 * minute} of {seconds:g} s with busy processors")
            time.sleep(10)
        changes = contestant.members() - before
        waited = contestant.outage("silent cut")
    finally:
        for each in burners:
            each.kill()
            each.wait()
    name = f"{contestant.name}: {len(burners)} busy processes"
    return [
        Row(what=f"{name}, members that changed", figure=changes, unit="times", at_most=0, note=f"in {seconds:g} s"),
        Row(what=f"{name}, then a silent cut", figure=waited, unit="ms", at_most=AIM_WORST),
    ]


def contest(ours: int, rivals: int, seconds: float, scenarios: tuple[str, ...] = SCENARIOS) -> list[Row]:
    """All rows: each scenario so often with us and with each rival; clean stop and others than cut and freeze less."""
    rows: list[Row] = []
    with lbcore() as contestant:
        if seconds:  # first, while nobody has to wait for coming and going
            rows += busy(contestant, seconds)
        for scenario in scenarios:
            rows += measured(contestant, scenario, ours if scenario in _MANY else max(1, ours // 5))
    for make in _rivals() if rivals else ():
        with make() as contestant:
            for scenario in scenarios:
                if scenario != "clean stop" or contestant.stop is not None:
                    rows += measured(contestant, scenario, rivals)
    return rows


_UP = "reflex process taken up"
_MANY = ("silent cut", "freeze")


def _rivals() -> list[Callable[[], Any]]:
    rivals: list[Callable[[], Any]] = []
    if shutil.which("keepalived"):
        rivals += [lambda: keepalived(1.0), lambda: keepalived(0.1)]
    else:
        progress("keepalived is not installed: left out")
    if os.environ.get("LBCORE_PEERS") and os.environ.get("KUBEBUILDER_ASSETS"):
        rivals.append(metallb)
    else:
        progress("MetalLB is left out: LBCORE_PEERS or KUBEBUILDER_ASSETS is not set")
    return rivals


def run() -> list[Row]:
    """A quick look, without rivals: three of each fault."""
    try:
        return contest(3, 0, 0.0, ("silent cut", "freeze"))
    except LabUnavailable as error:
        progress(f"left out: {error}")
        return []


def main() -> None:
    """From the command line."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from benchmarks.__main__ import add, machine  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=NAME)
    parser.add_argument("--ours", type=int, default=30, help="cuts and freezes of ours; a fifth of the others")
    parser.add_argument("--rivals", type=int, default=5, help="faults of each kind for each rival; 0 for none")
    parser.add_argument("--busy", type=float, default=60.0, help="seconds with busy processors; 0 for none")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this; may be given several times")
    given = parser.parse_args()
    began = time.monotonic()
    rows = contest(given.ours, given.rivals, given.busy, tuple(given.scenario or SCENARIOS))
    table = Table(title=NAME, caption=f"{machine()}; {time.monotonic() - began:.0f} s", title_justify="left")
    for heading in ("what", "figure", "unit", "aim", "met", "note"):
        table.add_column(heading, justify="right" if heading == "figure" else "left")
    for row in rows:
        add(table, row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

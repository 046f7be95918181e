"""Those who fail over in `failover`, each in a lab of its own: lbcore, keepalived and MetalLB; what is done to them.

The pages come from the node that answers (with lbcore and MetalLB by `externalTrafficPolicy: Local`), so that what is
measured is the take-over and nothing that kube-proxy does. IPv4. MetalLB's programs are found by LBCORE_PEERS and run
on a Kubernetes control plane (KUBEBUILDER_ASSETS).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from benchmarks.report import progress
from fleet import advertisement, deployment, pool, service
from fleet import lbcore as command
from lbcore.addresses import Address
from lbcore.election import EXCLUDE_LABEL
from lbcore.lab import Lab, anchor
from lbcore.lab.errors import LabError
from lbcore.lab.segment import Segment

__all__ = ["CONTESTANTS", "LBCORE", "Contestant", "keepalived", "lbcore", "metallb", "rivals"]

LBCORE, KEEPALIVED, KEEPALIVED_TUNED, METALLB = CONTESTANTS = (
    "lbcore", "keepalived, 1 s", "keepalived, 0.1 s", "MetalLB",
)  # fmt: skip

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
    """One way of failing over in a lab: `address` is served, `revive` brings a node back whose programs were killed.

    `stop` ends a node's programs in order, `drain` and `undrain` move its addresses away and back, `withdraw` lets go
    of them without a hand-over, and `members` counts how often members have changed: None where there is no such thing.
    """

    def __init__(self, name: str, lab: Segment, address: Address, revive: Callable[[str], None]) -> None:
        self.name = name
        self.lab = lab
        self.address = address
        self.revive = revive
        self.stop: Callable[[str], object] | None = None
        self.drain: Callable[[str], object] | None = None
        self.undrain: Callable[[str], object] | None = None
        self.withdraw: Callable[[str], object] | None = None
        self.members: Callable[[], int] | None = None
        self.back = _RIVALS_BACK

    def announcer(self) -> str:
        """The node that the client's frames go to, once it has answered."""

        def found() -> str | None:
            return self.lab.announcer(self.address) if self.lab.curl(self.address, timeout=1.0).ok else None

        return self.lab.wait_until(found, f"{self.address} to answer", 60) or ""

    def successor_of(self, node: str) -> str:
        """Who answers when another node is away, once it does."""

        def found() -> str | None:
            now = self.lab.announcer(self.address)
            return now if now not in {None, node} and self.lab.curl(self.address, timeout=0.5).ok else None

        return self.lab.wait_until(found, "a successor", 60) or ""

    def kill(self, node: str) -> None:
        """Kill (-9) what fails over on a node, and nothing else: its pods live, and its kernel goes on forwarding."""
        self._signal(node, signal.SIGKILL)

    def terminate(self, node: str) -> None:
        """Ask the same to end."""
        self._signal(node, signal.SIGTERM)

    def _signal(self, node: str, number: signal.Signals) -> None:
        for pid in self._programs(
            node, b"lbcore.cli.main", b"lbcore.daemons.reflex", b"keepalived", b"metallb-speaker"
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _programs(self, node: str, *words: bytes) -> list[int]:
        """The processes of a node that have one of these words in their command line, by the words' order."""
        found = []
        for pid in anchor.processes_in(self.lab.nodes[node].namespace.id):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                found += [(place, pid) for place, word in enumerate(words) if word in line]
        return [pid for _, pid in sorted(found)]

    def let_go(self, node: str) -> None:
        """Ours, without a hand-over: the speaker is killed, its reflex process told twice to end, which means now."""
        speaker, reflex = self._programs(node, b"lbcore.cli.main", b"lbcore.daemons.reflex")
        os.kill(speaker, signal.SIGKILL)
        os.kill(reflex, signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            os.kill(reflex, signal.SIGTERM)


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
        ours = Contestant(LBCORE, lab, address, start)
        ours.stop = lambda node: running[node].stop()
        ours.drain = lambda node: _command(lab, "drain", node)
        ours.undrain = lambda node: _command(lab, "undrain", node)
        ours.withdraw = ours.let_go
        ours.members = lambda: sum(_count(lab, node, " members ") for node in lab.nodes)
        ours.back = _BACK
        ours.announcer()
        lab.wait_until(lambda: all(_sees_all(lab, node) for node in lab.nodes), "all nodes to be members", 120)
        yield ours


def _command(lab: Lab, *arguments: str) -> None:
    done = command(*arguments, "--cluster", str(lab.folder))
    if done.returncode:
        raise LabError(f"{arguments}: {done.stderr}")


def _count(lab: Lab, node: str, words: str) -> int:
    """How often a speaker's log has these words."""
    log = lab.directory / f"speaker-{node}.log"
    return log.read_text("utf-8").count(words) if log.exists() else 0


def _sees_all(lab: Lab, node: str) -> bool:
    """Whether a speaker's last word on members is that they are all there."""
    text = (lab.directory / f"speaker-{node}.log").read_text("utf-8")
    lines = ["", *(line for line in text.splitlines() if " members " in line)]
    return lines[-1].endswith("names=" + ",".join(lab.nodes))


_UP = "reflex process taken up"


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
            # HTTP/1.1, so that a connection can stay open.
            argv = [sys.executable, "-m", "http.server", "80", "--protocol", "HTTP/1.1", "--directory", str(lab.folder)]
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

        rival = Contestant(METALLB, lab, address, revive)
        rival.stop = rival.terminate
        # What comes nearest: its speakers know no drain, but leave a node out that has this label.
        rival.drain = lambda node: lab.kubectl("label", "node", node, f"{EXCLUDE_LABEL}=")
        rival.undrain = lambda node: lab.kubectl("label", "node", node, f"{EXCLUDE_LABEL}-")
        rival.announcer()
        time.sleep(5.0)
        yield rival


def _applied(lab: Any, text: str) -> bool:
    try:
        lab.kubectl("apply", "-f", "-", text=text)
    except LabError:
        return False
    return True


def rivals() -> dict[str, Callable[[], Any]]:
    """Those that are installed here, each to be made by a call; keepalived as it comes and tuned."""
    made: dict[str, Callable[[], Any]] = {}
    if shutil.which("keepalived"):
        made |= {KEEPALIVED: partial(keepalived, 1.0), KEEPALIVED_TUNED: partial(keepalived, 0.1)}
    else:
        progress("keepalived is not installed: left out")
    if os.environ.get("LBCORE_PEERS") and os.environ.get("KUBEBUILDER_ASSETS"):
        made[METALLB] = metallb
    else:
        progress("MetalLB is left out: LBCORE_PEERS or KUBEBUILDER_ASSETS is not set")
    return made

"""What knowing who lives costs a node while nothing happens: packets, bytes and processor time, with real speakers.

Three nodes, and twenty, each a namespace with a speaker that gossips; the cluster is a folder with their Nodes and
nothing to announce. Packets are all that pass a node's port of the switch. With 100 and 1,000 nodes see
`simulation`: engines joined in memory send the same datagrams.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from attrs import frozen

from benchmarks import clusters
from benchmarks.report import Row, progress
from benchmarks.wire import cpu_seconds, log_of
from lbcore.lab import LabUnavailable, anchor
from lbcore.lab.network import Network, Plan

__all__ = ["NAME", "run"]

NAME = "upkeep (time that passes): what a member costs while nothing happens, a second and node"
SIZES = (3, 20)
LASTS = 30.0  # seconds
_PATIENCE = 240.0  # twenty speakers that start at once on two cores
_REST = 10.0  # seconds after the last one is a member: exchanges of the start are over


@frozen
class Sample:
    """Counts of one node: packets and bytes out and in, processor seconds of the speaker and of its reflex process."""

    sent: int
    heard: int
    bytes_sent: int
    bytes_heard: int
    speaker: float
    reflex: float


class Members:
    """So many nodes whose speakers know each other."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self._directory = directory
        folder = directory / "cluster"
        folder.mkdir()
        (folder / "nodes.yaml").write_text("---\n".join(map(clusters.node_text, network.nodes)), encoding="utf-8")
        (folder / "config.yaml").write_text(clusters.CONFIG + clusters.ADVERTISEMENT, encoding="utf-8")
        peers = [part for each in list(network.nodes.values())[:3] for part in ("--peer", str(each.address(4)))]
        for name, station in network.nodes.items():
            (directory / name).mkdir()
            argv = [sys.executable, "-m", "lbcore.cli.main", "speaker", "--cluster", str(folder), "--node", name]
            argv += ["--runtime-dir", str(directory / name), "--bind-address", str(station.address(4)), *peers]
            with log_of(directory / f"speaker-{name}").open("ab") as log:
                station.namespace.spawn(argv, stdout=subprocess.DEVNULL, stderr=log)

    def wait(self) -> None:
        """Until each has seen all."""
        end = time.monotonic() + _PATIENCE
        everybody = "names=" + ",".join(sorted(self.network.nodes))
        while not all(self._last_word(name).endswith(everybody) for name in self.network.nodes):
            if time.monotonic() > end:
                raise RuntimeError("the speakers do not find each other")
            time.sleep(0.5)
        time.sleep(_REST)

    def _last_word(self, name: str) -> str:
        text = log_of(self._directory / f"speaker-{name}").read_text("utf-8")
        return ["", *(line for line in text.splitlines() if " members " in line)][-1]

    def sample(self) -> dict[str, Sample]:
        """The counts now."""
        shown = self.network.switch.run(["ip", "-s", "-json", "link", "show"], check=True).stdout
        links = {each["ifname"]: each["stats64"] for each in json.loads(shown)}
        return {name: self._sample(name, links[f"port-{name}"]) for name in self.network.nodes}

    def _sample(self, name: str, counts: dict[str, dict[str, int]]) -> Sample:
        used = {b"lbcore.cli.main": 0.0, b"lbcore.daemons.reflex": 0.0}
        for pid in anchor.processes_in(self.network.nodes[name].namespace.id):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            for word in used:
                if word in line:
                    used[word] += cpu_seconds(pid)
        return Sample(
            sent=counts["rx"]["packets"],
            heard=counts["tx"]["packets"],
            bytes_sent=counts["rx"]["bytes"],
            bytes_heard=counts["tx"]["bytes"],
            speaker=used[b"lbcore.cli.main"],
            reflex=used[b"lbcore.daemons.reflex"],
        )


def _measure(size: int, lasts: float) -> list[Row]:
    plan = Plan.parse(size, "192.168.20.0/24", None)
    with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name, Network(plan) as network:
        progress(f"{size} speakers")
        members = Members(network, Path(name))
        members.wait()
        before, began = members.sample(), time.monotonic()
        time.sleep(lasts)
        after, took = members.sample(), time.monotonic() - began
    rates = {
        key: mean((getattr(after[node], key) - getattr(before[node], key)) / took for node in before)
        for key in ("sent", "heard", "bytes_sent", "bytes_heard", "speaker", "reflex")
    }
    what = f"{size} nodes, each:"
    out, into = f"{rates['bytes_sent']:,.0f} bytes/s", f"{rates['bytes_heard']:,.0f} bytes/s"
    return [
        Row(what=f"{what} packets sent", figure=rates["sent"], unit="/s", note=out),
        Row(what=f"{what} packets heard", figure=rates["heard"], unit="/s", note=into),
        Row(what=f"{what} processor, reflex process", figure=100 * rates["reflex"], unit="%", note="of one core"),
        Row(what=f"{what} processor, speaker", figure=100 * rates["speaker"], unit="%", note="of one core"),
    ]  # fmt: skip


def run() -> list[Row]:
    """Three, and twenty."""
    try:
        return [row for size in SIZES for row in _measure(size, LASTS)]
    except LabUnavailable as why:
        progress(f"left out: {why}")
        return []

"""What the daemons weigh: a speaker that announces 1,000 addresses in a cluster of 10,000 Services, and its controller.

Measured is PSS (/proc/PID/smaps_rollup), in which what processes share counts once: a process's own
memory and its part of the rest. The libraries' pages are shared by all Python processes of a machine,
so whatever else runs here makes each share a little smaller.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from attrs import frozen

from benchmarks import clusters
from benchmarks.answering import await_answers
from benchmarks.report import Row, progress
from benchmarks.wire import Wire, cpu_seconds, start
from lbcore.lab import LabUnavailable
from lbcore.lab.anchor import processes_in

__all__ = ["NAME", "run"]

NAME = "memory: the real daemons, 10,000 Services in the folder, 1,000 addresses announced"
SERVICES, ANNOUNCED = 10_000, 1_000
NODE = "n1"
_AIM = 90.0  # MB, of all the speaker's processes
_LIMIT = 120.0


def run() -> list[Row]:
    """The speaker's two processes and the controller's one, when they have come to rest."""
    try:
        with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name, Wire() as wire:
            return _measure(wire, Path(name))
    except LabUnavailable as why:
        progress(f"left out: {why}")
        return []


def _measure(wire: Wire, directory: Path) -> list[Row]:
    folder = directory / "cluster"
    _write(folder)
    progress(f"a speaker and a controller read {SERVICES:,} Services")
    speaker = start(wire.server, folder, "speaker", "--node", NODE, "--runtime-dir", str(directory))
    await_answers(wire, range(ANNOUNCED))
    controller = start(wire.asker, folder, "controller")
    for pid in (speaker.pid, controller.pid):
        _await_rest(pid)
    (reflex,) = [pid for pid in processes_in(wire.server.id) if "lbcore.daemons.reflex" in _command(pid)]
    parent, child, third = (_Memory.of(pid) for pid in (speaker.pid, reflex, controller.pid))
    both = _Memory(parent.pss + child.pss, parent.anonymous + child.anonymous)
    return [
        both.row("speaker, both processes", at_most=_AIM),
        parent.row("speaker: the parent"),
        child.row("speaker: the answering process"),
        third.row("controller"),
    ]


@frozen
class _Memory:
    """PSS of a process and how much of it is anonymous, in MB."""

    pss: float
    anonymous: float

    @classmethod
    def of(cls, pid: int) -> _Memory:
        """What /proc/PID/smaps_rollup says."""
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        sizes = {line.split()[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
        return cls(sizes["Pss:"], sizes["Pss_Anon:"])

    def row(self, what: str, at_most: float | None = None) -> Row:
        """A line of the table."""
        note = f"{self.anonymous:.1f} of its own, the rest its part of what it shares"
        return Row(what=what, figure=self.pss, unit="MB PSS", at_most=at_most, note=note)


def _write(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(clusters.CONFIG + clusters.ADVERTISEMENT, encoding="utf-8")
    (folder / "nodes.yaml").write_text(clusters.node_text(NODE), encoding="utf-8")
    # Only Services with an endpoint are announced.
    clusters.write_documents(folder, "services", clusters.service_texts(range(SERVICES)))
    clusters.write_documents(folder, "slices", clusters.slice_texts(range(ANNOUNCED), NODE))
    clusters.write_statuses(folder, range(SERVICES))


def _await_rest(pid: int) -> None:
    """Wait until a process has done next to nothing for a second."""
    deadline = time.monotonic() + _LIMIT
    before = -1.0
    while (now := cpu_seconds(pid)) - before > 0.1:
        assert time.monotonic() < deadline, f"process {pid} does not come to rest"
        before = now
        time.sleep(1.0)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")

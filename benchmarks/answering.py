"""How fast lbcore answers ARP and NDP over a veth pair, beside the kernel's own answers in the same run.

A real `lbcore speaker` announces 1,000 addresses. One client asks it and the kernel of the same
host in turns, through the same packet socket, so that a noisy moment meets both.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from attrs import define, field

from benchmarks import clusters
from benchmarks.report import Row, percentile, progress
from benchmarks.wire import SERVER4, SERVER6, Asker, Wire, cpu_seconds, log_of, start
from lbcore.addresses import Address
from lbcore.lab import LabUnavailable

__all__ = ["NAME", "run"]

NAME = "answering (time that passes): lbcore and the kernel on one host, asked over a veth pair"
ANNOUNCED, INTAKE = 1_000, 10_000
ROUNDS, ASKED, BURSTS, BURST = 8, 500, 40, 64
SETTLE = 5.5  # seconds: by then the announcements of a take-over are through
NODE = "n1"
_LIMIT = 60.0
PROTOCOLS = {4: "ARP", 6: "NDP"}


@define
class _Samples:
    """Nanoseconds by who answered."""

    lbcore: list[int] = field(factory=list)
    kernel: list[int] = field(factory=list)

    def rows(self, what: str, *, ratio: bool) -> list[Row]:
        """Median, tail and worst, and how many times as long as the kernel takes."""
        mine, theirs = _spread(self.lbcore), _spread(self.kernel)
        rows = [
            Row(what=f"{what}: lbcore, median", figure=mine[0], unit="us",
                note=f"99th percentile {mine[1]:,.0f}, longest {mine[2]:,.0f} of {len(self.lbcore):,}"),
            Row(what=f"{what}: kernel, median", figure=theirs[0], unit="us",
                note=f"99th percentile {theirs[1]:,.0f}, longest {theirs[2]:,.0f} of {len(self.kernel):,}"),
        ]  # fmt: skip
        if ratio:
            rows.append(Row(what=f"{what}: lbcore compared with the kernel", figure=mine[0] / theirs[0], unit="times"))
        return rows


def _spread(found: list[int]) -> tuple[float, float, float]:
    return percentile(found, 0.5) / 1e3, percentile(found, 0.99) / 1e3, max(found) / 1e3


def run() -> list[Row]:
    """One address at a time, many at once, while 10,000 Services come in, and the way from a file to a frame."""
    try:
        with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name, Wire() as wire:
            return _measure(wire, Path(name))
    except LabUnavailable as why:
        progress(f"left out: {why}")
        return []


def _measure(wire: Wire, directory: Path) -> list[Row]:
    folder = directory / "cluster"
    _write(folder, directory)
    progress(f"a speaker announces {ANNOUNCED:,} addresses")
    speaker = start(wire.server, folder, "speaker", "--node", NODE, "--runtime-dir", str(directory))
    await_answers(wire, range(ANNOUNCED))
    time.sleep(SETTLE)
    rows = []
    for version in (4, 6):
        progress(f"{PROTOCOLS[version]}, one at a time and {BURST} at once")
        rows += _one_at_a_time(wire, version)
        rows += _many_at_once(wire, version)
    progress("from a file to a frame")
    rows += _to_first_frame(wire, folder)
    progress(f"while {INTAKE:,} more Services come in")
    rows += _during_intake(wire, speaker.pid, directory / "more", folder)
    return rows


def _write(folder: Path, directory: Path) -> None:
    """The cluster as it is when the speaker starts, and beside it what comes in later."""
    numbers = range(ANNOUNCED)
    folder.mkdir()
    (folder / "config.yaml").write_text(clusters.CONFIG + clusters.ADVERTISEMENT, encoding="utf-8")
    (folder / "nodes.yaml").write_text(clusters.node_text(NODE), encoding="utf-8")
    clusters.write_documents(folder, "services", clusters.service_texts(numbers))
    clusters.write_documents(folder, "slices", clusters.slice_texts(numbers, NODE))
    clusters.write_statuses(folder, numbers)
    clusters.write_documents(directory / "more", "more", clusters.service_texts(range(ANNOUNCED, ANNOUNCED + INTAKE)))


def await_answers(wire: Wire, numbers: range) -> None:
    """Wait until all addresses of these Services are answered for."""
    for version in (4, 6):
        addresses = _addresses(version, numbers)
        wire.ask(lambda asker, addresses=addresses: _await_all(asker, addresses), version)  # type: ignore[misc]


def _await_all(asker: Asker, addresses: list[Address]) -> None:
    deadline = time.monotonic() + _LIMIT
    for address in addresses:
        while not asker.answered(address, 0.05):
            assert time.monotonic() < deadline, f"{address} is not answered for"


def _addresses(version: int, numbers: range) -> list[Address]:
    return [address for address in map(clusters.address_of, numbers) if address.version == version]


def _kernels(version: int) -> list[Address]:
    return [SERVER4 if version == 4 else SERVER6]


def _one_at_a_time(wire: Wire, version: int) -> list[Row]:
    found = _Samples()

    def asking(asker: Asker) -> None:
        for _ in range(ROUNDS):
            found.lbcore += asker.latencies(_addresses(version, range(ANNOUNCED)), ASKED)
            found.kernel += asker.latencies(_kernels(version), ASKED)
            asker.pause()

    wire.ask(asking, version)
    return found.rows(f"{PROTOCOLS[version]}, one at a time", ratio=True)


def _many_at_once(wire: Wire, version: int) -> list[Row]:
    mine: list[tuple[float, int]] = []
    theirs: list[tuple[float, int]] = []

    def asking(asker: Asker) -> None:
        for _ in range(ROUNDS):
            mine.append(asker.rate(_addresses(version, range(ANNOUNCED)), BURSTS, BURST))
            theirs.append(asker.rate(_kernels(version), BURSTS, BURST))
            asker.pause()

    wire.ask(asking, version)
    rates = median(rate for rate, _ in mine), median(rate for rate, _ in theirs)
    lost = sum(lost for _, lost in mine)
    what = f"{PROTOCOLS[version]}, {BURST} at once"
    return [
        Row(what=f"{what}: lbcore", figure=rates[0], unit="answers/s", note=f"{lost} lost; the client counts, too"),
        Row(what=f"{what}: kernel", figure=rates[1], unit="answers/s"),
    ]


def _during_intake(wire: Wire, parent: int, more: Path, folder: Path) -> list[Row]:
    """Ask on while the parent reads what was moved into its folder, for as long as that keeps it busy."""
    found = _Samples()
    took = [0.0, 0.0]

    def asking(asker: Asker) -> None:
        for path in sorted(more.iterdir()):
            path.rename(folder / path.name)
        begin, used, idle = time.monotonic(), cpu_seconds(parent), 0
        while idle < 5 and time.monotonic() - begin < _LIMIT:
            moment, before = time.monotonic(), cpu_seconds(parent)
            mine, theirs = [], asker.latencies(_kernels(4), 300)
            asker.pause()
            while time.monotonic() - moment < 0.2:  # the kernel counts processor time in steps of 10 ms
                mine += asker.latencies(_addresses(4, range(ANNOUNCED)), 100)
            busy = cpu_seconds(parent) - before > 0.3 * (time.monotonic() - moment)
            idle = 0 if busy or not found.lbcore else idle + 1
            if busy:
                found.lbcore += mine
                found.kernel += theirs
        took[:] = cpu_seconds(parent) - used, time.monotonic() - begin

    wire.ask(asking, 4)
    assert took[0] > 0.5, "the parent did not take the Services in"
    rows = found.rows(f"ARP while the speaker reads {INTAKE:,} Services", ratio=False)
    rows.append(Row(what="the same: processor time of the speaker", figure=took[0], unit="s"))
    return rows


def _to_first_frame(wire: Wire, folder: Path) -> list[Row]:
    """From a Service that appears in the folder, and from the verdict on it, to the first frame."""
    appeared: dict[Address, float] = {}
    heard: dict[Address, float] = {}

    def asking(asker: Asker) -> None:
        for number in range(20_000, 20_040, 2):
            one = range(number, number + 1)
            clusters.write_statuses(folder, one)
            aside = folder.with_suffix(".new")
            texts = [*clusters.service_texts(one), *clusters.slice_texts(one, NODE)]
            aside.write_text("---\n".join(texts), encoding="utf-8")
            address = clusters.address_of(number)
            appeared[address] = time.time()
            aside.rename(folder / f"new-{number}.yaml")
            heard[address] = asker.announcement(address, 5.0)
            time.sleep(0.1)

    wire.ask(asking, 4)
    assert all(heard.values()), "a new Service is not announced"
    decided = _verdicts(log_of(folder))
    whole = [(heard[address] - appeared[address]) * 1e3 for address in appeared]
    last = [(heard[address] - decided[address]) * 1e3 for address in appeared]
    return [
        Row(what="a Service appears in the folder: until the first gratuitous frame", figure=median(whole), unit="ms",
            note=f"longest {max(whole):.1f} of {len(whole)}; 25 of them wait for the file to be whole"),
        Row(what="of these, from the verdict to the frame", figure=median(last), unit="ms",
            note=f"longest {max(last):.1f}; two processes and a log line"),
    ]  # fmt: skip


def _verdicts(log: Path) -> dict[Address, float]:
    """When the speaker logged that it announces an address, in seconds since 1970."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    announced = [line for line in lines if line["event"] == "announcing"]
    return {Address.parse(line["ip"]): datetime.fromisoformat(line["timestamp"]).timestamp() for line in announced}

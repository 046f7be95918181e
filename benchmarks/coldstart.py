"""How long a controller that starts takes until it knows and has decided everything, and what it writes.

Every Service holds its address already, so that nothing is to be decided anew and nothing is to be
written. Measured is the daemon itself, loop, brain, source and sink, with its log switched off, in
processor time of all its threads: where nothing else runs, that is the time that passes.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import attrs
import structlog
import yaml
from attrs import frozen

from benchmarks import clusters
from benchmarks.report import Row, progress
from lbcore import assignment
from lbcore.addresses import Address
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.memory import MemoryCluster
from lbcore.config import Pool
from lbcore.daemons import assembly
from lbcore.daemons.carrier import Carrier, Outlet
from lbcore.daemons.loop import Loop
from lbcore.events import Event
from lbcore.intents import Intent, SetAddresses
from lbcore.model import Namespace, Port, Service

__all__ = ["NAME", "run"]

NAME = "cold start of the controller (processor time): every Service holds its address already"
IN_MEMORY, IN_FILES = (1_000, 10_000, 50_000), (1_000, 10_000)
AIM_AT = 10_000
ROUNDS = 3
_LIMIT = 120.0  # seconds for one start: then something is broken

_QUIET = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(50))


def run() -> list[Row]:
    """From memory and from files."""
    return [*_from_memory(), *_from_files()]


def _from_memory() -> list[Row]:
    rows = []
    for size in IN_MEMORY:
        progress(f"{size:,} Services from memory")
        found, writes = [], 0
        for _ in range(ROUNDS if size <= AIM_AT else 1):
            cluster = _memory(size)
            with _collector_as_found():
                start = asyncio.run(_start(_memory_controller(cluster)))
            _check(start, size)
            found.append(start.seconds)
            writes = start.writes
        aim = 1.0 if size == AIM_AT else None
        rows.append(Row(what=f"{size:,} Services from memory", figure=median(found), unit="s", at_most=aim,
                        note=f"{median(found) / size * 1e6:.0f} us each"))  # fmt: skip
        if aim:
            rows.append(Row(what="the same: writes of a Service's status", figure=writes, unit="writes", at_most=0))
    return rows


def _memory(size: int) -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.put(Pool.parse(clusters.POOL, "10.0.0.0/8", "fd00:10::/64"), Namespace(name="shop"))
    cluster.put(*(_service(number) for number in range(size)))
    return cluster


def _service(number: int) -> Service:
    address: Address = clusters.address_of(number)
    return Service(
        key=clusters.key_of(number),
        labels={"app": f"web-{number}"},
        annotations={"metallb.io/address-pool": clusters.POOL},
        ip_families=(address.family,),
        selector={"app": f"web-{number}"},
        ports=(Port("TCP", 80),),
        held=(address,),
    )


def _memory_controller(cluster: MemoryCluster) -> Carrier[AssignmentState]:
    outlets = (Outlet.to("cluster", cluster.sink, concurrency=8),)
    loop = Loop(assignment.step, AssignmentState(), [outlet.lane for outlet in outlets], random.Random())
    return Carrier(
        loop=loop,
        sources=(cluster.source(assignment.NEEDS),),
        outlets=outlets,
        is_stopped=lambda _: True,
        is_settled=lambda state: state.settled,
    )


@frozen(repr=False)  # asyncio.run makes a text of what it returns, and throws it away
class _Start:
    """How long a start took, what the controller knew then, and what it wanted done."""

    seconds: float
    state: AssignmentState
    wanted: list[Intent]

    @property
    def writes(self) -> int:
        """How many statuses of Services it wrote."""
        return sum(isinstance(intent, SetAddresses) for intent in self.wanted)


async def _start(carrier: Carrier[AssignmentState]) -> _Start:
    """Run a controller until nothing is left to do."""
    wanted: list[Intent] = []
    settled = asyncio.Event()

    def watch(_event: Event | None, intents: Sequence[Intent]) -> None:
        wanted.extend(intents)
        if carrier.loop.state.settled and carrier.loop.idle:
            settled.set()

    watched = attrs.evolve(carrier, observers=(*carrier.observers, watch))
    begin = time.process_time()
    running = asyncio.create_task(watched.run())
    done = asyncio.create_task(settled.wait())
    await asyncio.wait({running, done}, timeout=_LIMIT, return_when=asyncio.FIRST_COMPLETED)
    assert settled.is_set(), "the controller does not come to rest"
    seconds = time.process_time() - begin
    watched.stop()
    await running
    return _Start(seconds, watched.loop.state, wanted)


def _check(start: _Start, size: int) -> None:
    assert len(start.state.services) == len(start.state.ledger) == size


@contextmanager
def _collector_as_found() -> Iterator[None]:
    """A daemon sets the collector for its whole process; here others are measured after it."""
    thresholds = gc.get_threshold()
    gc.collect()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _from_files() -> list[Row]:
    rows = []
    for size in IN_FILES:
        with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name:
            progress(f"{size:,} Services from files")
            folder = Path(name)
            _write(folder, size)
            rows += _file_rows(folder, size)
    return rows


def _write(folder: Path, size: int) -> None:
    (folder / "config.yaml").write_text(clusters.CONFIG, encoding="utf-8")
    clusters.write_documents(folder, "services", clusters.service_texts(range(size)))
    clusters.write_statuses(folder, range(size))
    _check(asyncio.run(_start(_file_controller(folder))), size)  # leaves the pool's status, too


def _file_rows(folder: Path, size: int) -> list[Row]:
    """Parsing and starting in turns, both with the collector as the daemon sets it."""
    before = _signatures(folder)
    parsing, starting = [], []
    for _ in range(ROUNDS):
        with _collector_as_found():
            starting.append(_start_from_files(folder, size))
            gc.collect()
            parsing.append(_parse(folder))
    ratio = median(start / parse for start, parse in zip(starting, parsing, strict=True))
    rows = [
        Row(what=f"{size:,} Services from files, statuses beside them", figure=median(starting), unit="s",
            note=f"{median(starting) / size * 1e6:.0f} us each"),
        Row(what="parsing the same YAML, no statuses (PyYAML, CSafeLoader)", figure=median(parsing), unit="s"),
        Row(what="start from files, compared with that", figure=ratio, unit="times",
            at_most=1.5 if size == AIM_AT else None),
    ]  # fmt: skip
    if size == AIM_AT:
        written = len(before.items() ^ _signatures(folder).items())
        rows.append(Row(what="the same: files written or replaced", figure=written, unit="files", at_most=0))
    return rows


def _start_from_files(folder: Path, size: int) -> float:
    start = asyncio.run(_start(_file_controller(folder)))
    _check(start, size)
    return start.seconds


def _file_controller(folder: Path) -> Carrier[AssignmentState]:
    return assembly.controller(assembly.open_cluster(folder, _QUIET), AssignmentSettings(), _QUIET)


def _parse(folder: Path) -> float:
    begin = time.process_time()
    for path in sorted(folder.glob("*.yaml")):
        for _document in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader):
            pass
    return time.process_time() - begin


def _signatures(folder: Path) -> dict[Path, tuple[int, int]]:
    """What changes when any file in the folder is written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

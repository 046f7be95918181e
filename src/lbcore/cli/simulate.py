"""`lbcore simulate`: histories of a pretend cluster, one for each seed, judged; one process for each core."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from hashlib import sha256
from itertools import count, islice
from pathlib import Path

import click
from attrs import frozen
from rich.console import Console
from rich.table import Table

from lbcore.simulation.run import Report, simulate

__all__ = ["simulate_command"]

_SHOWN = 10  # violations in full; the rest is counted


@frozen
class _Done:
    """One history, and the processor time that it took."""

    report: Report
    cpu: float


def _live(seed: int, hours: float, routers: bool | None) -> _Done:
    began = time.process_time()
    report = simulate(seed, hours, routers=routers)
    return _Done(report, time.process_time() - began)


@click.command("simulate", short_help="Live through many bad days of a pretend cluster, and judge each.")
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="The first history.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="H",
    help="Simulated hours of each history.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="M", help="How many histories."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="T",
    help="Go on with further seeds for so many minutes of your time, instead of --seeds.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="J",
    help="Processes at work [default: one for each core].",
)
@click.option(
    "--routers/--no-routers",
    default=None,
    help="Clusters that speak BGP and BFD with routers, or none of them [default: one seed in eight].",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write down everything that happens in the first history.",
)
def simulate_command(
    seed: int,
    hours: float,
    seeds: int,
    minutes: float | None,
    jobs: int | None,
    routers: bool | None,
    trace: Path | None,
) -> None:
    """Let a pretend cluster live through storms of changes and faults, and judge what lbcore made of them.

    Controller and speakers are the real ones; the API server, the network, the nodes and the clock
    are not. One seed is one history, the same on every machine. Exit status 1 when a promise was
    broken: the table says by which seed.
    """
    if trace is not None:
        trace.write_text("".join(simulate(seed, hours, keep=None, routers=routers).lines), encoding="utf-8")
    which = count(seed) if minutes is not None else iter(range(seed, seed + seeds))
    deadline = time.monotonic() + minutes * 60 if minutes is not None else None
    live = partial(_live, hours=hours, routers=routers)
    found = sorted(_run(which, live, jobs or os.cpu_count() or 1, deadline), key=lambda done: done.report.seed)
    _show(found, f"--hours {hours:g}" + {None: "", True: " --routers", False: " --no-routers"}[routers])
    if any(done.report.violations for done in found):
        sys.exit(1)


def _run(seeds: Iterator[int], live: Callable[[int], _Done], jobs: int, deadline: float | None) -> Iterator[_Done]:
    """Every history as it is done; no new one is begun after the deadline."""
    if jobs == 1:
        for seed in seeds:
            yield live(seed)
            if deadline is not None and time.monotonic() > deadline:
                return
        return
    with ProcessPoolExecutor(jobs) as pool:
        waiting: set[Future[_Done]] = {pool.submit(live, seed) for seed in islice(seeds, jobs)}
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
                if deadline is None or time.monotonic() < deadline:
                    waiting |= {pool.submit(live, seed) for seed in islice(seeds, 1)}


def _show(found: list[_Done], options: str) -> None:
    reports = [done.report for done in found]
    lived, cpu = sum(report.hours for report in reports), sum(done.cpu for done in found)
    totals: Counter[str] = Counter()
    for report in reports:
        totals.update(report.counts)
    broken = [(report.seed, violation) for report in reports for violation in report.violations]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    seeds = f"{reports[0].seed}" if len(reports) == 1 else f"{reports[0].seed} to {reports[-1].seed}"
    table.add_row("seeds", seeds)
    table.add_row("simulated hours", f"{lived:,.2f}")
    table.add_row("cluster-hours per CPU-hour", f"{lived * 3600 / cpu:,.0f}" if cpu else "")
    for name in sorted(totals, key=lambda name: (name.startswith("fault: "), name)):
        table.add_row(name, f"{totals[name]:,}")
    table.add_row("promises broken", f"{len(broken):,}")
    table.add_row("trace hash", _hash_of(reports))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for seed, violation in broken[:_SHOWN]:
        click.echo(f"seed {seed}: {violation}")
    if len(broken) > _SHOWN:
        click.echo(f"and {len(broken) - _SHOWN} more")
    if broken:
        click.echo(f"To see how it came: lbcore simulate --seed {broken[0][0]} {options} --trace FILE")


def _hash_of(reports: list[Report]) -> str:
    """The one history's, or the hash of all in the order of their seeds."""
    if len(reports) == 1:
        return reports[0].trace_hash
    return sha256("".join(report.trace_hash for report in reports).encode()).hexdigest()

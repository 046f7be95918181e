"""How long a client waits when the node that answers for an address goes: lbcore, keepalived, MetalLB in one lab.

    python -m benchmarks.failover --ours 100 --rivals 15 --busy 600   # as root, or behind tools/privileged; see --help
    python -m benchmarks.failover --scenario "silent cut" --scenario freeze --ours 100 --others 5   # fewer of the rest

Three nodes, IPv4, and a client that asks for a page every 5 ms: as a host does that knows who has the address, or with
its neighbour entry deleted before each request (`asked anew`), so that a speaker which is dead on a node whose kernel
lives shows. The successor's first frame is timed on the wire, by the kernel of who hears it. Planned moves are
seen by a client that opens connections all the time. Each row is printed when it is done, and all
of them as a table at the end, which Ctrl-C brings, too.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import frozen

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from benchmarks.contestants import CONTESTANTS, LBCORE, Contestant, lbcore, rivals
from benchmarks.faults import AIM_WORST, FAULTS, MOVES, is_hopeless, rows_of_faults, suffer
from benchmarks.halves import part, rows_of_halves
from benchmarks.listening import answerers
from benchmarks.report import Row, progress
from connections import Connections
from lbcore.lab.errors import LabError, LabUnavailable

__all__ = ["NAME", "run"]

T = TypeVar("T")

NAME = "failover, from the client's side (wall clock): the longest time without a page, three nodes"
_TRIES = 3
PARTITION = "partition"
SCENARIOS = (*FAULTS, PARTITION, *MOVES)
QUICK = ("silent cut", "freeze")  # of `make bench`
_DURATION = (
    "A trial takes some 4 s of ours, 10 s of keepalived (which is there twice) and 12 s of MetalLB; a lab is made in "
    "20 s, MetalLB's in 60 s. All 13 scenarios 100 times: three hours; --ours 6 --rivals 1 --busy 30: twelve minutes."
)


@frozen
class Counts:
    """How often each scenario is to be tried, with us and with each rival."""

    ours: Mapping[str, int]
    rivals: Mapping[str, int]

    @classmethod
    def of(cls, *, ours: int, rivals: int = 0, named: Sequence[str] = SCENARIOS, others: int = 0) -> Counts:
        """The named ones so often, those first; all the others `others` times, and no rival more often than we."""
        rest = [name for name in SCENARIOS if name not in named] if others else []
        return cls(
            {**dict.fromkeys(named, ours), **dict.fromkeys(rest, others)},
            {**dict.fromkeys(named, rivals), **dict.fromkeys(rest, min(others, rivals))},
        )


# Planned moves


def move(one: Contestant, name: str) -> dict[str, int]:
    """What became of connections while the address moved."""
    fault, lab, node = MOVES[name], one.lab, one.announcer()
    mac = lab.nodes[node].mac
    running = Connections(lab.client.namespace, one.address)
    try:
        fault.strike(one, node)

        def moved() -> bool:
            heard = answerers(lab.client, one.address)
            return bool(heard) and mac not in heard

        lab.wait_until(moved, "another node alone to answer", 60)
    finally:
        found = running.end()
        fault.mend(one, node)
    time.sleep(one.back)
    return found


def rows_of_moves(what: str, found: Sequence[dict[str, int]], *, planned: bool) -> list[Row]:
    """New connections that failed, and open ones that broke; `planned`: none is to fail."""
    sums = {key: sum(each[key] for each in found) for key in found[0]}
    note = f"of {sums['made']:,} in {len(found)} moves; {sums['late']} took over 0.9 s, {sums['cut']} broke later"
    share = 100 * sums["broken"] / max(1, sums["open"])
    return [
        Row(what=f"{what}, new connections that failed", figure=sums["failed"], unit="", note=note,
            at_most=0 if planned else None),
        Row(what=f"{what}, open connections that broke", figure=share, unit="%",
            note=f"{sums['broken']} of {sums['open']}"),
    ]  # fmt: skip


# False alarms


def busy(one: Contestant, seconds: float) -> list[Row]:
    """All cores busy, and nothing wrong: how often members change; then a real cut."""
    assert one.members is not None
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        before = one.members()
        for step in range(int(seconds // 10)):
            progress(f"{one.name}: {10 * step} of {seconds:g} s with busy processors")
            time.sleep(10)
        changes = one.members() - before
        waited = suffer(one, "silent cut").waited
    finally:
        for each in burners:
            each.kill()
            each.wait()
    name = f"{one.name}: {len(burners)} busy processes"
    return [
        Row(what=f"{name}, members that changed", figure=changes, unit="times", at_most=0, note=f"in {seconds:g} s"),
        Row(what=f"{name}, then a silent cut", figure=waited, unit="ms", at_most=AIM_WORST),
    ]


# All of it


def contest(counts: Counts, seconds: float, those: Sequence[str] = CONTESTANTS) -> Iterator[Row]:
    """All rows, each as soon as it is known: every scenario as often as is asked for, with us and with each rival."""
    if LBCORE in those:
        with lbcore() as one:
            if seconds:  # first, while nobody has to wait for coming and going
                yield from busy(one, seconds)
            for name, count in counts.ours.items():
                yield from rows_of(one, name, count)
    for rival, make in rivals().items() if any(counts.rivals.values()) else ():
        if rival not in those:
            continue
        try:
            with make() as one:
                for name, count in counts.rivals.items():
                    yield from rows_of(one, name, count)
        except LabError as error:  # whose lab cannot be made is left out, and the next one has its turn
            progress(f"a rival is given up: {error}")


def rows_of(one: Contestant, name: str, count: int) -> Iterator[Row]:
    """One scenario with one contestant; none where it has no such thing."""
    what, ours = f"{one.name}: {name}", one.name == LBCORE
    if name == PARTITION:
        return tried(what, count, partial(part, one), rows_of_halves)
    fault = FAULTS.get(name) or MOVES[name]
    if not fault.possible(one):
        return iter(())
    if name in FAULTS:
        rows = partial(rows_of_faults, aims=ours and fault.aims)
        return tried(what, count, partial(suffer, one, name), rows, is_hopeless)
    planned = ours and name != "bare withdraw"
    return tried(what, count, partial(move, one, name), partial(rows_of_moves, planned=planned))


def tried(
    what: str,
    count: int,
    action: Callable[[], T],
    rows: Callable[[str, Sequence[T]], list[Row]],
    hopeless: Callable[[Sequence[T]], bool] = lambda _: False,
) -> Iterator[Row]:
    """Rows of so many of something. One that fails as a measurement is told, and made again; after a few in a row no
    more. Each is told when it is done, and whoever interrupts has the rows of those that were.
    """
    found: list[T] = []
    failures = 0
    try:
        while len(found) < count and failures < _TRIES and not hopeless(found):
            try:
                found.append(action())
            except LabError as error:
                progress(f"{what}: {error}")
                failures += 1
            else:
                progress(f"{what}, {len(found)} of {count}: {found[-1]}")
                failures = 0
    finally:
        if found:
            yield from rows(what, found)


def run() -> list[Row]:
    """A quick look, without rivals: three of each fault."""
    try:
        return list(contest(Counts.of(ours=3, named=QUICK), 0.0))
    except LabUnavailable as error:
        progress(f"left out: {error}")
        return []


def main() -> None:
    """From the command line."""
    from benchmarks.__main__ import machine, markdown, shown  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=NAME, epilog=_DURATION)
    parser.add_argument("--ours", type=int, default=30, help="faults of each kind for lbcore")
    parser.add_argument("--rivals", type=int, default=5, help="faults of each kind for each rival; 0 for none")
    parser.add_argument("--busy", type=float, default=600.0, help="seconds with busy processors; 0 for none")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this; may be given several times")
    text = "the scenarios that --scenario does not name too, but only so often, with us and with each rival"
    parser.add_argument("--others", type=int, default=0, help=text)
    text = "only this one; may be given several times"
    parser.add_argument("--contestant", action="append", choices=CONTESTANTS, help=text)
    parser.add_argument("--markdown", action="store_true", help="rows for README.md as they come, and nothing else")
    given = parser.parse_args()
    counts = Counts.of(ours=given.ours, rivals=given.rivals, named=given.scenario or SCENARIOS, others=given.others)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: with the table of what was done
    heading, rows = "| what | figure | aim | met |\n|---|---|---|---|", []
    print(f"{NAME}\n{machine()}\n", flush=True)
    if given.markdown:
        print(heading, flush=True)
    try:
        for row in contest(counts, given.busy, given.contestant or CONTESTANTS):
            rows.append(markdown(row))
            line = f"{row.what}: {shown(row.figure)} {row.unit}" + f" ({row.note})" * bool(row.note)
            met = {True: "; aim met", False: f"; aim of {row.at_most} missed", None: ""}[row.met]
            print(rows[-1] if given.markdown else line + met, flush=True)
    except KeyboardInterrupt:
        progress("interrupted: this is what was done")
    if not given.markdown:
        print("", machine(), "", heading, *rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()

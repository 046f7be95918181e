"""How long a client waits when the node that answers for an address goes: lbcore, keepalived, MetalLB in one lab.

    python -m benchmarks.failover --ours 100 --rivals 15 --busy 600   # as root, or behind tools/privileged; see --help

Three nodes, IPv4, and a client that asks for a page every 5 ms: as a host does that knows who has the address, or with
its neighbour entry deleted before each request (`asked anew`), so that a speaker which is dead on a node whose kernel
lives shows. The successor's first frame is timed on the wire, by the kernel of who hears it. Planned moves are
seen by a client that opens connections all the time. Each row is printed when it is done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from attrs import frozen

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from benchmarks.contestants import Contestant, lbcore, rivals
from benchmarks.listening import Ear, answerers
from benchmarks.report import Row, progress
from connections import Connections
from lbcore.lab.errors import LabError, LabUnavailable

__all__ = ["NAME", "run"]

NAME = "failover, from the client's side (wall clock): the longest time without a page, three nodes"
AIM_MEDIAN, AIM_WORST = 300.0, 450.0  # ms, for a cut and for a freeze
_TRIES = 3
_TOO_SOON = 60.0  # ms in which no detector has found anything; a node that was held for dead takes its addresses back

Strike = Callable[[Contestant, str], object]


@frozen(kw_only=True)
class Fault:
    """What is done to the node that answers, and how it is mended; `asked_anew`: the client never knows who answers.

    `possible` says whether a contestant has such a thing, `aims` whether ours is to meet the aims. `planned`: the
    others are told, so that nothing has to be found out.
    """

    strike: Strike
    mend: Strike
    asked_anew: bool = False
    aims: bool = False
    planned: bool = False
    possible: Callable[[Contestant], bool] = lambda _: True


@frozen
class Seen:
    """Milliseconds without a page, and until the successor's first frame (None where none was heard)."""

    waited: float
    first_frame: float | None


def _cut(one: Contestant, node: str) -> None:
    one.lab.cut_silently(node)


def _heal(one: Contestant, node: str) -> None:
    one.lab.heal(node)


def _freeze(one: Contestant, node: str) -> None:
    one.lab.freeze(node)


def _thaw(one: Contestant, node: str) -> None:
    one.lab.thaw(node)


def _kill(one: Contestant, node: str) -> None:
    one.kill(node)


def _revive(one: Contestant, node: str) -> None:
    one.revive(node)


def _stop(one: Contestant, node: str) -> None:
    assert one.stop is not None
    one.stop(node)


def _drain(one: Contestant, node: str) -> None:
    assert one.drain is not None
    one.drain(node)


def _undrain(one: Contestant, node: str) -> None:
    assert one.undrain is not None
    one.undrain(node)


def _withdraw(one: Contestant, node: str) -> None:
    assert one.withdraw is not None
    one.withdraw(node)


def _can_stop(one: Contestant) -> bool:
    return one.stop is not None


def _can_drain(one: Contestant) -> bool:
    return one.drain is not None


FAULTS = {
    "silent cut": Fault(strike=_cut, mend=_heal, aims=True),
    "silent cut, asked anew": Fault(strike=_cut, mend=_heal, asked_anew=True, aims=True),
    "freeze": Fault(strike=_freeze, mend=_thaw, aims=True),
    "freeze, asked anew": Fault(strike=_freeze, mend=_thaw, asked_anew=True, aims=True),
    "kill -9": Fault(strike=_kill, mend=_revive),
    "kill -9, asked anew": Fault(strike=_kill, mend=_revive, asked_anew=True),
    "second cut": Fault(strike=_cut, mend=_heal),
    "clean stop, asked anew": Fault(strike=_stop, mend=_revive, asked_anew=True, planned=True, possible=_can_stop),
    "drain, asked anew": Fault(strike=_drain, mend=_undrain, asked_anew=True, planned=True, possible=_can_drain),
}
# With connections that are opened all the time, and some that stay.
MOVES = {
    "clean stop": Fault(strike=_stop, mend=_revive, possible=_can_stop),
    "drain": Fault(strike=_drain, mend=_undrain, possible=_can_drain),
    "bare withdraw": Fault(strike=_withdraw, mend=_revive, possible=lambda one: one.withdraw is not None),
}
PARTITION = "partition"
SCENARIOS = (*FAULTS, PARTITION, *MOVES)
QUICK = ("silent cut", "freeze")  # of `make bench`


def suffer(one: Contestant, name: str) -> Seen:
    """One fault, healed again."""
    fault, lab = FAULTS[name], one.lab
    node, before = one.announcer(), None
    if name == "second cut":
        before = node
        lab.cut_silently(before)
        node = one.successor_of(before)
    ear, struck = Ear(lab.client.namespace), [0.0]

    def strike() -> None:
        struck[0] = time.time()
        fault.strike(one, node)

    try:
        waited = lab.outage(one.address, strike, interval=0.005, settle=0.4, limit=60, fresh=fault.asked_anew)
        mac = lab.nodes[node].mac
        times = (each.at for each in ear.claims() if (each.address, each.mac != mac) == (one.address, True))
        first = min((at for at in times if at > struck[0]), default=None)
    finally:
        ear.close()
        fault.mend(one, node)
        if before is not None:
            lab.heal(before)
    time.sleep(one.back)
    if fault.planned or first is None:
        return Seen(waited * 1000, None)
    frame = (first - struck[0]) * 1000
    if frame < _TOO_SOON:
        raise LabError(f"another node spoke {frame:.0f} ms after the fault: the address was on its way there")
    return Seen(waited * 1000, frame)


def tried(what: str, count: int, action: Callable[[], object]) -> Iterator[object]:
    """So many of something. One that fails as a measurement is told, and made again; after a few in a row no more."""
    failures = done = 0
    while done < count:
        progress(f"{what} {done + 1} of {count}")
        try:
            yield action()
            failures, done = 0, done + 1
        except LabError as error:
            progress(f"{what}: {error}")
            failures += 1
            if failures >= _TRIES:
                return


def faults(one: Contestant, name: str, count: int) -> list[Row]:
    """Rows of one fault."""
    what = f"{one.name}: {name}"
    found = [seen for seen in tried(what, count, lambda: suffer(one, name)) if isinstance(seen, Seen)]
    if not found:
        return []
    waited = [seen.waited for seen in found]
    frames = [seen.first_frame for seen in found if seen.first_frame is not None]
    aims = one.name == "lbcore" and FAULTS[name].aims
    middle, worst = (AIM_MEDIAN, AIM_WORST) if aims else (None, None)
    note = f"{len(found)} times"
    rows = [
        Row(what=f"{what}, median", figure=median(waited), unit="ms", at_most=middle, note=note),
        Row(what=f"{what}, worst", figure=max(waited), unit="ms", at_most=worst, note=note),
    ]
    if frames:
        note = f"median; worst {max(frames):,.0f}; {len(frames)} times"
        rows.append(Row(what=f"{what}, successor's first frame", figure=median(frames), unit="ms", note=note))
    return rows


# Two halves


@frozen
class Halves:
    """Milliseconds without a page at the client, who answered in its half and in the other, and until one answered."""

    waited: float
    here: frozenset[str]
    there: frozenset[str]
    both: float


def part(one: Contestant) -> Halves:
    """Who answers and one more node on one side, the third node and the client (who is the gateway) on the other."""
    lab, node = one.lab, one.announcer()
    other = next(name for name in lab.nodes if name != node)
    macs = {station.mac: name for name, station in lab.nodes.items()}
    try:
        waited = lab.outage(one.address, lambda: lab.part(node, other), interval=0.005, settle=0.4, limit=60)
        time.sleep(1.0)
        here = answerers(lab.client, one.address, 0.2)
        there = answerers(lab.nodes[other], one.address, 0.2)
    finally:
        began = time.monotonic()
        lab.heal(node)
        lab.heal(other)
    agreed, both = 0, 0.0
    while agreed < _TRIES and time.monotonic() - began < 30:
        now = time.monotonic()
        if len(answerers(lab.client, one.address)) == 1:
            agreed += 1
        else:
            agreed, both = 0, now - began
    time.sleep(one.back)
    names = [frozenset({"nobody"} if not each else {macs.get(mac, mac) for mac in each}) for each in (here, there)]
    roles = {node: "the one before", other: "its neighbour", "nobody": "nobody"}
    told = [frozenset(roles.get(name, "the third") for name in each) for each in names]
    return Halves(waited * 1000, told[0], told[1], both * 1000)


def partition(one: Contestant, count: int) -> list[Row]:
    """Rows of it."""
    what = f"{one.name}: {PARTITION}"
    found = [seen for seen in tried(what, count, lambda: part(one)) if isinstance(seen, Halves)]
    if not found:
        return []
    waited, both = [seen.waited for seen in found], [seen.both for seen in found]
    note = f"{len(found)} times; answered by {_told([seen.here for seen in found])}"
    there = f"in the other half: {_told([seen.there for seen in found])}"
    return [
        Row(what=f"{what}, the half without who answered, median", figure=median(waited), unit="ms", note=note),
        Row(what=f"{what}, the same, worst", figure=max(waited), unit="ms", note=there),
        Row(what=f"{what}, healed, until one answers", figure=median(both), unit="ms", note=f"worst {max(both):,.0f}"),
    ]


def _told(found: Sequence[frozenset[str]]) -> str:
    each = sorted({" and ".join(sorted(names)) for names in found})
    return "; ".join(f"{names} ({sum(' and '.join(sorted(one)) == names for one in found)})" for names in each)


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


def moves(one: Contestant, name: str, count: int) -> list[Row]:
    """Rows of one kind of move."""
    what = f"{one.name}: {name}"
    found = [seen for seen in tried(what, count, lambda: move(one, name)) if isinstance(seen, dict)]
    if not found:
        return []
    sums = {key: sum(each[key] for each in found) for key in found[0]}
    planned = one.name == "lbcore" and name != "bare withdraw"
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


def contest(ours: int, theirs: int, seconds: float, scenarios: Sequence[str] = SCENARIOS) -> Iterator[Row]:
    """All rows, each as soon as it is known: every scenario so often with us and with each rival."""
    with lbcore() as one:
        if seconds:  # first, while nobody has to wait for coming and going
            yield from busy(one, seconds)
        for name in scenarios:
            yield from rows_of(one, name, ours)
    for make in rivals() if theirs else ():
        with make() as one:
            for name in scenarios:
                yield from rows_of(one, name, theirs)


def rows_of(one: Contestant, name: str, count: int) -> list[Row]:
    """One scenario with one contestant; none where it has no such thing."""
    if name == PARTITION:
        return partition(one, count)
    possible = (FAULTS.get(name) or MOVES[name]).possible
    if not possible(one):
        return []
    return faults(one, name, count) if name in FAULTS else moves(one, name, count)


def run() -> list[Row]:
    """A quick look, without rivals: three of each fault."""
    try:
        return list(contest(3, 0, 0.0, QUICK))
    except LabUnavailable as error:
        progress(f"left out: {error}")
        return []


def main() -> None:
    """From the command line."""
    from benchmarks.__main__ import machine, markdown, shown  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=NAME)
    parser.add_argument("--ours", type=int, default=30, help="faults of each kind for lbcore")
    parser.add_argument("--rivals", type=int, default=5, help="faults of each kind for each rival; 0 for none")
    parser.add_argument("--busy", type=float, default=600.0, help="seconds with busy processors; 0 for none")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this; may be given several times")
    parser.add_argument("--markdown", action="store_true", help="rows for README.md")
    given = parser.parse_args()
    print(f"{NAME}\n{machine()}\n")
    if given.markdown:
        print("| what | figure | aim | met |\n|---|---|---|---|", flush=True)
    for row in contest(given.ours, given.rivals, given.busy, tuple(given.scenario or SCENARIOS)):
        line = f"{row.what}: {shown(row.figure)} {row.unit}" + f" ({row.note})" * bool(row.note)
        met = {True: "; aim met", False: f"; aim of {row.at_most} missed", None: ""}[row.met]
        print(markdown(row) if given.markdown else line + met, flush=True)


if __name__ == "__main__":
    main()

"""What is done to the node that answers in `failover`, how it is mended, and what a client sees meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from attrs import frozen

from benchmarks.contestants import Contestant
from benchmarks.listening import Ear
from benchmarks.report import Row
from lbcore.lab.errors import LabError, UnsteadyError

__all__ = ["AIM_WORST", "FAULTS", "LIMIT", "MOVES", "Fault", "Seen", "is_hopeless", "rows_of_faults", "suffer"]

AIM_MEDIAN, AIM_WORST = 300.0, 450.0  # ms, for a cut and for a freeze
LIMIT = 30.0  # seconds; twice of what is known of any rival
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
    """Milliseconds without a page, and until the successor's first frame (None where none was heard).

    Not `mended`: pages did not come steadily again within `LIMIT`, which counts as what was waited.
    """

    waited: float
    first_frame: float | None
    mended: bool = True


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


def suffer(one: Contestant, name: str) -> Seen:
    """One fault, healed again."""
    fault, lab = FAULTS[name], one.lab
    node, before = one.announcer(), None
    if name == "second cut":
        before = node
        lab.cut_silently(before)
        node = one.successor_of(before)
    ear, struck, mended = Ear(lab.client.namespace), [0.0], True

    def strike() -> None:
        struck[0] = time.time()
        fault.strike(one, node)

    try:
        try:
            waited = lab.outage(one.address, strike, interval=0.005, settle=0.4, limit=LIMIT, fresh=fault.asked_anew)
        except UnsteadyError:
            waited, mended = LIMIT, False
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
        return Seen(waited * 1000, None, mended)
    frame = (first - struck[0]) * 1000
    if frame < _TOO_SOON:
        raise LabError(f"another node spoke {frame:.0f} ms after the fault: the address was on its way there")
    return Seen(waited * 1000, frame, mended)


def is_hopeless(found: Sequence[Seen]) -> bool:
    """Whether one need not try again: three in a row never ended."""
    return len(found) >= 3 and not any(seen.mended for seen in found[-3:])


def rows_of_faults(what: str, found: Sequence[Seen], *, aims: bool) -> list[Row]:
    """The median and the worst of some, and the successor's first frames; `aims`: with ours for cut and freeze."""
    waited = [seen.waited for seen in found]
    frames = [seen.first_frame for seen in found if seen.first_frame is not None]
    middle, worst = (AIM_MEDIAN, AIM_WORST) if aims else (None, None)
    note, never = f"{len(found)} times", sum(not seen.mended for seen in found)
    note += f"; {never} of them not steadily within {LIMIT:g} s, and counted as that" * bool(never)
    rows = [
        Row(what=f"{what}, median", figure=median(waited), unit="ms", at_most=middle, note=note),
        Row(what=f"{what}, worst", figure=max(waited), unit="ms", at_most=worst, note=note),
    ]
    if frames:
        note = f"median; worst {max(frames):,.0f}; {len(frames)} times"
        rows.append(Row(what=f"{what}, successor's first frame", figure=median(frames), unit="ms", note=note))
    return rows

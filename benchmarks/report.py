"""One row of the table, and how figures are taken from many noisy samples.

Other programs use the machine, too: samples are CPU time of the measuring thread, each figure is the
median over several rounds, and what is compared is measured in turns within each round.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from attrs import frozen

__all__ = ["Row", "Spread", "frozen_heap", "percentile", "progress", "samples", "sizes"]


@frozen(kw_only=True)
class Row:
    """One figure: what was measured, in which unit, and the most it is meant to be."""

    what: str
    figure: float
    unit: str
    at_most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None where there is none."""
        return None if self.at_most is None else self.figure <= self.at_most


@frozen
class Spread:
    """Median and 99th percentile of one kind of operation, in microseconds."""

    p50: float
    p99: float

    @classmethod
    def of_rounds(cls, rounds: list[list[int]]) -> Spread:
        """The median over rounds of each round's figures; samples are in nanoseconds."""
        return cls(
            median(percentile(found, 0.50) for found in rounds) / 1000,
            median(percentile(found, 0.99) for found in rounds) / 1000,
        )


def percentile(found: list[int], share: float) -> int:
    """The sample that this share of all samples does not exceed."""
    ordered = sorted(found)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def samples(times: int, operation: Callable[[int], object], *, collecting: bool = True) -> list[int]:
    """The CPU time that each of many calls took, in nanoseconds; the call is told its number.

    Without `collecting` the garbage collector waits until all samples are taken.
    """
    if not collecting:
        gc.disable()
        try:
            return samples(times, operation)
        finally:
            gc.enable()
    clock = time.thread_time_ns
    found = []
    for number in range(times):
        begin = clock()
        operation(number)
        found.append(clock() - begin)
    return found


@contextmanager
def frozen_heap() -> Iterator[None]:
    """What was built before is left alone by the garbage collector, as the daemons do after their start.

    Otherwise a full collection over millions of values that never form rings lands in the samples.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def progress(text: str) -> None:
    """One line about what is being done now, beside the table."""
    print(f"  {text}", file=sys.stderr, flush=True)


def sizes(variable: str) -> list[int]:
    """How many of something there are to be, one size after another: 1,000 and 10,000, or as a variable of the
    environment says. 0 is no size.
    """
    given = os.environ.get(variable, "1000,10000")
    return [int(each) for each in given.split(",") if int(each)]

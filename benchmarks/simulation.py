"""What an hour of the simulated cluster costs: many bad days are worth more than one."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.report import Row, progress
from lbcore.simulation.run import simulate

__all__ = ["NAME", "run"]

NAME = "simulation: histories of an hour"
ROUNDS, SEEDS = 3, 12


def run() -> list[Row]:
    """Histories without routers, and with them."""
    return [
        _row("processor time of a simulated hour", routers=False, at_most=360),
        _row("the same with routers: BGP and BFD", routers=True, at_most=None),
    ]


def _row(what: str, *, routers: bool, at_most: float | None) -> Row:
    """The median over rounds of the mean over seeds; the same seeds in each round."""
    costs: list[float] = []
    changes = faults = 0
    for number in range(ROUNDS):
        progress(f"round {number + 1} of {ROUNDS}")
        began, hours = time.process_time(), 0.0
        for seed in range(SEEDS):
            report = simulate(seed, 1.0, routers=routers, gossip=False)
            hours += report.hours
            changes += report.counts["changes by users"]
            faults += sum(count for name, count in report.counts.items() if name.startswith("fault: "))
        costs.append((time.process_time() - began) / hours)
    cost = median(costs)
    eventful = f"{changes / ROUNDS / SEEDS:.0f} changes and {faults / ROUNDS / SEEDS:.0f} faults an hour"
    note = f"{3600 / cost:,.0f} cluster-hours per CPU-hour; {eventful}"
    return Row(what=what, figure=cost * 1e3, unit="ms", at_most=at_most, note=note)

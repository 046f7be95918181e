"""What a client sees while MetalLB's speakers are replaced one by one by ours, and back, under 200 requests a second.

    python -m benchmarks.migration --rounds 3   # as root, or behind tools/privileged; some 4 minutes a round

Beside it, in the same run, MetalLB's speakers replaced by MetalLB's. Three nodes, four addresses of both families, each
asked for on the wire every 10 ms, so that the time shows in which two nodes answer. MetalLB's programs are found by
LBCORE_PEERS and run on a Kubernetes control plane (KUBEBUILDER_ASSETS).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from benchmarks.report import Row, progress
from migrating import Seen, migrating

__all__: list[str] = []

NAME_OF_RUN = (
    "migration, from the client's side (wall clock): three speakers replaced one by one, 200 requests a second"
)
_ROLLS = ("MetalLB by MetalLB", "MetalLB by lbcore", "lbcore by MetalLB")


def measured(rounds: int) -> list[Row]:
    """The rows; medians of so many rounds, in turns."""
    found: dict[str, list[Seen]] = {each: [] for each in _ROLLS}
    with migrating() as cluster:
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for roll in _ROLLS:
                put = cluster.lbcore if roll == "MetalLB by lbcore" else cluster.metallb
                found[roll].append(cluster.roll(put))
    return [row for roll, seen in found.items() for row in _rows(roll, seen)]


def _rows(roll: str, seen: list[Seen]) -> list[Row]:
    many = f"of {len(seen)}" if len(seen) > 1 else ""
    lost = 1000 * sum(each.lost for each in seen) / sum(each.sent for each in seen)
    return [
        Row(what=f"{roll}: two nodes answer, all addresses", figure=median(each.doubled for each in seen), unit="s"),
        Row(what=f"{roll}: the longest time of that", figure=max(each.longest for each in seen), unit="s", note=many),
        Row(
            what=f"{roll}: longest time without an answer, one address, median",
            figure=median(each.silence for each in seen),
            unit="s",
        ),
        Row(what=f"{roll}: the same, worst", figure=max(each.silence for each in seen), unit="s", note=many),
        Row(
            what=f"{roll}: requests lost", figure=lost, unit="of 1,000", note=f"{sum(each.sent for each in seen)} sent"
        ),
    ]


def main() -> None:
    """From the command line."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from benchmarks.__main__ import add, machine, markdown  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m benchmarks.migration", description=NAME_OF_RUN)
    parser.add_argument("--rounds", type=int, default=1, help="how often each way")
    parser.add_argument("--markdown", action="store_true", help="print rows as README.md has them")
    given = parser.parse_args()
    if not (os.environ.get("LBCORE_PEERS") and os.environ.get("KUBEBUILDER_ASSETS")):
        sys.exit("this needs MetalLB's programs and a control plane: set LBCORE_PEERS and KUBEBUILDER_ASSETS")
    began = time.monotonic()
    rows = measured(given.rounds)
    caption = f"{machine()}; {time.monotonic() - began:.0f} s"
    if given.markdown:
        print(caption, *map(markdown, rows), sep="\n")
        return
    table = Table(title=NAME_OF_RUN, caption=caption, title_justify="left")
    for heading in ("what", "figure", "unit", "aim", "met", "note"):
        table.add_column(heading, justify="right" if heading == "figure" else "left")
    for row in rows:
        add(table, row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

"""Run benchmarks and print one table: every module here that has a `NAME` and a `run`.

`python -m benchmarks allocation election` runs only some; `--services 2000,10000` is for those that ask an API server,
`--hosts 1000,10000` for `ingress` and `ingresslive` (0: what a request costs, and no more), `--markdown` prints rows as
README.md has them. The exit status says nothing about aims: a busy machine is no reason to fail a build.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.table import Table

from benchmarks.report import Row, progress

HERE = Path(__file__).parent
HELPERS = {
    "__main__", "apiload", "bgpmetallb", "bgpsender", "clusters", "contestants", "faults", "halves", "ingressrequests",
    "listening", "report", "wire",
}  # fmt: skip


def modules(wanted: list[str]) -> list[ModuleType]:
    """The benchmarks asked for, or all, by name."""
    names = sorted({found.name for found in pkgutil.iter_modules([str(HERE)])} - HELPERS)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    loaded = [import_module(f"benchmarks.{name}") for name in names if not wanted or name in wanted]
    return [module for module in loaded if hasattr(module, "NAME")]


def machine() -> str:
    """Where the figures come from: processor, Python, commit."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores (load {load:.1f}), "
        f"{platform.python_implementation()} {platform.python_version()}, commit {commit()}"
    )


def commit() -> str:
    """The commit measured, with a mark when files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+changes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def shown(figure: float) -> str:
    """Three digits that mean something, with thousands apart."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def add(table: Table, row: Row) -> None:
    """One line of the table; an aim that is missed is marked, one that is met is ticked."""
    mark = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
    aim = "" if row.at_most is None else f"at most {shown(row.at_most)}"
    table.add_row(row.what, shown(row.figure), row.unit, aim, mark, row.note)


def markdown(row: Row) -> str:
    """One line of a table of Markdown, as README.md has them."""
    note = f" ({row.note})" if row.note else ""
    aim = "" if row.at_most is None else f"{shown(row.at_most)} {row.unit}"
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    return f"| {row.what} | {shown(row.figure)} {row.unit}{note} | {aim} | {met} |"


def main(wanted: list[str], *, as_markdown: bool = False) -> None:
    """Run what is asked for and print the table."""
    if as_markdown:
        print(f"{machine()}\n\n| what | figure | aim | met |\n|---|---|---|---|", flush=True)
        for module in modules(wanted):
            progress(f"{module.NAME} ...")
            for row in module.run():
                print(markdown(row), flush=True)
        return
    console = Console() if sys.stdout.isatty() else Console(width=160)
    clock = "times are CPU time where the heading does not say otherwise; medians of rounds measured in turns"
    caption = f"{machine()}\n{clock}"
    table = Table(title="lbcore benchmarks", caption=caption, title_justify="left", caption_justify="left")
    for heading in ("what", "figure", "unit", "aim", "met", "note"):
        table.add_column(heading, justify="right" if heading == "figure" else "left")
    for module in modules(wanted):
        progress(f"{module.NAME} ...")
        table.add_section()
        table.add_row(f"[bold]{module.NAME}[/]")
        for row in module.run():
            add(table, row)
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("wanted", nargs="*")
    parser.add_argument("--services", help="how many Services at the API server: 2000, or 2000,10000")
    parser.add_argument("--hosts", help="how many hosts nginx has: 1000, or 1000,10000")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    if given.services:
        os.environ["LBCORE_BENCH_SERVICES"] = given.services
    if given.hosts:
        os.environ["LBCORE_BENCH_HOSTS"] = given.hosts
    main(given.wanted, as_markdown=given.markdown)

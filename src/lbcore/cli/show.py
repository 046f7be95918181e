"""How results are shown: kubectl's plain columns for people, JSON and YAML for scripts."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import yaml
from attrs import frozen

__all__ = ["Column", "age", "print_structure", "print_table"]

_GAP = 3  # spaces between columns, as kubectl has it


@frozen
class Column:
    """A column's heading; numbers go to the right, long texts may be folded to the terminal's width."""

    title: str
    right: bool = False
    fold: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings; the last column is folded if it may be and the output is a terminal."""
    if not rows:
        click.echo("No resources found.", err=True)  # as kubectl: a script that counts lines counts none
        return
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    indent = sum(width + _GAP for width in widths[:-1])
    room = max(shutil.get_terminal_size().columns - indent, 40) if sys.stdout.isatty() else None
    for row in ([column.title for column in columns], *rows):
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row[:-1], widths[:-1], columns[:-1], strict=True)
        ]
        last = row[-1].rjust(widths[-1]) if columns[-1].right else row[-1]
        folded = textwrap.wrap(last, room) if columns[-1].fold and room is not None and last else [last]
        click.echo((" " * _GAP).join([*cells, folded[0]]).rstrip())
        for line in folded[1:]:
            click.echo(" " * indent + line)


# How kubectl shortens a duration: up to so many seconds, in this unit and, if it is not zero, the next smaller one.
_UNITS = {"y": 31_536_000, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_STEPS = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3_600, "m", ""),
    (8 * 3_600, "h", "m"),
    (48 * 3_600, "h", ""),
    (8 * 86_400, "d", "h"),
    (2 * 31_536_000, "d", ""),
    (8 * 31_536_000, "y", "d"),
)


def age(created: str, now: datetime) -> str:
    """The time since `created` (RFC 3339) in kubectl's words: `85s`, `5m3s`, `2d4h`, and `<unknown>` or `<invalid>`."""
    if not created:
        return "<unknown>"
    try:
        since = datetime.fromisoformat(created)
    except ValueError:
        return "<invalid>"
    since = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
    seconds = max(0, int((now - since).total_seconds()))
    unit, smaller = next(((unit, smaller) for limit, unit, smaller in _STEPS if seconds < limit), ("y", ""))
    whole, rest = divmod(seconds, _UNITS[unit])
    parts = rest // _UNITS[smaller] if smaller else 0
    return f"{whole}{unit}{parts}{smaller}" if parts else f"{whole}{unit}"


def print_structure(structure: Any, output: str) -> None:
    """Print plain data as `json` or `yaml`."""
    if output == "json":
        click.echo(json.dumps(structure, indent=2))
    else:
        click.echo(yaml.safe_dump(structure, sort_keys=False, allow_unicode=True), nl=False)

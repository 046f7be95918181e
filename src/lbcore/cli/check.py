"""`lbcore check`: what is wrong with manifests, before a cluster sees them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from lbcore.adapters.kubernetes.documents import unusable
from lbcore.backends.manifests import decoded, text_of
from lbcore.backends.paths import manifests_in
from lbcore.cli.show import print_structure
from lbcore.daemons.checking import Entry, check, entries_of
from lbcore.errors import ManifestError

__all__ = ["check_command"]

_WRONG, _UNREADABLE = 1, 2


@click.command("check")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="table is one line for each problem; json is for scripts.",
)
def check_command(paths: tuple[Path, ...], output: str) -> None:
    """What is wrong with manifests, without a cluster.

    PATH is a file, a folder (every .yaml, .yml and .json in it) or - for standard input. All of them
    together are one cluster: names must be found, and ranges may not overlap, across all the files.
    It is what the daemons themselves would say, for each problem the file, the object, the field,
    what is wrong and what to do.

    Exit status: 0 if nothing is wrong, 1 if something is, 2 if a PATH cannot be read.
    """
    unreadable: list[str] = []
    found = check(_entries(paths, unreadable))
    if output == "json":
        problems = [
            {"source": each.source, "object": each.object, "field": each.field, "message": each.message}
            for each in found
        ]
        print_structure({"problems": problems}, output)
    else:
        for problem in found:
            click.echo(str(problem))
    for path in paths:
        if path.is_dir() and not unreadable and not any(manifests_in(path)):
            click.echo(f"lbcore: {path} holds no manifests (.yaml, .yml, .json); is it the right path?", err=True)
    for message in unreadable:
        click.echo(f"lbcore: {message}", err=True)
    sys.exit(_UNREADABLE if unreadable else _WRONG if found else 0)


def _entries(paths: Iterable[Path], unreadable: list[str]) -> Iterator[Entry]:
    """What all documents hold; paths that cannot be read are noted."""
    for path in paths:
        try:
            if str(path) == "-":
                yield from _read("standard input", None)
                continue
            for file in manifests_in(path):
                yield from _read(str(file), file)
        except OSError as error:
            unreadable.append(f"cannot read {error.filename or path}: {error.strerror or error}")


def _read(name: str, file: Path | None) -> Iterator[Entry]:
    """What a file holds; None is standard input."""
    try:
        text = text_of(file, name) if file is not None else decoded(sys.stdin.buffer.read(), name)
    except ManifestError as error:
        yield name, unusable(error.problem)
        return
    yield from entries_of(text, name)

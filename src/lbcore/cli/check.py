"""`lbcore check`: what is wrong with manifests, before a cluster sees them, or in a cluster as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from lbcore.backends.kubernetes import Access
from lbcore.backends.paths import manifests_in
from lbcore.cli.ingress_options import stream_options
from lbcore.cli.manifests import Applying, entries_in
from lbcore.cli.options import live_options
from lbcore.cli.progress import reading
from lbcore.cli.show import print_structure
from lbcore.daemons.checking import Entry, examine
from lbcore.daemons.snapshot import list_cluster
from lbcore.streams import StreamSettings

__all__ = ["check_command"]

_WRONG, _UNREADABLE = 1, 2


@click.command("check", short_help="What is wrong with manifests, or with what a cluster has.")
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@live_options
@stream_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="table is one line for each problem; json is for scripts.",
)
def check_command(
    paths: tuple[Path, ...], live: Access | None, namespace: str, streams: StreamSettings, output: str
) -> None:
    """What is wrong with manifests, without a cluster; or with what an API server has.

    PATH is a file, a folder (every .yaml, .yml and .json in it) or - for standard input. All of them
    together are one cluster: names must be found, and ranges may not overlap, across all the files.
    It is what the daemons themselves would say, for each problem the file, the object, the field,
    what is wrong and what to do.

    With --kubeconfig or --context (as `kubectl lb check` without either) the cluster is what the API
    server has, with every PATH applied to it. It is only read.

    Exit status: 0 if nothing is wrong, 1 if something is, 2 if a PATH cannot be read.
    """
    if not paths and live is None:
        raise click.UsageError("what is to be checked? Name a PATH, or an API server (--kubeconfig PATH)")
    unreadable: list[str] = []
    checked = examine(
        _entries(paths, unreadable) if live is None else _live_entries(live, namespace, paths, unreadable), streams
    )
    found = checked.problems
    if output == "json":
        problems = [
            {"source": each.source, "object": each.object, "field": each.field, "message": each.message}
            for each in found
        ]
        print_structure({"problems": problems}, output)
    else:
        for problem in found:
            click.echo(str(problem))
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)
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
            yield from entries_in(path)
        except OSError as error:
            unreadable.append(_unreadable(path, error))


def _live_entries(live: Access, namespace: str, paths: Iterable[Path], unreadable: list[str]) -> Iterator[Entry]:
    """The same laid over what an API server has."""
    listing = reading(lambda tell: list_cluster(live, tell, announcing=False)).listing
    applying = Applying(live, listing, namespace)
    for path in paths:
        try:
            yield from applying.entries_in(path)
        except OSError as error:
            unreadable.append(_unreadable(path, error))
    yield from applying.untouched()


def _unreadable(path: Path, error: OSError) -> str:
    return f"cannot read {error.filename or path}: {error.strerror or error}"

"""`lbcore convert`: another system's objects as ours, with a report of what is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from lbcore.adapters.kubernetes.conversion import Converted, convert_config_maps
from lbcore.adapters.kubernetes.openelb import convert_openelb
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.backends.manifests import decoded, text_of
from lbcore.backends.paths import manifests_in

__all__ = ["convert_group"]

Convert = Callable[[Iterable[tuple[str, str]], str], Converted]

_REFUSED = 1

_paths = click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True)
)
_namespace = click.option(
    "-n", "--namespace", default="metallb-system", show_default=True, help="The namespace of the resources."
)


@click.group("convert", short_help="Turn another system's configuration into our resources.")
def convert_group() -> None:
    """Turn another system's configuration into our resources.

    The resources go to standard output, as YAML for `kubectl apply`. Whatever is lost, changed or still to be done
    goes to standard error, a line each with file, object and field. FILE is a file, a folder, or - for standard input.

    Exit status: 0 if it was converted, 1 if something could not be read (then nothing is printed).
    """


@convert_group.command("metallb-configmap")
@_paths
@_namespace
def _configmap_command(paths: tuple[Path, ...], namespace: str) -> None:
    """MetalLB's ConfigMap "config" (up to v0.12)."""
    _convert(convert_config_maps, paths, namespace)


@convert_group.command("openelb", short_help="OpenELB's Eip, BgpConf, BgpPeer and Services.")
@_paths
@_namespace
def _openelb_command(paths: tuple[Path, ...], namespace: str) -> None:
    """OpenELB's Eip, BgpConf and BgpPeer, and the Services that ask for it.

    Give what `kubectl get eips,bgpconfs,bgppeers -o yaml` and `kubectl get services -A -o yaml` print: with the
    status of the Eips and with the Services every Service keeps its address.
    """
    _convert(convert_openelb, paths, namespace)


def _convert(convert: Convert, paths: tuple[Path, ...], namespace: str) -> None:
    converted = convert([text for path in paths for text in _texts(path)], namespace)
    for problem in converted.problems:
        click.echo(str(problem), err=True)
    for note in converted.notes:
        click.echo(str(note), err=True)
    click.echo(documents_text(converted.manifests) if converted.manifests else "", nl=False)
    sys.exit(_REFUSED if converted.problems else 0)


def _texts(path: Path) -> Iterable[tuple[str, str]]:
    if str(path) == "-":
        yield "standard input", decoded(sys.stdin.buffer.read(), "standard input")
        return
    for file in manifests_in(path):
        yield str(file), text_of(file, str(file))

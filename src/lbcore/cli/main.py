"""The command line. Each command teaches itself with `--help`; errors are one line on standard error."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

import lbcore
from lbcore.cli.ask import explain_command, get_group
from lbcore.cli.check import check_command
from lbcore.cli.convert import convert_group
from lbcore.cli.crds import crds_command
from lbcore.cli.doctor import doctor_command
from lbcore.cli.drain import drain_command, undrain_command
from lbcore.cli.ingress import ingress_command, render_command
from lbcore.cli.options import PLUGIN
from lbcore.cli.plan import plan_command
from lbcore.cli.play import demo_command, lab_command
from lbcore.cli.report import report_group
from lbcore.cli.serve import controller_command, run_command, speaker_command
from lbcore.cli.simulate import simulate_command
from lbcore.errors import LbcoreError

__all__ = ["cli", "main", "plugin"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(lbcore.__version__, message="lbcore %(version)s")
def cli() -> None:
    """Addresses and their announcement for Services of type LoadBalancer, on your own machines.

    A cluster is a folder of manifests, as one gives them to `kubectl apply`. The controller gives
    Services addresses from IPAddressPools; a speaker on every node makes them reachable on the
    Ethernet segment (ARP, NDP), with another node taking over when one dies.

    \b
    Try it:            lbcore demo        (a cluster in network namespaces, about a minute)
    One machine:       lbcore run --cluster FOLDER
    Several machines:  lbcore controller --cluster FOLDER     on one of them
                       lbcore speaker --cluster FOLDER        on each, FOLDER shared
    Look:              lbcore get services --cluster FOLDER
                       lbcore explain NAMESPACE/NAME --cluster FOLDER
    """  # noqa: D301 - \b keeps click from folding the lines


for command in (
    controller_command,
    speaker_command,
    run_command,
    ingress_command,
    render_command,
    get_group,
    explain_command,
    drain_command,
    undrain_command,
    plan_command,
    check_command,
    report_group,
    convert_group,
    crds_command,
    doctor_command,
    lab_command,
    demo_command,
    simulate_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; an error of ours or of the system is one line and exit status 1, never a traceback."""
    _run("lbcore")


def plugin() -> None:
    """The same as a plugin of kubectl, which finds it on PATH as `kubectl-lb`."""
    _run(PLUGIN)


def _run(name: str) -> None:
    try:
        cli(prog_name=name)
    except LbcoreError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"lbcore: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()

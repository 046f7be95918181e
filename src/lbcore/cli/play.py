"""`lbcore demo` and `lbcore lab`: a whole cluster on this machine, to be shown and to play with.

What they show lives in `lbcore.lab`, which is imported when it is asked for: it loads pyroute2.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

__all__ = ["demo_command", "lab_command"]


@click.command("demo", short_help="Show it all on a cluster in network namespaces; one to two minutes.")
@click.option("--quick", is_flag=True, help="Leave out IPv6 and the clusters with other configurations.")
@click.option(
    "--kubernetes",
    is_flag=True,
    help="On Kubernetes' own control plane, with kubectl; its programs lie in the folder KUBEBUILDER_ASSETS.",
)
def demo_command(quick: bool, kubernetes: bool) -> None:
    """Make a cluster on this machine, and show addresses, refusals, failover, BGP and an Ingress on it.

    Three nodes with real nginx, a switch and a client, as network namespaces: nothing outside is
    touched, and nothing stays. It takes one to two minutes and needs root, or a kernel that allows user
    namespaces. Everything shown is checked: exit status 1 when something did not happen.
    """
    _prepare()
    from lbcore.lab import demo  # noqa: PLC0415 - see the top of the file

    if kubernetes:
        demo.run_kubernetes()
    else:
        demo.run(quick=quick)


@click.command("lab", short_help="The demo's cluster, to play with.")
@click.option("--nodes", type=click.IntRange(1, 100), default=3, show_default=True, help="How many nodes.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="CIDR",
    help="Network of the segment; once for IPv4, once for IPv6, or both [default: 192.168.20.0/24 and fd00:20::/64].",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of manifests to use and to keep; an empty one gets the demo's [default: a temporary one].",
)
def lab_command(nodes: int, networks: tuple[str, ...], folder: Path | None) -> None:
    """Make the demo's cluster, and take commands: curl an address, cut a node off, kill it.

    Commands come from the terminal, or from standard input, one a line; `help` lists them. It ends,
    and leaves nothing behind, with `quit`, at the end of input, or with Ctrl-C.
    """
    _prepare()
    from lbcore.lab.demo import playground  # noqa: PLC0415 - see the top of the file

    playground.play(nodes, networks, folder)


def _prepare() -> None:
    """Have the privileges that a lab needs, if need be by starting this command again."""
    if shutil.which("nft") is None:  # Debian keeps nft, nginx and ip in sbin, which is not on everybody's path
        os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("PATH"), "/usr/sbin", "/sbin")))
    from lbcore.lab import ensure_privileges  # noqa: PLC0415 - see the top of the file

    ensure_privileges()

"""`lbcore drain` and `lbcore undrain`: let other nodes serve a node's addresses, and let it serve again.

The mark is kept where the cluster is: an annotation of the Node, or a file beside a folder's manifests.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.drains import mark_node
from lbcore.backends.members import check_node_name
from lbcore.backends.statuses import StatusWriter
from lbcore.cli.options import place_options, require_folder
from lbcore.daemons.assembly import Place
from lbcore.daemons.snapshot import known_nodes
from lbcore.errors import LbcoreError
from lbcore.model import DRAIN_ANNOTATION

__all__ = ["drain_command", "undrain_command"]


@click.command("drain", short_help="Let other nodes serve a node's addresses, before it is stopped.")
@click.argument("node", metavar="NODE")
@place_options(writes=False)
def drain_command(place: Place, node: str) -> None:
    """Let other nodes take over what NODE announces, and give it nothing new, until `lbcore undrain NODE`.

    Another node announces an address before NODE lets go of it; routers are asked to use other nodes
    (GRACEFUL_SHUTDOWN) before routes are withdrawn. What no other node can serve stays. Pods are not touched: that is
    `kubectl drain`. `lbcore get nodes` shows what a node still serves.
    """
    _mark(place, check_node_name(node), drained=True)


@click.command("undrain", short_help="Let a drained node serve again.")
@click.argument("node", metavar="NODE")
@place_options(writes=False)
def undrain_command(place: Place, node: str) -> None:
    """Let NODE serve again what it served before `lbcore drain NODE`."""
    _mark(place, check_node_name(node), drained=False)


def _mark(place: Place, node: str, *, drained: bool) -> None:
    if isinstance(place, Path):
        changed = _mark_in_folder(place, node, drained=drained)
    else:
        changed = asyncio.run(_mark_in_api(place, node, drained=drained))
    state = "drained" if drained else "undrained"
    click.echo(f"node/{node} {state}" if changed else f"node/{node} is {state} already")


def _mark_in_folder(folder: Path, node: str, *, drained: bool) -> bool:
    require_folder(folder)
    nodes, by_manifest = known_nodes(folder)
    if drained and nodes and node not in nodes:
        raise LbcoreError(f"there is no Node {node} in {folder}; Nodes: {', '.join(sorted(nodes)[:10])}")
    if not drained and node in by_manifest:
        raise LbcoreError(f"Node {node} has the annotation {DRAIN_ANNOTATION} in its manifest; take it out there")
    writer = StatusWriter(folder)
    return writer.drain(node) if drained else writer.undrain(node)


async def _mark_in_api(access: Access, node: str, *, drained: bool) -> bool:
    client = Client(access, agent="lbcore")
    try:
        mark = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if drained else None
        return await mark_node(client, node, mark)
    finally:
        await client.close()

"""Which nodes are to be spared? Those that somebody drained; on every protocol they serve what nobody else can.

A drain is a wish about addresses, not about Pods: a cordoned node is one only where the operator says so, as
cordons are laid for many reasons, some of them on every node of a cluster (see docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lbcore.intents import EventType, RecordEvent
from lbcore.model import Node

__all__ = ["drain_ended", "drained_nodes", "node_drained", "node_draining"]


def drained_nodes(nodes: Iterable[Node], marked: Collection[str], *, cordons: bool) -> frozenset[str]:
    """The names of the nodes that are drained: by their Node, or `marked` without one.

    `cordons`: a node with `spec.unschedulable` is one, too.
    """
    told = {node.name for node in nodes if node.drained or (cordons and node.cordoned)}
    return frozenset(told.union(marked))


def node_draining(node: str, routes: int, seconds: float) -> RecordEvent:
    """What is told when a drain begins: how many routes are told as going away, and for how long."""
    text = f"node {node} is drained: what other nodes can announce goes to them"
    if routes:
        text += f"; routers are asked for {seconds:g} s to use others for {_routes(routes)} (GRACEFUL_SHUTDOWN)"
    return _event(node, "nodeDraining", text)


def node_drained(node: str, withdrawn: int, left: int) -> RecordEvent:
    """What is told when the routers have had their time: what was withdrawn, and what stays."""
    text = f"node {node} has withdrawn {_routes(withdrawn)}"
    if left:
        text += f"; no other node can serve {_routes(left)}, told on as the last to be used"
    return _event(node, "nodeDrained", text)


def drain_ended(node: str) -> RecordEvent:
    """What is told when a node is drained no more."""
    return _event(node, "nodeUndrained", f"node {node} is drained no more, and announces as before")


def _routes(count: int) -> str:
    return "1 route" if count == 1 else f"{count} routes"


def _event(node: str, reason: str, text: str) -> RecordEvent:
    return RecordEvent(about=f"Node {node}", type=EventType.NORMAL, reason=reason, message=text)

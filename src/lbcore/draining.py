"""Which nodes are to be spared? Those that somebody drained; on every protocol they serve what nobody else can.

A drain is a wish about addresses, not about Pods: a cordoned node is one only where the operator says so, as
cordons are laid for many reasons, some of them on every node of a cluster (see docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lbcore.model import Node

__all__ = ["drained_nodes"]


def drained_nodes(nodes: Iterable[Node], marked: Collection[str], *, cordons: bool) -> frozenset[str]:
    """The names of the nodes that are drained: by their Node, or `marked` without one.

    `cordons`: a node with `spec.unschedulable` is one, too.
    """
    told = {node.name for node in nodes if node.drained or (cordons and node.cordoned)}
    return frozenset(told.union(marked))

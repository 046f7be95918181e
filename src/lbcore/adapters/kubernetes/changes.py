"""What kind of object an event tells of, and the event that tells that it is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from lbcore.adapters.kubernetes.documents import Refused, Seen
from lbcore.events import (
    ConfigGone,
    ConfigSeen,
    Kind,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
)

__all__ = ["OBJECT_KINDS", "Gone", "gone", "kind_of", "kind_of_refused", "only_objects"]

Gone = ServiceGone | SliceGone | NodeGone | NamespaceGone | ConfigGone

_KINDS = {
    "namespace": Kind.NAMESPACES,
    "node": Kind.NODES,
    "config": Kind.CONFIG,
    "slice": Kind.SLICES,
    "service": Kind.SERVICES,
}

# The kinds that stand in documents, in the order in which they are listed: a Service comes when
# all that its assignment and announcement look at is known.
OBJECT_KINDS = tuple(_KINDS.values())

_KINDS_OF_OBJECTS = {
    "Service": Kind.SERVICES,
    "EndpointSlice": Kind.SLICES,
    "Node": Kind.NODES,
    "Namespace": Kind.NAMESPACES,
}


def kind_of(subject: tuple[str, str]) -> Kind:
    """The kind that an event with this subject is about."""
    return _KINDS[subject[0]]


def kind_of_refused(refused: Refused) -> Kind | None:
    """The kind that a refused document is of; None when it does not say, or is of one nobody lists."""
    if isinstance(refused.event, ConfigSeen):
        return Kind.CONFIG
    return _KINDS_OF_OBJECTS.get(refused.event.problem.object.partition(" ")[0])


def only_objects(kinds: Iterable[Kind]) -> frozenset[Kind]:
    """The kinds, if all of them stand in documents; else `ValueError`."""
    asked = frozenset(kinds)
    if others := asked - set(OBJECT_KINDS):
        names = ", ".join(sorted(kind.value for kind in others))
        raise ValueError(f"a cluster has no {names}; another source tells them")
    return asked


def gone(seen: Seen) -> Gone:
    """The end of what `seen` told."""
    match seen:
        case ServiceSeen():
            return ServiceGone(seen.service.key, seen.service.uid)
        case SliceSeen():
            return SliceGone(seen.slice.key)
        case NodeSeen():
            return NodeGone(seen.node.name)
        case NamespaceSeen():
            return NamespaceGone(seen.namespace.name)
        case ConfigSeen():
            return ConfigGone(seen.document.origin)
        case _:
            assert_never(seen)

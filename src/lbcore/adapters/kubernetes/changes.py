"""What object an event tells of, of which kind, and the event that tells that it is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from lbcore.adapters.kubernetes.documents import Refused, Seen
from lbcore.events import (
    ConfigGone,
    ConfigMapGone,
    ConfigMapSeen,
    ConfigSeen,
    IngressClassGone,
    IngressClassSeen,
    IngressGone,
    IngressSeen,
    Kind,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    SecretGone,
    SecretSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
)

__all__ = ["OBJECT_KINDS", "Gone", "gone", "kind_of", "kind_of_refused", "name_of", "only_objects"]

Gone = (
    ServiceGone
    | SliceGone
    | NodeGone
    | NamespaceGone
    | ConfigGone
    | IngressGone
    | IngressClassGone
    | SecretGone
    | ConfigMapGone
)

_KINDS = {
    "namespace": Kind.NAMESPACES,
    "node": Kind.NODES,
    "config": Kind.CONFIG,
    "slice": Kind.SLICES,
    "service": Kind.SERVICES,
    "configmap": Kind.CONFIG_MAPS,
    "secret": Kind.SECRETS,
    "ingressclass": Kind.INGRESS_CLASSES,
    "ingress": Kind.INGRESSES,
}

# The kinds that stand in documents, in the order in which they are listed: a Service comes when
# all that its assignment and announcement look at is known; an Ingress last, for the same reason.
OBJECT_KINDS = tuple(_KINDS.values())

_KINDS_OF_OBJECTS = {
    "Service": Kind.SERVICES,
    "EndpointSlice": Kind.SLICES,
    "Node": Kind.NODES,
    "Namespace": Kind.NAMESPACES,
    "Ingress": Kind.INGRESSES,
    "IngressClass": Kind.INGRESS_CLASSES,
    "Secret": Kind.SECRETS,
    "ConfigMap": Kind.CONFIG_MAPS,
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
        case IngressSeen():
            return IngressGone(seen.ingress.key)
        case IngressClassSeen():
            return IngressClassGone(seen.ingress_class.name)
        case SecretSeen():
            return SecretGone(seen.secret.key)
        case ConfigMapSeen():
            return ConfigMapGone(seen.config_map.key)
        case _:
            assert_never(seen)


def name_of(seen: Seen) -> str:
    """The object that `seen` tells of, as a problem names it."""
    match seen:
        case ServiceSeen():
            return f"Service {seen.service.key}"
        case SliceSeen():
            return f"EndpointSlice {seen.slice.key}"
        case NodeSeen():
            return f"Node {seen.node.name}"
        case NamespaceSeen():
            return f"Namespace {seen.namespace.name}"
        case ConfigSeen():
            return str(seen.document.origin)
        case IngressSeen():
            return f"Ingress {seen.ingress.key}"
        case IngressClassSeen():
            return f"IngressClass {seen.ingress_class.name}"
        case SecretSeen():
            return f"Secret {seen.secret.key}"
        case ConfigMapSeen():
            return f"ConfigMap {seen.config_map.key}"
        case _:
            assert_never(seen)

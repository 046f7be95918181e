"""Node and Namespace (core/v1) -> `Node` and `Namespace`: their labels, whether a node has its network or is drained.

Two labels that every object of a real cluster carries are added where a manifest leaves them out,
because selectors rely on them: the API server sets `kubernetes.io/metadata.name` on a Namespace,
the kubelet sets `kubernetes.io/hostname` on its Node.
"""

from __future__ import annotations

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.model import DRAIN_ANNOTATION, Labels, Namespace, Node

__all__ = ["read_namespace", "read_node"]

HOSTNAME = "kubernetes.io/hostname"
NAMESPACE_NAME = "kubernetes.io/metadata.name"


def read_node(document: Fields, name: str) -> Node:
    """The Node in a document: its condition `NetworkUnavailable`, its drain marks, its `InternalIP`s and `ExternalIP`s.

    An address that is none is passed over: the kubelet writes them, and nobody who reads our log could mend it.
    """
    conditions = list(document.child("status").children("conditions"))
    unavailable = any(
        each.text("type") == "NetworkUnavailable" and each.text("status") == "True" for each in conditions
    )
    found: dict[str, set[Address]] = {"InternalIP": set(), "ExternalIP": set()}
    for each in document.child("status").children("addresses"):
        parsed = _parse(each.text("address"))
        if each.text("type") in found and parsed is not None:
            found[each.text("type")].add(parsed)
    return Node(
        name=name,
        labels=_labels(document, HOSTNAME, name),
        network_unavailable=unavailable,
        addresses=tuple(sorted(found["InternalIP"])),
        external=tuple(sorted(found["ExternalIP"])),
        drained=_is_drained(document.child("metadata")),
        cordoned=document.child("spec").flag("unschedulable", default=False),
    )


def _is_drained(metadata: Fields) -> bool:
    """Whether the annotation is there: with whatever value but `false`, so that nobody mistypes it."""
    return metadata.labels("annotations").get(DRAIN_ANNOTATION, "false") != "false"


def _parse(text: str) -> Address | None:
    try:
        return Address.parse(text)
    except AddressError:
        return None


def read_namespace(document: Fields, name: str) -> Namespace:
    """The Namespace in a document."""
    return Namespace(name=name, labels=_labels(document, NAMESPACE_NAME, name))


def _labels(document: Fields, always: str, value: str) -> Labels:
    labels = document.child("metadata").labels("labels")
    return labels if always in labels else labels.set(always, value)

"""Node and Namespace (core/v1) -> `Node` and `Namespace`: their labels, and whether a node has its network.

Two labels that every object of a real cluster carries are added where a manifest leaves them out,
because selectors rely on them: the API server sets `kubernetes.io/metadata.name` on a Namespace,
the kubelet sets `kubernetes.io/hostname` on its Node.
"""

from __future__ import annotations

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.model import Labels, Namespace, Node

__all__ = ["read_namespace", "read_node"]

HOSTNAME = "kubernetes.io/hostname"
NAMESPACE_NAME = "kubernetes.io/metadata.name"


def read_node(document: Fields, name: str) -> Node:
    """The Node in a document: its condition `NetworkUnavailable`, and its addresses of type `InternalIP`.

    An address that is none is passed over: the kubelet writes them, and nobody who reads our log could mend it.
    """
    conditions = list(document.child("status").children("conditions"))
    unavailable = any(
        each.text("type") == "NetworkUnavailable" and each.text("status") == "True" for each in conditions
    )
    addresses = {
        parsed
        for each in document.child("status").children("addresses")
        if each.text("type") == "InternalIP" and (parsed := _parse(each.text("address"))) is not None
    }
    return Node(
        name=name,
        labels=_labels(document, HOSTNAME, name),
        network_unavailable=unavailable,
        addresses=tuple(sorted(addresses)),
    )


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

"""Who announces a Service, as speakers tell it: ServiceL2Status and ServiceBGPStatus of metallb.io.

One object for each Service and node, with MetalLB's labels, by which it is found: its name says nothing. The Pod of
the speaker owns it, so that it goes with the Pod. `status` is all that it has; the API server takes that by a request
of its own, so that a new one costs two.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from attrs import field, frozen

from lbcore.adapters.kubernetes.api import ANNOUNCED, ApiResource
from lbcore.intents import ReportAnnounced
from lbcore.model import ServiceKey

__all__ = [
    "BGP",
    "L2",
    "Announced",
    "Owner",
    "Row",
    "new_object",
    "node_label",
    "node_of",
    "read_announced",
    "read_row",
    "status_patch",
    "wanted_status",
]

L2, BGP = ANNOUNCED
_NODE, _NAME, _NAMESPACE = (f"metallb.io/{each}" for each in ("node", "service-name", "service-namespace"))

Document = dict[str, Any]


@frozen(kw_only=True)
class Announced:
    """A node says that it announces a Service: on Layer 2 on `interfaces` (none named: all that are usable), or,
    where there are `peers`, over BGP to these BGPPeers.
    """

    service: ServiceKey
    node: str
    interfaces: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()

    @property
    def protocol(self) -> str:
        """As it stands in the event `nodeAssigned`."""
        return "bgp" if self.peers else "layer2"


def read_announced(document: Mapping[str, Any]) -> Announced | None:
    """What one status object says; None for one that is not filled in (MetalLB fills it in a moment later)."""
    status = document.get("status")
    if not isinstance(status, dict):
        return None
    node, name, namespace = (_text(status.get(key)) for key in ("node", "serviceName", "serviceNamespace"))
    if not (node and name and namespace):
        return None
    interfaces = (each.get("name") for each in _items(status, "interfaces") if isinstance(each, dict))
    return Announced(
        service=ServiceKey(namespace, name),
        node=node,
        interfaces=tuple(sorted(each for each in interfaces if isinstance(each, str))),
        peers=tuple(sorted(each for each in _items(status, "peers") if isinstance(each, str))),
    )


@frozen
class Owner:
    """The Pod of a speaker."""

    name: str
    uid: str

    @property
    def reference(self) -> Document:
        """As `metadata.ownerReferences` has it."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


@frozen(kw_only=True)
class Row:
    """An object of a node as it is on the API server: its name, what it says, and whose it is."""

    name: str
    status: Mapping[str, Any] = field(factory=dict)
    owners: frozenset[str] = frozenset()


def node_label(node: str) -> str:
    """A node's name as the value of a label, which has room for 63 characters."""
    return node[:63].rstrip("-.")


def node_of(document: Mapping[str, Any]) -> str:
    """The node that an object is of, as its label has it."""
    return _text(_labels(document).get(_NODE))


def read_row(document: Mapping[str, Any]) -> tuple[ServiceKey, Row] | None:
    """Which Service an object is about by its labels, and what it says; None where they do not tell."""
    labels, metadata = _labels(document), document.get("metadata") or {}
    name, namespace = _text(labels.get(_NAME)), _text(labels.get(_NAMESPACE))
    if not (name and namespace and metadata.get("name")):
        return None
    owners = (each.get("uid") for each in metadata.get("ownerReferences") or () if isinstance(each, dict))
    status = document.get("status")
    row = Row(
        name=_text(metadata["name"]),
        status=status if isinstance(status, dict) else {},
        owners=frozenset(each for each in owners if isinstance(each, str)),
    )
    return ServiceKey(namespace, name), row


def wanted_status(resource: ApiResource, said: ReportAnnounced) -> Document | None:
    """What the object of this kind should say; None where there should be none."""
    about = {"node": said.node, "serviceName": said.key.name, "serviceNamespace": said.key.namespace}
    if resource is BGP:
        return about | {"peers": list(said.peers)} if said.peers else None
    if said.interfaces is None:
        return None
    return about | ({"interfaces": [{"name": each} for each in said.interfaces]} if said.interfaces else {})


def new_object(resource: ApiResource, said: ReportAnnounced, owner: Owner | None) -> Document:
    """The object without its status. Its name is always the same: a request that is sent again makes no other."""
    digest = sha256(f"{said.key}@{said.node}".encode()).hexdigest()[:16]
    metadata: Document = {
        "name": f"{'bgp' if resource is BGP else 'l2'}-{digest}",
        "labels": {_NODE: node_label(said.node), _NAME: said.key.name, _NAMESPACE: said.key.namespace},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner.reference]
    return {"apiVersion": resource.api_version, "kind": resource.name, "metadata": metadata, "spec": {}}


def status_patch(wanted: Document, there: Mapping[str, Any]) -> Document | None:
    """A merge patch of the object's status; None where it says so already."""
    if all(there.get(name) == value for name, value in wanted.items()) and not (_lists(there) - wanted.keys()):
        return None
    return {"status": {**dict.fromkeys(_lists(there)), **wanted}}


def _lists(status: Mapping[str, Any]) -> set[str]:
    return {name for name in ("interfaces", "peers") if status.get(name)}


def _labels(document: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _items(status: Mapping[str, Any], name: str) -> list[Any]:
    items = status.get(name)
    return items if isinstance(items, list) else []

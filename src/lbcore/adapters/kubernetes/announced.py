"""Who announces a Service, as speakers tell it: ServiceL2Status and ServiceBGPStatus of metallb.io."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from lbcore.model import ServiceKey

__all__ = ["Announced", "read_announced"]


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


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _items(status: Mapping[str, Any], name: str) -> list[Any]:
    items = status.get(name)
    return items if isinstance(items, list) else []

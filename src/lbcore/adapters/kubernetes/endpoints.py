"""EndpointSlice (discovery.k8s.io/v1) -> `EndpointSlice`: where a Service's endpoints run, and whether they serve."""

from __future__ import annotations

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.model import Endpoint, EndpointPort, EndpointSlice, SliceKey

__all__ = ["SERVICE_NAME", "read_slice"]

SERVICE_NAME = "kubernetes.io/service-name"  # the label that ties a slice to its Service


def read_slice(document: Fields, key: SliceKey) -> EndpointSlice | None:
    """The slice in a document, or None when it belongs to no Service."""
    service = document.child("metadata").labels("labels").get(SERVICE_NAME, "")
    endpoints = tuple(_endpoint(each) for each in document.children("endpoints"))
    ports = tuple(_port(each) for each in document.children("ports"))
    return EndpointSlice(key=key, service=service, endpoints=endpoints, ports=ports) if service else None


def _port(port: Fields) -> EndpointPort:
    number = port.integer("port", default=0, lowest=0, highest=65535)
    return EndpointPort(port.text("name"), number, port.text("protocol") or "TCP")


def _endpoint(endpoint: Fields) -> Endpoint:
    conditions = endpoint.child("conditions")
    return Endpoint(
        addresses=tuple(text for _, text in endpoint.texts("addresses")),
        node=endpoint.text("nodeName") or None,
        ready=conditions.optional_flag("ready"),
        serving=conditions.optional_flag("serving"),
    )

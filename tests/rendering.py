# ruff: noqa: E501 - manifests are read in rows
"""Manifests -> the configuration that nginx would be given, through the reader, the routing brain and the renderer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from lbcore.adapters.certificates import make_fake
from lbcore.adapters.kubernetes.documents import read
from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.render import Places, Rendered, Renderer
from lbcore.annotations.table import PREFIX
from lbcore.errors import ManifestError
from lbcore.events import (
    ConfigMapSeen,
    Event,
    IngressClassSeen,
    IngressSeen,
    Listed,
    SecretSeen,
    ServiceSeen,
    SliceSeen,
)
from lbcore.ingress import ObjectKey
from lbcore.routing import NEEDS, RoutingSettings, RoutingState, needs, step
from lbcore.streams import StreamSettings

__all__ = ["BASE", "OPTIONS", "PARAMS", "SHARED", "STREAMS", "USERS", "config_map", "ingress", "render"]

FAKE = make_fake(datetime(2026, 1, 1, tzinfo=UTC))


def ingress(host: str, path: str = "/", name: str = "web", namespace: str = "shop", **more: Any) -> dict[str, Any]:
    backend = {"service": {"name": more.get("service", "web"), "port": {"number": 80}}}
    paths = [{"path": path, "pathType": more.get("kind", "Prefix"), "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": name, "namespace": namespace,
            "annotations": {f"{PREFIX}/{key}": text for key, text in more.get("annotations", {}).items()},
        },
        "spec": {
            "rules": [{"host": host, "http": {"paths": paths}}],
            "tls": [{"hosts": [host], "secretName": more["secret"]}] if "secret" in more else [],
        },
    }  # fmt: skip


def service(namespace: str) -> list[dict[str, Any]]:
    metadata = {"name": "web", "namespace": namespace}
    labels = {"kubernetes.io/service-name": "web"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
         "metadata": {**metadata, "labels": labels}, "ports": [{"port": 8080}], "endpoints": [{"addresses": ["2001:db8::1"]}]},
    ]  # fmt: skip


USERS: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": "shop"},
    "stringData": {"auth": "u:x", "ca.crt": FAKE.chain.decode(), "tls.crt": FAKE.chain.decode(), "tls.key": FAKE.key.decode()},
}  # fmt: skip


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data}


PARAMS = config_map("params", SCRIPT_FILENAME="/app$fastcgi_script_name", ENV="production")
MAPS = [config_map("asks", **{"X-A": "${host}"}), config_map("answers", **{"X-A": "a"})]
SHARED = "neighbour.example"  # a rule for this host would rightly change it; an alias may not
NEIGHBOUR = ingress(SHARED, "/n", "neighbour", "other")
OPTIONS = ObjectKey("lb", "options")  # the ConfigMap of the controller
STREAMS = StreamSettings(tcp=ObjectKey("lb", "tcp"), udp=ObjectKey("lb", "udp"), listening=frozenset({8080, 8443}))
ALLOWED = {
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": OPTIONS.name, "namespace": OPTIONS.namespace},
    "data": {"global-allowed-response-headers": "X-A"},
}  # fmt: skip
BASE = [*service("shop"), *service("other"), USERS, PARAMS, *MAPS, ALLOWED, NEIGHBOUR]


def render(
    documents: Iterable[dict[str, Any]], folder: str = "/run/lbcore-ingress", capabilities: Capabilities | None = None
) -> Rendered:
    """Through the manifest reader and the routing brain; what the reader refuses is not there."""
    state = RoutingState(settings=RoutingSettings(without_class=True, config_map=OPTIONS, streams=STREAMS))
    events: list[Event] = []
    for document in documents:
        try:
            found = read(document, "")
        except ManifestError:
            continue
        if isinstance(found, ConfigMapSeen | IngressSeen | IngressClassSeen | SecretSeen | ServiceSeen | SliceSeen):
            events.append(found)
    for event in (*events, *map(Listed, sorted(needs(state.settings), key=str))):
        state = step(state, event, 0.0).state
    while not state.settled:
        state = step(state, Listed(next(iter(NEEDS))), 0.0).state
    places = Places(folder=folder, http_port=8080, https_port=8443, resolvers=("127.0.0.1",))
    return Renderer(places=places, capabilities=capabilities or Capabilities(), fake=FAKE).render(state.table)

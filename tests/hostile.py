# ruff: noqa: E501 - manifests are read in rows
"""A namespace with every text that a manifest of Ingress may hold, and another text in each of its places in turn.

The places are found by walking the documents: a field that is added there is tried without further work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lbcore.annotations.table import PREFIX
from rendering import PARAMS, SHARED, USERS

__all__ = ["PLACES", "Way", "moved", "shop"]

Way = tuple[str | int, ...]


def shop(namespace: str, host: str) -> list[dict[str, Any]]:
    """A namespace in which every text that a manifest may hold is there; annotations' values are tried elsewhere."""
    port = {"name": "http"}
    meta: dict[str, Any] = {"namespace": namespace, "labels": {"app": "web"}}
    named = {"auth-type": "basic", "auth-secret": "users", "custom-http-errors": "404", "default-backend": "more"}
    rules = [
        {"host": host, "http": {"paths": [
            {"path": "/a", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": port}}},
            {"path": "/far", "pathType": "Exact", "backend": {"service": {"name": "far", "port": {"number": 80}}}},
            {"path": "/r", "pathType": "Prefix", "backend": {"resource": {"apiGroup": "x.y", "kind": "Z", "name": "z"}}}]}},
        {"host": f"*.{host}"},
    ]  # fmt: skip
    return [
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": f"class-{namespace}"},
         "spec": {"controller": "k8s.io/ingress-nginx"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
         "metadata": {**meta, "name": "web", "uid": "0f6c", "creationTimestamp": "2026-01-01T00:00:00Z",
                      "annotations": {f"{PREFIX}/{name}": text for name, text in named.items()}},
         "spec": {"ingressClassName": f"class-{namespace}", "rules": rules,
                  "defaultBackend": {"service": {"name": "web", "port": port}},
                  "tls": [{"hosts": [host], "secretName": "users"}]},
         "status": {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}, {"hostname": "x.example"}]}}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
         "metadata": {"namespace": namespace, "name": "script", "annotations": {
             f"{PREFIX}/backend-protocol": "FCGI", f"{PREFIX}/fastcgi-params-configmap": "params"}},
         "spec": {"ingressClassName": f"class-{namespace}", "rules": [{"host": f"script.{host}"}],
                  "defaultBackend": {"service": {"name": "web", "port": port}}}},
        {**PARAMS, "metadata": {"name": "params", "namespace": namespace}},
        *({"apiVersion": "v1", "kind": "Service", "metadata": {**meta, "name": name, "uid": "1"},
           "spec": {"type": "ClusterIP", "clusterIP": "2001:db8::2", "clusterIPs": ["2001:db8::2"],
                    "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}}
          for name in ("web", "more")),
        {"apiVersion": "v1", "kind": "Service", "metadata": {**meta, "name": "far"},
         "spec": {"type": "ExternalName", "externalName": "far.example", "ports": [{"port": 80}]}},
        *({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
           "metadata": meta | {"name": name, "labels": {"kubernetes.io/service-name": name}},
           "endpoints": [{"addresses": ["2001:db8::3"], "nodeName": "n", "hostname": "h", "zone": "z"}],
           "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]} for name in ("web", "more")),
        {**USERS, "metadata": {"name": "users", "namespace": namespace}, "type": "Opaque"},
    ]  # fmt: skip


_KEYED = {"annotations", "labels", "stringData", "data"}  # whose keys are somebody's text, too


def texts_in(value: Any, at: Way = ()) -> Iterator[Way]:
    """The way to each text of a document, and to each key that a user chooses: that way ends with `@`."""
    if isinstance(value, str):
        yield at
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from texts_in(each, (*at, index))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts_in(each, (*at, key))
            if at and at[-1] in _KEYED:
                yield (*at, key, "@")


def changed(value: Any, path: Way, text: str) -> Any:
    """A document with another text at the end of a way."""
    if not path:
        return text
    first, rest = path[0], path[1:]
    if rest == ("@",):
        return {(text if key == first else key): each for key, each in value.items()}
    if isinstance(value, list):
        return [changed(each, rest, text) if index == first else each for index, each in enumerate(value)]
    return {key: changed(each, rest, text) if key == first else each for key, each in value.items()}


# What may stand there is given by others: a kind is read or not, and a host or a namespace may be the neighbour's.
_GIVEN = {("apiVersion",), ("kind",)}
_TWICE = {5, 8}  # documents that are as the one before but for their name
PLACES = [
    (number, path)
    for number, document in enumerate(shop("x", "x.example"))
    for path in texts_in(document)
    if path not in _GIVEN and number not in _TWICE
]


def moved(number: int, place: tuple[int, Way], text: str) -> list[dict[str, Any]]:
    """A namespace and a host of their own, with a text in one place."""
    made = shop(f"n{number}", f"h{number}.n.example")
    which, path = place
    if text in {SHARED, "other"}:
        return made
    made[which] = changed(made[which], path, text)
    return made

"""The objects that an Ingress controller reads besides Services: frozen projections, nothing judged.

Annotations stay text here; `lbcore.annotations` gives them their closed types. A Secret's bytes are
never shown by `repr`, so that no log and no traceback holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import field, frozen
from immutables import Map

from lbcore.model import Labels, ServiceKey

__all__ = [
    "Backend",
    "Certificate",
    "ConfigMap",
    "Ingress",
    "IngressClass",
    "IngressPath",
    "IngressRule",
    "IngressTLS",
    "ObjectKey",
    "PathType",
    "Secret",
]

ObjectKey = ServiceKey  # `namespace/name`, whatever the kind


def _map(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> Labels:
    return value if isinstance(value, Map) else Map(value)


def _bytes_map(value: Mapping[str, bytes]) -> Map[str, bytes]:
    return value if isinstance(value, Map) else Map(value)


class PathType(Enum):
    """`spec.rules[].http.paths[].pathType`."""

    EXACT = "Exact"
    PREFIX = "Prefix"
    IMPLEMENTATION_SPECIFIC = "ImplementationSpecific"


@frozen(order=True)
class Backend:
    """`IngressBackend.service`: a Service of the Ingress's namespace, and its port's number or name as text."""

    service: str
    port: str = ""


@frozen(kw_only=True)
class IngressPath:
    """`HTTPIngressPath`. `backend` is None for a resource backend, which nobody serves."""

    path: str
    type: PathType
    backend: Backend | None


@frozen(kw_only=True)
class IngressRule:
    """`IngressRule`; `host` is empty for every host. `paths` is empty where `http` is missing."""

    host: str = ""
    paths: tuple[IngressPath, ...] = ()


@frozen(kw_only=True)
class IngressTLS:
    """`IngressTLS`: the hosts, and the Secret's name (empty: the default certificate)."""

    hosts: tuple[str, ...] = ()
    secret: str = ""


@frozen(kw_only=True)
class Ingress:
    """An Ingress (networking.k8s.io/v1). `created` is `metadata.creationTimestamp`, RFC 3339.

    `held` are the addresses and host names of `status.loadBalancer.ingress`.
    """

    key: ObjectKey
    uid: str = ""
    created: str = ""
    class_name: str | None = None
    annotations: Labels = field(factory=Map, converter=_map)
    default_backend: Backend | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTLS, ...] = ()
    held: tuple[str, ...] = ()


@frozen(kw_only=True)
class IngressClass:
    """An IngressClass: `spec.controller`."""

    name: str
    controller: str = ""


@frozen(kw_only=True)
class ConfigMap:
    """A ConfigMap's `data`."""

    key: ObjectKey
    data: Labels = field(factory=Map, converter=_map)


@frozen(kw_only=True)
class Certificate:
    """A certificate chain with its key, both PEM, that belong together.

    `names` are the DNS names it is for (subjectAltName, or the common name where there is none),
    lower case; `expires` is RFC 3339.
    """

    names: tuple[str, ...]
    expires: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


@frozen(kw_only=True)
class Secret:
    """A Secret's `data`, decoded.

    `certificate` is what `tls.crt` and `tls.key` make together, or the text of why they make none
    (empty: there are none).
    """

    key: ObjectKey
    data: Map[str, bytes] = field(factory=Map, converter=_bytes_map, repr=False)
    certificate: Certificate | str = ""

"""Ingress and IngressClass (networking.k8s.io/v1) -> what a user wrote; whether it can be served is decided later.

Types are looked at here, and nothing else: an Ingress whose host or path cannot be served still
has others that can, so one of them does not cost the object.
"""

from __future__ import annotations

from immutables import Map

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.ingress import Backend, Ingress, IngressClass, IngressPath, IngressRule, IngressTLS, ObjectKey, PathType
from lbcore.model import Labels

__all__ = ["read_ingress", "read_ingress_class"]

# kubectl's copy of the whole object: large, and a second change for every change.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def read_ingress(document: Fields, key: ObjectKey) -> Ingress:
    """The Ingress in a document whose name is known already."""
    metadata = document.child("metadata")
    spec = document.child("spec")
    if not document.has("spec"):
        document.fault("spec", "is missing; an Ingress needs spec.rules or spec.defaultBackend")
    return Ingress(
        key=key,
        uid=metadata.text("uid"),
        created=metadata.moment("creationTimestamp"),
        class_name=spec.text("ingressClassName") if spec.has("ingressClassName") else None,
        annotations=_annotations(metadata),
        default_backend=_backend(spec.child("defaultBackend")) if spec.has("defaultBackend") else None,
        rules=tuple(_rule(each) for each in spec.children("rules")),
        tls=tuple(_tls(each) for each in spec.children("tls")),
        held=_held(document.raw("status")),
    )


def read_ingress_class(document: Fields, name: str) -> IngressClass:
    """The IngressClass in a document whose name is known already."""
    return IngressClass(name=name, controller=document.child("spec").text("controller"))


def _annotations(metadata: Fields) -> Labels:
    given = metadata.labels("annotations")
    return Map(given.delete(_LAST_APPLIED)) if _LAST_APPLIED in given else given


def _rule(rule: Fields) -> IngressRule:
    http = rule.child("http")
    return IngressRule(host=rule.text("host"), paths=tuple(_path(each) for each in http.children("paths")))


def _path(path: Fields) -> IngressPath:
    if not path.has("backend"):
        path.fault("backend", "is missing; write backend.service.name and backend.service.port")
    return IngressPath(
        path=path.text("path") or "/",
        type=path.choice("pathType", PathType.IMPLEMENTATION_SPECIFIC),
        backend=_backend(path.child("backend")),
    )


def _backend(backend: Fields) -> Backend | None:
    if not backend.has("service"):
        return None
    service = backend.child("service")
    name = service.required_text("name", "name the Service")
    port = service.child("port")
    if port.has("number"):
        return Backend(name, str(port.integer("number", default=0, lowest=1, highest=65535)))
    return Backend(name, port.text("name"))


def _held(status: object) -> tuple[str, ...]:
    """What a controller wrote, and nobody who wrote the Ingress could mend: anything else than text is passed over."""
    balancer = status.get("loadBalancer") if isinstance(status, dict) else None
    found = balancer.get("ingress") if isinstance(balancer, dict) else None
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    texts = [each.get("ip") or each.get("hostname") for each in entries]
    return tuple(each for each in texts if isinstance(each, str))


def _tls(tls: Fields) -> IngressTLS:
    return IngressTLS(hosts=tuple(text for _, text in tls.texts("hosts")), secret=tls.text("secretName"))

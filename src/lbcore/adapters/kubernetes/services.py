"""Service (core/v1) -> `Service`: what a user wrote, defaults as the API server sets them, nothing judged.

Whether a request makes sense (two addresses of one family, a pool that does not exist) is decided
by the rules; here only types and the values that Kubernetes itself allows are looked at.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from immutables import Map

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.addresses import Address, Family
from lbcore.errors import AddressError
from lbcore.model import IPFamilyPolicy, Labels, Port, Service, ServiceKey, ServicePort, TrafficPolicy

__all__ = ["CONDITION", "read_service"]

CONDITION = "lbcore.io/AddressesPending"  # stands on a Service as long as it lacks what it asks for

# The annotations that can change a decision: MetalLB's two prefixes, and lbcore's own.
ANNOTATION_PREFIXES = ("metallb.io/", "metallb.universe.tf/", "lbcore.io/")


class _Type(Enum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


class _Protocol(Enum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


def read_service(document: Fields, key: ServiceKey) -> Service:
    """The Service in a document whose name is known already.

    `held` comes from `status.loadBalancer.ingress[].ip`; status is no user's text, so what cannot
    be read there (a host name, say) is passed over.
    """
    metadata = document.child("metadata")
    spec = document.child("spec")
    if not document.has("spec"):
        document.fault("spec", "is missing; a Service needs at least spec.ports")
    return Service(
        key=key,
        uid=metadata.text("uid"),
        created=metadata.moment("creationTimestamp"),
        type=spec.choice("type", _Type.CLUSTER_IP).value,
        load_balancer_class=spec.text("loadBalancerClass") or None,
        labels=metadata.labels("labels"),
        annotations=_annotations(metadata),
        cluster_ips=_cluster_ips(spec),
        ip_families=_families(spec),
        ip_family_policy=spec.choice("ipFamilyPolicy", IPFamilyPolicy.SINGLE_STACK),
        load_balancer_ip=spec.text("loadBalancerIP"),
        external_traffic_policy=spec.choice("externalTrafficPolicy", TrafficPolicy.CLUSTER),
        selector=spec.labels("selector"),
        ports=_ports(spec),
        named_ports=_named_ports(spec),
        external_name=spec.text("externalName"),
        external_ips=tuple(text for _, text in spec.texts("externalIPs")),
        held=_held(document.raw("status")),
        pending=_pending(document.raw("status")),
    )


def _annotations(metadata: Fields) -> Labels:
    given = metadata.labels("annotations")
    if all(name.startswith(ANNOTATION_PREFIXES) for name in given):
        return _same_labels(given)
    return _same_labels(Map({name: text for name, text in given.items() if name.startswith(ANNOTATION_PREFIXES)}))


# Ten thousand Services name the same pool, families and ports: one copy of each saves 250 bytes a Service.


@lru_cache(maxsize=1024)
def _same_labels(labels: Labels) -> Labels:
    return labels


@lru_cache(maxsize=16)
def _same_families(families: tuple[Family, ...]) -> tuple[Family, ...]:
    return families


@lru_cache(maxsize=1024)
def _same_ports(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    return ports


def _cluster_ips(spec: Fields) -> tuple[str, ...]:
    listed = tuple(text for _, text in spec.texts("clusterIPs"))
    single = spec.text("clusterIP")
    return listed or ((single,) if single else ())


def _families(spec: Fields) -> tuple[Family, ...]:
    found: list[Family] = []
    for path, text in spec.texts("ipFamilies"):
        family = next((family for family in Family if family.value == text), None)
        if family is None:
            spec.fault_at(path, f"must be IPv4 or IPv6, not {text[:60]!r}")
        elif family in found:
            spec.fault_at(path, f"{text} is given twice; keep one")
        else:
            found.append(family)
    return _same_families(tuple(found))


def _ports(spec: Fields) -> tuple[Port, ...]:
    found: dict[Port, None] = {}
    for each in spec.children("ports"):
        if not each.has("port"):
            each.fault("port", "is missing; write the port that clients use")
            continue
        port = Port(
            each.choice("protocol", _Protocol.TCP).value, each.integer("port", default=0, lowest=1, highest=65535)
        )
        if port in found and port.number:
            each.fault_here(f"{port} is given twice; keep one")
        found[port] = None
    return _same_ports(tuple(found))


@lru_cache(maxsize=1024)
def _same_named_ports(ports: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
    return ports


def _named_ports(spec: Fields) -> tuple[ServicePort, ...]:
    """The ports again, as an Ingress finds them; what is wrong with them `_ports` has said."""
    found = []
    for each in spec.raw_children("ports"):
        name, number, target, protocol = (each.get(key) for key in ("name", "port", "targetPort", "protocol"))
        if isinstance(number, int) and not isinstance(number, bool):
            found.append(ServicePort(_word(name), number, _word(target), _word(protocol) or "TCP"))
    return _same_named_ports(tuple(found))


def _word(value: object) -> str:
    """A name or a number as text; anything else is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 32:
        return str(value)
    return value if isinstance(value, str) else ""


def _pending(status: object) -> tuple[str, str] | None:
    """What our own condition says."""
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for each in conditions if isinstance(conditions, list) else ():
        if isinstance(each, dict) and each.get("type") == CONDITION and each.get("status") == "True":
            return str(each.get("reason") or ""), str(each.get("message") or "")
    return None


def _held(status: object) -> tuple[Address, ...]:
    balancer = status.get("loadBalancer") if isinstance(status, dict) else None
    ingress = balancer.get("ingress") if isinstance(balancer, dict) else None
    found: dict[Address, None] = {}
    for each in ingress if isinstance(ingress, list) else ():
        text = each.get("ip") if isinstance(each, dict) else None
        if isinstance(text, str) and text:
            try:
                found[Address.parse(text)] = None
            except AddressError:
                continue
    return tuple(found)

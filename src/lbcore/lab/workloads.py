"""What the control plane concludes: pods from Deployments, slices from pods, forwarding from slices.

Pure functions over documents and values, as Kubernetes' controllers and kube-proxy decide; carrying
it out is `lbcore.lab.control`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.lab.errors import LabError
from lbcore.lab.manifests import Document, ObjectKey, ServicePort, ServiceWish, Workload, dig
from lbcore.lab.network import Station
from lbcore.lab.pods import PodPlan
from lbcore.lab.proxy import Forwarding, Target
from lbcore.model import Port, ServiceKey

__all__ = ["PodStatus", "forwardings", "node_document", "plan_pods", "slice_documents"]

_FIRST_POD = 2  # .1 is the node's own in most pod networks
_MOST_PODS = 110  # a node's limit in Kubernetes, too


@frozen
class PodStatus:
    """A pod and whether it takes traffic."""

    plan: PodPlan
    ready: bool


def plan_pods(
    workloads: Iterable[Workload], placed: Mapping[tuple[str, str], PodPlan], nodes: Sequence[Station]
) -> dict[tuple[str, str], PodPlan]:
    """The pods there should be, by namespace and name: those `placed` stay where they are, new ones
    go to the node with the fewest pods, reachable ones first.
    """
    wanted = [
        (workload, f"{workload.name}-{index}") for workload in sorted(workloads) for index in range(workload.replicas)
    ]
    plans: dict[tuple[str, str], PodPlan] = {}
    for workload, name in wanted:
        old = placed.get((workload.namespace, name))
        if old is not None and (old.labels, old.ports, old.owner) == (workload.labels, workload.ports, workload.name):
            plans[(workload.namespace, name)] = old
    for workload, name in wanted:
        if (workload.namespace, name) not in plans:
            plans[(workload.namespace, name)] = _place(workload, name, list(plans.values()), nodes)
    return plans


def _place(workload: Workload, name: str, others: Sequence[PodPlan], nodes: Sequence[Station]) -> PodPlan:
    def load(station: Station) -> tuple[bool, int, int]:
        return (not station.reachable, sum(pod.node == station.name for pod in others), station.number)

    station = min(nodes, key=load)
    taken = {pod.addresses for pod in others}
    for number in range(_FIRST_POD, _FIRST_POD + _MOST_PODS):
        addresses = station.pod_addresses(number)
        if addresses not in taken:
            return PodPlan(
                namespace=workload.namespace,
                name=name,
                owner=workload.name,
                node=station.name,
                addresses=addresses,
                labels=workload.labels,
                ports=workload.ports,
            )
    raise LabError(f"no room for pod {name}: each node has {_MOST_PODS} pods")


def slice_documents(service: ServiceWish, pods: Iterable[PodStatus]) -> list[Document]:
    """The EndpointSlices of a Service, as the EndpointSlice controller writes them; none without a selector.

    There is one for each family that pods have: which families the Service uses is decided where it
    gets its addresses. Pods whose named ports have other numbers go to slices of their own.
    """
    if not service.selector:
        return []
    groups: dict[tuple[int, tuple[tuple[str, Port], ...]], list[tuple[Address, PodStatus]]] = {}
    for pod in sorted(pods, key=lambda pod: pod.plan.name):
        if pod.plan.namespace == service.key.namespace and _selects(service, pod.plan):
            ports = tuple((port.name, _resolve(port, pod.plan)) for port in service.ports)
            for address in pod.plan.addresses:
                known = tuple((name, found) for name, found in ports if found is not None)
                groups.setdefault((address.version, known), []).append((address, pod))
    versions = [version for version, _ in groups]
    return [
        _slice(service, version, ports, members, versions[:index].count(version))
        for index, ((version, ports), members) in enumerate(groups.items())
    ]


def _selects(service: ServiceWish, pod: PodPlan) -> bool:
    return all(pod.labels.get(key) == value for key, value in service.selector.items())


def _resolve(port: ServicePort, pod: PodPlan) -> Port | None:
    if isinstance(port.target, int):
        return Port(port.port.protocol, port.target)
    return next((each.port for each in pod.ports if each.name == port.target), None)


def _slice(
    service: ServiceWish,
    version: int,
    ports: Iterable[tuple[str, Port]],
    members: Iterable[tuple[Address, PodStatus]],
    index: int,
) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service.key.name}-ipv{version}" + (f"-{index}" if index else ""),
            "namespace": service.key.namespace,
            "labels": {
                "kubernetes.io/service-name": service.key.name,
                "endpointslice.kubernetes.io/managed-by": "lbcore-lab",
            },
        },
        "addressType": f"IPv{version}",
        "endpoints": [_endpoint(address, pod) for address, pod in members],
        "ports": [{"name": name, "protocol": port.protocol, "port": port.number} for name, port in ports],
    }


def _endpoint(address: Address, pod: PodStatus) -> Document:
    return {
        "addresses": [str(address)],
        "conditions": {"ready": pod.ready, "serving": pod.ready, "terminating": False},
        "nodeName": pod.plan.node,
        "targetRef": {"kind": "Pod", "namespace": pod.plan.namespace, "name": pod.plan.name},
    }


def node_document(station: Station, labels: Mapping[str, str], *, ready: bool) -> Document:
    """The Node object of a station as a control plane shows it; one that is not heard of is `Unknown`."""
    addresses = [{"type": "InternalIP", "address": str(each)} for each in station.addresses]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": station.name,
            "labels": {"kubernetes.io/hostname": station.name, "kubernetes.io/os": "linux", **labels},
        },
        "spec": {"podCIDRs": [str(each) for each in station.pod_networks]},
        "status": {
            "addresses": [*addresses, {"type": "Hostname", "address": station.name}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def forwardings(
    services: Iterable[ServiceWish],
    objects: Mapping[ObjectKey, Document],
    addresses: Mapping[ServiceKey, Sequence[Address]],
) -> list[Forwarding]:
    """What kube-proxy is to do for every load balancer address, from the slices in the folder, whoever wrote them."""
    slices: dict[ServiceKey, list[Document]] = {}
    for key, document in objects.items():
        if key.kind == "EndpointSlice":
            owner = dig(document, "metadata.labels", dict, {}).get("kubernetes.io/service-name", "")
            slices.setdefault(ServiceKey(key.namespace, owner), []).append(document)
    return [
        Forwarding(
            address=address,
            port=port.port,
            targets=_targets(slices.get(service.key, []), address.version, port),
            policy=service.policy,
        )
        for service in services
        if service.is_load_balancer
        for address in addresses.get(service.key, ())
        for port in service.ports
    ]


def _targets(slices: Iterable[Document], version: int, port: ServicePort) -> tuple[Target, ...]:
    """Ready endpoints; if there is none, those that still serve while they terminate."""
    ready: set[Target] = set()
    ending: set[Target] = set()
    for document in slices:
        if document.get("addressType") != f"IPv{version}":
            continue
        for found in dig(document, "ports", list, []):
            if (found.get("name") or "") == port.name and found.get("protocol", "TCP") == port.port.protocol:
                for endpoint in dig(document, "endpoints", list, []):
                    _sort_in(endpoint, found, ready, ending)
    return tuple(sorted(ready or ending))


def _sort_in(endpoint: dict[str, Any], port: dict[str, Any], ready: set[Target], ending: set[Target]) -> None:
    conditions = endpoint.get("conditions") or {}
    try:
        target = Target(Address.parse(endpoint["addresses"][0]), int(port["port"]), endpoint.get("nodeName") or "")
    except (AddressError, KeyError, IndexError, TypeError, ValueError):
        return  # an endpoint that cannot be reached is none
    if conditions.get("ready") is not False:
        ready.add(target)
    elif conditions.get("serving") and conditions.get("terminating"):
        ending.add(target)

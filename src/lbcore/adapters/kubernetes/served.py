"""What an Ingress controller reads and writes at an API server: only what it needs, filtered by the server.

Secrets are read but for the types that nobody serves with: releases of helm (half a megabyte each), tokens, passwords
of registries; ConfigMaps but for the authority that is in every namespace. With one namespace to serve, everything is
read there, and by name what the command line names elsewhere.
"""

from __future__ import annotations

from typing import Any, TypedDict

from attrs import evolve

from lbcore.adapters.kubernetes.api import RESOURCES, ApiResource
from lbcore.adapters.kubernetes.watching import Gathering
from lbcore.events import InstancesSeen, Kind
from lbcore.ingress import ObjectKey
from lbcore.intents import PublishIngress

__all__ = ["InstanceWatching", "ingress_resources", "ingress_status", "instances_resource"]

_NO_SECRETS = (
    "helm.sh/release.v1",
    "kubernetes.io/service-account-token",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/dockercfg",
    "kubernetes.io/ssh-auth",
    "bootstrap.kubernetes.io/token",
)
_SECRETS = (("fieldSelector", ",".join(f"type!={each}" for each in _NO_SECRETS)),)
_MAPS = (("fieldSelector", "metadata.name!=kube-root-ca.crt"),)
_CLUSTER_WIDE = {Kind.INGRESS_CLASSES, Kind.NAMESPACES, Kind.NODES}
_OF_A_SERVICE = "kubernetes.io/service-name"
# Labels of a Pod that differ between two revisions of one Deployment or DaemonSet.
_REVISIONS = ("pod-template-hash", "controller-revision-hash", "pod-template-generation")


def ingress_resources(
    *,
    namespace: str = "",
    config_map: ObjectKey | None = None,
    maps: tuple[ObjectKey, ...] = (),
    services: tuple[ObjectKey, ...] = (),
    secrets: tuple[ObjectKey, ...] = (),
    all_maps: bool = True,
) -> tuple[ApiResource, ...]:
    """Where objects are read for Ingresses of one namespace, or of all (empty).

    `maps` (besides the one of the options), `services` and `secrets` are those that the command line names: they may
    be elsewhere. Without `all_maps` no other ConfigMap is read.
    """
    named = tuple(dict.fromkeys(each for each in (config_map, *maps) if each is not None))
    table = {each.kind: each for each in RESOURCES if not each.in_namespace}
    read: list[ApiResource] = []
    for kind, each in table.items():
        where = "" if kind in _CLUSTER_WIDE else namespace
        if kind is Kind.CONFIG_MAPS:
            read += _maps(each, where, named, all_maps)
        elif kind is Kind.SECRETS:
            read.append(evolve(each, where=where, selector=_SECRETS))
        else:
            read.append(evolve(each, where=where, keeps_status=kind is Kind.INGRESSES))
    if namespace:
        for key in dict.fromkeys(each for each in services if each.namespace != namespace):
            slices = (("labelSelector", f"{_OF_A_SERVICE}={key.name}"),)
            read += [
                _one(evolve(table[Kind.SERVICES], keeps_status=False), key),
                evolve(table[Kind.SLICES], where=key.namespace, selector=slices),
            ]
        elsewhere = dict.fromkeys(each for each in secrets if each.namespace != namespace)
        read += [_one(table[Kind.SECRETS], key) for key in elsewhere]
    return tuple(read)


def _maps(resource: ApiResource, where: str, named: tuple[ObjectKey, ...], all_of_them: bool) -> list[ApiResource]:
    if not all_of_them:
        return [_one(resource, each) for each in named]
    # Beside the options there may be those that they name, for headers.
    places = dict.fromkeys((where, *(each.namespace for each in named)) if where else (where,))
    return [evolve(resource, where=each, selector=_MAPS) for each in places]


def _one(resource: ApiResource, key: ObjectKey) -> ApiResource:
    """One object, by its name."""
    return evolve(resource, where=key.namespace, selector=(("fieldSelector", f"metadata.name={key.name}"),))


def ingress_status(intent: PublishIngress) -> dict[str, Any]:
    """A merge patch of `ingresses/status`; with the uid, so that it does not reach one made anew under the name."""
    entries = [{"ip" if _is_address(each) else "hostname": each} for each in intent.addresses]
    patch: dict[str, Any] = {"status": {"loadBalancer": {"ingress": entries or None}}}
    return {"metadata": {"uid": intent.uid}, **patch} if intent.uid else patch


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


class _PodMetadata(TypedDict, total=False):
    name: Any
    namespace: Any
    resourceVersion: Any
    deletionTimestamp: Any


class _PodSpec(TypedDict, total=False):
    nodeName: Any


class _PodStatus(TypedDict, total=False):
    phase: Any
    conditions: Any


class _Pod(TypedDict, total=False):
    metadata: _PodMetadata
    spec: _PodSpec
    status: _PodStatus


def instances_resource(namespace: str, labels: dict[str, str]) -> ApiResource:
    """The Pods that are instances of what a Pod with these labels belongs to, whatever their revision."""
    chosen = ",".join(f"{name}={value}" for name, value in sorted(labels.items()) if name not in _REVISIONS)
    return ApiResource(
        kind=Kind.MEMBERS,
        group="",
        version="v1",
        name="Pod",
        plural="pods",
        where=namespace,
        selector=(("labelSelector", chosen),),
        shape=_Pod,
    )


class InstanceWatching(Gathering):
    """Follows Pods, and tells which run and on which nodes they are ready, whenever that has changed."""

    def _gist(self) -> InstancesSeen:
        pods = [each for each in self.latest.values() if _runs(each)]
        return InstancesSeen(
            running=frozenset(str(each["metadata"].get("name")) for each in pods),
            nodes=frozenset(str((each.get("spec") or {}).get("nodeName")) for each in pods if _is_ready(each)),
        )


def _runs(pod: dict[str, Any]) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase not in ("Succeeded", "Failed") and not (pod.get("metadata") or {}).get("deletionTimestamp")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions")
    found = [each for each in conditions if isinstance(each, dict)] if isinstance(conditions, list) else []
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in found)
    return ready and bool((pod.get("spec") or {}).get("nodeName"))

"""Where the API server keeps what a cluster tells: one row for each resource that is listed and watched.

A row says how a page or a watch line is decoded, too: only the fields that the readers of this package
look at. `metadata.managedFields` alone is half of a Service's bytes, and is stepped over.
"""

from __future__ import annotations

from typing import Any, TypedDict
from urllib.parse import quote

import msgspec
from attrs import field, frozen

from lbcore.events import Kind

__all__ = [
    "ANNOUNCED",
    "LEASES",
    "PEER_SECRETS",
    "RESOURCES",
    "SPEAKERS",
    "SPEAKER_LABEL",
    "ApiResource",
    "Line",
    "Page",
    "collection_path",
    "object_path",
]

# Leaves are `Any`, so that a value of a wrong type reaches the reader, which names its field.


class _Metadata(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    creationTimestamp: Any
    labels: Any
    annotations: Any


class _Labelled(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    labels: Any


class _ServiceSpec(TypedDict, total=False):
    type: Any
    loadBalancerClass: Any
    clusterIP: Any
    clusterIPs: Any
    ipFamilies: Any
    ipFamilyPolicy: Any
    loadBalancerIP: Any
    externalTrafficPolicy: Any
    externalName: Any
    externalIPs: Any
    selector: Any
    ports: Any


class _Service(TypedDict, total=False):
    metadata: _Metadata
    spec: _ServiceSpec
    status: Any


class _Endpoint(TypedDict, total=False):
    addresses: Any
    nodeName: Any
    conditions: Any


class _Slice(TypedDict, total=False):
    metadata: _Labelled
    endpoints: list[_Endpoint] | None
    ports: Any


class _NodeStatus(TypedDict, total=False):
    conditions: Any
    addresses: Any


class _NodeSpec(TypedDict, total=False):
    unschedulable: Any


class _Node(TypedDict, total=False):
    metadata: _Metadata
    spec: _NodeSpec
    status: _NodeStatus


class _Namespace(TypedDict, total=False):
    metadata: _Labelled


class _Wish(TypedDict, total=False):
    metadata: _Metadata  # a pool's annotations say how long its addresses are kept
    spec: Any
    status: Any


class _OwnedMetadata(TypedDict, total=False):
    name: Any
    namespace: Any
    labels: Any
    ownerReferences: Any


class _Announced(TypedDict, total=False):
    metadata: _OwnedMetadata
    status: Any


class _ConfigMap(TypedDict, total=False):
    metadata: _Labelled
    data: Any


class _Class(TypedDict, total=False):
    metadata: _Metadata
    spec: Any


class _Ingress(TypedDict, total=False):
    metadata: _Metadata
    spec: Any
    status: Any


class _Secret(TypedDict, total=False):
    metadata: _Labelled
    data: Any
    type: Any


class _LeaseSpec(TypedDict, total=False):
    holderIdentity: Any
    leaseDurationSeconds: Any
    renewTime: Any
    leaseTransitions: Any


class _Lease(TypedDict, total=False):
    metadata: _Metadata
    spec: _LeaseSpec


class Line(msgspec.Struct):
    """One line of a watch: what happened, and the object, not decoded yet."""

    type: str
    object: msgspec.Raw


class _ListMetadata(msgspec.Struct):
    version: str = msgspec.field(name="resourceVersion", default="")
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct):
    """One page of a list: its objects, not decoded yet, and where the next begins ('' at the end)."""

    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


@frozen(kw_only=True)
class ApiResource:
    """One kind of object as the API server has it.

    `in_namespace`: only those of the system namespace count, as for MetalLB; `where` is another one that it is read in
    (empty: all). `optional`: a server that
    does not have this kind, or does not show it, has none of it. `keeps_status`: the writer wants to know what
    the object's status says already. `selector` is a field or label selector, to be filtered by the server.
    """

    kind: Kind
    group: str
    version: str
    name: str
    plural: str
    in_namespace: bool = False
    optional: bool = False
    keeps_status: bool = False
    selector: tuple[tuple[str, str], ...] = ()
    where: str = ""
    shape: type = field(default=_Wish)
    decoder: msgspec.json.Decoder[Any] = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.shape))

    @property
    def api_version(self) -> str:
        """As an object's `apiVersion` has it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str) -> str:
        """Where it is listed; `namespace` is the system's."""
        return collection_path(self.api_version, self.plural, self.where or (namespace if self.in_namespace else ""))

    def decode(self, raw: msgspec.Raw) -> dict[str, Any]:
        """An object's document, as far as anybody reads it. Raises `msgspec.MsgspecError` for what is no object."""
        try:
            document: dict[str, Any] = self.decoder.decode(raw)
        except msgspec.ValidationError:
            document = msgspec.json.decode(raw, type=dict)  # of a wrong shape: let the reader say where
        document["apiVersion"], document["kind"] = self.api_version, self.name
        return document


def collection_path(api_version: str, plural: str, namespace: str) -> str:
    """The path of all objects of a kind, or of those in a namespace."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else f"{root}/{plural}"


def object_path(api_version: str, plural: str, namespace: str, name: str, subresource: str = "") -> str:
    """The path of one object, or of its `status`."""
    path = f"{collection_path(api_version, plural, namespace)}/{quote(name, safe='')}"
    return f"{path}/{subresource}" if subresource else path


def _wish(name: str, plural: str, version: str = "v1beta1", **more: Any) -> ApiResource:
    return ApiResource(
        kind=Kind.CONFIG, group="metallb.io", version=version, name=name, plural=plural, in_namespace=True, **more
    )


def _networking(kind: Kind, name: str, plural: str, shape: type) -> ApiResource:
    return ApiResource(kind=kind, group="networking.k8s.io", version="v1", name=name, plural=plural, shape=shape)


RESOURCES: tuple[ApiResource, ...] = (
    ApiResource(kind=Kind.NAMESPACES, group="", version="v1", name="Namespace", plural="namespaces", shape=_Namespace),
    ApiResource(kind=Kind.NODES, group="", version="v1", name="Node", plural="nodes", shape=_Node),
    # Not optional: a server that has lost these definitions for a moment has not lost the wishes in them.
    _wish("IPAddressPool", "ipaddresspools", keeps_status=True),
    _wish("L2Advertisement", "l2advertisements"),
    _wish("BGPPeer", "bgppeers", "v1beta2", optional=True),
    _wish("BGPAdvertisement", "bgpadvertisements", optional=True),
    _wish("BFDProfile", "bfdprofiles", optional=True),
    _wish("Community", "communities", optional=True),
    ApiResource(
        kind=Kind.CONFIG,
        group="",
        version="v1",
        name="ConfigMap",
        plural="configmaps",
        in_namespace=True,
        optional=True,
        selector=(("fieldSelector", "metadata.name=config"),),
        shape=_ConfigMap,
    ),
    ApiResource(
        kind=Kind.SLICES,
        group="discovery.k8s.io",
        version="v1",
        name="EndpointSlice",
        plural="endpointslices",
        shape=_Slice,
    ),
    ApiResource(
        kind=Kind.SERVICES,
        group="",
        version="v1",
        name="Service",
        plural="services",
        keeps_status=True,
        shape=_Service,
    ),
    ApiResource(kind=Kind.CONFIG_MAPS, group="", version="v1", name="ConfigMap", plural="configmaps", shape=_ConfigMap),
    ApiResource(kind=Kind.SECRETS, group="", version="v1", name="Secret", plural="secrets", shape=_Secret),
    _networking(Kind.INGRESS_CLASSES, "IngressClass", "ingressclasses", _Class),
    _networking(Kind.INGRESSES, "Ingress", "ingresses", _Ingress),
)

# What speakers tell of who announces what; MetalLB's own speakers do, too.
ANNOUNCED = tuple(
    ApiResource(
        kind=Kind.SERVICES,
        group="metallb.io",
        version="v1beta1",
        name=name,
        plural=plural,
        in_namespace=True,
        optional=True,
        shape=_Announced,
    )
    for name, plural in (("ServiceL2Status", "servicel2statuses"), ("ServiceBGPStatus", "servicebgpstatuses"))
)

# The passwords of BGP sessions: only of the system namespace, and none of another type.
PEER_SECRETS = ApiResource(
    kind=Kind.SECRETS,
    group="",
    version="v1",
    name="Secret",
    plural="secrets",
    in_namespace=True,
    optional=True,
    selector=(("fieldSelector", "type=kubernetes.io/basic-auth"),),
    shape=_Secret,
)

SPEAKER_LABEL = "lbcore.io/speaker"
LEASES = "coordination.k8s.io/v1"

# The Leases of speakers, whose membership they are.
SPEAKERS = ApiResource(
    kind=Kind.MEMBERS,
    group="coordination.k8s.io",
    version="v1",
    name="Lease",
    plural="leases",
    in_namespace=True,
    selector=(("labelSelector", SPEAKER_LABEL),),
    shape=_Lease,
)

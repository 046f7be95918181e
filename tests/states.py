"""States of a cluster as documents, and histories of them: what a folder of manifests may hold, edit by edit.

Small alphabets, so that Services want the same addresses and edits hit them; some documents are broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

__all__ = ["NODES", "Document", "State", "identity", "is_broken", "states"]

Document = dict[str, Any]
State = tuple[Document, ...]

NODES = ("n1", "n2", "n3")

_SYSTEM = "metallb-system"
_EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


def identity(document: Document) -> tuple[str, str, str]:
    """Kind, namespace and name: what makes two documents the same object."""
    metadata = document["metadata"]
    return str(document["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def is_broken(document: Document) -> bool:
    """Whether this is a Service that cannot be read: the object stays as it was."""
    return identity(document)[0] == "Service" and bool(document["spec"]["ports"] == _UNREADABLE)


_UNREADABLE = [{"port": "many"}]


def _object(api: str, kind: str, name: str, namespace: str | None, **fields: Any) -> Document:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def _wish(kind: str, name: str, api: str = "metallb.io/v1beta1", **spec: Any) -> Document:
    metadata = spec.pop("metadata", {})
    return _object(api, kind, name, _SYSTEM, spec=spec, metadata=metadata)


def _pool(name: str, *addresses: str, **spec: Any) -> Document:
    return _wish("IPAddressPool", name, addresses=list(addresses), **spec)


_FOR_RED = {"priority": 1, "namespaces": ["red"]}
_FOR_GOLD = {"serviceSelectors": [{"matchLabels": {"tier": "gold"}}]}
_FOR_GOLD_NAMESPACES = {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]}

_POOLS: tuple[tuple[Document, ...], ...] = (
    (_pool("a", "10.0.0.0/31", "2001:db8::/127"),),
    (_pool("a", "10.0.0.0/30", "2001:db8::/126"),),
    (_pool("a", "10.0.0.0/32"), _pool("b", "2001:db8::/126")),
    (_pool("a", "10.0.0.2/31", "2001:db8::2/127"), _pool("b", "10.0.0.0/31", "2001:db8::/127", autoAssign=False)),
    (_pool("a", "10.0.0.0/31", "2001:db8::/127", serviceAllocation=_FOR_RED), _pool("b", "10.0.0.2/31")),
    (_pool("b", "10.0.0.0/30", "2001:db8::/127", serviceAllocation=_FOR_GOLD), _pool("a", "2001:db8::2/127")),
    (_pool("a", "10.0.0.0/31", serviceAllocation=_FOR_GOLD_NAMESPACES), _pool("b", "10.0.0.2/32", "2001:db8::/127")),
    (_pool("a", "10.0.0.0/31", "2001:db8::/127", metadata={"annotations": {"lbcore.io/keep-for": "100s"}}),),
    (_pool("a", "10.0.0.0/31", "2001:db8::/127", metadata={"annotations": {"lbcore.io/keep-for": "30s"}}),),
    (_pool("a", "10.0.0.0/30"), _pool("b", "10.0.0.2/31")),  # two pools, one address
    (_pool("a", "10.0.0.9-10.0.0.1", "2001:db8::/127"),),
    (),
)

_PREFERRED = [{"weight": 10, "preference": {"matchLabels": {"zone": "b"}}}]
_ZONE_A = [{"matchLabels": {"zone": "a"}}]
_PEER = _wish("BGPPeer", "router", "metallb.io/v1beta2", myASN=64512, peerASN=64513, peerAddress="192.168.1.1")
_SIX = _wish(
    "BGPPeer",
    "six",
    "metallb.io/v1beta2",
    myASN=64512,
    peerASN=64513,
    peerAddress="2001:db8:f::1",
    dualStackAddressFamily=True,
    nodeSelectors=_ZONE_A,
)
_WIDE: dict[str, Any] = {"aggregationLength": 31, "aggregationLengthV6": 127}
_ADVERTS: tuple[tuple[Document, ...], ...] = (
    (_wish("L2Advertisement", "one"),),
    (_wish("L2Advertisement", "one"),),
    (_wish("L2Advertisement", "one", nodeSelectors=_ZONE_A),),
    (
        _wish("L2Advertisement", "one", ipAddressPools=["a"]),
        _wish("L2Advertisement", "two", preferredNodeSelectors=_PREFERRED),
    ),
    (_wish("L2Advertisement", "one", serviceSelectors=[{"matchLabels": {"tier": "gold"}}]),),
    (_wish("L2Advertisement", "one"), _wish("BGPAdvertisement", "routes"), _PEER),
    (_wish("BGPAdvertisement", "routes", ipAddressPools=["a"], nodeSelectors=_ZONE_A), _PEER),
    (_wish("BGPAdvertisement", "routes", **_WIDE, communities=["64512:1"]), _PEER, _SIX),
    (
        _wish("BGPAdvertisement", "routes", **_WIDE, communities=["64512:2"]),
        _wish("BGPAdvertisement", "hosts", peers=["six"], localPref=5, communities=["64512:3"]),
        _wish("BGPAdvertisement", "too", peers=["six"], localPref=5, communities=["64512:4"]),
        _PEER,
        _SIX,
    ),
    (_wish("L2Advertisement", "one", nodeSelectors="n1"),),  # broken
    (),
)

_NODES = st.tuples(
    *(
        st.sampled_from(
            [
                *[_object("v1", "Node", name, None, metadata={"labels": {"zone": zone}}) for zone in "aabb"],
                _object("v1", "Node", name, None, metadata={"labels": {_EXCLUDE: ""}}),
                _object(
                    "v1", "Node", name, None, status={"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}
                ),
                None,
            ]
        )
        for name in NODES
    )
)

_NAMESPACES = st.tuples(
    *(
        st.sampled_from(
            [_object("v1", "Namespace", name, None, metadata={"labels": given}) for given in ({}, {"tier": "gold"})]
        )
        for name in ("red", "blue")
    )
)

_STACKS: tuple[Mapping[str, Any], ...] = (
    {},
    {"ipFamilies": ["IPv6"]},
    {"ipFamilies": ["IPv6"]},
    {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"], "clusterIPs": ["fd00::1", "10.96.0.1"]},
    {"ipFamilyPolicy": "RequireDualStack"},
)
_SPECS: tuple[Mapping[str, Any], ...] = (
    *[{}] * 8,
    {"loadBalancerIP": "10.0.0.1"},
    {"loadBalancerIP": "2001:db8::1", "ipFamilies": ["IPv6"]},
    {"loadBalancerIP": "here"},
    {"type": "ClusterIP"},
    {"loadBalancerClass": "example.com/other"},
    {"ports": _UNREADABLE},  # broken: the object keeps its last good form
)
_ANNOTATIONS: tuple[Mapping[str, str], ...] = (
    *[{}] * 4,
    {"metallb.io/allow-shared-ip": "k"},
    {"metallb.io/allow-shared-ip": "k"},
    {"metallb.io/address-pool": "b"},
    {"metallb.io/loadBalancerIPs": "10.0.0.0"},
)


@st.composite
def _services(draw: st.DrawFn, namespace: str, name: str) -> State:
    """A Service, in one of two incarnations, and, mostly, a slice of its endpoints."""
    port = draw(st.sampled_from([80, 443]))
    spec = {
        "type": "LoadBalancer",
        "ports": [{"port": port, "protocol": "TCP"}],
        "externalTrafficPolicy": draw(st.sampled_from(["Cluster", "Cluster", "Local"])),
        **draw(st.sampled_from(_STACKS)),
        **draw(st.sampled_from(_SPECS)),
    }
    metadata: Document = {
        "uid": f"{name}-{draw(st.sampled_from(['first', 'first', 'second']))}",
        "labels": draw(st.sampled_from([{}, {"tier": "gold"}])),
        "annotations": dict(draw(st.sampled_from(_ANNOTATIONS))),
        "creationTimestamp": f"2026-01-0{draw(st.integers(1, 2))}T00:00:00Z",
    }
    held = draw(st.sampled_from([*[[]] * 6, ["10.0.0.1"], ["2001:db8::1"], ["10.0.0.0", "2001:db8::"]]))
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in held]}}
    service = _object("v1", "Service", name, namespace, metadata=metadata, spec=spec, status=status)
    nodes = draw(st.sampled_from([["n1", "n2", "n3"], ["n1", "n2", "n3"], ["n2"], [], None]))
    if nodes is None:
        return (service,)
    endpoints = [{"addresses": ["10.244.0.9"], "nodeName": node} for node in nodes]
    slice_ = _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{name}-1",
        namespace,
        metadata={"labels": {"kubernetes.io/service-name": name}},
        addressType="IPv4",
        endpoints=endpoints,
    )
    return service, slice_


_KEYS = (("red", "a"), ("red", "b"), ("blue", "c"), ("blue", "d"), ("red", "e"))
_SERVICES = {key: _services(*key) for key in _KEYS}


@st.composite
def states(draw: st.DrawFn, most: int = 5) -> tuple[State, ...]:
    """A history of two to `most` states: each the one before with something edited."""
    pools, adverts = draw(st.sampled_from(_POOLS)), draw(st.sampled_from(_ADVERTS))
    nodes, namespaces = draw(_NODES), draw(_NAMESPACES)
    there = {key: draw(_SERVICES[key]) for key in draw(st.lists(st.sampled_from(_KEYS), max_size=5, unique=True))}
    found = []
    for _ in range(draw(st.integers(2, most))):
        services = [document for pair in there.values() for document in pair]
        found.append((*pools, *adverts, *namespaces, *(node for node in nodes if node), *services))
        for what in draw(
            st.lists(st.sampled_from(["pools", "pools", "adverts", "nodes", "one", "one", "one", "less"]), max_size=3)
        ):
            match what:
                case "pools":
                    pools = draw(st.sampled_from(_POOLS))
                case "adverts":
                    adverts = draw(st.sampled_from(_ADVERTS))
                case "nodes":
                    nodes, namespaces = draw(_NODES), draw(_NAMESPACES)
                case "less":
                    there.pop(draw(st.sampled_from(_KEYS)), None)
                case _:
                    key = draw(st.sampled_from(_KEYS))
                    there[key] = draw(_SERVICES[key])
    return tuple(found)

"""The operator's wishes as values -> manifests: the other way round of the readers beside this file.

Reading what is written here gives the same value again; a field that has its default is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, assert_never

from lbcore.adapters.kubernetes.bgp import TTL_SECURITY
from lbcore.adapters.kubernetes.pools import KEEP_FOR
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, CommunityAlias
from lbcore.config import L2Advertisement, Pool, Resource
from lbcore.model import LabelSelector, Operator

__all__ = ["Manifest", "manifest", "manifest_of", "manifests_of"]

Manifest = dict[str, Any]


def manifests_of(resources: Iterable[Resource], namespace: str) -> list[Manifest]:
    """A manifest for each resource, and one for all names of communities together."""
    found = list(resources)
    aliases = [each for each in found if isinstance(each, CommunityAlias)]
    made = [manifest_of(each, namespace) for each in found if not isinstance(each, CommunityAlias)]
    if aliases:
        entries = [{"name": alias.name, "value": str(alias.community)} for alias in aliases]
        made.append(manifest("Community", "communities", namespace, {"communities": entries}))
    return made


def manifest_of(resource: Resource, namespace: str) -> Manifest:
    """The manifest of one resource."""
    match resource:
        case Pool():
            return _pool(resource, namespace)
        case L2Advertisement():
            return manifest("L2Advertisement", resource.name, namespace, _l2_advertisement(resource))
        case BGPAdvertisement():
            return manifest("BGPAdvertisement", resource.name, namespace, _bgp_advertisement(resource))
        case BGPPeer():
            made = manifest("BGPPeer", resource.name, namespace, _peer(resource), version="v1beta2")
            if resource.ttl_security_hops is not None:
                made["metadata"]["annotations"] = {TTL_SECURITY: str(resource.ttl_security_hops)}
            return made
        case BFDProfile():
            return manifest("BFDProfile", resource.name, namespace, _profile(resource))
        case CommunityAlias():
            entry = {"name": resource.name, "value": str(resource.community)}
            return manifest("Community", "communities", namespace, {"communities": [entry]})
        case _:
            assert_never(resource)


def manifest(kind: str, name: str, namespace: str, spec: Manifest, *, version: str = "v1beta1") -> Manifest:
    """An object of `metallb.io`; an empty `spec` is left out."""
    made: Manifest = {
        "apiVersion": f"metallb.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    }
    return made | ({"spec": spec} if spec else {})


def _given(**fields: object) -> Manifest:
    """The fields that say anything."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [])}


def _selectors(selectors: Iterable[LabelSelector]) -> list[Manifest]:
    return [_selector(each) for each in selectors]


def _selector(selector: LabelSelector) -> Manifest:
    labels: Manifest = {}
    expressions: list[Manifest] = []
    for each in selector.requirements:
        if each.operator is Operator.IN and len(each.values) == 1 and each.key not in labels:
            labels[each.key] = each.values[0]
        else:
            expression = {"key": each.key, "operator": each.operator.value}
            expressions.append(expression | ({"values": list(each.values)} if each.values else {}))
    return ({"matchLabels": labels} if labels else {}) | ({"matchExpressions": expressions} if expressions else {})


def _pool(pool: Pool, namespace: str) -> Manifest:
    spec: Manifest = {"addresses": [str(each) for each in pool.ranges]}
    spec |= _given(autoAssign=None if pool.auto_assign else False, avoidBuggyIPs=pool.avoid_buggy_ips or None)
    if pool.allocation is not None:
        spec["serviceAllocation"] = _given(
            priority=pool.allocation.priority or None,
            namespaces=list(pool.allocation.namespaces),
            namespaceSelectors=_selectors(pool.allocation.namespace_selectors),
            serviceSelectors=_selectors(pool.allocation.service_selectors),
        )
    made = manifest("IPAddressPool", pool.name, namespace, spec)
    if pool.labels:
        made["metadata"]["labels"] = dict(sorted(pool.labels.items()))
    if pool.keep_for:
        made["metadata"]["annotations"] = {KEEP_FOR: f"{pool.keep_for:f}s"}
    return made


def _choice(advert: L2Advertisement | BGPAdvertisement) -> Manifest:
    return _given(
        ipAddressPools=list(advert.pools),
        ipAddressPoolSelectors=_selectors(advert.pool_selectors),
        nodeSelectors=_selectors(advert.node_selectors),
        serviceSelectors=_selectors(advert.service_selectors),
    )


def _l2_advertisement(advert: L2Advertisement) -> Manifest:
    preferred = [{"weight": each.weight, "preference": _selector(each.preference)} for each in advert.preferred_nodes]
    return _choice(advert) | _given(interfaces=list(advert.interfaces), preferredNodeSelectors=preferred)


def _bgp_advertisement(advert: BGPAdvertisement) -> Manifest:
    return _choice(advert) | _given(
        aggregationLength=advert.aggregation_length if advert.aggregation_length != 32 else None,
        aggregationLengthV6=advert.aggregation_length_v6 if advert.aggregation_length_v6 != 128 else None,
        localPref=advert.local_pref or None,
        communities=list(advert.community_texts),
        peers=list(advert.peers),
    )


def _seconds(value: int | None) -> str | None:
    return None if value is None else f"{value}s"


def _peer(peer: BGPPeer) -> Manifest:
    secret = peer.password_secret
    return _given(
        myASN=peer.my_asn,
        peerASN=peer.peer_asn,
        dynamicASN=peer.dynamic_asn.value if peer.dynamic_asn is not None else None,
        localASN=peer.local_asn,
        peerAddress=str(peer.address) if peer.address is not None else None,
        interface=peer.interface,
        sourceAddress=str(peer.source_address) if peer.source_address is not None else None,
        peerPort=peer.port if peer.port != 179 else None,
        holdTime=_seconds(peer.hold_time),
        keepaliveTime=_seconds(peer.keepalive_time),
        connectTime=_seconds(peer.connect_time),
        routerID=str(peer.router_id) if peer.router_id is not None else None,
        nodeSelectors=_selectors(peer.node_selectors),
        password=peer.password,
        passwordSecret=_given(name=secret.name, namespace=secret.namespace) if secret is not None else None,
        bfdProfile=peer.bfd_profile,
        enableGracefulRestart=peer.graceful_restart or None,
        ebgpMultiHop=peer.ebgp_multihop or None,
        vrf=peer.vrf,
        dualStackAddressFamily=peer.dual_stack or None,
    )


def _profile(profile: BFDProfile) -> Manifest:
    return _given(
        receiveInterval=profile.receive_interval,
        transmitInterval=profile.transmit_interval,
        echoInterval=profile.echo_interval,
        detectMultiplier=profile.detect_multiplier,
        minimumTtl=profile.minimum_ttl,
        echoMode=profile.echo_mode or None,
        passiveMode=profile.passive_mode or None,
    )

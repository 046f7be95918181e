"""What a node is to tell a router, worked out by brute force from plain manifests. Part of the judge.

Shares no code with lbcore, as `oracle`, and knows only what the simulated users write: advertisements with
selectors, communities and one localPref for each length, peers by address, drains by annotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_network

from lbcore.simulation.oracle import (
    Address,
    Cluster,
    Document,
    addresses_of,
    any_matches,
    has_no_network,
    is_drained,
    is_excluded,
    is_ours,
    labels_of,
)
from lbcore.simulation.rib import Route

__all__ = ["End", "Plan", "RouterFacts", "bfd_wanted", "peer_of"]

GRACEFUL_SHUTDOWN = "65535:0"
_DEFAULT_PREFERENCE = 100
_FEW = "lbcore.io/announcing-nodes"


@dataclass(frozen=True)
class RouterFacts:
    """How a router is configured: its AS, its password, its addresses by IP version."""

    name: str
    asn: int
    password: str
    addresses: dict[int, str] = field(hash=False)


@dataclass(frozen=True)
class End:
    """One node's session with a router: who, over which IP version, and the node's addresses by version."""

    node: str
    version: int
    addresses: dict[int, str] = field(hash=False)


def _carries(peer: Document, version: int) -> bool:
    own = 6 if ":" in peer["spec"]["peerAddress"] else 4
    return bool(own == version or peer["spec"].get("dualStackAddressFamily"))


def _runs_on(peer: Document, node: Document) -> bool:
    selectors = peer["spec"].get("nodeSelectors", [])
    return not selectors or any_matches(selectors, labels_of(node))


def peer_of(peers: Iterable[Document], router: RouterFacts, node: Document, version: int) -> Document | None:
    """The BGPPeer by which a node has a session with a router; None when it has none, or none that can come up."""
    for peer in peers:
        spec = peer["spec"]
        fits = spec["peerASN"] == router.asn and spec.get("password", "") == router.password
        if spec["peerAddress"] == router.addresses[version] and _runs_on(peer, node) and fits:
            return peer
    return None


def bfd_wanted(peer: Document) -> bool:
    """Whether a session is watched by BFD."""
    return bool(peer["spec"].get("bfdProfile"))


class Plan:
    """What is to be told at this moment. `living` are the members, `resources` those of BGP by kind and name."""

    def __init__(self, cluster: Cluster, resources: dict[str, dict[str, Document]], living: Iterable[str]) -> None:
        self._cluster = cluster
        self._peers = list(resources["bgppeers"].values())
        self._adverts = list(resources["bgpadvertisements"].values())
        self._aliases = {
            each["name"]: each["value"] for document in resources["communities"].values()
            for each in document["spec"]["communities"]
        }  # fmt: skip
        self._living = set(living)

    def told(self, end: End, router: RouterFacts, *, spared: bool) -> dict[str, Route]:
        """The routes of a session. `spared`: a drained node has had its time, and tells only what no other can."""
        node = self._cluster.nodes.get(end.node)
        peer = peer_of(self._peers, router, node, end.version) if node is not None else None
        if node is None or peer is None:
            return {}
        found: dict[str, list[Document]] = {}
        for service in self._cluster.services.values():
            for address, advert in self._offers(service, node, peer, spared=spared):
                length = _length(advert, address.version)
                found.setdefault(str(ip_network(f"{address}/{length}", strict=False)), []).append(advert)
        leaving = is_drained(node)
        return {prefix: self._route(prefix, adverts, end, peer, leaving) for prefix, adverts in found.items()}

    def _offers(
        self, service: Document, node: Document, peer: Document, *, spared: bool
    ) -> Iterator[tuple[Address, Document]]:
        held = addresses_of(service)
        if not is_ours(service) or not held or not all(self._cluster.pools_with(each) for each in held):
            return
        for address in held:
            if not _carries(peer, address.version) or not self._is_chosen(service, address, node, spared=spared):
                continue
            for advert in self._adverts_on(service, address, node):
                if _reaches(advert, peer):
                    yield address, advert

    def _adverts_on(self, service: Document, address: Address, node: Document) -> list[Document]:
        pool = self._cluster.pools_with(address)[0]
        chosen = self._cluster.adverts_of(service, pool, self._adverts)
        return [advert for advert in chosen if self._cluster.selects(advert, node)]

    def _is_chosen(self, service: Document, address: Address, node: Document, *, spared: bool) -> bool:
        name = node["metadata"]["name"]
        able = {each for each, other in self._cluster.nodes.items() if self._is_able(service, address, other, name)}
        drained = {each for each in able if is_drained(self._cluster.nodes[each]) and (spared or each != name)}
        fresh = sorted(able - drained or able)
        few = service["metadata"].get("annotations", {}).get(_FEW)
        if few is not None and len(fresh) > int(few):
            first = addresses_of(service)[0]
            fresh = sorted(fresh, key=lambda each: sha256(f"{each}#{first}".encode()).digest())[: int(few)]
        return name in fresh

    def _is_able(self, service: Document, address: Address, node: Document, self_name: str) -> bool:
        name = node["metadata"]["name"]
        if (name not in self._living and name != self_name) or is_excluded(node) or has_no_network(node):
            return False
        adverts = self._adverts_on(service, address, node)
        endpoints = self._cluster.endpoints(service)
        local = service["spec"].get("externalTrafficPolicy", "Cluster") == "Local"
        if not endpoints or (local and name not in endpoints):
            return False
        peers = [peer for peer in self._peers if _runs_on(peer, node) and _carries(peer, address.version)]
        return any(_reaches(advert, peer) for advert in adverts for peer in peers)

    def _route(self, prefix: str, adverts: list[Document], end: End, peer: Document, leaving: bool) -> Route:
        spec = peer["spec"]
        internal = spec["myASN"] == spec["peerASN"]
        texts = {text for advert in adverts for text in advert["spec"].get("communities", [])}
        communities = {self._aliases.get(text, text) for text in texts}
        preference = max(advert["spec"].get("localPref", 0) for advert in adverts) or _DEFAULT_PREFERENCE
        if leaving and not internal:
            communities.add(GRACEFUL_SHUTDOWN)
        version = 6 if ":" in prefix else 4
        # IPv4 routes over IPv6 have an IPv6 next hop (RFC 8950): our routers can do that.
        hop = end.addresses[6 if end.version == 6 else version]
        return Route(
            next_hop=hop,
            as_path=() if internal else (spec["myASN"],),
            local_pref=(0 if leaving else preference) if internal else None,
            communities=tuple(sorted(communities)),
        )


def _reaches(advert: Document, peer: Document) -> bool:
    names = advert["spec"].get("peers", [])
    return not names or peer["metadata"]["name"] in names


def _length(advert: Document, version: int) -> int:
    spec = advert["spec"]
    return int(spec.get("aggregationLength", 32) if version == 4 else spec.get("aggregationLengthV6", 128))

"""What is right, worked out by brute force from plain manifests: pools, sharing, candidates, the winner.

The judge's own small model. It shares no code with lbcore and imports nothing of it, knows only
what the simulated users write, and is slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_network
from ipaddress import ip_address as parse_address
from itertools import pairwise
from typing import Any

__all__ = [
    "Cluster",
    "Holders",
    "Pool",
    "Request",
    "addresses_of",
    "any_matches",
    "has_no_network",
    "is_drained",
    "is_excluded",
    "is_ours",
    "labels_of",
    "name_of",
    "ports_of",
    "read_pools",
    "read_request",
    "sharing_of",
]

Document = dict[str, Any]
Address = IPv4Address | IPv6Address
Ports = frozenset[tuple[str, int]]

_LAST = -(1 << 32)  # the preference of a drained node, beneath all that users can sum up
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_POOL_FIELDS = {"addresses", "autoAssign", "avoidBuggyIPs", "serviceAllocation"}
_ADVERT_FIELDS = {
    "ipAddressPools", "ipAddressPoolSelectors", "nodeSelectors", "serviceSelectors", "interfaces",
    "preferredNodeSelectors",
}  # fmt: skip


@cache
def ip_address(text: str) -> Address:
    """An address, read once: the same few texts come again and again. Raises `ValueError`."""
    return parse_address(text)


def name_of(document: Document) -> str:
    """`namespace/name`, or `name` of what has no namespace."""
    metadata = document["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])


def is_ours(service: Document) -> bool:
    """Whether lbcore serves it: a LoadBalancer without a class."""
    return service["spec"].get("type") == "LoadBalancer" and "loadBalancerClass" not in service["spec"]


def addresses_of(service: Document) -> tuple[Address, ...]:
    """What its status says that it has."""
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    return tuple(ip_address(each["ip"]) for each in ingress)


@dataclass(frozen=True)
class Request:
    """What a Service asks for; `sound` is False for wishes that nobody could fulfil."""

    sound: bool
    families: tuple[int, ...]
    insists: bool  # on every family, or on none
    addresses: frozenset[Address]
    pool: str | None
    ports: Ports
    sharing: tuple[str, str] | None


def annotation(service: Document, name: str) -> str | None:
    """One of MetalLB's annotations, under its new prefix or its old one."""
    given = service["metadata"].get("annotations", {})
    for prefix in ("metallb.io/", "metallb.universe.tf/"):
        if prefix + name in given:
            return str(given[prefix + name])
    return None


def ports_of(service: Document) -> Ports:
    """Protocol and number of every port."""
    return frozenset((port.get("protocol", "TCP"), port["port"]) for port in service["spec"].get("ports", []))


def sharing_of(service: Document) -> tuple[str, str] | None:
    """The key and the backends that must be equal for an address to be shared."""
    key = annotation(service, "allow-shared-ip")
    if not key:
        return None
    if service["spec"].get("externalTrafficPolicy", "Cluster") == "Cluster":
        return (key, "")
    selector = service["spec"].get("selector", {})
    return (key, ",".join(f"{name}={selector[name]}" for name in sorted(selector)))


def read_request(service: Document) -> Request:
    """A Service's wishes; unsound ones are read as: keep what you have."""
    spec = service["spec"]
    cluster_ips = spec["clusterIPs"]
    families = tuple(ip_address(text).version for text in cluster_ips)
    policy = spec.get("ipFamilyPolicy", "SingleStack")
    sound = not (policy == "RequireDualStack" and len(families) < 2)
    listed, single = annotation(service, "loadBalancerIPs") or "", spec.get("loadBalancerIP", "")
    sound = sound and not (listed and single)
    asked: set[Address] = set()
    try:
        asked = {ip_address(text.strip()) for text in (listed or single).split(",") if text}
    except ValueError:
        sound = False
    if asked and sorted(address.version for address in asked) != sorted(families):
        sound = False
    return Request(
        sound=sound,
        families=families if sound else (4, 6),
        insists=policy != "PreferDualStack",
        addresses=frozenset(asked) if sound else frozenset(),
        pool=(annotation(service, "address-pool") or None) if sound else None,
        ports=ports_of(service),
        sharing=sharing_of(service),
    )


def matches(selector: Document, labels: Document) -> bool:
    """A label selector of `matchLabels` and `In` expressions, all that the simulated users write."""
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def any_matches(selectors: Iterable[Document], labels: Document) -> bool:
    """Whether one of them matches."""
    return any(matches(selector, labels) for selector in selectors)


def labels_of(document: Document) -> Document:
    """An object's labels, with those that the API server and the kubelet would add."""
    labels: Document = document["metadata"].get("labels", {})
    return labels


def range_of(text: str) -> tuple[Address, Address]:
    """The first and the last address of a CIDR or a range. Raises `ValueError`."""
    if "-" in text:
        first, last = (ip_address(part.strip()) for part in text.split("-"))
        if first.version != last.version or int(first) > int(last):
            raise ValueError(text)
        return first, last
    if "/" not in text:
        raise ValueError(text)
    network = ip_network(text, strict=False)
    return network[0], network[-1]


class Pool:
    """One pool. Raises `ValueError` for a broken manifest."""

    def __init__(self, document: Document) -> None:
        spec = document["spec"]
        if set(spec) - _POOL_FIELDS or not spec.get("addresses") or not isinstance(spec.get("autoAssign", True), bool):
            raise ValueError("broken")
        self.name: str = document["metadata"]["name"]
        self.labels = labels_of(document)
        self.ranges = [range_of(text) for text in spec["addresses"]]
        self._numbers = [(first.version, int(first), int(last)) for first, last in self.ranges]
        self.automatic: bool = spec.get("autoAssign", True)
        self.avoids: bool = spec.get("avoidBuggyIPs", False)
        self.allocation: Document | None = spec.get("serviceAllocation")

    def __contains__(self, address: Address) -> bool:
        version, number = address.version, int(address)
        return any(of == version and first <= number <= last for of, first, last in self._numbers)

    def gives(self, address: Address) -> bool:
        """Whether the pool has this address, and does not avoid it."""
        buggy = self.avoids and address.version == 4 and int(address) % 256 in (0, 255)
        return address in self and not buggy

    def usable(self, family: int) -> list[Address]:
        """Every address that it gives out."""
        return [
            address
            for first, last in self.ranges
            if first.version == family
            for address in (type(first)(number) for number in range(int(first), int(last) + 1))
            if self.gives(address)
        ]

    def admits(self, service: Document, namespaces: dict[str, Document]) -> bool:
        """Whether the pool is for this Service at all."""
        allocation = self.allocation
        if allocation is None:
            return True
        names, selectors = allocation.get("namespaces", []), allocation.get("namespaceSelectors", [])
        namespace = service["metadata"]["namespace"]
        known = namespaces.get(namespace)
        if names or selectors:
            by_label = known is not None and any_matches(selectors, labels_of(known))
            if namespace not in names and not by_label:
                return False
        wanted = allocation.get("serviceSelectors", [])
        return not wanted or any_matches(wanted, labels_of(service))


def read_pools(documents: Iterable[Document], adverts: Iterable[Document]) -> list[Pool] | None:
    """All pools, or None when the configuration is not sound as a whole."""
    try:
        pools = [Pool(document) for document in documents]
    except (ValueError, TypeError, AttributeError):  # the latter: written past all validation
        return None
    if any(set(advert["spec"]) - _ADVERT_FIELDS for advert in adverts):
        return None
    ranges = sorted((first.version, int(first), int(last)) for pool in pools for first, last in pool.ranges)
    for before, after in pairwise(ranges):
        if before[0] == after[0] and after[1] <= before[2]:
            return None
    return pools


class Holders:
    """Which Services of ours show which address: kept up with each change, for to count anew after each of the
    writes of 500 Services took a judge a quarter of a minute.
    """

    def __init__(self) -> None:
        self._of: dict[Address, dict[str, Document]] = {}
        self._shown: dict[str, tuple[Address, ...]] = {}

    def __iter__(self) -> Iterator[Address]:
        return iter(self._of)

    def of(self, address: Address) -> dict[str, Document]:
        """Those who show an address, by name."""
        return self._of.get(address, {})

    def changed(self, name: str, service: Document | None) -> tuple[Address, ...]:
        """A Service is as it is now (None: gone); the addresses that it showed before."""
        before = self._shown.pop(name, ())
        for address in before:
            self._of[address].pop(name, None)
            if not self._of[address]:
                del self._of[address]
        if service is not None and is_ours(service):
            self._shown[name] = tuple(dict.fromkeys(addresses_of(service)))
            for address in self._shown[name]:
                self._of.setdefault(address, {})[name] = service
        return before


class Cluster:
    """Everything that exists at one moment, by resource, in plain manifests; `pools` are those in force."""

    def __init__(self, objects: dict[str, dict[str, Document]], pools: list[Pool], holders: Holders) -> None:
        self.services = objects["services"]
        self.slices = objects["endpointslices"]
        self.nodes = objects["nodes"]
        self.namespaces = objects["namespaces"]
        self.adverts = objects["l2advertisements"]
        self.pools = pools
        self._holders = holders

    # Addresses

    @property
    def held(self) -> list[Address]:
        """Every address that a Service of ours has."""
        return list(self._holders)

    def holders(self, address: Address, *, but: str = "") -> list[Document]:
        """The Services of ours whose status has this address."""
        return [service for name, service in self._holders.of(address).items() if name != but]

    def pools_with(self, address: Address) -> list[Pool]:
        """Every pool that this address lies in."""
        return [pool for pool in self.pools if address in pool]

    @staticmethod
    def compatible(one: Document, other: Document) -> bool:
        """Whether two Services may have one address."""
        terms = sharing_of(one)
        return terms is not None and terms == sharing_of(other) and not ports_of(one) & ports_of(other)

    def offers(self, service: Document, address: Address) -> bool:
        """Whether a Service may have an address as far as pools go."""
        pools = self.pools_with(address)
        return len(pools) == 1 and pools[0].gives(address) and pools[0].admits(service, self.namespaces)

    def permits(self, service: Document, address: Address) -> bool:
        """Whether a Service may have an address as far as pools and the other holders go."""
        others = self.holders(address, but=name_of(service))
        return self.offers(service, address) and all(self.compatible(service, other) for other in others)

    def as_asked(self, service: Document, address: Address) -> bool:
        """Whether an address is one that the Service asks for."""
        request = read_request(service)
        if address.version not in request.families:
            return False
        if request.addresses:
            return address in request.addresses
        return request.pool is None or any(pool.name == request.pool for pool in self.pools_with(address))

    def could_have_more(self, service: Document) -> str | None:
        """What a Service lacks though it could be had now, in words; None when nothing."""
        request = read_request(service)
        if not request.sound or not self.pools:
            return None
        held = set(addresses_of(service))
        if request.addresses:
            named_pool = request.pool is None or all(
                pool.name == request.pool for address in request.addresses for pool in self.pools_with(address)
            )
            if held != request.addresses and named_pool and all(self.permits(service, a) for a in request.addresses):
                return f"{sorted(map(str, request.addresses))} which it asks for"
            return None
        good = {a.version for a in held if self.as_asked(service, a) and self.permits(service, a)}
        missing = [family for family in request.families if family not in good]
        found = [family for family in missing if self._obtainable(service, request, family)]
        if not missing or not found or (request.insists and len(found) < len(missing)):
            return None
        return " and ".join(f"an IPv{family} address" for family in found)

    def _obtainable(self, service: Document, request: Request, family: int) -> bool:
        for pool in self.pools:
            asked = pool.name == request.pool if request.pool is not None else pool.automatic
            if asked and pool.admits(service, self.namespaces):
                for address in pool.usable(family):
                    if self.permits(service, address):
                        return True
        return False

    # Announcements

    def endpoints(self, service: Document) -> list[str | None]:
        """The nodes of usable endpoints; None for one that names no node."""
        found: list[str | None] = []
        metadata = service["metadata"]
        for each in self.slices.values():
            mine = labels_of(each).get("kubernetes.io/service-name") == metadata["name"]
            if not mine or each["metadata"]["namespace"] != metadata["namespace"]:
                continue
            for endpoint in each["endpoints"]:
                conditions = endpoint.get("conditions", {})
                if endpoint["addresses"] and (conditions.get("ready") is not False or conditions.get("serving")):
                    found.append(endpoint.get("nodeName"))
        return found

    def adverts_of(self, service: Document, pool: Pool, among: Iterable[Document]) -> list[Document]:
        """Those of some advertisements, for whatever protocol, that are for a Service's addresses in a pool."""
        found = []
        for advert in among:
            spec = advert["spec"]
            names, selectors = spec.get("ipAddressPools", []), spec.get("ipAddressPoolSelectors", [])
            chosen = (not names and not selectors) or pool.name in names or any_matches(selectors, pool.labels)
            of_service = spec.get("serviceSelectors", [])
            if chosen and (not of_service or any_matches(of_service, labels_of(service))):
                found.append(advert)
        return found

    def _adverts_of(self, service: Document, pool: Pool) -> list[Document]:
        return self.adverts_of(service, pool, self.adverts.values())

    @staticmethod
    def selects(advert: Document, node: Document) -> bool:
        """Whether an advertisement, for whatever protocol, is for a node."""
        selectors = advert["spec"].get("nodeSelectors", [])
        return not selectors or any_matches(selectors, labels_of(node))

    def _candidates(self, service: Document, address: Address) -> dict[str, int]:
        """The nodes that may announce an address of a Service, with their preference, members or not."""
        held = addresses_of(service)
        pools = [self.pools_with(each) for each in held]
        endpoints = self.endpoints(service)
        if not is_ours(service) or address not in held or not endpoints or not all(pools):
            return {}
        by_pool = {pool[0].name: self._adverts_of(service, pool[0]) for pool in pools}
        everywhere = [advert for adverts in by_pool.values() for advert in adverts]
        shares = annotation(service, "allow-shared-ip") is not None
        if shares and any(advert["spec"].get("serviceSelectors") for advert in everywhere):
            return {}
        adverts = by_pool[self.pools_with(address)[0].name]
        local = service["spec"].get("externalTrafficPolicy", "Cluster") == "Local"
        found = {}
        for name, node in self.nodes.items():
            mine = [advert for advert in adverts if self.selects(advert, node)]
            if not mine or is_excluded(node) or has_no_network(node) or (local and name not in endpoints):
                continue
            found[name] = (_LAST if is_drained(node) else 0) + sum(
                each["weight"]
                for advert in mine
                for each in advert["spec"].get("preferredNodeSelectors", [])
                if matches(each["preference"], labels_of(node))
            )
        return found

    def _answers_on(self, service: Document, address: Address, node: str, interface: str) -> bool:
        adverts = [
            advert
            for advert in self._adverts_of(service, self.pools_with(address)[0])
            if self.selects(advert, self.nodes[node])
        ]
        return any(interface in (advert["spec"].get("interfaces") or [interface]) for advert in adverts)

    def entitled(self, node: str, address: Address) -> bool:
        """Whether a node may announce an address at all, whoever else lives."""
        return any(node in self._candidates(service, address) for service in self.holders(address))

    def _ranked_by(self, service: Document, address: Address) -> Address:
        """A Service's first address; where one that shares has this as its second, that one's first."""
        firsts = [
            addresses_of(each)[0]
            for each in self.holders(address)
            if annotation(each, "allow-shared-ip") is not None and addresses_of(each)[0] != address
        ]
        return min(firsts, key=lambda first: (first.version, int(first)), default=addresses_of(service)[0])

    def _winner(self, scores: dict[str, int], first: Address) -> str:
        return min(scores, key=lambda name: (-scores[name], sha256(f"{name}#{first}".encode()).digest()))

    def announcers(
        self, address: Address, members: Iterable[str], interface: str, waiting: Iterable[str] = ()
    ) -> dict[str, None]:
        """Who answers for an address on an interface, when these members live: one for each Service on it. Those that
        are `waiting` announce what no member may.
        """
        found: dict[str, None] = {}
        living, last = set(members), set(waiting)
        for service in self.holders(address):
            candidates = self._candidates(service, address)
            scores = {name: score for name, score in candidates.items() if name in living}
            scores = scores or {name: score for name, score in candidates.items() if name in last}
            if scores:
                winner = self._winner(scores, self._ranked_by(service, address))
                if self._answers_on(service, address, winner, interface):
                    found[winner] = None
        return found


def is_excluded(node: Document) -> bool:
    """Whether a Node is to have no part in load balancing."""
    return _EXCLUDED in labels_of(node)


def is_drained(node: Document) -> bool:
    """Whether a Node is drained: it serves what no other can."""
    return "lbcore.io/drain" in node["metadata"].get("annotations", {})


def has_no_network(node: Document) -> bool:
    """Whether a Node says that it has no network yet."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "NetworkUnavailable" and each["status"] == "True" for each in conditions)

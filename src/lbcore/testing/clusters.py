"""Strategies for what a cluster contains: pools, whole configurations, Services, Namespaces.

Everything drawn could exist: ranges do not overlap, and what a Service's policy says fits its cluster
IPs, as an API server would have it. What is drawn by default collides often; the arguments narrow it
down to the pools, namespaces and wishes of your own cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import cache

from hypothesis import strategies as st

from lbcore.addresses import AddressRange, Family
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, CommunityAlias
from lbcore.config import Config, ConfigDocument, Origin, Resource
from lbcore.model import IPFamilyPolicy, Namespace, Service, ServiceKey, TrafficPolicy
from lbcore.resources import L2Advertisement, Pool, ServiceAllocation
from lbcore.testing.values import NAMESPACES, addresses, disjoint_ranges, label_selectors, labels, ports, service_keys

__all__ = [
    "ALL_STACKS",
    "Wish",
    "allocations",
    "configs",
    "documents",
    "namespace_named",
    "namespaces_named",
    "pools",
    "services",
]

ALL_STACKS = ((Family.IPV4,), (Family.IPV6,), (Family.IPV4, Family.IPV6), (Family.IPV6, Family.IPV4))
"""Every choice of families that a Service can have, the primary one first."""


class Wish(Enum):
    """What a Service may ask for besides an address; each is drawn or not, independently of the others."""

    POOL = "a pool by its name, metallb.io/address-pool"
    ADDRESS = "addresses, metallb.io/loadBalancerIPs"
    SHARING = "to share, metallb.io/allow-shared-ip"


_MOSTLY = st.sampled_from([True, True, True, False])
_RARELY = st.sampled_from([False, False, False, True])


@cache
def allocations() -> st.SearchStrategy[ServiceAllocation]:
    """Whom a pool is for: a priority, namespaces, selectors for namespaces and for Services."""
    return st.builds(
        ServiceAllocation,
        priority=st.integers(0, 3),
        namespaces=st.lists(st.sampled_from(NAMESPACES), max_size=1).map(tuple),
        namespace_selectors=st.lists(label_selectors(), max_size=1).map(tuple),
        service_selectors=st.lists(label_selectors(), max_size=1).map(tuple),
    )


@st.composite
def pools(draw: st.DrawFn, max_pools: int = 4) -> tuple[Pool, ...]:
    """Pools that do not overlap, `pool-a` and so on: pinned or general, automatic or not, of one family or both.

    At least one, at most `max_pools` (up to four), each of few addresses.
    """
    chopped = draw(disjoint_ranges())
    names = [f"pool-{letter}" for letter in "abcd"[:max_pools]]
    owner = st.sampled_from(names)
    owners: dict[AddressRange, str] = {each: draw(owner) for each in chopped}
    return tuple(
        Pool(
            name=name,
            ranges=tuple(each for each in chopped if owners[each] == name),
            auto_assign=draw(_MOSTLY),
            avoid_buggy_ips=draw(st.booleans()),
            allocation=draw(allocations()) if draw(_RARELY) else None,
        )
        for name in names
        if name in owners.values()
    )


def configs(max_pools: int = 4) -> st.SearchStrategy[Config]:
    """Configurations that are sound: such pools, and one L2Advertisement for all of them."""
    everywhere = (L2Advertisement(name="all"),)
    return pools(max_pools).map(lambda found: Config(pools=found, l2_advertisements=everywhere))


_KINDS: tuple[tuple[type[Resource], str], ...] = (
    (Pool, "IPAddressPool"),
    (L2Advertisement, "L2Advertisement"),
    (BGPPeer, "BGPPeer"),
    (BGPAdvertisement, "BGPAdvertisement"),
    (BFDProfile, "BFDProfile"),
    (CommunityAlias, "Community"),
)


def documents(config: Config) -> tuple[ConfigDocument, ...]:
    """The objects that make up a configuration, each as a cluster would tell it.

    One object for each resource; a resource that knows the object it came from keeps that name.
    """
    resources: tuple[Resource, ...] = (
        *config.pools,
        *config.l2_advertisements,
        *config.bgp_peers,
        *config.bgp_advertisements,
        *config.bfd_profiles,
        *config.communities,
    )
    found: dict[Origin, list[Resource]] = {}
    for each in resources:
        found.setdefault(_origin_of(each), []).append(each)
    return tuple(ConfigDocument(origin=origin, resources=tuple(held)) for origin, held in found.items())


def _origin_of(resource: Resource) -> Origin:
    if resource.origin is not None:
        return resource.origin
    kind = next(name for type_, name in _KINDS if isinstance(resource, type_))
    return Origin(kind=kind, namespace="metallb-system", name=resource.name)


def namespaces_named(names: Iterable[str] = NAMESPACES) -> st.SearchStrategy[tuple[Namespace, ...]]:
    """One Namespace of each name, with any labels."""
    return st.tuples(*(namespace_named(name) for name in names))


def namespace_named(name: str) -> st.SearchStrategy[Namespace]:
    """A Namespace with any labels, and the one with its name that every API server puts there."""
    return labels().map(lambda found: Namespace(name=name, labels={**found, "kubernetes.io/metadata.name": name}))


def services(
    *,
    keys: st.SearchStrategy[ServiceKey] | None = None,
    namespaces: Iterable[str] = NAMESPACES,
    pools: Iterable[Pool | str] = (),
    stacks: Iterable[tuple[Family, ...]] = ALL_STACKS,
    wishes: Iterable[Wish] = Wish,
    labelled: st.SearchStrategy[dict[str, str]] | None = None,
) -> st.SearchStrategy[Service]:
    """A Service of type LoadBalancer that could exist, without addresses yet.

    `keys`: its key; by default a short name in one of `namespaces`. `pools`: those that it may ask for
    by name, and, where they are given as `Pool`, by address; without any it asks for neither.
    `stacks`: the families that it may have, the primary one first. `wishes`: what it may ask for; ()
    draws Services that take what they are given. `labelled`: its labels, by default those of `labels`.
    """
    given = [*pools]
    return _services(
        keys if keys is not None else service_keys(namespaces),
        st.sampled_from([*stacks]),
        _wishes_for([*wishes], given),
        labelled if labelled is not None else labels(),
        tuple(each for pool in given if isinstance(pool, Pool) for each in pool.ranges),
    )


@st.composite
def _services(
    draw: st.DrawFn,
    keys: st.SearchStrategy[ServiceKey],
    stacks: st.SearchStrategy[tuple[Family, ...]],
    wishes: tuple[tuple[str, st.SearchStrategy[bool], st.SearchStrategy[str]], ...],
    labelled: st.SearchStrategy[dict[str, str]],
    within: tuple[AddressRange, ...],
) -> Service:
    families = draw(stacks)
    annotations = {name: draw(values) for name, whether, values in wishes if draw(whether)}
    if _ADDRESSES in annotations:
        annotations[_ADDRESSES] = draw(_addresses_of(families, within))
    return Service(
        key=draw(keys),
        labels=draw(labelled),
        annotations={name: value for name, value in annotations.items() if value},
        external_traffic_policy=draw(_POLICIES),
        selector=draw(labels()),
        ports=draw(ports()),
        **draw(_stack(families)),  # type: ignore[arg-type]  # attrs checks the names
    )


_CLUSTER_IPS = {Family.IPV4: "10.96.0.1", Family.IPV6: "fd00::1"}
_POLICIES = st.sampled_from(TrafficPolicy)
_ADDRESSES = "metallb.io/loadBalancerIPs"


def _wishes_for(
    wanted: list[Wish], pools: list[Pool | str]
) -> tuple[tuple[str, st.SearchStrategy[bool], st.SearchStrategy[str]], ...]:
    """Annotations, whether to write each, and what to write; for addresses that depends on the Service."""
    found: list[tuple[str, st.SearchStrategy[bool], st.SearchStrategy[str]]] = []
    if Wish.SHARING in wanted:
        found.append(("metallb.io/allow-shared-ip", st.booleans(), st.sampled_from(["k", "l"])))
    if Wish.POOL in wanted and pools:
        names = [pool if isinstance(pool, str) else pool.name for pool in pools]
        found.append(("metallb.io/address-pool", _RARELY, st.sampled_from(names)))
    if Wish.ADDRESS in wanted and any(isinstance(pool, Pool) for pool in pools):
        found.append((_ADDRESSES, _RARELY, st.just("")))
    return tuple(found)


@cache
def _stack(families: tuple[Family, ...]) -> st.SearchStrategy[dict[str, object]]:
    """The fields that give a Service these families: as an API server fills them in, or as a manifest has them."""
    dual = len(families) == 2
    policies = list(IPFamilyPolicy)[1:] if dual else list(IPFamilyPolicy)[:2]
    cluster_ips = tuple(_CLUSTER_IPS[family] for family in families)
    filled_in: list[dict[str, object]] = [{"cluster_ips": cluster_ips, "ip_family_policy": each} for each in policies]
    # A manifest may leave out what the API server would add: the second family, and IPv4 as the first.
    listed = [families, families[:1], *([()] if families[0] is Family.IPV4 else [])]
    may_be = policies if dual else policies[:1]
    written: list[dict[str, object]] = [
        {"ip_families": each, "ip_family_policy": policy} for each in listed for policy in may_be
    ]
    return st.sampled_from([*filled_in * 4, *written])


@st.composite
def _addresses_of(draw: st.DrawFn, families: tuple[Family, ...], within: tuple[AddressRange, ...]) -> str:
    """One address for each family, as the annotation has them; "" where the ranges have none of a family."""
    if not set(families) <= {each.family for each in within}:
        return ""
    return ",".join(str(draw(addresses(family.version, within))) for family in families)

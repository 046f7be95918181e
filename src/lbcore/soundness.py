"""Do the operator's wishes make sense together? What one object cannot know of another, as problems.

Each question goes over all resources of a kind once, in an order that depends on nothing but their
names. Nodes are not known here: of two node selectors it is only certain that they meet when one of
them is for every node or both lists have one in common. Whether two others do is asked on each node
(`lbcore.advertising`). Source: MetalLB's configuration parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Protocol, TypeVar

from attrs import frozen

from lbcore.addresses import AddressRange, Family
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, Community, CommunityAlias, local_prefs_agree
from lbcore.bgp import parse_community as parse_literal
from lbcore.errors import CommunityError, Problem
from lbcore.model import LabelSelector
from lbcore.resources import L2Advertisement, Origin, Pool

__all__ = ["Gathered", "dangling", "problems_of", "resolve_communities"]

MOST_COMMUNITIES = 63  # of one advertisement: what MetalLB allows of a route in every mode
MOST_TOGETHER = 252  # of a route, from several advertisements: large ones take 3,024 of a message's 4,096 octets


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=_Named)
Located = tuple[Origin, R]


@frozen(kw_only=True)
class Gathered:
    """All resources there are, each with the object that it stands in, in the order of those.

    `broken` are the kinds of which an object cannot be read: what it would have defined is not missed.
    """

    pools: Sequence[Located[Pool]] = ()
    l2_advertisements: Sequence[Located[L2Advertisement]] = ()
    bgp_peers: Sequence[Located[BGPPeer]] = ()
    bgp_advertisements: Sequence[Located[BGPAdvertisement]] = ()
    bfd_profiles: Sequence[Located[BFDProfile]] = ()
    aliases: Sequence[Located[CommunityAlias]] = ()
    broken: frozenset[str] = frozenset()

    def is_missed(self, kind: str) -> bool:
        """Whether a name of this kind that nobody defines is certainly wrong."""
        return self.broken.isdisjoint({kind, "ConfigMap", "Document"})


def problems_of(all_: Gathered) -> Iterator[Problem]:
    """Everything that contradicts something else, or that can never work."""
    yield from _repeated_names(all_.pools, "pool")
    yield from _repeated_names(all_.l2_advertisements, "L2Advertisement")
    yield from _repeated_names(all_.bgp_peers, "BGPPeer")
    yield from _repeated_names(all_.bgp_advertisements, "BGPAdvertisement")
    yield from _repeated_names(all_.bfd_profiles, "BFDProfile")
    yield from _repeated_names(all_.aliases, "community")
    yield from _overlaps(all_.pools)
    yield from _unusable_ranges(all_.pools)
    if all_.is_missed("BFDProfile"):
        yield from _unknown_profiles(all_.bgp_peers, all_.bfd_profiles)
    yield from _repeated_routers(all_.bgp_peers)
    if all_.is_missed("Community"):
        yield from _unknown_communities(all_.bgp_advertisements, all_.aliases)
        yield from _too_many_together(all_.bgp_advertisements, all_.pools, all_.aliases)
    yield from _short_aggregates(all_.bgp_advertisements, all_.pools)
    yield from _local_pref_conflicts(all_.bgp_advertisements, all_.pools)
    yield from _echoes_over_ipv6(all_)


def dangling(all_: Gathered) -> Iterator[Problem]:
    """Of those, the ones that creating another object would mend: names that nobody defines (yet)."""
    if all_.is_missed("BFDProfile"):
        yield from _unknown_profiles(all_.bgp_peers, all_.bfd_profiles)
    if all_.is_missed("Community"):
        names = {alias.name for _, alias in all_.aliases}
        for origin, advert in all_.bgp_advertisements:
            for index, text in enumerate(advert.community_texts):
                if ":" not in text and text not in names:
                    yield origin.problem(f"{_at(advert, 'communities')}[{index}]", _no_community(text, names))


def _at(resource: _Named, name: str) -> str:
    """The path of a field of a resource; MetalLB's old ConfigMap spells names `like-this`."""
    if resource.path.startswith("data."):
        name = "localpref" if name == "localPref" else re.sub("[A-Z]", lambda found: f"-{found[0].lower()}", name)
    return f"{resource.path}.{name}"


def _at_name(resource: _Named) -> str:
    if isinstance(resource, CommunityAlias):
        return resource.path
    return "metadata.name" if resource.path == "spec" else f"{resource.path}.name"


def _repeated_names(named: Iterable[Located[R]], what: str) -> Iterator[Problem]:
    first: dict[str, Origin] = {}
    for origin, each in named:
        if each.name in first:
            other = first[each.name]
            where = f"{other} in {other.source}" if other.source else str(other)
            yield origin.problem(_at_name(each), f"{what} {each.name!r} is defined twice (also by {where}); rename one")
        first.setdefault(each.name, origin)


def _overlaps(pools: Iterable[Located[Pool]]) -> Iterator[Problem]:
    """Every range that shares an address with an earlier one, found in one pass over sorted ranges."""
    placed = sorted(
        (each, pool.name, index, pool.path, origin) for origin, pool in pools for index, each in enumerate(pool.ranges)
    )
    widest: tuple[AddressRange, str] | None = None
    for each, name, index, path, origin in placed:
        if widest is not None and widest[0].overlaps(each):
            other, other_name = widest
            whose = "this pool" if other_name == name else f"pool {other_name!r}"
            text = f"{each} overlaps {other} of {whose}; an address may lie in one range only, so take it out of one"
            yield origin.problem(f"{path}.addresses[{index}]", text)
        if widest is None or each.version != widest[0].version or each.last > widest[0].last:
            widest = each, name


# Where no host can be reached by an address of its own (the IANA special-purpose registries).
_UNUSABLE = (
    (AddressRange.parse("0.0.0.0/32"), "the unspecified address"),
    (AddressRange.parse("127.0.0.0/8"), "loopback"),
    (AddressRange.parse("224.0.0.0/4"), "multicast"),
    (AddressRange.parse("255.255.255.255/32"), "limited broadcast"),
    (AddressRange.parse("::/128"), "the unspecified address"),
    (AddressRange.parse("::1/128"), "loopback"),
    (AddressRange(6, 0xFFFF << 32, (0xFFFF << 32) + 0xFFFFFFFF), "IPv4-mapped"),  # ::ffff:0:0/96
    (AddressRange.parse("ff00::/8"), "multicast"),
)


def _unusable_ranges(pools: Iterable[Located[Pool]]) -> Iterator[Problem]:
    for origin, pool in pools:
        for index, each in enumerate(pool.ranges):
            found = next(((space, what) for space, what in _UNUSABLE if each.overlaps(space)), None)
            if found is None:
                continue
            text = f"{each} has addresses that can never be announced ({found[0]} is {found[1]}); take them out"
            yield origin.problem(f"{pool.path}.addresses[{index}]", text)


def _certainly_meet(one: Sequence[LabelSelector], other: Sequence[LabelSelector]) -> bool:
    """Whether two lists of node selectors choose a node together, if they choose any."""
    return not one or not other or not set(one).isdisjoint(other)


def _unknown_profiles(peers: Iterable[Located[BGPPeer]], profiles: Iterable[Located[BFDProfile]]) -> Iterator[Problem]:
    names = [profile.name for _, profile in profiles]
    for origin, peer in peers:
        if peer.bfd_profile and peer.bfd_profile not in names:
            text = f"there is no BFDProfile {peer.bfd_profile[:80]!r}; {_known(peer.bfd_profile, names, 'create it')}"
            yield origin.problem(_at(peer, "bfdProfile"), text)


def _known(name: str, names: Iterable[str], otherwise: str) -> str:
    known = sorted(set(names))
    close = get_close_matches(name[:80], known, n=1)
    return f"did you mean {close[0]}?" if close else f"{otherwise}, or name one of: {', '.join(known[:10]) or 'none'}"


def _repeated_routers(peers: Iterable[Located[BGPPeer]]) -> Iterator[Problem]:
    """Two sessions of one node with one router, from the same address: the router would keep one and drop the other."""
    seen: dict[tuple[object, ...], list[BGPPeer]] = {}
    for origin, peer in sorted(peers, key=lambda located: located[1].name):
        others = seen.setdefault((peer.router, peer.port, peer.source_address), [])
        rival = next((other for other in others if _certainly_meet(peer.node_selectors, other.node_selectors)), None)
        if rival is not None:
            text = (
                f"{peer.router} port {peer.port} is BGPPeer {rival.name!r} already, on the same nodes; "
                "take one out, or give them different nodeSelectors"
            )
            yield origin.problem(_at(peer, "peerAddress" if peer.address is not None else "interface"), text)
        others.append(peer)


def resolve_communities(advert: BGPAdvertisement, aliases: dict[str, Community]) -> tuple[Community, ...]:
    """The communities of an advertisement, sorted, none twice. A name counts before a literal, as in MetalLB.

    Those that are neither are left out: `problems_of` has told of them.
    """
    found = (_community(text, aliases) for text in advert.community_texts)
    return tuple(sorted({each for each in found if isinstance(each, Community)}))


def _community(text: str, aliases: dict[str, Community]) -> Community | str:
    """A community, or why a text is none."""
    if text in aliases:
        return aliases[text]
    try:
        return parse_literal(text)
    except CommunityError as error:
        return str(error) if ":" in text else _no_community(text, aliases)


def _no_community(text: str, names: Iterable[str]) -> str:
    return f"there is no community {text[:80]!r}; {_known(text, names, 'write 65000:100')}"


def _unknown_communities(
    adverts: Iterable[Located[BGPAdvertisement]], aliases: Iterable[Located[CommunityAlias]]
) -> Iterator[Problem]:
    values = {alias.name: alias.community for _, alias in aliases}
    for origin, advert in adverts:
        path = _at(advert, "communities")
        for index, text in enumerate(advert.community_texts):
            found = _community(text, values)
            if isinstance(found, str):
                yield origin.problem(f"{path}[{index}]", found)
        count = len(resolve_communities(advert, values))
        if count > MOST_COMMUNITIES:
            yield origin.problem(
                path, f"an advertisement can have {MOST_COMMUNITIES} communities, not {count}; take some out"
            )


def _too_many_together(
    adverts: Iterable[Located[BGPAdvertisement]],
    pools: Iterable[Located[Pool]],
    aliases: Iterable[Located[CommunityAlias]],
) -> Iterator[Problem]:
    """Communities of one prefix add up, and a message holds so many."""
    values = {alias.name: alias.community for _, alias in aliases}
    sets = [(located, resolve_communities(located[1], values)) for located in adverts]
    if sum(len(each) for _, each in sets) <= MOST_TOGETHER:
        return
    told: set[str] = set()
    for _, pool in pools:
        together: set[Community] = set()
        for (origin, advert), communities in sorted(sets, key=lambda pair: pair[0][1].name):
            if not advert.selects_pool(pool):
                continue
            together.update(communities)
            if len(together) > MOST_TOGETHER and advert.name not in told:
                told.add(advert.name)
                text = (
                    f"with those of the other BGPAdvertisements of pool {pool.name!r} a route would have "
                    f"{len(together)} communities, and {MOST_TOGETHER} fit into a message; take some out"
                )
                yield origin.problem(_at(advert, "communities"), text)


def _short_aggregates(
    adverts: Iterable[Located[BGPAdvertisement]], pools: Sequence[Located[Pool]]
) -> Iterator[Problem]:
    """An aggregate wider than what the pool was given would draw traffic for addresses of others."""
    lengths = [(pool, each, _shortest_prefix(each)) for _, pool in pools for each in pool.ranges]
    for origin, advert in adverts:
        for family, name in ((Family.IPV4, "aggregationLength"), (Family.IPV6, "aggregationLengthV6")):
            length = advert.length(family)
            if length == family.bits:
                continue
            wide = (
                (pool, each, shortest)
                for pool, each, shortest in lengths
                if each.family is family and length < shortest and advert.selects_pool(pool)
            )
            for pool, each, shortest in wide:
                text = (
                    f"{length} is wider than {each} of pool {pool.name!r}: /{length} holds addresses that are "
                    f"not the pool's; write {shortest} or more"
                )
                yield origin.problem(_at(advert, name), text)
                break


def _shortest_prefix(within: AddressRange) -> int:
    """The prefix length of the largest aligned block inside a range."""
    bits = within.family.bits
    for length in range(bits + 1):
        size = 1 << (bits - length)
        if -(-within.first // size) * size + size - 1 <= within.last:
            return length
    return bits


def _local_pref_conflicts(
    adverts: Iterable[Located[BGPAdvertisement]], pools: Iterable[Located[Pool]]
) -> Iterator[Problem]:
    unconditional = sorted(
        (located for located in adverts if not located[1].service_selectors), key=lambda located: located[1].name
    )
    if len({advert.local_pref for _, advert in unconditional}) < 2:
        return
    told: set[str] = set()
    for _, pool in pools:
        here = [located for located in unconditional if located[1].selects_pool(pool)]
        for index, (origin, advert) in enumerate(here):
            if advert.name in told:
                continue
            rival = next((each for _, each in here[:index] if _conflict(each, advert, pool)), None)
            if rival is not None:
                told.add(advert.name)
                text = (
                    f"{advert.local_pref} contradicts {rival.local_pref} of BGPAdvertisement {rival.name!r} for pool "
                    f"{pool.name!r}; use one value, or other peers, nodeSelectors or aggregation lengths"
                )
                yield origin.problem(_at(advert, "localPref"), text)


def _conflict(one: BGPAdvertisement, other: BGPAdvertisement, pool: Pool) -> bool:
    meet = _certainly_meet(one.node_selectors, other.node_selectors)
    return meet and not local_prefs_agree(one, other, pool.families)


def _echoes_over_ipv6(all_: Gathered) -> Iterator[Problem]:
    echoing = {profile.name for _, profile in all_.bfd_profiles if profile.echo_mode}
    pools = [pool for _, pool in all_.pools if Family.IPV6 in pool.families]
    for origin, peer in all_.bgp_peers:
        if peer.bfd_profile not in echoing:
            continue
        pool = next((pool for pool in pools if _is_announced_to(peer, pool, all_.bgp_advertisements)), None)
        if pool is not None:
            text = (
                f"BFDProfile {peer.bfd_profile!r} has echoMode, which does not work with IPv6, and pool {pool.name!r} "
                "with IPv6 addresses is announced to this peer; name a profile without echoMode"
            )
            yield origin.problem(_at(peer, "bfdProfile"), text)


def _is_announced_to(peer: BGPPeer, pool: Pool, adverts: Iterable[Located[BGPAdvertisement]]) -> bool:
    return any(advert.reaches(peer) and advert.selects_pool(pool) for _, advert in adverts)

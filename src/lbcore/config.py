"""The one whole configuration: documents come in one by one, possibly broken, and are joined.

`build` makes a configuration that is sound as a whole, or says everything that is wrong with it.
What the documents hold stands in `lbcore.resources` and `lbcore.bgp`, and is passed on from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, CommunityAlias
from lbcore.errors import Problem
from lbcore.resources import L2Advertisement, Origin, Pool, PreferredNodes, ServiceAllocation
from lbcore.soundness import Gathered, dangling, problems_of, resolve_communities

__all__ = [
    "BFDProfile",
    "BGPAdvertisement",
    "BGPPeer",
    "CommunityAlias",
    "Config",
    "ConfigDocument",
    "Configuration",
    "InvalidConfig",
    "L2Advertisement",
    "Origin",
    "Pool",
    "PreferredNodes",
    "Resource",
    "ServiceAllocation",
    "build",
]


Resource = Pool | L2Advertisement | BGPPeer | BGPAdvertisement | BFDProfile | CommunityAlias

R = TypeVar("R", bound=Resource)


@frozen(kw_only=True)
class ConfigDocument:
    """One object that configures lbcore, decoded: its resources, or the problems that spoil it.

    An old ConfigMap holds many resources; an IPAddressPool is one.
    """

    origin: Origin
    resources: tuple[Resource, ...] = ()
    problems: tuple[Problem, ...] = ()


@frozen(kw_only=True)
class Config:
    """A configuration that is sound as a whole; everything in it is sorted by name."""

    pools: tuple[Pool, ...] = ()
    l2_advertisements: tuple[L2Advertisement, ...] = ()
    bgp_peers: tuple[BGPPeer, ...] = ()
    bgp_advertisements: tuple[BGPAdvertisement, ...] = ()
    bfd_profiles: tuple[BFDProfile, ...] = ()
    communities: tuple[CommunityAlias, ...] = ()


@frozen(kw_only=True)
class InvalidConfig:
    """Why documents do not make a configuration; the last good one stays in force.

    `dangling` are those of the problems that another object would mend, were it there.
    """

    problems: tuple[Problem, ...]
    dangling: frozenset[Problem] = frozenset()


@frozen(kw_only=True)
class Configuration:
    """The documents as they stand, and the last sound configuration they made: the one in force.

    `current` is None until documents have made a sound one. `problems` is what is wrong with the
    documents now; as long as there are any, `current` stays what it was.
    """

    documents: Map[Origin, ConfigDocument] = field(factory=Map)
    current: Config | None = None
    problems: tuple[Problem, ...] = ()

    def seen(self, document: ConfigDocument) -> Configuration:
        """One document is there, or has changed. Nothing is in force before `settled`."""
        return evolve(self, documents=self.documents.set(document.origin, document))

    def gone(self, origin: Origin) -> Configuration:
        """One document was deleted."""
        if origin not in self.documents:
            return self
        return evolve(self, documents=self.documents.delete(origin))

    def settled(self) -> Configuration:
        """The documents joined: a new configuration in force, or the problems that keep the old one."""
        built = build(self.documents.values())
        if isinstance(built, InvalidConfig):
            return evolve(self, problems=built.problems)
        return evolve(self, current=built, problems=())


def build(documents: Iterable[ConfigDocument]) -> Config | InvalidConfig:
    """Join documents into one configuration, in an order that does not matter.

    Refused as a whole when any document is broken, and for everything that `lbcore.soundness` finds:
    two resources of one kind and name, one address in two ranges, a name that is not there.
    """
    ordered = sorted(documents, key=lambda document: (document.origin, document.origin.source))
    located = [(document.origin, resource) for document in ordered for resource in document.resources]
    all_ = Gathered(
        pools=_of_kind(Pool, located),
        l2_advertisements=_of_kind(L2Advertisement, located),
        bgp_peers=_of_kind(BGPPeer, located),
        bgp_advertisements=_of_kind(BGPAdvertisement, located),
        bfd_profiles=_of_kind(BFDProfile, located),
        aliases=_of_kind(CommunityAlias, located),
        broken=frozenset(document.origin.kind for document in ordered if document.problems),
    )
    problems = [problem for document in ordered for problem in document.problems]
    problems += problems_of(all_)
    if problems:
        return InvalidConfig(problems=tuple(problems), dangling=frozenset(dangling(all_)))
    aliases = {alias.name: alias.community for _, alias in all_.aliases}
    adverts = _by_name(all_.bgp_advertisements)
    return Config(
        pools=_by_name(all_.pools),
        l2_advertisements=_by_name(all_.l2_advertisements),
        bgp_peers=_by_name(all_.bgp_peers),
        bgp_advertisements=tuple(evolve(each, communities=resolve_communities(each, aliases)) for each in adverts),
        bfd_profiles=_by_name(all_.bfd_profiles),
        communities=_by_name(all_.aliases),
    )


def _of_kind(kind: type[R], located: Iterable[tuple[Origin, Resource]]) -> list[tuple[Origin, R]]:
    return [(each.origin or origin, each) for origin, each in located if isinstance(each, kind)]


def _by_name(located: Sequence[tuple[Origin, R]]) -> tuple[R, ...]:
    return tuple(sorted((each for _, each in located), key=lambda each: each.name))

"""A cluster at this moment, through the very brains of the daemons, with nothing written: for `get` and `explain`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import evolve, frozen

from lbcore import announcement, assignment, routing
from lbcore.adapters.kubernetes.announced import Announced
from lbcore.adapters.kubernetes.documents import Ignored, Refused
from lbcore.adapters.kubernetes.served import ingress_resources
from lbcore.adapters.views import View, waiting
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.files import FilesCluster
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.listing import Listing, Reader
from lbcore.backends.members import MemberFolder
from lbcore.backends.statuses import STATUS_FOLDER, read_gossip
from lbcore.daemons.planning import settle
from lbcore.duties import announcers
from lbcore.errors import Problem
from lbcore.events import Event, Kind, LinksSeen, Listed, ManifestRefused, MembersSeen, NodeSeen
from lbcore.intents import Intent
from lbcore.model import ServiceKey
from lbcore.routing import RoutingSettings, RoutingState

__all__ = [
    "GOSSIP",
    "NO_LEASES",
    "LiveCluster",
    "Snapshot",
    "known_nodes",
    "list_cluster",
    "list_folder",
    "list_routing",
    "list_views",
    "living_members",
    "member_folder",
    "take",
]

NO_LEASES = (
    "no speaker keeps a Lease in namespace {} (MetalLB's do not, or none runs); every Node counts as one with a speaker"
)
GOSSIP = "the speakers gossip, and the folder does not tell which of them live; every Node counts as one with a speaker"
_WATCH = 0.25  # seconds between two looks at the member records: a living speaker writes every 0.1 s
_KINDS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.NAMESPACES, Kind.CONFIG})


@frozen(kw_only=True)
class Snapshot:
    """What a controller and a speaker would know now, and the manifests that could not be read.

    `announced` is what the speakers of an API server say that they do (None: a folder, where none says so), and
    `speakers_known` whether it tells which live (else every Node counts as one with a speaker); `views` are what its
    speakers see of each other where they gossip.
    """

    assignment: AssignmentState
    announcement: AnnouncementState
    refused: tuple[ManifestRefused, ...]
    announced: tuple[Announced, ...] | None = None
    speakers_known: bool = True
    views: tuple[View, ...] = ()

    def announcers(self) -> Mapping[ServiceKey, tuple[str, ...]]:
        """By Service the nodes that announce it, those of Layer 2 first: as they say, or as they are to."""
        if self.announced is None:
            return announcers(self.announcement)
        said: dict[ServiceKey, dict[str, None]] = {}
        for each in self.announced:
            said.setdefault(each.service, {})[each.node] = None
        return {key: tuple(nodes) for key, nodes in said.items()}


@frozen(kw_only=True)
class LiveCluster:
    """What an API server has, its objects as events and as they came; `members` None: no speaker keeps a Lease.
    `views` are what speakers that gossip see of each other.
    """

    listing: Listing
    members: frozenset[str] | None
    announced: tuple[Announced, ...]
    views: tuple[View, ...] = ()

    @property
    def events(self) -> list[Event]:
        """Its first list."""
        entries = (each for each in self.listing.entries() if not isinstance(each, Ignored))
        seen: list[Event] = [each.event if isinstance(each, Refused) else each for each in entries]
        return [*seen, *(Listed(kind) for kind in sorted(_KINDS, key=lambda kind: kind.value))]


def member_folder(folder: Path) -> Path:
    """Where the speakers of a folder's cluster keep their records."""
    return folder / STATUS_FOLDER / "members"


def _tell_nobody(_kind: str, _count: int) -> None:
    """Progress that nobody waits for."""


async def list_cluster(
    access: Access, tell: Callable[[str, int], None] = _tell_nobody, *, announcing: bool = True
) -> LiveCluster:
    """One list of each kind; with `announcing` also what who announces depends on. Raises `LbcoreError`."""
    async with Reader(access, tell=tell) as reader:
        listing = await reader.objects(_KINDS if announcing else assignment.NEEDS)
        if not announcing:
            return LiveCluster(listing=listing, members=frozenset(), announced=())
        members, views = await reader.speakers()
        return LiveCluster(listing=listing, members=members, views=views, announced=await reader.announced())


async def list_views(access: Access, tell: Callable[[str, int], None] = _tell_nobody) -> LiveCluster:
    """Who the speakers are, and what they see of each other; nothing else. Raises `LbcoreError`."""
    async with Reader(access, tell=tell) as reader:
        members, views = await reader.speakers()
        return LiveCluster(listing=Listing(objects=()), members=members, views=views, announced=())


async def take(
    place: Path | Access,
    load_balancer_class: str | None = None,
    tell: Callable[[str, int], None] = _tell_nobody,
    *,
    announcing: bool = True,
) -> Snapshot:
    """Read a cluster once, see which speakers live, and let both brains think it through. Raises `LbcoreError`.

    Without `announcing` less is asked of an API server, and who announces is not known of it.
    """
    if isinstance(place, Path):
        members, events = await asyncio.gather(living_members(place), list_folder(place))
        return _snapshot(events, members, load_balancer_class)
    live = await list_cluster(place, tell, announcing=announcing)
    snapshot = _snapshot(live.events, live.members, load_balancer_class, live.views)
    return evolve(snapshot, announced=live.announced)


def _snapshot(
    events: Iterable[Event],
    members: frozenset[str] | None,
    load_balancer_class: str | None,
    views: tuple[View, ...] = (),
) -> Snapshot:
    """`members` None: which speakers live is not known."""
    events, known = list(events), members is not None
    if members is None:
        members = frozenset(event.node.name for event in events if isinstance(event, NodeSeen))
    chosen = AnnouncementSettings(node="", load_balancer_class=load_balancer_class)
    waits = waiting(views, members)
    seen = MembersSeen(members - waits, waits)
    others: list[Event] = [LinksSeen(()), seen, Listed(Kind.LINKS), Listed(Kind.MEMBERS)]
    return Snapshot(
        assignment=settle(
            assignment.step,
            AssignmentState(settings=AssignmentSettings(load_balancer_class=load_balancer_class)),
            events,
            lambda state: state.settled,
        )[0],
        announcement=settle(
            announcement.step,
            AnnouncementState(settings=chosen),
            [*others, *events],
            lambda state: state.settled,
        )[0],
        refused=tuple(event for event in events if isinstance(event, ManifestRefused)),
        speakers_known=known,
        views=views,
    )


async def list_routing(
    place: Path | Access, settings: RoutingSettings, tell: Callable[[str, int], None] = _tell_nobody
) -> tuple[RoutingState, list[Intent], tuple[Problem, ...]]:
    """What the Ingress controller would make of a folder or of what an API server has, what it would say, and what is
    wrong with those manifests that it cannot read.

    Of an API server no Secret is read. Raises `LbcoreError`.
    """
    needs = routing.needs(settings)
    if isinstance(place, Path):
        events = await list_folder(place, needs)
    else:
        resources = ingress_resources(
            namespace=settings.namespace,
            config_map=settings.config_map,
            maps=tuple(key for _, key in settings.streams.maps),
            all_maps=False,
        )
        async with Reader(place, tell=tell) as reader:
            listing = await reader.of(each for each in resources if each.kind in needs - {Kind.SECRETS})
        entries = (each for each in listing.entries() if not isinstance(each, Ignored))
        events = [each.event if isinstance(each, Refused) else each for each in entries]
        events += [Listed(kind) for kind in sorted(needs, key=lambda kind: kind.value)]
    state, said = settle(routing.step, RoutingState(settings=settings), events, lambda state: state.settled)
    return state, said, tuple(each.problem for each in events if isinstance(each, ManifestRefused))


async def list_folder(folder: Path, kinds: frozenset[Kind] = _KINDS) -> list[Event]:
    """Every event of a folder's first list, statuses beside the manifests included."""
    events: list[Event] = []
    missing = set(kinds)
    source = FilesCluster(folder).source(kinds).events()
    try:
        async for event in source:
            events.append(event)
            if isinstance(event, Listed):
                missing.discard(event.kind)
            if not missing:
                break
    finally:
        await source.aclose()
    return events


def known_nodes(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The names of a folder's Nodes, and of those that their manifest drains."""
    nodes = [
        event.node for event in asyncio.run(list_folder(folder, frozenset({Kind.NODES}))) if isinstance(event, NodeSeen)
    ]
    return frozenset(node.name for node in nodes), frozenset(node.name for node in nodes if node.drained)


async def living_members(folder: Path) -> frozenset[str] | None:
    """A folder's nodes whose record changes while we look: no clock of theirs is asked. None: they keep no records."""
    if read_gossip(folder):
        return None
    records = member_folder(folder)
    if not records.is_dir():
        return frozenset()
    members = MemberFolder(records)
    before = members.read()
    await asyncio.sleep(_WATCH)
    return frozenset(name for name, record in members.read().items() if before.get(name) != record)

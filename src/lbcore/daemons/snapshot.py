"""A cluster at this moment, through the very brains of the daemons, with nothing written: for `get` and `explain`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attrs import frozen

from lbcore import announcement, assignment, routing
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.files import FilesCluster
from lbcore.backends.members import MemberFolder
from lbcore.backends.statuses import STATUS_FOLDER
from lbcore.daemons.planning import settle
from lbcore.events import Event, Kind, LinksSeen, Listed, ManifestRefused, MembersSeen
from lbcore.intents import Intent
from lbcore.routing import RoutingSettings, RoutingState

__all__ = ["Snapshot", "list_folder", "list_routing", "member_folder", "take"]

_WATCH = 0.25  # seconds between two looks at the member records: a living speaker writes every 0.1 s
_KINDS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.NAMESPACES, Kind.CONFIG})


@frozen(kw_only=True)
class Snapshot:
    """What a controller and a speaker would know now, and the manifests that could not be read."""

    assignment: AssignmentState
    announcement: AnnouncementState
    refused: tuple[ManifestRefused, ...]


def member_folder(folder: Path) -> Path:
    """Where the speakers of a folder's cluster keep their records."""
    return folder / STATUS_FOLDER / "members"


async def take(folder: Path, load_balancer_class: str | None = None) -> Snapshot:
    """Read a folder once, see which speakers live, and let both brains think it through."""
    members, events = await asyncio.gather(_living(folder), list_folder(folder))
    chosen = AnnouncementSettings(node="", load_balancer_class=load_balancer_class)
    others: list[Event] = [LinksSeen(()), MembersSeen(members), Listed(Kind.LINKS), Listed(Kind.MEMBERS)]
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
    )


async def list_routing(folder: Path, settings: RoutingSettings) -> tuple[RoutingState, list[Intent]]:
    """What the Ingress controller would make of a folder, and what it would say."""
    events = await list_folder(folder, routing.NEEDS)
    return settle(routing.step, RoutingState(settings=settings), events, lambda state: state.settled)


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


async def _living(folder: Path) -> frozenset[str]:
    """Nodes whose record changes while we look: no clock of theirs is asked."""
    records = member_folder(folder)
    if not records.is_dir():
        return frozenset()
    members = MemberFolder(records)
    before = members.read()
    await asyncio.sleep(_WATCH)
    return frozenset(name for name, record in members.read().items() if before.get(name) != record)

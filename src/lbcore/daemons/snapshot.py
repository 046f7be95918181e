"""A cluster at this moment, through the very brains of the daemons, with nothing written: for `get` and `explain`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from lbcore import announcement, assignment
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.files import FilesCluster
from lbcore.backends.members import MemberFolder
from lbcore.backends.statuses import STATUS_FOLDER
from lbcore.brain import Brain
from lbcore.events import Event, Kind, LinksSeen, Listed, ManifestRefused, MembersSeen, Tick

__all__ = ["Snapshot", "member_folder", "take"]

S = TypeVar("S")

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
    members, events = await asyncio.gather(_living(folder), _list(FilesCluster(folder)))
    chosen = AnnouncementSettings(node="", load_balancer_class=load_balancer_class)
    others: list[Event] = [LinksSeen(()), MembersSeen(members), Listed(Kind.LINKS), Listed(Kind.MEMBERS)]
    return Snapshot(
        assignment=_think(
            assignment.step,
            AssignmentState(settings=AssignmentSettings(load_balancer_class=load_balancer_class)),
            events,
            lambda state: state.settled,
        ),
        announcement=_think(
            announcement.step,
            AnnouncementState(settings=chosen),
            [*others, *events],
            lambda state: state.settled,
        ),
        refused=tuple(event for event in events if isinstance(event, ManifestRefused)),
    )


def _think(brain: Brain[S], state: S, events: list[Event], is_settled: Callable[[S], bool]) -> S:
    now = 0.0
    for event in events:
        state = brain(state, event, now).state
    step = brain(state, Tick(), now)
    while step.wake_at is not None and not is_settled(step.state):
        now = max(now, step.wake_at)
        step = brain(step.state, Tick(), now)
    return step.state


async def _list(cluster: FilesCluster) -> list[Event]:
    events: list[Event] = []
    missing = set(_KINDS)
    source = cluster.source(_KINDS).events()
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

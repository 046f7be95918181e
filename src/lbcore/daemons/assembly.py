"""Which brain, which sources, which sinks: the whole of each daemon on one page.

A new announcer or a new kind of cluster is one line here. Time and dice are made here too, and
handed down.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from lbcore import announcement, assignment
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.base import Sink
from lbcore.backends.files import FilesCluster
from lbcore.backends.netlink import NetlinkLinks
from lbcore.backends.reflex import Reflex, ReflexSettings
from lbcore.daemons.carrier import Carrier, Outlet
from lbcore.daemons.loop import Loop
from lbcore.daemons.observe import Log, log_observer
from lbcore.events import Applied, Failed, Kind
from lbcore.intents import Intent, RecordEvent, ReportConfig

__all__ = ["SpeakerParts", "controller", "open_cluster", "speaker"]

_SPEAKER_READS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG})


class _Spoken:
    """Where intents go that only the log needs to hear: a speaker writes nothing into a folder of manifests."""

    handles: tuple[type[Intent], ...] = (RecordEvent, ReportConfig)

    async def apply(self, intent: Intent) -> Applied | Failed:
        """The observer has said it already."""
        return Applied(intent)


def open_cluster(folder: Path, log: Log) -> FilesCluster:
    """The cluster in a folder; documents that have no effect are named in the log, once."""
    return FilesCluster(
        folder, on_note=lambda ignored: log.info("manifest not read", object=ignored.about, why=ignored.note)
    )


def controller(cluster: FilesCluster, settings: AssignmentSettings, log: Log) -> Carrier[AssignmentState]:
    """The controller: everything that is decided about addresses, written back to the cluster."""
    outlets = (Outlet.to("cluster", cluster.sink, concurrency=8),)
    loop = Loop(
        assignment.step,
        AssignmentState(settings=settings),
        [outlet.lane for outlet in outlets],
        random.Random(),
    )
    return Carrier(
        loop=loop,
        sources=(cluster.source(assignment.NEEDS),),
        outlets=outlets,
        is_stopped=lambda _: True,
        is_settled=lambda state: state.settled,
        observers=(log_observer(log),),
    )


@frozen
class SpeakerParts:
    """A speaker, and the reflex process that is to be told when it ends."""

    carrier: Carrier[AnnouncementState]
    reflex: Reflex


def speaker(
    cluster: FilesCluster, settings: AnnouncementSettings, reflex_settings: ReflexSettings, log: Log
) -> SpeakerParts:
    """The speaker: what this node announces, carried out by its reflex process."""
    say: Callable[[str], None] = log.warning
    reflex = Reflex(reflex_settings, say=say)
    spoken: Sink = _Spoken()
    outlets = (
        Outlet.to("reflex", reflex, concurrency=256),
        Outlet.to("spoken", spoken, concurrency=256),
    )
    loop = Loop(
        announcement.step,
        AnnouncementState(settings=settings),
        [outlet.lane for outlet in outlets],
        random.Random(),
    )
    carrier = Carrier(
        loop=loop,
        sources=(cluster.source(_SPEAKER_READS), NetlinkLinks(say=say), reflex),
        outlets=outlets,
        is_stopped=lambda state: state.stopped,
        is_settled=lambda state: state.settled,
        observers=(log_observer(log),),
    )
    return SpeakerParts(carrier, reflex)

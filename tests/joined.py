"""A controller and speakers, loops and all, over one cluster in memory and under one clock that jumps.

Nothing here is a stand-in: `Loop`, both brains and `MemoryCluster` are what the daemons run. Only asyncio
and the wire are left out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import attrs

from lbcore import announcement, assignment
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.memory import MemoryCluster, MemorySource
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Loop
from lbcore.events import AddressHeard, AnsweringSeen, Applied, Event, Failed, Kind, LinksSeen, Listed, MembersSeen
from lbcore.intents import (
    AdvertiseRoute,
    Announce,
    Intent,
    LoseSession,
    RecordEvent,
    ReportConfig,
    ReportPeer,
    ReportWithheld,
    SetLinks,
    SetPeers,
    SetPresence,
    SetSessions,
    SetWatches,
    Withdraw,
    WithdrawRoute,
)
from worlds import link

__all__ = ["Daemon", "Following", "House"]

REFLEX = (Announce, Withdraw, SetLinks, SetPeers, SetWatches, SetPresence)

SPEAKER_READS = (Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG)
LINKS = (link("eth0", 2),)
Trace = Callable[[str, object], None]


class Following:
    """A source of the cluster, read for as long as it has something to tell, and no longer."""

    def __init__(self, source: MemorySource, runner: asyncio.Runner) -> None:
        self._events = source.events()
        self._runner = runner
        self._next: asyncio.Task[Event] | None = None

    def read(self) -> list[Event]:
        """Everything that is there now."""
        return self._runner.get_loop().run_until_complete(
            self._read()
        )  # `run` minds signals, which takes ten times as long

    async def _read(self) -> list[Event]:
        found: list[Event] = []
        while True:
            if self._next is None:
                self._next = asyncio.ensure_future(anext(self._events))
            await asyncio.sleep(0)
            if not self._next.done():
                return found
            found.append(self._next.result())
            self._next = None


@attrs.define
class Daemon:
    """One loop with its source, and what carries its intents out: a Failed outcome, or None for success."""

    name: str
    loop: Loop[AssignmentState] | Loop[AnnouncementState]
    source: Following
    carry_out: Callable[[Intent], Failed | None]

    def turn(self, now: float, trace: Trace) -> bool:
        """Take in what is there and do what is due; whether there was anything."""
        for event in self.source.read():
            self.loop.receive(event)
        deadline = self.loop.deadline
        if deadline is None or deadline > now:
            return False
        turn = self.loop.tick(now)
        for intent in turn.intents:
            trace(self.name, intent)
        for dispatch in turn.dispatches:
            outcome = self.carry_out(dispatch.intent)
            self.loop.done(dispatch.lane, outcome or Applied(dispatch.intent), now)
        return True


class House:
    """The cluster, its daemons, and who answers for what on the segment."""

    def __init__(self, rng: random.Random, failing: float = 0.05) -> None:
        self.rng = rng
        self.failing = failing
        self.now = 0.0
        self.trace: list[str] = []
        self.cluster = MemoryCluster()
        self._runner = asyncio.Runner()
        self.daemons: dict[str, Daemon] = {}
        self.answering: dict[str, dict[Address, tuple[str, ...]]] = {}
        self.members: set[str] = set()
        self.start_controller()

    def close(self) -> None:
        """Give back the sources."""
        self._runner.close()

    def follow(self, kinds: Iterable[Kind]) -> Following:
        """The objects of some kinds, from the beginning."""
        return Following(self.cluster.source(kinds), self._runner)

    def start_controller(self) -> None:
        """Start it, or start it again."""
        lanes = [Lane(name="cluster", handles=self.cluster.sink.handles, concurrency=2)]
        settings = AssignmentSettings(slice_size=7)
        loop = Loop(assignment.step, AssignmentState(settings=settings), lanes, random.Random(self.rng.random()))
        source = self.follow(assignment.NEEDS)
        self.daemons["controller"] = Daemon("controller", loop, source, self._write)

    def _write(self, intent: Intent) -> Failed | None:
        outcome = self._runner.get_loop().run_until_complete(self.cluster.sink.apply(intent))
        return outcome if isinstance(outcome, Failed) else None

    def start_speaker(self, name: str) -> None:
        """Start one, or start it again beside the answering process it left."""
        lanes = [
            Lane(name="reflex", handles=REFLEX, concurrency=4),
            Lane(name="bgp", handles=(SetSessions, LoseSession, AdvertiseRoute, WithdrawRoute)),  # no router is there
            Lane(name="spoken", handles=(RecordEvent, ReportConfig, ReportPeer, ReportWithheld)),
        ]
        state = AnnouncementState(settings=AnnouncementSettings(node=name, effort=200))
        loop = Loop(announcement.step, state, lanes, random.Random(self.rng.random()))
        source = self.follow(SPEAKER_READS)
        self.daemons[name] = Daemon(name, loop, source, lambda intent: self._answer(name, intent))
        found = self.answering.setdefault(name, {})
        loop.receive(AnsweringSeen(tuple(sorted(found.items()))))
        for event in (LinksSeen(LINKS), MembersSeen(frozenset(self.members)), Listed(Kind.LINKS), Listed(Kind.MEMBERS)):
            loop.receive(event)

    def _answer(self, name: str, intent: Intent) -> Failed | None:
        mine = self.answering.get(name)
        if mine is None or self.rng.random() < self.failing:
            return Failed(intent=intent, message="the answering process is away")
        match intent:
            case Announce(address=address, interfaces=interfaces):
                mine[address] = interfaces
                for other in sorted(self.answering):
                    if other != name and address in self.answering[other]:
                        self.daemons[other].loop.receive(AddressHeard(address=address, mac=bytes(6), link="eth0"))
            case Withdraw(address=address):
                mine.pop(address, None)
            case SetPresence(present=True):
                self._set_members(self.members | {name})
            case SetPresence():
                self._set_members(self.members - {name})
            case _:
                pass
        return None

    def _set_members(self, names: set[str]) -> None:
        self.members = names
        for name in sorted(self.answering):
            self.daemons[name].loop.receive(MembersSeen(frozenset(names)))

    def lose(self, name: str) -> None:
        """A node loses its power."""
        del self.daemons[name], self.answering[name]
        self._set_members(self.members - {name})

    def run(self, seconds: float) -> None:
        """Let everybody do what is due, in any order, for so long."""
        end = self.now + seconds
        for _ in range(100_000):
            names = sorted(self.daemons)
            self.rng.shuffle(names)
            busy = [self.daemons[name].turn(self.now, self._note) for name in names]
            if any(busy):
                continue
            for name in [each for each in names if self._has_stopped(each)]:
                del self.daemons[name], self.answering[name]
            times = [daemon.loop.deadline for daemon in self.daemons.values()]
            due = min((time for time in times if time is not None), default=end)
            if due >= end:
                self.now = end
                return
            self.now = max(self.now, due)
        raise AssertionError("the house does not come to rest")

    def _has_stopped(self, name: str) -> bool:
        state = self.daemons[name].loop.state
        return isinstance(state, AnnouncementState) and state.stopped and self.daemons[name].loop.idle

    def _note(self, name: str, intent: object) -> None:
        self.trace.append(f"{self.now:.6f} {name} {intent!r}")

    @property
    def announcers(self) -> dict[Address, list[str]]:
        """For each address the nodes that answer for it."""
        found: dict[Address, list[str]] = {}
        for name in sorted(self.answering):
            for address in self.answering[name]:
                found.setdefault(address, []).append(name)
        return found

"""A pretend node: a machine with a network interface, a speaker and its reflex process.

They start, stop, crash, freeze and return as their real ones do: the speaker is born anew from
nothing, the reflex process outlives it for `SILENCE` seconds, and the next speaker finds it again.
"""

from __future__ import annotations

import random
from functools import partial

from attrs import define, field

from lbcore import announcement
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Dispatch, Turn
from lbcore.events import AnsweringSeen, Applied, Event, Failed, Kind, LinksSeen, Listed, MembersSeen, Stopping
from lbcore.intents import (
    AdvertiseRoute,
    Announce,
    AnnounceAnew,
    Intent,
    LoseSession,
    RecordEvent,
    ReportConfig,
    ReportPeer,
    SetLinks,
    SetPeers,
    SetPresence,
    SetSessions,
    SetWatches,
    StandBy,
    Withdraw,
    WithdrawRoute,
)
from lbcore.model import Link
from lbcore.simulation.daemon import Daemon
from lbcore.simulation.fabric import Fabric
from lbcore.simulation.network import ApiLink
from lbcore.simulation.node_routes import NodeRoutes
from lbcore.simulation.reflex import Reflex, ReflexWiring

__all__ = ["LINK", "SILENCE", "Node"]

SILENCE = 5.0  # seconds without a speaker after which a reflex process lets go
LINK = "eth0"
_INDEX = 2
_LOCAL = 0.0002  # seconds for a message between a speaker and its reflex process
_BIRTH = 0.3  # seconds until a new reflex process listens
_REMEMBERED = (SetLinks, SetPeers, SetPresence, SetWatches)
_KINDS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG})


@define(eq=False)
class Node:
    """A machine with a network interface, a speaker and a reflex process."""

    name: str
    fabric: Fabric
    mac: bytes
    refresh: float | None
    config_quiet: float = 0.1
    frozen: bool = False
    carrier: bool = True
    api_cut: bool = False
    routes: NodeRoutes | None = None  # its sessions with routers, if the cluster has any
    speaker: Daemon[AnnouncementState] | None = field(default=None, init=False)
    reflex: Reflex | None = field(default=None, init=False)
    _link: ApiLink | None = field(default=None, init=False)
    _births: int = field(default=0, init=False)
    _listed: bool = field(default=False, init=False)
    _connected: bool = field(default=False, init=False)
    _remembered: dict[type[Intent], Intent] = field(factory=dict, init=False)
    _backlog: list[bytes] = field(factory=list, init=False)
    _alone_since: float | None = field(default=None, init=False)
    _frozen_at: float = field(default=0.0, init=False)
    _dice: random.Random = field(init=False)

    @_dice.default
    def _throw(self) -> random.Random:
        return self.fabric.dice()

    # The machine

    def crash(self) -> None:
        """The power is gone."""
        self.fabric.trace.add(self.name, "crashed")
        self._end_reflex(politely=False)
        if self.routes is not None:
            self.routes.crash()
        self._end_speaker()
        self.frozen = False
        self._backlog.clear()

    def freeze(self) -> None:
        """Nothing runs any more, nothing is lost."""
        self.fabric.pulse.rouse()
        self.fabric.trace.add(self.name, "frozen")
        self.frozen = True
        self._frozen_at = self.fabric.clock.now
        if self.routes is not None:
            self.routes.freeze()
        if self.speaker is not None:
            self.speaker.freeze()

    def thaw(self) -> None:
        """Everything goes on where it was, with what has arrived since; a reflex process that looks at its
        clock before it hears its parent believes that it was left alone.
        """
        if not self.frozen:
            return
        self.fabric.pulse.rouse()
        self.fabric.trace.add(self.name, "thawed")
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        if self.reflex is not None:
            self.reflex.wake()
            for frame in backlog:
                self.reflex.take_frame(frame, _INDEX)
        if self.routes is not None:
            self.routes.thaw()
        if self.speaker is not None:
            self.speaker.thaw()
        if self.reflex is not None and self.fabric.clock.now - self._frozen_at >= SILENCE and self._dice.random() < 0.5:
            self.fabric.trace.add(self.name, "reflex leaves: no speaker was heard")
            self._end_reflex(politely=True)
            if self.speaker is not None:
                self.fabric.clock.after(_BIRTH, self._give_birth, self.speaker)

    def set_carrier(self, *, up: bool) -> None:
        """Pull the cable, or put it back."""
        if self.carrier == up:
            return
        self.carrier = up
        if self.routes is not None:
            self.routes.set_cable(plugged=up)
        if self.speaker is not None:
            self._tell_links(self.speaker)

    # The speaker

    def start(self) -> None:
        """A new speaker, that knows nothing; it finds the reflex process or makes one."""
        if self.speaker is not None:
            return
        fabric = self.fabric
        speaker: Daemon[AnnouncementState] = Daemon(
            self.name,
            announcement.step,
            AnnouncementState(
                settings=AnnouncementSettings(node=self.name, config_quiet=self.config_quiet, stands_by=True)
            ),
            [
                Lane(name="reflex", handles=(*_REMEMBERED, Announce, AnnounceAnew, StandBy, Withdraw), concurrency=256),
                Lane(name="spoken", handles=(RecordEvent, ReportConfig, ReportPeer), concurrency=256),
                Lane(name="bgp", handles=(SetSessions, LoseSession, AdvertiseRoute, WithdrawRoute), concurrency=256),
            ],
            clock=fabric.clock,
            trace=fabric.trace,
            rng=fabric.dice(),
            carry_out=lambda dispatch: self._carry_out(speaker, dispatch),
            after_turn=lambda turn: self._after_turn(speaker, turn),
        )
        self.speaker = speaker
        if self.routes is not None:
            self.routes.begin(speaker.receive)
        self._link = fabric.connect(_KINDS, speaker.receive)
        if self.api_cut:
            self._link.cut()
        self._listed = False
        self._remembered = {}
        fabric.trace.add(self.name, "speaker started")
        self._tell_links(speaker)
        speaker.receive(Listed(Kind.LINKS))
        self._connect(speaker)

    def crash_speaker(self) -> None:
        """The speaker's process is gone; the reflex process answers on."""
        self.fabric.trace.add(self.name, "speaker crashed")
        self._end_speaker()
        if self.reflex is not None:
            self._alone_since = self.fabric.clock.now
            self.fabric.clock.after(SILENCE, self._mind_silence, self.reflex, self._alone_since)

    def stop_speaker(self) -> None:
        """Ask the speaker to hand over and end."""
        if self.speaker is not None:
            self.speaker.receive(Stopping())

    def cut_api(self) -> None:
        """The API server is out of reach."""
        self.api_cut = True
        if self._link is not None:
            self._link.cut()

    def heal_api(self) -> None:
        """The API server is within reach."""
        self.api_cut = False
        if self._link is not None:
            self._link.heal()

    def disconnect(self, number: int) -> None:
        """One of the speaker's watches breaks and comes again."""
        if self._link is not None:
            self._link.disconnect(number)

    def _end_speaker(self) -> None:
        if self.speaker is not None and self._link is not None:
            self.speaker.kill()
            self._link.close()
            if self.routes is not None:
                self.routes.die()
        self.speaker = self._link = None
        self._connected = False

    def _after_turn(self, speaker: Daemon[AnnouncementState], _turn: Turn) -> None:
        state = speaker.loop.state
        if state.stop_at is None or speaker is not self.speaker:
            return
        if state.stopped and (speaker.loop.idle or self.fabric.clock.now > state.stop_at):
            self.fabric.trace.add(self.name, "speaker stopped")
            if self.routes is not None:
                self.routes.stop()
            self._end_speaker()
            self._end_reflex(politely=True)

    def _tell_links(self, speaker: Daemon[AnnouncementState]) -> None:
        link_local = Address.parse(f"fe80::{int.from_bytes(self.mac[-2:], 'big'):x}")
        link = Link(index=_INDEX, name=LINK, mac=self.mac, carrier=self.carrier, link_local=link_local)
        speaker.receive(LinksSeen((link,)))

    # Between the two processes

    def _connect(self, speaker: Daemon[AnnouncementState]) -> None:
        if self.reflex is None:
            self.fabric.clock.after(_BIRTH, self._give_birth, speaker)
        else:
            self._greet(speaker)

    def _give_birth(self, speaker: Daemon[AnnouncementState]) -> None:
        if speaker is not self.speaker or self.reflex is not None:
            return
        if self.frozen:
            self.fabric.clock.after(_BIRTH, self._give_birth, speaker)
            return
        fabric = self.fabric
        wiring = ReflexWiring(
            fabric.clock,
            fabric.trace,
            fabric.records,
            fabric.pulse,
            send=self._send,
            report=self._report,
            is_running=lambda: not self.frozen,
            gossip=None if fabric.gossip is None else partial(fabric.gossip.join, self),
        )
        self._births += 1
        watching = self.routes.watch(self._report_soon) if self.routes is not None else None
        self.reflex = Reflex(self.name, wiring, fabric.dice(), refresh=self.refresh, watching=watching)
        fabric.trace.add(self.name, "reflex started")
        fabric.pulse.join(self.reflex)
        self._greet(speaker)

    def _greet(self, speaker: Daemon[AnnouncementState]) -> None:
        """A connection begins: what was commanded once and for all is said again, then what is answered for is told."""
        assert self.reflex is not None
        self._alone_since = None
        self._connected = True
        self.reflex.understudy.clear()  # this speaker will say its own
        for intent in self._remembered.values():
            self.fabric.clock.after(_LOCAL, self._say_again, self.reflex, intent)
        speaker.receive(AnsweringSeen(self.reflex.responder.answering))
        if self.reflex.seen is not None:
            self._report(self.reflex.seen)
        if self.reflex.watching is not None:
            self.reflex.watching.recount()

    def _say_again(self, reflex: Reflex, intent: Intent) -> None:
        if reflex is self.reflex:
            reflex.obey(intent)

    def crash_reflex(self) -> None:
        """The reflex process is gone; its speaker makes another."""
        self.fabric.trace.add(self.name, "reflex crashed")
        self._end_reflex(politely=False)
        if self.speaker is not None:
            self.fabric.clock.after(_BIRTH, self._give_birth, self.speaker)

    def _end_reflex(self, *, politely: bool) -> None:
        reflex, self.reflex = self.reflex, None
        self._connected = False
        if reflex is not None:
            reflex.end(politely=politely)

    def _mind_silence(self, reflex: Reflex, since: float) -> None:
        if reflex is self.reflex and self._alone_since == since and not self.frozen:
            self.fabric.trace.add(self.name, "reflex leaves: no speaker was heard")
            self._end_reflex(politely=True)

    def _carry_out(self, speaker: Daemon[AnnouncementState], dispatch: Dispatch) -> None:
        intent, lane = dispatch.intent, dispatch.lane
        clock = self.fabric.clock
        if lane == "spoken":
            clock.after(_LOCAL, speaker.done, lane, Applied(intent))
            return
        if lane == "bgp":
            assert self.routes is not None
            clock.after(_LOCAL, self._route, self.routes, speaker, lane, intent)
            return
        if isinstance(intent, _REMEMBERED):
            self._remembered[type(intent)] = intent
        if self.reflex is None or not self._connected:
            clock.after(_LOCAL, speaker.done, lane, Failed(intent=intent, message="the reflex process is away"))
            return
        clock.after(_LOCAL, self._obey, self.reflex, speaker, lane, intent)

    def _route(self, routes: NodeRoutes, speaker: Daemon[AnnouncementState], lane: str, intent: Intent) -> None:
        if speaker is not self.speaker:
            return
        if self.frozen:
            self.fabric.clock.after(0.05, self._route, routes, speaker, lane, intent)
            return
        routes.apply(intent)
        speaker.done(lane, Applied(intent))

    def _obey(self, reflex: Reflex, speaker: Daemon[AnnouncementState], lane: str, intent: Intent) -> None:
        if reflex is not self.reflex:
            outcome: Applied | Failed = Failed(intent=intent, message="the reflex process went away")
        elif self.frozen:
            self.fabric.clock.after(0.05, self._obey, reflex, speaker, lane, intent)
            return
        else:
            reflex.obey(intent)
            outcome = Applied(intent)
        self.fabric.clock.after(_LOCAL, speaker.done, lane, outcome)

    def _report_soon(self, event: Event) -> None:
        self.fabric.clock.after(_LOCAL, self._report, event)

    def _report(self, event: Event) -> None:
        if self.speaker is None or not self._connected:
            return
        self.speaker.receive(event)
        if isinstance(event, MembersSeen):
            self.fabric.trace.add(self.name, f"members {','.join(sorted(event.names))}")
            if not self._listed:
                self._listed = True
                self.speaker.receive(Listed(Kind.MEMBERS))

    # The wire

    @property
    def hears(self) -> bool:
        """Whether the cable is in, and somebody listens."""
        return self.carrier and self.reflex is not None

    def take_frame(self, frame: bytes) -> None:
        """A frame has arrived."""
        if self.frozen:
            if len(self._backlog) < 200:  # a socket's buffer has an end
                self._backlog.append(frame)
        elif self.reflex is not None:
            self.reflex.take_frame(frame, _INDEX)

    def answer(self, frame: bytes) -> list[bytes]:
        """What this node says to a frame, now; a group's frame reaches only a member of the group."""
        if self.frozen or self.reflex is None:
            return []
        if frame[:2] == b"\x33\x33":
            groups = {group.packed[-4:] for group in self.reflex.responder.groups(_INDEX)}
            if frame[2:6] not in groups:
                return []
        return self.reflex.answer(frame, _INDEX)

    def _send(self, frame: bytes) -> None:
        if self.carrier:
            self.fabric.segment.send(self, frame)

"""BFD on the virtual clock: what `backends.bfd` is to sockets, and the peace that spares its packets.

Sessions that are up say the same a few times a second, and nothing comes of it. While all is well and nobody's life
is in doubt they are silent, and before anything happens to one of them each hears the other's last packet once
more, so that they are found as if they had never stopped (as `reflex.Pulse` has it for heartbeats).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from attrs import define, field

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bfd.engine import BfdEngine, BfdOutput, Origin, Way
from lbcore.addresses import Address
from lbcore.bfd import BfdState, Watch, WatchStatus
from lbcore.events import WatchSeen
from lbcore.simulation.clock import Clock
from lbcore.simulation.network import Weather

__all__ = ["Peace", "Watching"]

_UNREST = 3.0  # seconds after which whatever happened has been noticed, or shows in a session that is not up
_BOTH_UP = (BfdState.UP, BfdState.UP)
_POLL_OR_FINAL = 0x30  # of a packet's second octet: a change that the other has yet to confirm


@define(eq=False)
class Peace:
    """Whether all sessions are up and have nothing new to say."""

    clock: Clock
    weather: Weather
    _watchings: list[Watching] = field(factory=list)
    _until: float = 0.0
    _resting: bool = False

    def join(self, watching: Watching) -> None:
        """One more engine."""
        self.rouse()
        self._watchings.append(watching)

    def leave(self, watching: Watching) -> None:
        """An engine is no more."""
        self.rouse()
        self._watchings.remove(watching)

    def rouse(self) -> None:
        """Something is about to happen: go on from a state as if nobody had been silent."""
        self._until = self.clock.now + _UNREST
        if not self._resting:
            return
        self._resting = False
        for watching in self._watchings:
            watching.catch_up()
        for watching in self._watchings:
            watching.wake()

    @property
    def resting(self) -> bool:
        """Whether nobody needs to speak."""
        if not self._resting and self.clock.now >= self._until:
            self._resting = not self.weather.frames_lost and all(watching.is_content for watching in self._watchings)
            self._until = self.clock.now + _UNREST / 3
        return self._resting


class Watching:
    """All BFD sessions of one process. `send` puts a datagram for a peer on its way, `report` hears of changes.

    `waits`: whether it only speaks to those who speak to it.
    """

    def __init__(
        self,
        clock: Clock,
        peace: Peace,
        rng: random.Random,
        *,
        is_awake: Callable[[], bool],
        send: Callable[[Way, bytes], None],
        report: Callable[[WatchSeen], None],
        waits: bool = False,
    ) -> None:
        self.engine = BfdEngine(rng)
        self._clock = clock
        self._peace = peace
        self._is_awake = is_awake
        self._send = send
        self._report = report
        self._waits = waits
        self._heard: dict[Address, tuple[bytes, Origin]] = {}  # the last of each address
        self._due: float | None = None
        self._over = False
        peace.join(self)

    def set(self, watches: Iterable[Watch]) -> None:
        """Watch these peers, and no other."""
        self._peace.rouse()
        self._carry_out(self.engine.set(watches, self._clock.now))

    def take(self, data: bytes, origin: Origin) -> None:
        """A datagram."""
        if not self._over:
            self._heard[origin.source] = data, origin
            self._carry_out(self.engine.receive(data, origin, self._clock.now))

    def recount(self) -> None:
        """Report all sessions."""
        self._carry_out(self.engine.recount())

    def close(self) -> None:
        """The last words to all, and the end."""
        self._peace.rouse()
        self._carry_out(self.engine.close(self._clock.now))
        self.die()

    def die(self) -> None:
        """The end."""
        if not self._over:
            self._over = True
            self._peace.leave(self)

    def detection(self, peer: str) -> float | None:
        """Seconds of silence after which a peer that is up counts as lost; None when it is not up."""
        status = self._statuses().get(peer)
        return status.detection / 1000 if status is not None and status.state is BfdState.UP else None

    @property
    def is_content(self) -> bool:
        """Whether every session is up and says so, or waits to be spoken to."""
        statuses = self._statuses()
        if not self._is_awake():
            return not statuses
        up = {peer for peer, status in statuses.items() if (status.state, status.remote) == _BOTH_UP}
        last = [self._heard.get(address) for peer in up if (address := self.engine.address(peer)) is not None]
        settled = all(each is not None and not each[0][1] & _POLL_OR_FINAL for each in last)
        down = [status for peer, status in statuses.items() if peer not in up]
        return settled and (not down or (self._waits and all(status.remote is BfdState.DOWN for status in down)))

    def catch_up(self) -> None:
        """Hear once more what was heard last, as if it had been said all the time."""
        for peer, status in self._statuses().items():
            address = self.engine.address(peer)
            if status.state is BfdState.UP and address is not None:
                data, origin = self._heard[address]
                self._carry_out(self.engine.receive(data, origin, self._clock.now))

    def _statuses(self) -> dict[str, WatchStatus]:
        """Every session as it is."""
        events = [report.event for report in self.engine.recount()]
        return {event.peer: event.status for event in events if isinstance(event, WatchSeen) and event.status}

    def wake(self) -> None:
        """Plan to come back at the engine's deadline."""
        deadline = self.engine.deadline
        if deadline is None or self._over or (self._due is not None and self._due <= deadline):
            return
        self._due = max(deadline, self._clock.now)
        self._clock.at(self._due, self._tick, self._due)

    def resume(self) -> None:
        """After the machine stood still."""
        self._due = None
        self.wake()

    def _tick(self, planned: float) -> None:
        if self._due != planned or self._over:
            return
        self._due = None
        if self._is_awake() and not self._peace.resting:
            self._carry_out(self.engine.tick(self._clock.now))

    def _carry_out(self, outputs: Iterable[BfdOutput]) -> None:
        for output in outputs:
            match output:
                case Send(data, way):
                    self._send(way, data)
                case Report(event):
                    assert isinstance(event, WatchSeen)
                    self._report(event)
        self.wake()

"""One BGP session's engine on the virtual clock: what `backends.bgp_peering` is to asyncio and sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bgp.connection import LocalEnd
from lbcore.adapters.bgp.notifications import Notification
from lbcore.adapters.bgp.session import Dial, Drop, Session, SessionOutput, Side
from lbcore.events import PeerSeen
from lbcore.simulation.clock import Clock
from lbcore.simulation.wires import Dialing, Plug, Wires

__all__ = ["Carried"]

_STANDSTILL = 0.1  # seconds between two looks whether the machine goes on


class Carried:
    """A session with its connections, from `start` until `stop` or `die`.

    `dialing` makes an attempt to connect, or is None for one who waits to be called. `heard` is told
    what comes before the session is, `said` what goes, `tell` every report.
    """

    def __init__(
        self,
        session: Session,
        clock: Clock,
        wires: Wires,
        local: LocalEnd,
        *,
        is_awake: Callable[[], bool],
        tell: Callable[[PeerSeen], None],
        dialing: Callable[[Callable[[Plug], None], Callable[[str], None]], Dialing] | None = None,
        heard: Callable[[Plug, bytes], None] = lambda plug, data: None,
        said: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        self.session = session
        self._clock = clock
        self._wires = wires
        self._local = local
        self._is_awake = is_awake
        self._tell = tell
        self._make = dialing
        self._heard = heard
        self._said = said
        self._dialing: Dialing | None = None
        self._plugs: dict[Side, Plug] = {}
        self._due: float | None = None
        self._over = False

    def start(self) -> None:
        """Begin."""
        self.carry_out(self.session.start(self._clock.now))

    def stop(self, notification: Notification | None) -> None:
        """End the session with these words, or without any."""
        self.carry_out(self.session.stop(notification, self._clock.now))
        self.die()

    def die(self) -> None:
        """The process is gone: the kernel closes what it had."""
        self._end()
        for plug in self._plugs.values():
            plug.close()
        self._plugs.clear()

    def vanish(self) -> None:
        """The machine is gone."""
        self._end()
        for plug in self._plugs.values():
            plug.vanish()
        self._plugs.clear()

    def _end(self) -> None:
        self._over = True
        if self._dialing is not None:
            self._dialing.give_up()
            self._dialing = None

    def lose(self, notification: Notification, why: str) -> None:
        """The path is lost, says BFD."""
        self.carry_out(self.session.lose(notification, why, self._clock.now))

    def accept(self, plug: Plug) -> None:
        """Take a connection of the peer's."""
        self._connect(Side.ACCEPTED, plug)

    def wake(self) -> None:
        """Plan to come back at the engine's deadline, which may have changed."""
        deadline = self.session.deadline
        if deadline is None or self._over or (self._due is not None and self._due <= deadline):
            return
        self._due = max(deadline, self._clock.now)
        self._clock.at(self._due, self._tick, self._due)

    def resume(self) -> None:
        """After the machine stood still: do what has become due."""
        self._due = None
        self.wake()

    def carry_out(self, outputs: Iterable[SessionOutput]) -> None:
        """Do what the engine wants."""
        for output in outputs:
            match output:
                case Dial():
                    self._dial()
                case Send(data, side):
                    plug = self._plugs.get(side)
                    if plug is not None:
                        self._said(data)
                        plug.send(data)
                        self.session.drained(side, 0, self._clock.now)
                case Drop(side):
                    self._drop(side)
                case Report(event):
                    assert isinstance(event, PeerSeen)
                    self._tell(event)
        self.wake()

    def _dial(self) -> None:
        if self._make is None:
            self._clock.after(0.0, self._fail, None, "waits to be called")
            return
        attempt = self._dialing = self._make(
            lambda plug: self._answered(attempt, plug), lambda why: self._fail(attempt, why)
        )
        self._wires.dial(attempt)

    def _answered(self, dialing: Dialing, plug: Plug) -> None:
        if not self._is_awake() and not self._over:
            self._clock.after(_STANDSTILL, self._answered, dialing, plug)
            return
        if self._over or dialing is not self._dialing:
            plug.close()
            return
        self._dialing = None
        self._connect(Side.DIALED, plug)

    def _fail(self, dialing: Dialing | None, why: str) -> None:
        if not self._is_awake() and not self._over:
            self._clock.after(_STANDSTILL, self._fail, dialing, why)
            return
        if not self._over and dialing is self._dialing:
            self._dialing = None
            self.carry_out(self.session.failed(why, self._clock.now))

    def _connect(self, side: Side, plug: Plug) -> None:
        self._plugs[side] = plug
        plug.hear = lambda data: self._hear(side, plug, data)
        plug.broken = lambda why: self._break(side, plug, why)
        self.carry_out(self.session.connected(side, self._local, self._clock.now))

    def _hear(self, side: Side, plug: Plug, data: bytes) -> None:
        if self._plugs.get(side) is plug:
            self._heard(plug, data)
            self.carry_out(self.session.receive(side, data, self._clock.now))

    def _break(self, side: Side, plug: Plug, why: str) -> None:
        if self._plugs.get(side) is plug:
            del self._plugs[side]
            self.carry_out(self.session.closed(side, why, self._clock.now))

    def _drop(self, side: Side) -> None:
        if side is Side.DIALED and self._dialing is not None:
            self._dialing.give_up()
            self._dialing = None
        plug = self._plugs.pop(side, None)
        if plug is not None:
            plug.close()

    def _tick(self, planned: float) -> None:
        if self._due != planned or self._over:
            return
        self._due = None
        if self._is_awake():
            self.carry_out(self.session.tick(self._clock.now))

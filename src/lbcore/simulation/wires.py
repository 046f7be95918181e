"""The pretend network between nodes and routers: TCP connections and datagrams, late, lost, cut off.

TCP is what a program sees of it. Bytes come in order or not at all; one that is lost on the way comes late, behind
a retransmission that waits twice as long each time; an end whose process is gone answers with a reset, and one
whose machine is gone with nothing. Who connects with a wrong password is not answered (RFC 2385).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from attrs import define, field

from lbcore.simulation.clock import Clock, Trace
from lbcore.simulation.network import Weather

__all__ = ["Answer", "Dialing", "Host", "Plug", "Wires"]

_RETRANSMIT = (0.2, 8.0)  # seconds until the first and between later tries at most, as Linux has it about
_HANDSHAKES = (0.0, 1.0, 3.0, 7.0)  # seconds after which a connection is asked for: Linux's SYN and its repetitions
_PATIENCE = 8  # tries to tell a peer that we have closed
_TORN = 0.1  # share of deliveries that come in two parts


class Answer(Enum):
    """What a host says to somebody who wants to connect."""

    SILENCE = "nothing"
    REFUSED = "connection refused"
    WELCOME = "welcome"


class Host(Protocol):
    """A machine with an address."""

    name: str

    @property
    def is_awake(self) -> bool:
        """Whether it has power, and does not stand still."""
        ...

    def knock(self, caller: str, version: int, password: str) -> Answer:
        """Somebody wants to connect, over IPv4 or IPv6."""
        ...

    def welcome(self, caller: str, version: int, plug: Plug) -> None:
        """Somebody has connected: whoever was asked by `knock` takes the end of it."""
        ...


@define(eq=False)
class Plug:
    """One end of a connection. `hear` and `broken` are its owner's, who sets them; until then the kernel keeps what
    comes.
    """

    host: Host
    wires: Wires
    other: Plug = field(init=False)
    alive: bool = True
    hear: Callable[[bytes], None] | None = None
    broken: Callable[[str], None] = lambda why: None
    # What is on its way to the other end, and whether its end comes behind.
    waiting: bytearray = field(factory=bytearray)
    closing: bool = False
    busy: bool = False
    tries: int = 0

    def send(self, data: bytes) -> None:
        """Bytes for the other end."""
        if self.alive and data:
            self.waiting += data
            self.wires.move(self)

    def close(self) -> None:
        """Close behind what has been sent, as the kernel does for a process that ends."""
        if self.alive:
            self.alive = False
            self.closing = True
            self.wires.move(self)

    def vanish(self) -> None:
        """The machine is gone, and all that it had."""
        self.alive = False
        self.waiting.clear()


@define(eq=False)
class Dialing:
    """An attempt to connect, until it is `given_up`, answered or refused."""

    host: Host
    to: Host
    version: int
    password: str
    connected: Callable[[Plug], None]
    failed: Callable[[str], None]
    done: bool = False

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self.done = True


class Wires:
    """Who reaches whom, and what is on its way."""

    def __init__(self, clock: Clock, trace: Trace, weather: Weather, rng: random.Random, counts: Counter[str]) -> None:
        self._clock = clock
        self._trace = trace
        self._weather = weather
        self._rng = rng
        self._counts = counts
        self._cut: dict[tuple[str, str], None] = {}
        self._unplugged: dict[str, None] = {}  # hosts whose cable is out
        self.noted: Callable[[], None] = lambda: None  # whoever wants to know that something has changed

    def part(self, node: str, router: str) -> None:
        """Nothing passes between these two any more."""
        self._cut[node, router] = None
        self.noted()

    def mend(self, node: str, router: str) -> None:
        """It does again."""
        self._cut.pop((node, router), None)
        self.noted()

    def plug(self, host: str, *, plugged: bool) -> None:
        """A cable is pulled, or put back."""
        if plugged:
            self._unplugged.pop(host, None)
        else:
            self._unplugged[host] = None
        self.noted()

    def passes(self, one: str, other: str) -> bool:
        """Whether the way is open."""
        if one in self._unplugged or other in self._unplugged:
            return False
        return (one, other) not in self._cut and (other, one) not in self._cut

    # Datagrams

    def datagram(self, sender: Host, receiver: Host, take: Callable[[bytes], None], data: bytes) -> None:
        """One packet, that comes a moment later or never; `take` looks whether anybody is there."""
        self._counts["BFD packets"] += 1
        if self._gets_through(sender, receiver):
            self._clock.after(self._delay(), self._land, receiver, take, data)

    def _land(self, receiver: Host, take: Callable[[bytes], None], data: bytes) -> None:
        if receiver.is_awake:
            take(data)

    # Connecting

    def dial(self, dialing: Dialing) -> None:
        """Ask for a connection."""
        for pause in _HANDSHAKES:
            self._clock.after(pause + self._delay(), self._knock, dialing)

    def _knock(self, dialing: Dialing) -> None:
        caller, host = dialing.host, dialing.to
        if dialing.done or not self._gets_through(caller, host) or not caller.is_awake or not host.is_awake:
            return
        answer = host.knock(caller.name, dialing.version, dialing.password)
        if answer is Answer.SILENCE:
            return
        dialing.done = True
        if answer is Answer.REFUSED:
            self._clock.after(self._delay(), dialing.failed, answer.value)
            return
        near, far = Plug(caller, self), Plug(host, self)
        near.other, far.other = far, near
        self._counts["connections"] += 1
        host.welcome(caller.name, dialing.version, far)
        self._clock.after(self._delay(), self._connect, dialing, near)

    def _connect(self, dialing: Dialing, near: Plug) -> None:
        if near.alive:
            dialing.connected(near)

    # Bytes

    def move(self, plug: Plug) -> None:
        """See to it that what an end has sent goes on its way."""
        if not plug.busy and (plug.waiting or plug.closing):
            plug.busy = True
            self._clock.after(self._delay(), self._try, plug)

    def _try(self, plug: Plug) -> None:
        plug.busy = False
        other = plug.other
        if not plug.waiting and not plug.closing:
            return
        if not self._gets_through(plug.host, other.host) or not other.host.is_awake:
            self._try_later(plug)
        elif not other.alive:
            plug.waiting.clear()
            if not plug.closing:
                self._clock.after(self._delay(), self._reset, plug)
            plug.closing = False
        elif other.hear is None:
            self.move(plug)
        else:
            plug.tries = 0
            self._deliver(plug, other, other.hear)

    def _try_later(self, plug: Plug) -> None:
        plug.tries += 1
        if plug.closing and plug.tries > _PATIENCE:
            return
        plug.busy = True
        self._clock.after(min(_RETRANSMIT[0] * 2.0 ** min(plug.tries - 1, 8), _RETRANSMIT[1]), self._try, plug)

    def _deliver(self, plug: Plug, other: Plug, hear: Callable[[bytes], None]) -> None:
        if plug.waiting:
            size = len(plug.waiting)
            if size > 1 and self._rng.random() < _TORN:
                size = self._rng.randrange(1, size)
            data = bytes(plug.waiting[:size])
            del plug.waiting[:size]
            hear(data)
            self.move(plug)
            return
        plug.closing = False
        other.alive = False
        other.broken("the peer closed the connection without a word")

    def _reset(self, plug: Plug) -> None:
        if plug.alive and plug.host.is_awake and self.passes(plug.host.name, plug.other.host.name):
            plug.alive = False
            plug.broken("connection reset by peer")

    def _gets_through(self, sender: Host, receiver: Host) -> bool:
        lost = self._weather.frames_lost
        if not self.passes(sender.name, receiver.name) or (lost and self._rng.random() < lost):
            self._counts["packet lost to a router"] += 1
            return False
        return True

    def _delay(self) -> float:
        return 0.0001 + self._rng.random() * self._weather.slowest_frame

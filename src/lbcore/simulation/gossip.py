"""Members that gossip, in the pretend cluster: the real engines (memberlist's and the detector), a pretend network.

It does what `backends.gossip` and `backends.witnesses` do with sockets. Datagrams and streams are bytes; they are lost,
doubled, overtake each other, and stop where no path is open. Every node has a clock of its own, of its own pace, and a
process may have to wait for its processor: what arrives meanwhile is read first when it runs again, as a loop does
that looks at its sockets and then at its clock.

While nobody's life is in doubt and all agree, gossip rests: its time stands still, for all members alike, until the
moment before something happens to one of them. Ten packets a second and neighbour would change nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from attrs import define, frozen

from lbcore.adapters.base import Report, Send
from lbcore.adapters.detector.engine import Ask, Detector, DetectorOutput
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import Endpoint, Message, Status
from lbcore.adapters.memberlist.outputs import Answer, Dial
from lbcore.adapters.memberlist.streams import StreamReader
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError
from lbcore.events import Event, MembersSeen
from lbcore.intents import SetPresence
from lbcore.simulation.clock import Clock
from lbcore.simulation.network import Weather
from lbcore.simulation.paths import GATEWAY, Paths

__all__ = ["GossipMember", "GossipNetwork", "Host"]

_PORT = 7946
_BUFFER = 4000  # datagrams that wait for a process: 2 MB of them
_LOOK = 1.0  # seconds between two looks whether gossip may rest
_PEACE = 12.0  # seconds of peace before it does: more than anything promised takes


class Host(Protocol):
    """The machine that a member runs on."""

    name: str
    frozen: bool
    carrier: bool


@frozen
class _NodeClock:
    """A machine's monotonic clock: where it stood at the beginning, and its pace."""

    start: float
    pace: float

    def at(self, moment: float) -> float:
        return self.start + self.pace * moment

    def moment(self, reading: float) -> float:
        return (reading - self.start) / self.pace


@define
class _Call:
    """One connection: until its answer is read, or the patience of who dialled is over."""

    caller: GossipMember
    dial: Dial
    over: bool = False


class GossipNetwork:
    """What members have in common: paths, datagrams, connections, the gateway that answers pings, and time.

    `drift` is by how much a clock's pace may differ from the true one (0.001: a second in a quarter of an hour).
    `lateness` and `loss` are as `Weather` has them, in the best of weathers. `judges` hear each report, with the
    member's name.
    """

    rests = True  # whether time stands still while nothing happens

    def __init__(
        self,
        clock: Clock,
        weather: Weather,
        paths: Paths,
        counts: Counter[str],
        rng: random.Random,
        *,
        drift: float = 0.0,
        lateness: float = 0.0,
        loss: float = 0.0,
        envelope: Envelope | None = None,
    ) -> None:
        self._clock = clock
        self.weather = weather
        self.paths = paths
        self.counts = counts
        self.lateness = lateness
        self.loss = loss
        self.disturbed_at = 0.0  # when something last happened, by the clock of the history
        self.envelope = Envelope(compressed=False) if envelope is None else envelope
        self.judges: list[Callable[[str, frozenset[str]], None]] = []
        self._rng = rng
        self._places = {name: Endpoint(Address(4, 0x0A000001 + n), _PORT) for n, name in enumerate(paths.nodes)}
        self._clocks = {
            name: _NodeClock(rng.uniform(0.0, 1e6), 1.0 + rng.uniform(-drift, drift)) for name in paths.nodes
        }
        self._members: dict[Endpoint, GossipMember] = {}
        self._rested = 0.0  # seconds of the history that did not pass here
        self._stopped: float | None = None  # our time, while it stands still
        self._disturbed = 0.0
        self._waiting: list[tuple[float, Callable[..., None], tuple[object, ...]]] = []
        self.at(_LOOK, self._look)

    # Time, in seconds that passed here

    @property
    def now(self) -> float:
        """The time that members live by."""
        return self._clock.now - self._rested if self._stopped is None else self._stopped

    def clock_of(self, node: str) -> _NodeClock:
        """A machine's clock."""
        return self._clocks[node]

    def at(self, moment: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something at a moment of our time."""
        self._clock.after(max(0.0, moment - self.now), self._due, moment, action, arguments)

    def _due(self, moment: float, action: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if self._stopped is not None:
            self._waiting.append((moment, action, arguments))
        elif moment - self.now > 1e-9:  # our time stood still meanwhile
            self.at(moment, action, *arguments)
        else:
            action(*arguments)

    def rouse(self) -> None:
        """Something is about to happen: time goes on."""
        if self._stopped is not None:
            self._rested = self._clock.now - self._stopped
            self._stopped = None
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                self.at(each[0], each[1], *each[2])
        self._disturbed, self.disturbed_at = self.now, self._clock.now

    def _look(self) -> None:
        if self.rests and self.now - self._disturbed > _PEACE and self._is_steady():
            self._stopped = self.now
        self.at(self.now + _LOOK, self._look)

    def _is_steady(self) -> bool:
        if not self.paths.all_open or self.weather.is_foul:
            return False
        names = frozenset(member.name for member in self._members.values() if member.present)
        return all(member.is_steady(names) for member in self._members.values())

    # Members

    def join(
        self, host: Host, report: Callable[[Event], None], rng: random.Random, *, alone: bool = False
    ) -> GossipMember:
        """A new process on a machine; what the one before it had is lost. `alone`: it is told of no others."""
        self.rouse()
        place = self._places[host.name]
        member = self._members[place] = GossipMember(self, host, place, report, rng)
        if not alone:
            member.set_peers(self._places.values())
        return member

    def engine(self, name: str, place: Endpoint, rng: random.Random) -> Detector:
        """The engine of a process that starts."""
        return Detector(name, place, rng=rng, life=rng.getrandbits(62) + 1, envelope=self.envelope)

    def member(self, node: str) -> GossipMember | None:
        """The process of a node that has one."""
        return self._members.get(self._places[node])

    def leave(self, member: GossipMember) -> None:
        """A process is no more."""
        self.rouse()
        if self._members.get(member.place) is member:
            del self._members[member.place]

    # The network

    def reaches(self, sender: Host, receiver: Host) -> bool:
        """Whether anything passes from one machine to the other."""
        return sender.carrier and receiver.carrier and self.paths.open(sender.name, receiver.name)

    def _delay(self) -> float:
        return 0.0001 + self._rng.random() * self.weather.slowest_datagram

    def _is_lost(self) -> bool:
        lost = max(self.weather.datagrams_lost, self.loss)
        return lost > 0 and self._rng.random() < lost

    def send(self, sender: GossipMember, where: Endpoint, data: bytes) -> None:
        """A datagram."""
        self.counts["datagrams"] += 1
        self.counts["datagram bytes"] += len(data)
        receiver = self._members.get(where)
        if receiver is None or not self.reaches(sender.host, receiver.host):
            return
        if self._is_lost():
            self.counts["datagram lost"] += 1
            return
        self.at(self.now + self._delay(), receiver.hear, data, sender.place)
        if self.weather.datagrams_lost and self._rng.random() < 0.05:
            self.counts["datagram twice"] += 1
            self.at(self.now + self._delay(), receiver.hear, data, sender.place)

    def dial(self, caller: GossipMember, dial: Dial) -> None:
        """A connection with one message: refused where nobody listens, silent where nothing passes."""
        self.counts["connections"] += 1
        call = _Call(caller, dial)
        self.at(self.now + dial.patience, self._end, call, None)
        callee = self._members.get(dial.where)
        if callee is not None and self._is_joined(caller, callee):
            lost = 0.2 if self._is_lost() else 0.0  # seconds until TCP tries again
            self.at(self.now + 3 * self._delay() + lost, callee.take, partial(self._accept, callee, call))
        elif callee is None and caller.host.carrier:
            name = next(name for name, place in self._places.items() if place == dial.where)
            if self.paths.open(caller.name, name) and self.paths.open(name, caller.name):
                self.at(self.now + 2 * self._delay(), self._end, call, None)

    def _is_joined(self, one: GossipMember, other: GossipMember) -> bool:
        return self.reaches(one.host, other.host) and self.reaches(other.host, one.host)

    def _accept(self, callee: GossipMember, call: _Call) -> None:
        if call.over:
            return
        answers = callee.receive_stream(call.dial.data)
        self.counts["stream bytes"] += len(call.dial.data) + sum(map(len, answers))
        if answers and self._is_joined(call.caller, callee):
            message = StreamReader(self.envelope, opening=False).feed(answers[0])
            self.at(self.now + self._delay(), self._end, call, message)

    def _end(self, call: _Call, message: Message | None) -> None:
        if not call.over:
            call.over = True
            call.caller.take(partial(call.caller.answered, call.dial.number, message))

    def ask(self, member: GossipMember) -> None:
        """Ping the gateway."""
        self.counts["pings"] += 1
        name = member.name
        there = member.host.carrier and self.paths.open(name, GATEWAY) and not self._is_lost()
        if there and self.paths.open(GATEWAY, name) and not self._is_lost():
            self.at(self.now + 2 * self._delay(), member.take, member.witnessed)


class GossipMember:
    """One process' part in it, with the calls that the reflex process has for its membership."""

    def __init__(
        self,
        network: GossipNetwork,
        host: Host,
        place: Endpoint,
        report: Callable[[Event], None],
        rng: random.Random,
    ) -> None:
        self.host = host
        self.name = host.name
        self.place = place
        self.ended = False
        self.has_witness = False  # whether the gateway has ever answered this process
        self._in = network
        self._clock = network.clock_of(host.name)
        self._report = report
        self._rng = rng
        self._inbox: list[Callable[[], None]] = []
        self._runs_at: float | None = None  # when it gets its processor: something is to be done
        self._wakes_at: float | None = None  # when something will be
        self.engine = network.engine(host.name, place, rng)

    @property
    def members(self) -> frozenset[str] | None:
        """The names last reported, or None before the first report."""
        return self.engine.members

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported."""
        return self.engine.seen

    @property
    def present(self) -> bool:
        """Whether this process counts itself in, and runs."""
        return self.engine.present and not self.ended

    def is_steady(self, names: frozenset[str]) -> bool:
        """Whether it is sure that exactly these live, and has nothing in hand."""
        engine = self.engine
        if not engine.present or self.host.frozen or engine.members != names or engine.waits or engine.cut_off:
            return False
        return not self._inbox and all(each.status is Status.ALIVE for each in engine.table.records.values())

    # What the process is told to do

    def command(self, intent: SetPresence) -> None:
        """Come in, or leave."""
        self._in.rouse()
        self._carry_out(self.engine.command(intent, self._now))

    def set_peers(self, peers: Iterable[Endpoint]) -> None:
        """Where members may be found."""
        self._carry_out(self.engine.set_peers([*peers], self._now))

    def end(self, *, politely: bool) -> None:
        """Be gone: with a word to the others, or without."""
        if politely:
            self.command(SetPresence(present=False, why="the end"))
        self.ended = True
        self._in.leave(self)

    # What arrives

    def hear(self, data: bytes, source: Endpoint) -> None:
        """A datagram has arrived."""
        if len(self._inbox) < _BUFFER:
            self.take(partial(self._receive, data, source))

    def take(self, action: Callable[[], None]) -> None:
        """Something has arrived: do it when the process runs."""
        if not self.ended:
            self._inbox.append(action)
            self._be_ready()

    def _receive(self, data: bytes, source: Endpoint) -> None:
        self._carry_out(self.engine.receive(data, source, self._now))

    def receive_stream(self, data: bytes) -> list[bytes]:
        """Somebody has dialled us; what is to be sent back."""
        try:
            message = StreamReader(self._in.envelope, opening=True).feed(data)
            assert message is not None
            outputs = self.engine.receive_stream(message, self._now)
        except RemoteProtocolError as error:
            outputs = self.engine.refuse(error)
        self._carry_out(output for output in outputs if not isinstance(output, Answer))
        return [output.data for output in outputs if isinstance(output, Answer)]

    def answered(self, number: int, message: Message | None) -> None:
        """What came of a connection."""
        self._carry_out(self.engine.answered(number, message, self._now))

    def witnessed(self) -> None:
        """The gateway has answered."""
        self.has_witness = True
        self._carry_out(self.engine.witnessed(self._now))

    # Time

    @property
    def _now(self) -> float:
        return self._clock.at(self._in.now)

    def wake(self) -> None:
        """After standing still: do what has come and what has become due."""
        self._runs_at = None
        self._be_ready()

    def _be_ready(self) -> None:
        """Run, as soon as there is a processor."""
        if self._runs_at is not None:
            return
        lateness = max(self._in.weather.lateness, self._in.lateness)
        if not lateness:
            self._run()
            return
        # Mostly soon, sometimes as late as can be.
        self._runs_at = self._in.now + lateness * self._rng.random() ** 3
        self._in.at(self._runs_at, self._run_at, self._runs_at)

    def _run_at(self, moment: float) -> None:
        if self._runs_at == moment:
            self._run()

    def _run(self) -> None:
        if self.ended or self.host.frozen:
            return
        self._runs_at = self._in.now  # what is done now makes nobody run again
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            action()
        if self.engine.deadline <= self._now + 1e-9:
            self._carry_out(self.engine.tick(self._now + 1e-9))
        self._runs_at = None
        self._plan()
        if self._inbox:
            self._be_ready()

    def _plan(self) -> None:
        deadline = self.engine.deadline
        if self._runs_at is not None or deadline == float("inf"):
            return
        moment = max(self._clock.moment(deadline), self._in.now)
        if self._wakes_at is None or moment < self._wakes_at:
            self._wakes_at = moment
            self._in.at(moment, self._wake_at, moment)

    def _wake_at(self, moment: float) -> None:
        if self._wakes_at != moment:
            return
        self._wakes_at = None
        if self.engine.deadline <= self._now + 1e-9:
            self._be_ready()
        else:
            self._plan()

    # Outputs

    def _carry_out(self, outputs: Iterable[DetectorOutput]) -> None:
        for output in outputs:
            match output:
                case Send(data, where):
                    self._in.send(self, where, data)
                case Dial():
                    self._in.dial(self, output)
                case Ask():
                    self._in.ask(self)
                case Report(event):
                    if isinstance(event, MembersSeen):
                        for judge in self._in.judges:
                            judge(self.name, event.names)
                    self._report(event)
                case Answer():
                    raise AssertionError("an answer without a connection to send it on")
        self._plan()

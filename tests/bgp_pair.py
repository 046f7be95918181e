"""Two BGP sessions joined in memory: bytes wait on wires until a test delivers them, on a clock of its own."""

from __future__ import annotations

import random

from attrs import define, field

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bgp.connection import LocalEnd, SessionSettings
from lbcore.adapters.bgp.messages import Framer, Kind
from lbcore.adapters.bgp.session import Dial, Drop, Session, SessionOutput, Side
from lbcore.adapters.bgp.updates import decode_update
from lbcore.addresses import Address, Family
from lbcore.events import PeerSeen
from lbcore.routes import PeerState, Prefix

OTHER = {Side.DIALED: Side.ACCEPTED, Side.ACCEPTED: Side.DIALED}


def local_end(number: int, over: Family = Family.IPV6, router_id: int | None = None) -> LocalEnd:
    return LocalEnd(
        over=over,
        router_id=Address(4, router_id if router_id is not None else (10 << 24) + number),
        ipv4=Address(4, (192 << 24) + number),
        ipv6=Address(6, (0x20010DB8 << 96) + number),
    )


@define
class Wire:
    """Bytes on their way to one end of a connection; `ended`: after them the end is seen."""

    data: bytearray = field(factory=bytearray)
    ended: bool = False


@define
class End:
    """One session with its wires, and what a reader at its peer's place has understood."""

    session: Session
    local: LocalEnd
    listens: bool = True
    dials: int = 0
    wires: dict[Side, Wire] = field(factory=dict)  # towards this end
    reports: list[PeerSeen] = field(factory=list)
    dialing: bool = False
    sent: list[tuple[int, bytes]] = field(factory=list)  # every message that it put on a wire
    framers: dict[Side, Framer] = field(factory=dict)

    @property
    def state(self) -> PeerState:
        return self.session.status.state


class Pair:
    """Two ends, `a` and `b`, and the clock."""

    def __init__(
        self, one: SessionSettings, other: SessionSettings, ids: tuple[int, int] = (1, 2), over: Family = Family.IPV6
    ) -> None:
        self.now = 1000.0
        self.a = End(Session("b", one, random.Random(1)), local_end(1, over, ids[0]))
        self.b = End(Session("a", other, random.Random(2)), local_end(2, over, ids[1]))
        self.started = False

    @property
    def ends(self) -> tuple[End, End]:
        return self.a, self.b

    def opposite(self, end: End) -> End:
        return self.b if end is self.a else self.a

    def start(self) -> None:
        for end in self.ends:
            self.carry_out(end, end.session.start(self.now))

    def carry_out(self, end: End, outputs: list[SessionOutput]) -> None:
        for output in outputs:
            match output:
                case Dial():
                    end.dialing = True
                    end.dials += 1
                case Send(data, side):
                    for message in end.framers.setdefault(side, Framer()).feed(data):
                        assert len(message[1]) <= 4096 - 19
                        end.sent.append(message)
                    wire = self.opposite(end).wires.get(OTHER[side])
                    if wire is not None and side in end.wires:
                        wire.data += data
                case Drop(side):
                    if side is Side.DIALED:
                        end.dialing = False
                    end.wires.pop(side, None)
                    end.framers.pop(side, None)
                    wire = self.opposite(end).wires.get(OTHER[side])
                    if wire is not None:
                        wire.ended = True
                case Report(event):
                    assert isinstance(event, PeerSeen)
                    end.reports.append(event)

    # What may happen.

    def answer_dial(self, end: End) -> None:
        """The network answers an attempt to connect."""
        if not end.dialing:
            return
        end.dialing = False
        other = self.opposite(end)
        if not (other.listens and other.session.may_accept) or Side.ACCEPTED in other.wires:
            self.carry_out(end, end.session.failed("connection refused", self.now))
            return
        end.wires[Side.DIALED], other.wires[Side.ACCEPTED] = Wire(), Wire()
        self.carry_out(end, end.session.connected(Side.DIALED, end.local, self.now))
        self.carry_out(other, other.session.connected(Side.ACCEPTED, other.local, self.now))

    def deliver(self, end: End, side: Side, most: int = 1 << 20) -> bool:
        """Some bytes arrive, or, when there are none left, the end of a connection; whether anything did."""
        wire = end.wires.get(side)
        if wire is None:
            return False
        if wire.data:
            data = bytes(wire.data[:most])
            del wire.data[:most]
            self.carry_out(end, end.session.receive(side, data, self.now))
            return True
        if wire.ended:
            end.wires.pop(side)
            end.framers.pop(side, None)
            self.carry_out(end, end.session.closed(side, "the peer closed the connection", self.now))
            return True
        return False

    def cut(self, end: End, side: Side) -> None:
        """A connection breaks: both ends see it after what is on the wire is lost."""
        for each, at in ((end, side), (self.opposite(end), OTHER[side])):
            wire = each.wires.get(at)
            if wire is not None:
                wire.data.clear()
                wire.ended = True

    def pass_time(self, seconds: float) -> None:
        """Ticks at every deadline on the way."""
        until = self.now + seconds
        for _ in range(100_000):
            due = [end.session.deadline for end in self.ends]
            at = min((time for time in due if time is not None and time <= until), default=None)
            if at is None:
                self.now = until
                return
            self.now = max(self.now, at)
            for end in self.ends:
                deadline = end.session.deadline
                if deadline is not None and deadline <= self.now:
                    self.carry_out(end, end.session.tick(self.now))
        raise AssertionError("a deadline that a tick does not move")

    def settle(self) -> None:
        """Everything that is under way arrives."""
        for _ in range(10_000):
            moved = False
            for end in self.ends:
                if end.dialing:
                    self.answer_dial(end)
                    moved = True
                for side in Side:
                    moved |= self.deliver(end, side)
            if not moved:
                return
        raise AssertionError("it never comes to rest")

    def run(self, seconds: float, step: float = 0.25) -> None:
        """Time passes with a network that carries everything at once."""
        until = self.now + seconds
        self.settle()
        while self.now < until:
            self.pass_time(min(step, until - self.now))
            self.settle()

    def up(self) -> bool:
        return all(end.state is PeerState.ESTABLISHED for end in self.ends)


def heard(end: End, *, internal: bool = False) -> tuple[set[Prefix], int]:
    """What a router that heard every message of one end since its last OPEN has now, and how many UPDATEs it took."""
    found: set[Prefix] = set()
    count = 0
    for kind, body in end.sent:
        if kind == Kind.OPEN:
            found, count = set(), 0
        if kind == Kind.UPDATE:
            count += 1
            update = decode_update(body, four_octets=True, internal=internal)
            assert not update.faults
            found -= {prefix for each in update.withdrawn for prefix in each.prefixes()}
            found |= {prefix for each in update.announced for prefix in each.prefixes()}
    return found, count

"""What gossip and the detector cost a node, from 3 nodes to 1,000: the real engines in one process, a virtual clock.

Sealed, as with a secret. Packets and bytes are what a node sends while nothing happens: datagrams without the 28 or 48
bytes of their headers, and its half of the connections. CPU is the engine's alone, without sockets: datagrams opened
and read, made and sealed.

Connections are memberlist's exchanges of everything with one member, and they are counted at their pace, every 30 s to
180 s, in bytes and in the CPU of reading them: what is looked at is a few seconds, and they are of the 30 s in which
members that have just started make their first.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from attrs import define

from benchmarks.report import Row, frozen_heap, progress
from lbcore.adapters.detector.engine import Detector, DetectorOutput
from lbcore.adapters.memberlist.envelope import Envelope, Sealer
from lbcore.adapters.memberlist.messages import Endpoint, Message, NodeState, PushPull, Status
from lbcore.adapters.memberlist.settings import LAN
from lbcore.intents import SetPresence
from lbcore.simulation.clock import Clock
from lbcore.simulation.gossip import GossipMember, GossipNetwork
from lbcore.simulation.network import Weather
from lbcore.simulation.paths import Paths

__all__ = ["NAME", "run"]

NAME = "gossip and detector (simulated): what one node sends, and its engine's CPU, while nothing happens"
SIZES = {3: 60.0, 20: 20.0, 100: 6.0, 1000: 2.0}  # nodes, and the seconds that are looked at
SETTLE = 1.0
AIM_GROWTH = 1.5  # a node among 1,000 to one among 20, which has as many neighbours as it will ever have

T = TypeVar("T")


@define
class _Machine:
    name: str
    frozen: bool = False
    carrier: bool = True


class _Timed(Detector):
    """A detector that takes the time of its calls, in nanoseconds of this thread, and apart of those that read
    exchanges.
    """

    spent = exchanging = 0

    def _taken(self, call: Callable[[], T]) -> T:
        begin = time.thread_time_ns()
        result = call()
        _Timed.spent += time.thread_time_ns() - begin
        return result

    def _read(self, call: Callable[[], T]) -> T:
        begin = time.thread_time_ns()
        result = call()
        _Timed.exchanging += time.thread_time_ns() - begin
        return result

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> list[DetectorOutput]:
        return self._taken(lambda: super(_Timed, self).receive(datagram, source, now))

    def receive_stream(self, message: Message, now: float) -> list[DetectorOutput]:
        return self._read(lambda: super(_Timed, self).receive_stream(message, now))

    def answered(self, number: int, message: Message | None, now: float) -> list[DetectorOutput]:
        return self._read(lambda: super(_Timed, self).answered(number, message, now))

    @property
    def deadline(self) -> float:
        return self._taken(lambda: super(_Timed, self).deadline)

    def tick(self, now: float) -> list[DetectorOutput]:
        return self._taken(lambda: super(_Timed, self).tick(now))


class _Network(GossipNetwork):
    rests = False  # it is the quiet that is weighed

    def engine(self, name: str, place: Endpoint, rng: random.Random) -> Detector:
        """The engine of a process that starts."""
        return _Timed(name, place, rng=rng, life=rng.getrandbits(62) + 1, envelope=self.envelope)


def _cluster(size: int) -> tuple[Clock, _Network, list[GossipMember]]:
    """So many nodes that have all known each other for long: no news are on their way any more."""
    rng, clock = random.Random(size), Clock()
    paths = Paths(tuple(f"node-{number:04}" for number in range(size)))
    envelope = Envelope(compressed=False, sealer=Sealer((bytes(16),), random.Random(size)))
    network = _Network(clock, Weather(), paths, Counter(), rng, envelope=envelope)
    members = []
    for name in paths.nodes:
        member = network.join(_Machine(name), lambda _: None, random.Random(rng.random()), alone=True)
        member.command(SetPresence(present=True, why="benchmark"))
        members.append(member)
    everybody = PushPull(join=True, nodes=tuple(_state(member) for member in members))
    for member in members:
        member.engine.table.merge(everybody, network.clock_of(member.name).at(0.0))
        member.engine.table.broadcasts.clear()
    return clock, network, members


def _state(member: GossipMember) -> NodeState:
    own = member.engine.table.own
    return NodeState(
        node=own.node, endpoint=own.endpoint, meta=own.meta, incarnation=own.incarnation, status=Status.ALIVE
    )


def _weigh(size: int, seconds: float) -> tuple[float, float, float]:
    """Packets and bytes that a node sends a second, and the milliseconds of CPU that its engine takes for one."""
    clock, network, members = _cluster(size)
    with frozen_heap():
        clock.run_until(SETTLE)
        network.counts.clear()
        _Timed.spent = _Timed.exchanging = 0
        clock.run_until(SETTLE + seconds)
    assert all(len(member.members or ()) == size for member in members), "members were lost while nothing happened"
    counts, share = network.counts, 1 / size / seconds
    # Of both halves of one exchange: a member begins as many as the others begin with it.
    exchanges = 1 / counts["connections"] / LAN.exchange_every(size)
    sent = counts["datagram bytes"] * share + counts["stream bytes"] * exchanges
    return counts["datagrams"] * share, sent, (_Timed.spent * share + _Timed.exchanging * exchanges) / 1e6


def run() -> list[Row]:
    """Three rows for each size; those of the greatest are to be much as those of the second."""
    rows: list[Row] = []
    found: dict[int, Sequence[float]] = {}
    for size, seconds in SIZES.items():
        progress(f"{size} nodes")
        packets, sent, cpu = found[size] = _weigh(size, seconds)
        rows += [
            Row(what=f"{size:,} nodes: packets that a node sends", figure=packets, unit="1/s"),
            Row(what=f"{size:,} nodes: bytes that a node sends", figure=sent, unit="B/s"),
            Row(what=f"{size:,} nodes: its engine's CPU", figure=cpu, unit="ms/s"),
        ]
    least, most = found[sorted(SIZES)[1]], found[max(SIZES)]
    growth = max(after / before for before, after in zip(least, most, strict=True))
    rows.append(
        Row(what="the most that any of these grows, 20 to 1,000 nodes", figure=growth, unit="times", at_most=AIM_GROWTH)
    )
    return rows

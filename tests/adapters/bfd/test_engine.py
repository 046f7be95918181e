"""Two BFD engines joined in memory, on a clock of the test's: lost, late and doubled packets, and what must hold."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bfd.engine import BfdEngine, BfdOutput, Origin
from lbcore.adapters.bfd.packets import ControlPacket, decode, encode
from lbcore.addresses import Address
from lbcore.bfd import BfdDiagnostic, BfdState, Watch, WatchStatus
from lbcore.events import WatchSeen

US, THEM = Address.parse("2001:db8::1"), Address.parse("2001:db8::2")
FAST = Watch(peer="tor", address=THEM, interface="eth0", transmit_interval=100, receive_interval=100)
BACK = evolve(FAST, address=US)


@define
class End:
    """One engine, what it has been heard to say, and the packets under way to it."""

    address: Address
    engine: BfdEngine
    seen: list[WatchStatus | None] = field(factory=list)
    sent: list[tuple[float, ControlPacket]] = field(factory=list)
    coming: list[tuple[float, bytes]] = field(factory=list)
    frozen_until: float = 0.0

    @property
    def state(self) -> BfdState | None:
        return self.seen[-1].state if self.seen and self.seen[-1] is not None else None


@define
class Wire:
    """Two ends; `loss` of the packets get lost, others take up to `delay` seconds, and overtake only if they may."""

    seed: int = 1
    loss: float = 0.0
    delay: float = 0.001
    overtaking: bool = False
    now: float = 100.0
    cut: bool = False
    ours: End = field(init=False)
    theirs: End = field(init=False)
    rng: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.ours = End(US, BfdEngine(random.Random(self.seed + 1)))
        self.theirs = End(THEM, BfdEngine(random.Random(self.seed + 2)))

    def set(self, end: End, *watches: Watch) -> None:
        self._carry(end, end.engine.set(watches, self.now))

    def run(self, seconds: float) -> None:
        """Let so much time go by."""
        until = self.now + seconds
        while True:
            due = min((self._next(end) for end in (self.ours, self.theirs)), default=until)
            if due > until:
                break
            self.now = max(self.now, due)
            for end in (self.ours, self.theirs):
                self._turn(end)
        self.now = until

    def _next(self, end: End) -> float:
        deadline = end.engine.deadline
        times = [at for at, _ in end.coming] + ([] if deadline is None else [deadline])
        return max(min(times, default=float("inf")), end.frozen_until)

    def _turn(self, end: End) -> None:
        if self.now < end.frozen_until:
            return
        other = self.theirs if end is self.ours else self.ours
        due = sorted((each for each in end.coming if each[0] <= self.now), key=lambda each: each[0])
        end.coming = [each for each in end.coming if each[0] > self.now]
        origin = Origin(source=other.address, interface="eth0", ttl=255, multihop=False)
        for _, data in due:
            self._carry(end, end.engine.receive(data, origin, self.now))
        deadline = end.engine.deadline
        if deadline is not None and deadline <= self.now:
            self._carry(end, end.engine.tick(self.now))

    def _carry(self, end: End, outputs: Iterable[BfdOutput]) -> None:
        other = self.theirs if end is self.ours else self.ours
        for output in outputs:
            match output:
                case Send(data):
                    end.sent.append((self.now, decode(data)))
                    if not self.cut and self.rng.random() >= self.loss:
                        at = self.now + self.rng.uniform(0, self.delay)
                        if other.coming and not self.overtaking:
                            at = max(at, other.coming[-1][0])
                        other.coming.append((at, data))
                case Report(WatchSeen(_, status)):
                    end.seen.append(status)


def _status(engine: BfdEngine) -> WatchStatus:
    (report,) = engine.recount()
    assert isinstance(report.event, WatchSeen)
    assert report.event.status is not None
    return report.event.status


def joined(**options: float) -> Wire:
    wire = Wire(**options)  # type: ignore[arg-type]
    wire.set(wire.ours, FAST)
    wire.set(wire.theirs, BACK)
    return wire


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_two_ends_come_up_within_three_seconds_and_stay_up(seed: int) -> None:
    wire = joined(seed=seed)
    wire.run(3)
    assert (BfdState.UP, BfdState.UP) == (wire.ours.state, wire.theirs.state)
    wire.run(30)
    for end in (wire.ours, wire.theirs):
        assert end.seen[-1] is not None
        assert (1, 0) == (end.seen[-1].ups, end.seen[-1].downs)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_a_cut_is_noticed_in_the_detection_time_and_not_before(seed: int) -> None:
    wire = joined(seed=seed)
    wire.run(5)
    wire.cut = True
    wire.run(0.19)
    assert wire.ours.state is not BfdState.DOWN
    wire.run(0.15)  # 3 x 100 ms, and up to one interval between the last packet and the cut, less what was lost
    assert wire.ours.state not in (BfdState.UP, BfdState.INIT)
    status = wire.ours.seen[-1]
    assert status is not None
    assert (BfdDiagnostic.DETECTION_EXPIRED, True, 300) == (status.diagnostic, status.failed, status.detection)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_after_a_cut_both_come_up_again(seed: int) -> None:
    wire = joined(seed=seed)
    wire.run(5)
    wire.cut = True
    wire.run(5)
    wire.cut = False
    wire.run(3)
    assert (BfdState.UP, BfdState.UP) == (wire.ours.state, wire.theirs.state)
    status = wire.ours.seen[-1]
    assert status is not None
    assert (2, 1, False) == (status.ups, status.downs, status.failed)


@given(st.integers(0, 10_000), st.floats(0, 0.4), st.floats(0, 0.05))
@settings(max_examples=50)
def test_whatever_is_lost_or_overtaken_they_are_up_soon_after_the_line_is_good(
    seed: int, loss: float, delay: float
) -> None:
    wire = joined(seed=seed, loss=loss, delay=delay, overtaking=True)
    wire.run(20)
    wire.loss, wire.delay, wire.overtaking = 0.0, 0.001, False
    wire.run(5)
    assert (BfdState.UP, BfdState.UP) == (wire.ours.state, wire.theirs.state)


@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(10, 2000), st.integers(10, 2000))
@settings(max_examples=25)
def test_intervals_keep_the_jitter_of_the_rfc(seed: int, multiplier: int, ours: int, theirs: int) -> None:
    wire = Wire(seed=seed)
    wire.set(wire.ours, evolve(FAST, transmit_interval=ours, detect_multiplier=multiplier))
    wire.set(wire.theirs, evolve(BACK, receive_interval=theirs, detect_multiplier=20))
    wire.run(20)
    assert BfdState.UP is wire.ours.state
    began = len(wire.ours.sent)
    wire.run(20)
    agreed = max(ours, theirs) / 1000
    times = [at for at, packet in wire.ours.sent[began:] if not packet.final]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 0.75 * agreed - 1e-6
    assert max(gaps) <= (0.9 if multiplier == 1 else 1.0) * agreed + 1e-6


def test_a_session_that_is_not_up_sends_no_faster_than_once_in_three_quarters_of_a_second() -> None:
    wire = Wire()
    wire.set(wire.ours, FAST)
    wire.run(10)
    times = [at for at, _ in wire.ours.sent]
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.75
    assert {1_000_000} == {packet.desired_min_tx for _, packet in wire.ours.sent}


def test_going_up_is_told_by_a_poll_that_ends_with_the_final_bit() -> None:
    wire = joined()
    wire.run(10)
    up = [packet for _, packet in wire.ours.sent if packet.state is BfdState.UP and not packet.final]
    polls = [packet.poll for packet in up]
    assert polls[0]
    assert not polls[-1]
    assert any(packet.final for _, packet in wire.theirs.sent)
    assert not any(packet.poll and packet.final for _, packet in wire.ours.sent)


def test_other_timers_are_agreed_on_while_the_session_stays_up() -> None:
    wire = joined()
    wire.run(5)
    wire.set(wire.ours, evolve(FAST, transmit_interval=500, receive_interval=50, detect_multiplier=5))
    wire.run(10)
    ours, theirs = wire.ours.seen[-1], wire.theirs.seen[-1]
    assert ours is not None
    assert theirs is not None
    assert (0, 0) == (ours.downs, theirs.downs)
    assert 5 * 500 == _status(wire.theirs.engine).detection


def test_a_peer_that_switches_bfd_off_has_not_failed() -> None:
    wire = joined()
    wire.run(5)
    wire.set(wire.theirs)
    wire.run(0.1)
    status = wire.ours.seen[-1]
    assert status is not None
    assert (BfdState.DOWN, BfdState.ADMIN_DOWN, False) == (status.state, status.remote, status.failed)
    wire.run(5)
    assert wire.ours.seen[-1] is not None
    assert not wire.ours.seen[-1].failed


def test_a_peer_that_lost_us_is_believed() -> None:
    wire = joined()
    wire.run(5)
    wire.theirs.coming.clear()
    wire.theirs.engine = BfdEngine(random.Random(7))  # it has been started anew
    wire.set(wire.theirs, BACK)
    wire.run(0.5)
    down = [each for each in wire.ours.seen if each is not None and each.failed]
    assert down
    wire.run(3)
    assert (BfdState.UP, BfdState.UP) == (wire.ours.state, wire.theirs.state)


def test_a_passive_end_says_nothing_before_it_is_spoken_to() -> None:
    wire = Wire()
    wire.set(wire.ours, evolve(FAST, passive=True))
    wire.run(5)
    assert [] == wire.ours.sent
    wire.set(wire.theirs, BACK)
    wire.run(3)
    assert BfdState.UP is wire.ours.state


def test_two_passive_ends_wait_for_each_other() -> None:
    wire = Wire()
    wire.set(wire.ours, evolve(FAST, passive=True))
    wire.set(wire.theirs, evolve(BACK, passive=True))
    wire.run(30)
    assert [] == [*wire.ours.sent, *wire.theirs.sent]


def test_a_peer_that_wants_nothing_is_sent_nothing_but_answers() -> None:
    engine = BfdEngine(random.Random(1))
    (first, *_) = engine.set([FAST], 0.0)
    assert isinstance(first, Send)
    packet = ControlPacket(
        state=BfdState.DOWN, poll=True, detect_multiplier=3, mine=5, desired_min_tx=1_000_000, required_min_rx=0
    )
    origin = Origin(source=THEM, interface="eth0", ttl=255, multihop=False)
    answers = [decode(each.data) for each in engine.receive(encode(packet), origin, 0.5) if isinstance(each, Send)]
    assert [True] == [each.final for each in answers]
    sent = [each for at in (1.0, 2.0, 3.0) for each in engine.tick(at) if isinstance(each, Send)]
    assert [] == sent


def _send(engine: BfdEngine, origin: Origin, yours: int = 0, state: BfdState = BfdState.DOWN) -> list[BfdOutput]:
    packet = ControlPacket(
        state=state, detect_multiplier=3, mine=5, yours=yours, desired_min_tx=1_000_000, required_min_rx=100_000
    )
    return engine.receive(encode(packet), origin, 0.5)


def _heard(engine: BfdEngine, origin: Origin, yours: int = 0) -> bool:
    before = engine.ignored
    _send(engine, origin, yours)
    return engine.ignored == before


def _refused(outputs: Iterable[BfdOutput]) -> list[int]:
    """The TTLs that are told to be too small."""
    seen = [each.event.status for each in outputs if isinstance(each, Report) and isinstance(each.event, WatchSeen)]
    return [status.refused_ttl for status in seen if status is not None and status.refused_ttl]


GOOD = Origin(source=THEM, interface="eth0", ttl=255, multihop=False)


def test_only_the_peer_itself_is_heard() -> None:
    engine = BfdEngine(random.Random(1))
    outputs = engine.set([FAST], 0.0)
    ours = next(decode(each.data) for each in outputs if isinstance(each, Send)).mine
    assert not _heard(engine, evolve(GOOD, ttl=254))  # it has passed a router
    assert not _heard(engine, evolve(GOOD, source=US))
    assert not _heard(engine, evolve(GOOD, interface="eth1"))
    assert not _heard(engine, evolve(GOOD, multihop=True))
    assert not _heard(engine, GOOD, yours=ours ^ 1)
    assert not _heard(engine, evolve(GOOD, source=US), yours=ours)  # a discriminator that was overheard
    assert _heard(engine, GOOD)
    assert _heard(engine, GOOD, yours=ours)


def test_over_several_hops_the_profiles_ttl_counts() -> None:
    engine = BfdEngine(random.Random(1))
    engine.set([evolve(FAST, multihop=True, interface="", minimum_ttl=250)], 0.0)
    far = Origin(source=THEM, interface="eth7", ttl=250, multihop=True)
    assert not _heard(engine, evolve(far, ttl=249))
    assert not _heard(engine, evolve(far, multihop=False))
    assert _heard(engine, far)


@given(st.integers(1, 254), st.integers(1, 255))
def test_a_peer_that_is_not_heard_for_its_ttl_is_told_of_once_until_it_is_up(least: int, ttl: int) -> None:
    engine = BfdEngine(random.Random(1))
    first = engine.set([evolve(FAST, multihop=True, interface="", minimum_ttl=least)], 0.0)
    ours = next(decode(each.data).mine for each in first if isinstance(each, Send))
    far = Origin(source=THEM, interface="eth7", ttl=ttl, multihop=True)
    assert [] == _refused(_send(engine, evolve(far, ttl=0, source=US)))  # not the peer
    expected = ttl if ttl < least else 0
    assert [expected] * bool(expected) == _refused(_send(engine, far))
    assert expected == _status(engine).refused_ttl
    if expected:
        assert [] == _send(engine, evolve(far, ttl=least - 1))
    # It comes up: whoever sends in its name from far away is not worth a word any more.
    near = evolve(far, ttl=255)
    _send(engine, near)
    _send(engine, near, ours, BfdState.INIT)
    assert (BfdState.UP, 0) == (_status(engine).state, _status(engine).refused_ttl)
    assert [] == _send(engine, evolve(far, ttl=least - 1), ours)


def test_where_it_is_for_the_peer_to_choose_its_packets_say_over_how_many_hops() -> None:
    for chosen in (False, True):
        engine = BfdEngine(random.Random(1))
        first = engine.set([evolve(FAST, multihop=None)], 0.0)
        assert [(True, False)] == [each.where.hops for each in first if isinstance(each, Send)]
        assert _heard(engine, evolve(GOOD, multihop=chosen))
        later = engine.tick(2.5)
        assert [(chosen,)] == [each.where.hops for each in later if isinstance(each, Send)]


def test_the_neighbor_on_a_link_is_known_when_it_is_heard() -> None:
    engine = BfdEngine(random.Random(1))
    engine.set([Watch(peer="tor", interface="eth0")], 0.0)
    neighbor = Address.parse("fe80::2")
    assert engine.address("tor") is None
    assert not _heard(engine, GOOD)  # no address of the link
    assert not _heard(engine, evolve(GOOD, source=neighbor, interface="eth1"))
    assert _heard(engine, evolve(GOOD, source=neighbor))
    assert neighbor == engine.address("tor")


@given(st.lists(st.tuples(st.floats(0, 3), st.binary(max_size=40)), max_size=30))
def test_noise_never_raises_and_never_brings_a_session_up(noise: list[tuple[float, bytes]]) -> None:
    engine = BfdEngine(random.Random(1))
    engine.set([FAST], 0.0)
    now = 0.0
    for gap, data in noise:
        now += gap
        engine.receive(data, GOOD, now)
        engine.tick(now)
    status = _status(engine)
    assert status.state is not BfdState.UP


def test_a_change_of_one_peer_touches_no_other_session() -> None:
    engine = BfdEngine(random.Random(1))
    engine.set([FAST], 0.0)
    other = evolve(FAST, peer="other", address=Address.parse("192.0.2.9"))
    outputs = engine.set([FAST, other], 1.0)
    assert {"other"} == {each.where.watch.peer for each in outputs if isinstance(each, Send)}
    gone = engine.set([FAST], 2.0)
    assert [("other", None)] == [(r.event.peer, r.event.status) for r in gone if isinstance(r, Report)]  # type: ignore[union-attr]
    last = [decode(each.data) for each in gone if isinstance(each, Send)]
    assert [BfdState.ADMIN_DOWN] == [each.state for each in last]

"""Members by heartbeat: engines joined in memory, on a clock of our own, each node's running at its own rate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.adapters.base import Report
from lbcore.adapters.heartbeat import (
    Heartbeat,
    HeartbeatOutput,
    Record,
    RemoveRecord,
    WriteRecord,
    decode_record,
    encode_record,
)
from lbcore.backends.members import MemoryRecords
from lbcore.errors import RemoteProtocolError
from lbcore.events import Event, MembersSeen
from lbcore.intents import SetPresence

STEP = 0.01  # seconds of true time between two looks at every node's deadline
JOIN = SetPresence(present=True, why="test")
LEAVE = SetPresence(present=False, why="test")


class Member:
    """One node: an engine, the folder it shares with the others, and a clock with a rate and an offset."""

    def __init__(self, name: str, folder: MemoryRecords, *, rate: float = 1.0, offset: float = 0.0) -> None:
        self.name = name
        self.folder = folder
        self.rate = rate
        self.offset = offset
        self.reports: list[tuple[float, frozenset[str]]] = []
        self.told: list[MembersSeen] = []
        self.frozen = False
        self.incarnation = 0
        self.engine: Heartbeat | None = None

    def start(self, at: float) -> None:
        """A new process of this node, which joins at once."""
        self.incarnation += 1
        self.frozen = False
        seed = sum(self.name.encode()) + self.incarnation
        self.engine = Heartbeat(self.name, self.incarnation, rng=Random(seed))
        self.carry_out(self.engine.command(JOIN, self._local(at)), at)

    def leave(self, at: float) -> None:
        """A clean stop."""
        if self.engine is not None:
            self.carry_out(self.engine.command(LEAVE, self._local(at)), at)
        self.engine = None

    def die(self) -> None:
        """An unclean one: the record stays."""
        self.engine = None

    def step(self, at: float) -> None:
        """Do what is due, if this node is able to."""
        now = self._local(at)
        if self.engine is None or self.frozen or now < self.engine.deadline:
            return
        self.carry_out(self.engine.observe(self.folder.read(), now), at)
        self.carry_out(self.engine.tick(now), at)

    def _local(self, at: float) -> float:
        return self.offset + at * self.rate

    def carry_out(self, outputs: Sequence[HeartbeatOutput], at: float) -> None:
        for output in outputs:
            match output:
                case WriteRecord(data):
                    self.folder.write(self.name, data)
                case RemoveRecord():
                    self.folder.remove(self.name)
                case Report(MembersSeen(names) as seen):
                    self.reports.append((at, names))
                    self.told.append(seen)


class World:
    """Nodes a, b, c, ... around one folder."""

    def __init__(self, *clocks: tuple[float, float]) -> None:
        self.now = 0.0
        self.folder = MemoryRecords()
        names = "abcdefgh"[: len(clocks)]
        self.members = {
            name: Member(name, self.folder, rate=rate, offset=offset)
            for name, (rate, offset) in zip(names, clocks, strict=True)
        }

    def start(self) -> World:
        """Start every node."""
        for member in self.members.values():
            member.start(self.now)
        return self

    def run(self, seconds: float) -> World:
        """Let true time pass."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for member in self.members.values():
                member.step(self.now)
        return self


clocks = st.tuples(st.floats(0.7, 1.4), st.floats(-1e6, 1e6))
faults = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from(["start", "leave", "die", "freeze", "thaw"]),
    st.floats(0, 1.5),
)


@given(st.lists(clocks, min_size=4, max_size=4), st.lists(faults, max_size=12))
@example([(1.0, 0.0)] * 4, [("a", "freeze", 1.0), ("a", "thaw", 0.0)])
@example([(1.0, 0.0)] * 4, [("a", "die", 0.0), ("a", "start", 0.1), ("b", "freeze", 0.0)])
def test_after_the_last_fault_all_who_live_agree_on_who_lives(
    rates: list[tuple[float, float]], history: list[tuple[str, str, float]]
) -> None:
    world = World(*rates).start().run(0.3)
    for name, action, pause in history:
        member = world.members[name]
        match action:
            case "start":
                member.start(world.now)
            case "leave":
                member.leave(world.now)
            case "die":
                member.die()
            case _:
                member.frozen = action == "freeze"
        world.run(pause)
    world.run(4)
    living = frozenset(
        name for name, member in world.members.items() if member.engine is not None and not member.frozen
    )
    for name in living:
        engine = world.members[name].engine
        assert engine is not None
        assert living == engine.members
    for member in world.members.values():
        if member.incarnation == 1:
            assert all(one != other for one, other in pairwise(member.told))


@given(st.lists(clocks, min_size=2, max_size=5), st.floats(0, 20))
def test_clocks_that_differ_lose_nobody(rates: list[tuple[float, float]], seconds: float) -> None:
    world = World(*rates).start().run(2 + seconds)
    everybody = frozenset(world.members)
    for member in world.members.values():
        sizes = [len(names) for _, names in member.reports]
        assert sorted(sizes) == sizes
        assert everybody == member.reports[-1][1]


def test_a_node_that_dies_is_missed_within_its_expiry_and_two_intervals() -> None:
    world = World((1, 0), (1, 5), (1, 9)).start().run(3)
    world.members["c"].die()
    died = world.now
    world.run(2)
    for name in "ab":
        at, names = world.members[name].reports[-1]
        assert frozenset("ab") == names
        assert 0.4 <= at - died <= 0.5 + 2 * 0.1 + STEP


def test_a_node_that_leaves_is_missed_at_the_next_look() -> None:
    world = World((1, 0), (1, 5)).start().run(3)
    world.members["b"].leave(world.now)
    left = world.now
    world.run(1)
    at, names = world.members["a"].reports[-1]
    assert frozenset("a") == names
    assert at - left <= 0.1 + STEP


def test_who_leaves_hears_at_once_that_it_is_no_member() -> None:
    world = World((1, 0), (1, 0)).start().run(3)
    member = world.members["a"]
    member.leave(world.now)
    assert (world.now, frozenset("b")) == member.reports[-1]


def test_a_new_node_is_seen_within_three_intervals() -> None:
    world = World((1, 0), (1, 0))
    world.members["a"].start(0.0)
    world.run(3)
    world.members["b"].start(world.now)
    started = world.now
    world.run(1)
    at, names = world.members["a"].reports[-1]
    assert frozenset("ab") == names
    assert at - started <= 3 * 0.1 + STEP


def test_a_file_left_by_a_dead_node_gives_it_no_life() -> None:
    world = World((1, 0))
    world.folder.write("ghost", encode_record(Record("ghost", 7, 1000)))
    world.start().run(5)
    assert [frozenset("a")] == [names for _, names in world.members["a"].reports]


def test_the_first_report_tells_of_everybody_who_already_lived() -> None:
    world = World((1, 0), (1, 0), (1, 0))
    world.members["b"].start(0.0)
    world.members["c"].start(0.0)
    world.run(2)
    world.members["a"].start(world.now)
    began = world.now
    world.run(3)
    at, names = world.members["a"].reports[0]
    assert frozenset("abc") == names
    assert 0.5 <= at - began <= 1.0


def test_a_node_that_cannot_be_heard_does_not_count_itself_and_reports_after_two_seconds() -> None:
    member = Member("a", MemoryRecords())
    engine = Heartbeat("a", 1, rng=Random(1))
    engine.command(JOIN, 0.0)
    for tick in range(300):
        now = tick * STEP
        for output in [*engine.observe({}, now), *engine.tick(now)]:
            if isinstance(output, Report) and isinstance(output.event, MembersSeen):
                member.reports.append((now, output.event.names))
    assert [frozenset()] == [names for _, names in member.reports]
    assert 2.0 == pytest.approx(member.reports[0][0])


def test_a_folder_that_nobody_can_read_ends_no_membership() -> None:
    world = World((1, 0), (1, 0)).start().run(3)
    engine = world.members["a"].engine
    assert engine is not None
    before = len(world.members["a"].reports)
    for tick in range(1000):
        world.members["a"].carry_out(engine.tick(world.now + tick * STEP), world.now)
    assert before == len(world.members["a"].reports)
    assert frozenset("ab") == engine.members


def test_a_machine_that_stood_still_for_an_hour_loses_nobody_and_each_of_its_nodes_is_back() -> None:
    world = World((1, 0), (1, 0), (1, 0)).start().run(3)
    world.now += 3600
    world.run(3)
    everybody = frozenset("abc")
    told = [MembersSeen(everybody), MembersSeen(everybody, reunions=1)]
    assert [told] * 3 == [member.told for member in world.members.values()]


def test_a_node_that_stood_still_knows_that_others_may_have_announced_what_is_its_own() -> None:
    world = World((1, 0), (1, 0)).start().run(3)
    world.members["a"].frozen = True
    world.run(2)
    assert frozenset("b") == world.members["b"].told[-1].names
    world.members["a"].frozen = False
    world.run(2)
    assert [MembersSeen(frozenset("ab"), reunions=1)] * 2 == [member.told[-1] for member in world.members.values()]
    # A moment shorter than it takes to be held for dead is none.
    world.members["a"].frozen = True
    world.run(0.2)
    world.members["a"].frozen = False
    world.run(2)
    assert [1, 1] == [member.told[-1].reunions for member in world.members.values()]


def test_one_that_beats_slower_than_the_expiry_does_not_flap() -> None:
    engine = Heartbeat("a", 1, rng=Random(1))
    told: list[Event] = []
    for tick in range(2000):
        now = tick * STEP
        slow = encode_record(Record("slow", 1, int(now / 0.7)))
        told += [output.event for output in engine.observe({"slow": slow}, now) if isinstance(output, Report)]
    assert [MembersSeen(frozenset())] == told


def test_an_older_record_of_the_same_process_is_no_sign_of_life() -> None:
    engine = Heartbeat("a", 1, rng=Random(1))
    told: list[Event] = []
    for tick in range(500):
        now = tick * STEP
        stale = encode_record(Record("b", 1, 1000 - tick))
        told += [output.event for output in engine.observe({"b": stale}, now) if isinstance(output, Report)]
    assert [MembersSeen(frozenset())] == told


def test_a_record_under_another_nodes_name_counts_for_nobody() -> None:
    engine = Heartbeat("a", 1, rng=Random(1))
    for tick in range(300):
        record = encode_record(Record("b", 1, tick))
        engine.observe({"c": record, "d": b"{"}, tick * STEP)
    assert frozenset() == engine.members
    assert 2 == engine.ignored


def test_our_own_name_is_no_member_while_we_are_absent_whoever_beats_under_it() -> None:
    engine = Heartbeat("a", 1, rng=Random(1))
    for tick in range(300):
        engine.observe({"a": encode_record(Record("a", 7, tick))}, tick * STEP)
    assert frozenset() == engine.members


def test_an_expiry_shorter_than_two_intervals_is_refused() -> None:
    with pytest.raises(ValueError, match="twice the interval"):
        Heartbeat("a", 1, rng=Random(1), interval=0.3, expiry=0.5)


numbers = st.integers(0, 2**63 - 1)


@given(st.text(), numbers, numbers)
def test_a_record_is_read_as_it_was_written(node: str, incarnation: int, sequence: int) -> None:
    record = Record(node, incarnation, sequence)
    assert record == decode_record(encode_record(record))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(b'{"node":"a","incarnation":true,"sequence":1}')
@example(b'{"node":"a","incarnation":1,"sequence":-1}')
@example(b'{"node":"a","incarnation":1,"sequence":1e400}')
def test_garbage_is_no_record_and_no_crash(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_record(data)

"""Candidates joined over a Lease in memory: answers late or lost, clocks that drift, processes that stand still."""

from __future__ import annotations

from random import Random

from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore.adapters.lease import Leading, LeaseEngine, LeaseOutput, LeaseRecord, LeaseTimes, ReadLease, WriteLease

TIMES = LeaseTimes()


@define
class Store:
    """The API server's side: one object, with versions."""

    record: LeaseRecord | None = None
    count: int = 0

    def write(self, record: LeaseRecord) -> str | None:
        """The new version, or None for a conflict."""
        if record.version != (self.record.version if self.record is not None else ""):
            return None
        self.count += 1
        self.record = evolve(record, version=str(self.count))
        return str(self.count)


@define
class Candidate:
    name: str
    rate: float  # seconds of its clock for each second of the world's
    seed: int
    engine: LeaseEngine = field(init=False)
    answer: tuple[float, str, object] | None = None
    frozen_until: float = 0.0
    began: list[bool] = field(factory=list)
    slowest: float = 6.0  # seconds until a write is answered, at most

    def __attrs_post_init__(self) -> None:
        self.engine = LeaseEngine(self.name, rng=Random(self.seed))

    def clock(self, world: float) -> float:
        return 1000.0 * self.seed + world * self.rate

    def believes(self, world: float) -> bool:
        return self.engine.leads(self.clock(world))

    def step(self, world: float, store: Store, fate: Random, loss: float) -> None:
        if world < self.frozen_until:
            return
        now = self.clock(world)
        outputs: list[LeaseOutput] = []
        if self.answer is not None and world >= self.answer[0]:
            _, kind, value = self.answer
            self.answer = None
            if kind == "seen":
                outputs = self.engine.seen(value, now)  # type: ignore[arg-type]
            elif kind == "written":
                outputs = self.engine.written(str(value), now)
            elif kind == "refused":
                outputs = self.engine.refused(now)
            else:
                outputs = self.engine.failed(now)
        elif now >= self.engine.deadline:
            outputs = self.engine.tick(now)
        for output in outputs:
            self.carry_out(output, world, store, fate, loss)

    def carry_out(self, output: LeaseOutput, world: float, store: Store, fate: Random, loss: float) -> None:
        match output:
            case Leading(leading):
                self.began.append(leading)
            case ReadLease():
                lost = fate.random() < loss
                self.answer = (world + fate.uniform(0, 1), "failed" if lost else "seen", store.record)
            case WriteLease(record):
                before, after = fate.random() < loss, fate.random() < loss
                version = None if before else store.write(record)
                kind = "failed" if before or after else "refused" if version is None else "written"
                self.answer = (world + fate.uniform(0, self.slowest), kind, version)


@given(
    seed=st.integers(0, 2**32),
    rates=st.lists(st.floats(0.87, 1.13), min_size=2, max_size=4),
    loss=st.floats(0, 0.6),
    freezes=st.floats(0, 0.02),
)
@settings(max_examples=60, deadline=None)
def test_never_do_two_believe_to_lead_whatever_is_lost_late_frozen_or_drifts(
    seed: int, rates: list[float], loss: float, freezes: float
) -> None:
    fate, store = Random(seed), Store()
    candidates = [Candidate(f"c{n}", rate, n) for n, rate in enumerate(rates)]
    for tenth in range(2400):
        world = tenth / 10
        for each in candidates:
            if fate.random() < freezes:
                each.frozen_until = world + fate.choice([1, 5, 12, 40])
            each.step(world, store, fate, loss)
            leaders = [other.name for other in candidates if other.believes(world)]
            assert len(leaders) <= 1, leaders


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_one_of_several_leads_soon_and_goes_on_while_nothing_is_lost(seed: int) -> None:
    fate, store = Random(seed), Store()
    candidates = [Candidate(f"c{n}", 1.0, n, slowest=1.0) for n in range(3)]
    for tenth in range(600):
        for each in candidates:
            each.step(tenth / 10, store, fate, 0.0)
    assert [[True]] == [each.began for each in candidates if each.began]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_leader_that_dies_is_followed_after_the_duration_and_not_before(seed: int) -> None:
    fate, store = Random(seed), Store()
    first, second = Candidate("a", 1.0, seed, slowest=0.5), Candidate("b", 1.0, seed + 1, slowest=0.5)
    renewed = began = None
    for tenth in range(600):
        world = tenth / 10
        before = store.count
        if world < 20:
            first.step(world, store, fate, 0.0)
            renewed = world if store.count > before else renewed
        if world > 5:
            second.step(world, store, fate, 0.0)
        if began is None and second.believes(world):
            began = world
    assert renewed is not None
    assert began is not None
    # Seen to be renewed within an attempt of that; looked at when it ends, and taken two answers later.
    attempt, answers = TIMES.retry_period * 1.2 + 1.0, 1.0 + 0.5
    tick = 0.1  # of this world: every step may wait for one
    assert renewed + TIMES.duration <= began <= renewed + TIMES.duration + attempt + answers + 4 * tick


@given(seed=st.integers(0, 2**32), late=st.floats(0, 1))
def test_who_waits_looks_again_in_the_moment_in_which_the_lease_ends(seed: int, late: float) -> None:
    engine = LeaseEngine("b", rng=Random(seed))
    record = LeaseRecord(holder="a", duration=TIMES.duration, version="7")
    asked = 0.0
    engine.tick(asked)
    while not any(isinstance(each, WriteLease) for each in engine.seen(record, asked + late)):
        asked = engine.deadline
        assert [ReadLease()] == engine.tick(asked)
    # In that moment, or before it, and it has come when that is answered.
    assert asked <= late + TIMES.duration <= asked + late


def test_one_that_ends_gives_the_lease_up_and_the_next_one_takes_it_at_once() -> None:
    engine, other = LeaseEngine("a", rng=Random(1)), LeaseEngine("b", rng=Random(2))
    store = Store()
    assert [ReadLease()] == engine.tick(0.0)
    (write,) = engine.seen(None, 0.1)
    assert isinstance(write, WriteLease)
    assert [Leading(True, "the Lease is ours")] == engine.written(store.write(write.record) or "", 0.2)
    leave, give_up = engine.release(1.0)
    assert isinstance(leave, Leading)
    assert isinstance(give_up, WriteLease)
    store.write(give_up.record)
    assert not engine.leads(1.0)
    other.tick(1.1)
    (take,) = other.seen(store.record, 1.2)
    assert isinstance(take, WriteLease)
    assert "b" == take.record.holder


def test_the_fence_closes_before_the_belief_ends() -> None:
    engine, store = LeaseEngine("a", rng=Random(1)), Store()
    engine.tick(0.0)
    (write,) = engine.seen(None, 0.0)
    assert isinstance(write, WriteLease)
    engine.written(store.write(write.record) or "", 3.0)
    until = TIMES.renew_deadline  # from when it was sent
    assert engine.leads(until - 2.1, margin=2.0)
    assert not engine.leads(until - 1.9, margin=2.0)
    assert not engine.leads(until)

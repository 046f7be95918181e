"""The loop against a model of it: any events, any outcomes, any time; its brain writes down what it saw."""

from __future__ import annotations

import random
from collections.abc import Hashable

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lbcore.addresses import Address
from lbcore.brain import Step
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Dispatch, Loop
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    Event,
    Failed,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    ServiceGone,
    ServiceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import Announce, Intent, SetAddresses, Withdraw
from lbcore.model import Service, ServiceKey
from worlds import ipv6, plain_service

CLUSTER = Lane(name="cluster", handles=(SetAddresses,), concurrency=2)
REFLEX = Lane(name="reflex", handles=(Announce, Withdraw), concurrency=1)


def scribe(seen: tuple[Event, ...], event: Event, now: float) -> Step[tuple[Event, ...]]:
    """A brain that wants one write for each look at a Service, and what an address's `link` says.

    A Service's label `wake` says in how many seconds it wants to be asked again.
    """
    after = (*seen, event)
    match event:
        case ServiceSeen(service):
            wake = service.labels.get("wake")
            write = SetAddresses(key=service.key, uid=service.labels.get("version", ""))
            return Step(state=after, intents=(write,), wake_at=now + float(wake) if wake else None)
        case AddressHeard(address=address, link=link):
            wanted = Announce(address=address) if link == "up" else Withdraw(address=address)
            return Step(state=after, intents=(wanted,))
        case _:
            return Step(state=after)


def new_loop(seed: int = 0) -> Loop[tuple[Event, ...]]:
    return Loop(scribe, (), [CLUSTER, REFLEX], random.Random(seed))


def service(name: str, uid: str = "one", **labels: str) -> Service:
    return plain_service(name, uid=uid, labels=labels)


def heard(number: int, link: str = "up") -> AddressHeard:
    return AddressHeard(address=ipv6(number), mac=bytes(6), link=link)


services = st.builds(
    service, st.sampled_from("ab"), uid=st.sampled_from(["one", "two"]), wake=st.sampled_from(["", "0.3", "0"])
)


@attrs.define
class Wish:
    """The newest intent for one subject, as the model has it."""

    intent: Intent
    failures: int = 0
    not_before: float = 0.0
    not_after: float = 0.0
    done: bool = False


class LoopAgainstAModel(RuleBasedStateMachine):
    """The brain sees the newest of everything in order; only the newest wish for a subject is carried out."""

    @initialize(seed=st.integers(0, 9))
    def begin(self, seed: int) -> None:
        self.loop = new_loop(seed)
        self.now = 0.0
        self.version = 0
        self.urgent: dict[Hashable, Event] = {}
        self.inbox: dict[Hashable, Event] = {}
        self.wishes: dict[tuple[str, str], Wish] = {}
        self.running: dict[tuple[str, str], Dispatch] = {}
        self.wake_at: float | None = None

    def receive(self, event: Event) -> None:
        self.loop.receive(event)
        self.expect(event)

    def expect(self, event: Event) -> None:
        identity: Hashable = event.subject
        if isinstance(event, ServiceSeen):
            identity = (event.subject, event.service.uid)
        elif isinstance(event, ServiceGone):
            identity = (event.subject, event.uid)
        line = self.urgent if isinstance(event, AddressHeard | MembersSeen) else self.inbox
        line[identity] = event

    @rule(given_service=services)
    def see(self, given_service: Service) -> None:
        self.version += 1
        labels = {**given_service.labels, "version": str(self.version)}
        self.receive(ServiceSeen(attrs.evolve(given_service, labels=labels)))

    @rule(name=st.sampled_from("ab"), uid=st.sampled_from(["one", "two"]))
    def lose(self, name: str, uid: str) -> None:
        self.receive(ServiceGone(ServiceKey("red", name), uid))

    @rule(number=st.integers(0, 2), link=st.sampled_from(["up", "down"]))
    def hear(self, number: int, link: str) -> None:
        self.receive(heard(number, link))

    @rule(names=st.frozensets(st.sampled_from(["n1", "n2"])))
    def see_members(self, names: frozenset[str]) -> None:
        self.receive(MembersSeen(names))

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.2, 5.0, 60.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    def turn(self) -> None:
        expected = next(iter((self.urgent or self.inbox).values()), None)
        if expected is None and self.wake_at is not None and self.wake_at <= self.now:
            expected = Tick()
        turn = self.loop.tick(self.now)
        assert expected == turn.event
        if expected is not None:
            line = self.urgent or self.inbox
            if line:
                line.pop(next(iter(line)))
            step = scribe((), expected, self.now)
            self.wake_at = step.wake_at
            assert step.intents == turn.intents
            self.wishes |= {intent.subject: Wish(intent) for intent in turn.intents}
        for dispatch in turn.dispatches:
            self.check_dispatch(dispatch)
        self.nothing_is_left_that_could_start()

    def check_dispatch(self, dispatch: Dispatch) -> None:
        """It is the newest wish, its time has come, and nothing about the same thing is under way."""
        subject = dispatch.intent.subject
        assert subject not in self.running
        wish = self.wishes[subject]
        assert wish.intent is dispatch.intent
        assert not wish.done
        assert wish.not_before <= self.now
        self.running[subject] = dispatch
        lane = CLUSTER if dispatch.lane == "cluster" else REFLEX
        assert isinstance(dispatch.intent, lane.handles)
        under_way = [each for each in self.running.values() if each.lane == dispatch.lane]
        assert len(under_way) <= lane.concurrency

    def nothing_is_left_that_could_start(self) -> None:
        for lane in (CLUSTER, REFLEX):
            full = len([each for each in self.running.values() if each.lane == lane.name]) == lane.concurrency
            for subject, wish in self.wishes.items():
                due = isinstance(wish.intent, lane.handles) and not wish.done and wish.not_after <= self.now
                assert full or not due or subject in self.running

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["applied", "failed", "failed", "failed for good"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        subject = data.draw(st.sampled_from(sorted(self.running)))
        self.finish_one(self.running.pop(subject), how)

    def finish_one(self, dispatch: Dispatch, how: str) -> None:
        intent = dispatch.intent
        wish = self.wishes[intent.subject]
        if how == "failed":
            self.loop.done(dispatch.lane, Failed(intent=intent, message="away"), self.now)
            if wish.intent is intent:
                pause = min(0.1 * 2**wish.failures, 30.0)
                wish.failures += 1
                wish.not_before, wish.not_after = self.now + pause * 0.75, self.now + pause * 1.25
            return
        outcome = Failed(intent=intent, message="no", retry=False) if how != "applied" else Applied(intent)
        self.loop.done(dispatch.lane, outcome, self.now)
        self.expect(outcome)  # the brain hears of it
        wish.done |= wish.intent is intent

    @invariant()
    def idle_and_deadline_tell_the_truth(self) -> None:
        if not hasattr(self, "loop"):
            return
        wishes = any(not wish.done for wish in self.wishes.values())
        assert self.loop.idle == (not (self.urgent or self.inbox or wishes or self.running))
        deadline = self.loop.deadline
        if self.urgent or self.inbox:
            assert deadline is not None
            assert deadline <= self.now
        elif deadline is None or deadline > self.now:
            assert self.wake_at is None or self.wake_at > self.now
            self.nothing_is_left_that_could_start()

    def teardown(self) -> None:
        """Driven by nothing but the deadline, everything wanted is carried out."""
        if not hasattr(self, "loop"):
            return
        for _ in range(500):
            for dispatch in list(self.running.values()):
                self.finish_one(self.running.pop(dispatch.intent.subject), "applied")
            deadline = self.loop.deadline
            if deadline is None:
                break
            self.now = max(self.now, deadline)
            self.turn()
        assert self.loop.idle
        assert all(wish.done for wish in self.wishes.values())


TestLoop = LoopAgainstAModel.TestCase
TestLoop.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_what_failover_depends_on_overtakes_everything_else() -> None:
    loop = new_loop()
    others: list[Event] = [ServiceSeen(service("a")), Listed(Kind.MEMBERS)]
    urgent: list[Event] = [MembersSeen(frozenset()), LinksSeen(()), heard(1), AnsweringSeen(()), Stopping()]
    for event in (*others, *urgent):
        loop.receive(event)
    for _ in range(10):
        loop.tick(0.0)
    assert (*urgent, *others) == loop.state


def test_a_service_deleted_and_created_anew_is_told_as_both() -> None:
    loop = new_loop()
    events: list[Event] = [ServiceGone(ServiceKey("red", "a"), "one"), ServiceSeen(service("a", uid="two"))]
    for event in (ServiceSeen(service("a", uid="one")), *events):
        loop.receive(event)
    for _ in range(5):
        loop.tick(0.0)
    assert tuple(events) == loop.state


def test_a_burst_is_handed_out_as_room_becomes_free_in_the_order_asked() -> None:
    loop = new_loop()
    for number in range(5):
        loop.receive(ServiceSeen(service(f"s{number}")))
    started = [dispatch.intent for _ in range(5) for dispatch in loop.tick(0.0).dispatches]
    assert ["s0", "s1"] == [intent.key.name for intent in started if isinstance(intent, SetAddresses)]
    loop.done("cluster", Failed(intent=started[0], message="away"), 0.0)
    assert 0.0 == loop.deadline
    (dispatch,) = loop.tick(0.0).dispatches
    assert "s2" == dispatch.intent.subject[1].partition("/")[2]


def test_retries_of_many_do_not_come_all_at_once() -> None:
    moments = set()
    for seed in range(20):
        loop = new_loop(seed)
        loop.receive(heard(1))
        (dispatch,) = loop.tick(0.0).dispatches
        loop.done("reflex", Failed(intent=dispatch.intent, message="away"), 0.0)
        moments.add(loop.deadline)
    assert len(moments) > 15


def test_a_pause_between_tries_grows_to_half_a_minute_and_begins_anew_with_a_newer_wish() -> None:
    loop = new_loop()
    loop.receive(heard(1))
    (dispatch,) = loop.tick(0.0).dispatches
    pauses, now = [], 0.0
    for _ in range(14):
        loop.done("reflex", Failed(intent=dispatch.intent, message="away"), now)
        assert loop.deadline is not None
        pauses.append(loop.deadline - now)
        now = loop.deadline
        (dispatch,) = loop.tick(now).dispatches
    assert pauses[0] <= 0.125
    assert all(22.5 <= pause <= 37.5 for pause in pauses[-4:])
    loop.done("reflex", Applied(dispatch.intent), now)
    loop.receive(heard(1, "down"))
    (dispatch,) = [each for _ in range(3) for each in loop.tick(now).dispatches]
    assert Withdraw(address=Address(6, ipv6(1).value)) == dispatch.intent
    loop.done("reflex", Failed(intent=dispatch.intent, message="away"), now)
    assert loop.deadline is not None
    assert loop.deadline - now <= 0.125


def test_a_newer_wish_does_not_pay_for_the_failures_of_the_older() -> None:
    loop = new_loop()
    loop.receive(heard(1))
    (dispatch,) = loop.tick(0.0).dispatches
    now = 0.0
    for _ in range(6):
        loop.done("reflex", Failed(intent=dispatch.intent, message="away"), now)
        now += 60.0
        (dispatch,) = loop.tick(now).dispatches
    loop.receive(heard(1, "down"))
    assert () == loop.tick(now).dispatches
    loop.done("reflex", Failed(intent=dispatch.intent, message="away"), now)
    (dispatch,) = loop.tick(now).dispatches
    assert Withdraw(address=ipv6(1)) == dispatch.intent
    loop.done("reflex", Failed(intent=dispatch.intent, message="away"), now)
    assert loop.deadline is not None
    assert loop.deadline - now <= 0.125


@pytest.mark.parametrize(
    "outcome", [Applied(Announce(address=ipv6(1))), Failed(intent=Announce(address=ipv6(1)), message="no", retry=False)]
)
def test_a_lane_that_reports_nothing_lets_the_brain_rest_and_goes_on(outcome: Applied | Failed) -> None:
    quiet = attrs.evolve(REFLEX, reports=False)
    loop: Loop[tuple[Event, ...]] = Loop(scribe, (), [CLUSTER, quiet], random.Random(0))
    loop.receive(heard(1))
    loop.tick(0.0)
    loop.receive(heard(2))
    assert () == loop.tick(0.0).dispatches  # one at a time
    loop.done("reflex", outcome, 0.0)
    turn = loop.tick(0.0)
    assert (None, [Announce(address=ipv6(2))]) == (turn.event, [each.intent for each in turn.dispatches])

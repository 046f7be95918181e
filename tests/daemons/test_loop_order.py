"""A status that shows an address is written after that of whoever gives it up, and nobody waits for ever."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.brain import Step
from lbcore.daemons.loop import Lane, Loop
from lbcore.events import Applied, Event, Failed, ServiceSeen
from lbcore.intents import SetAddresses
from lbcore.model import Service, ServiceKey

KEYS = tuple(ServiceKey("default", name) for name in "abcd")


def write(name: str, *after: str, uid: str = "") -> SetAddresses:
    return SetAddresses(
        key=ServiceKey("default", name), uid=uid, after=tuple(ServiceKey("default", each) for each in after)
    )


class Desk:
    """A loop whose brain wants what it is told, and the writes that are under way."""

    def __init__(self) -> None:
        self.told: list[SetAddresses] = []
        self.loop = Loop(self._want, None, [Lane(name="cluster", handles=(SetAddresses,))], random.Random(1))
        self.now = 0.0

    def _want(self, state: None, event: Event, now: float) -> Step[None]:
        del now
        wanted = tuple(self.told) if isinstance(event, ServiceSeen) else ()
        self.told.clear()
        return Step(state=state, intents=wanted)

    def want(self, *writes: SetAddresses) -> list[SetAddresses]:
        """Want these, in this order; returns what is started."""
        self.told += writes
        self.loop.receive(ServiceSeen(Service(key=writes[0].key)))
        return self.tick()

    def tick(self, later: float = 0.0) -> list[SetAddresses]:
        self.now += later
        started = [dispatch.intent for dispatch in self.loop.tick(self.now).dispatches]
        return [intent for intent in started if isinstance(intent, SetAddresses)]

    def done(self, intent: SetAddresses) -> list[SetAddresses]:
        self.loop.done("cluster", Applied(intent), self.now)
        return self.tick()

    def fail(self, intent: SetAddresses, *, retry: bool = True) -> list[SetAddresses]:
        self.loop.done("cluster", Failed(intent=intent, message="no", retry=retry), self.now)
        return self.tick()


def test_a_write_waits_for_the_one_that_gives_up_its_address() -> None:
    desk = Desk()
    assert [write("a")] == desk.want(write("a"), write("b", "a"))
    assert [write("b")] == desk.done(write("a"))


def test_it_waits_while_the_other_fails_and_is_tried_again() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [] == desk.fail(write("a"))
    assert [] == desk.tick(0.05)
    assert [write("a")] == desk.tick(1.0)
    assert [write("b")] == desk.done(write("a"))


def test_it_waits_for_the_newest_write_of_the_other() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [] == desk.want(write("a", uid="newer"))
    assert [write("a", uid="newer")] == desk.done(write("a"))
    assert [write("b")] == desk.done(write("a", uid="newer"))


def test_it_goes_when_the_other_can_never_be_written() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [write("b")] == desk.fail(write("a"), retry=False)


def test_a_newer_wish_that_waits_for_nobody_goes_at_once() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [write("b", uid="newer")] == desk.want(write("b", uid="newer"))
    assert [] == desk.done(write("a"))


def test_it_waits_for_each_of_two() -> None:
    desk = Desk()
    desk.want(write("a"), write("b"), write("c", "a", "b"))
    assert [] == desk.done(write("b"))
    assert [write("c")] == desk.done(write("a"))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_of_those_that_wait_for_each_other_in_a_ring_one_goes(size: int) -> None:
    desk = Desk()
    names = "abcd"[:size]
    desk.want(*(write(name) for name in names))
    ring = [write(name, names[number - 1], uid="newer") for number, name in enumerate(names)]
    assert [] == desk.want(*ring)
    started: list[SetAddresses] = []
    for name in names:
        started += desk.done(write(name))
    while started:
        started += desk.done(started.pop())
    assert desk.loop.idle


steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sampled_from("abcd"), st.sets(st.sampled_from("abcd"), max_size=2)),
        st.tuples(st.sampled_from(["done", "fail", "refuse"]), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(steps)
def test_whatever_happens_every_newest_wish_is_carried_out(
    history: list[tuple[str, str, set[str]] | tuple[str, int]],
) -> None:
    desk, running, newest, carried = Desk(), list[SetAddresses](), dict[str, str](), dict[str, str]()
    number = 0
    for step in history:
        if len(step) == 3:
            _, name, after = step
            number += 1
            newest[name] = str(number)
            running += desk.want(write(name, *sorted(after - {name}), uid=str(number)))
        elif running:
            intent = running.pop(step[1] % len(running))
            if step[0] == "done":
                carried[intent.key.name] = intent.uid
                running += desk.done(intent)
            else:
                if step[0] == "refuse":
                    carried[intent.key.name] = intent.uid
                running += desk.fail(intent, retry=step[0] == "fail")
        assert len({intent.key for intent in running}) == len(running)
    for _ in range(200):
        for intent in running:
            carried[intent.key.name] = intent.uid
        finished, running = running, []
        for intent in finished:
            running += desk.done(intent)
        running += desk.tick(40.0)
    assert newest == carried
    assert desk.loop.idle

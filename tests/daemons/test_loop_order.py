"""A status that shows an address is written after that of whoever gives it up, and nobody waits for ever.

Each Service of these tests had an address of its own and gives it up; `write("b", "a")` shows that of a
instead, and so is to be written after a's.
"""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address
from lbcore.brain import Step
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Loop
from lbcore.events import Applied, Event, Failed, ServiceSeen
from lbcore.intents import SetAddresses
from lbcore.model import Service, ServiceKey
from worlds import ipv6

NAMES = "abcd"


def key(name: str) -> ServiceKey:
    return ServiceKey("default", name)


def own(name: str) -> Address:
    return ipv6(NAMES.index(name))


def write(name: str, *after: str, uid: str = "") -> SetAddresses:
    return SetAddresses(
        key=key(name),
        uid=uid,
        addresses=tuple(own(each) for each in after),
        gives_up=frozenset({own(name)}),
        after=tuple(key(each) for each in after),
    )


class Desk:
    """A loop whose brain wants what it is told, and the writes that are under way."""

    def __init__(self, *, concurrency: int = 16) -> None:
        self.told: list[SetAddresses] = []
        lane = Lane(name="cluster", handles=(SetAddresses,), concurrency=concurrency)
        self.loop = Loop(self._want, None, [lane], random.Random(1))
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
    assert [write("b", "a")] == desk.done(write("a"))


def test_it_waits_while_the_other_fails_and_is_tried_again() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [] == desk.fail(write("a"))
    assert [] == desk.tick(0.05)
    assert [write("a")] == desk.tick(1.0)
    assert [write("b", "a")] == desk.done(write("a"))


def test_it_waits_for_the_newest_write_of_the_other_while_that_one_still_shows_the_address() -> None:
    desk = Desk()
    still = SetAddresses(key=key("a"), addresses=(own("a"),))
    desk.want(still)
    desk.want(write("a"), write("b", "a"))
    assert [write("a")] == desk.done(still)
    assert [write("b", "a")] == desk.done(write("a"))


def test_what_waits_for_an_address_comes_before_a_newer_write_of_the_one_who_gave_it_up() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    newer = write("a", "b", uid="newer")  # what b gives up in return
    assert [] == desk.want(newer)
    assert [write("b", "a")] == desk.done(write("a"))
    assert [newer] == desk.done(write("b", "a"))


def test_of_two_that_exchange_their_addresses_one_lets_go_first() -> None:
    desk = Desk()
    newer = write("a", "b", uid="newer")
    (let_go,) = desk.want(write("a"), write("b", "a"), newer)
    assert SetAddresses(key=key("a"), uid="newer") == let_go
    assert [write("b", "a")] == desk.done(let_go)
    assert [newer] == desk.done(write("b", "a"))
    assert [] == desk.done(newer)
    assert desk.loop.idle


def test_one_that_lets_go_keeps_what_nobody_else_shows_and_says_of_which_pool_it_is() -> None:
    desk = Desk()
    other = ipv6(99)
    newer = attrs.evolve(write("a", "b"), addresses=(other, own("b")), pool="gold")
    (let_go,) = desk.want(write("a"), write("b", "a"), newer)
    assert SetAddresses(key=key("a"), addresses=(other,), pool="gold") == let_go


def test_letting_go_is_tried_again_at_growing_intervals_until_it_succeeds_or_nobody_waits() -> None:
    desk = Desk()
    newer = write("a", "b", uid="newer")
    (let_go,) = desk.want(write("a"), write("b", "a"), newer)
    for pause in (0.1, 0.2, 0.4, 0.8):
        assert [] == desk.fail(let_go)
        assert [] == desk.tick(pause * 0.7)
        assert [let_go] == desk.tick(pause * 0.6)
    desk.fail(let_go)
    assert [SetAddresses(key=key("b"))] == desk.want(SetAddresses(key=key("b")))  # deleted, say
    desk.done(SetAddresses(key=key("b")))
    assert [newer] == desk.tick(60.0)


def test_something_newer_takes_the_place_of_both_halves_before_either_was_started() -> None:
    desk = Desk(concurrency=1)
    other = SetAddresses(key=key("d"))
    assert [other] == desk.want(other)
    desk.want(write("a"), write("b", "a"), write("a", "b", uid="newer"))
    newest = write("a", uid="newest")
    desk.want(newest)
    assert [newest] == desk.done(other)
    assert [write("b", "a")] == desk.done(newest)
    assert [] == desk.done(write("b", "a"))
    assert desk.loop.idle


def test_something_newer_takes_the_place_of_both_halves() -> None:
    desk = Desk()
    (let_go,) = desk.want(write("a"), write("b", "a"), write("a", "b", uid="newer"))
    newest = write("a", uid="newest")
    assert [] == desk.want(newest)
    assert [newest] == desk.fail(let_go)
    assert [write("b", "a")] == desk.done(newest)
    assert [] == desk.done(write("b", "a"))
    assert desk.loop.idle


def test_it_goes_when_the_other_can_never_be_written() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [write("b", "a")] == desk.fail(write("a"), retry=False)


def test_a_newer_wish_that_waits_for_nobody_goes_at_once() -> None:
    desk = Desk()
    desk.want(write("a"), write("b", "a"))
    assert [write("b", uid="newer")] == desk.want(write("b", uid="newer"))
    assert [] == desk.done(write("a"))


def test_it_waits_for_each_of_two() -> None:
    desk = Desk()
    desk.want(write("a"), write("b"), write("c", "a", "b"))
    assert [] == desk.done(write("b"))
    assert [write("c", "a", "b")] == desk.done(write("a"))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_of_those_that_wait_for_each_other_in_a_ring_one_goes(size: int) -> None:
    desk = Desk()
    names = "abcd"[:size]
    before = [SetAddresses(key=key(name), addresses=(own(name),)) for name in names]
    desk.want(*before)
    ring = [write(name, names[number - 1], uid="newer") for number, name in enumerate(names)]
    assert [] == desk.want(*ring)
    started = [intent for each in before for intent in desk.done(each)]
    assert [()] == [intent.addresses for intent in started]
    carried = []
    while started:
        carried.append(started.pop())
        started += desk.done(carried[-1])
    assert sorted(map(str, ring)) == sorted(map(str, carried[1:]))
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
    desk, running = Desk(), list[SetAddresses]()
    newest, carried = dict[str, SetAddresses](), dict[str, SetAddresses]()
    number = 0
    for step in history:
        if len(step) == 3:
            _, name, after = step
            number += 1
            newest[name] = write(name, *sorted(after - {name}), uid=str(number))
            running += desk.want(newest[name])
        elif running:
            intent = running.pop(step[1] % len(running))
            if step[0] == "done":
                carried[intent.key.name] = intent
                running += desk.done(intent)
            else:
                if step[0] == "refuse":
                    carried[intent.key.name] = intent
                running += desk.fail(intent, retry=step[0] == "fail")
        assert len({intent.key for intent in running}) == len(running)
    for _ in range(200):
        for intent in running:
            carried[intent.key.name] = intent
        finished, running = running, []
        for intent in finished:
            running += desk.done(intent)
        running += desk.tick(40.0)
    assert newest == carried
    assert desk.loop.idle


class Statuses:
    """What the statuses show in truth, and a brain that gives each address to one Service at a time.

    It knows no more than a controller does: of a Service whose newest write has not been confirmed, it
    takes every address that it may still show for one that it does.
    """

    def __init__(self) -> None:
        self.desk = Desk(concurrency=2)
        self.shown = {name: {own(name)} for name in NAMES}
        self.wanted: dict[str, Address | None] = {name: own(name) for name in NAMES}
        self.may_show = {name: {own(name)} for name in NAMES}
        self.newest: dict[str, SetAddresses] = {}
        self.running: list[SetAddresses] = []

    def give(self, moves: list[tuple[str, str | None]]) -> None:
        """Decide that these Services have these addresses from now on, where they are free."""
        writes = []
        for name, owner in moves:
            address = own(owner) if owner is not None else None
            if address is not None and address in self.wanted.values():
                continue
            self.wanted[name] = address
            addresses = () if address is None else (address,)
            others = [each for each in NAMES if each != name and address in self.may_show[each]]
            intent = SetAddresses(
                key=key(name),
                addresses=addresses,
                gives_up=frozenset(self.may_show[name].difference(addresses)),
                after=tuple(key(each) for each in others),
            )
            self.may_show[name].update(addresses)
            self.newest[name] = intent
            writes.append(intent)
        if writes:
            self.running += self.desk.want(*writes)

    def end(self, number: int, how: str) -> None:
        """One write ends: it is done, or it is done and nobody hears of it, or it is not."""
        intent = self.running.pop(number % len(self.running))
        name = intent.key.name
        if how != "not done":
            self.shown[name] = set(intent.addresses)
            everything = [address for each in self.shown.values() for address in each]
            assert sorted(set(everything)) == sorted(everything), "two Services show one address"
        if how != "done":
            self.running += self.desk.fail(intent)
            return
        if self.newest[name] == intent:
            self.may_show[name] = set(intent.addresses)
        self.running += self.desk.done(intent)


@st.composite
def moves(draw: st.DrawFn) -> list[tuple[str, str | None]]:
    """Some lose what they have, and then some are given what is free."""
    losers = draw(st.sets(st.sampled_from(NAMES)))
    gives = zip(draw(st.permutations(NAMES)), draw(st.permutations(NAMES)), strict=True)
    return [*((name, None) for name in sorted(losers)), *gives]


ends = st.tuples(st.integers(0, 3), st.sampled_from(["done", "done", "unheard", "not done"]))


@given(st.lists(moves() | ends, max_size=30))
def test_no_two_services_show_one_address_whatever_becomes_of_the_writes(
    history: list[list[tuple[str, str | None]] | tuple[int, str]],
) -> None:
    cluster = Statuses()
    for step in history:
        if isinstance(step, list):
            cluster.give(step)
        elif cluster.running:
            cluster.end(*step)
        else:
            cluster.running += cluster.desk.tick(1.0)
    for _ in range(100):
        while cluster.running:
            cluster.end(0, "done")
        cluster.running += cluster.desk.tick(40.0)
    assert {name: {address} if address else set() for name, address in cluster.wanted.items()} == cluster.shown
    assert cluster.desk.loop.idle

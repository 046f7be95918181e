"""What the loop does with intents that fail while newer ones are wanted for the same subject."""

from __future__ import annotations

import random

from lbcore.addresses import Address
from lbcore.brain import Step
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Loop
from lbcore.events import AddressHeard, Applied, Event, Failed
from lbcore.intents import Announce, Intent, Withdraw

V6 = Address.parse("2001:db8::1")
V4 = Address.parse("192.0.2.1")


def obey(state: None, event: Event, now: float) -> Step[None]:
    """A brain that wants what the event's link says: a heard address is announced or withdrawn."""
    del now
    if not isinstance(event, AddressHeard):
        return Step(state=state)
    wanted: Intent = Announce(address=event.address) if event.link == "up" else Withdraw(address=event.address)
    return Step(state=state, intents=(wanted,))


def loop() -> Loop[None]:
    return Loop(obey, None, [Lane(name="reflex", handles=(Announce, Withdraw))], random.Random(1))


def want(loop: Loop[None], link: str, address: Address, now: float) -> list[Intent]:
    loop.receive(AddressHeard(address=address, mac=bytes(6), link=link))
    return [dispatch.intent for dispatch in loop.tick(now).dispatches]


def fail(loop: Loop[None], intent: Intent, now: float) -> None:
    loop.done("reflex", Failed(intent=intent, message="away"), now)


def test_of_two_intents_that_failed_only_the_newer_is_tried_again() -> None:
    tried = loop()
    (announce,) = want(tried, "up", V6, 0.0)
    fail(tried, announce, 0.0)
    (withdraw,) = want(tried, "down", V6, 0.01)
    fail(tried, withdraw, 0.01)
    later = [dispatch.intent for moment in range(1, 400) for dispatch in tried.tick(moment / 100).dispatches]
    assert [Withdraw(address=V6)] == later


def test_a_try_that_is_no_longer_wanted_keeps_nobody_waiting() -> None:
    tried = loop()
    (announce,) = want(tried, "up", V6, 0.0)
    fail(tried, announce, 0.0)
    assert not tried.idle
    (withdraw,) = want(tried, "down", V6, 0.01)
    fail(tried, withdraw, 0.01)
    (again,) = [dispatch.intent for dispatch in tried.tick(1.0).dispatches]
    assert not tried.idle
    tried.done("reflex", Applied(again), 1.0)
    tried.tick(1.0)
    assert tried.idle


def test_failures_of_two_addresses_do_not_replace_each_other() -> None:
    tried = loop()
    for address in (V6, V4):
        (announce,) = want(tried, "up", address, 0.0)
        fail(tried, announce, 0.0)
    later = [dispatch.intent for moment in range(1, 100) for dispatch in tried.tick(moment / 100).dispatches]
    assert sorted([V4, V6]) == sorted(each.address for each in later if isinstance(each, Announce))

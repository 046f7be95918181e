"""Between a list and its end the brain is told what was listed, whatever has changed since."""

from __future__ import annotations

import random

from lbcore.addresses import Address
from lbcore.brain import Step
from lbcore.config import ConfigDocument, Origin, Pool
from lbcore.daemons.loop import Loop
from lbcore.events import ConfigGone, ConfigSeen, Event, Kind, Listed

V6 = Address.parse("2001:db8::1")


def document(name: str, *addresses: str) -> ConfigDocument:
    pool = Pool.parse(name, *(addresses or ("2001:db8::/64",)))
    return ConfigDocument(origin=Origin(kind="IPAddressPool", namespace="", name=name), resources=(pool,))


def told(*received: Event) -> list[Event]:
    """What the brain sees of events that have all arrived before it could look at one."""
    seen: list[Event] = []

    def note(state: None, event: Event, now: float) -> Step[None]:
        del now
        seen.append(event)
        return Step(state=state)

    loop = Loop(note, None, [], random.Random(1))
    for event in received:
        loop.receive(event)
    while loop.deadline is not None:
        loop.tick(0.0)
    return seen


def test_a_pool_that_was_renamed_since_the_list_is_told_as_listed_first() -> None:
    # Otherwise the list would end without the old pool and without the new one, and everybody lose everything.
    old, new, end = document("old"), document("new"), Listed(Kind.CONFIG)
    history: list[Event] = [ConfigSeen(old), end, ConfigSeen(new), ConfigGone(old.origin)]
    assert history == told(*history)


def test_after_the_list_only_the_newest_of_each_is_told() -> None:
    first, second, third = (document("pool", f"2001:db8:{n}::/64") for n in range(3))
    listed: list[Event] = [ConfigSeen(first), Listed(Kind.CONFIG)]
    assert [*listed, ConfigSeen(third)] == told(*listed, ConfigSeen(second), ConfigSeen(third))


def test_within_a_list_too() -> None:
    first, second = document("pool"), document("pool", f"{V6}/128")
    assert [ConfigSeen(second), Listed(Kind.CONFIG)] == told(ConfigSeen(first), ConfigSeen(second), Listed(Kind.CONFIG))

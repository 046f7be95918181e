"""When changed configuration counts, in both brains: once it has been quiet, but not never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore import announcement, assignment
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentState
from lbcore.config import Pool
from lbcore.events import AnsweringSeen, ConfigSeen, Kind, LinksSeen, Listed, MembersSeen
from lbcore.intents import Intent, ReportConfig
from worlds import Desk, document

QUIET, PATIENCE = 0.1, 1.0

AnyDesk = Desk[AssignmentState] | Desk[AnnouncementState]
BRAINS = ("controller", "speaker")


def desk_of(brain: str) -> AnyDesk:
    """A brain that was told of one pool and of all there is, and rests; its clock stands at 10."""
    desk: AnyDesk
    if brain == "controller":
        desk = Desk(assignment.step, AssignmentState())
    else:
        desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")))
    desk.run(edit(0), AnsweringSeen(()), LinksSeen(()), MembersSeen(frozenset({"n1"})), *map(Listed, Kind))
    desk.now = 10.0
    return desk


def edit(number: int) -> ConfigSeen:
    """The pool, in its so-and-so-many-eth form."""
    return ConfigSeen(document(Pool.parse("p", f"2001:db8:{number:x}::/64")))


def in_force(desk: AnyDesk, intents: list[Intent]) -> list[tuple[float, str]]:
    """When, and with which range, configuration was put in force."""
    reports = [intent.config for intent in intents if isinstance(intent, ReportConfig)]
    return [(desk.now, str(config.pools[0].ranges[0])) for config in reports if config is not None]


@pytest.mark.parametrize("brain", BRAINS)
@given(bursts=st.lists(st.tuples(st.floats(0.0, 0.2), st.integers(1, 60)), max_size=4))
def test_no_change_waits_longer_than_a_second(brain: str, bursts: list[tuple[float, int]]) -> None:
    desk = desk_of(brain)
    waits_since: float | None = None
    pauses = [pause for pause, times in bursts for _ in range(times)]
    for number, pause in enumerate(pauses, start=1):
        taken = desk.feed(edit(number))
        waits_since = None if taken else desk.now if waits_since is None else waits_since
        until = desk.now + pause
        if desk.settle(until=until):
            waits_since = None
        desk.now = until
        assert waits_since is None or desk.now <= waits_since + PATIENCE


@pytest.mark.parametrize("brain", BRAINS)
def test_configuration_that_never_rests_counts_a_second_after_its_first_change(brain: str) -> None:
    desk = desk_of(brain)
    found = []
    for number in range(1, 41):  # one every 50 ms, for two seconds
        found += in_force(desk, desk.feed(edit(number)))
        until = desk.now + QUIET / 2
        found += in_force(desk, desk.settle(until=until))
        desk.now = until
    found += in_force(desk, desk.settle())
    assert [(11.0, "2001:db8:14::/64"), (12.0, "2001:db8:28::/64")] == [(round(when, 6), what) for when, what in found]


@pytest.mark.parametrize("brain", BRAINS)
def test_the_second_begins_anew_with_the_first_change_after_one_that_counted(brain: str) -> None:
    desk = desk_of(brain)
    desk.run(edit(1))
    desk.now = 20.0
    assert [] == in_force(desk, desk.feed(edit(2)))
    assert desk.wake_at == pytest.approx(20.0 + QUIET)

"""Of several controllers one decides: the others listen, say nothing, and go on where it stopped."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore import assignment
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.config import Pool
from lbcore.events import ConfigSeen, Event, Kind, LeadershipSeen, Listed
from lbcore.intents import Intent, ReportConfig, SetAddresses
from lbcore.model import ServiceKey
from worlds import Controlled, Desk, document, plain_service, wishful_services

NAMES = ("a", "b", "c", "d")
POOLS = (Pool.parse("four", "10.0.0.252-10.0.0.254"), Pool.parse("six", "2001:db8::fe-2001:db8::ff"))


def controller() -> Desk[AssignmentState]:
    return Desk(assignment.step, AssignmentState(settings=AssignmentSettings(elected=True)))


class Pair:
    """Two controllers of one world. Whatever the one that leads wants written is written at once."""

    def __init__(self) -> None:
        self.world = Controlled(annotates=True)
        self.desks = (controller(), controller())
        self.leader = 0
        self.said_by_standbys: list[Intent] = []
        for pool in POOLS:
            self.world.put_document(document(pool))
        self.spread(*map(Listed, Kind), LeadershipSeen(False))
        self.tell(0, LeadershipSeen(True))
        self.rest()

    def tell(self, which: int, *events: Event) -> list[Intent]:
        intents = self.desks[which].run(*events)
        if which == self.leader:
            self.world.ask(intents)
        else:
            self.said_by_standbys += intents
        return intents

    def spread(self, *events: Event) -> None:
        untold, self.world.untold = [*self.world.untold, *events], []
        for which in range(len(self.desks)):
            self.tell(which, *untold)

    def rest(self) -> None:
        """Until all is written, and everybody has heard of it."""
        while self.world.untold or self.world.asked:
            self.spread()
            for key in list(self.world.asked):
                self.world.carry_out(key, answer_first=True)

    def hand_over(self) -> list[Intent]:
        """What the one that leads now wants; the one that led says nothing to it."""
        self.leader, before = 1 - self.leader, self.leader
        self.tell(before, LeadershipSeen(False))
        return self.tell(self.leader, LeadershipSeen(True))


@settings(max_examples=60)
@given(data=st.data())
def test_a_standby_says_nothing_and_takes_over_without_a_write_for_any_service(data: st.DataObject) -> None:
    pair = Pair()
    for _ in range(data.draw(st.integers(1, 8))):
        key = ServiceKey("red", data.draw(st.sampled_from(NAMES)))
        if key in pair.world.services and data.draw(st.booleans()):
            pair.world.delete(key)
        else:
            pair.world.put(data.draw(wishful_services(key)))
        pair.rest()
        if data.draw(st.booleans()):
            assert [] == [intent for intent in pair.hand_over() if isinstance(intent, SetAddresses)]
    assert [] == pair.said_by_standbys


def test_who_takes_over_gives_from_where_the_other_stopped() -> None:
    pair = Pair()
    pair.world.put(plain_service("a"))
    pair.rest()
    pair.hand_over()
    pair.world.put(plain_service("b"))
    pair.rest()
    held = {name: pair.world.services[ServiceKey("red", name)].held for name in ("a", "b")}
    assert {"a": "10.0.0.252", "b": "10.0.0.253"} == {name: str(each[0]) for name, each in held.items()}


def test_who_leads_again_says_anew_which_configuration_is_in_force() -> None:
    # What it said last may have been on its way when it stopped leading, and was forgotten then.
    desk = controller()
    desk.run(*map(Listed, Kind), LeadershipSeen(True))
    assert 1 == len([each for each in desk.run(ConfigSeen(document(POOLS[0]))) if isinstance(each, ReportConfig)])
    desk.run(LeadershipSeen(False))
    again = [each for each in desk.run(LeadershipSeen(True)) if isinstance(each, ReportConfig)]
    assert [("four",)] == [tuple(pool.name for pool in each.config.pools) for each in again if each.config is not None]

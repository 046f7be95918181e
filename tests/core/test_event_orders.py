"""Any order of events that a cluster allows: each object's own changes in their order, all else as it comes.

Who waits for what follows the order in which it was told, so for the controller the laws are judged
(`lbcore.testing`, whose histories come in any order). A speaker has no memory of that kind: whatever
the order, it ends where one ends that was told only how things stand now.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lbcore import announcement
from lbcore.adapters.kubernetes.changes import gone
from lbcore.adapters.kubernetes.documents import Ignored, Refused, read_all
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.config import Config, build
from lbcore.daemons.planning import World
from lbcore.events import AnsweringSeen, ConfigSeen, Event, Kind, LinksSeen, Listed, MembersSeen, ServiceSeen
from lbcore.intents import Announce, Withdraw
from lbcore.model import ServiceKey
from lbcore.testing import History, Moment, Started, check_history, in_any_order, replay, worlds
from states import NODES, State, states
from worlds import Desk, link

LINKS = (link("eth0", 2),)


def objects(state: State) -> World:
    entries = [entry for document in state for entry in read_all(document, "state.yaml")]
    return World.of(entry for entry in entries if not isinstance(entry, Ignored | Refused))


def changes(history: tuple[State, ...]) -> list[Event]:
    """What a watch would tell of states that follow each other; what cannot be read is not there."""
    worlds_ = [World(seen={}), *map(objects, history)]
    told: list[Event] = []
    for before, after in pairwise(worlds_):
        told += [gone(event) for subject, event in before.seen.items() if subject not in after.seen]
        told += [event for subject, event in after.seen.items() if before.seen.get(subject) != event]
    return told


def speaker(*events: Event) -> Desk[AnnouncementState]:
    """The speaker of n1, told this in this order, at rest."""
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")))
    desk.run(*events)
    return desk


def answered(desk: Desk[AnnouncementState]) -> dict[Address, tuple[str, ...]]:
    """What it has its answering process answer for."""
    found: dict[Address, tuple[str, ...]] = {}
    for intent in desk.intents:
        if isinstance(intent, Announce):
            found[intent.address] = intent.interfaces
        if isinstance(intent, Withdraw):
            found.pop(intent.address, None)
    return found


@settings(deadline=None)
@given(st.data(), states(), st.integers(0, 30), st.sets(st.sampled_from(NODES)))
def test_a_speaker_ends_at_the_same_in_whatever_order_it_was_told(
    data: st.DataObject, history: tuple[State, ...], first: int, members: set[str]
) -> None:
    last = objects(history[-1])
    # What a configuration that is not sound leaves in force is the one before, and that is a matter of order.
    assume(isinstance(build(event.document for event in last.seen.values() if isinstance(event, ConfigSeen)), Config))
    known: list[Event] = [AnsweringSeen(()), LinksSeen(LINKS), MembersSeen(frozenset(members))]
    listed: list[Event] = [Listed(kind) for kind in Kind]
    told: list[Event] = list(data.draw(in_any_order([*known, *changes(history)])))

    of_old = speaker(*told[:first], *listed, *told[first:])
    fresh = speaker(*known, *last.seen.values(), *listed)

    assert answered(fresh) == answered(of_old)
    keys = [event.service.key for event in last.seen.values() if isinstance(event, ServiceSeen)]
    assert [said(fresh, key) for key in keys] == [said(of_old, key) for key in keys]


def said(desk: Desk[AnnouncementState], key: ServiceKey) -> tuple[object, object]:
    return announcement.explain(desk.state, key), announcement.explain_bgp(desk.state, key)


def reordered(history: History) -> st.SearchStrategy[History]:
    """The same changes in the same bursts, told in other orders; the first controller starts when all are there."""
    begin, *bursts = history
    return st.tuples(
        in_any_order(begin[:-1]).map(lambda told: (*told, begin[-1])), *(in_any_order(burst) for burst in bursts)
    )


@given(st.data(), worlds())
def test_the_laws_hold_in_whatever_order_a_controller_is_told(data: st.DataObject, history: History) -> None:
    check_history(data.draw(reordered(history)))


@given(worlds(), st.integers(0, 99), st.integers(0, 99))
def test_a_controller_that_starts_moves_nobody_in_whatever_order_it_is_told(
    history: History, one: int, other: int
) -> None:
    *_, before, first, second = replay((*history, (Started(one),), (Started(other),)))
    if before.config is not None and not before.problems:
        assert shown(before) == shown(first) == shown(second)


def shown(moment: Moment) -> dict[ServiceKey, tuple[Address, ...]]:
    return {service.key: service.held for service in moment.served}

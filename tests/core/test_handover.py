"""Planned moves: who loses an address to a living node goes on answering until that node is heard."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drained import NAMES, WEB, order_of, told, with_endpoints
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementState
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    DrainsSeen,
    Event,
    MembersSeen,
    ServiceGone,
    SliceGone,
    Stopping,
)
from lbcore.handover import HandOver
from lbcore.intents import Announce, Intent, Withdraw
from lbcore.model import SliceKey
from worlds import Desk, ipv6

MINE = ipv6(1)
FIRST, SECOND, *_ = order_of(MINE)
HEARD = AddressHeard(address=MINE, mac=bytes(6), link="eth0")
GIVING_UP = Announce(address=MINE, yielding=True)
DRAINED = DrainsSeen(frozenset({FIRST}))


def acts(intents: Iterable[Intent]) -> list[Intent]:
    return [each for each in intents if isinstance(each, Announce | Withdraw)]


def announcer(**chosen: object) -> Desk[AnnouncementState]:
    """The node that announces, at rest and at 100 s."""
    desk = told(*with_endpoints(WEB, *NAMES), node=FIRST, **chosen)
    assert [Announce(address=MINE)] == acts(desk.intents)
    desk.now = 100.0
    return desk


def test_a_drained_node_goes_on_answering_until_its_successor_is_heard() -> None:
    desk = announcer()
    assert [GIVING_UP] == acts(desk.feed(DRAINED))
    assert [] == acts(desk.feed(DRAINED))
    assert 102.0 == desk.wake_at
    assert [Withdraw(address=MINE)] == acts(desk.feed(HEARD))
    assert [] == acts(desk.run(HEARD))


def test_without_a_word_of_its_successor_it_lets_go_after_two_seconds() -> None:
    desk = announcer()
    desk.feed(DRAINED)
    assert [] == acts(desk.settle(until=101.9))
    assert [Withdraw(address=MINE)] == acts(desk.settle(until=102.0))


def test_what_is_taken_back_meanwhile_is_told_to_the_segment_again() -> None:
    desk = announcer()
    desk.feed(DRAINED)
    assert [Announce(address=MINE)] == acts(desk.feed(DrainsSeen(frozenset())))
    assert [] == acts(desk.run())
    assert MINE in desk.state.announced


@pytest.mark.parametrize(
    "event",
    [
        ServiceGone(WEB.key),
        SliceGone(SliceKey(WEB.key.namespace, f"of-{WEB.key.name}")),
        AnsweringSeen(((MINE, ()),)),
        DrainsSeen(frozenset(NAMES) - {FIRST}),
    ],
)
def test_what_nobody_is_to_take_over_any_more_is_not_handed_over(event: Event) -> None:
    """The Service or its endpoints go, or another process answers now: nothing waits for a successor."""
    desk = announcer()
    desk.feed(DRAINED)
    wanted: list[Intent] = [Withdraw(address=MINE)]
    if isinstance(event, DrainsSeen):
        wanted = [Announce(address=MINE)]
    assert wanted == acts(desk.feed(event))
    assert [] == acts(desk.settle())


def test_a_node_that_the_others_have_given_up_lets_go_at_once() -> None:
    """They announce already, or will, whatever it does: it is cut off, and this is no planned move."""
    desk = announcer()
    assert [Withdraw(address=MINE)] == acts(desk.feed(MembersSeen(frozenset(NAMES) - {FIRST})))


def test_a_node_whose_address_goes_to_a_newcomer_waits_for_it() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), MembersSeen(frozenset(NAMES) - {FIRST}), node=SECOND)
    assert [GIVING_UP] == acts(desk.feed(MembersSeen(frozenset(NAMES))))
    assert [Withdraw(address=MINE)] == acts(desk.feed(HEARD))


def test_a_hand_over_of_no_time_is_a_bare_withdraw() -> None:
    assert [Withdraw(address=MINE)] == acts(announcer(hand_over=0.0).feed(DRAINED))


def test_who_stops_in_the_middle_of_a_hand_over_waits_no_longer_than_for_its_own() -> None:
    desk = announcer()
    desk.feed(DRAINED)
    desk.now = 101.0
    desk.feed(Stopping())
    assert [Withdraw(address=MINE)] == acts(desk.settle(until=102.0))
    assert desk.state.stopped


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_a_hand_over_ends_in_the_order_in_which_it_began(changes: list[tuple[int, bool]]) -> None:
    over, expected = HandOver(), dict[Address, float]()
    for moment, (number, begins) in enumerate(changes):
        address = ipv6(number)
        if begins:
            over = over.begin(address, float(moment))
            expected.setdefault(address, float(moment))
        else:
            over = over.end(address)
            expected.pop(address, None)
        assert min(expected.values(), default=None) == over.deadline
        assert all((ipv6(each) in over) == (ipv6(each) in expected) for each in range(6))
        due = [address for address, until in expected.items() if until <= moment / 2]
        assert due == list(over.due(moment / 2))

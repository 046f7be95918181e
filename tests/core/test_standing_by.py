"""What a node is to take over when one member goes: said beforehand, and the same that it would then decide."""

from __future__ import annotations

import pytest

from drained import NAMES, WEB, order_of, told, with_endpoints
from lbcore.announcement import AnnouncementState
from lbcore.events import AddressHeard, AnsweringSeen, DrainsSeen, MembersSeen, ServiceGone, Stopping
from lbcore.intents import Announce, Intent, StandBy, Withdraw
from worlds import Desk, ipv6, plain_service

MINE = ipv6(1)
ORDER = order_of(MINE)
FIRST, SECOND, THIRD, FOURTH = ORDER
EVERYBODY = frozenset(NAMES)
PART = StandBy(address=MINE, member=FIRST)


def acts(intents: list[Intent]) -> list[Intent]:
    return [each for each in intents if isinstance(each, Announce | Withdraw | StandBy)]


def desk_of(node: str, **chosen: object) -> Desk[AnnouncementState]:
    desk = told(*with_endpoints(WEB, *NAMES), node=node, stands_by=True, **chosen)
    desk.now = 100.0
    return desk


def test_the_next_in_rank_stands_by_and_nobody_else() -> None:
    said = {name: acts(list(desk_of(name).intents)) for name in NAMES}
    assert {FIRST: [Announce(address=MINE)], SECOND: [PART], THIRD: [], FOURTH: []} == said


def test_who_does_not_know_members_itself_is_told_nothing() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), node=SECOND)
    assert [] == acts(list(desk.intents))


@pytest.mark.parametrize("lost", NAMES)
def test_after_any_loss_the_one_that_stood_by_announces_and_the_next_stands_by(lost: str) -> None:
    left = [name for name in ORDER if name != lost]
    for name in left:
        desk = desk_of(name)
        stood_by = MINE in desk.state.standing_by
        desk.run(MembersSeen(EVERYBODY - {lost}))
        assert (name == left[0]) == (MINE in desk.state.announced)
        assert (name == left[1]) == (MINE in desk.state.standing_by)
        if lost == FIRST:
            assert stood_by == (name == left[0])


def test_an_address_that_was_given_up_is_stood_by_for_when_its_successor_was_heard() -> None:
    desk = desk_of(FIRST)
    others = DrainsSeen(frozenset({FIRST, THIRD, FOURTH}))  # so that the first is next after the second
    drained = acts(desk.feed(others))
    assert [Announce(address=MINE, yielding=True)] == drained
    heard = AddressHeard(address=MINE, mac=bytes(6), link="eth0")
    expected = StandBy(address=MINE, member=SECOND) if MINE in desk.state.next_in else Withdraw(address=MINE)
    assert [expected] == acts(desk.feed(heard))


def test_an_address_that_is_no_more_is_no_part_any_more() -> None:
    desk = desk_of(SECOND)
    assert [Withdraw(address=MINE)] == acts(desk.run(ServiceGone(WEB.key)))
    assert not desk.state.standing_by and not desk.state.next_in


def test_who_leaves_stands_by_for_nothing_new() -> None:
    desk = desk_of(FIRST)
    desk.run(Stopping(), MembersSeen(EVERYBODY - {FIRST}))
    assert [] == [each for each in desk.intents if isinstance(each, StandBy)]


def test_a_process_that_answers_is_told_its_parts_anew_when_it_was_taken_up() -> None:
    desk = desk_of(SECOND)
    assert [PART] == acts(desk.run(AnsweringSeen(())))
    assert [PART] == acts(desk.run(AnsweringSeen(((MINE, ()),))))  # it acts, of which nobody here knows: let go


def test_what_several_services_share_is_left_to_the_vote() -> None:
    shared = plain_service("web", held=(MINE,), annotations={"metallb.io/allow-shared-ip": "key"})
    desk = told(*with_endpoints(shared, *NAMES), node=SECOND, stands_by=True)
    assert [] == acts(list(desk.intents))

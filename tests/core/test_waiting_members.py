"""Members that wait since they were held for dead: they are left out where another may announce, and only there.

And what follows when somebody comes back who was held for dead: what stays ours is announced anew.
"""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from drained import NAMES, WEB, order_of, told, with_endpoints
from lbcore.announcement import AnnouncementState, NotAnnounced, explain
from lbcore.duties import duties
from lbcore.events import AddressHeard, AnsweringSeen, Event, MembersSeen, Stopping
from lbcore.intents import Announce, AnnounceAnew, Intent, StandBy, Withdraw
from lbcore.model import TrafficPolicy
from lbcore.verdicts import Reason
from worlds import Desk, ipv6, plain_service

MINE = ipv6(1)
FIRST, SECOND, THIRD, FOURTH = order_of(MINE)
EVERYBODY, BOTH = frozenset(NAMES), frozenset({FIRST, SECOND})
LOCAL = plain_service("web", held=(MINE,), external_traffic_policy=TrafficPolicy.LOCAL)

some = st.sets(st.sampled_from(NAMES)).map(frozenset)
views = st.builds(lambda names, waiting: MembersSeen(names, waiting - names), some, some)


def winner_of(desk: Desk[AnnouncementState]) -> str | None:
    """Who announces the address, as this node sees it."""
    part = desk.state.parts.get(WEB.key, (None,))[0]
    return part.election.winner if part is not None and part.election is not None else None


def judged_by(seen: MembersSeen, ends: frozenset[str]) -> str | None:
    """The same from nothing, in other words."""
    for among in (seen.names, seen.waiting):
        if allowed := [name for name in order_of(MINE) if name in among & ends]:
            return allowed[0]
    return None


def reasons(desk: Desk[AnnouncementState]) -> dict[str, Reason]:
    """What `explain` says of each node."""
    explained = explain(desk.state, LOCAL.key)
    assert explained is not None
    assert not isinstance(explained, NotAnnounced)
    return {each.node: each.reason for each in explained[0][1]}


def reasoned(seen: MembersSeen, ends: frozenset[str]) -> dict[str, Reason]:
    """The same from nothing."""
    winner = judged_by(seen, ends)
    found = dict.fromkeys(NAMES, Reason.NOT_ELECTED)
    found |= dict.fromkeys(seen.waiting, Reason.NODE_WAITS if winner in seen.names else Reason.NOT_ELECTED)
    found |= dict.fromkeys(EVERYBODY - ends, Reason.NO_LOCAL_ENDPOINTS)
    found |= dict.fromkeys(EVERYBODY - seen.names - seen.waiting, Reason.NOT_A_MEMBER)
    return found | ({winner: Reason.OK} if winner is not None else {})


@given(history=st.lists(views, min_size=1, max_size=6), ends=some.filter(bool), node=st.sampled_from(NAMES))
@example([MembersSeen(EVERYBODY - {FIRST}), MembersSeen(EVERYBODY - {FIRST}, frozenset({FIRST}))], EVERYBODY, SECOND)
@example(
    [MembersSeen(EVERYBODY - {FIRST}), MembersSeen(EVERYBODY - {FIRST}, frozenset({FIRST}))], frozenset({FIRST}), FIRST
)
@example([MembersSeen(EVERYBODY - BOTH, waits) for waits in (BOTH, frozenset({SECOND}), BOTH)], BOTH, SECOND)
def test_who_waits_announces_what_nobody_else_may_and_nothing_else(
    history: list[MembersSeen], ends: frozenset[str], node: str
) -> None:
    desk = told(*with_endpoints(LOCAL, *sorted(ends)), node=node)
    for seen in history:
        desk.run(seen)
        assert judged_by(seen, ends) == winner_of(desk)
        assert (winner_of(desk) == node) == (MINE in desk.state.wanted)
        assert reasoned(seen, ends) == reasons(desk)
        assert seen.names | seen.waiting == {each.node for each in duties(desk.state) if each.lives}
        assert not desk.state.unfinished


@given(history=st.lists(views, max_size=12), ends=some.filter(bool))
def test_a_node_that_comes_and_goes_moves_nothing_more_often_than_it_is_a_candidate(
    history: list[MembersSeen], ends: frozenset[str]
) -> None:
    # The damping's bound is on how often a node becomes a candidate. Of what another may announce who is one all the
    # time, the waiting, however it changes, moves nothing.
    desk = told(*with_endpoints(LOCAL, *sorted(ends | {FOURTH})))
    winners, views = [], []
    for seen in history:
        desk.run(MembersSeen(seen.names | {FOURTH}, seen.waiting - {FOURTH}))
        winners.append(winner_of(desk))
        views.append(seen.names)
    moves = sum(one != other for one, other in itertools.pairwise(winners))
    assert moves <= sum(one != other for one, other in itertools.pairwise(views))


def test_where_all_that_may_announce_it_wait_it_moves_each_time_that_one_of_them_is_lost_or_back() -> None:
    # What the damping does not bound: the part of both is to announce, and no node remembers who of them did.
    desk = told(*with_endpoints(LOCAL, FIRST, SECOND))
    for _ in range(3):
        for waits in (BOTH, BOTH - {FIRST}):
            desk.run(MembersSeen(EVERYBODY - BOTH, waits))
            assert (FIRST if FIRST in waits else SECOND) == winner_of(desk)


def test_the_only_node_with_an_endpoint_announces_though_it_waits_and_says_why() -> None:
    desk = told(*with_endpoints(LOCAL, FIRST), node=FIRST)
    desk.run(MembersSeen(EVERYBODY - {FIRST}))
    assert MINE not in desk.state.announced
    assert Announce(address=MINE) in desk.run(MembersSeen(EVERYBODY - {FIRST}, frozenset({FIRST})))
    explained = explain(desk.state, LOCAL.key)
    assert explained is not None and not isinstance(explained, NotAnnounced)
    verdict = explained[0][1][0]
    assert (FIRST, True) == (verdict.node, "announces it though it is to wait" in verdict.detail)


def test_what_waits_gives_way_as_soon_as_another_may() -> None:
    seen = MembersSeen(EVERYBODY - {FIRST}, frozenset({FIRST}))
    desk = told(*with_endpoints(LOCAL, FIRST), node=FIRST)
    desk.run(seen)
    assert MINE in desk.state.announced
    desk.run(*with_endpoints(LOCAL, FIRST, THIRD))
    assert (THIRD, False) == (winner_of(desk), MINE in desk.state.announced)


def test_nobody_stands_by_for_one_that_waits() -> None:
    desk = told(*with_endpoints(LOCAL, FIRST, SECOND), node=SECOND, stands_by=True)
    desk.run(MembersSeen(frozenset({THIRD, FOURTH}), frozenset({FIRST, SECOND})))
    assert (FIRST, {}) == (winner_of(desk), dict(desk.state.standing_by))
    # It is lost: that is noticed by the vote.
    assert Announce(address=MINE) in desk.run(MembersSeen(frozenset({THIRD, FOURTH}), frozenset({SECOND})))


def test_who_stops_hands_over_to_one_that_waits_when_there_is_no_other() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), node=FIRST)
    desk.run(MembersSeen(frozenset({FIRST}), frozenset({SECOND})))
    assert not any(isinstance(each, Withdraw) for each in desk.feed(Stopping()))
    heard: Event = AddressHeard(address=MINE, mac=bytes(6), link="eth0")
    assert Withdraw(address=MINE) in desk.feed(heard)


# Anew


def anew(intents: list[Intent]) -> list[Intent]:
    return [each for each in intents if isinstance(each, Announce | AnnounceAnew | Withdraw | StandBy)]


def test_who_stays_announces_anew_when_one_that_was_lost_is_back_and_once_each_time() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), node=FIRST)
    assert [] == anew(desk.run(MembersSeen(frozenset({FIRST, SECOND}))))
    back = MembersSeen(EVERYBODY, reunions=1)
    assert [AnnounceAnew(1)] == anew(desk.run(back))
    assert [] == anew(desk.run(back))
    assert [AnnounceAnew(2)] == anew(desk.run(MembersSeen(EVERYBODY, reunions=2)))


def test_who_joins_for_the_first_time_or_left_in_order_disturbs_nobody() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), node=FIRST)
    assert [] == anew(desk.run(MembersSeen(frozenset({FIRST, SECOND})), MembersSeen(EVERYBODY)))


def test_who_has_nothing_to_announce_or_gives_all_of_it_up_announces_nothing_anew() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), node=SECOND)
    desk.run(MembersSeen(EVERYBODY - {FIRST}))
    assert MINE in desk.state.announced
    assert not any(isinstance(each, AnnounceAnew) for each in desk.feed(MembersSeen(EVERYBODY, reunions=1)))
    heard: Event = AddressHeard(address=MINE, mac=bytes(6), link="eth0")
    assert [Withdraw(address=MINE)] == anew(desk.run(heard))


def test_what_happened_while_no_speaker_listened_is_made_up_for_once() -> None:
    back = MembersSeen(EVERYBODY, reunions=3)
    desk = told(*with_endpoints(WEB, *NAMES), AnsweringSeen(((MINE, ()),)), back, node=FIRST)
    assert [AnnounceAnew(3)] == [each for each in desk.intents if isinstance(each, AnnounceAnew)]
    # A process that is new begins to count, and announces by itself what it is told.
    again = desk.run(AnsweringSeen(()), MembersSeen(EVERYBODY))
    assert [Announce(address=MINE)] == anew(again)


def test_who_leaves_announces_nothing_anew() -> None:
    desk = told(*with_endpoints(WEB, *NAMES), node=FIRST)
    desk.feed(Stopping())
    assert [] == anew(desk.feed(MembersSeen(EVERYBODY, reunions=1)))

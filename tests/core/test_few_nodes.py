"""Over BGP: a Service that asks for a few nodes, drained nodes, and speakers that stop."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from drained import NAMES, told, with_endpoints
from lbcore.addresses import Address, Family
from lbcore.advertising import ANNOUNCING_NODES, Case, Speakers, bgp_verdict, bgp_verdicts
from lbcore.announcement import AnnouncementState
from lbcore.bgp import BGPAdvertisement, BGPPeer
from lbcore.config import Pool
from lbcore.endpoints import Reach
from lbcore.events import ConfigSeen, DrainsSeen, MembersSeen, PeerSeen, Stopping
from lbcore.intents import AdvertiseRoute, Intent, RecordEvent, SetSessions, WithdrawRoute
from lbcore.model import Node, Service, TrafficPolicy
from lbcore.routes import PeerState, PeerStatus
from lbcore.verdicts import Reason
from worlds import Desk, bgp_announcers, document, ipv6, plain_service

MANY = tuple(f"node-{number}" for number in range(8))
TOR = BGPPeer(name="tor", my_asn=64513, peer_asn=64512, address=Address.parse("2001:db8:f::1"))
KEEPING = evolve(TOR, name="keeping", address=Address.parse("2001:db8:f::2"), graceful_restart=True)
ADVERT = BGPAdvertisement(name="all")
POOL = Pool.parse("p", "10.0.0.0/24", "2001:db8::/64")
some = st.frozensets(st.sampled_from(MANY))


def asking(number: int, most: int | str | None) -> Service:
    annotations = {} if most is None else {ANNOUNCING_NODES: str(most)}
    return plain_service(f"s{number}", held=(ipv6(number),), annotations=annotations)


def reasons(
    service: Service,
    members: frozenset[str],
    drained: frozenset[str] = frozenset(),
    waiting: frozenset[str] = frozenset(),
) -> dict[str, Reason]:
    nodes = {name: Node(name=name) for name in MANY}
    speakers = Speakers(nodes=nodes, members=members, drained=drained, waiting=waiting)
    case = Case.of(service, Family.IPV6, POOL, (ADVERT,), Reach(True, frozenset(MANY)))
    found = list(bgp_verdicts(case, (TOR,), speakers))
    # One node alone comes to the same.
    assert [bgp_verdict(name, case, (TOR,), speakers) for name in sorted(MANY)] == found
    return {verdict.node: verdict.reason for verdict in found}


def announcing(found: dict[str, Reason]) -> set[str]:
    return {name for name, reason in found.items() if reason is Reason.OK}


@given(members=some, drained=some, most=st.none() | st.integers(1, 9), number=st.integers(1, 50), goes=st.data())
def test_the_few_nodes_of_a_service_are_as_many_as_it_asks_for_and_stay_when_others_go(
    members: frozenset[str], drained: frozenset[str], most: int | None, number: int, goes: st.DataObject
) -> None:
    service = asking(number, most)
    before = announcing(reasons(service, members, drained))
    fresh = members - drained or members
    assert before <= fresh
    assert len(before) == min(len(fresh), most or len(fresh))
    if not members:
        return
    gone = goes.draw(st.sampled_from(sorted(members)))
    after = announcing(reasons(service, members - {gone}, drained))
    if gone not in before:
        assert before == after or not members - {gone} - drained  # the last fresh one: then drained ones have to do
    elif fresh - {gone}:
        # Only its own place is another's, and it has it again when it comes back.
        assert before - {gone} <= after
        assert len(after - before) <= 1
    assert before == announcing(reasons(service, members, drained))
    # To be drained is to go, as long as there are others.
    if gone not in drained and fresh - {gone}:
        assert after == announcing(reasons(service, members, drained | {gone}))


@given(members=some, drained=some, waits=some, most=st.none() | st.integers(1, 9))
def test_a_node_that_waits_tells_routers_by_its_own_reckoning_and_the_others_as_if_it_were_not_there(
    members: frozenset[str], drained: frozenset[str], waits: frozenset[str], most: int | None
) -> None:
    service, waiting = asking(1, most), waits - members
    found = reasons(service, members, drained, waiting)
    without = reasons(service, members, drained)
    for name in MANY:
        by_itself = reasons(service, members | {name}, drained) if name in waiting else without
        assert by_itself[name] is found[name]


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "2.0", "\u0662", "1" * 9])
def test_what_is_no_number_of_nodes_is_all_of_them_and_explain_says_so(text: str) -> None:
    service = asking(1, text)
    assert set(MANY) == announcing(reasons(service, frozenset(MANY)))
    speakers = Speakers(nodes={}, members=frozenset(MANY))
    found = bgp_verdicts(Case.of(service, Family.IPV6, POOL, (ADVERT,), Reach(True)), (TOR,), speakers)
    assert {f"{ANNOUNCING_NODES} {text!r} is no number from 1 on"} == {
        verdict.detail.removeprefix("announces it, like all nodes: ") for verdict in found
    }


def test_explain_names_the_nodes_that_were_chosen() -> None:
    found = reasons(asking(1, 2), frozenset(MANY), frozenset({"node-0"}))
    assert 2 == len(announcing(found))
    assert Reason.NODE_DRAINED is found["node-0"]
    assert 5 == sum(reason is Reason.NODE_NOT_CHOSEN for reason in found.values())


# The speaker on n1.


def speaker(*services: Service, peers: Iterable[BGPPeer] = (TOR,), **chosen: object) -> Desk[AnnouncementState]:
    wishes: list[BGPAdvertisement | BGPPeer] = [ADVERT, *peers]
    config = [ConfigSeen(document(each)) for each in wishes]
    ends = [event for service in services for event in with_endpoints(service, *NAMES)]
    desk = told(*config, *ends, node="n1", **chosen)
    desk.now = 100.0
    return desk


def routes(intents: Iterable[Intent]) -> list[Intent]:
    return [each for each in intents if isinstance(each, AdvertiseRoute | WithdrawRoute)]


def sessions(intents: Iterable[Intent]) -> list[frozenset[str]]:
    return [each.leaving for each in intents if isinstance(each, SetSessions)]


DRAINED = DrainsSeen(frozenset({"n1"}))


def told_of(intents: Iterable[Intent]) -> list[tuple[str, str]]:
    return [(each.reason, each.message) for each in intents if isinstance(each, RecordEvent) and "Node " in each.about]


def test_each_step_of_a_drain_is_told() -> None:
    local = evolve(asking(2, None), external_traffic_policy=TrafficPolicy.LOCAL)
    desk = speaker(asking(1, None), asking(3, None), local)
    desk.feed(*with_endpoints(local, "n1"))
    text = "node n1 is drained: what other nodes can announce goes to them"
    asked = f"{text}; routers are asked for 10 s to use others for 3 routes (GRACEFUL_SHUTDOWN)"
    assert [("nodeDraining", asked)] == told_of([*desk.feed(DRAINED), *desk.settle(until=109.9)])
    done = "node n1 has withdrawn 2 routes; no other node can serve 1 route, told on as the last to be used"
    assert [("nodeDrained", done)] == told_of(desk.settle(until=110.0))
    assert [] == told_of(desk.run(DRAINED, MembersSeen(frozenset({"n1", "n2"}))))
    over = ("nodeUndrained", "node n1 is drained no more, and announces as before")
    assert [over] == told_of(desk.run(DrainsSeen(frozenset())))
    # One that ends before its time withdraws nothing, and says so by saying that it is over.
    assert ["nodeDraining", "nodeUndrained"] == [
        reason for reason, _ in told_of([*desk.feed(DRAINED), *desk.run(DrainsSeen(frozenset()))])
    ]
    # Of another node's drain that node tells.
    assert [] == told_of(desk.run(DrainsSeen(frozenset({"n2"}))))


def test_a_drained_node_tells_its_routers_first_and_withdraws_after_the_stated_time() -> None:
    local = evolve(asking(2, None), external_traffic_policy=TrafficPolicy.LOCAL)
    desk = speaker(asking(1, None), local)
    desk.feed(*with_endpoints(local, "n1"))
    intents = [*desk.feed(DRAINED), *desk.settle(until=109.9)]
    assert ([frozenset({"tor"})], []) == (sessions(intents), routes(intents))
    # What no other node can serve is told on, as the last to be used.
    intents = desk.settle(until=110.0)
    assert ([WithdrawRoute], []) == ([type(each) for each in routes(intents)], sessions(intents))
    assert (ipv6(2), ("n1",)) in bgp_announcers(desk.state, local.key)
    intents = desk.run(DrainsSeen(frozenset()))
    assert ([frozenset()], [AdvertiseRoute]) == (sessions(intents), [type(each) for each in routes(intents)])


def test_a_node_that_starts_as_a_drained_one_has_nothing_to_withdraw() -> None:
    desk = speaker(asking(1, None))
    other = told(
        ConfigSeen(document(ADVERT)), ConfigSeen(document(TOR)), *with_endpoints(asking(1, None), *NAMES), DRAINED
    )
    assert 1 == len(routes(desk.intents))
    assert [] == routes(other.intents)
    assert frozenset({"tor"}) == sessions(other.intents)[-1]
    assert [] == told_of(other.intents)


def test_a_service_of_few_nodes_is_taken_over_from_a_node_that_is_lost() -> None:
    services = [asking(number, 2) for number in range(1, 9)]
    desk = speaker(*services)
    mine = {each.prefix.value for each in routes(desk.intents) if isinstance(each, AdvertiseRoute)}
    assert 0 < len(mine) < 8
    intents = routes(desk.run(MembersSeen(frozenset({"n1", "n2"}))))
    assert len(mine) + len(intents) == 8
    assert all(isinstance(each, AdvertiseRoute) for each in intents)
    back = routes(desk.run(MembersSeen(frozenset(NAMES))))
    assert {type(each) for each in back} == {WithdrawRoute}
    assert len(back) == len(intents)


def up(name: str, *, keeps: bool) -> PeerSeen:
    return PeerSeen(name, PeerStatus(state=PeerState.ESTABLISHED, since=0.0, advertised=1, keeps_routes=keeps))


def test_who_stops_asks_routers_to_turn_away_but_not_those_that_keep_its_routes() -> None:
    desk = speaker(asking(1, None), peers=(TOR, KEEPING))
    desk.run(up("tor", keeps=False), up("keeping", keeps=True))
    intents = [*desk.feed(Stopping()), *desk.settle(until=101.9)]
    assert ([frozenset({"tor"})], []) == (sessions(intents), routes(intents))
    assert not desk.state.stopped
    desk.settle(until=102.0)
    assert desk.state.stopped


@pytest.mark.parametrize(("keeps", "alone"), [(True, False), (False, True)])
def test_who_stops_does_not_wait_for_nothing(keeps: bool, alone: bool) -> None:
    desk = speaker(asking(1, None), peers=(KEEPING,))
    desk.run(up("keeping", keeps=keeps), MembersSeen(frozenset({"n1"} if alone else NAMES)))
    intents = desk.feed(Stopping())
    assert [] == routes(intents)
    desk.settle(until=102.0)
    assert desk.state.stopped
    assert keeps is not bool([each for each in sessions(intents) if each])

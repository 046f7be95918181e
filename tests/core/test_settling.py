"""Nodes whose endpoints are new: routers are told of them later, as long as others serve."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from drained import NAMES, told, with_endpoints
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementState, explain_routes
from lbcore.bgp import BGPAdvertisement, BGPPeer
from lbcore.events import ConfigSeen, ServiceGone
from lbcore.intents import AdvertiseRoute, Intent, RecordEvent, ReportWithheld, WithdrawRoute
from lbcore.model import ServiceKey, TrafficPolicy
from lbcore.settling import Settling
from lbcore.verdicts import Reason
from worlds import Desk, document, ipv4, ipv6, plain_service

WAIT = 5.0
KEYS = [ServiceKey("red", "a"), ServiceKey("red", "b")]
nodes = st.frozensets(st.sampled_from(NAMES))
steps = st.lists(st.tuples(st.floats(0, 4), st.sampled_from(KEYS), nodes), max_size=30)


@given(steps)
def test_who_is_new_waits_while_another_serves_and_no_longer_than_stated(
    history: list[tuple[float, ServiceKey, frozenset[str]]],
) -> None:
    settling, now = Settling(), 0.0
    usable = dict.fromkeys(KEYS, frozenset[str]())
    since: dict[tuple[ServiceKey, str], float] = {}
    for pause, key, after in history:
        now += pause
        settling, _ = settling.end(now, 100)
        before, counted = usable[key], usable[key] - settling.waiting(key)
        usable[key] = after
        settling = settling.see(key, before, after, now + WAIT)
        since = {place: at for place, at in since.items() if place[0] != key or place[1] in before & after}
        since |= {(key, node): now for node in after - before}
        counting = after - settling.waiting(key)
        # Whoever counts goes on doing so, somebody does if anybody can, and where others serve the new wait.
        assert counted & after <= counting
        assert bool(counting) == bool(after)
        assert not counted & after or counting - counted == frozenset()
        for each in KEYS:
            assert settling.waiting(each) <= usable[each]
            assert all(now < since[each, node] + WAIT for node in settling.waiting(each))
        waiting = [since[each, node] + WAIT for each in KEYS for node in settling.waiting(each)]
        assert min(waiting, default=None) == settling.deadline
    settling, keys = settling.end(now + WAIT, 100)
    assert Settling().deadline is settling.deadline
    assert len(set(keys)) == len(keys)


def test_of_many_whose_time_has_come_so_many_end_at_once() -> None:
    settling = Settling()
    for number in range(5):
        settling = settling.see(ServiceKey("red", f"s{number}"), frozenset("a"), frozenset("ab"), float(number))
    settling, keys = settling.end(3.0, 3)
    assert ["s0", "s1", "s2"] == [key.name for key in keys]
    settling, keys = settling.end(3.0, 3)
    assert (["s3"], 4.0) == ([key.name for key in keys], settling.deadline)


# The speaker on n1.

TOR = BGPPeer(name="tor", my_asn=64513, peer_asn=64512, address=Address.parse("192.0.2.1"), dual_stack=True)
LOCAL = plain_service("web", held=(ipv4(1), ipv6(1)), external_traffic_policy=TrafficPolicy.LOCAL)


def speaker(*at: str, ready_for: float = WAIT) -> Desk[AnnouncementState]:
    config = [ConfigSeen(document(BGPAdvertisement(name="all"))), ConfigSeen(document(TOR))]
    desk = told(*config, *with_endpoints(LOCAL, *at), ready_for=ready_for)
    desk.now = 100.0
    return desk


def routes(intents: Iterable[Intent]) -> list[type[Intent]]:
    return [type(each) for each in intents if isinstance(each, AdvertiseRoute | WithdrawRoute)]


def told_of_waiting(intents: Iterable[Intent]) -> list[float | None]:
    return [each.after for each in intents if isinstance(each, ReportWithheld)]


def verdicts(desk: Desk[AnnouncementState]) -> dict[str, Reason]:
    found = explain_routes(desk.state, LOCAL.key)
    assert isinstance(found, tuple)
    return {each.node: each.reason for each in found}


def test_a_node_with_new_endpoints_is_told_to_routers_when_they_have_been_ready_for_the_stated_time() -> None:
    desk = speaker("n2")
    intents = [*desk.feed(*with_endpoints(LOCAL, "n1", "n2")), *desk.settle(until=104.9)]
    assert ([], [WAIT]) == (routes(intents), told_of_waiting(intents))
    assert ["routeWithheld"] == [each.reason for each in intents if isinstance(each, RecordEvent)]
    assert (Reason.ENDPOINTS_TOO_NEW, Reason.OK) == (verdicts(desk)["n1"], verdicts(desk)["n2"])
    # The same news again is none, and does not begin the time anew.
    desk.now = 103.0
    assert [] == desk.feed(*with_endpoints(LOCAL, "n1", "n2"))
    assert 105.0 == desk.wake_at
    intents = desk.settle()
    assert (105.0, [AdvertiseRoute] * 2, [None]) == (desk.now, routes(intents), told_of_waiting(intents))
    assert Reason.OK is verdicts(desk)["n1"]
    # What is no longer ready is withdrawn at once, and is new when it comes back.
    assert [WithdrawRoute] * 2 == routes(desk.feed(*with_endpoints(LOCAL, "n2")))
    intents = desk.feed(*with_endpoints(LOCAL, "n1", "n2"))
    assert ([], [WAIT]) == (routes(intents), told_of_waiting(intents))


def test_where_nobody_else_serves_nobody_waits() -> None:
    desk = speaker()
    assert [AdvertiseRoute] * 2 == routes(desk.feed(*with_endpoints(LOCAL, "n1")))
    desk = speaker("n2")
    assert [] == routes(desk.feed(*with_endpoints(LOCAL, "n1", "n2")))
    intents = desk.feed(*with_endpoints(LOCAL, "n1"))
    assert ([AdvertiseRoute] * 2, [None]) == (routes(intents), told_of_waiting(intents))
    assert desk.wake_at is None


def test_a_speaker_that_starts_tells_of_all_endpoints_that_it_finds() -> None:
    config = [ConfigSeen(document(BGPAdvertisement(name="all"))), ConfigSeen(document(TOR))]
    one_by_one = [*with_endpoints(LOCAL, "n2"), *with_endpoints(LOCAL, "n1", "n2")]  # as lists of slices are read
    desk = told(*config, *one_by_one, ready_for=WAIT)
    assert ([AdvertiseRoute] * 2, []) == (routes(desk.intents), told_of_waiting(desk.intents))


def test_whoever_passes_traffic_on_need_not_wait_and_zero_is_no_time() -> None:
    desk = speaker("n2")
    cluster = evolve(LOCAL, external_traffic_policy=TrafficPolicy.CLUSTER)
    assert [AdvertiseRoute] * 2 == routes(desk.run(*with_endpoints(cluster, "n2")))
    intents = desk.feed(*with_endpoints(cluster, "n1", "n2"))
    assert ([], []) == (routes(intents), told_of_waiting(intents))
    desk = speaker("n2", ready_for=0)
    assert [AdvertiseRoute] * 2 == routes(desk.feed(*with_endpoints(LOCAL, "n1", "n2")))


def test_a_service_that_goes_while_it_waits_leaves_nothing_behind() -> None:
    desk = speaker("n2")
    desk.feed(*with_endpoints(LOCAL, "n1", "n2"))
    intents = desk.feed(ServiceGone(LOCAL.key))
    assert [None] == told_of_waiting(intents)
    assert [] == routes(desk.settle())
    assert desk.wake_at is None

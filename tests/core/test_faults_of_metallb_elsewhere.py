"""One test for each fault of MetalLB beside its allocation proper: wake-ups, costs, configuration, speakers.

Like `test_faults_of_metallb`, which also compares both files with the rows of `docs/compatibility.md`.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable

import attrs

from lbcore import announcement, assignment
from lbcore.addresses import AddressRange
from lbcore.allocation import allocate
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.config import L2Advertisement, Pool, ServiceAllocation, build
from lbcore.election import elect
from lbcore.events import (
    AnsweringSeen,
    ConfigGone,
    ConfigSeen,
    Event,
    Failed,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    ServiceGone,
    ServiceSeen,
    SliceSeen,
)
from lbcore.intents import Announce, Intent, RecordEvent, ReportConfig, SetAddresses, Withdraw
from lbcore.ledger import Claim, Ledger
from lbcore.model import Endpoint, EndpointSlice, Service, ServiceKey, SliceKey
from lbcore.pools import Catalog
from lbcore.requests import Request
from worlds import ALL_KINDS, Desk, broken, document, ipv4, ipv6, link, plain_service

SIX, FOUR = Pool.parse("p", "2001:db8::/64"), Pool.parse("p", "10.0.0.0/24")


def controller(*events: Event, slice_size: int = 128) -> Desk[AssignmentState]:
    """A controller that has been told this and that it is everything, and has come to rest."""
    desk = Desk(assignment.step, AssignmentState(settings=AssignmentSettings(slice_size=slice_size)))
    desk.run(*events, *map(Listed, (Kind.CONFIG, Kind.NAMESPACES, Kind.SERVICES)))
    return desk


def speaker(*events: Event, members: Iterable[str] = ("n1",)) -> Desk[AnnouncementState]:
    """The speaker on n1 with one pool, told this and that it is everything, at rest."""
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")))
    known = (AnsweringSeen(()), LinksSeen((link("eth0", 2),)), MembersSeen(frozenset(members)))
    desk.run(ConfigSeen(document(SIX)), *known, *events, *map(Listed, ALL_KINDS))
    return desk


def announced(service: Service) -> list[Event]:
    """A Service and an endpoint of it that any node may send traffic to."""
    slice_ = EndpointSlice(
        key=SliceKey("red", service.key.name), service=service.key.name, endpoints=(Endpoint(addresses=("fd00::9",)),)
    )
    return [ServiceSeen(service), SliceSeen(slice_)]


def reasons(intents: Iterable[Intent]) -> list[str]:
    return [intent.reason for intent in intents if isinstance(intent, RecordEvent)]


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions some work calls."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_failed_status_write_does_not_lose_the_wake_up_of_who_waits() -> None:
    pool = ConfigSeen(document(Pool.parse("p", "10.0.0.0/31")))
    holder, waiter = plain_service("holder"), plain_service("waiter", load_balancer_ip="10.0.0.0")
    desk = controller(pool, ServiceSeen(holder), ServiceSeen(waiter))
    moved = desk.feed(ServiceSeen(attrs.evolve(holder, load_balancer_ip="10.0.0.1")))
    write = next(each for each in moved if isinstance(each, SetAddresses) and each.key == holder.key)
    desk.run(Failed(intent=write, message="conflict", retry=False))
    claim = desk.state.ledger.of(waiter.key)
    assert claim is not None
    assert (ipv4(0),) == claim.addresses


def test_equal_priorities_are_not_tried_in_any_order() -> None:
    for priority in (0, 7):
        terms = ServiceAllocation(priority=priority)
        pools = [
            Pool(name=name, ranges=(AddressRange.parse(f"2001:db8:{name}::/64"),), allocation=terms) for name in "cab"
        ]
        request = Request(key=ServiceKey("red", "web"), families=(ipv6(0).family,))
        answers = {allocate(request, Catalog.of(order), Ledger()) for order in itertools.permutations(pools)}
        assert {("a",)} == {answer.pools for answer in answers}


def test_a_service_that_shares_does_not_set_all_the_others_in_motion() -> None:
    others = [ServiceSeen(plain_service(f"s{number}")) for number in range(20)]
    desk = controller(ConfigSeen(document(FOUR)), *others, slice_size=1)
    desk.feed(ServiceSeen(plain_service("web", annotations={"metallb.io/allow-shared-ip": "k"})))
    assert not desk.state.unfinished


def test_one_service_that_goes_does_not_set_all_the_others_in_motion() -> None:
    others = [plain_service(f"s{number}") for number in range(20)]
    desk = controller(ConfigSeen(document(FOUR)), *map(ServiceSeen, others), slice_size=1)
    desk.feed(ServiceGone(others[3].key, others[3].uid))
    assert not desk.state.unfinished


def test_a_full_pool_is_not_searched_address_by_address() -> None:
    def cost(length: int) -> int:
        ledger, catalog = Ledger(), Catalog.of([Pool.parse("p", f"2001:db8::/{length}")])
        for number in range(1 << (128 - length)):
            ledger = ledger.claim(Claim(key=ServiceKey("red", f"s{number}"), addresses=(ipv6(number),), pools=("p",)))
        request = Request(key=ServiceKey("red", "next"), families=(ipv6(0).family,))
        return calls_of(lambda: allocate(request, catalog, ledger))

    assert cost(116) <= 2 * cost(124)


def test_overlaps_are_not_looked_for_pair_by_pair() -> None:
    def cost(count: int) -> int:
        ranges = tuple(AddressRange(6, number << 8, (number << 8) + 9) for number in range(1, count + 1))
        made = [document(Pool(name="p", ranges=ranges))]
        return calls_of(lambda: build(made))

    assert cost(1600) <= 12 * cost(200)  # 8 times as many; pair by pair it would be 64


def test_the_last_good_configuration_that_comes_back_is_not_called_stale() -> None:
    desk = controller(ConfigSeen(document(SIX)))
    desk.run(ConfigSeen(broken("q")))
    desk.run(ConfigGone(broken("q").origin))
    reports = [each for each in desk.intents if isinstance(each, ReportConfig)]
    assert [False, True, False] == [bool(each.problems) for each in reports]


def test_a_configuration_is_not_refused_for_an_address_that_is_announced() -> None:
    everybody = ConfigSeen(document(L2Advertisement(name="all")))
    desk = speaker(everybody, *announced(plain_service("web", held=(ipv6(0),))))
    elsewhere = Pool.parse("p", "2001:db8:1::/64")
    said = desk.run(ConfigSeen(document(elsewhere)))
    assert Withdraw(address=ipv6(0)) in said
    assert [(elsewhere,)] == [each.config.pools for each in said if isinstance(each, ReportConfig) and each.config]


def test_a_configuration_that_says_the_same_sets_no_speaker_in_motion() -> None:
    """MetalLB's speakers read everything anew whenever the counts in a pool's status change."""
    everybody = ConfigSeen(document(L2Advertisement(name="all")))
    desk = speaker(everybody, *announced(plain_service("web", held=(ipv6(0),))))
    before = desk.state.electorates
    assert [] == desk.run(everybody, ConfigSeen(document(SIX)))
    assert before is desk.state.electorates


def test_who_announces_is_not_told_again_on_every_pass() -> None:
    web = plain_service("web", held=(ipv6(0),))
    desk = speaker(ConfigSeen(document(L2Advertisement(name="all"))), *announced(web))
    assert ["nodeAssigned"] == reasons(desk.intents)
    assert [] == reasons(desk.run(*(ServiceSeen(attrs.evolve(web, labels={"pass": str(number)})) for number in "123")))


def test_an_address_on_an_interface_that_is_not_there_is_not_called_announced() -> None:
    nowhere = ConfigSeen(document(L2Advertisement(name="all", interfaces=("absent0",))))
    desk = speaker(nowhere, *announced(plain_service("web", held=(ipv6(0),))))
    assert ["announceFailed"] == reasons(desk.intents)


def test_an_annotation_of_the_old_prefix_is_not_warned_of_on_every_pass() -> None:
    web = plain_service("web", annotations={"metallb.universe.tf/loadBalancerIPs": "10.0.0.7"})
    desk = controller(ConfigSeen(document(FOUR)), ServiceSeen(web))
    shown = attrs.evolve(web, held=(ipv4(7),))
    assert [] == reasons(desk.run(*(ServiceSeen(attrs.evolve(shown, labels={"pass": number})) for number in "123")))


def test_a_dead_node_does_not_keep_its_addresses() -> None:
    address = next(each for each in map(ipv6, range(99)) if elect(("n1", "n2"), each) == "n2")
    desk = speaker(
        ConfigSeen(document(L2Advertisement(name="all"))),
        *announced(plain_service("web", held=(address,))),
        members=("n1", "n2"),
    )
    assert Announce(address=address, interfaces=()) in desk.feed(MembersSeen(frozenset({"n1"})))

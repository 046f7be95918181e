"""One test for each fault of MetalLB's allocator that its users meet, named after the fault that is absent here.

The rows of `docs/compatibility.md` name these tests. What they show by one example, the properties
of `test_allocation` and `test_assignment` hold for any history.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import attrs
import pytest

from lbcore import assignment
from lbcore.addresses import AddressRange, Family
from lbcore.allocation import Allocation, allocate
from lbcore.assignment import AssignmentState
from lbcore.config import Pool, ServiceAllocation
from lbcore.errors import AddressError
from lbcore.events import ConfigSeen, Event, Kind, Listed, NamespaceSeen, ServiceSeen
from lbcore.intents import SetAddresses, SetPoolUsage
from lbcore.ledger import Claim, Ledger
from lbcore.model import IPFamilyPolicy, LabelSelector, Namespace, Service, ServiceKey
from lbcore.pools import Catalog, capacity
from lbcore.requests import Request
from lbcore.verdicts import Reason
from worlds import Desk, document, ipv4, ipv6, plain_service

HERE = Path(__file__)
DUAL = ("10.96.0.1", "fd00::1")


def controller(*events: Event) -> Desk[AssignmentState]:
    """A controller that has been told this and that it is everything, and has come to rest."""
    desk = Desk(assignment.step, AssignmentState())
    desk.run(*events, *map(Listed, (Kind.CONFIG, Kind.NAMESPACES, Kind.SERVICES)))
    return desk


def pool(name: str, *texts: str) -> ConfigSeen:
    return ConfigSeen(document(Pool.parse(name, *texts)))


def written(desk: Desk[AssignmentState], *events: Event) -> dict[str, SetAddresses]:
    """What is to be written about each Service because of these events: the last word."""
    return {intent.key.name: intent for intent in desk.run(*events) if isinstance(intent, SetAddresses)}


def asking(name: str, addresses: str, **fields: object) -> Service:
    return plain_service(name, annotations={"metallb.io/loadBalancerIPs": addresses}, **fields)


def calls_of_one_allocation(held: int) -> int:
    """How many Python functions are called to find the next address of a pool of which so many are held."""
    catalog, ledger = Catalog.of([Pool.parse("p", "10.0.0.0/16")]), Ledger()
    for number in range(held):
        key = ServiceKey("red", f"s{number}")
        ledger = ledger.claim(Claim(key=key, addresses=(ipv4(number),), pools=("p",)))
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        answer = allocate(Request(key=ServiceKey("red", "next")), catalog, ledger)
    finally:
        sys.setprofile(None)
    assert isinstance(answer, Allocation)
    assert (ipv4(held),) == answer.addresses
    return calls


def test_filling_a_pool_is_not_quadratic() -> None:
    assert calls_of_one_allocation(16_000) <= 2 * calls_of_one_allocation(250)


def test_pools_are_not_tried_in_random_order() -> None:
    pools = [pool(name, f"10.0.{number}.0/24") for number, name in enumerate("dbca")]
    orders = (pools, pools[::-1], pools[2:] + pools[:2])
    found = {written(controller(*order), ServiceSeen(plain_service("web")))["web"].pool for order in orders}
    assert {"a"} == found


@pytest.mark.parametrize("wish", ["10.0.0.1", "192.0.2.1"], ids=["busy", "foreign"])
def test_a_working_address_is_not_dropped_before_a_new_one_is_granted(wish: str) -> None:
    web, other = plain_service("web", held=(ipv4(0),)), plain_service("other", held=(ipv4(1),))
    desk = controller(pool("p", "10.0.0.0/24"), ServiceSeen(web), ServiceSeen(other))
    said = written(desk, ServiceSeen(attrs.evolve(web, load_balancer_ip=wish)))["web"]
    assert (ipv4(0),) == said.addresses
    assert said.refusal is not None
    assert wish in said.refusal.detail


def test_waiters_are_woken_when_a_holder_moves_away() -> None:
    holder, waiter = plain_service("holder"), plain_service("waiter", load_balancer_ip="10.0.0.0")
    desk = controller(pool("p", "10.0.0.0/31"), ServiceSeen(holder))
    assert () == written(desk, ServiceSeen(waiter))["waiter"].addresses
    said = written(desk, ServiceSeen(attrs.evolve(holder, load_balancer_ip="10.0.0.1")))
    assert {"holder": (ipv4(1),), "waiter": (ipv4(0),)} == {name: each.addresses for name, each in said.items()}


def test_prefer_dual_stack_on_one_cluster_ip_does_not_flip_for_ever() -> None:
    web = plain_service("web", cluster_ips=DUAL[:1], ip_family_policy=IPFamilyPolicy.PREFER_DUAL_STACK)
    desk = controller(pool("p", "10.0.0.0/24", "2001:db8::/64"), ServiceSeen(web))
    (given,) = (intent for intent in desk.intents if isinstance(intent, SetAddresses))
    assert (ipv4(0),) == given.addresses
    shown = attrs.evolve(web, held=given.addresses)
    for number in range(3):
        assert {} == written(desk, ServiceSeen(attrs.evolve(shown, labels={"pass": str(number)})))


def test_a_status_is_not_written_again_on_every_pass() -> None:
    # What the API server adds to the entry (`ipMode`) is not read, so it is no difference.
    shown = plain_service("web", held=(ipv4(0),), annotations={"metallb.universe.tf/ip-allocated-from-pool": "p"})
    desk = controller(pool("p", "10.0.0.0/24"), ServiceSeen(shown))
    later = [ServiceSeen(attrs.evolve(shown, labels={"pass": str(number)})) for number in range(3)]
    edit = pool("q", "10.0.1.0/24")
    assert {} == written(desk, *later, edit, *later)
    assert not any(isinstance(intent, SetAddresses) for intent in desk.intents)


@pytest.mark.parametrize(
    "wish", [{"metallb.io/address-pool": "p"}, {"metallb.io/loadBalancerIPs": "10.0.0.7"}], ids=str
)
def test_a_pool_whose_selectors_match_no_namespace_is_for_nobody(wish: dict[str, str]) -> None:
    nobody = ServiceAllocation(namespace_selectors=(LabelSelector.of(team="none"),))
    closed = ConfigSeen(document(attrs.evolve(Pool.parse("p", "10.0.0.0/24"), allocation=nobody)))
    desk = controller(closed, NamespaceSeen(Namespace(name="red", labels={"team": "a"})))
    said = written(desk, ServiceSeen(plain_service("web", annotations=wish)))["web"]
    assert () == said.addresses
    assert said.refusal is not None
    assert Reason.POOL_NOT_FOR_NAMESPACE is said.refusal.reason


def test_counters_do_not_overflow_and_are_never_negative() -> None:
    desk = controller(pool("huge", "2001:db8::/64", "2001:db8:1::/120"))
    usages = [intent for intent in desk.intents if isinstance(intent, SetPoolUsage)]
    assert [2**64 + 256] == [usage.available_ipv6 for usage in usages]
    edges = Pool.parse("edges", "10.0.0.0/32", "10.0.0.255/32", avoid_buggy_ips=True)
    assert 0 == capacity(edges, Family.IPV4)


@pytest.mark.parametrize("change", [{"type": "ClusterIP"}, {"load_balancer_class": "example.com/other"}], ids=str)
def test_a_change_of_type_or_class_does_not_leak_the_address(change: dict[str, str]) -> None:
    web, waiter = plain_service("web"), plain_service("waiter")
    desk = controller(pool("p", "10.0.0.0/32"), ServiceSeen(web))
    written(desk, ServiceSeen(waiter))
    said = written(desk, ServiceSeen(attrs.evolve(web, held=(ipv4(0),), **change)))  # type: ignore[arg-type]
    assert {"web": (), "waiter": (ipv4(0),)} == {name: each.addresses for name, each in said.items()}


def test_a_range_that_mixes_families_is_not_taken_for_an_empty_one() -> None:
    with pytest.raises(AddressError, match="mixes IPv4 and IPv6; give each its own"):
        AddressRange.parse("10.0.0.1-2001:db8::1")


def test_a_request_of_both_families_is_not_turned_round_afterwards() -> None:
    web = asking("web", "2001:db8::7, 10.0.0.7", cluster_ips=DUAL, ip_family_policy=IPFamilyPolicy.REQUIRE_DUAL_STACK)
    desk = controller(pool("p", "10.0.0.0/24", "2001:db8::/64"), ServiceSeen(web))
    (given,) = (intent for intent in desk.intents if isinstance(intent, SetAddresses))
    assert {ipv4(7), ipv6(7)} == set(given.addresses)
    assert {} == written(desk, ServiceSeen(attrs.evolve(web, held=given.addresses, labels={"a": "b"})))


def test_two_families_may_come_from_two_pools() -> None:
    web = plain_service("web", cluster_ips=DUAL, ip_family_policy=IPFamilyPolicy.REQUIRE_DUAL_STACK)
    said = written(controller(pool("four", "10.0.0.0/24"), pool("six", "2001:db8::/64")), ServiceSeen(web))["web"]
    assert ((ipv4(0), ipv6(0)), "four,six") == (said.addresses, said.pool)


def test_what_a_restart_finds_is_not_shuffled() -> None:
    old, young = (plain_service(name, held=(ipv4(0),), created=at) for name, at in (("z", "2020"), ("a", "2025")))
    said = written(controller(pool("p", "10.0.0.0/31")), ServiceSeen(old))
    assert {} == {name: each.addresses for name, each in said.items() if each.addresses != old.held}
    desk = controller(pool("p", "10.0.0.0/31"), ServiceSeen(young), ServiceSeen(old))
    moved = [intent for intent in desk.intents if isinstance(intent, SetAddresses)]
    assert [("a", (ipv4(1),))] == [(each.key.name, each.addresses) for each in moved]


def test_every_test_that_the_table_names_exists() -> None:
    table = HERE.parents[2] / "docs" / "compatibility.md"
    named = re.findall(r"\| `(test_\w+)` \|", table.read_text(encoding="utf-8"))
    files = [HERE, HERE.with_name("test_faults_of_metallb_elsewhere.py")]
    here = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)]
    assert sorted(here) == sorted([*named, "test_every_test_that_the_table_names_exists"])

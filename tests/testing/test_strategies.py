"""What the public strategies promise: everything drawn could exist, and the arguments are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import find as find_smallest
from hypothesis import strategies as st

from lbcore.addresses import Address, Family
from lbcore.config import Config, Pool, build
from lbcore.events import ConfigGone, ConfigSeen, Event, NamespaceSeen, ServiceGone, ServiceSeen
from lbcore.model import Namespace, Service, ServiceKey
from lbcore.requests import Request, read_request
from lbcore.testing import (
    ALL_STACKS,
    History,
    Started,
    Wish,
    addresses,
    configs,
    documents,
    histories,
    in_any_order,
    pools,
    services,
    worlds,
)

POOLS = (Pool.parse("six", "2001:db8::/126"), Pool.parse("both", "10.0.0.0/30", "2001:db8:1::/126"))
CONFIG = Config(pools=POOLS)

T = TypeVar("T")


def find(drawn: st.SearchStrategy[T], wanted: Callable[[T], bool]) -> T:
    """The first that is as wanted; to look for the smallest one takes long."""
    return find_smallest(drawn, wanted, settings=settings(phases=[Phase.generate], max_examples=2000))


@given(configs())
def test_a_configuration_that_is_drawn_is_sound_and_survives_being_told_as_objects(config: Config) -> None:
    assert config == build(documents(config))


@given(services(pools=POOLS, stacks=[(Family.IPV6,)], namespaces=["prod"]))
def test_a_service_has_the_families_and_the_namespace_that_were_asked_for(service: Service) -> None:
    request = read_request(service)
    assert isinstance(request, Request)
    assert ("prod", (Family.IPV6,)) == (service.key.namespace, request.families)


@given(st.data(), st.sampled_from(ALL_STACKS))
def test_every_service_makes_a_sound_request_whatever_its_families(
    data: st.DataObject, stack: tuple[Family, ...]
) -> None:
    request = read_request(data.draw(services(pools=POOLS, stacks=[stack])))
    assert isinstance(request, Request)
    assert stack == request.families
    assert all(any(address in pool for pool in POOLS) for address in request.addresses)


@given(services(pools=POOLS, wishes=()))
def test_without_wishes_a_service_takes_what_it_is_given(service: Service) -> None:
    assert {} == dict(service.annotations)


@pytest.mark.parametrize("wish", Wish)
def test_every_wish_is_drawn_where_it_is_allowed(wish: Wish) -> None:
    found = find(services(pools=POOLS, wishes=[wish]), lambda service: bool(service.annotations))
    assert [True] == [name in wish.value for name in found.annotations]


@given(addresses(within=POOLS[0].ranges))
def test_an_address_within_ranges_is_in_one_of_them(address: Address) -> None:
    assert address in POOLS[0]


def test_pools_of_every_kind_are_drawn() -> None:
    find(pools(), lambda found: any(not pool.auto_assign for pool in found) and any(pool.allocation for pool in found))
    find(pools(), lambda found: any(len(pool.families) == 2 for pool in found))


# Histories.


def assert_possible(history: History) -> None:
    """No object ends that is not there, and no uid is used for two Services."""
    there: dict[tuple[str, str], Event] = {}
    gone: set[str] = set()
    for change in (change for burst in history for change in burst):
        match change:
            case ServiceSeen(service):
                assert service.uid
                assert service.uid not in gone
                known = there.get(change.subject)
                assert not isinstance(known, ServiceSeen) or known.service.uid == service.uid
                there[change.subject] = change
            case ServiceGone(_, uid):
                last = there.pop(change.subject)
                assert isinstance(last, ServiceSeen)
                assert uid == last.service.uid
                gone.add(uid)
            case ConfigGone():
                del there[change.subject]
            case ConfigSeen() | NamespaceSeen():
                there[change.subject] = change
            case _:
                pass


@given(worlds())
def test_a_history_is_one_that_a_cluster_allows(history: History) -> None:
    assert_possible(history)
    assert isinstance(history[0][-1], Started)
    assert len(history) > 1


EXISTING = Service(key=ServiceKey("prod", "web"), held=(Address.parse("2001:db8::2"),), cluster_ips=("fd00::1",))


@given(histories(CONFIG, existing=[EXISTING], namespaces=[Namespace(name="prod")], restarts=False, deletes=False))
def test_what_was_ruled_out_does_not_happen_and_what_exists_is_there_from_the_beginning(history: History) -> None:
    later = [change for burst in history[1:] for change in burst]
    assert not [change for change in later if isinstance(change, Started | ServiceGone | ConfigGone | ConfigSeen)]
    (first,) = [change.service for change in history[0] if isinstance(change, ServiceSeen)]
    assert (EXISTING.key, EXISTING.held) == (first.key, first.held)


@pytest.mark.parametrize("wanted", [ServiceGone, Started, ConfigGone, ConfigSeen, NamespaceSeen])
def test_everything_happens_in_some_history(wanted: type[object]) -> None:
    drawn = histories(CONFIG, Config(pools=POOLS[:1]), Config(pools=POOLS[1:]), namespaces=[Namespace(name="red")])
    find(drawn, lambda history: any(isinstance(change, wanted) for burst in history[1:] for change in burst))


def of(subject: tuple[str, str], events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.subject == subject]


@given(st.data())
def test_any_order_keeps_the_order_of_each_object(data: st.DataObject) -> None:
    events: list[Event] = [
        event
        for name in "ab"
        for uid in "123"
        for event in (
            ServiceSeen(Service(key=ServiceKey("red", name), uid=uid)),
            ServiceGone(ServiceKey("red", name), uid),
        )
    ]
    told = data.draw(in_any_order(events))
    for subject in {event.subject for event in events}:
        assert [each for each in events if each.subject == subject] == [
            each for each in told if each.subject == subject
        ]


def test_orders_across_objects_are_drawn() -> None:
    events: list[Event] = [ServiceSeen(Service(key=ServiceKey("red", name))) for name in "abc"]
    find(in_any_order(events), lambda told: told == tuple(reversed(events)))

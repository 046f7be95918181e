"""What is said of a single address: its pool, its holders, and what the next who asked would be told."""

from __future__ import annotations

import pytest

from lbcore import (
    Address,
    AssignmentState,
    ConfigDocument,
    Origin,
    Pool,
    PoolVerdict,
    Reason,
    Service,
    ServiceKey,
    assignment,
)
from lbcore.daemons.planning import settle
from lbcore.events import ConfigSeen, Event, Kind, Listed, ServiceSeen

WEB = ServiceKey("default", "web")
POOL = Pool.parse("home", "192.0.2.0/24", "2001:db8::/64", avoid_buggy_ips=True)
CONFIG = ConfigSeen(
    ConfigDocument(origin=Origin(kind="IPAddressPool", namespace="metallb-system", name="home"), resources=(POOL,))
)


def state_with(*services: Service) -> AssignmentState:
    events: list[Event] = [*(ServiceSeen(service) for service in services), CONFIG, *(Listed(kind) for kind in Kind)]
    return settle(assignment.step, AssignmentState(), events, lambda state: state.settled)[0]


@pytest.mark.parametrize("text", ["192.0.2.7", "2001:db8::7"])
def test_a_held_address_names_its_holder_and_refuses_the_next(text: str) -> None:
    address = Address.parse(text)
    state = state_with(Service(key=WEB, held=[address], ip_families=(address.family,)))
    story = assignment.explain_address(state, address)

    assert story is not None
    assert ("home", (WEB,), Reason.ADDRESS_IN_USE) == (story.pool, story.holders, story.verdict.reason)


@pytest.mark.parametrize("text", ["192.0.2.7", "2001:db8::7"])
def test_a_free_address_would_be_given(text: str) -> None:
    story = assignment.explain_address(state_with(), Address.parse(text))

    assert story is not None
    assert ("home", (), Reason.OK) == (story.pool, story.holders, story.verdict.reason)


@pytest.mark.parametrize(
    ("text", "pool", "reason"),
    [("192.0.2.255", "home", Reason.ADDRESS_AVOIDED), ("198.51.100.1", None, Reason.ADDRESS_NOT_IN_POOL)],
)
def test_an_address_that_nobody_may_have_says_why(text: str, pool: str | None, reason: Reason) -> None:
    story = assignment.explain_address(state_with(), Address.parse(text))

    assert story is not None
    assert (pool, reason) == (story.pool, story.verdict.reason)


def test_before_any_configuration_nothing_can_be_said() -> None:
    assert assignment.explain_address(AssignmentState(), Address.parse("192.0.2.7")) is None


def test_the_pool_of_a_held_address_says_that_it_gave_it() -> None:
    story = assignment.explain(state_with(Service(key=WEB, held=[Address.parse("192.0.2.7")])), WEB)

    assert story is not None
    assert (PoolVerdict(pool="home", reason=Reason.OK, detail="gave 192.0.2.7"),) == story.pools

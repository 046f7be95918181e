"""The judge of `lbcore.testing`: what it replays is what a cluster would come to, and it finds what is broken."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore.addresses import Address, Family
from lbcore.assignment import AssignmentSettings
from lbcore.config import Config, Pool
from lbcore.daemons.planning import World, plan
from lbcore.events import ConfigSeen, ServiceGone, ServiceSeen
from lbcore.model import Port, Service, ServiceKey
from lbcore.requests import Request, read_request
from lbcore.testing import (
    History,
    Law,
    Moment,
    Started,
    check_history,
    documents,
    each_in_a_pool_that_serves_it,
    nobody_waits_in_vain,
    replay,
    services,
    shared_by_consent,
    worlds,
)
from lbcore.verdicts import Reason, Refusal

ONE, TWO = Address.parse("2001:db8::"), Address.parse("2001:db8::1")
CONFIG = Config(pools=(Pool.parse("tiny", f"{ONE}-{TWO}", "10.0.0.0/31"),))


def service(name: str, *held: Address, **fields: object) -> Service:
    given: dict[str, object] = {"cluster_ips": ("fd00::1",), "ports": (Port("TCP", 80),), "uid": f"uid-{name}"}
    return Service(key=ServiceKey("red", name), held=held, **{**given, **fields})  # type: ignore[arg-type]


def history(*bursts: tuple[Service | ServiceGone | Started, ...], config: Config = CONFIG) -> History:
    """A cluster with this configuration and these Services, told to a controller at the end of the first burst."""
    beginning = tuple(ConfigSeen(each) for each in documents(config))
    events = [tuple(ServiceSeen(each) if isinstance(each, Service) else each for each in burst) for burst in bursts]
    return (beginning + events[0] + (Started(),), *events[1:])


@given(worlds())
def test_the_laws_that_always_hold_hold_in_any_history(lived: History) -> None:
    last = check_history(lived)
    assert len(lived) - 1 == last.number


@pytest.mark.slow
@settings(max_examples=3000)
@given(worlds(), st.sampled_from([1, 3, 128]))
def test_and_in_many_more_histories_however_short_a_step_is(lived: History, slice_size: int) -> None:
    check_history(lived, settings=AssignmentSettings(slice_size=slice_size))


@given(worlds())
def test_what_services_show_is_what_the_ledger_has(lived: History) -> None:
    for moment in replay(lived):
        if moment.config is not None:
            shown = {key: set(each.held) for key, each in moment.services.items() if each.held}
            assert shown == {claim.key: set(claim.addresses) for claim in moment.ledger}


@given(worlds())
def test_the_same_history_comes_to_the_same_end(lived: History) -> None:
    assert check_history(lived) == check_history(lived)


@given(st.lists(services(pools=CONFIG.pools), max_size=5, unique_by=lambda each: each.key))
def test_the_first_moment_is_what_plan_says_of_the_same_state(given_services: list[Service]) -> None:
    named = [evolve(each, uid=f"uid-{number}", created=str(number)) for number, each in enumerate(given_services)]
    lived = history(tuple(named))
    (moment,) = replay(lived)
    planned = plan([World.of(event for event in lived[0] if not isinstance(event, Started))]).services
    assert {each.key: each.addresses for each in planned} == {each.key: each.held for each in moment.served}
    assert {each.key: each.reason for each in planned if each.reason} == {
        key: refusal.reason for key, refusal in moment.refusals.items()
    }


def test_a_moment_tells_who_has_what_and_why_not() -> None:
    *_, moment = replay(history((service("a"), service("b")), (service("c"),)))

    assert {ONE: (ServiceKey("red", "a"),), TWO: (ServiceKey("red", "b"),)} == moment.held
    assert ("tiny",) == moment.pools_of(ServiceKey("red", "a"))
    assert (0, 2) == (moment.room("tiny", Family.IPV6), moment.room("tiny", Family.IPV4))
    assert 0 == moment.room("no-such", Family.IPV6)
    assert Reason.POOL_EXHAUSTED == moment.refusals[ServiceKey("red", "c")].reason
    assert isinstance(moment.would_grant(service("d")), Refusal)


def test_an_address_that_comes_free_goes_to_who_waits_and_a_restart_moves_nobody() -> None:
    gone = ServiceGone(ServiceKey("red", "a"), "uid-a")
    lived = history((service("a"), service("b")), (service("c"),), (gone,), (Started(7),))
    held = [{str(key.name): str(address) for address, (key,) in moment.held.items()} for moment in replay(lived)]
    assert {"b": "2001:db8::1", "c": "2001:db8::"} == held[2] == held[3]


def test_what_was_not_written_when_the_controller_started_anew_is_decided_again() -> None:
    (first, second) = replay(history((service("a"),), (service("b"), Started(), service("c"))))
    assert first.held.items() <= second.held.items()
    assert 2 == len(second.held)


def test_before_a_sound_configuration_nothing_is_granted() -> None:
    (moment,) = replay(((ServiceSeen(service("a")), Started()),))
    refused = moment.would_grant(service("a"))
    assert isinstance(refused, Refusal)
    assert Reason.NO_POOLS == refused.reason


def broken(moment: Moment, *shown: Service) -> Moment:
    """The same moment, but these Services show what they should not."""
    return evolve(moment, services={**moment.services, **{each.key: each for each in shown}})


def terms(key: str) -> dict[str, str]:
    return {"metallb.io/allow-shared-ip": key}


@pytest.mark.parametrize(
    ("law", "shown"),
    [
        (shared_by_consent, (service("a", ONE), service("b", ONE))),
        (shared_by_consent, (service("a", ONE, annotations=terms("k")), service("b", ONE, annotations=terms("l")))),
        (shared_by_consent, (service("a", ONE, annotations=terms("k")), service("b", ONE, annotations=terms("k")))),
        (each_in_a_pool_that_serves_it, (service("a", Address.parse("2001:db8::9")),)),
        (nobody_waits_in_vain, (service("a"),)),
    ],
)
def test_each_law_can_be_broken(law: Law, shown: tuple[Service, ...]) -> None:
    (moment,) = replay(history(()))
    law(moment)
    with pytest.raises(AssertionError, match="red/a"):
        law(broken(moment, *shown))


def test_a_law_of_your_own_is_asked_after_every_burst_and_the_burst_is_named() -> None:
    asked: list[int] = []

    def at_most_one(moment: Moment) -> None:
        asked.append(moment.number)
        assert len(moment.held) <= 1

    with pytest.raises(AssertionError) as caught:
        check_history(history((service("a"),), (service("b"),)), at_most_one)
    assert [0, 1] == asked
    assert "after burst 1" in caught.value.__notes__[0]
    assert "name='b'" in caught.value.__notes__[0]


def test_an_empty_history_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one burst"):
        check_history(())


def test_sharers_of_one_address_are_lawful() -> None:
    shown = (service("a", annotations=terms("k")), service("b", annotations=terms("k"), ports=(Port("TCP", 443),)))
    moment = check_history(history(shown))
    assert {ONE: (ServiceKey("red", "a"), ServiceKey("red", "b"))} == moment.held
    assert all(isinstance(read_request(each), Request) for each in shown)

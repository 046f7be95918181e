"""The Ingress brain looks again at what a change touches, and ends where one ends that was told all at once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from lbcore.events import Event, IngressSeen, LeadershipSeen, ServiceSeen, SliceSeen
from lbcore.ingress import Backend, Ingress, IngressPath, IngressRule, ObjectKey, PathType
from lbcore.intents import RecordEvent, ServeRoutes
from lbcore.model import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort, SliceKey
from lbcore.routing import RoutingSettings, RoutingState
from traffic import History, histories, settings, settle, standing, started

ADDRESSES = ("2001:db8::1", "2001:db8::2", "192.0.2.1")
# What depends on how it came there, and not on what there is.
_OF_THE_WAY = {"said", "said_of_options", "said_of_streams", "publishing", "sent", "dirty"}


def made(state: RoutingState) -> dict[str, object]:
    """Everything that it made of what it was told, notes for later included."""
    found: dict[str, object] = asdict(state, recurse=False)
    found["streams"] = evolve(state.streams, read=Map())  # a ConfigMap that is gone is an empty one there
    return {name: value for name, value in found.items() if name not in _OF_THE_WAY}


@pytest.mark.slow
@given(settings, histories())
def test_after_any_changes_all_is_as_if_it_had_been_told_at_once(settings: RoutingSettings, history: History) -> None:
    state, intents = started(settings, history[0])
    told: list[Event] = list(history[0])
    for burst in history[1:]:
        state, more = settle(state, burst)
        told += burst
        intents += more
        fresh, _ = started(settings, standing(told))
        assert made(fresh) == made(state)
    assert state.table == [each.table for each in intents if isinstance(each, ServeRoutes)][-1]


@pytest.mark.slow
@given(settings, histories(bursts=2))
def test_who_begins_to_lead_says_what_one_says_that_is_told_all_at_once(
    settings: RoutingSettings, history: History
) -> None:
    state, _ = started(settings, history[0])
    for burst in history[1:]:
        state, _ = settle(state, burst)
    _, said = settle(state, [LeadershipSeen(True)])
    everything = standing(event for burst in history for event in burst)
    _, expected = started(settings, [LeadershipSeen(True), *everything])
    assert _troubles(expected) == _troubles(said)


def _troubles(said: Iterable[object]) -> set[RecordEvent]:
    return {each for each in said if isinstance(each, RecordEvent) and each.reason in {"Rejected", "Ignored"}}


def hosts(number: int) -> list[Event]:
    """Hosts that share one Service."""
    path = IngressPath(path="/", type=PathType.PREFIX, backend=Backend("web", "80"))
    return [
        IngressSeen(
            Ingress(key=ObjectKey("shop", f"i{each}"), rules=(IngressRule(host=f"h{each}.example", paths=(path,)),))
        )
        for each in range(number)
    ]


def endpoints(*addresses: str) -> SliceSeen:
    return SliceSeen(
        EndpointSlice(
            key=SliceKey("shop", "web-1"),
            service="web",
            endpoints=tuple(Endpoint(addresses=(each,), ready=True) for each in addresses),
            ports=(EndpointPort("", 8080),),
        )
    )


@given(st.sampled_from((1, 7, 120)), st.lists(st.sampled_from(ADDRESSES), unique=True))
def test_however_many_hosts_share_a_service_its_endpoints_change_in_one_step_that_looks_at_no_host(
    number: int, addresses: list[str]
) -> None:
    service = ServiceSeen(Service(key=ObjectKey("shop", "web"), named_ports=(ServicePort("", 80),)))
    settings = RoutingSettings(without_class=True)
    before, _ = started(settings, [*hosts(number), service, endpoints("2001:db8::9")])
    after, intents = settle(before, [endpoints(*addresses)])
    assert [ServeRoutes(table=after.table)] == intents
    assert sorted(addresses) == sorted(peer.host for _, each in after.table.upstreams.items() for peer in each.peers)
    # Whatever was built is the very same object.
    assert after.table.sites is before.table.sites
    assert after.built is before.built
    assert evolve(after.table, upstreams=before.table.upstreams) == before.table

"""Where a Service's usable endpoints are, against a plain reading of EndpointConditions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lbcore.endpoints import Reach, reach_of
from lbcore.model import Endpoint, EndpointSlice, SliceKey

conditions = st.sampled_from([True, False, None])
endpoints = st.builds(
    Endpoint,
    addresses=st.sampled_from([("fd00::9",), ("10.244.0.9",), ()]),
    node=st.sampled_from(["n1", "n2", None]),
    ready=conditions,
    serving=conditions,
)


def slice_of(number: int, *given_endpoints: Endpoint) -> EndpointSlice:
    return EndpointSlice(key=SliceKey("red", f"slice-{number}"), service="a", endpoints=given_endpoints)


@given(st.lists(st.lists(endpoints, max_size=3), max_size=3))
def test_all_slices_are_added_up(lists: list[list[Endpoint]]) -> None:
    usable = [
        each
        for given_endpoints in lists
        for each in given_endpoints
        if each.addresses and (each.ready in (True, None) or each.serving is True)
    ]
    reach = reach_of(slice_of(number, *given_endpoints) for number, given_endpoints in enumerate(lists))
    assert Reach(bool(usable), frozenset(each.node for each in usable if each.node)) == reach


def test_an_endpoint_that_ends_but_still_serves_is_usable_and_one_that_is_ready_always() -> None:
    ending = Endpoint(addresses=("fd00::1",), node="n1", ready=False, serving=True)
    ready = Endpoint(addresses=("fd00::2",), node="n2", ready=True, serving=False)
    starting = Endpoint(addresses=("fd00::3",), node="n3", ready=False)
    assert frozenset({"n1", "n2"}) == reach_of([slice_of(1, ending, ready, starting)]).nodes


def test_an_endpoint_without_a_node_counts_though_it_is_nowhere() -> None:
    assert Reach(anywhere=True) == reach_of([slice_of(1, Endpoint(addresses=("fd00::1",)))])

"""The Leases of speakers: what is written is read again, and who lives by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.speakers import RECORD, VIEW, SpeakerLease, lease_document, living, read_lease, views
from lbcore.adapters.views import Sight, SightState, View, read_view, view_document, waiting
from views import sights, some_views

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lease(node: str, *members: str, age: float = 1.0, gossips: bool = True) -> SpeakerLease:
    seen = View(
        node=node,
        fast=True,
        why="",
        sights=tuple(Sight(name=each, state=SightState.ALIVE, since=0.0) for each in members),
    )
    document = lease_document(
        f"lbcore-speaker-{node}",
        "system",
        node,
        lasts=60 if gossips else 5,
        renewed=(NOW - timedelta(seconds=age)).isoformat(),
        record=None if gossips else b"{}\n",
        view=seen if gossips else None,
    )
    found = read_lease(document)
    assert found is not None
    return found


@given(some_views, st.none() | st.just(b'{"node":"a"}\n'))
def test_what_is_written_is_read_again(view: View, record: bytes | None) -> None:
    document = lease_document("x", "system", view.node or "a", lasts=60, renewed="", record=record, view=view)
    found = read_lease(document)
    assert found is not None
    assert (view, record and record.strip()) == (found.view, found.record)
    assert view == read_view(view_document(view))


@given(st.lists(sights, max_size=3))
def test_one_by_leases_has_no_view(_sights: list[Sight]) -> None:
    found = lease("a", gossips=False)
    assert (False, None, b"{}") == (found.gossips, found.view, found.record)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"metadata": {"labels": {"lbcore.io/speaker": "true"}}, "spec": {}},
        {"metadata": {}, "spec": {"holderIdentity": "a"}},
        {"metadata": {"labels": {"lbcore.io/speaker": "true"}}, "spec": {"holderIdentity": 7}},
    ],
)
def test_what_is_no_speakers_lease_is_none(document: dict[str, Any]) -> None:
    assert read_lease(document) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"detector": "slow"}', '{"node": 1}', "null"])
def test_a_view_that_cannot_be_read_is_none_and_its_speaker_gossips_all_the_same(text: str) -> None:
    metadata = {"labels": {"lbcore.io/speaker": ""}, "annotations": {VIEW: text, RECORD: "r"}}
    found = read_lease({"metadata": metadata, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 60}})
    assert found is not None
    assert (True, None, b"r") == (found.gossips, found.view, found.record)


@pytest.mark.parametrize("since", [-1, 10**12, float("nan"), float("inf"), True, "0", None])
def test_a_time_that_is_no_date_is_refused(since: object) -> None:
    document = view_document(View(node="a", fast=True, why=""))
    document["members"] = [{"name": "b", "state": "dead", "since": since, "by": [], "release": ""}]
    with pytest.raises(ValueError, match="no time"):
        read_view(document)


def test_who_lives_by_its_lease_lives_until_that_is_over() -> None:
    leases = [lease("a", gossips=False), lease("b", gossips=False, age=8.0)]
    assert {"a"} == living(leases, NOW)


def test_of_those_who_gossip_one_that_the_others_miss_is_gone_though_its_lease_is_good() -> None:
    leases = [lease("a", "a", "b"), lease("b", "a", "b"), lease("c", "a", "b", "c", age=50.0)]
    assert {"a", "b"} == living(leases, NOW)
    assert ("a", "b", "c") == tuple(each.node for each in views(leases, NOW))
    assert {"a", "b", "m"} == living(
        [lease("a", "a", "b", "m"), lease("b", "a", "b", "m")], NOW
    )  # MetalLB has no Lease
    assert {"b"} == living([lease("a", "a", "b", age=50.0), lease("b", "b")], NOW)
    assert {"a"} == living([lease("a", "a"), lease("b", "b", age=70.0)], NOW)
    assert frozenset() == living([lease("a", "a", age=70.0)], NOW)


def test_the_smaller_part_of_a_parted_cluster_does_not_count() -> None:
    three, two = ("a", "b", "c"), ("d", "e")
    leases = [lease(name, *side) for side in (three, two) for name in side]
    assert set(three) == living(leases, NOW)


def seen_by(node: str, *waits: str, fast: bool = True) -> View:
    sights = tuple(Sight(name=each, state=SightState.WAITS, since=0.0) for each in waits)
    return View(node=node, fast=fast, why="", sights=sights)


def test_who_waits_is_told_by_half_of_those_who_have_the_detector() -> None:
    three = frozenset("abc")
    assert {"a"} == waiting([seen_by("a", "a"), seen_by("b", "a", "b"), seen_by("c")], three)
    assert {"a"} == waiting([seen_by("a", "a"), seen_by("b")], three)
    assert frozenset() == waiting([seen_by("a", "a"), seen_by("b"), seen_by("c")], three)
    assert frozenset() == waiting([seen_by("a", "d")], three)
    # Where all wait nobody does, and where memberlist alone decides.
    assert frozenset() == waiting([seen_by("a", *"abc"), seen_by("b", *"abc")], three)
    assert frozenset() == waiting([seen_by("a", "a", fast=False), seen_by("b", "a", fast=False)], three)
    assert frozenset() == waiting([], frozenset())


def test_during_a_change_both_kinds_live() -> None:
    leases = [lease("a", "a", "b"), lease("b", "a", "b"), lease("c", gossips=False)]
    assert {"a", "b", "c"} == living(leases, NOW)

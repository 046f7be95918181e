"""What is written to the API server: one patch of a status that leaves alone what others own, and Events, counted."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.notes import Backlog, EventWrite
from lbcore.adapters.kubernetes.writes import (
    CONDITION,
    POOL_ANNOTATION,
    configuration_state,
    pool_status_patch,
    service_patch,
    shows_state,
)
from lbcore.addresses import Address
from lbcore.errors import Problem
from lbcore.intents import EventType, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.model import ServiceKey
from lbcore.verdicts import Reason, Refusal

Document = dict[str, Any]
KEY = ServiceKey("shop", "web")
EARLIER, NOW = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
V6, V4 = Address.parse("2001:db8::10"), Address.parse("192.0.2.10")


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def refusal(reason: Reason = Reason.POOL_EXHAUSTED, detail: str = "no address is left") -> Refusal:
    return Refusal(key=KEY, reason=reason, detail=detail)


def service(status: Document | None = None, annotations: dict[str, str] | None = None) -> Document:
    metadata: Document = {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": {"type": "LoadBalancer"}, "status": status or {}}


hosts = st.builds(lambda name: {"hostname": f"{name}.example.org"}, st.sampled_from("ab"))
numbered = st.builds(
    lambda address, more: {"ip": str(address), **more},
    st.sampled_from([V6, V4, Address.parse("2001:db8::99")]),
    st.sampled_from([{}, {"ipMode": "VIP"}, {"ipMode": "Proxy", "ports": [{"port": 80, "protocol": "TCP"}]}]),
)


def condition(kind: str, text: str) -> Document:
    base = {"type": kind, "status": "True", "reason": "PoolExhausted"}
    return {**base, "message": text, "lastTransitionTime": EARLIER}


def type_of(each: Document) -> str:
    return str(each["type"])


conditions = st.builds(
    condition,
    st.sampled_from(["example.org/Theirs", "Other", CONDITION]),
    st.sampled_from(["no address is left", "else"]),
)
some_conditions: st.SearchStrategy[Any] = st.lists(conditions, max_size=3, unique_by=type_of)
statuses = st.fixed_dictionaries(
    {},
    optional={
        "loadBalancer": st.fixed_dictionaries({}, optional={"ingress": st.lists(hosts | numbered, max_size=4)}),
        "conditions": some_conditions,
    },
)
services = st.builds(
    service,
    statuses,
    st.none() | st.dictionaries(st.sampled_from([POOL_ANNOTATION, "example.org/x"]), st.sampled_from(["v6", "other"])),
)
intents = st.builds(
    SetAddresses,
    key=st.just(KEY),
    uid=st.just("u1"),
    addresses=st.sampled_from([(), (V6,), (V6, V4), (V4, V6)]),
    pool=st.sampled_from([None, "v6"]),
    refusal=st.none() | st.builds(refusal, st.sampled_from([Reason.POOL_EXHAUSTED, Reason.NO_POOLS])),
)


def foreign(document: Document) -> tuple[object, ...]:
    """What of a Service belongs to others."""
    metadata, status = document["metadata"], document.get("status") or {}
    return (
        document["spec"],
        metadata["uid"],
        {name: text for name, text in (metadata.get("annotations") or {}).items() if name != POOL_ANNOTATION},
        [each for each in (status.get("loadBalancer") or {}).get("ingress") or () if not each.get("ip")],
        [each for each in status.get("conditions") or () if each["type"] != CONDITION],
    )


@given(intents, services)
def test_one_patch_makes_a_service_say_so_and_touches_nothing_of_others(intent: SetAddresses, there: Document) -> None:
    patch = service_patch(intent, there, NOW)
    after = there if patch is None else merged(there, patch)
    assert foreign(there) == foreign(after)
    ingress = (after["status"].get("loadBalancer") or {}).get("ingress") or []
    assert [str(address) for address in intent.addresses] == [each["ip"] for each in ingress if each.get("ip")]
    assert intent.pool == (after["metadata"].get("annotations") or {}).get(POOL_ANNOTATION)
    shown = [each["reason"] for each in after["status"].get("conditions") or () if each["type"] == CONDITION]
    assert ([] if intent.refusal is None else [intent.refusal.reason.value]) == shown
    assert service_patch(intent, after, "later") is None


@given(intents, services)
def test_a_patch_holds_only_for_the_service_that_it_was_made_for(intent: SetAddresses, there: Document) -> None:
    patch = service_patch(intent, there, NOW)
    if patch is not None:
        # The server answers 409 when the Service has another version, and refuses another uid.
        assert ("7", "u1") == (patch["metadata"]["resourceVersion"], patch["metadata"]["uid"])


def test_a_conflict_leads_to_a_patch_for_what_is_there_now() -> None:
    intent = SetAddresses(key=KEY, uid="u1", addresses=(V6,), pool="v6")
    before = service()
    assert service_patch(intent, before, NOW) is not None
    faster = service({"conditions": [{"type": "Other", "status": "True"}]}, {"example.org/x": "1"})
    faster["metadata"]["resourceVersion"] = "8"
    patch = service_patch(intent, faster, NOW)
    assert patch is not None
    assert "8" == patch["metadata"]["resourceVersion"]
    assert foreign(faster) == foreign(merged(faster, patch))


def test_how_an_address_is_served_is_no_difference() -> None:
    ingress = [{"hostname": "a.example.org"}, {"ip": "2001:0db8:0::10", "ipMode": "Proxy"}]
    intent = SetAddresses(key=KEY, addresses=(V6,), pool="v6")
    assert service_patch(intent, service({"loadBalancer": {"ingress": ingress}}, {POOL_ANNOTATION: "v6"}), NOW) is None


def test_the_time_of_the_condition_changes_with_its_reason_only() -> None:
    ours = {
        "type": CONDITION,
        "status": "True",
        "reason": "PoolExhausted",
        "message": "a",
        "lastTransitionTime": EARLIER,
    }

    def time_of(said: Refusal) -> str:
        patch = service_patch(SetAddresses(key=KEY, refusal=said), service({"conditions": [ours]}), NOW)
        assert patch is not None
        (shown,) = patch["status"]["conditions"]
        assert said.detail == shown["message"]
        return str(shown["lastTransitionTime"])

    assert EARLIER == time_of(refusal(detail="b"))
    assert NOW == time_of(refusal(Reason.NO_POOLS, "a"))


def test_the_counts_of_a_pool_are_written_when_they_changed_and_fit_the_schema() -> None:
    intent = SetPoolUsage(pool="v6", assigned_ipv4=0, assigned_ipv6=3, available_ipv4=0, available_ipv6=2**64 - 3)
    patch = pool_status_patch(intent, None)
    assert patch is not None
    counts = {"assignedIPv4": 0, "assignedIPv6": 3, "availableIPv4": 0, "availableIPv6": 2**63 - 1}
    assert {"status": counts} == patch
    assert pool_status_patch(intent, {"status": {**counts, "theirs": 1}}) is None
    assert patch == pool_status_patch(intent, {"status": {**counts, "assignedIPv6": 2}})


def test_the_state_of_the_configuration_is_the_same_at_another_time_and_another_with_another_problem() -> None:
    def state(when: str, *messages: str) -> Document:
        problems = tuple(Problem(source="s", object="IPAddressPool v6", field="f", message=each) for each in messages)
        return configuration_state(ReportConfig(config=None, problems=problems), "poolReconcilerValid", when)

    assert "Invalid" == state(NOW, "bad")["result"]
    assert shows_state(state(NOW, "bad"), state(EARLIER, "bad"))
    assert shows_state(state(NOW), {**state(EARLIER), "errorSummary": None})
    assert not shows_state(state(NOW, "bad"), state(NOW, "worse"))
    assert not shows_state(state(NOW, "bad"), state(NOW))
    assert not shows_state(state(NOW), {})


# Events


def said(about: str = "Service shop/web", message: str = "m") -> RecordEvent:
    return RecordEvent(about=about, type=EventType.NORMAL, reason="IPAllocated", message=message)


def backlog() -> Backlog:
    return Backlog(reporter="lbcore-controller", instance="host", rng=Random(1))


def next_of(events: Backlog, now: float) -> EventWrite:
    write = events.next(now)
    assert write is not None
    return write


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "u1", "u2"]), st.booleans(), st.integers(0, 400))))
def test_every_event_is_counted_in_exactly_one_written_event(steps: list[tuple[int, str, bool, int]]) -> None:
    events, now = backlog(), 0.0
    written: dict[str, tuple[tuple[str, str], int]] = {}
    told: dict[tuple[str, str], int] = {}

    def write_one() -> None:
        write = next_of(events, now)
        count = write.body.get("series", {}).get("count", 1)
        if write.name:
            key, before = written[write.name]
            assert before < count  # a series is patched with its new total
            written[write.name] = (key, count)
        else:
            key = (write.body["note"], write.body["regarding"].get("uid", ""))
            assert write.body["metadata"]["name"] not in written
            written[write.body["metadata"]["name"]] = (key, count)

    for number, uid, written_now, pause in steps:
        events.add(said(message=str(number)), uid, NOW)
        told[str(number), uid] = told.get((str(number), uid), 0) + 1
        now += pause
        if written_now:
            write_one()
    while len(events):
        write_one()
    assert events.next(now) is None
    totals: dict[tuple[str, str], int] = {}
    for key, count in written.values():
        totals[key] = totals.get(key, 0) + count
    assert told == totals


def test_what_is_said_again_while_it_waits_is_one_event_and_later_a_series_of_it() -> None:
    events = backlog()
    for when in (EARLIER, NOW):
        events.add(said(), "u1", when)
    first = next_of(events, 0.0)
    assert "" == first.name
    assert (EARLIER, {"count": 2, "lastObservedTime": NOW}) == (first.body["eventTime"], first.body["series"])
    regarding = {"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": "shop", "uid": "u1"}
    assert regarding == first.body["regarding"]
    events.add(said(), "u1", NOW)
    again = next_of(events, 359.0)
    assert first.body["metadata"]["name"] == again.name
    assert {"series": {"count": 3, "lastObservedTime": NOW}} == again.body
    events.add(said(), "u1", NOW)
    assert "" == next_of(events, 359.0 + 360.0).name


def test_a_service_made_anew_has_events_of_its_own() -> None:
    events = backlog()
    events.add(said(), "u1", NOW)
    next_of(events, 0.0)
    events.add(said(), "u2", NOW)
    write = next_of(events, 1.0)
    assert ("", "u2") == (write.name, write.body["regarding"]["uid"])


def test_an_event_that_is_not_there_is_written_anew() -> None:
    events = backlog()
    events.add(said(), "u1", NOW)
    events.forget(next_of(events, 0.0))
    events.add(said(), "u1", NOW)
    assert "" == next_of(events, 1.0).name


@given(st.text(min_size=300), st.integers(1, 5))
def test_a_note_has_at_most_1024_bytes_and_no_half_character(text: str, times: int) -> None:
    text = text.replace("\ud800", "") * times
    events = backlog()
    events.add(said("Node n1", text), "", NOW)
    write = next_of(events, 0.0)
    note = write.body["note"]
    assert len(note.encode()) <= 1024
    assert text == note or text.startswith(note.removesuffix("..."))
    assert "default" == write.namespace
    json.dumps(write.body)

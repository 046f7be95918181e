"""Where the Pods of speakers are: lists and watch lines in, addresses out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.base import Report
from lbcore.adapters.kubernetes.pods import SpeakerPods, speaker_pods
from lbcore.adapters.kubernetes.watching import WatchOutput
from lbcore.addresses import Address
from lbcore.events import SpeakerPodsSeen
from strategies import addresses

ENDED = ("Succeeded", "Failed")
STATUS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running", *ENDED]),
        "podIP": addresses().map(str) | st.sampled_from(["", "no address", 7, None]),
        "podIPs": st.lists(addresses().map(lambda each: {"ip": str(each)}), max_size=2) | st.just([{}, None]),
    },
)


def pod(name: str, status: object) -> dict[str, Any]:
    return {"metadata": {"namespace": "system", "name": name, "resourceVersion": "3"}, "status": status}


def last(outputs: Iterable[WatchOutput]) -> tuple[Address, ...] | None:
    """The addresses told last, if any were."""
    told = [each.event for each in outputs if isinstance(each, Report)]
    assert all(isinstance(each, SpeakerPodsSeen) for each in told)
    return told[-1].addresses if told else None  # type: ignore[union-attr]


def watched(*documents: dict[str, Any]) -> tuple[SpeakerPods, tuple[Address, ...] | None]:
    engine = SpeakerPods(speaker_pods("app=metallb,component=speaker"), rng=Random(1))
    (fetch,) = engine.start()
    assert ("labelSelector", "app=metallb,component=speaker") in fetch.query  # type: ignore[union-attr]
    body = {"metadata": {"resourceVersion": "3"}, "items": documents}
    told = last(engine.page(json.dumps(body).encode(), 0.0))
    engine.opened(0.0)
    return engine, told


def line(type_: str, document: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": document}).encode() + b"\n"


@given(st.lists(STATUS, max_size=4))
def test_every_readable_address_of_a_pod_that_has_not_ended_is_told_and_nothing_else(statuses: list[Any]) -> None:
    expected: set[str] = set()
    for status in statuses:
        if status.get("phase") not in ENDED:
            several = [each.get("ip") for each in status.get("podIPs", ()) if each]
            expected |= {
                each
                for each in (status.get("podIP"), *several)
                if isinstance(each, str) and ("." in each or ":" in each)
            }
    _, told = watched(*(pod(f"speaker-{number}", status) for number, status in enumerate(statuses)))
    assert sorted(map(Address.parse, expected)) == list(told or ())


def test_a_pod_that_moves_or_goes_is_told_once() -> None:
    one, two, three = "fd00::1", "fd00::2", "192.0.2.3"
    engine, told = watched(pod("a", {"podIP": one}), pod("b", {"podIP": two}))
    assert (Address.parse(one), Address.parse(two)) == told
    assert () == tuple(engine.receive(line("MODIFIED", pod("a", {"podIP": one, "phase": "Running"}))))
    moved = {"podIP": three, "podIPs": [{"ip": three}, {"ip": "fd00::3"}]}
    assert (three, "fd00::2", "fd00::3") == tuple(
        map(str, last(engine.receive(line("MODIFIED", pod("a", moved)))) or ())
    )
    assert (three, "fd00::3") == tuple(map(str, last(engine.receive(line("DELETED", pod("b", {})))) or ()))
    assert () == last(engine.receive(line("MODIFIED", pod("a", {**moved, "phase": "Failed"}))))


def test_a_broken_pod_is_nowhere() -> None:
    _, told = watched(pod("a", None), pod("b", []), {"metadata": {"name": "c"}})
    assert told in (None, ())

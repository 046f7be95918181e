"""A pool is edited under 100,000 Services that hold addresses: how long until all is settled, and the longest step.

A step is what everything else waits for. Measured are both brains alone, in processor time. What was
built before is frozen, as in the daemons after their start. The longest step is given twice: as it is,
and with the garbage collector off, since a collection of what the edit itself makes falls into one step.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from attrs import frozen

from benchmarks import clusters
from benchmarks.report import Row, frozen_heap, progress
from lbcore import announcement, assignment
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentState
from lbcore.brain import Brain
from lbcore.config import ConfigDocument
from lbcore.daemons.carrier import calm_collector
from lbcore.events import (
    AnsweringSeen,
    ConfigSeen,
    Event,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    NamespaceSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
    Tick,
)
from lbcore.model import Endpoint, EndpointSlice, Namespace, Node, Port, Service, SliceKey
from lbcore.resources import L2Advertisement, Origin, Pool

__all__ = ["NAME", "run"]

S = TypeVar("S")

NAME = "a pool edit under Services that hold addresses"
SIZES = (10_000, 100_000)
AIM = 20.0  # ms for the longest step
_NODES = ("node-1", "node-2", "node-3")
_V6 = "fd00:10::/64"
# What the pool becomes, in one edit each. The first holds every address that is given out.
_BEFORE = {clusters.POOL: ("10.0.0.0/8", _V6)}
_EDITS: dict[str, dict[str, tuple[str, ...]]] = {
    "grows": {clusters.POOL: ("10.0.0.0/8", "11.0.0.0/8", _V6)},
    "is renamed": {"staging": ("10.0.0.0/8", _V6)},
    "is split in two": {clusters.POOL: ("10.0.0.0/16", _V6), "more": ("10.1.0.0/16", "10.2.0.0/15")},
    "loses 256 addresses": {clusters.POOL: ("10.0.2.0-10.255.255.255", _V6)},
}


@frozen
class _Cost:
    """Milliseconds of processor time, and how many steps there were."""

    total: float
    longest: float
    uncollected: float  # the longest without the garbage collector
    steps: int


def run() -> list[Row]:
    """Each edit under each number of Services, in both brains."""
    costs: dict[tuple[str, str, int], _Cost] = {}
    for size in SIZES:
        progress(f"{size:,} Services")
        controller, speaker = _controller(size), _speaker(size)
        with frozen_heap():
            for edit, pools in _EDITS.items():
                events = _config(pools)
                costs["controller", edit, size] = _cost(assignment.step, controller, events, lambda s: s.settled)
                costs["speaker", edit, size] = _cost(announcement.step, speaker, events, lambda s: s.settled)
    return [row for who in ("controller", "speaker") for edit in _EDITS for row in _rows(who, edit, costs)]


def _rows(who: str, edit: str, costs: dict[tuple[str, str, int], _Cost]) -> list[Row]:
    small, large = (costs[who, edit, size] for size in SIZES)
    what = f"{who}: a pool {edit}, {SIZES[-1]:,} Services"
    return [
        Row(what=f"{what}: all of it", figure=large.total / 1e3, unit="s",
            note=f"{large.total / small.total:.1f} times that of {SIZES[0]:,}; {large.steps:,} steps"),
        Row(what=f"{what}: longest step", figure=large.longest, unit="ms", at_most=AIM,
            note=f"{large.uncollected:.1f} ms without the collector"),
    ]  # fmt: skip


def _cost(brain: Brain[S], state: S, events: Iterable[Event], is_settled: Callable[[S], bool]) -> _Cost:
    gc.disable()
    try:
        uncollected = max(_run(brain, state, events, is_settled))
    finally:
        gc.enable()
    thresholds = gc.get_threshold()
    calm_collector()
    spent = _run(brain, state, events, is_settled)
    gc.set_threshold(*thresholds)
    return _Cost(sum(spent), max(spent), uncollected, len(spent))


def _run(brain: Brain[S], state: S, events: Iterable[Event], is_settled: Callable[[S], bool]) -> list[float]:
    """Feed the events, then time as it is asked for; returns what each step took, in milliseconds."""
    now = 1000.0
    spent: list[float] = []

    def take(event: Event) -> float | None:
        nonlocal state
        begin = time.thread_time_ns()
        step = brain(state, event, now)
        spent.append((time.thread_time_ns() - begin) / 1e6)
        state = step.state
        return step.wake_at

    wake = None
    for event in events:
        wake = take(event)
    while wake is not None and not is_settled(state):
        now = max(now, wake)
        wake = take(Tick())
    return spent


def _config(pools: Mapping[str, tuple[str, ...]]) -> list[Event]:
    """One document with all that is configured, as the old ConfigMap is."""
    origin = Origin(kind="ConfigMap", namespace="lb", name="config")
    found = (Pool.parse(name, *ranges) for name, ranges in pools.items())
    return [ConfigSeen(ConfigDocument(origin=origin, resources=(L2Advertisement(name="everything"), *found)))]


def _service(number: int) -> Service:
    address = clusters.address_of(number)
    return Service(
        key=clusters.key_of(number),
        labels={"app": f"web-{number}"},
        ip_families=(address.family,),
        selector={"app": f"web-{number}"},
        ports=(Port("TCP", 80),),
        held=(address,),
    )


def _controller(size: int) -> AssignmentState:
    events: list[Event] = [NamespaceSeen(Namespace(name="shop")), *_config(_BEFORE)]
    events += [ServiceSeen(_service(number)) for number in range(size)]
    return _settled(assignment.step, AssignmentState(), [*events, *map(Listed, Kind)], lambda state: state.settled)


def _speaker(size: int) -> AnnouncementState:
    state = AnnouncementState(settings=AnnouncementSettings(node=_NODES[0]))
    events: list[Event] = [*(NodeSeen(Node(name=name)) for name in _NODES), *_config(_BEFORE)]
    for number in range(size):
        key = clusters.key_of(number)
        endpoint = Endpoint(addresses=("10.244.0.1",), node=_NODES[number % 3], ready=True)
        slice_key = SliceKey(key.namespace, f"{key.name}-a1")
        events.append(SliceSeen(EndpointSlice(key=slice_key, service=key.name, endpoints=(endpoint,))))
        events.append(ServiceSeen(_service(number)))
    events += [LinksSeen(()), AnsweringSeen(()), MembersSeen(frozenset(_NODES))]
    return _settled(announcement.step, state, [*events, *map(Listed, Kind)], lambda state: state.settled)


def _settled(brain: Brain[S], state: S, events: Iterable[Event], is_settled: Callable[[S], bool]) -> S:
    now, step = 0.0, None
    for event in events:
        step = brain(state, event, now)
        state = step.state
    while step is not None and step.wake_at is not None and not is_settled(state):
        now = max(now, step.wake_at)
        step = brain(state, Tick(), now)
        state = step.state
    return state

"""What a daemon counts, as Prometheus reads it: MetalLB's names where they mean the same, and lbcore's own.

Nothing of this is known to a brain. What happens is counted by observers of the stream of events and
intents, by a stopwatch around each step, and by a sink around each sink; what *is* (how full a pool is,
who is announced) is read from the frozen state when somebody asks. So the pages may be made in another
thread, while steps go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from attrs import define, evolve, field
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

import lbcore
from lbcore.addresses import Family
from lbcore.announcement import AnnouncementState
from lbcore.assignment import AssignmentState, usage_of
from lbcore.backends.base import Sink
from lbcore.backends.bgp import BgpSpeaker
from lbcore.backends.reflex import Reflex
from lbcore.config import Configuration
from lbcore.daemons.carrier import Carrier
from lbcore.daemons.loop import Loop
from lbcore.daemons.metrics_bfd import bfd_families
from lbcore.daemons.metrics_bgp import bgp_families, drain_families
from lbcore.daemons.tally import AssignmentTally, Move
from lbcore.events import (
    Applied,
    ConfigGone,
    ConfigSeen,
    Event,
    Failed,
    Kind,
    ManifestRefused,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
)
from lbcore.intents import Intent
from lbcore.pools import capacity

__all__ = ["CONTENT_TYPE", "Metrics"]

S = TypeVar("S")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# A step has 4 ms as its aim; a write is a file (1 ms) or a request to an API server (5 ms and more).
_STEP_BUCKETS = (0.0001, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.064, 0.256, 1.0)
_WRITE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ASSIGN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

_OF_THE_CLUSTER = (
    ServiceSeen,
    ServiceGone,
    SliceSeen,
    SliceGone,
    NodeSeen,
    NodeGone,
    NamespaceSeen,
    NamespaceGone,
    ConfigSeen,
    ConfigGone,
)


class Metrics:
    """All that the daemons in this process count. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
        self._clock = clock
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._state = _StateCollector()
        self.registry.register(self._state)
        self._updates = self._counter("metallb_k8s_client_updates", "Changes of the cluster that were looked at")
        self._errors = self._counter(
            "metallb_k8s_client_update_errors", "Objects that could not be read, and writes that failed"
        )
        self._steps = Histogram(
            "lbcore_step_duration_seconds",
            "Time that a step of a brain took",
            ["component"],
            buckets=_STEP_BUCKETS,
            registry=self.registry,
        )
        self._writes = self._counter(
            "lbcore_writes", "Attempts to carry out an intent, by how they ended", "component", "intent", "outcome"
        )
        self._write_times = Histogram(
            "lbcore_write_duration_seconds",
            "Time that an attempt to carry out an intent took",
            ["component", "intent"],
            buckets=_WRITE_BUCKETS,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The page, in Prometheus' text format."""
        return generate_latest(self.registry)

    def controller(self, carrier: Carrier[AssignmentState]) -> Carrier[AssignmentState]:
        """A controller that is counted."""
        times = Histogram(
            "lbcore_service_assignment_duration_seconds",
            "Time from when a Service without an address was first seen until its addresses were written",
            buckets=_ASSIGN_BUCKETS,
            registry=self.registry,
        )
        moves = self._counter(
            "lbcore_service_moves", "Services that lost an address they had, by cause and outcome", "cause", "outcome"
        )

        def count_move(move: Move) -> None:
            moves.labels(move.cause.value, move.outcome.value).inc()

        tally = AssignmentTally(
            load_balancer_class=carrier.loop.state.settings.load_balancer_class,
            clock=self._clock,
            on_assigned=times.observe,
            on_move=count_move,
        )
        self._state.controllers.append(carrier.loop)
        self._state.loops.append(("controller", carrier.loop))
        self._state.tallies.append(tally)
        counted = self._counted(carrier, "controller")
        return evolve(counted, observers=(*counted.observers, tally.observe))

    def speaker(
        self, carrier: Carrier[AnnouncementState], reflex: Reflex, bgp: BgpSpeaker | None = None
    ) -> Carrier[AnnouncementState]:
        """A speaker that is counted."""
        self._state.speakers.append((carrier.loop, reflex))
        if bgp is not None:
            self._state.sessions.append(bgp)
        self._state.loops.append(("speaker", carrier.loop))
        return self._counted(carrier, "speaker")

    def _counted(self, carrier: Carrier[S], component: str) -> Carrier[S]:
        outlets = tuple(evolve(each, sink=self._metered(each.sink, component)) for each in carrier.outlets)
        observers = (*carrier.observers, self._count_updates)
        return evolve(
            carrier, outlets=outlets, observers=observers, on_step=self._steps.labels(component=component).observe
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _count_updates(self, event: Event | None, _intents: Sequence[Intent]) -> None:
        if isinstance(event, _OF_THE_CLUSTER):
            self._updates.inc()
        elif isinstance(event, ManifestRefused):
            self._errors.inc()

    def _metered(self, sink: Sink, component: str) -> Sink:
        def count(intent: Intent, outcome: str, took: float) -> None:
            name = type(intent).__name__
            self._writes.labels(component, name, outcome).inc()
            self._write_times.labels(component, name).observe(took)
            if outcome != "applied":
                self._errors.inc()

        return _MeteredSink(sink, self._clock, count)


@define
class _MeteredSink:
    """A sink that says how each attempt ended (`applied`, `retried` or `refused`) and how long it took."""

    _sink: Sink
    _clock: Callable[[], float]
    _count: Callable[[Intent, str, float], None]

    @property
    def handles(self) -> tuple[type[Intent], ...]:
        """What the sink handles."""
        return self._sink.handles

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Have it carried out. An exception counts as an attempt that is made again, which is what it leads to."""
        began = self._clock()
        outcome = "retried"
        try:
            answer = await self._sink.apply(intent)
            if isinstance(answer, Applied):
                outcome = "applied"
            elif not answer.retry:
                outcome = "refused"
            return answer
        finally:
            self._count(intent, outcome, self._clock() - began)


@define(eq=False)
class _StateCollector(Collector):
    """What can be read from the states at the moment of the question."""

    controllers: list[Loop[AssignmentState]] = field(factory=list)
    tallies: list[AssignmentTally] = field(factory=list)
    speakers: list[tuple[Loop[AnnouncementState], Reflex]] = field(factory=list)
    sessions: list[BgpSpeaker] = field(factory=list)
    loops: list[tuple[str, Loop[AssignmentState] | Loop[AnnouncementState]]] = field(factory=list)

    def describe(self) -> Iterator[Metric]:
        """No names before there is anything to say: the registry must not ask for values to learn them."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family, each once, over all daemons."""
        yield InfoMetricFamily("lbcore_build", "What runs", {"version": lbcore.__version__})
        yield from self._configuration()
        yield from self._queues()
        for controller in self.controllers:
            yield from _pools(controller.state)
        for tally in self.tallies:
            waiting = GaugeMetricFamily("lbcore_services_waiting", "Services without an address", labels=["reason"])
            for reason, number in sorted(tally.waiting.items()):
                waiting.add_metric([reason], number)
            yield waiting
        for speaker, reflex in self.speakers:
            yield from _announcing(speaker.state)
            yield from _layer2(reflex)
            yield from bfd_families(speaker.state)
            yield from drain_families(speaker.state)
        for sessions in self.sessions:
            yield from bgp_families(sessions)

    def _configuration(self) -> Iterator[Metric]:
        known: list[Configuration] = [loop.state.configuration for _, loop in self.loops]
        loaded = all(_is_loaded(loop.state) for _, loop in self.loops)
        stale = any(each.problems for each in known)
        yield GaugeMetricFamily(
            "metallb_k8s_client_config_loaded_bool",
            "1 if a configuration is in force; of a controller that stands by: if it has been read",
            float(loaded),
        )
        yield GaugeMetricFamily(
            "metallb_k8s_client_config_stale_bool",
            "1 if the configuration in force is not the newest, which was refused",
            float(stale),
        )

    def _queues(self) -> Iterator[Metric]:
        events = GaugeMetricFamily("lbcore_queue_events", "Events that wait for the brain", labels=["component"])
        intents = GaugeMetricFamily(
            "lbcore_queue_intents", "Intents that wait, are under way or will be tried again", labels=["component"]
        )
        for component, loop in self.loops:
            events.add_metric([component], loop.events_waiting)
            intents.add_metric([component], loop.intents_pending)
        yield from (events, intents)


def _is_loaded(state: AssignmentState | AnnouncementState) -> bool:
    if isinstance(state, AssignmentState) and not state.leads:
        return Kind.CONFIG in state.listed  # it puts none in force, and lacks nothing to do so
    return state.configuration.current is not None


def _pools(state: AssignmentState) -> Iterator[Metric]:
    """Capacity and use of each pool in force."""
    named = [("", "addresses"), ("ipv4_", "IPv4 addresses"), ("ipv6_", "IPv6 addresses")]
    total = [_by_pool(f"metallb_allocator_{name}addresses_total", f"Usable {what} of a pool") for name, what in named]
    used = [
        _by_pool(f"metallb_allocator_{name}addresses_in_use_total", f"Distinct {what} of a pool that are assigned")
        for name, what in named
    ]
    for pool in state.catalog.pools if state.catalog is not None else ():
        usage = usage_of(pool, state.ledger)
        four, six = capacity(pool, Family.IPV4), capacity(pool, Family.IPV6)
        for family, value in zip(total, (four + six, four, six), strict=True):
            family.add_metric([pool.name], value)
        assigned = (usage.assigned_ipv4, usage.assigned_ipv6)
        for family, value in zip(used, (sum(assigned), *assigned), strict=True):
            family.add_metric([pool.name], value)
    yield from (*total, *used)


def _by_pool(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=["pool"])


def _announcing(state: AnnouncementState) -> Iterator[Metric]:
    """Each Service's addresses that this node announces; those who share one have a line each."""
    announced = GaugeMetricFamily(
        "metallb_speaker_announced", "1 for what this node announces", labels=["service", "protocol", "node", "ip"]
    )
    for address in state.announced:
        for key in state.wanted.get(address, ()):
            announced.add_metric([str(key), "layer2", state.settings.node, str(address)], 1)
    yield announced
    members = GaugeMetricFamily("lbcore_members", "Living speakers that this node knows, itself included")
    members.add_metric([], len(state.members))
    yield members


def _layer2(reflex: Reflex) -> Iterator[Metric]:
    """What the answering process counted: for each address with MetalLB's names, and of itself."""
    # MetalLB's three have no suffix `_total`, which a counter of this library would get.
    requests, responses, gratuitous = (
        Metric(f"metallb_layer2_{name}", f"{about}, by address", "unknown")
        for name, about in (
            ("requests_received", "ARP and NDP questions heard"),
            ("responses_sent", "ARP and NDP answers sent"),
            ("gratuitous_sent", "Announcements sent unasked"),
        )
    )
    for address, count in list(reflex.counts.items()):
        labels = {"ip": str(address)}
        requests.add_sample(requests.name, labels, count.requests)
        responses.add_sample(responses.name, labels, count.responses)
        gratuitous.add_sample(gratuitous.name, labels, count.gratuitous)
    yield from (requests, responses, gratuitous)
    yield GaugeMetricFamily("lbcore_reflex_up", "1 if the answering process is there", float(reflex.pid is not None))
    told = reflex.statistics
    for name, about, value in (
        ("rivals_heard", "Frames of other stations that spoke for an address of ours", told.heard),
        ("frames_malformed", "Frames that broke ARP or NDP", told.malformed),
        ("frames_refused", "Frames that the kernel would not send", told.frames_refused),
        ("frame_faults", "Frames that the engine choked on", told.faults),
        ("reports_dropped", "Reports that found no speaker to hear them", told.reports_dropped),
    ):
        yield CounterMetricFamily(f"lbcore_reflex_{name}", about, value)

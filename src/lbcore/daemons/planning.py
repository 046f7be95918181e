"""What would happen: states of a cluster, one after the other, through the very brains of the daemons.

Nothing is read or written here. A `World` is all that a cluster contains at one moment; what the
first yields is carried into the next, as it would be if the manifests were applied one after the
other. Configuration that is not valid leaves the last valid one in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

from attrs import evolve, field, frozen

from lbcore import announcement, assignment
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState, NotAnnounced
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.brain import Brain
from lbcore.errors import Problem
from lbcore.events import (
    AnsweringSeen,
    ConfigGone,
    ConfigSeen,
    Event,
    Kind,
    LinksSeen,
    Listed,
    ManifestRefused,
    MembersSeen,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
    Tick,
)
from lbcore.intents import Intent, SetAddresses
from lbcore.model import Service, ServiceKey
from lbcore.verdicts import Reason, Refusal

__all__ = ["Change", "Plan", "PlannedService", "World", "plan", "settle"]

S = TypeVar("S")

Seen = ServiceSeen | SliceSeen | NodeSeen | NamespaceSeen | ConfigSeen
Subject = tuple[str, str]

_BETWEEN = 60.0  # seconds from one state to the next: longer than anything a brain waits for


class Change(Enum):
    """What becomes of a Service's addresses from the state before the last to the last."""

    GAIN = "gain"
    KEEP = "keep"
    MOVE = "move"
    LOSE = "lose"
    WAIT = "wait"


@frozen(kw_only=True)
class World:
    """All objects of a cluster at one moment, by subject, and the problems of those that cannot be read."""

    seen: Mapping[Subject, Seen]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, events: Iterable[Event]) -> World:
        """The world that a source's list tells."""
        seen: dict[Subject, Seen] = {}
        problems = []
        for event in events:
            if isinstance(event, ServiceSeen | SliceSeen | NodeSeen | NamespaceSeen | ConfigSeen):
                seen[event.subject] = event
            elif isinstance(event, ManifestRefused):
                problems.append(event.problem)
        return cls(seen=seen, problems=tuple(problems))


@frozen(kw_only=True)
class PlannedService:
    """One Service of type LoadBalancer in the last state: what it has then, why, and who announces it."""

    key: ServiceKey
    change: Change
    before: tuple[Address, ...]
    addresses: tuple[Address, ...]
    pool: str | None
    reason: Reason | None
    message: str | None
    l2: Mapping[Address, tuple[str, ...]] = field(factory=dict)
    bgp: Mapping[Address, tuple[str, ...]] = field(factory=dict)


@frozen(kw_only=True)
class Plan:
    """What the last state would bring, Services sorted by namespace and name."""

    services: tuple[PlannedService, ...]
    problems: tuple[Problem, ...]

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is lost, moved or waiting."""
        return all(each.change in (Change.GAIN, Change.KEEP) for each in self.services)


def plan(
    worlds: Sequence[World], *, load_balancer_class: str | None = None, speakers: Iterable[str] | None = None
) -> Plan:
    """What would happen if a cluster looked like these, one after the other.

    A Service that is new to a state holds what its own `status.loadBalancer` says; one that was in
    the state before holds what it had then; one that is absent was deleted. `speakers` are the
    nodes with a living speaker (None: every Node).
    """
    run = _Run(load_balancer_class)
    for number, world in enumerate(worlds):
        run.enter(world, number * _BETWEEN)
    return run.plan(speakers)


def settle(
    brain: Brain[S], state: S, events: Iterable[Event], is_settled: Callable[[S], bool], now: float = 0.0
) -> tuple[S, list[Intent]]:
    """Feed a brain with events and give it the time that it asks for; returns its state and its intents."""
    intents: list[Intent] = []
    for event in events:
        step = brain(state, event, now)
        state = step.state
        intents += step.intents
    step = brain(state, Tick(), now)
    intents += step.intents
    while step.wake_at is not None and not is_settled(step.state):
        now = max(now, step.wake_at)
        step = brain(step.state, Tick(), now)
        intents += step.intents
    return step.state, intents


class _Run:
    """Both brains on their way from state to state."""

    def __init__(self, load_balancer_class: str | None) -> None:
        self._class = load_balancer_class
        self._controller = AssignmentState(settings=AssignmentSettings(load_balancer_class=load_balancer_class))
        self._speaker = AnnouncementState(
            settings=AnnouncementSettings(node="", load_balancer_class=load_balancer_class)
        )
        self._seen: dict[Subject, Seen] = {}
        self._held: dict[ServiceKey, tuple[Address, ...]] = {}
        self._before: dict[ServiceKey, tuple[Address, ...]] = {}
        self._said: dict[ServiceKey, SetAddresses] = {}
        self._problems: tuple[Problem, ...] = ()
        self._listed = False

    def enter(self, world: World, now: float) -> None:
        """Move on to the next state, and let it settle."""
        unreadable = {problem.object for problem in world.problems}
        kept = {subject: event for subject, event in self._seen.items() if _object_of(event) in unreadable}
        seen = {subject: self._with_addresses(event) for subject, event in {**kept, **world.seen}.items()}
        gone = [_gone(event) for subject, event in self._seen.items() if subject not in seen]
        self._forget(event for event in gone if isinstance(event, ServiceGone))
        self._before = {event.service.key: event.service.held for event in _services(seen)}
        events = [*gone, *seen.values(), *([] if self._listed else [Listed(kind) for kind in Kind])]
        self._listed = True
        self._controller, intents = settle(assignment.step, self._controller, events, lambda state: state.settled, now)
        self._write(intents, seen)
        self._seen = seen
        # Speakers see the Services as the controller left them.
        told = [*gone, *(self._with_addresses(event) for event in seen.values())]
        self._speaker, _ = settle(announcement.step, self._speaker, told, lambda state: state.settled, now)
        self._problems = (*world.problems, *self._controller.configuration.problems)

    def _with_addresses(self, event: Seen) -> Seen:
        if not isinstance(event, ServiceSeen) or event.service.key not in self._held:
            return event
        return ServiceSeen(evolve(event.service, held=self._held[event.service.key]))

    def _forget(self, gone: Iterable[ServiceGone]) -> None:
        for event in gone:
            self._held.pop(event.key, None)
            self._said.pop(event.key, None)

    def _write(self, intents: Iterable[Intent], seen: Mapping[Subject, Seen]) -> None:
        for event in _services(seen):
            self._held.setdefault(event.service.key, event.service.held)
        for intent in intents:
            if isinstance(intent, SetAddresses):
                self._held[intent.key] = intent.addresses
                self._said[intent.key] = intent

    def plan(self, speakers: Iterable[str] | None) -> Plan:
        """The plan for the state that was entered last."""
        nodes = [event.node.name for event in self._seen.values() if isinstance(event, NodeSeen)]
        members = frozenset(nodes if speakers is None else speakers)
        known: list[Event] = [AnsweringSeen(()), LinksSeen(()), MembersSeen(members)]
        known += [Listed(kind) for kind in Kind]
        speaker, _ = settle(
            announcement.step, self._speaker, known, lambda state: state.settled, len(self._seen) + _BETWEEN * 1000
        )
        services = sorted((event.service for event in _services(self._seen)), key=lambda service: service.key)
        ours = (each for each in services if each.is_load_balancer and each.load_balancer_class == self._class)
        return Plan(
            services=tuple(self._planned(service, speaker) for service in ours),
            problems=self._problems,
        )

    def _planned(self, service: Service, speaker: AnnouncementState) -> PlannedService:
        key = service.key
        before, after = self._before.get(key, ()), self._held.get(key, ())
        told = self._controller.told.get(key)
        refusal = told.refusal if told is not None else None
        if self._controller.catalog is None:
            text = "no valid configuration has been in force yet; see the problems"
            refusal = Refusal(key=key, reason=Reason.NOT_READY, detail=text)
        announced = announcement.explain(speaker, key)
        parts = () if announced is None or isinstance(announced, NotAnnounced) else announced
        return PlannedService(
            key=key,
            change=_change(before, after),
            before=before,
            addresses=after,
            pool=told.pool if told is not None else None,
            reason=refusal.reason if refusal is not None else None,
            message=refusal.detail if refusal is not None else None,
            l2={
                address: tuple(verdict.node for verdict in verdicts if verdict.reason is Reason.OK)
                for address, verdicts in parts
            },
            bgp=dict(announcement.bgp_announcers(speaker, key)),
        )


def _services(seen: Mapping[Subject, Seen]) -> Iterable[ServiceSeen]:
    return (event for event in seen.values() if isinstance(event, ServiceSeen))


def _change(before: tuple[Address, ...], after: tuple[Address, ...]) -> Change:
    had, has = set(before), set(after)
    if had == has:
        return Change.KEEP if has else Change.WAIT
    if had < has:
        return Change.GAIN
    return Change.LOSE if has < had else Change.MOVE


def _gone(event: Seen) -> Event:
    match event:
        case ServiceSeen(service):
            return ServiceGone(service.key, service.uid)
        case SliceSeen(slice_):
            return SliceGone(slice_.key)
        case NodeSeen(node):
            return NodeGone(node.name)
        case NamespaceSeen(namespace):
            return NamespaceGone(namespace.name)
        case ConfigSeen(document):
            return ConfigGone(document.origin)


def _object_of(event: Seen) -> str:
    """The object as a problem names it."""
    match event:
        case ServiceSeen(service):
            return f"Service {service.key}"
        case SliceSeen(slice_):
            return f"EndpointSlice {slice_.key}"
        case NodeSeen(node):
            return f"Node {node.name}"
        case NamespaceSeen(namespace):
            return f"Namespace {namespace.name}"
        case ConfigSeen(document):
            return str(document.origin)

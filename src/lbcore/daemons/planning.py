"""What would happen: states of a cluster, one after the other, through the very brains of the daemons.

Nothing is read or written here. A `World` is all that a cluster contains at one moment; what the
first yields is carried into the next, as it would be if the manifests were applied one after the
other. Configuration that is not valid leaves the last valid one in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TypeVar

from attrs import evolve, field, frozen

from lbcore import announcement, assignment
from lbcore.adapters.kubernetes.changes import gone, name_of
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState, NotAnnounced
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.brain import Brain
from lbcore.errors import Problem
from lbcore.events import (
    AnsweringSeen,
    Applied,
    ConfigSeen,
    DrainsSeen,
    Event,
    Kind,
    LinksSeen,
    Listed,
    ManifestRefused,
    MembersSeen,
    NamespaceSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
    Tick,
)
from lbcore.intents import Intent, SetAddresses
from lbcore.model import Service, ServiceKey
from lbcore.routes import Path, Prefix
from lbcore.verdicts import Reason, Refusal

__all__ = [
    "Change",
    "Plan",
    "PlannedRoute",
    "PlannedService",
    "Planner",
    "RouteChange",
    "World",
    "control",
    "plan",
    "settle",
]

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
    drained: frozenset[str] = frozenset()  # nodes with a mark, beside those whose Node says so

    @classmethod
    def of(cls, events: Iterable[Event]) -> World:
        """The world that a source's list tells."""
        seen: dict[Subject, Seen] = {}
        problems = []
        drained = frozenset[str]()
        for event in events:
            if isinstance(event, ServiceSeen | SliceSeen | NodeSeen | NamespaceSeen | ConfigSeen):
                seen[event.subject] = event
            elif isinstance(event, ManifestRefused):
                problems.append(event.problem)
            elif isinstance(event, DrainsSeen):
                drained = event.names
        return cls(seen=seen, problems=tuple(problems), drained=drained)

    def changed_by(self, other: World) -> World:
        """The same world after the objects of another were applied to it: what that does not tell of stays."""
        told = {name_of(event) for event in other.seen.values()}
        kept = tuple(problem for problem in self.problems if problem.object not in told)
        drained = self.drained | other.drained
        return World(seen={**self.seen, **other.seen}, problems=(*kept, *other.problems), drained=drained)


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


class RouteChange(Enum):
    """What becomes of a route from the state before the last to the last."""

    APPEAR = "appear"
    STAY = "stay"
    CHANGE = "change"
    VANISH = "vanish"


@frozen(kw_only=True)
class PlannedRoute:
    """A prefix that a node tells a router (`peer` is the BGPPeer's name), and with what, before and after.

    None is not at all. Of the first state there is nothing before, so that every route appears.
    """

    node: str
    peer: str
    prefix: Prefix
    before: Path | None
    after: Path | None

    @property
    def change(self) -> RouteChange:
        """What becomes of it."""
        if self.before is None:
            return RouteChange.APPEAR
        if self.after is None:
            return RouteChange.VANISH
        return RouteChange.STAY if self.before == self.after else RouteChange.CHANGE


@frozen(kw_only=True)
class Plan:
    """What the last state would bring, Services sorted by namespace and name, routes by node, peer and prefix."""

    services: tuple[PlannedService, ...]
    problems: tuple[Problem, ...]
    routes: tuple[PlannedRoute, ...] = ()

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is lost, moved or waiting."""
        return all(each.change in (Change.GAIN, Change.KEEP) for each in self.services)


def plan(
    worlds: Sequence[World], *, load_balancer_class: str | None = None, speakers: Iterable[str] | None = None
) -> Plan:
    """What would happen if a cluster looked like these, one after the other.

    A Service that is new to a state holds what its own `status.loadBalancer` says; one that was in
    the state before holds what it had then; one that is absent was deleted, and so was one that has
    another `metadata.uid`. `speakers` are the nodes with a living speaker (None: every Node).
    """
    planner = Planner(load_balancer_class, speakers)
    for world in worlds[:-1]:
        planner.enter(world)
    for world in worlds[-1:]:
        planner.note_routes()
        planner.enter(world)
    return planner.plan()


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


def control(
    state: AssignmentState, events: Iterable[Event], write: Callable[[SetAddresses], list[Event]], now: float
) -> tuple[AssignmentState, float]:
    """Feed the controller's brain until all is quiet; returns its state and the time then.

    `write` carries an intent out and says what is heard of it. Writes take no time, so that they are
    heard of before configuration that waits for its moment is put in force.
    """
    told = list(events)
    while True:
        state, intents = settle(assignment.step, state, told, lambda each: each.ready and not each.unfinished, now)
        wanted = {intent.key: intent for intent in intents if isinstance(intent, SetAddresses)}  # the newest of each
        told = [echo for intent in wanted.values() for echo in write(intent)]
        if told:
            continue
        if state.config_due is None:
            return state, now
        now = max(now, state.config_due)


class Planner:
    """Both brains on their way from state to state; the arguments are those of `plan`."""

    def __init__(self, load_balancer_class: str | None, speakers: Iterable[str] | None) -> None:
        self._class = load_balancer_class
        self._speakers = frozenset(speakers) if speakers is not None else None
        self._controller = AssignmentState(settings=AssignmentSettings(load_balancer_class=load_balancer_class))
        self._speaker = AnnouncementState(
            settings=AnnouncementSettings(node="", load_balancer_class=load_balancer_class)
        )
        self._objects: dict[Subject, Seen] = {}  # statuses as the controller wrote them
        self._shown: dict[Subject, Seen] = {}  # what speakers were told of them last
        self._before: dict[ServiceKey, tuple[Address, ...]] = {}
        self._routes: dict[tuple[str, str], dict[Prefix, Path]] = {}  # by node and peer
        self._problems: tuple[Problem, ...] = ()
        self._entered = 0  # states

    def note_routes(self) -> None:
        """A plan of the next state will be asked for: what routers are told now is what they were told before."""
        self._routes = announcement.routes(self._speaker)

    def enter(self, world: World) -> None:
        """Move on to the next state, and let it settle."""
        now, begun = self._entered * _BETWEEN, self._entered > 0
        self._control([], now)  # what came due since the state before
        before, self._objects = self._objects, self._objects_in(world)
        held = {event.service.key: event.service.held for event in _services(before)}
        self._before = {
            event.service.key: held.get(event.service.key, event.service.held) for event in _services(self._objects)
        }
        over: list[Event] = [
            gone(event) for subject, event in before.items() if not _is_same(event, self._objects.get(subject))
        ]
        listed: list[Event] = [] if begun else [Listed(kind) for kind in Kind]
        self._control([*over, *_changed(before, self._objects), *listed], now)
        # Speakers live through every state, too: the configuration in force is the last that was valid.
        # They see the Services as the controller left them.
        links: list[Event] = [] if begun else [AnsweringSeen(()), LinksSeen(())]
        marks: list[Event] = [DrainsSeen(world.drained)]
        events = [*over, *links, *marks, self._members(), *_changed(self._shown, self._objects), *listed]
        self._speaker, _ = settle(announcement.step, self._speaker, events, lambda state: state.settled, now)
        self._shown = dict(self._objects)
        self._problems = (*world.problems, *self._controller.configuration.problems)
        self._entered += 1

    def _objects_in(self, world: World) -> dict[Subject, Seen]:
        """What there is in a state: of what cannot be read the last good form, and known Services with their status."""
        unreadable = {problem.object for problem in world.problems}
        kept = {subject: event for subject, event in self._objects.items() if name_of(event) in unreadable}
        return {
            subject: _with_status_of(self._objects.get(subject), event)
            for subject, event in {**kept, **world.seen}.items()
        }

    def _members(self) -> MembersSeen:
        nodes = frozenset(event.node.name for event in self._objects.values() if isinstance(event, NodeSeen))
        return MembersSeen(nodes if self._speakers is None else self._speakers)

    def _control(self, events: list[Event], now: float) -> None:
        self._controller, _ = control(self._controller, events, self._write, now)

    def _write(self, intent: SetAddresses) -> list[Event]:
        """What the controller hears of a write: an object that looks as before is not told again."""
        seen = self._objects.get(intent.subject)
        if not isinstance(seen, ServiceSeen) or seen.service.uid != intent.uid:
            return [Applied(intent)]  # what it was meant for is gone
        pending = intent.refusal.shown if intent.refusal is not None else None
        shows = evolve(seen.service, held=intent.addresses, pending=pending)
        written = self._objects[intent.subject] = ServiceSeen(shows)
        return [Applied(intent), *([written] if written != seen else [])]

    def plan(self) -> Plan:
        """The plan for the state that was entered last."""
        services = sorted((event.service for event in _services(self._objects)), key=lambda service: service.key)
        ours = (each for each in services if each.is_load_balancer and each.load_balancer_class == self._class)
        over_bgp = announcement.all_bgp_announcers(self._speaker)
        return Plan(
            services=tuple(self._planned(service, over_bgp) for service in ours),
            problems=self._problems,
            routes=tuple(self._planned_routes()),
        )

    def _planned_routes(self) -> Iterator[PlannedRoute]:
        before, after = self._routes, announcement.routes(self._speaker)
        for node, peer in sorted({*before, *after}):
            had, has = before.get((node, peer), {}), after.get((node, peer), {})
            for prefix in sorted({*had, *has}, key=lambda each: each.order):
                yield PlannedRoute(node=node, peer=peer, prefix=prefix, before=had.get(prefix), after=has.get(prefix))

    def _planned(
        self, service: Service, over_bgp: Mapping[tuple[ServiceKey, Address], tuple[str, ...]]
    ) -> PlannedService:
        key = service.key
        before, after = self._before.get(key, ()), service.held
        told = self._controller.told.get(key)
        refusal = told.refusal if told is not None else None
        if self._controller.catalog is None:
            text = "no valid configuration has been in force yet; see the problems"
            refusal = Refusal(key=key, reason=Reason.NOT_READY, detail=text)
        announced = announcement.explain(self._speaker, key)
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
            bgp={address: over_bgp[key, address] for address in after if (key, address) in over_bgp},
        )


def _services(seen: Mapping[Subject, Seen]) -> Iterable[ServiceSeen]:
    return (event for event in seen.values() if isinstance(event, ServiceSeen))


def _is_same(event: Seen, other: Seen | None) -> bool:
    """Whether two events of one subject are about the same object, and not one deleted and one created anew."""
    if isinstance(event, ServiceSeen) and isinstance(other, ServiceSeen):
        return not (event.service.uid and other.service.uid) or event.service.uid == other.service.uid
    return other is not None


def _with_status_of(known: Seen | None, event: Seen) -> Seen:
    if isinstance(event, ServiceSeen) and isinstance(known, ServiceSeen) and _is_same(known, event):
        return ServiceSeen(evolve(event.service, held=known.service.held, pending=known.service.pending))
    return event


def _changed(before: Mapping[Subject, Seen], after: Mapping[Subject, Seen]) -> list[Event]:
    return [event for subject, event in after.items() if before.get(subject) != event]


def _change(before: tuple[Address, ...], after: tuple[Address, ...]) -> Change:
    had, has = set(before), set(after)
    if had == has:
        return Change.KEEP if has else Change.WAIT
    if had < has:
        return Change.GAIN
    return Change.LOSE if has < had else Change.MOVE

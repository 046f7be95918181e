"""A history lived through: the assignment brain beside a pretend cluster that writes what it is asked to.

After each burst of changes the brain gets the time that it asks for, its writes come back as statuses,
and when all is quiet the cluster is looked at: that is a `Moment`, to assert your own laws about.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import evolve, field, frozen

from lbcore import assignment
from lbcore.addresses import Address, Family
from lbcore.allocation import Allocation, allocate
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.config import Config
from lbcore.daemons.planning import control
from lbcore.errors import Problem
from lbcore.events import (
    Applied,
    ConfigGone,
    Event,
    Kind,
    Listed,
    NamespaceGone,
    ServiceGone,
    ServiceSeen,
)
from lbcore.intents import SetAddresses
from lbcore.ledger import Ledger
from lbcore.model import Service, ServiceKey
from lbcore.pools import capacity
from lbcore.requests import read_request
from lbcore.testing.histories import Change, History, Started
from lbcore.verdicts import Reason, Refusal

__all__ = ["Law", "Moment", "replay"]

_BETWEEN = 1.0  # seconds from one burst to the next; a changed configuration is waited for 0.1 s


@frozen(kw_only=True)
class Moment:
    """A cluster at rest.

    `number` counts bursts from 0, `changes` are those of the last one. `services` are all that there
    are, with what they hold now; `refusals` say why some have nothing, or not what they ask for.
    `config` is in force (None: none has been sound yet), `problems` is what is wrong with the
    documents now. `state` is all that the controller knows.
    """

    number: int
    changes: tuple[Change, ...]
    services: Mapping[ServiceKey, Service]
    refusals: Mapping[ServiceKey, Refusal]
    config: Config | None
    problems: tuple[Problem, ...]
    state: AssignmentState = field(repr=False)

    @property
    def ledger(self) -> Ledger:
        """Who holds what, as the controller has it."""
        return self.state.ledger

    @property
    def held(self) -> dict[Address, tuple[ServiceKey, ...]]:
        """Every address that a Service of ours shows, and all Services that do, sorted."""
        found: dict[Address, list[ServiceKey]] = {}
        for service in self.served:
            for address in service.held:
                found.setdefault(address, []).append(service.key)
        return {address: tuple(found[address]) for address in sorted(found)}

    @property
    def served(self) -> tuple[Service, ...]:
        """The Services of type LoadBalancer and of our class, sorted by key."""
        ours = self.state.settings.load_balancer_class
        found = (each for each in self.services.values() if each.is_load_balancer and each.load_balancer_class == ours)
        return tuple(sorted(found, key=lambda each: each.key))

    def pools_of(self, key: ServiceKey) -> tuple[str, ...]:
        """The pools that a Service's addresses lie in, in the order of the addresses."""
        pools = self.config.pools if self.config is not None else ()
        found = (pool.name for address in self.services[key].held for pool in pools if address in pool)
        return tuple(dict.fromkeys(found))

    def room(self, pool: str, family: Family) -> int:
        """How many addresses of a family a pool has left; 0 for one that does not exist."""
        named = next((each for each in self.config.pools if each.name == pool), None) if self.config else None
        if named is None:
            return 0
        used = self.ledger.usage(pool)
        return max(0, capacity(named, family) - (used.ipv4 if family is Family.IPV4 else used.ipv6))

    def would_grant(self, service: Service) -> Allocation | Refusal:
        """What a Service with these wishes would be granted now if it had nothing yet, or why not."""
        request = read_request(service)
        if isinstance(request, Refusal):
            return request
        if self.state.catalog is None:
            text = "no valid configuration has been in force yet"
            return Refusal(key=service.key, reason=Reason.NOT_READY, detail=text)
        return allocate(request, self.state.catalog, self.ledger)


Law = Callable[[Moment], None]
"""What should hold of every moment; raises `AssertionError` where it does not."""


def replay(history: History, settings: AssignmentSettings | None = None) -> Iterator[Moment]:
    """Live through a history; yields the cluster at rest after each burst. The same history gives the same moments."""
    cluster = _Cluster(settings or AssignmentSettings())
    for number, changes in enumerate(history):
        cluster.live(changes)
        yield cluster.moment(number, changes)


class _Cluster:
    """Objects, the controller (none before it is started), and what is asked for and not yet written."""

    def __init__(self, settings: AssignmentSettings) -> None:
        self._settings = settings
        self._objects: dict[tuple[str, str], Event] = {}
        self._state = AssignmentState(settings=settings)
        self._runs = False
        self._now = 0.0
        self._asked: dict[ServiceKey, SetAddresses] = {}

    def live(self, changes: Iterable[Change]) -> None:
        """Let changes happen at once, then let everything come to rest."""
        self._now += _BETWEEN
        for change in changes:
            if isinstance(change, Started):
                self._start(change.order)
            else:
                self._tell(self._happen(change))
        self._rest()

    def _start(self, order: int) -> None:
        self._state, self._runs = AssignmentState(settings=self._settings), True
        self._asked.clear()
        listing = [*self._objects.values()]
        random.Random(order).shuffle(listing)
        for event in (*listing, *(Listed(kind) for kind in Kind)):
            self._tell(event)

    def _happen(self, change: Event) -> Event:
        """Enter a change; returns what a watch tells of it, a Service with the status that it has."""
        if isinstance(change, ServiceGone | ConfigGone | NamespaceGone):
            self._objects.pop(change.subject, None)
            return change
        known = self._objects.get(change.subject)
        if isinstance(change, ServiceSeen) and isinstance(known, ServiceSeen):
            change = ServiceSeen(evolve(change.service, held=known.service.held))
        self._objects[change.subject] = change
        return change

    def _tell(self, event: Event) -> None:
        if not self._runs:
            return
        step = assignment.step(self._state, event, self._now)
        self._state = step.state
        for intent in step.intents:
            if isinstance(intent, SetAddresses):
                self._asked[intent.key] = intent

    def _rest(self) -> None:
        if not self._runs:
            return
        heard = [event for key in sorted(self._asked) for event in self._write(self._asked[key])]
        self._asked.clear()
        self._state, self._now = control(self._state, heard, self._write, self._now)

    def _write(self, intent: SetAddresses) -> list[Event]:
        """Write a status; what is heard of it is that it was written, and the object if that changed it."""
        known = self._objects.get(intent.subject)
        if not isinstance(known, ServiceSeen) or known.service.uid != intent.uid:
            return [Applied(intent)]
        seen = self._objects[intent.subject] = ServiceSeen(evolve(known.service, held=intent.addresses))
        return [Applied(intent), *([seen] if seen != known else [])]

    def moment(self, number: int, changes: tuple[Change, ...]) -> Moment:
        """How things stand."""
        services = [event.service for event in self._objects.values() if isinstance(event, ServiceSeen)]
        told = {key: intent.refusal for key, intent in self._state.told.items()}
        configuration = self._state.configuration
        return Moment(
            number=number,
            changes=changes,
            services={each.key: each for each in sorted(services, key=lambda each: each.key)},
            refusals={key: refusal for key, refusal in sorted(told.items()) if refusal is not None},
            config=configuration.current,
            problems=configuration.problems,
            state=self._state,
        )

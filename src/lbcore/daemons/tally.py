"""What became of each Service, told from the stream of events and intents: how long it took, who moved and why.

An observer with a memory, and no metrics library: the clock is handed in, and what it finds out is
handed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum

from attrs import define, evolve, field, frozen

from lbcore.addresses import Address
from lbcore.events import (
    Applied,
    ConfigGone,
    ConfigSeen,
    Event,
    NamespaceGone,
    NamespaceSeen,
    ServiceGone,
    ServiceSeen,
)
from lbcore.intents import Intent, ReportConfig, SetAddresses
from lbcore.model import Service, ServiceKey

__all__ = ["AssignmentTally", "Cause", "Move", "Outcome"]

_WRITTEN_BY_US = ("metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool")


class Cause(Enum):
    """Why a Service lost an address that it had."""

    SERVICE = "service"  # its own wishes had changed
    CONFIGURATION = "configuration"  # pools or namespaces had changed
    START = "start"  # neither: what it held when the controller began did not fit


class Outcome(Enum):
    """What it has instead."""

    MOVED = "moved"  # at least one other address
    RELEASED = "released"  # none, or only what it had besides


@frozen
class Move:
    """One Service lost at least one address."""

    cause: Cause
    outcome: Outcome


@define
class AssignmentTally:
    """Watches a controller.

    `on_assigned` is told the seconds from the first sight of a Service without an address to the
    write of its addresses; one that was refused first is left out, since it waited for an operator.
    `on_move` is told each time a Service loses an address. `waiting` counts those without one, by reason.
    """

    load_balancer_class: str | None
    clock: Callable[[], float]
    on_assigned: Callable[[float], None]
    on_move: Callable[[Move], None]
    _seen_at: dict[ServiceKey, tuple[str, float]] = field(factory=dict)
    _last: dict[ServiceKey, Service] = field(factory=dict)  # the very objects that the brain keeps
    _edited: set[ServiceKey] = field(factory=set)  # since its addresses were last decided
    _refused: dict[ServiceKey, str] = field(factory=dict)
    _losing: dict[ServiceKey, frozenset[Address]] = field(factory=dict)  # counted, and not yet written
    _configured: bool = False
    _reconfigured: bool = False

    @property
    def waiting(self) -> Counter[str]:
        """How many Services have no address, by `Reason`."""
        return Counter(self._refused.copy().values())

    def observe(self, event: Event | None, intents: Sequence[Intent]) -> None:
        """Take in one event, or what a brain made of it."""
        match event:
            case ServiceSeen(service):
                self._see(service)
            case ServiceGone(key):
                self._forget(key)
            case Applied(intent=SetAddresses() as written):
                self._assigned(written)
            case ConfigSeen() | ConfigGone() | NamespaceSeen() | NamespaceGone() if self._configured:
                self._reconfigured = True
            case _:
                pass
        for intent in intents:
            if isinstance(intent, SetAddresses):
                self._decide(intent)
            elif isinstance(intent, ReportConfig) and intent.config is not None:
                self._configured = True

    def _see(self, service: Service) -> None:
        key, before = service.key, self._last.get(service.key)
        if before is not None and before.uid != service.uid:
            self._forget(key)  # made anew, and a watch that was cut meanwhile saw no end of the old one
        self._last[key] = service
        if before is not None and before.uid == service.uid and _wishes(before) != _wishes(service):
            self._edited.add(key)
        if not service.is_load_balancer or service.load_balancer_class != self.load_balancer_class:
            self._seen_at.pop(key, None)
            return
        since = self._seen_at.get(key)
        if not service.held and key not in self._refused and (since is None or since[0] != service.uid):
            self._seen_at[key] = (service.uid, self.clock())

    def _forget(self, key: ServiceKey) -> None:
        self._last.pop(key, None)
        self._seen_at.pop(key, None)
        self._refused.pop(key, None)
        self._losing.pop(key, None)
        self._edited.discard(key)

    def _decide(self, wanted: SetAddresses) -> None:
        key = wanted.key
        if wanted.addresses or wanted.refusal is None:
            self._refused.pop(key, None)
        else:
            self._refused[key] = wanted.refusal.reason.value
            self._seen_at.pop(key, None)
        if wanted.gives_up - self._losing.get(key, frozenset()):
            self.on_move(Move(self._cause(key), self._outcome(wanted)))
        self._losing[key] = wanted.gives_up
        self._edited.discard(key)

    def _cause(self, key: ServiceKey) -> Cause:
        if key in self._edited:
            return Cause.SERVICE
        return Cause.CONFIGURATION if self._reconfigured else Cause.START

    def _outcome(self, wanted: SetAddresses) -> Outcome:
        before = self._last.get(wanted.key)
        held = set(before.held) if before is not None else set()
        return Outcome.MOVED if set(wanted.addresses) - held else Outcome.RELEASED

    def _assigned(self, written: SetAddresses) -> None:
        self._losing.pop(written.key, None)
        since = self._seen_at.pop(written.key, None) if written.addresses else None
        if since is not None and since[0] == written.uid:
            self.on_assigned(self.clock() - since[1])


def _wishes(service: Service) -> Service:
    """A Service without what lbcore itself writes to it."""
    annotations = service.annotations
    for name in _WRITTEN_BY_US:
        annotations = annotations.delete(name) if name in annotations else annotations
    return evolve(service, held=(), created="", annotations=annotations)

"""Histories: what may happen to a cluster, in any order that a cluster allows, for `replay` to live through.

A history is a tuple of bursts, and a burst a tuple of changes that come so close together that the
controller has not come to rest between them. Changes are events as the brains know them, and
`Started`. Services carry what their users wrote; their status is the replay's business, except for
what `existing` ones hold at the beginning.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from attrs import evolve, frozen
from hypothesis import strategies as st

from lbcore.config import Config
from lbcore.events import (
    ConfigGone,
    ConfigSeen,
    NamespaceGone,
    NamespaceSeen,
    ServiceGone,
    ServiceSeen,
)
from lbcore.model import Namespace, Service, ServiceKey
from lbcore.testing.clusters import configs as any_configs
from lbcore.testing.clusters import documents, namespace_named, namespaces_named
from lbcore.testing.clusters import services as any_services

__all__ = ["Change", "History", "Started", "histories", "in_any_order", "worlds"]


@frozen
class Started:
    """A controller starts, or starts anew, and is told all there is in an order that `order` stands for.

    What the one before had decided and not yet written is lost.
    """

    order: int = 0

    @property
    def subject(self) -> tuple[str, str]:
        """There is one controller."""
        return ("controller", "")


Change = ConfigSeen | ConfigGone | NamespaceSeen | NamespaceGone | ServiceSeen | ServiceGone | Started

History = tuple[tuple[Change, ...], ...]


class _About(Protocol):
    @property
    def subject(self) -> Hashable: ...


A = TypeVar("A", bound=_About)


def in_any_order(events: Sequence[A]) -> st.SearchStrategy[tuple[A, ...]]:
    """The same events in any order that a cluster allows: those about one object stay in theirs."""
    by_subject: dict[Hashable, list[A]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    turns = st.permutations([subject for subject, found in by_subject.items() for _ in found])
    return turns.map(lambda given: _in_turn(by_subject, given))


def _in_turn(by_subject: Mapping[Hashable, Sequence[A]], turns: Iterable[Hashable]) -> tuple[A, ...]:
    left = {subject: iter(found) for subject, found in by_subject.items()}
    return tuple(next(left[subject]) for subject in turns)


@st.composite
def histories(
    draw: st.DrawFn,
    config: Config,
    *others: Config,
    services: st.SearchStrategy[Service] | None = None,
    existing: Iterable[Service] = (),
    namespaces: Iterable[Namespace] = (),
    max_bursts: int = 6,
    max_changes: int = 4,
    restarts: bool = True,
    deletes: bool = True,
    relabels: bool = True,
) -> History:
    """What may happen to a cluster that has `config`, `existing` Services and `namespaces` at the beginning.

    A controller starts at the end of the first burst. In each burst after it, up to `max_changes`
    times: a Service of `services` is created, or edited if there is one of its key, or deleted and
    created anew; one is deleted (`deletes`); the configuration becomes one of `others` or the first
    again; a Namespace gets other labels (`relabels`); the controller starts anew (`restarts`). The
    changes of a burst come in any order, except that those of one object stay in theirs. There is at
    least one burst after the first.
    """
    drawn = _Draft(draw, [config, *others], services if services is not None else any_services(pools=config.pools))
    drawn.begin(existing, namespaces)
    kinds = ["put", "put", "put", *(["delete", "create anew"] if deletes else [])]
    kinds += [*(["configure"] if others else []), *(["start"] if restarts else [])]
    kinds += ["label"] if relabels and drawn.namespaces else []
    bursts = [drawn.burst()]
    for count in draw(st.lists(st.integers(1, max_changes), min_size=1, max_size=max_bursts)):
        for _ in range(count):
            drawn.change(draw(st.sampled_from(kinds)))
        bursts.append(draw(in_any_order(drawn.burst())))
    return tuple(bursts)


@st.composite
def worlds(draw: st.DrawFn, max_configs: int = 3) -> History:
    """Any history of any small cluster: what a law is tried on that should hold everywhere."""
    given = draw(st.lists(any_configs(), min_size=1, max_size=max_configs))
    pools = [pool for config in given for pool in config.pools]
    return draw(
        histories(
            given[0],
            *given[1:],
            services=any_services(pools=pools),
            namespaces=draw(namespaces_named()),
        )
    )


class _Draft:
    """A history in the making: what is there, and the changes of the burst that is being drawn."""

    def __init__(self, draw: st.DrawFn, configs: list[Config], services: st.SearchStrategy[Service]) -> None:
        self.draw = draw
        self.configs = configs
        self.services = services
        self.there: dict[ServiceKey, Service] = {}
        self.namespaces: list[Namespace] = []
        self._config = {each.origin: each for each in documents(configs[0])}
        self._changes: list[Change] = []
        self._created = 0

    def burst(self) -> tuple[Change, ...]:
        """The changes since the last burst."""
        changes, self._changes = tuple(self._changes), []
        return changes

    def begin(self, existing: Iterable[Service], namespaces: Iterable[Namespace]) -> None:
        self.namespaces = [*namespaces]
        self._changes += [ConfigSeen(each) for each in self._config.values()]
        self._changes += [NamespaceSeen(each) for each in self.namespaces]
        for service in existing:
            self._put(service)
        self._start()

    def change(self, kind: str) -> None:
        """One change of a kind that is possible now; otherwise a Service is put."""
        match kind:
            case "delete" if self.there:
                self._delete(self._one_of_ours())
            case "create anew" if self.there:
                key = self._one_of_ours()
                before = self.there[key]
                self._delete(key)
                self._put(evolve(before, uid="", created="", held=()))
            case "configure":
                self._configure(self.draw(st.sampled_from(self.configs)))
            case "label":
                name = self.draw(st.sampled_from(self.namespaces)).name
                self._changes.append(NamespaceSeen(self.draw(namespace_named(name))))
            case "start":
                self._start()
            case _:
                self._put(self.draw(self.services))

    def _one_of_ours(self) -> ServiceKey:
        return self.draw(st.sampled_from(sorted(self.there)))

    def _start(self) -> None:
        self._changes.append(Started(self.draw(st.integers(0, 99))))

    def _put(self, service: Service) -> None:
        before = self.there.get(service.key)
        self._created += before is None
        born = before or Service(
            key=service.key,
            uid=service.uid or f"uid-{self._created}",
            created=service.created or f"2026-01-01T00:00:00.{self._created:06}Z",
            held=service.held,
        )
        self.there[service.key] = evolve(service, uid=born.uid, created=born.created, held=born.held)
        self._changes.append(ServiceSeen(self.there[service.key]))

    def _delete(self, key: ServiceKey) -> None:
        self._changes.append(ServiceGone(key, self.there.pop(key).uid))

    def _configure(self, config: Config) -> None:
        wanted = {each.origin: each for each in documents(config)}
        for origin in sorted({*self._config, *wanted}):
            if origin not in wanted:
                self._changes.append(ConfigGone(origin))
            elif wanted[origin] != self._config.get(origin):
                self._changes.append(ConfigSeen(wanted[origin]))
        self._config = wanted

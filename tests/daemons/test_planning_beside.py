"""`plan` beside the daemons: the same states through the loops of a controller and of speakers come to the same.

The daemons live on a virtual clock over one cluster in memory (`joined`), to which each state is
applied as one would with `kubectl`: objects that are no longer there are deleted, statuses stay.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from copy import deepcopy

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joined import House
from lbcore.adapters.kubernetes.documents import Ignored, Refused, read_all
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementState
from lbcore.backends.memory import Value
from lbcore.config import ConfigDocument, Origin
from lbcore.daemons.planning import Plan, PlannedService, Planner, World, plan
from lbcore.errors import Problem
from lbcore.model import EndpointSlice, Namespace, Node, Service, ServiceKey, SliceKey
from lbcore.routes import Offer, Path, Prefix
from lbcore.verdicts import Reason
from states import NODES, Document, State, identity, is_broken, states
from worlds import bgp_announcers

FILE = "state.yaml"
SETTLED, REST = 20.0, 40.0  # seconds after a state until we look, and from there to the next: together as in a plan


def world(state: State) -> World:
    entries = [entry for document in state for entry in read_all(document, FILE)]
    return World.of(
        entry.event if isinstance(entry, Refused) else entry for entry in entries if not isinstance(entry, Ignored)
    )


@attrs.frozen
class Fate:
    """What became of one Service: all that a plan says, in words of its own."""

    change: str
    addresses: frozenset[Address]
    pool: str  # several with commas, "" for none
    reason: Reason | None
    message: str | None
    bgp: tuple[tuple[Address, tuple[str, ...]], ...]


@attrs.frozen
class Outcome:
    """A cluster after a state has settled; `l2` is who answers for which address."""

    services: dict[ServiceKey, Fate]
    l2: dict[Address, tuple[str, ...]]
    routes: dict[tuple[str, str, Prefix], Path]  # by node and router
    problems: frozenset[Problem]


def planned(found: Plan) -> Outcome:
    l2: dict[Address, tuple[str, ...]] = {}
    for service in found.services:
        for address, nodes in service.l2.items():
            if nodes:
                l2[address] = tuple(sorted({*l2.get(address, ()), *nodes[:1]}))
    return Outcome(
        services={service.key: fate_of(service) for service in found.services},
        l2=l2,
        routes={(each.node, each.peer, each.prefix): each.after for each in found.routes if each.after is not None},
        problems=frozenset(problem for problem in found.problems if is_of_configuration(problem)),
    )


def is_of_configuration(problem: Problem) -> bool:
    return not problem.object.startswith(("Service ", "Node ", "Namespace ", "EndpointSlice "))


def fate_of(service: PlannedService) -> Fate:
    return Fate(
        change=service.change.value,
        addresses=frozenset(service.addresses),
        pool=service.pool or "",
        reason=service.reason,
        message=service.message if service.reason is not Reason.NOT_READY else None,
        bgp=tuple((address, nodes) for address, nodes in sorted(service.bgp.items()) if nodes),
    )


class Cluster:
    """The daemons, and the state that was applied last. They start when the first has been applied."""

    def __init__(self, speakers: Iterable[str]) -> None:
        self.house = House(random.Random(0), failing=0.0)
        self.speakers = sorted(speakers)
        self._there: dict[tuple[str, str, str], Document] = {}
        self._runs = False

    def close(self) -> None:
        """Give back the sources."""
        self.house.close()

    def apply(self, state: State) -> Outcome:
        """Apply a state, let it settle, and say what became of everything."""
        cluster = self.house.cluster
        before = {key: service.held for key, service in cluster.services.items()}
        wanted = {identity(document): document for document in state}
        # What cannot be read leaves the object as it was, and is known by that.
        wanted |= {key: self._there[key] for key in wanted if key in self._there and is_broken(wanted[key])}
        kept = {key for key, document in wanted.items() if self._is_same(key, document)}
        cluster.delete(*(value_of(key) for key in self._there if key not in kept))
        cluster.apply([self._with_status(document) for document in state], FILE)
        before = {key: before.get(key, service.held) for key, service in cluster.services.items()}
        self._there = wanted
        self._start()
        self.house.run(SETTLED)
        found = self._outcome(before)
        self.house.run(REST)
        return found

    def _start(self) -> None:
        """Start the daemons, if they do not run: what was applied before is what they are told first."""
        if self._runs:
            return
        self._runs = True
        self.house.start_controller()
        for name in self.speakers:
            self.house.start_speaker(name)

    def _is_same(self, key: tuple[str, str, str], document: Document) -> bool:
        """Whether this is an edit of the object that there was, and not another of its name."""
        known = self._there.get(key)
        return known is not None and known["metadata"].get("uid") == document["metadata"].get("uid")

    def _with_status(self, written: Document) -> Document:
        """An object that exists keeps its status, whatever a manifest says."""
        document = deepcopy(written)
        kind, namespace, name = identity(document)
        known = self.house.cluster.services.get(ServiceKey(namespace, name)) if kind == "Service" else None
        if known is not None:
            document["status"] = {"loadBalancer": {"ingress": [{"ip": str(address)} for address in known.held]}}
        return document

    def _outcome(self, before: dict[ServiceKey, tuple[Address, ...]]) -> Outcome:
        house = self.house
        ours = [
            each for each in house.cluster.services.values() if each.is_load_balancer and not each.load_balancer_class
        ]
        said = house.cluster.config
        return Outcome(
            services={each.key: self._fate(each, set(before[each.key])) for each in ours},
            l2={address: tuple(nodes) for address, nodes in house.announcers.items()},
            routes={
                (name, offer.peer, prefix): offer.path for name in self.speakers for prefix, offer in self._told(name)
            },
            problems=frozenset(said.problems if said is not None else ()),
        )

    def _fate(self, service: Service, had: set[Address]) -> Fate:
        said, told = self.house.cluster.config, self.house.cluster.statuses.get(service.key)
        refusal = told.refusal if told is not None else None
        reason = refusal.reason if refusal is not None else None
        pools = said.config.pools if said is not None and said.config is not None else ()
        return Fate(
            change=change(had, set(service.held)),
            addresses=frozenset(service.held),
            pool=",".join(dict.fromkeys(pool.name for each in sorted(service.held) for pool in pools if each in pool)),
            # Daemons that have never had a valid configuration write nothing about anybody.
            reason=reason if said is not None and said.config is not None else Reason.NOT_READY,
            message=refusal.detail if refusal is not None else None,
            bgp=self._over_bgp(service.key),
        )

    def _told(self, name: str) -> list[tuple[Prefix, Offer]]:
        """What a node tells its routers."""
        state = self.house.daemons[name].loop.state
        assert isinstance(state, AnnouncementState)
        return [(prefix, offer) for prefix, offers in state.exports.told.items() for offer in offers]

    def _over_bgp(self, key: ServiceKey) -> tuple[tuple[Address, tuple[str, ...]], ...]:
        """For each address those who would announce it themselves, each by its own lights."""
        found: dict[Address, list[str]] = {}
        for name in self.speakers:
            state = self.house.daemons[name].loop.state
            assert isinstance(state, AnnouncementState)
            for address, nodes in bgp_announcers(state, key):
                if name in nodes:
                    found.setdefault(address, []).append(name)
        return tuple((address, tuple(found[address])) for address in sorted(found))


def value_of(key: tuple[str, str, str]) -> Value | ServiceKey:
    """The identity of an object, as the cluster deletes by."""
    kind, namespace, name = key
    match kind:
        case "Service":
            return ServiceKey(namespace, name)
        case "EndpointSlice":
            return EndpointSlice(key=SliceKey(namespace, name), service="")
        case "Node":
            return Node(name=name)
        case "Namespace":
            return Namespace(name=name)
        case _:
            return ConfigDocument(origin=Origin(kind=kind, namespace=namespace, name=name))


def change(had: set[Address], has: set[Address]) -> str:
    if had == has:
        return "keep" if has else "wait"
    if not had - has:
        return "gain"
    return "move" if has - had else "lose"


def assert_the_same(history: Sequence[State], speakers: Iterable[str]) -> None:
    names = sorted(speakers)
    planner = Planner(None, names)
    with closing(Cluster(names)) as cluster:
        for number, state in enumerate(history, 1):
            planner.note_routes()
            planner.enter(world(state))
            assert cluster.apply(state) == planned(planner.plan()), f"state {number}"
    assert planned(plan(list(map(world, history)), speakers=names)) == planned(planner.plan())


living = st.sets(st.sampled_from(NODES))


@settings(deadline=None)
@given(states(), living)
def test_a_plan_says_what_the_daemons_do(history: tuple[State, ...], speakers: set[str]) -> None:
    assert_the_same(history, speakers)


@pytest.mark.slow
@settings(deadline=None, max_examples=1200)
@given(states(most=8), living)
def test_and_so_it_is_in_many_more_histories(history: tuple[State, ...], speakers: set[str]) -> None:
    assert_the_same(history, speakers)

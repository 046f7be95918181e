"""Hosts that are to be looked at again -> their part of the table, some in a step; and all streams at once.

What a host asks for while it is built is what it depends on, and is noted. One that comes out the same is the same
object.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from attrs import evolve
from immutables import Map

from lbcore import streams
from lbcore.ingress import ConfigMap, ObjectKey, Secret
from lbcore.intents import Intent
from lbcore.model import Service
from lbcore.routing.hosting import covers, parent_of
from lbcore.routing.reporting import speak, warn
from lbcore.routing.state import NO_HOSTS, NO_INGRESSES, Dependency, RoutingState
from lbcore.sites import Built, build_site

__all__ = ["build_some", "build_streams"]


class _View:
    """What a site looks at, noted while it looks."""

    def __init__(self, state: RoutingState) -> None:
        self._state = state
        self.options = state.options
        self.noted: set[Dependency] = set()

    def service(self, key: ObjectKey) -> Service | None:
        self.noted.add(("service", key))
        return self._state.backing.service(key)

    def secret(self, key: ObjectKey) -> Secret | None:
        self.noted.add(("secret", key))
        return self._state.secrets.get(key)

    def config_map(self, key: ObjectKey) -> ConfigMap | None:
        self.noted.add(("config map", key))
        return self._state.config_maps.get(key)


def build_some(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    """The first of the hosts that wait, once everything has been listed; and what is wrong with their Ingresses."""
    if state.missing or not state.dirty:
        return state, []
    intents: list[Intent] = []
    dirty, hosts = state.dirty, list(islice(state.dirty, state.settings.most))
    for host in hosts:
        dirty = dirty.delete(host)
    state = evolve(state, dirty=dirty)
    for host in hosts:
        state, said = _build(state, host)
        intents += said
    return state, intents


def build_streams(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    """All of them at once: a few hundred at most. What is wrong with an entry is an Event of its ConfigMap."""
    made = state.streams
    if state.missing:
        return state, []
    if made.dirty:
        made = streams.build(made, state.backing, state.settings.namespace)
        state = evolve(state, streams=made, table=evolve(state.table, streams=made.streams))
    if made.troubles == state.said_of_streams:
        return state, []
    new = [each for each in made.troubles if each not in state.said_of_streams]
    return evolve(state, said_of_streams=made.troubles), [
        warn(f"ConfigMap {each.config_map}", "BadEntry", str(each)) for each in new
    ]


def _build(state: RoutingState, host: str) -> tuple[RoutingState, list[Intent]]:
    view = _View(state)
    keys = state.hosts.get(host, NO_INGRESSES)
    entries = [state.entries[key] for key in keys]
    covered = covers(state, parent_of(host))
    fresh: Built | None = None
    if any(entry.policies.canary is None for entry in entries):
        fresh = build_site(host, entries, view, covered=covered, default=state.table.default_upstream)
    old = state.built.get(host)
    state = _with_users(state, host, frozenset(view.noted))
    state = _with_built(state, host, old, fresh)
    return speak(state, keys, fresh)


def _with_users(state: RoutingState, host: str, noted: frozenset[Dependency]) -> RoutingState:
    before = state.looked_at.get(host, frozenset())
    if noted == before:
        return state
    users: Map[Any, Any] = state.users
    for each in before - noted:
        left = users[each].delete(host)
        users = users.set(each, left) if left else users.delete(each)
    for each in noted - before:
        users = users.set(each, users.get(each, NO_HOSTS).set(host, None))
    looked_at = state.looked_at.set(host, noted) if noted else state.looked_at.delete(host)
    return evolve(state, users=users, looked_at=looked_at)


def _with_built(state: RoutingState, host: str, old: Built | None, fresh: Built | None) -> RoutingState:
    if old == fresh:
        return state
    sites, backing = state.table.sites, state.backing
    before, now = old.targets if old is not None else (), fresh.targets if fresh is not None else ()
    if before != now:
        backing = backing.exchanged(before, now)
    if fresh is None:
        sites, built = sites.delete(host), state.built.delete(host)
    else:
        built = state.built.set(host, fresh)
        if old is None or old.site != fresh.site:
            sites = sites.set(host, fresh.site)
    table = state.table if sites is state.table.sites else evolve(state.table, sites=sites)
    return evolve(state, built=built, backing=backing, table=table)

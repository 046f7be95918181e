"""Which Ingresses are ours, and which of them has something to say about a host?

A host is to be built again when one of its Ingresses comes, changes or goes, and when the wildcard right above it
gets TLS or loses it.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from lbcore.annotations.rules import Finding
from lbcore.annotations.table import read
from lbcore.ingress import Ingress, ObjectKey
from lbcore.routing.state import NO_HOSTS, NO_INGRESSES, RoutingState
from lbcore.sites import Entry, is_host

__all__ = ["all_again", "covers", "forget", "hosts_of", "parent_of", "see", "soil", "why_not_served"]


def why_not_served(state: RoutingState, ingress: Ingress) -> str:
    """Why an Ingress is none of ours; empty where it is."""
    settings = state.settings
    if settings.namespace and ingress.key.namespace != settings.namespace:
        return f"only namespace {settings.namespace} is served"
    if settings.namespace_selector is not None:
        namespace = state.namespaces.get(ingress.key.namespace)
        if namespace is None or not settings.namespace_selector.matches(namespace.labels):
            return "its namespace has not the labels that are served"
    if settings.no_catch_all and ingress.default_backend is not None:
        return "it has a default backend, and --disable-catch-all is given"
    if ingress.class_name is not None:
        found = state.classes.get(ingress.class_name)
        if found is None:
            return f"there is no IngressClass {ingress.class_name}"
        by_name = settings.by_name and ingress.class_name == settings.ingress_class
        ours = by_name or found.controller == settings.controller_class
        return "" if ours else f"its IngressClass {found.name} is of the controller {found.controller}"
    named = ingress.annotations.get("kubernetes.io/ingress.class")
    if named is not None:
        return "" if named == settings.ingress_class else f"its class {named} is not {settings.ingress_class}"
    return "" if settings.without_class else "it names no class, and --watch-ingress-without-class is not given"


def _is_ours(state: RoutingState, ingress: Ingress) -> bool:
    return not why_not_served(state, ingress)


def hosts_of(ingress: Ingress) -> set[str]:
    """The hosts that an Ingress has something to say about; empty: all that no other has."""
    hosts = {rule.host.lower() for rule in ingress.rules}
    if ingress.default_backend is not None and not ingress.rules:
        hosts.add("")
    return {host for host in hosts if not host or is_host(host)}


def see(state: RoutingState, ingress: Ingress) -> RoutingState:
    """After an Ingress was seen, whoever it belongs to."""
    before, entry = state.ingresses.get(ingress.key), state.entries.get(ingress.key)
    if before is not None and before != ingress and entry is not None and evolve(before, held=ingress.held) == ingress:
        # Its status alone: what every write of ours brings back.
        entries = state.entries.set(ingress.key, evolve(entry, ingress=ingress))
        return evolve(state, ingresses=state.ingresses.set(ingress.key, ingress), entries=entries)
    namespace = ingress.key.namespace
    its = state.of_namespace.get(namespace, NO_INGRESSES).set(ingress.key, None)
    of_namespace = state.of_namespace.set(namespace, its) if before is None else state.of_namespace
    state = evolve(state, ingresses=state.ingresses.set(ingress.key, ingress), of_namespace=of_namespace)
    if not _is_ours(state, ingress):
        return _link(state, ingress.key, None)
    prefix = state.settings.annotations_prefix
    policies, findings = read(ingress.annotations, namespace, prefix, snippets=state.options.snippets)
    return _link(state, ingress.key, Entry(ingress, policies), findings)


def forget(state: RoutingState, key: ObjectKey) -> RoutingState:
    """After an Ingress is gone."""
    if key not in state.ingresses:
        return state
    left = state.of_namespace[key.namespace].delete(key)
    of_namespace = state.of_namespace
    of_namespace = of_namespace.set(key.namespace, left) if left else of_namespace.delete(key.namespace)
    said = state.said.delete(key) if key in state.said else state.said
    state = evolve(state, ingresses=state.ingresses.delete(key), of_namespace=of_namespace, said=said)
    return _link(state, key, None)


def _link(state: RoutingState, key: ObjectKey, entry: Entry | None, findings: tuple[Finding, ...] = ()) -> RoutingState:
    """Put an Ingress of ours into its hosts, and out of those that it had before; None: it is none of ours."""
    before, entries, hosts, children = state.entries.get(key), state.entries, state.hosts, state.children
    old = hosts_of(before.ingress) if before is not None else set()
    new = hosts_of(entry.ingress) if entry is not None else set()
    if not old and not new and before is entry:
        return state
    entries = entries.set(key, entry) if entry is not None else entries.delete(key)
    for host in old - new:
        left = hosts[host].delete(key)
        hosts = hosts.set(host, left) if left else hosts.delete(host)
        parent = parent_of(host)
        if parent and not left:
            its = children[parent].delete(host)
            children = children.set(parent, its) if its else children.delete(parent)
    for host in new - old:
        hosts = hosts.set(host, hosts.get(host, NO_INGRESSES).set(key, None))
        parent = parent_of(host)
        if parent:
            children = children.set(parent, children.get(parent, NO_HOSTS).set(host, None))
    of_all = state.findings.set(key, findings) if entry is not None else state.findings.delete(key)
    fresh = evolve(state, entries=entries, findings=of_all, hosts=hosts, children=children)
    touched = old | new
    # Whether a wildcard has TLS is all that the hosts right under it look at.
    for host in [each for each in touched if covers(state, each) is not covers(fresh, each)]:
        touched |= set(children.get(host, NO_HOSTS))
    return soil(fresh, touched)


def all_again(state: RoutingState, keys: Iterable[ObjectKey]) -> RoutingState:
    """Each of these Ingresses may have become ours, or nobody's: a class or a namespace came or went, which is rare."""
    for ingress in [state.ingresses[key] for key in keys]:
        if _is_ours(state, ingress) is not (ingress.key in state.entries):
            state = see(state, ingress)
    return state


def covers(state: RoutingState, host: str) -> bool:
    """Whether this is a wildcard with TLS."""
    return host.startswith("*") and any(state.entries[key].ingress.tls for key in state.hosts.get(host, NO_INGRESSES))


def parent_of(host: str) -> str:
    """The wildcard that has this host right under it; empty where there can be none."""
    return "" if host.startswith("*") or "." not in host else "*." + host.partition(".")[2]


def soil(state: RoutingState, hosts: Iterable[str]) -> RoutingState:
    """With these hosts to be looked at again."""
    dirty = state.dirty
    for host in sorted(hosts):
        dirty = dirty.set(host, None)
    return state if dirty is state.dirty else evolve(state, dirty=dirty)

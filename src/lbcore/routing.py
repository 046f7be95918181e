"""The Ingress brain: objects -> `RoutingTable`, host by host.

An event names what may have changed; the hosts that looked at it are built anew, at most 100 in a step, and the
table goes out when none is left and everything has been listed once. A host that comes out the same is the same object.
No host looks at endpoints: what they change are the upstreams of their Service (`backing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from attrs import Factory, evolve, field, frozen
from immutables import Map

from lbcore import streams
from lbcore.annotations.named import named_by, resolve
from lbcore.annotations.options import read_options
from lbcore.annotations.rules import Finding, State
from lbcore.annotations.table import PREFIX, read
from lbcore.backing import Backing
from lbcore.brain import Step
from lbcore.events import (
    ConfigMapGone,
    ConfigMapSeen,
    Event,
    IngressClassGone,
    IngressClassSeen,
    IngressGone,
    IngressSeen,
    Kind,
    LeadershipSeen,
    Listed,
    NamespaceGone,
    NamespaceSeen,
    RoutesRefused,
    SecretGone,
    SecretSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
    Stopping,
)
from lbcore.ingress import Backend, Certificate, ConfigMap, Ingress, IngressClass, ObjectKey, Secret
from lbcore.intents import EventType, Intent, PublishIngress, RecordEvent, ServeRoutes
from lbcore.model import LabelSelector, Namespace, Service
from lbcore.proxy import Options, Policies, RoutingTable
from lbcore.publishing import PublishSettings, PublishState, clear, hear, publish
from lbcore.sites import Built, Entry, build_site, is_host
from lbcore.streams import StreamSettings, StreamState, Trouble
from lbcore.upstreams import Target, make_target

__all__ = ["NEEDS", "RoutingSettings", "RoutingState", "hosts_of", "needs", "step", "why_not_served"]

NEEDS = frozenset({Kind.INGRESSES, Kind.INGRESS_CLASSES, Kind.SERVICES, Kind.SLICES, Kind.SECRETS, Kind.CONFIG_MAPS})
MOST_OF_A_MAP = (
    1 << 16
)  # characters of a ConfigMap that an Ingress may name: larger ones are something else, and not kept
MOST = 100  # hosts in a step: about 10 ms

Dependency = tuple[str, ObjectKey]
_NOBODY: Map[str, None] = Map()
_NO_ONE: Map[ObjectKey, None] = Map()


@frozen(kw_only=True)
class RoutingSettings:
    """What the command line says, with ingress-nginx's names and defaults; and how many hosts are built in a step."""

    controller_class: str = "k8s.io/ingress-nginx"
    ingress_class: str = "nginx"
    by_name: bool = False
    without_class: bool = False
    namespace: str = ""
    namespace_selector: LabelSelector | None = None
    config_map: ObjectKey | None = None
    default_backend: ObjectKey | None = None
    default_certificate: ObjectKey | None = None
    annotations_prefix: str = PREFIX
    no_catch_all: bool = False
    no_external_name: bool = False
    publish: PublishSettings = field(factory=PublishSettings)
    streams: StreamSettings = field(factory=StreamSettings)
    most: int = MOST


def needs(settings: RoutingSettings) -> frozenset[Kind]:
    """The kinds of object that are looked at with these settings, and no others."""
    asked = {
        Kind.NAMESPACES: settings.namespace_selector is not None,
        Kind.NODES: settings.publish.nodes,
    }
    return NEEDS | {kind for kind, wanted in asked.items() if wanted}


@frozen(kw_only=True)
class RoutingState:
    """Everything that was told, what was made of it, and what is still to be looked at."""

    settings: RoutingSettings = RoutingSettings()
    options: Options = field(factory=Options)  # with what it names
    written: Options = field(factory=Options)  # as its ConfigMap has it
    missing: frozenset[Kind] = field(default=Factory(lambda self: needs(self.settings), takes_self=True))
    publishing: PublishState = field(
        default=Factory(lambda self: PublishState(settings=self.settings.publish), takes_self=True)
    )
    streams: StreamState = field(
        default=Factory(lambda self: StreamState(settings=self.settings.streams), takes_self=True)
    )
    said_of_streams: tuple[Trouble, ...] = ()
    backing: Backing = field(
        default=Factory(lambda self: Backing(no_external_name=self.settings.no_external_name), takes_self=True)
    )
    default_target: Target | None = None  # of the global default backend, while it has a peer
    namespaces: Map[str, Namespace] = field(factory=Map)
    ingresses: Map[ObjectKey, Ingress] = field(factory=Map)
    of_namespace: Map[str, Map[ObjectKey, None]] = field(factory=Map)
    entries: Map[ObjectKey, Entry] = field(factory=Map)
    findings: Map[ObjectKey, tuple[Finding, ...]] = field(factory=Map)
    classes: Map[str, IngressClass] = field(factory=Map)
    secrets: Map[ObjectKey, Secret] = field(factory=Map)
    config_maps: Map[ObjectKey, ConfigMap] = field(factory=Map)
    hosts: Map[str, Map[ObjectKey, None]] = field(factory=Map)
    children: Map[str, Map[str, None]] = field(factory=Map)  # `*.d` -> the hosts right under d
    users: Map[Dependency, Map[str, None]] = field(factory=Map)
    built: Map[str, Built] = field(factory=Map)
    looked_at: Map[str, frozenset[Dependency]] = field(factory=Map)
    dirty: Map[str, None] = field(factory=Map)
    said: Map[ObjectKey, frozenset[str]] = field(factory=Map)
    said_of_options: tuple[str, ...] = ()
    table: RoutingTable = field(factory=RoutingTable)
    sent: RoutingTable | None = None

    @property
    def settled(self) -> bool:
        """Whether all that was told is in the table."""
        return not self.missing and not self.dirty and not self.streams.dirty


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


def step(state: RoutingState, event: Event, now: float) -> Step[RoutingState]:
    """What one event changes; `now` is looked at for when statuses are to be compared again."""
    publishing, heard = hear(state.publishing, event), streams.hear(state.streams, event)
    if publishing is not state.publishing or heard is not state.streams:
        state = evolve(state, publishing=publishing, streams=heard)
    state, said = _take(state, event)
    state, more = _build_some(state)
    state, about_streams = _build_streams(state)
    if state.table.upstreams is not state.backing.upstreams:
        state = evolve(state, table=evolve(state.table, upstreams=state.backing.upstreams))
    intents: list[Intent] = [*said, *more, *about_streams]
    if not state.publishing.leads:  # who leads tells users; what is served is everybody's own
        intents = [each for each in intents if not isinstance(each, RecordEvent)]
    wake_at = now if state.dirty and not state.missing else None
    if state.settled:
        if state.table != state.sent:
            state = evolve(state, sent=state.table)
            intents.append(ServeRoutes(table=state.table))
        state, statuses, wake_at = _publish(state, event, now)
        intents += statuses
    return Step(state=state, intents=tuple(intents), wake_at=wake_at)


def _publish(state: RoutingState, event: Event, now: float) -> tuple[RoutingState, list[PublishIngress], float | None]:
    """Whose status is to be written."""
    if isinstance(event, Stopping):
        return state, clear(state.publishing, state.entries), None
    publishing, intents, wake_at = publish(state.publishing, state.entries, now)
    state = state if publishing is state.publishing else evolve(state, publishing=publishing)
    return state, intents, wake_at


def _take(state: RoutingState, event: Event) -> tuple[RoutingState, list[Intent]]:
    match event:
        case IngressSeen(ingress):
            return _see(state, ingress), []
        case IngressGone(key):
            return _forget(state, key), []
        case IngressClassSeen(found):
            return _all_again(evolve(state, classes=state.classes.set(found.name, found)), state.ingresses), []
        case IngressClassGone(name) if name in state.classes:
            return _all_again(evolve(state, classes=state.classes.delete(name)), state.ingresses), []
        case ServiceSeen(service):
            return _touch(_with_backing(state, state.backing.with_service(service)), "service", service.key), []
        case ServiceGone(key):
            return _touch(_with_backing(state, state.backing.without_service(key)), "service", key), []
        case SliceSeen(found):
            return _with_backing(state, state.backing.with_slice(found)), []
        case SliceGone(key):
            return _with_backing(state, state.backing.without_slice(key)), []
        case SecretSeen(secret):
            return _secrets(state, secret.key, state.secrets.set(secret.key, secret))
        case SecretGone(key) if key in state.secrets:
            return _secrets(state, key, state.secrets.delete(key))
        case ConfigMapSeen(found):
            return _see_map(state, found)
        case ConfigMapGone(key):
            if key == state.settings.config_map:
                state = evolve(state, written=Options())
            elif key not in state.config_maps:
                return state, []
            maps = state.config_maps
            return _maps(state, key, maps.delete(key) if key in maps else maps)
        case NamespaceSeen(found):
            namespaces = state.namespaces.set(found.name, found)
            return _all_again(evolve(state, namespaces=namespaces), state.of_namespace.get(found.name, _NO_ONE)), []
        case NamespaceGone(name) if name in state.namespaces:
            namespaces = state.namespaces.delete(name)
            return _all_again(evolve(state, namespaces=namespaces), state.of_namespace.get(name, _NO_ONE)), []
        case LeadershipSeen(leading):
            # What was wanted before is forgotten when another leads, the table with it; who leads says all anew.
            state = evolve(state, said=Map(), said_of_streams=(), sent=None)
            return _speak_of_all(state) if leading else (state, [])
        case Listed(kind):
            return _with_options(evolve(state, missing=state.missing - {kind}))
        case RoutesRefused(hosts, message):
            return state, [each for host in hosts for each in _refused(state, host, message)]
        case Stopping():
            return state, []
        case _:
            return state, []


def _refused(state: RoutingState, host: str, message: str) -> list[Intent]:
    """What the proxy did not take, said of each Ingress of a host, or of the entry of a stream."""
    trouble = state.streams.refused(host, message)
    if trouble is not None:
        return [_warn(f"ConfigMap {trouble.config_map}", "ProxyRefused", str(trouble))]
    keys = sorted(state.hosts.get(host, Map()))
    return [_warn(f"Ingress {key}", "ProxyRefused", f"{host or '*'}: {message}") for key in keys]


def _warn(about: str, reason: str, message: str) -> RecordEvent:
    return RecordEvent(about=about, type=EventType.WARNING, reason=reason, message=message)


# Ingresses.


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


def _see(state: RoutingState, ingress: Ingress) -> RoutingState:
    before, entry = state.ingresses.get(ingress.key), state.entries.get(ingress.key)
    if before is not None and before != ingress and entry is not None and evolve(before, held=ingress.held) == ingress:
        # Its status alone: what every write of ours brings back.
        entries = state.entries.set(ingress.key, evolve(entry, ingress=ingress))
        return evolve(state, ingresses=state.ingresses.set(ingress.key, ingress), entries=entries)
    namespace = ingress.key.namespace
    its = state.of_namespace.get(namespace, _NO_ONE).set(ingress.key, None)
    of_namespace = state.of_namespace.set(namespace, its) if before is None else state.of_namespace
    state = evolve(state, ingresses=state.ingresses.set(ingress.key, ingress), of_namespace=of_namespace)
    if not _is_ours(state, ingress):
        return _link(state, ingress.key, None)
    prefix = state.settings.annotations_prefix
    policies, findings = read(ingress.annotations, namespace, prefix, snippets=state.options.snippets)
    return _link(state, ingress.key, Entry(ingress, policies), findings)


def _forget(state: RoutingState, key: ObjectKey) -> RoutingState:
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
        parent = _parent(host)
        if parent and not left:
            its = children[parent].delete(host)
            children = children.set(parent, its) if its else children.delete(parent)
    for host in new - old:
        hosts = hosts.set(host, hosts.get(host, _NO_ONE).set(key, None))
        parent = _parent(host)
        if parent:
            children = children.set(parent, children.get(parent, _NOBODY).set(host, None))
    of_all = state.findings.set(key, findings) if entry is not None else state.findings.delete(key)
    fresh = evolve(state, entries=entries, findings=of_all, hosts=hosts, children=children)
    touched = old | new
    # Whether a wildcard has TLS is all that the hosts right under it look at.
    for host in [each for each in touched if _covers(state, each) is not _covers(fresh, each)]:
        touched |= set(children.get(host, _NOBODY))
    return _soil(fresh, touched)


def _all_again(state: RoutingState, keys: Iterable[ObjectKey]) -> RoutingState:
    """Each of these Ingresses may have become ours, or nobody's: a class or a namespace came or went, which is rare."""
    for ingress in [state.ingresses[key] for key in keys]:
        if _is_ours(state, ingress) is not (ingress.key in state.entries):
            state = _see(state, ingress)
    return state


def _covers(state: RoutingState, host: str) -> bool:
    """Whether this is a wildcard with TLS."""
    return host.startswith("*") and any(state.entries[key].ingress.tls for key in state.hosts.get(host, _NO_ONE))


def _parent(host: str) -> str:
    return "" if host.startswith("*") or "." not in host else "*." + host.partition(".")[2]


# What is to be looked at again.


def _soil(state: RoutingState, hosts: Iterable[str]) -> RoutingState:
    dirty = state.dirty
    for host in sorted(hosts):
        dirty = dirty.set(host, None)
    return state if dirty is state.dirty else evolve(state, dirty=dirty)


def _touch(state: RoutingState, kind: str, key: ObjectKey) -> RoutingState:
    return _soil(state, state.users.get((kind, key), _NOBODY))


def _with_backing(state: RoutingState, backing: Backing) -> RoutingState:
    """After a change of Services or endpoints, which the upstreams there have in them already."""
    if backing is state.backing:
        return state
    key, before = state.settings.default_backend, state.backing
    state = evolve(state, backing=backing)
    changed = next((each for each in state.streams.services if not backing.same(before, each)), None)
    if changed is not None:
        state = evolve(state, streams=streams.touch(state.streams, changed))
    return state if key is None or backing.same(before, key) else _default_backend(state)


def _with_options(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    """The options with what they name; what of that is not there is said once all has been listed."""
    options, problems = resolve(state.written, state.config_maps, state.secrets)
    state = _put_options(state, options)
    about = state.settings.config_map
    if state.missing or about is None:
        return state, []
    new = [text for text in problems if text not in state.said_of_options]
    return evolve(state, said_of_options=problems), [_warn(f"ConfigMap {about}", "BadOption", text) for text in new]


def _put_options(state: RoutingState, options: Options) -> RoutingState:
    if options == state.options:
        return state
    anew = options.snippets != state.options.snippets
    state = evolve(state, options=options, table=evolve(state.table, options=options))
    if anew:  # what an annotation comes to hangs on this one
        for entry in state.entries.values():
            state = _see(state, entry.ingress)
    return _soil(_default_backend(state), state.hosts)


def _secrets(state: RoutingState, key: ObjectKey, secrets: Map[ObjectKey, Secret]) -> tuple[RoutingState, list[Intent]]:
    state = evolve(state, secrets=secrets)
    if key == state.settings.default_certificate:
        found = secrets.get(key)
        pair = found.certificate if found is not None and isinstance(found.certificate, Certificate) else None
        state = evolve(state, table=evolve(state.table, default_certificate=pair))
    state = _touch(state, "secret", key)
    return _with_options(state) if key in named_by(state.written) else (state, [])


def _see_map(state: RoutingState, found: ConfigMap) -> tuple[RoutingState, list[Intent]]:
    said: list[Intent] = []
    if found.key == state.settings.config_map:
        options, problems = read_options(found.data)
        said = [_warn(f"ConfigMap {found.key}", "BadOption", text) for text in problems]
        state = evolve(state, written=options)
    before, maps = state.config_maps.get(found.key), state.config_maps
    if sum(len(name) + len(text) for name, text in found.data.items()) <= MOST_OF_A_MAP:
        maps = maps.set(found.key, found)
    elif before is not None:
        maps = maps.delete(found.key)
    state, more = _maps(state, found.key, maps)
    return state, [*said, *more]


def _maps(state: RoutingState, key: ObjectKey, maps: Map[ObjectKey, ConfigMap]) -> tuple[RoutingState, list[Intent]]:
    if maps.get(key) != state.config_maps.get(key):
        state = _touch(evolve(state, config_maps=maps), "config map", key)
    if key == state.settings.config_map or key in named_by(state.written):
        return _with_options(state)
    return state, []


def _default_backend(state: RoutingState) -> RoutingState:
    """The global default backend by its first port; while it has no peer there is none, and 404 is answered."""
    key, backing = state.settings.default_backend, state.backing
    service = backing.service(key) if key is not None else None
    target: Target | None = None
    if service is not None and service.named_ports:
        backend = Backend(service.key.name, str(service.named_ports[0].number))
        target = make_target(state.options, service.key.namespace, backend, Policies())
        if not backing.served(target).peers:
            target = None
    before = state.default_target
    if target == before:
        return state
    backing = backing.exchanged([before] if before is not None else [], [target] if target is not None else [])
    name = target.id if target is not None else None
    table, old = evolve(state.table, default_upstream=name), state.table.default_upstream
    state = evolve(state, table=table, backing=backing, default_target=target)
    return _soil(state, state.hosts) if name != old else state


# Building.


def _build_some(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
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


def _build_streams(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
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
        _warn(f"ConfigMap {each.config_map}", "BadEntry", str(each)) for each in new
    ]


def _build(state: RoutingState, host: str) -> tuple[RoutingState, list[Intent]]:
    view = _View(state)
    keys = state.hosts.get(host, _NO_ONE)
    entries = [state.entries[key] for key in keys]
    covered = _covers(state, _parent(host))
    fresh: Built | None = None
    if any(entry.policies.canary is None for entry in entries):
        fresh = build_site(host, entries, view, covered=covered, default=state.table.default_upstream)
    old = state.built.get(host)
    state = _with_users(state, host, frozenset(view.noted))
    state = _with_built(state, host, old, fresh)
    return _speak(state, keys, fresh)


def _with_users(state: RoutingState, host: str, noted: frozenset[Dependency]) -> RoutingState:
    before = state.looked_at.get(host, frozenset())
    if noted == before:
        return state
    users: Map[Any, Any] = state.users
    for each in before - noted:
        left = users[each].delete(host)
        users = users.set(each, left) if left else users.delete(each)
    for each in noted - before:
        users = users.set(each, users.get(each, _NOBODY).set(host, None))
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


def _speak_of_all(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    """What is wrong with each Ingress; of those whose hosts are to be looked at again it is said then."""
    intents: list[Intent] = []
    for host in sorted(state.hosts):
        if host not in state.dirty:
            state, said = _speak(state, state.hosts[host], state.built.get(host))
            intents += said
    return state, intents


def _speak(state: RoutingState, keys: Iterable[ObjectKey], fresh: Built | None) -> tuple[RoutingState, list[Intent]]:
    """Each trouble of an Ingress once, as an Event of its own."""
    intents: list[Intent] = []
    said = state.said
    for key in sorted(keys):
        troubles = [
            f"{each.annotation}: {each.state.value}: {each.message}"
            for each in state.findings[key]
            if each.state is not State.SUPPORTED
        ]
        troubles += [message for about, message in ((*fresh.problems, *fresh.lacking) if fresh else ()) if about == key]
        known = said.get(key, frozenset())
        new = [text for text in dict.fromkeys(troubles) if text not in known]
        intents += [_warn(f"Ingress {key}", "Rejected" if "denied" in text else "Ignored", text) for text in new]
        if new:
            said = said.set(key, known | set(new))
    return state if said is state.said else evolve(state, said=said), intents

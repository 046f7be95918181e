"""The Ingress brain: objects -> `RoutingTable`, host by host.

An event names what may have changed; the hosts that looked at it are built anew, at most `MOST` in a step, and the
table goes out when none is left and everything has been listed once. A host that comes out the same is the same object.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import Factory, evolve, field, frozen
from immutables import Map

from lbcore import streams
from lbcore.annotations.named import named_by, resolve
from lbcore.annotations.options import read_options
from lbcore.annotations.rules import Finding, State
from lbcore.annotations.table import PREFIX, read
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
from lbcore.model import EndpointSlice, LabelSelector, Namespace, Service, SliceKey
from lbcore.proxy import Options, Policies, RoutingTable, Upstream
from lbcore.publishing import PublishSettings, PublishState, clear, hear, publish
from lbcore.sites import Built, Entry, build_site, is_host, make_upstream
from lbcore.streams import StreamSettings, StreamState, Trouble

__all__ = ["NEEDS", "RoutingSettings", "RoutingState", "hosts_of", "needs", "step", "why_not_served"]

NEEDS = frozenset({Kind.INGRESSES, Kind.INGRESS_CLASSES, Kind.SERVICES, Kind.SLICES, Kind.SECRETS, Kind.CONFIG_MAPS})
MOST_OF_A_MAP = (
    1 << 16
)  # characters of a ConfigMap that an Ingress may name: larger ones are something else, and not kept
MOST = 100  # hosts in a step: about 10 ms

Dependency = tuple[str, ObjectKey]
_NOBODY: Map[str, None] = Map()


@frozen(kw_only=True)
class RoutingSettings:
    """What the command line says, with ingress-nginx's names and defaults."""

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
    namespaces: Map[str, Namespace] = field(factory=Map)
    ingresses: Map[ObjectKey, Ingress] = field(factory=Map)
    entries: Map[ObjectKey, Entry] = field(factory=Map)
    findings: Map[ObjectKey, tuple[Finding, ...]] = field(factory=Map)
    classes: Map[str, IngressClass] = field(factory=Map)
    services: Map[ObjectKey, Service] = field(factory=Map)
    slices: Map[ObjectKey, Map[SliceKey, EndpointSlice]] = field(factory=Map)
    slice_owner: Map[SliceKey, ObjectKey] = field(factory=Map)
    secrets: Map[ObjectKey, Secret] = field(factory=Map)
    config_maps: Map[ObjectKey, ConfigMap] = field(factory=Map)
    hosts: Map[str, Map[ObjectKey, None]] = field(factory=Map)
    children: Map[str, Map[str, None]] = field(factory=Map)  # `*.d` -> the hosts right under d
    users: Map[Dependency, Map[str, None]] = field(factory=Map)
    built: Map[str, Built] = field(factory=Map)
    looked_at: Map[str, frozenset[Dependency]] = field(factory=Map)
    used_by: Map[str, int] = field(factory=Map)  # upstream's id -> hosts
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
        service = self._state.services.get(key)
        if service is not None and service.type == "ExternalName" and self._state.settings.no_external_name:
            return None
        return service

    def slices(self, key: ObjectKey) -> Iterable[EndpointSlice]:
        return [each for _, each in sorted(self._state.slices.get(key, Map()).items())]

    def secret(self, key: ObjectKey) -> Secret | None:
        self.noted.add(("secret", key))
        return self._state.secrets.get(key)

    def config_map(self, key: ObjectKey) -> ConfigMap | None:
        self.noted.add(("config map", key))
        return self._state.config_maps.get(key)


def step(state: RoutingState, event: Event, now: float) -> Step[RoutingState]:
    """What one event changes; `now` is looked at for when statuses are to be compared again."""
    state = evolve(state, publishing=hear(state.publishing, event), streams=streams.hear(state.streams, event))
    state, said = _take(state, event)
    state, more = _build_some(state)
    state, about_streams = _build_streams(state)
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
    return evolve(state, publishing=publishing), intents, wake_at


def _take(state: RoutingState, event: Event) -> tuple[RoutingState, list[Intent]]:
    match event:
        case IngressSeen(ingress):
            return _see(state, ingress), []
        case IngressGone(key):
            return _forget(state, key), []
        case IngressClassSeen(found):
            return _all_again(evolve(state, classes=state.classes.set(found.name, found))), []
        case IngressClassGone(name) if name in state.classes:
            return _all_again(evolve(state, classes=state.classes.delete(name))), []
        case ServiceSeen(service):
            return _touch(evolve(state, services=state.services.set(service.key, service)), "service", service.key), []
        case ServiceGone(key) if key in state.services:
            return _touch(evolve(state, services=state.services.delete(key)), "service", key), []
        case SliceSeen(found):
            return _see_slice(state, found), []
        case SliceGone(key):
            return _forget_slice(state, key), []
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
            return _all_again(evolve(state, namespaces=state.namespaces.set(found.name, found))), []
        case NamespaceGone(name) if name in state.namespaces:
            return _all_again(evolve(state, namespaces=state.namespaces.delete(name))), []
        case LeadershipSeen(leading):
            # What was wanted before is forgotten when another leads, the table with it; who leads says all anew.
            state = evolve(state, said=Map(), said_of_streams=(), sent=None)
            return _soil(state, state.hosts) if leading else state, []
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
    state = _unlink(evolve(state, ingresses=state.ingresses.set(ingress.key, ingress)), ingress.key)
    if not _is_ours(state, ingress):
        return state
    prefix = state.settings.annotations_prefix
    policies, findings = read(ingress.annotations, ingress.key.namespace, prefix, snippets=state.options.snippets)
    hosts, children = state.hosts, state.children
    for host in hosts_of(ingress):
        hosts = hosts.set(host, hosts.get(host, Map()).set(ingress.key, None))
        parent = _parent(host)
        if parent:
            children = children.set(parent, children.get(parent, _NOBODY).set(host, None))
    state = evolve(
        state,
        entries=state.entries.set(ingress.key, Entry(ingress, policies)),
        findings=state.findings.set(ingress.key, findings),
        hosts=hosts,
        children=children,
    )
    return _soil(state, hosts_of(ingress))


def _forget(state: RoutingState, key: ObjectKey) -> RoutingState:
    if key not in state.ingresses:
        return state
    state = _unlink(state, key)
    said = state.said.delete(key) if key in state.said else state.said
    return evolve(state, ingresses=state.ingresses.delete(key), said=said)


def _unlink(state: RoutingState, key: ObjectKey) -> RoutingState:
    """Take an Ingress out of its hosts."""
    entry = state.entries.get(key)
    if entry is None:
        return state
    hosts, gone = state.hosts, hosts_of(entry.ingress)
    for host in gone:
        left = hosts[host].delete(key)
        hosts = hosts.set(host, left) if left else hosts.delete(host)
    state = evolve(state, hosts=hosts, entries=state.entries.delete(key), findings=state.findings.delete(key))
    return _soil(state, gone)


def _all_again(state: RoutingState) -> RoutingState:
    """Every Ingress anew: an IngressClass came or went, which is rare."""
    for ingress in state.ingresses.values():
        if _is_ours(state, ingress) is not (ingress.key in state.entries):
            state = _see(state, ingress)
    return state


def _parent(host: str) -> str:
    return "" if host.startswith("*") or "." not in host else "*." + host.partition(".")[2]


# What is to be looked at again.


def _soil(state: RoutingState, hosts: Iterable[str]) -> RoutingState:
    dirty = state.dirty
    for host in sorted(hosts):
        dirty = dirty.set(host, None)
        for child in state.children.get(host, _NOBODY) if host.startswith("*") else ():
            dirty = dirty.set(child, None)
    return evolve(state, dirty=dirty)


def _touch(state: RoutingState, kind: str, key: ObjectKey) -> RoutingState:
    if kind == "service" and key == state.settings.default_backend:
        state = _default_backend(state)
    if kind == "service":
        state = evolve(state, streams=streams.touch(state.streams, key))
    return _soil(state, state.users.get((kind, key), _NOBODY))


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
    return _soil(state, state.hosts)


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


def _see_slice(state: RoutingState, found: EndpointSlice) -> RoutingState:
    before = state.slice_owner.get(found.key)
    if before is not None and before != found.service_key:
        state = _forget_slice(state, found.key)
    owner = found.service_key
    slices = state.slices.set(owner, state.slices.get(owner, Map()).set(found.key, found))
    state = evolve(state, slices=slices, slice_owner=state.slice_owner.set(found.key, owner))
    return _touch(state, "service", owner)


def _forget_slice(state: RoutingState, key: SliceKey) -> RoutingState:
    owner = state.slice_owner.get(key)
    if owner is None:
        return state
    left = state.slices[owner].delete(key)
    slices = state.slices.set(owner, left) if left else state.slices.delete(owner)
    return _touch(evolve(state, slices=slices, slice_owner=state.slice_owner.delete(key)), "service", owner)


def _default_backend(state: RoutingState) -> RoutingState:
    """The global default backend by its first port; while it has no peer there is none, and 404 is answered."""
    key = state.settings.default_backend
    service = state.services.get(key) if key is not None else None
    upstreams, old = state.table.upstreams, state.table.default_upstream
    used_by = state.used_by
    if old is not None:
        used_by, upstreams = _release(used_by, upstreams, old)
    new: str | None = None
    if service is not None and service.named_ports:
        backend = Backend(service.key.name, str(service.named_ports[0].number))
        found = make_upstream(_View(state), service.key.namespace, backend, Policies())
        if found.peers:
            new = found.id
            upstreams, used_by = upstreams.set(new, found), used_by.set(new, used_by.get(new, 0) + 1)
    table = evolve(state.table, upstreams=upstreams, default_upstream=new)
    state = evolve(state, table=table, used_by=used_by)
    return _soil(state, state.hosts) if new != old else state


def _release(
    used_by: Map[str, int], upstreams: Map[str, Upstream], name: str
) -> tuple[Map[str, int], Map[str, Upstream]]:
    if used_by[name] > 1:
        return used_by.set(name, used_by[name] - 1), upstreams
    return used_by.delete(name), upstreams.delete(name)


# Building.


def _build_some(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    if state.missing or not state.dirty:
        return state, []
    intents: list[Intent] = []
    for host in [host for host, _ in zip(state.dirty, range(MOST), strict=False)]:
        state, said = _build(evolve(state, dirty=state.dirty.delete(host)), host)
        intents += said
    return state, intents


def _build_streams(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    """All of them at once: a few hundred at most. What is wrong with an entry is an Event of its ConfigMap."""
    made = state.streams
    if state.missing:
        return state, []
    if made.dirty:
        made = streams.build(made, _View(state), state.settings.namespace)
        state = evolve(state, streams=made, table=evolve(state.table, streams=made.streams))
    if made.troubles == state.said_of_streams:
        return state, []
    new = [each for each in made.troubles if each not in state.said_of_streams]
    return evolve(state, said_of_streams=made.troubles), [
        _warn(f"ConfigMap {each.config_map}", "BadEntry", str(each)) for each in new
    ]


def _build(state: RoutingState, host: str) -> tuple[RoutingState, list[Intent]]:
    view = _View(state)
    keys = state.hosts.get(host, Map())
    entries = [state.entries[key] for key in keys]
    parent = state.hosts.get(_parent(host), Map()) if _parent(host) else Map()
    covered = any(state.entries[key].ingress.tls for key in parent)
    fresh: Built | None = None
    if any(entry.policies.canary is None for entry in entries):
        fresh = build_site(host, entries, view, covered=covered, default=state.table.default_upstream)
    old = state.built.get(host)
    state = _with_users(state, host, frozenset(view.noted))
    state = _with_built(state, host, old, fresh)
    return _speak(state, list(keys), fresh)


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
    sites, upstreams, used_by = state.table.sites, state.table.upstreams, state.used_by
    for each in fresh.upstreams if fresh else ():
        used_by = used_by.set(each.id, used_by.get(each.id, 0) + 1)
        if upstreams.get(each.id) != each:
            upstreams = upstreams.set(each.id, each)
    for each in old.upstreams if old else ():
        used_by, upstreams = _release(used_by, upstreams, each.id)
    if fresh is None:
        sites, built = sites.delete(host), state.built.delete(host)
    else:
        built = state.built.set(host, fresh)
        if old is None or old.site != fresh.site:
            sites = sites.set(host, fresh.site)
    return evolve(state, built=built, used_by=used_by, table=evolve(state.table, sites=sites, upstreams=upstreams))


def _speak(state: RoutingState, keys: list[ObjectKey], fresh: Built | None) -> tuple[RoutingState, list[Intent]]:
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
    return evolve(state, said=said), intents

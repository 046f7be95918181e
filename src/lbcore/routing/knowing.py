"""What does an event change? What is known, and which hosts are to be looked at again for it.

No host looks at endpoints: what they change are the upstreams of their Service. What the options name, and the global
default backend, is worked out here, too: all hosts hang on it.
"""

from __future__ import annotations

from attrs import evolve
from immutables import Map

from lbcore import streams
from lbcore.annotations.named import named_by, resolve
from lbcore.annotations.options import read_options
from lbcore.backing import Backing
from lbcore.events import (
    ConfigMapGone,
    ConfigMapSeen,
    Event,
    IngressClassGone,
    IngressClassSeen,
    IngressGone,
    IngressSeen,
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
)
from lbcore.ingress import Backend, Certificate, ConfigMap, ObjectKey, Secret
from lbcore.intents import Intent
from lbcore.model import Namespace
from lbcore.proxy import Options, Policies
from lbcore.routing.hosting import all_again, forget, see, soil
from lbcore.routing.reporting import refused, speak_of_all, warn
from lbcore.routing.state import NO_HOSTS, NO_INGRESSES, RoutingState
from lbcore.upstreams import Target, make_target

__all__ = ["note"]

# Characters of a ConfigMap that an Ingress may name: larger ones are something else, and not kept.
MOST_OF_A_MAP = 1 << 16


def note(state: RoutingState, event: Event) -> tuple[RoutingState, list[Intent]]:
    """What is known after an event, and what is to be said of it at once."""
    match event:
        case IngressSeen(ingress):
            return see(state, ingress), []
        case IngressGone(key):
            return forget(state, key), []
        case IngressClassSeen(found):
            return all_again(evolve(state, classes=state.classes.set(found.name, found)), state.ingresses), []
        case IngressClassGone(name) if name in state.classes:
            return all_again(evolve(state, classes=state.classes.delete(name)), state.ingresses), []
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
            return _forget_map(state, key)
        case NamespaceSeen(found):
            return _namespaces(state, found.name, state.namespaces.set(found.name, found)), []
        case NamespaceGone(name) if name in state.namespaces:
            return _namespaces(state, name, state.namespaces.delete(name)), []
        case LeadershipSeen(leading):
            # What was wanted before is forgotten when another leads, the table with it; who leads says all anew.
            state = evolve(state, said=Map(), said_of_streams=(), sent=None)
            return speak_of_all(state) if leading else (state, [])
        case Listed(kind):
            return _with_options(evolve(state, missing=state.missing - {kind}))
        case RoutesRefused(hosts, message):
            return state, [each for host in hosts for each in refused(state, host, message)]
        case _:
            return state, []


def _namespaces(state: RoutingState, name: str, namespaces: Map[str, Namespace]) -> RoutingState:
    return all_again(evolve(state, namespaces=namespaces), state.of_namespace.get(name, NO_INGRESSES))


def _touch(state: RoutingState, kind: str, key: ObjectKey) -> RoutingState:
    return soil(state, state.users.get((kind, key), NO_HOSTS))


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
    return evolve(state, said_of_options=problems), [warn(f"ConfigMap {about}", "BadOption", text) for text in new]


def _put_options(state: RoutingState, options: Options) -> RoutingState:
    if options == state.options:
        return state
    anew = options.snippets != state.options.snippets
    state = evolve(state, options=options, table=evolve(state.table, options=options))
    if anew:  # what an annotation comes to hangs on this one
        for entry in state.entries.values():
            state = see(state, entry.ingress)
    return soil(_default_backend(state), state.hosts)


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
        said = [warn(f"ConfigMap {found.key}", "BadOption", text) for text in problems]
        state = evolve(state, written=options)
    before, maps = state.config_maps.get(found.key), state.config_maps
    if sum(len(name) + len(text) for name, text in found.data.items()) <= MOST_OF_A_MAP:
        maps = maps.set(found.key, found)
    elif before is not None:
        maps = maps.delete(found.key)
    state, more = _maps(state, found.key, maps)
    return state, [*said, *more]


def _forget_map(state: RoutingState, key: ObjectKey) -> tuple[RoutingState, list[Intent]]:
    if key == state.settings.config_map:
        state = evolve(state, written=Options())
    elif key not in state.config_maps:
        return state, []
    maps = state.config_maps
    return _maps(state, key, maps.delete(key) if key in maps else maps)


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
    return soil(state, state.hosts) if name != old else state

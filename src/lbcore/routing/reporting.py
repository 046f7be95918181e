"""What is wrong with Ingresses, with the options and with streams: Events of theirs, each once."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve
from immutables import Map

from lbcore.annotations.rules import State
from lbcore.ingress import ObjectKey
from lbcore.intents import EventType, Intent, RecordEvent
from lbcore.routing.state import RoutingState
from lbcore.sites import Built

__all__ = ["refused", "speak", "speak_of_all", "warn"]


def warn(about: str, reason: str, message: str) -> RecordEvent:
    """A warning about an object, such as `Ingress shop/web`."""
    return RecordEvent(about=about, type=EventType.WARNING, reason=reason, message=message)


def refused(state: RoutingState, host: str, message: str) -> list[Intent]:
    """What the proxy did not take, said of each Ingress of a host, or of the entry of a stream."""
    trouble = state.streams.refused(host, message)
    if trouble is not None:
        return [warn(f"ConfigMap {trouble.config_map}", "ProxyRefused", str(trouble))]
    keys = sorted(state.hosts.get(host, Map()))
    return [warn(f"Ingress {key}", "ProxyRefused", f"{host or '*'}: {message}") for key in keys]


def speak_of_all(state: RoutingState) -> tuple[RoutingState, list[Intent]]:
    """What is wrong with each Ingress; of those whose hosts are to be looked at again it is said then."""
    intents: list[Intent] = []
    for host in sorted(state.hosts):
        if host not in state.dirty:
            state, said = speak(state, state.hosts[host], state.built.get(host))
            intents += said
    return state, intents


def speak(state: RoutingState, keys: Iterable[ObjectKey], fresh: Built | None) -> tuple[RoutingState, list[Intent]]:
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
        intents += [warn(f"Ingress {key}", "Rejected" if "denied" in text else "Ignored", text) for text in new]
        if new:
            said = said.set(key, known | set(new))
    return state if said is state.said else evolve(state, said=said), intents

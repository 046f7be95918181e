"""Which addresses does an Ingress's status show, and which statuses are to be written now?

Addresses come, as with ingress-nginx, from the command line, else from a Service (of type LoadBalancer: those that its
controller gave it), else from the nodes on which this controller runs. Who leads writes; a status that somebody else
has changed is looked at again after `interval`, so that two controllers of one Ingress do not race.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.events import (
    Event,
    IngressClassGone,
    IngressClassSeen,
    IngressSeen,
    InstancesSeen,
    LeadershipSeen,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    ServiceGone,
    ServiceSeen,
    Stopping,
)
from lbcore.ingress import Ingress, ObjectKey
from lbcore.intents import PublishIngress
from lbcore.model import Node, Service

__all__ = ["PublishSettings", "PublishState", "addresses_of", "clear", "hear", "publish"]

_MOST = 200  # statuses in a step


class Served(Protocol):
    """An Ingress that is served, with whatever else is known of it."""

    @property
    def ingress(self) -> Ingress:
        """As it was told last."""
        ...


@frozen(kw_only=True)
class PublishSettings:
    """Where addresses come from; with none of the three nothing is written.

    `elected`: leadership is told, and only who leads writes. `nodes`: those on which instances run. `internal`: their
    InternalIP even where they have an ExternalIP. `instance` is our own name among the instances. `clear`: the last
    instance that ends takes the addresses away. `interval` is in seconds.
    """

    elected: bool = False
    addresses: tuple[str, ...] = ()
    service: ObjectKey | None = None
    nodes: bool = False
    internal: bool = False
    instance: str = ""
    clear: bool = True
    interval: float = 60.0


@frozen(kw_only=True)
class PublishState:
    """What was told, and what was asked for: by Ingress its uid and the addresses that it was to show."""

    settings: PublishSettings = PublishSettings()
    leading: bool = False
    ending: bool = False
    service: Service | None = None
    nodes: Map[str, Node] = field(factory=Map)
    instances: InstancesSeen | None = None
    shown: tuple[str, ...] | None = None
    written: Map[ObjectKey, tuple[str, tuple[str, ...]]] = field(factory=Map)
    waiting: Map[ObjectKey, None] = field(factory=Map)
    look_at: float = 0.0

    @property
    def leads(self) -> bool:
        """Whether it is ours to write."""
        return self.leading or not self.settings.elected


def addresses_of(state: PublishState) -> tuple[str, ...] | None:
    """What every Ingress is to show, sorted; None while nobody knows, or nobody wants it shown."""
    settings = state.settings
    if settings.addresses:
        return tuple(sorted(dict.fromkeys(settings.addresses)))
    if settings.service is not None:
        return None if state.service is None else tuple(sorted(dict.fromkeys(_of_service(state.service))))
    if not settings.nodes or state.instances is None or not state.instances.nodes:
        # None is ready, as when the only one is being replaced: what is shown stays until it is known better.
        return None
    found: set[str] = set()
    for name in state.instances.nodes:
        node = state.nodes.get(name)
        if node is not None:
            outside = () if settings.internal else node.external
            found |= {str(each) for each in outside or node.addresses}
    return tuple(sorted(found))


def _of_service(service: Service) -> Iterable[str]:
    match service.type:
        case "LoadBalancer":
            return (*map(str, service.held), *service.external_ips)
        case "ExternalName":
            return (service.external_name,)
        case "NodePort" if service.external_ips:
            return service.external_ips
        case _:
            return (each for each in service.cluster_ips if each != "None")


def hear(state: PublishState, event: Event) -> PublishState:
    """What an event says about addresses, and who writes them."""
    match event:
        case ServiceSeen(service) if service.key == state.settings.service:
            return evolve(state, service=service)
        case ServiceGone(key) if key == state.settings.service:
            return evolve(state, service=None)
        case NodeSeen(node):
            return evolve(state, nodes=state.nodes.set(node.name, node))
        case NodeGone(name) if name in state.nodes:
            return evolve(state, nodes=state.nodes.delete(name))
        case InstancesSeen():
            return evolve(state, instances=event)
        case LeadershipSeen(leading):
            # Whoever led before may have written others: everything is looked at anew.
            return evolve(state, leading=leading, shown=None, written=Map(), waiting=Map())
        case IngressSeen(ingress):
            return evolve(state, waiting=state.waiting.set(ingress.key, None))
        case IngressClassSeen() | IngressClassGone() | NamespaceSeen() | NamespaceGone():
            return evolve(state, look_at=0.0)  # which Ingresses are ours may change
        case Stopping():
            return evolve(state, ending=True)  # what is cleared now comes back as a change
        case _:
            return state


def publish(
    state: PublishState, served: Mapping[ObjectKey, Served], now: float
) -> tuple[PublishState, list[PublishIngress], float | None]:
    """The statuses to write now, at most 200, and when to ask again."""
    wanted = addresses_of(state)
    if wanted is None or not state.leads or state.ending:
        return state, [], None
    waiting, written, look_at = state.waiting, state.written, state.look_at
    if wanted != state.shown or now >= look_at:
        waiting, written, look_at = Map(dict.fromkeys(sorted(served))), Map(), now + state.settings.interval
    intents: list[PublishIngress] = []
    for key in [key for key, _ in zip(waiting, range(_MOST), strict=False)]:
        waiting = waiting.delete(key)
        entry = served.get(key)
        if entry is None or tuple(sorted(entry.ingress.held)) == wanted:
            written = written.delete(key) if key in written else written
        elif written.get(key) != (entry.ingress.uid, wanted):
            written = written.set(key, (entry.ingress.uid, wanted))
            intents.append(PublishIngress(key=key, uid=entry.ingress.uid, addresses=wanted))
    state = evolve(state, shown=wanted, waiting=waiting, written=written, look_at=look_at)
    return state, intents, now if waiting else look_at


def clear(state: PublishState, served: Mapping[ObjectKey, Served]) -> list[PublishIngress]:
    """What the last instance writes when it ends: nobody answers at those addresses any more."""
    settings, shown = state.settings, state.shown
    if not settings.clear or not state.leads or shown is None or state.instances is None or not settings.instance:
        return []
    if state.instances.running - {settings.instance}:
        return []
    return [
        PublishIngress(key=key, uid=served[key].ingress.uid, addresses=())
        for key in sorted(served)
        if tuple(sorted(served[key].ingress.held)) == shown or key in state.written
    ]

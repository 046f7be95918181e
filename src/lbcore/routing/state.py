"""What the Ingress brain knows, and has made of it."""

from __future__ import annotations

from attrs import Factory, field, frozen
from immutables import Map

from lbcore.annotations.rules import Finding
from lbcore.annotations.table import PREFIX
from lbcore.backing import Backing
from lbcore.events import Kind
from lbcore.ingress import ConfigMap, Ingress, IngressClass, ObjectKey, Secret
from lbcore.model import LabelSelector, Namespace
from lbcore.proxy import Options, RoutingTable
from lbcore.publishing import PublishSettings, PublishState
from lbcore.sites import Built, Entry
from lbcore.streams import StreamSettings, StreamState, Trouble
from lbcore.upstreams import Target

__all__ = ["NEEDS", "NO_HOSTS", "NO_INGRESSES", "Dependency", "RoutingSettings", "RoutingState", "needs"]

NEEDS = frozenset({Kind.INGRESSES, Kind.INGRESS_CLASSES, Kind.SERVICES, Kind.SLICES, Kind.SECRETS, Kind.CONFIG_MAPS})
MOST = 100  # hosts in a step: about 10 ms

Dependency = tuple[str, ObjectKey]  # what a host looked at: a "service", "secret" or "config map"
NO_HOSTS: Map[str, None] = Map()
NO_INGRESSES: Map[ObjectKey, None] = Map()


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

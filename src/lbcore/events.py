"""What a brain is told: a closed union of frozen classes.

Sources project the world to these and drop an event that equals their last for its subject.
`Listed(kind)` says that everything of a kind that existed at the start has been told: before
that, a brain takes notes but decides nothing new.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from lbcore.addresses import Address
from lbcore.bfd import WatchStatus
from lbcore.config import ConfigDocument, Origin
from lbcore.errors import Problem
from lbcore.ingress import ConfigMap, Ingress, IngressClass, ObjectKey, Secret
from lbcore.intents import Intent
from lbcore.model import EndpointSlice, Link, Namespace, Node, Service, ServiceKey, SliceKey
from lbcore.routes import PeerStatus

__all__ = [
    "AddressHeard",
    "AnsweringSeen",
    "Applied",
    "ConfigGone",
    "ConfigMapGone",
    "ConfigMapSeen",
    "ConfigSeen",
    "DrainsSeen",
    "Event",
    "Failed",
    "IngressClassGone",
    "IngressClassSeen",
    "IngressGone",
    "IngressSeen",
    "InstancesSeen",
    "Kind",
    "LeadershipSeen",
    "LinksSeen",
    "Listed",
    "ManifestRefused",
    "MembersSeen",
    "NamespaceGone",
    "NamespaceSeen",
    "NodeGone",
    "NodeSeen",
    "PeerSeen",
    "RoutesRefused",
    "SecretGone",
    "SecretSeen",
    "ServiceGone",
    "ServiceSeen",
    "SliceGone",
    "SliceSeen",
    "SpeakerPodsSeen",
    "Stopping",
    "Tick",
    "WatchSeen",
]


class Kind(Enum):
    """What a source lists before it follows."""

    SERVICES = "services"
    SLICES = "endpointslices"
    NODES = "nodes"
    NAMESPACES = "namespaces"
    CONFIG = "config"
    MEMBERS = "members"
    LINKS = "links"
    INGRESSES = "ingresses"
    INGRESS_CLASSES = "ingressclasses"
    SECRETS = "secrets"
    CONFIG_MAPS = "configmaps"


@frozen
class ServiceSeen:
    """A Service exists and looks like this."""

    service: Service

    @property
    def subject(self) -> tuple[str, str]:
        """The Service."""
        return ("service", str(self.service.key))


@frozen
class ServiceGone:
    """A Service was deleted; `uid` tells it from one re-created under its name."""

    key: ServiceKey
    uid: str = ""

    @property
    def subject(self) -> tuple[str, str]:
        """The Service."""
        return ("service", str(self.key))


@frozen
class SliceSeen:
    """An EndpointSlice exists and looks like this."""

    slice: EndpointSlice

    @property
    def subject(self) -> tuple[str, str]:
        """The slice."""
        return ("slice", str(self.slice.key))


@frozen
class SliceGone:
    """An EndpointSlice was deleted."""

    key: SliceKey

    @property
    def subject(self) -> tuple[str, str]:
        """The slice."""
        return ("slice", str(self.key))


@frozen
class NodeSeen:
    """A Node exists and looks like this."""

    node: Node

    @property
    def subject(self) -> tuple[str, str]:
        """The Node."""
        return ("node", self.node.name)


@frozen
class NodeGone:
    """A Node was deleted."""

    name: str

    @property
    def subject(self) -> tuple[str, str]:
        """The Node."""
        return ("node", self.name)


@frozen
class DrainsSeen:
    """The nodes that are drained by a mark of their own, beside those whose Node says so."""

    names: frozenset[str]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of marks."""
        return ("drains", "")


@frozen
class NamespaceSeen:
    """A Namespace exists and looks like this."""

    namespace: Namespace

    @property
    def subject(self) -> tuple[str, str]:
        """The Namespace."""
        return ("namespace", self.namespace.name)


@frozen
class NamespaceGone:
    """A Namespace was deleted."""

    name: str

    @property
    def subject(self) -> tuple[str, str]:
        """The Namespace."""
        return ("namespace", self.name)


@frozen
class IngressSeen:
    """An Ingress exists and looks like this."""

    ingress: Ingress

    @property
    def subject(self) -> tuple[str, str]:
        """The Ingress."""
        return ("ingress", str(self.ingress.key))


@frozen
class IngressGone:
    """An Ingress was deleted."""

    key: ObjectKey

    @property
    def subject(self) -> tuple[str, str]:
        """The Ingress."""
        return ("ingress", str(self.key))


@frozen
class IngressClassSeen:
    """An IngressClass exists and looks like this."""

    ingress_class: IngressClass

    @property
    def subject(self) -> tuple[str, str]:
        """The IngressClass."""
        return ("ingressclass", self.ingress_class.name)


@frozen
class IngressClassGone:
    """An IngressClass was deleted."""

    name: str

    @property
    def subject(self) -> tuple[str, str]:
        """The IngressClass."""
        return ("ingressclass", self.name)


@frozen
class SecretSeen:
    """A Secret exists and holds this."""

    secret: Secret

    @property
    def subject(self) -> tuple[str, str]:
        """The Secret."""
        return ("secret", str(self.secret.key))


@frozen
class SecretGone:
    """A Secret was deleted."""

    key: ObjectKey

    @property
    def subject(self) -> tuple[str, str]:
        """The Secret."""
        return ("secret", str(self.key))


@frozen
class ConfigMapSeen:
    """A ConfigMap (not one of MetalLB's) exists and holds this."""

    config_map: ConfigMap

    @property
    def subject(self) -> tuple[str, str]:
        """The ConfigMap."""
        return ("configmap", str(self.config_map.key))


@frozen
class ConfigMapGone:
    """A ConfigMap was deleted."""

    key: ObjectKey

    @property
    def subject(self) -> tuple[str, str]:
        """The ConfigMap."""
        return ("configmap", str(self.key))


@frozen
class RoutesRefused:
    """The proxy did not take what was to be served for these hosts; their last good form stays, or 503 is answered."""

    hosts: tuple[str, ...]
    message: str

    @property
    def subject(self) -> tuple[str, str]:
        """These hosts."""
        return ("refused routes", " ".join(self.hosts))


@frozen
class ConfigSeen:
    """An object that configures lbcore exists and looks like this; a broken one carries its problems."""

    document: ConfigDocument

    @property
    def subject(self) -> tuple[str, str]:
        """The object."""
        return ("config", str(self.document.origin))


@frozen
class ConfigGone:
    """An object that configured lbcore was deleted."""

    origin: Origin

    @property
    def subject(self) -> tuple[str, str]:
        """The object."""
        return ("config", str(self.origin))


@frozen
class MembersSeen:
    """The nodes whose speakers live, this one included as long as it can be heard.

    `waiting` live too, and were held for dead a moment ago: what another may announce is to be left to it.
    `reunions` counts how often somebody has come back who was held for dead and had not left, since the process that
    counts it began.
    """

    names: frozenset[str]
    waiting: frozenset[str] = frozenset()
    reunions: int = 0

    @property
    def subject(self) -> tuple[str, str]:
        """There is one membership."""
        return ("members", "")


@frozen
class SpeakerPodsSeen:
    """The addresses of all Pods that are speakers by their labels, sorted."""

    addresses: tuple[Address, ...]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of them."""
        return ("speakerpods", "")


@frozen(kw_only=True)
class InstancesSeen:
    """The instances of this controller that there are: those that run, by name, and the nodes of those that are ready.

    One that is being taken away is neither.
    """

    running: frozenset[str]
    nodes: frozenset[str]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of instances."""
        return ("instances", "")


@frozen
class LeadershipSeen:
    """Of several controllers this one is to decide, or no longer; `why` is for people.

    One that does not decide takes notes of everything, and wants nothing.
    """

    leading: bool
    why: str = ""

    @property
    def subject(self) -> tuple[str, str]:
        """There is one leader."""
        return ("leadership", "")


@frozen
class LinksSeen:
    """The network interfaces of this machine, all of them, sorted by index."""

    links: tuple[Link, ...]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of interfaces."""
        return ("links", "")


@frozen
class AnsweringSeen:
    """What the answering process answers for right now: told whenever one is taken up, new or found
    running. Pairs of an address and its interface names (empty: every link), sorted.
    """

    answering: tuple[tuple[Address, tuple[str, ...]], ...]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one answering process."""
        return ("answering", "")


@frozen
class ManifestRefused:
    """A manifest of a kind that is not configuration cannot be read; the object's last good form stays."""

    problem: Problem

    @property
    def subject(self) -> tuple[str, str]:
        """The object in its source."""
        return ("refused", f"{self.problem.source} {self.problem.object} {self.problem.field}")


@frozen(kw_only=True)
class AddressHeard:
    """Another station (`mac`, 6 bytes) spoke for an address that we answer for, on interface `link`."""

    address: Address
    mac: bytes
    link: str

    @property
    def subject(self) -> tuple[str, str]:
        """The address."""
        return ("heard", str(self.address))


@frozen
class PeerSeen:
    """A session of this node with a BGPPeer, whenever it changes; None when there is none any more."""

    peer: str
    status: PeerStatus | None

    @property
    def subject(self) -> tuple[str, str]:
        """The peer."""
        return ("peer", self.peer)


@frozen
class WatchSeen:
    """How this node sees a BGPPeer by BFD, whenever it changes; None when it is not watched any more."""

    peer: str
    status: WatchStatus | None

    @property
    def subject(self) -> tuple[str, str]:
        """The peer."""
        return ("watch", self.peer)


@frozen
class Listed:
    """Everything of this kind that existed at the start has been told."""

    kind: Kind

    @property
    def subject(self) -> tuple[str, str]:
        """The kind."""
        return ("listed", self.kind.value)


@frozen
class Applied:
    """A sink has carried out an intent."""

    intent: Intent

    @property
    def subject(self) -> tuple[str, str]:
        """What the intent was about."""
        return ("applied", "/".join(self.intent.subject))


@frozen(kw_only=True)
class Failed:
    """A sink could not carry out an intent. With `retry` the loop tries again later and the brain
    is not told; without, the brain is told and decides anew.
    """

    intent: Intent
    message: str
    retry: bool = True

    @property
    def subject(self) -> tuple[str, str]:
        """What the intent was about."""
        return ("failed", "/".join(self.intent.subject))


@frozen
class Tick:
    """The time that a brain asked for (`wake_at`) has come, or work is left over."""

    @property
    def subject(self) -> tuple[str, str]:
        """Ticks are all alike."""
        return ("tick", "")


@frozen
class Stopping:
    """The daemon was asked to end: hand over what can be handed over."""

    @property
    def subject(self) -> tuple[str, str]:
        """There is one end."""
        return ("stopping", "")


Event = (
    ServiceSeen
    | ServiceGone
    | SliceSeen
    | SliceGone
    | NodeSeen
    | NodeGone
    | DrainsSeen
    | NamespaceSeen
    | NamespaceGone
    | ConfigSeen
    | ConfigGone
    | IngressSeen
    | IngressGone
    | IngressClassSeen
    | IngressClassGone
    | SecretSeen
    | SecretGone
    | ConfigMapSeen
    | ConfigMapGone
    | RoutesRefused
    | MembersSeen
    | SpeakerPodsSeen
    | LeadershipSeen
    | InstancesSeen
    | LinksSeen
    | AnsweringSeen
    | AddressHeard
    | PeerSeen
    | WatchSeen
    | ManifestRefused
    | Listed
    | Applied
    | Failed
    | Tick
    | Stopping
)

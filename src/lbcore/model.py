"""The cluster as the brains read it: frozen projections of Kubernetes objects.

Only fields that a decision depends on are here, so that a change of anything else is no change.
Field names follow Kubernetes, in Python's spelling; each docstring names the field it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address, Family

__all__ = [
    "DRAIN_ANNOTATION",
    "Endpoint",
    "EndpointPort",
    "EndpointSlice",
    "IPFamilyPolicy",
    "LabelRequirement",
    "LabelSelector",
    "Labels",
    "Link",
    "Namespace",
    "Node",
    "Operator",
    "Port",
    "Service",
    "ServiceKey",
    "ServicePort",
    "SliceKey",
    "TrafficPolicy",
    "matches_any",
]

DRAIN_ANNOTATION = "lbcore.io/drain"  # of a Node, with any value but "false"

Labels = Map[str, str]


def _labels(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> Labels:
    return value if isinstance(value, Map) else Map(value)


def _tuple_of_addresses(value: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(value)


@frozen(order=True, cache_hash=True)
class ServiceKey:
    """A Service's `metadata.namespace` and `metadata.name`; prints as `namespace/name`."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ServiceKey:
        """Read `namespace/name`, or `name` alone for the namespace `default`."""
        namespace, slash, name = text.partition("/")
        return cls(namespace, name) if slash else cls("default", text)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@frozen(order=True)
class SliceKey:
    """An EndpointSlice's `metadata.namespace` and `metadata.name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@frozen(order=True)
class Port:
    """A Service's port: `spec.ports[].protocol` (`TCP`, `UDP`, `SCTP`) and `.port`."""

    protocol: str
    number: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.number}"


@frozen(order=True)
class ServicePort:
    """A Service's port as an Ingress names it: `spec.ports[].name`, `.port`, `.targetPort` as text, `.protocol`."""

    name: str
    number: int
    target: str = ""
    protocol: str = "TCP"


@frozen(order=True)
class EndpointPort:
    """An EndpointSlice's `ports[]`: `name`, `port` (0: not said) and `protocol`."""

    name: str
    number: int
    protocol: str = "TCP"


class TrafficPolicy(Enum):
    """`spec.externalTrafficPolicy`: may a node pass a connection to another node's endpoint?"""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class IPFamilyPolicy(Enum):
    """`spec.ipFamilyPolicy`."""

    SINGLE_STACK = "SingleStack"
    PREFER_DUAL_STACK = "PreferDualStack"
    REQUIRE_DUAL_STACK = "RequireDualStack"


class Operator(Enum):
    """`LabelSelector.matchExpressions[].operator`."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@frozen(order=True)
class LabelRequirement:
    """One line of a label selector; `match_labels` become `In` with one value."""

    key: str
    operator: Operator = field(order=lambda operator: operator.value)
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy it, as Kubernetes has it: `NotIn` holds for an absent key."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values if self.key in labels else False
            case Operator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case Operator.IN if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case Operator.IN:
                return f"{self.key} in ({','.join(self.values)})"
            case Operator.NOT_IN:
                return f"{self.key} notin ({','.join(self.values)})"
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"


def _sorted_requirements(given: Iterable[LabelRequirement]) -> tuple[LabelRequirement, ...]:
    return tuple(sorted(given))


@frozen(order=True)
class LabelSelector:
    """A `metav1.LabelSelector`: every requirement must hold; none at all matches everything."""

    requirements: tuple[LabelRequirement, ...] = field(default=(), converter=_sorted_requirements)

    @classmethod
    def of(cls, **labels: str) -> LabelSelector:
        """A selector for exact labels whose keys are Python identifiers, for tests and examples."""
        return cls.of_labels(labels)

    @classmethod
    def of_labels(cls, labels: Mapping[str, str]) -> LabelSelector:
        """`matchLabels`: every pair must be there."""
        return cls(tuple(LabelRequirement(key, Operator.IN, (value,)) for key, value in labels.items()))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements) or "everything"


def matches_any(selectors: Iterable[LabelSelector], labels: Mapping[str, str]) -> bool:
    """Whether at least one selector matches: how MetalLB reads every list of selectors."""
    return any(selector.matches(labels) for selector in selectors)


@frozen(kw_only=True)
class Service:
    """What lbcore reads of a Service (core/v1).

    `held` is `status.loadBalancer.ingress[].ip`: the addresses it has now. `request` fields are
    texts as the user wrote them; `lbcore.requests` judges them. `created` is
    `metadata.creationTimestamp` (RFC 3339, sorts as text; empty where a source has none). `pending` is
    why it lacks what it asks for, as its status says: a value of `Reason`, and the words.
    """

    key: ServiceKey
    uid: str = ""
    created: str = ""
    type: str = "LoadBalancer"
    load_balancer_class: str | None = None
    labels: Labels = field(factory=Map, converter=_labels)
    annotations: Labels = field(factory=Map, converter=_labels)  # only the keys that lbcore reads
    cluster_ips: tuple[str, ...] = ()
    ip_families: tuple[Family, ...] = ()
    ip_family_policy: IPFamilyPolicy = IPFamilyPolicy.SINGLE_STACK
    load_balancer_ip: str = ""
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    selector: Labels = field(factory=Map, converter=_labels)
    ports: tuple[Port, ...] = ()
    named_ports: tuple[ServicePort, ...] = ()
    external_name: str = ""
    external_ips: tuple[str, ...] = ()
    held: tuple[Address, ...] = field(default=(), converter=_tuple_of_addresses)
    pending: tuple[str, str] | None = None

    @property
    def is_load_balancer(self) -> bool:
        """Whether `spec.type` asks for an address."""
        return self.type == "LoadBalancer"


@frozen(kw_only=True)
class Endpoint:
    """One endpoint of an EndpointSlice (discovery.k8s.io/v1): `addresses`, `nodeName`, `conditions`."""

    addresses: tuple[str, ...] = ()
    node: str | None = None
    ready: bool | None = None
    serving: bool | None = None

    @property
    def usable(self) -> bool:
        """Whether traffic may be sent there: ready (or unknown), or still serving while it ends.

        Source: EndpointConditions; nil `ready` counts as true, `serving` keeps a terminating
        endpoint in use, and an explicit `ready: true` beats `serving: false`.
        """
        return self.ready is not False or self.serving is True


@frozen(kw_only=True)
class EndpointSlice:
    """An EndpointSlice; `service` is its label `kubernetes.io/service-name`."""

    key: SliceKey
    service: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service_key(self) -> ServiceKey:
        """The Service whose endpoints these are."""
        return ServiceKey(self.key.namespace, self.service)


@frozen(kw_only=True)
class Node:
    """A Node: labels, the condition `NetworkUnavailable`, its addresses in the cluster and outside, sorted.

    `drained` is the annotation `lbcore.io/drain`, `cordoned` is `spec.unschedulable`.
    """

    name: str
    labels: Labels = field(factory=Map, converter=_labels)
    network_unavailable: bool = False
    addresses: tuple[Address, ...] = ()
    external: tuple[Address, ...] = ()
    drained: bool = False
    cordoned: bool = False


@frozen(kw_only=True)
class Namespace:
    """A Namespace: what pools' `namespaceSelectors` are matched against."""

    name: str
    labels: Labels = field(factory=Map, converter=_labels)


@frozen(kw_only=True)
class Link:
    """A network interface of this machine, as rtnetlink tells it (`ip link`, `ip address`).

    `mac` is 6 bytes. `up` is the administrator's wish (IFF_UP), `carrier` is IFF_LOWER_UP: the
    cable. `enslaved` means that a bridge, bond or VRF owns it, which then does the talking.
    """

    index: int
    name: str
    mac: bytes
    up: bool = True
    carrier: bool = True
    broadcast: bool = True
    arp: bool = True
    loopback: bool = False
    enslaved: bool = False
    addresses: tuple[Address, ...] = ()
    link_local: Address | None = None

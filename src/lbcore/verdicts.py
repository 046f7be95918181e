"""Why: the one closed list of reasons, and the refusal that carries one.

The same words serve the Kubernetes Event, the Service's condition, the metric's label and the
command line, so that what an operator greps for is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

from lbcore.model import ServiceKey

__all__ = ["NODE_TEXTS", "NodeVerdict", "PoolVerdict", "Reason", "Refusal"]


class Reason(Enum):
    """Every reason that a decision of lbcore can have; the value is what people see."""

    OK = "OK"

    # A request that no pool could satisfy (controller).
    BAD_REQUEST = "BadRequest"
    CONFLICTING_REQUEST = "ConflictingRequest"
    NO_CLUSTER_IP = "NoClusterIP"
    FAMILY_MISMATCH = "FamilyMismatch"
    NOT_DUAL_STACK = "NotDualStack"

    # What a pool or an address says to a sound request (controller).
    NO_POOLS = "NoPools"
    POOL_NOT_FOUND = "PoolNotFound"
    POOL_NOT_AUTOMATIC = "PoolNotAutomatic"
    POOL_NOT_FOR_NAMESPACE = "PoolNotForNamespace"
    POOL_NOT_FOR_SERVICE = "PoolNotForService"
    POOL_LACKS_FAMILY = "PoolLacksFamily"
    POOL_EXHAUSTED = "PoolExhausted"
    ADDRESS_NOT_IN_POOL = "AddressNotInPool"
    ADDRESS_IN_OTHER_POOL = "AddressInOtherPool"
    ADDRESS_AVOIDED = "AddressAvoided"
    ADDRESS_IN_USE = "AddressInUse"
    SHARING_REFUSED = "SharingRefused"

    # Why a node does not announce (speaker).
    NOT_LOAD_BALANCER = "NotLoadBalancer"
    NO_ADDRESS = "NoAddress"
    NO_ADVERTISEMENT = "NoAdvertisement"
    SHARED_WITH_SERVICE_SELECTORS = "SharedWithServiceSelectors"
    NO_ENDPOINTS = "NoEndpoints"
    NO_LOCAL_ENDPOINTS = "NoLocalEndpoints"
    NODE_NOT_SELECTED = "NodeNotSelected"
    NODE_UNKNOWN = "NodeUnknown"
    NODE_EXCLUDED = "NodeExcluded"
    NODE_NETWORK_UNAVAILABLE = "NodeNetworkUnavailable"
    NODE_DRAINED = "NodeDrained"
    NOT_A_MEMBER = "NotAMember"
    NODE_WAITS = "NodeWaits"
    NOT_ELECTED = "NotElected"
    NO_INTERFACE = "NoInterface"
    NOT_READY = "NotReady"

    # Why a node does not announce over BGP (speaker); those above serve here, too.
    CONFLICTING_ADVERTISEMENTS = "ConflictingAdvertisements"
    NO_PEER = "NoPeer"
    NODE_NOT_CHOSEN = "NodeNotChosen"
    ENDPOINTS_TOO_NEW = "EndpointsTooNew"


NODE_TEXTS: Mapping[Reason, str] = {
    Reason.NODE_UNKNOWN: "there is no Node of this name; create it, or correct the speaker's --node",
    Reason.NOT_A_MEMBER: "no living speaker is seen on this node; start one there",
    Reason.NODE_WAITS: (  # the seconds are those of `lbcore.adapters.detector.times`
        "its speaker lives and was held for dead a short time ago: it waits 1 s the first time, twice as long each "
        "time after, 60 s at most, so that addresses do not go to and fro, and then follows by itself; look why it was "
        "lost (`get members`)"
    ),
    Reason.NODE_NETWORK_UNAVAILABLE: (
        "the node's condition NetworkUnavailable is True; mend its network, and the network plugin takes that back"
    ),
    Reason.NODE_DRAINED: "the node is drained and serves only what no other node can; `lbcore undrain` ends that",
    Reason.ENDPOINTS_TOO_NEW: (
        "its endpoints have been usable for less than --ready-for, and other nodes serve meanwhile; "
        "it follows by itself"
    ),
    Reason.NO_LOCAL_ENDPOINTS: (
        "externalTrafficPolicy is Local, and no usable endpoint is on this node; run a Pod there, or set Cluster"
    ),
}
"""What a node's verdict says that names nothing else, the same on every protocol."""


@frozen(kw_only=True)
class PoolVerdict:
    """What one pool says to one request."""

    pool: str
    reason: Reason
    detail: str = ""


@frozen(kw_only=True)
class NodeVerdict:
    """What keeps one node from announcing, or `Reason.OK` for the one that does."""

    node: str
    reason: Reason
    detail: str = ""


@frozen(kw_only=True)
class Refusal:
    """A request that cannot be granted now: for whom, why, and what would satisfy it.

    `pools` is the trace: each pool that was asked and what it said, in the order asked. `path` is
    the field of the Service that is to blame, where it is one (`spec.loadBalancerIP`).
    """

    key: ServiceKey
    reason: Reason
    detail: str
    pools: tuple[PoolVerdict, ...] = ()
    path: str = field(default="", eq=False)

    @property
    def shown(self) -> tuple[str, str]:
        """What a Service's status says of it (`Service.pending`): the reason and the words."""
        return self.reason.value, self.detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"

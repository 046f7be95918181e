"""What a brain wants done: a closed union of frozen classes, each carried out by exactly one sink.

`subject` names what an intent is about: a newer intent for the same subject replaces one that
still waits, and intents for one subject are carried out in order.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from lbcore.addresses import Address
from lbcore.bfd import BfdState, Watch
from lbcore.bgp import BGPPeer
from lbcore.config import Config
from lbcore.errors import Problem
from lbcore.model import Link, ServiceKey
from lbcore.proxy import RoutingTable
from lbcore.routes import Offer, PeerStatus, Prefix
from lbcore.verdicts import Refusal

__all__ = [
    "AdvertiseRoute",
    "Announce",
    "AnnounceAnew",
    "EventType",
    "Intent",
    "LoseSession",
    "PublishIngress",
    "RecordEvent",
    "ReportAnnounced",
    "ReportConfig",
    "ReportPeer",
    "ReportWithheld",
    "ServeRoutes",
    "SetAddresses",
    "SetLinks",
    "SetPeers",
    "SetPoolUsage",
    "SetPresence",
    "SetSessions",
    "SetWatches",
    "SettleAnnounced",
    "StandBy",
    "Withdraw",
    "WithdrawRoute",
]


@frozen(kw_only=True)
class SetAddresses:
    """Write a Service's addresses to its status: `status.loadBalancer.ingress` and the annotation
    `metallb.io/ip-allocated-from-pool`; `refusal` says why when there are none or not those asked for.

    `gives_up` are addresses that the status may still show and will not afterwards. `after` are
    Services whose own status may still show one of these addresses: it is written after theirs, so
    that at no moment two Services show an address that they do not share.
    """

    key: ServiceKey
    uid: str = ""
    addresses: tuple[Address, ...] = ()
    pool: str | None = None
    refusal: Refusal | None = None
    gives_up: frozenset[Address] = field(default=frozenset(), eq=False)
    after: tuple[ServiceKey, ...] = field(default=(), eq=False)

    @property
    def subject(self) -> tuple[str, str]:
        """The Service whose status this is."""
        return ("service", str(self.key))


class EventType(Enum):
    """`Event.type` of Kubernetes."""

    NORMAL = "Normal"
    WARNING = "Warning"


@frozen(kw_only=True)
class RecordEvent:
    """Tell the user of an object what happened to it, as a Kubernetes Event. `about` is `Kind namespace/name`."""

    about: str
    type: EventType
    reason: str
    message: str

    @property
    def subject(self) -> tuple[str, str]:
        """Events with the same object and reason replace each other while they wait."""
        return ("event", f"{self.about} {self.reason}")


@frozen(kw_only=True)
class SetPoolUsage:
    """`IPAddressPool.status`: distinct addresses in use, and usable ones still free, by family."""

    pool: str
    assigned_ipv4: int
    assigned_ipv6: int
    available_ipv4: int
    available_ipv6: int

    @property
    def subject(self) -> tuple[str, str]:
        """The pool whose status this is."""
        return ("pool", self.pool)


@frozen(kw_only=True)
class ReportConfig:
    """A new configuration is in force, or was refused (`problems`) and the last good one (`config`) stays."""

    config: Config | None
    problems: tuple[Problem, ...] = ()

    @property
    def subject(self) -> tuple[str, str]:
        """There is one configuration."""
        return ("config", "")


@frozen(kw_only=True)
class ServeRoutes:
    """Serve exactly this over HTTP and HTTPS."""

    table: RoutingTable

    @property
    def subject(self) -> tuple[str, str]:
        """There is one table."""
        return ("routes", "")


@frozen(kw_only=True)
class PublishIngress:
    """Write an Ingress's status: `status.loadBalancer.ingress` shows exactly these addresses and host names."""

    key: ServiceKey
    uid: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def subject(self) -> tuple[str, str]:
        """The Ingress whose status this is."""
        return ("ingress", str(self.key))


@frozen(kw_only=True)
class Announce:
    """Answer for an address on Layer 2, and tell the segment so (gratuitous ARP, unsolicited NA).

    `interfaces` are names, sorted; empty means every link of the newest `SetLinks`. One that does
    not exist yet is taken up when it appears there. `yielding`: another node takes it over; go on answering, but
    tell nobody, contradict nobody, and ask once who else has it by now.
    """

    address: Address
    interfaces: tuple[str, ...] = ()
    yielding: bool = False

    @property
    def subject(self) -> tuple[str, str]:
        """The address."""
        return ("address", str(self.address))


@frozen(kw_only=True)
class Withdraw:
    """Stop answering for an address."""

    address: Address

    @property
    def subject(self) -> tuple[str, str]:
        """The address."""
        return ("address", str(self.address))


@frozen(kw_only=True)
class StandBy:
    """Do not answer for an address, but begin to, as with `Announce`, at the moment at which a `member` is none any
    more.

    It is the node that would be elected then. What is begun so is let go again when the member returns, or this node
    is no member itself, before an intent for the address has confirmed it.
    """

    address: Address
    member: str
    interfaces: tuple[str, ...] = ()

    @property
    def subject(self) -> tuple[str, str]:
        """The address."""
        return ("address", str(self.address))


@frozen
class AnnounceAnew:
    """Tell the segment of every address that is answered for, as after a take-over: somebody may have believed another.

    `reunions` is the count of `MembersSeen` that it follows, so that the next one is another intent.
    """

    reunions: int

    @property
    def subject(self) -> tuple[str, str]:
        """All addresses at once."""
        return ("addresses", "anew")


@frozen(kw_only=True)
class SetLinks:
    """The interfaces on which addresses may be answered for: usable and not excluded, sorted by index."""

    links: tuple[Link, ...]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of links."""
        return ("links", "")


@frozen
class SetPeers:
    """Look for other speakers at exactly these addresses, sorted."""

    addresses: tuple[Address, ...]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of peers."""
        return ("peers", "")


@frozen(kw_only=True)
class SetPresence:
    """Be seen by the other speakers as a candidate, or leave; `why` is for the log."""

    present: bool
    why: str

    @property
    def subject(self) -> tuple[str, str]:
        """There is one presence."""
        return ("presence", "")


@frozen
class SetSessions:
    """Hold a BGP session with each of these peers, and with no other; passwords of Secrets are filled in.

    A session with a peer that stays as it was is left alone. To those named in `leaving` all routes are told as
    going away soon (RFC 8326).
    """

    peers: tuple[BGPPeer, ...]
    leaving: frozenset[str] = frozenset()

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of sessions."""
        return ("sessions", "")


@frozen
class LoseSession:
    """End the session with a peer, and begin anew: BFD says that the path to it is lost, in the words of `why`."""

    peer: str
    why: str

    @property
    def subject(self) -> tuple[str, str]:
        """The peer."""
        return ("lost", self.peer)


@frozen
class SetWatches:
    """Watch each of these peers by BFD, and no other."""

    watches: tuple[Watch, ...]

    @property
    def subject(self) -> tuple[str, str]:
        """There is one set of watches."""
        return ("watches", "")


@frozen(kw_only=True)
class AdvertiseRoute:
    """Tell routers that a prefix is reached by this node: `offers` are the peers, by name, each with its path."""

    prefix: Prefix
    offers: tuple[Offer, ...]

    @property
    def subject(self) -> tuple[str, str]:
        """The prefix."""
        return ("route", str(self.prefix))


@frozen
class WithdrawRoute:
    """Tell all routers that a prefix is no longer reached by this node."""

    prefix: Prefix

    @property
    def subject(self) -> tuple[str, str]:
        """The prefix."""
        return ("route", str(self.prefix))


@frozen(kw_only=True)
class ReportPeer:
    """How a node's session with a BGPPeer is, for those who ask; `status` None: it has none any more.

    `watch` is how BFD sees the peer, None where it is not asked.
    """

    node: str
    peer: str
    router: str = ""
    status: PeerStatus | None = None
    watch: BfdState | None = None

    @property
    def subject(self) -> tuple[str, str]:
        """The session."""
        return ("session", f"{self.node}/{self.peer}")


@frozen(kw_only=True)
class ReportWithheld:
    """A node has endpoints of a Service, and tells routers of it `after` so many seconds; None: it waits no more."""

    key: ServiceKey
    node: str
    after: float | None

    @property
    def subject(self) -> tuple[str, str]:
        """The Service."""
        return ("withheld", str(self.key))


@frozen(kw_only=True)
class ReportAnnounced:
    """What a node announces of a Service, for those who ask: on Layer 2 on `interfaces` (sorted; empty: all that are
    usable; None: not at all), and over BGP to `peers` (names of BGPPeers, sorted).
    """

    key: ServiceKey
    node: str
    interfaces: tuple[str, ...] | None = None
    peers: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether the node announces it at all."""
        return self.interfaces is not None or bool(self.peers)

    @property
    def subject(self) -> tuple[str, str]:
        """The Service."""
        return ("announced", str(self.key))


@frozen(kw_only=True)
class SettleAnnounced:
    """All that a node announces has been reported: what is written of it besides is wrong. With `sweeps` so is what is
    written of speakers that are not among the `living`.
    """

    node: str
    living: frozenset[str]
    sweeps: bool

    @property
    def subject(self) -> tuple[str, str]:
        """There is one account."""
        return ("announced", "")


Intent = (
    ServeRoutes
    | PublishIngress
    | SetAddresses
    | RecordEvent
    | SetPoolUsage
    | ReportConfig
    | Announce
    | AnnounceAnew
    | Withdraw
    | StandBy
    | SetLinks
    | SetPeers
    | SetPresence
    | SetSessions
    | LoseSession
    | SetWatches
    | AdvertiseRoute
    | WithdrawRoute
    | ReportPeer
    | ReportWithheld
    | ReportAnnounced
    | SettleAnnounced
)

"""What a speaker knows and has decided."""

from __future__ import annotations

from attrs import Factory, field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.bfd import Watch, WatchStatus
from lbcore.bgp import BGPPeer
from lbcore.config import Configuration, L2Advertisement
from lbcore.election import Election, Electorate
from lbcore.events import Kind
from lbcore.exports import Exports
from lbcore.handover import HandOver
from lbcore.ingress import ObjectKey, Secret
from lbcore.intents import StandBy
from lbcore.links import Exclusions
from lbcore.model import EndpointSlice, Link, Node, Service, ServiceKey, SliceKey
from lbcore.pools import Catalog
from lbcore.routes import PeerStatus
from lbcore.settling import Settling
from lbcore.telling import Telling
from lbcore.verdicts import Reason
from lbcore.worklist import Fifo, Worklist

__all__ = [
    "ALL_BUT_MEMBERS",
    "LOOK",
    "NEEDS",
    "NOBODY",
    "AnnouncementSettings",
    "AnnouncementState",
    "NotAnnounced",
    "Part",
    "number",
]

NEEDS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG, Kind.LINKS, Kind.MEMBERS})
ALL_BUT_MEMBERS = NEEDS - {Kind.MEMBERS}
NOBODY = ""
LOOK = 60  # what looking at one Service costs beside its election, in hashes: 30 us against 0.5


@frozen(kw_only=True)
class AnnouncementSettings:
    """What the operator chose for this speaker.

    `node` is this node's name. `hand_over` is how many seconds a node that stops, or loses an address to
    another, goes on answering while it waits to hear its successor. `effort` bounds one step, in hashes: a
    node's rank costs one, a look at a Service about as much as `LOOK`. `drain_cordoned`: a node with
    `spec.unschedulable` counts as drained. `drain_time`: seconds that routers are given to turn to other nodes before
    a drained node withdraws its routes. `ready_for`: seconds for which a node must have had a usable endpoint of a
    Service with the policy Local before it tells routers, if others serve it meanwhile (`lbcore.settling`).
    `config_quiet` and `config_patience` are the controller's: seconds without a change after which, and seconds
    after the first change at which at the latest, changed configuration is put in force. `tells` is whether anybody
    wants to hear what this node announces (`ReportAnnounced`). `stands_by`: who answers is told what it is to take
    over as soon as it learns that a member is gone (`StandBy`), rather than when this brain has voted on it; for who
    knows members itself.
    """

    node: str
    load_balancer_class: str | None = None
    ignore_exclude_label: bool = False
    exclusions: Exclusions = field(factory=Exclusions)
    hand_over: float = 2.0
    effort: int = 4000
    drain_cordoned: bool = False
    drain_time: float = 10.0
    ready_for: float = 0.0
    config_quiet: float = 0.1
    config_patience: float = 1.0
    tells: bool = False
    stands_by: bool = False


@frozen
class NotAnnounced:
    """Why no node at all announces a Service."""

    reason: Reason
    detail: str


@frozen
class Part:
    """One address of a Service: the advertisements for it, and who is elected among whom.

    `ranked_by` is the address that the nodes' ranks are of: the Service's first one, or, where a
    sharer has the address as its second, that one's first, so that all sharers elect the same node.
    """

    address: Address
    ranked_by: Address
    adverts: tuple[L2Advertisement, ...]
    election: Election | None


@frozen(kw_only=True)
class AnnouncementState:
    """Everything a speaker knows and has decided. Begin with `AnnouncementState(settings=...)`."""

    settings: AnnouncementSettings
    listed: frozenset[Kind] = frozenset()
    configuration: Configuration = field(factory=Configuration)
    config_due: float | None = None
    config_latest: float | None = None  # to which `config_due` can be put off
    catalog: Catalog | None = None
    services: Map[ServiceKey, Service] = field(factory=Map)
    firsts: Map[Address, Map[Address, int]] = field(factory=Map)  # of sharers that hold it as their second
    slices: Map[ServiceKey, Map[SliceKey, EndpointSlice]] = field(factory=Map)
    slice_owner: Map[SliceKey, ServiceKey] = field(factory=Map)
    nodes: Map[str, Node] = field(factory=Map)
    marked: frozenset[str] = frozenset()  # nodes with a mark that they are drained
    drained: frozenset[str] = frozenset()  # by a mark or by their Node
    members: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()  # live, and are left out where another may announce
    reunions: int = 0  # as they were counted last
    anew: bool = False  # one has come, and the segment is to be told again of what is announced
    pods: tuple[Address, ...] = ()  # where speakers' Pods are
    links: tuple[Link, ...] = ()
    electorates: Map[tuple[str, ...], Electorate] = field(factory=Map)
    work: Worklist[ServiceKey] = field(factory=Worklist)
    parts: Map[ServiceKey, tuple[Part, ...]] = field(factory=Map)
    won: Map[str, Fifo[ServiceKey]] = field(factory=Map)  # by who announces it, or `NOBODY`
    lost: tuple[Fifo[ServiceKey], ...] = ()  # what members announced that went, and has no other announcer yet
    wanted: Map[Address, Map[ServiceKey, tuple[str, ...]]] = field(factory=Map)
    announced: Map[Address, tuple[str, ...]] = field(factory=Map)
    taken_up: bool = False
    sent_links: tuple[Link, ...] | None = None
    sent_peers: tuple[Address, ...] = ()
    present: bool | None = None
    unshown: tuple[Address, ...] = ()  # to be compared with what the answering process does
    orphans: bool = False
    drain_ends: float | None = None  # when this node's own drain is over, and routes that others have are withdrawn
    drain_over: bool = False
    drains: int | None = None  # how many routes it had when its drain began; until that is done
    lingers: bool = False  # stops, and gives its routers time to turn to others
    leaving: frozenset[str] = frozenset()  # peers that are told so
    handing_over: HandOver = field(factory=HandOver)  # announced still, and another's by right
    next_in: Map[Address, StandBy] = field(factory=Map)  # what would be this node's if the one that announces it went
    standing_by: Map[Address, StandBy] = field(factory=Map)  # of these, what the answering process was told
    stop_at: float | None = None
    exports: Exports = field(factory=Exports)  # what routers are told
    secrets: Map[ObjectKey, Secret] = field(factory=Map)
    peers_due: bool = True  # whether it is to be seen who our peers are
    peers: tuple[BGPPeer, ...] = ()
    lonely: frozenset[str] = frozenset()  # peers that no node has
    sessions: Map[str, PeerStatus] = field(factory=Map)
    sent_watches: tuple[Watch, ...] = ()
    watched: Map[str, WatchStatus] = field(factory=Map)
    settling: Settling = field(factory=Settling)
    withheld: Map[ServiceKey, None] = field(factory=Map)  # what we would tell routers, but for that
    telling: Telling = field(default=Factory(lambda self: Telling(node=self.settings.node), takes_self=True))

    @property
    def ready(self) -> bool:
        """Whether everything that decides has been told: only then is anything announced or withdrawn."""
        return self.listed >= NEEDS and self.catalog is not None

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to look at."""
        return self.ready and not self.unfinished and not self.orphans and self.config_due is None

    @property
    def unfinished(self) -> bool:
        """Whether there are Services that must be looked at."""
        return bool(self.lost or self.unshown or self.work)

    @property
    def stopped(self) -> bool:
        """Whether a speaker that was asked to stop has let go of everything."""
        return self.stop_at is not None and not self.announced and not self.lingers


def number(address: Address) -> tuple[int, int]:
    """To sort by: ten times as fast as comparing the addresses themselves."""
    return address.version, address.value

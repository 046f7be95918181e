"""The speaker's brain: what this node announces, how, and why not.

Every node works out from the same facts who announces each address (`lbcore.election`), and acts
on its own part. Level-triggered like the controller's brain, and in slices. Membership is the one
input that must be fast: a member that is lost puts only the addresses that it announced back to
the vote, and they come before everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import Factory, define, evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.advertising import PeerVerdict, Speakers, bgp_verdicts, peer_verdicts
from lbcore.bfd import Watch, WatchStatus
from lbcore.bgp import BGPPeer
from lbcore.brain import Step
from lbcore.config import Configuration, L2Advertisement, Pool
from lbcore.draining import drained_nodes
from lbcore.election import (
    Election,
    Electorate,
    electorate,
    judge_node,
    rank,
    re_elect,
    restrict_to_endpoints,
)
from lbcore.endpoints import Reach, reach_of
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    ConfigGone,
    ConfigSeen,
    DrainsSeen,
    Event,
    Failed,
    Kind,
    LinksSeen,
    Listed,
    ManifestRefused,
    MembersSeen,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    PeerSeen,
    SecretGone,
    SecretSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
    Stopping,
    Tick,
    WatchSeen,
)
from lbcore.exports import Contribution, Exports, contributions
from lbcore.handover import HandOver
from lbcore.ingress import ObjectKey, Secret
from lbcore.intents import (
    Announce,
    EventType,
    Intent,
    LoseSession,
    RecordEvent,
    ReportConfig,
    ReportPeer,
    SetLinks,
    SetPeers,
    SetPresence,
    SetSessions,
    SetWatches,
    Withdraw,
)
from lbcore.links import Exclusions, usable_links
from lbcore.model import EndpointSlice, Link, Node, Service, ServiceKey, SliceKey, matches_any
from lbcore.peering import about, peers_of, session_event, watches_of
from lbcore.pools import Catalog
from lbcore.requests import annotation
from lbcore.routes import PeerStatus
from lbcore.telling import Telling
from lbcore.verdicts import NODE_TEXTS, NodeVerdict, Reason
from lbcore.worklist import Fifo, Worklist

__all__ = [
    "AnnouncementSettings",
    "AnnouncementState",
    "NotAnnounced",
    "bgp_announcers",
    "explain",
    "explain_bgp",
    "explain_routes",
    "step",
]

NEEDS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG, Kind.LINKS, Kind.MEMBERS})
_ALL_BUT_MEMBERS = NEEDS - {Kind.MEMBERS}


@frozen(kw_only=True)
class AnnouncementSettings:
    """What the operator chose for this speaker.

    `node` is this node's name. `hand_over` is how many seconds a node that stops, or loses an address to
    another, goes on answering while it waits to hear its successor. `effort` bounds one step, in hashes: a
    node's rank costs one, a look at a Service about as much as `LOOK`. `drain_cordoned`: a node with
    `spec.unschedulable` counts as drained. `drain_time`: seconds that routers are given to turn to other nodes before
    a drained node withdraws its routes. `config_quiet` and `config_patience` are the controller's:
    seconds without a change after which, and seconds after the first change at which at the latest,
    changed configuration is put in force. `tells` is whether anybody wants to hear what this node
    announces (`ReportAnnounced`).
    """

    node: str
    load_balancer_class: str | None = None
    ignore_exclude_label: bool = False
    exclusions: Exclusions = field(factory=Exclusions)
    hand_over: float = 2.0
    effort: int = 4000
    drain_cordoned: bool = False
    drain_time: float = 10.0
    config_quiet: float = 0.1
    config_patience: float = 1.0
    tells: bool = False


LOOK = 60  # what looking at one Service costs beside its election, in hashes: 30 us against 0.5


@frozen
class NotAnnounced:
    """Why no node at all announces a Service."""

    reason: Reason
    detail: str


@frozen
class _Part:
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
    links: tuple[Link, ...] = ()
    electorates: Map[tuple[str, ...], Electorate] = field(factory=Map)
    work: Worklist[ServiceKey] = field(factory=Worklist)
    parts: Map[ServiceKey, tuple[_Part, ...]] = field(factory=Map)
    won: Map[str, Fifo[ServiceKey]] = field(factory=Map)
    lost: tuple[str, ...] = ()  # members that went, and whose addresses have no other announcer yet
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
    lingers: bool = False  # stops, and gives its routers time to turn to others
    leaving: frozenset[str] = frozenset()  # peers that are told so
    handing_over: HandOver = field(factory=HandOver)  # announced still, and another's by right
    stop_at: float | None = None
    exports: Exports = field(factory=Exports)  # what routers are told
    secrets: Map[ObjectKey, Secret] = field(factory=Map)
    peers_due: bool = True  # whether it is to be seen who our peers are
    peers: tuple[BGPPeer, ...] = ()
    sessions: Map[str, PeerStatus] = field(factory=Map)
    sent_watches: tuple[Watch, ...] = ()
    watched: Map[str, WatchStatus] = field(factory=Map)
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


def step(state: AnnouncementState, event: Event, now: float) -> Step[AnnouncementState]:
    """One event: what is known afterwards, and what this node has to do.

    Intents: `Announce`, `Withdraw`, `SetLinks`, `SetPeers`, `SetPresence`, `RecordEvent`, `ReportConfig`,
    and for BGP `SetSessions`, `SetWatches`, `LoseSession`, `AdvertiseRoute`, `WithdrawRoute`, `ReportPeer`; to who asks
    `ReportAnnounced` and `SettleAnnounced`. The same event twice yields no second intent. Never raises for anything a
    cluster can contain.
    """
    turn = _Turn(evolve(state), now)
    turn.note(event)
    turn.work_on()
    return Step(state=turn.state, intents=tuple(turn.intents), wake_at=_wake_at(turn.state, now))


def _wake_at(state: AnnouncementState, now: float) -> float | None:
    if state.ready and state.unfinished:
        return now
    times = [state.stop_at if not state.stopped else None, state.handing_over.deadline]
    times += [state.drain_ends if state.drain_ends is not None and state.drain_ends > now else None]
    if state.listed >= _ALL_BUT_MEMBERS:
        times.append(state.config_due)
    return min((time for time in times if time is not None), default=None)


@define
class _Turn:
    """One step in progress: the state so far, and the intents so far."""

    state: AnnouncementState
    now: float
    intents: list[Intent] = field(factory=list)
    effort: int = 0

    def change(self, **changes: object) -> None:
        # The state is this step's own copy, which nobody else has seen yet: filling it in place costs a
        # tenth of `attrs.evolve`, and a step changes it some ten times.
        for name, value in changes.items():
            object.__setattr__(self.state, name, value)

    # What an event changes in what we know.

    def note(self, event: Event) -> None:
        state = self.state
        match event:
            case ServiceSeen(service):
                self._count_firsts(state.services.get(service.key), service)
                self.change(services=state.services.set(service.key, service), work=state.work.touch(service.key))
            case ServiceGone(key, uid):
                known = state.services.get(key)
                if known is not None and uid in ("", known.uid):
                    self._count_firsts(known, None)
                    self._drop(key)
                    self.change(services=self.state.services.delete(key), work=self.state.work.strike(key))
            case SliceSeen(slice_):
                self._see_slice(slice_)
            case SliceGone(key):
                self._forget_slice(key)
            case NodeSeen(node):
                self._see_nodes(state.nodes.set(node.name, node))
            case NodeGone(name) if name in state.nodes:
                self._see_nodes(state.nodes.delete(name))
            case DrainsSeen(names) if names != state.marked:
                self.change(marked=names)
                self._see_nodes(state.nodes)
            case ConfigSeen(document):
                self._config_changed(state.configuration.seen(document))
            case ConfigGone(origin):
                self._config_changed(state.configuration.gone(origin))
            case MembersSeen(names):
                self._see_members(names)
            case LinksSeen(links):
                self.change(links=usable_links(links, state.settings.exclusions))
            case AnsweringSeen(answering):
                self._see_answering(answering)
            case PeerSeen() | WatchSeen() | SecretSeen() | SecretGone():
                self._note_of_routers(event)
            case AddressHeard(address=address) if state.stop_at is not None or address in state.handing_over:
                self._withdraw(address)  # the successor speaks: the hand-over is done
            case Listed(kind):
                was_ready = state.ready
                self.change(listed=state.listed | {kind})
                if not was_ready and state.ready:
                    self.change(orphans=True)
            case Stopping() if state.stop_at is None:
                # Alone there is nobody to hand over to, and nothing to wait for.
                others = state.members - {state.settings.node}
                sessions = [status for status in state.sessions.values() if status.advertised]
                lingers = (
                    bool(others) and state.settings.hand_over > 0 and any(not each.keeps_routes for each in sessions)
                )
                self.change(stop_at=self.now + (state.settings.hand_over if others else 0.0), lingers=lingers)
                self.change(peers_due=True)
            case (
                NodeGone() | DrainsSeen() | AddressHeard() | Stopping() | Tick() | Applied() | Failed()
                | NamespaceSeen() | NamespaceGone() | ManifestRefused()
            ):  # fmt: skip
                pass

    def _note_of_routers(self, event: PeerSeen | WatchSeen | SecretSeen | SecretGone) -> None:
        secrets = self.state.secrets
        match event:
            case PeerSeen(name, status):
                self._see_peer(name, status)
            case WatchSeen(name, seen):
                self._see_watch(name, seen)
            case SecretSeen(secret):
                self.change(secrets=secrets.set(secret.key, secret), peers_due=True)
            case SecretGone(key) if key in secrets:
                self.change(secrets=secrets.delete(key), peers_due=True)

    def _count_firsts(self, before: Service | None, after: Service | None) -> None:
        gone, new = _seconds_of_sharer(self.state, before), _seconds_of_sharer(self.state, after)
        if gone == new:
            return
        firsts = self.state.firsts
        for pairs, by in ((gone, -1), (new, 1)):
            for address, first in pairs:
                counts = firsts.get(address, Map[Address, int]())
                count = counts.get(first, 0) + by
                counts = counts.set(first, count) if count else counts.delete(first)
                firsts = firsts.set(address, counts) if counts else firsts.delete(address)
        # Rare, so the others on the address are not kept in an index: all are looked at.
        self.change(firsts=firsts, work=self.state.work.sweep())

    def _see_slice(self, slice_: EndpointSlice) -> None:
        owner = self.state.slice_owner.get(slice_.key)
        if owner is not None and owner != slice_.service_key:
            self._forget_slice(slice_.key)
        state, key = self.state, slice_.service_key
        of_service = state.slices.get(key, Map[SliceKey, EndpointSlice]()).set(slice_.key, slice_)
        self.change(slices=state.slices.set(key, of_service), slice_owner=state.slice_owner.set(slice_.key, key))
        self._touch(key)

    def _forget_slice(self, slice_key: SliceKey) -> None:
        state = self.state
        key = state.slice_owner.get(slice_key)
        if key is None:
            return
        rest = state.slices[key].delete(slice_key)
        slices = state.slices.set(key, rest) if rest else state.slices.delete(key)
        self.change(slices=slices, slice_owner=state.slice_owner.delete(slice_key))
        self._touch(key)

    def _touch(self, key: ServiceKey) -> None:
        if key in self.state.services:
            self.change(work=self.state.work.touch(key))

    def _see_nodes(self, nodes: Map[str, Node]) -> None:
        cordons = self.state.settings.drain_cordoned
        drained = drained_nodes(nodes.values(), self.state.marked, cordons=cordons)
        self._note_own_drain(drained)
        self.change(nodes=nodes, drained=drained, electorates=Map(), work=self.state.work.sweep(), peers_due=True)

    def _note_own_drain(self, drained: frozenset[str]) -> None:
        """A node that starts as a drained one has nothing that its routers would have to turn away from."""
        node = self.state.settings.node
        if node not in drained:
            self.change(drain_ends=None)
        elif node not in self.state.drained:
            wait = self.state.settings.drain_time if self.state.ready else 0.0
            self.change(drain_ends=self.now + wait)

    def _set_peers(self) -> None:
        """Where a Node is, a speaker may be."""
        peers = tuple(sorted({address for node in self.state.nodes.values() for address in node.addresses}))
        if peers != self.state.sent_peers:
            self.change(sent_peers=peers)
            self.intents.append(SetPeers(peers))

    def _see_members(self, names: frozenset[str]) -> None:
        """Those whose announcer is lost go first; newcomers can only take over, and that may take its turn."""
        before = self.state.members
        if names == before:
            return
        lost = tuple(name for name in (*self.state.lost, *sorted(before - names)) if name not in names)
        self.change(members=names, electorates=Map(), lost=lost)
        config = self.state.configuration.current
        routed = config is not None and bool(config.bgp_advertisements)
        if names - before or (routed and lost):  # a lost node's place among a Service's few is another's
            self.change(work=self.state.work.sweep())

    def _see_answering(self, answering: tuple[tuple[Address, tuple[str, ...]], ...]) -> None:
        """A process that answers was taken up: what it does is what is announced, whatever we had told another."""
        unshown = tuple(sorted(self.state.wanted, key=_number))
        self.change(announced=Map(answering), taken_up=True, unshown=unshown, handing_over=HandOver())
        self.change(sent_links=None, sent_peers=(), present=None, orphans=True)
        self.change(sent_watches=(), peers_due=self.state.peers_due or bool(self.state.sent_watches))

    def _config_changed(self, configuration: Configuration) -> None:
        settings, latest = self.state.settings, self.state.config_latest
        if latest is None:
            latest = self.now + settings.config_patience
        quiet = settings.config_quiet if Kind.CONFIG in self.state.listed else 0.0
        self.change(configuration=configuration, config_due=min(self.now + quiet, latest), config_latest=latest)

    def _put_config_in_force(self) -> None:
        before = self.state.configuration
        after = before.settled()
        self.change(configuration=after, config_due=None, config_latest=None)
        if after.current != before.current or after.problems != before.problems:
            self.intents.append(ReportConfig(config=after.current, problems=after.problems))
        if after.current is None or (self.state.catalog is not None and after.current == before.current):
            return
        was_ready = self.state.ready
        catalog = Catalog(after.current.pools)
        self.change(catalog=catalog, electorates=Map(), work=self.state.work.sweep(), peers_due=True)
        if not was_ready:
            self.change(orphans=True)

    # The work itself.

    def work_on(self) -> None:
        if self.state.listed >= _ALL_BUT_MEMBERS:
            self._keep_config_in_force()
            if self.state.taken_up:
                self._set_links()
                self._set_peers()
        if self.state.taken_up and (self.state.listed >= _ALL_BUT_MEMBERS or self.state.stop_at is not None):
            self._set_presence()
        if self.state.ready:
            self._end_drain()
            self._look_at_some()
            if self.state.peers_due and (self.state.peers or not self.state.unfinished):
                self._set_sessions()
            if self.state.settings.tells and not self.state.unfinished and self.state.stop_at is None:
                self._say(*self.state.telling.settle(self.state.members))
        for address in tuple(self.state.handing_over.due(self.now)):
            self._withdraw(address)
        if self.state.stop_at is not None and self.now >= self.state.stop_at:
            self.change(lingers=False)
            for address in sorted(self.state.announced, key=_number):
                self._withdraw(address)
        if self.state.stopped:
            self._say(*self.state.telling.end())

    def _keep_config_in_force(self) -> None:
        due = self.state.config_due
        nothing_configured = self.state.configuration == Configuration() and due is None
        if nothing_configured or (due is not None and self.now >= due):
            self._put_config_in_force()

    def _end_drain(self) -> None:
        """The time that routers were given is over: what other nodes announce, too, is looked at to be withdrawn."""
        ends = self.state.drain_ends
        if ends is not None and self.now >= ends and not self.state.drain_over:
            self.change(drain_over=True, work=self.state.work.sweep())
        elif self.state.drain_over and (ends is None or self.now < ends):
            self.change(drain_over=False)

    def _look_at_some(self) -> None:
        if self.state.unshown:
            count = max(1, self.state.settings.effort // LOOK)
            self.effort += count * LOOK
            for address in self.state.unshown[:count]:
                self._show(address)
            self.change(unshown=self.state.unshown[count:])
        while self.effort < self.state.settings.effort and self.state.unfinished:
            self.effort += LOOK
            key = self._next()
            if key is not None:
                self._look_at(key)
        if not self.state.unfinished and self.state.orphans:
            self._withdraw_orphans()

    def _next(self) -> ServiceKey | None:
        """The next Service to look at: what a lost member announced comes before all else."""
        if not self.state.lost:
            key, work = self.state.work.take()
            self.change(work=work)
            return key
        # Looking at it elects another, or nobody, and so takes it out of this queue.
        first = self.state.won.get(self.state.lost[0], Fifo[ServiceKey]()).first()
        if first is None:
            self.change(lost=self.state.lost[1:])
        return first

    def _set_links(self) -> None:
        if self.state.sent_links != self.state.links:
            self.change(sent_links=self.state.links)
            self.intents.append(SetLinks(links=self.state.links))

    def _set_presence(self) -> None:
        """Be a candidate while somebody could hear us, and nobody has asked us to go."""
        stopping, heard = self.state.stop_at is not None, bool(self.state.links)
        present = heard and not stopping
        if present == self.state.present:
            return
        self.change(present=present)
        why = "it can be heard" if present else "it is stopping" if stopping else "no usable link has a carrier"
        self.intents.append(SetPresence(present=present, why=why))

    def _look_at(self, key: ServiceKey) -> None:
        """Vote on one Service's addresses, and announce or withdraw the difference."""
        service = self.state.services.get(key)
        if service is None:
            return
        self._export(key, _contributions(self.state, service))
        before = {part.address: part for part in self.state.parts.get(key, ())}
        parts = tuple(self._elect(service, each, before.get(each.address)) for each in _parts(self.state, service))
        self._keep_parts(key, parts)
        mine = {
            part.address: _interfaces(part.adverts, self.state.nodes.get(self.state.settings.node))
            for part in parts
            if part.election is not None and part.election.winner == self.state.settings.node
        }
        moved = {part.address for part in parts if part.election is not None} - mine.keys()
        for address in sorted({*before, *mine}):
            self._want(service, address, mine.get(address), moved=address in moved)
        self._tell_of(key, mine.values())

    def _tell_of(self, key: ServiceKey, interfaces: Iterable[tuple[str, ...]]) -> None:
        """Say what this node announces of a Service, to those who want to hear it."""
        if self.state.settings.tells and not self.state.stopped:
            peers = (offer.peer for _, offer in self.state.exports.given.get(key, ()))
            self._say(*self.state.telling.say(key, interfaces, peers))

    def _say(self, telling: Telling, said: tuple[Intent, ...]) -> None:
        if said:
            self.change(telling=telling)
            self.intents += said

    def _elect(self, service: Service, part: _Part, before: _Part | None) -> _Part:
        among = self._electorate(part.adverts)
        among = restrict_to_endpoints(among, service, _reach(self.state, service.key).nodes)
        # Ranks by another first address say nothing about this one.
        last = before.election if before is not None and before.ranked_by == part.ranked_by else None
        election = re_elect(last, among, part.ranked_by)
        if election is not last:
            anew = last is None or last.winner not in among.candidates
            known = frozenset[str]() if anew or last is None else last.among.candidates
            self.effort += len(among.candidates - known)
        return _Part(part.address, part.ranked_by, part.adverts, election)

    def _electorate(self, adverts: tuple[L2Advertisement, ...]) -> Electorate:
        names = tuple(advert.name for advert in adverts)
        known = self.state.electorates.get(names)
        if known is not None:
            return known
        among = _electorate(self.state, adverts)
        self.change(electorates=self.state.electorates.set(names, among))
        return among

    def _keep_parts(self, key: ServiceKey, parts: tuple[_Part, ...]) -> None:
        before = {part.election.winner for part in self.state.parts.get(key, ()) if part.election is not None}
        after = {part.election.winner for part in parts if part.election is not None}
        won = self.state.won
        for winner in before - after:
            rest = won[winner].remove(key)
            won = won.set(winner, rest) if rest else won.delete(winner)
        for winner in after - before:
            won = won.set(winner, won.get(winner, Fifo[ServiceKey]()).push(key))
        kept = self.state.parts
        if parts:
            kept = kept.set(key, parts)
        elif key in kept:
            kept = kept.delete(key)
        self.change(won=won, parts=kept)

    def _drop(self, key: ServiceKey) -> None:
        service = self.state.services[key]
        before = [part.address for part in self.state.parts.get(key, ())]
        self._keep_parts(key, ())
        self._export(key, ())
        for address in before:
            self._want(service, address, None)
        self._tell_of(key, ())

    def _export(self, key: ServiceKey, given: tuple[Contribution, ...]) -> None:
        """Tell routers what a Service's change means for them."""
        before = self.state.exports.given.get(key, ())
        exports, intents = self.state.exports.put(key, given)
        self.change(exports=exports)
        self.intents += intents
        if given and not before:
            text = f"announcing from node {self.state.settings.node} with protocol bgp"
            about = f"Service {key}"
            self.intents.append(RecordEvent(about=about, type=EventType.NORMAL, reason="nodeAssigned", message=text))

    def _set_sessions(self) -> None:
        """Not before every Service was looked at: a router that keeps our routes drops what the first table lacks.
        Nor before Secrets were told, if a password stands in one: it would be called missing.
        """
        config, node = self.state.configuration.current, self.state.nodes.get(self.state.settings.node)
        given = config.bgp_peers if config is not None else ()
        if Kind.SECRETS not in self.state.listed and any(peer.password_secret is not None for peer in given):
            return
        self.change(peers_due=False)
        peers, problems = peers_of(given, node, self.state.secrets)
        self.intents += problems
        leaving = self._leaving(peers)
        if peers != self.state.peers or leaving != self.state.leaving:
            self.change(peers=peers, leaving=leaving)
            self.intents.append(SetSessions(peers, leaving))
        watches, problems = watches_of(peers, config.bfd_profiles if config is not None else ())
        if watches != self.state.sent_watches:
            self.change(sent_watches=watches)
            self.intents += [*problems, SetWatches(watches)]

    def _leaving(self, peers: tuple[BGPPeer, ...]) -> frozenset[str]:
        """The peers that are to turn to other nodes; one that keeps our routes over a restart is to notice nothing."""
        state = self.state
        if state.drain_ends is not None:
            return frozenset(peer.name for peer in peers)
        if state.stop_at is None:
            return frozenset()
        keeping = {name for name, status in state.sessions.items() if status.keeps_routes}
        return frozenset(peer.name for peer in peers) - keeping

    def _see_peer(self, name: str, status: PeerStatus | None) -> None:
        before, node = self.state.sessions.get(name), self.state.settings.node
        if status == before:
            return
        sessions = self.state.sessions
        self.change(sessions=sessions.set(name, status) if status is not None else sessions.delete(name))
        self._report_peer(name, status)
        peer = next((peer for peer in self.state.peers if peer.name == name), None)
        event = session_event(node, about(peer) if peer is not None else f"BGPPeer {name}", before, status)
        if event is not None:
            self.intents.append(event)

    def _report_peer(self, name: str, status: PeerStatus | None) -> None:
        peer = next((peer for peer in self.state.peers if peer.name == name), None)
        watched = self.state.watched.get(name)
        self.intents.append(
            ReportPeer(
                node=self.state.settings.node,
                peer=name,
                router=peer.router if peer is not None else "",
                status=status,
                watch=watched.state if watched is not None else None,
            )
        )

    def _see_watch(self, name: str, seen: WatchStatus | None) -> None:
        """A session falls with the path under it (RFC 5882 section 4.3), long before its hold time is over."""
        watched, before = self.state.watched, self.state.watched.get(name)
        self.change(watched=watched.set(name, seen) if seen is not None else watched.delete(name))
        if seen is not None and seen.failed and before is not None and not before.failed:
            self.intents.append(LoseSession(name, f"BFD: {seen.diagnostic.text}"))
        state, was = seen and seen.state, before and before.state
        status = self.state.sessions.get(name)
        if status is not None and state is not was:
            self._report_peer(name, status)

    def _want(
        self, service: Service, address: Address, interfaces: tuple[str, ...] | None, *, moved: bool = False
    ) -> None:
        """One Service wants (or no longer wants) this node to announce an address; `moved`: another is to."""
        wanted, key = self.state.wanted, service.key
        by = wanted.get(address, Map[ServiceKey, tuple[str, ...]]())
        if by.get(key) == interfaces:
            if address in self.state.handing_over and not moved:
                self._show(address)  # nobody is to take it over any more
            return
        if interfaces is not None:
            self.change(wanted=wanted.set(address, by.set(key, interfaces)))
            self._tell(service, address, interfaces)
        else:
            rest = by.delete(key)
            self.change(wanted=wanted.set(address, rest) if rest else wanted.delete(address))
        self._show(address, moved=moved)

    def _show(self, address: Address, *, moved: bool = False) -> None:
        """Announce, hand over or withdraw, if that is a change."""
        by = self.state.wanted.get(address)
        if by is None:
            if moved and self._may_hand_over():
                self._hand_over(address)
            elif self.state.stop_at is None or self.now >= self.state.stop_at or not self._others:
                self._withdraw(address)
            return
        # Several Services on one address: answer wherever one of them wants it; empty means everywhere.
        sets = list(by.values())
        interfaces = () if not all(sets) else tuple(sorted({name for names in sets for name in names}))
        if self.state.stop_at is not None and address not in self.state.announced:
            return  # who leaves takes up nothing new
        if self.state.announced.get(address) != interfaces or address in self.state.handing_over:
            taken = self.state.handing_over.end(address)
            self.change(announced=self.state.announced.set(address, interfaces), handing_over=taken)
            self.intents.append(Announce(address=address, interfaces=interfaces))

    @property
    def _others(self) -> frozenset[str]:
        return self.state.members - {self.state.settings.node}

    def _may_hand_over(self) -> bool:
        """Whether this is a planned move: the others know that we live, or see us leave in order."""
        state = self.state
        stopping = state.stop_at is not None and self.now < state.stop_at
        return bool(self._others) and (stopping or (state.stop_at is None and state.settings.node in state.members))

    def _hand_over(self, address: Address) -> None:
        """Go on answering for what is another's, until it is heard or the time is over."""
        if address not in self.state.announced or address in self.state.handing_over:
            return
        stop_at = self.state.stop_at
        until = stop_at if stop_at is not None else self.now + self.state.settings.hand_over
        if until <= self.now:
            self._withdraw(address)
            return
        self.change(handing_over=self.state.handing_over.begin(address, until))
        interfaces = self.state.announced[address]
        self.intents.append(Announce(address=address, interfaces=interfaces, yielding=True))

    def _withdraw(self, address: Address) -> None:
        if address in self.state.announced:
            self.change(handing_over=self.state.handing_over.end(address))
            self.change(announced=self.state.announced.delete(address))
            self.intents.append(Withdraw(address=address))

    def _withdraw_orphans(self) -> None:
        """What a process that we found running answers for, though nobody wants it."""
        self.change(orphans=False)
        orphans = [address for address in self.state.announced if address not in self.state.wanted]
        for address in sorted(orphans, key=_number):
            self._show(address)

    def _tell(self, service: Service, address: Address, interfaces: tuple[str, ...]) -> None:
        about, node = f"Service {service.key}", self.state.settings.node
        names = {link.name for link in self.state.links}
        if interfaces and not names.intersection(interfaces):
            text = (
                f"node {node} is to announce {address} on {', '.join(interfaces)}, and has no such usable interface; "
                "correct the interfaces of the L2Advertisement, or its nodeSelectors"
            )
            self.intents.append(RecordEvent(about=about, type=EventType.WARNING, reason="announceFailed", message=text))
            return
        text = f"announcing {address} from node {node} with protocol layer2"
        self.intents.append(RecordEvent(about=about, type=EventType.NORMAL, reason="nodeAssigned", message=text))


def _number(address: Address) -> tuple[int, int]:
    """To sort by: ten times as fast as comparing the addresses themselves."""
    return address.version, address.value


def _reach(state: AnnouncementState, key: ServiceKey) -> Reach:
    return reach_of(state.slices.get(key, Map[SliceKey, EndpointSlice]()).values())


def _electorate(state: AnnouncementState, adverts: tuple[L2Advertisement, ...]) -> Electorate:
    ignore = state.settings.ignore_exclude_label
    return electorate(adverts, state.nodes, state.members, drained=state.drained, ignore_exclude_label=ignore)


def _parts(state: AnnouncementState, service: Service) -> tuple[_Part, ...]:
    """A Service's addresses that may be announced, with the advertisements for each."""
    judged = _judge_service(state, service)
    return () if isinstance(judged, NotAnnounced) else judged


def _owned(state: AnnouncementState, service: Service) -> tuple[tuple[Address, Pool], ...] | NotAnnounced:
    """A Service's addresses with the pool of each, or why nobody announces any of them, on any protocol."""
    if not _is_ours(state, service):
        return NotAnnounced(Reason.NOT_LOAD_BALANCER, _why_not_ours(state, service))
    if not service.held:
        return NotAnnounced(Reason.NO_ADDRESS, "the Service has no address yet; see what its pools say")
    if state.catalog is None:
        return NotAnnounced(Reason.NOT_READY, "there is no valid configuration yet; mend what `lbcore check` finds")
    owners = [state.catalog.owner(address) for address in service.held]
    if None in owners:
        foreign = service.held[owners.index(None)]
        text = f"{foreign} is in no address pool; add it to one, or let the controller give the Service another"
        return NotAnnounced(Reason.ADDRESS_NOT_IN_POOL, text)
    return tuple((address, owner) for address, owner in zip(service.held, owners, strict=True) if owner is not None)


def _contributions(state: AnnouncementState, service: Service) -> tuple[Contribution, ...]:
    """What a Service gives to the routes of this node."""
    config, node = state.configuration.current, state.settings.node
    if config is None or not config.bgp_advertisements:
        return ()
    owned = _owned(state, service)
    if isinstance(owned, NotAnnounced):
        return ()
    # Whether other speakers see this one does not matter to a router that does. And who is drained goes on for a while.
    speakers = Speakers(
        nodes=state.nodes,
        members=state.members | {node},
        ignore_exclude_label=state.settings.ignore_exclude_label,
        drained=state.drained if state.drain_over else state.drained - {node},
    )
    reach = _reach(state, service.key)
    return contributions(service, owned, config.bgp_advertisements, config.bgp_peers, node, speakers, reach)


def _judge_service(state: AnnouncementState, service: Service) -> tuple[_Part, ...] | NotAnnounced:
    """What of a Service can be announced on Layer 2 by anybody, or why nothing of it."""
    owned = _owned(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    if not _reach(state, service.key).anywhere:
        return NotAnnounced(Reason.NO_ENDPOINTS, "the Service has no usable endpoint; look whether its Pods are ready")
    parts = tuple(
        _Part(address, _ranked_by(state, service, address), _adverts(state, service, owner.name), None)
        for address, owner in owned
    )
    if not any(part.adverts for part in parts):
        names = " and ".join(sorted({owner.name for _, owner in owned}))
        text = f"no L2Advertisement announces pool {names} for this Service; create one"
        return NotAnnounced(Reason.NO_ADVERTISEMENT, text)
    shared = annotation(service, "allow-shared-ip") is not None
    if shared and any(advert.service_selectors for part in parts for advert in part.adverts):
        text = (
            "a Service that shares its address cannot be announced by an L2Advertisement with serviceSelectors; "
            "take them out, or the annotation allow-shared-ip"
        )
        return NotAnnounced(Reason.SHARED_WITH_SERVICE_SELECTORS, text)
    return tuple(part for part in parts if part.adverts)


def _is_ours(state: AnnouncementState, service: Service) -> bool:
    return service.is_load_balancer and service.load_balancer_class == state.settings.load_balancer_class


def _why_not_ours(state: AnnouncementState, service: Service) -> str:
    if not service.is_load_balancer:
        return f"the Service is of type {service.type}; set spec.type: LoadBalancer if it is to have an address"
    given, served = service.load_balancer_class, state.settings.load_balancer_class
    theirs = f"is of class {given!r}" if given is not None else "has no class"
    ours = f"those of class {served!r} are" if served is not None else "those without a class are"
    return f"the Service {theirs}, and {ours} served here; change its loadBalancerClass, or --lb-class"


def _seconds_of_sharer(state: AnnouncementState, service: Service | None) -> tuple[tuple[Address, Address], ...]:
    """The addresses that a Service which shares holds behind its first, each with that first one."""
    if service is None or len(service.held) < 2 or not _is_ours(state, service):
        return ()
    if annotation(service, "allow-shared-ip") is None:
        return ()
    return tuple((address, service.held[0]) for address in service.held[1:])


def _ranked_by(state: AnnouncementState, service: Service, address: Address) -> Address:
    return min(state.firsts.get(address, ()), default=service.held[0])


def _adverts(state: AnnouncementState, service: Service, pool_name: str) -> tuple[L2Advertisement, ...]:
    config, catalog = state.configuration.current, state.catalog
    pool = catalog.named(pool_name) if catalog is not None else None
    if config is None or pool is None:
        return ()
    return tuple(
        advert
        for advert in config.l2_advertisements
        if advert.selects_pool(pool)
        and (not advert.service_selectors or matches_any(advert.service_selectors, service.labels))
    )


def _interfaces(adverts: tuple[L2Advertisement, ...], node: Node | None) -> tuple[str, ...]:
    """The interfaces that the advertisements which include this node name; empty for all of them."""
    labels = node.labels if node is not None else Map[str, str]()
    mine = [ad for ad in adverts if not ad.node_selectors or matches_any(ad.node_selectors, labels)]
    if not all(advert.interfaces for advert in mine):
        return ()
    return tuple(sorted({name for advert in mine for name in advert.interfaces}))


def explain(
    state: AnnouncementState, key: ServiceKey
) -> tuple[tuple[Address, tuple[NodeVerdict, ...]], ...] | NotAnnounced | None:
    """For each address of a Service every node's verdict, the one that announces first; or why none does.

    None for a Service that is not known. Nodes that could take over follow in the order in which
    they would, then those that cannot, by name.
    """
    service = state.services.get(key)
    if service is None:
        return None
    judged = _judge_service(state, service)
    if isinstance(judged, NotAnnounced):
        return judged
    return tuple((part.address, tuple(_node_verdicts(state, service, part))) for part in judged)


def _node_verdicts(state: AnnouncementState, service: Service, part: _Part) -> Iterator[NodeVerdict]:
    ignore = state.settings.ignore_exclude_label
    reach = _reach(state, service.key)
    among = _electorate(state, part.adverts)
    local = restrict_to_endpoints(among, service, reach.nodes)
    order = rank(local.candidates, part.ranked_by, local.scores)
    for place, name in enumerate(order):
        if place == 0:
            detail = "announces it" if name not in state.drained else "announces it though drained: no other node can"
            yield NodeVerdict(node=name, reason=Reason.OK, detail=detail)
        elif name in state.drained:
            yield NodeVerdict(node=name, reason=Reason.NODE_DRAINED, detail=NODE_TEXTS[Reason.NODE_DRAINED])
        else:
            text = f"{order[0]} ranks before it; number {place + 1} of {len(order)} to take over"
            yield NodeVerdict(node=name, reason=Reason.NOT_ELECTED, detail=text)
    for name in sorted({*state.nodes, *state.members} - set(order)):
        if name in among.candidates:
            reason = Reason.NO_LOCAL_ENDPOINTS
            yield NodeVerdict(node=name, reason=reason, detail=NODE_TEXTS[reason])
        else:
            yield judge_node(name, part.adverts, state.nodes, state.members, ignore_exclude_label=ignore)


def _speakers(state: AnnouncementState) -> Speakers:
    return Speakers(
        nodes=state.nodes,
        members=state.members,
        ignore_exclude_label=state.settings.ignore_exclude_label,
        drained=state.drained,
    )


def explain_bgp(
    state: AnnouncementState, key: ServiceKey
) -> tuple[tuple[Address, tuple[NodeVerdict, ...]], ...] | NotAnnounced | None:
    """For each address of a Service every node's verdict on announcing it over BGP, by name; or why none does.

    None for a Service that is not known.
    """
    service, config = state.services.get(key), state.configuration.current
    if service is None:
        return None
    owned = _owned(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    assert config is not None  # its pools own the addresses
    speakers = _speakers(state)
    reach = _reach(state, key)
    adverts, peers = config.bgp_advertisements, config.bgp_peers
    return tuple(
        (address, tuple(bgp_verdicts(service, address.family, pool, adverts, peers, speakers, reach)))
        for address, pool in owned
    )


def explain_routes(state: AnnouncementState, key: ServiceKey) -> tuple[PeerVerdict, ...] | NotAnnounced | None:
    """What each node tells each of its routers of a Service's addresses, and why not the others; or why nobody does.

    None for a Service that is not known, and empty where the configuration has nothing of BGP.
    """
    service, config = state.services.get(key), state.configuration.current
    if service is None:
        return None
    owned = _owned(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    assert config is not None  # its pools own the addresses
    if not config.bgp_advertisements and not config.bgp_peers:
        return ()
    speakers = _speakers(state)
    reach = _reach(state, key)
    return tuple(
        verdict
        for address, pool in owned
        for name in speakers.names
        for verdict in peer_verdicts(
            name, service, address, pool, config.bgp_advertisements, config.bgp_peers, speakers, reach
        )
    )


def bgp_announcers(state: AnnouncementState, key: ServiceKey) -> tuple[tuple[Address, tuple[str, ...]], ...]:
    """For each address of a Service the nodes that announce it over BGP, sorted; nothing where nobody may."""
    judged = explain_bgp(state, key)
    if judged is None or isinstance(judged, NotAnnounced):
        return ()
    return tuple(
        (address, tuple(verdict.node for verdict in verdicts if verdict.reason is Reason.OK))
        for address, verdicts in judged
    )

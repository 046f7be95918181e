"""What an event changes in what a speaker knows."""

from __future__ import annotations

from immutables import Map

from lbcore.addresses import Address
from lbcore.announcement.answering import others_of, see_answering, withdraw
from lbcore.announcement.judging import reach_to, seconds_of_sharer
from lbcore.announcement.routers import note_of_routers, note_own_drain
from lbcore.announcement.state import NOBODY
from lbcore.announcement.turn import Turn
from lbcore.announcement.voting import drop
from lbcore.config import Configuration
from lbcore.draining import drained_nodes
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
    SpeakerPodsSeen,
    Stopping,
    Tick,
    WatchSeen,
)
from lbcore.intents import ReportConfig, SetPeers
from lbcore.links import usable_links
from lbcore.model import EndpointSlice, Node, Service, ServiceKey, SliceKey
from lbcore.pools import Catalog

__all__ = ["keep_config_in_force", "note", "set_peers"]


def note(turn: Turn, event: Event) -> None:
    """Take in one event; what follows from it is worked on afterwards."""
    state = turn.state
    match event:
        case ServiceSeen(service):
            _count_firsts(turn, state.services.get(service.key), service)
            turn.change(services=state.services.set(service.key, service), work=state.work.touch(service.key))
        case ServiceGone(key, uid):
            known = state.services.get(key)
            if known is not None and uid in ("", known.uid):
                _count_firsts(turn, known, None)
                drop(turn, key)
                turn.change(services=turn.state.services.delete(key), work=turn.state.work.strike(key))
        case SliceSeen(slice_):
            _see_slice(turn, slice_)
        case SliceGone(key):
            _forget_slice(turn, key)
        case NodeSeen() | NodeGone() | DrainsSeen() | SpeakerPodsSeen():
            _note_of_nodes(turn, event)
        case ConfigSeen(document):
            _config_changed(turn, state.configuration.seen(document))
        case ConfigGone(origin):
            _config_changed(turn, state.configuration.gone(origin))
        case MembersSeen():
            _see_members(turn, event)
        case LinksSeen(links):
            turn.change(links=usable_links(links, state.settings.exclusions))
        case AnsweringSeen(answering):
            see_answering(turn, answering)
        case PeerSeen() | WatchSeen() | SecretSeen() | SecretGone():
            note_of_routers(turn, event)
        case AddressHeard(address=address) if state.stop_at is not None or address in state.handing_over:
            withdraw(turn, address)  # the successor speaks: the hand-over is done
        case Listed(kind):
            was_ready = state.ready
            turn.change(listed=state.listed | {kind})
            if not was_ready and state.ready:
                turn.change(orphans=True)
        case Stopping() if state.stop_at is None:
            # Alone there is nobody to hand over to, and nothing to wait for.
            others = others_of(turn)
            sessions = [status for status in state.sessions.values() if status.advertised]
            lingers = bool(others) and state.settings.hand_over > 0 and any(not each.keeps_routes for each in sessions)
            turn.change(stop_at=turn.now + (state.settings.hand_over if others else 0.0), lingers=lingers)
            turn.change(peers_due=True)
        case (
            AddressHeard() | Stopping() | Tick() | Applied() | Failed()
            | NamespaceSeen() | NamespaceGone() | ManifestRefused()
        ):  # fmt: skip
            pass


def _note_of_nodes(turn: Turn, event: NodeSeen | NodeGone | DrainsSeen | SpeakerPodsSeen) -> None:
    nodes = turn.state.nodes
    match event:
        case NodeSeen(node):
            _see_nodes(turn, nodes.set(node.name, node))
        case NodeGone(name) if name in nodes:
            _see_nodes(turn, nodes.delete(name))
        case DrainsSeen(names) if names != turn.state.marked:
            turn.change(marked=names)
            _see_nodes(turn, nodes)
        case SpeakerPodsSeen(addresses):
            turn.change(pods=addresses)


def _count_firsts(turn: Turn, before: Service | None, after: Service | None) -> None:
    gone, new = seconds_of_sharer(turn.state, before), seconds_of_sharer(turn.state, after)
    if gone == new:
        return
    firsts = turn.state.firsts
    for pairs, by in ((gone, -1), (new, 1)):
        for address, first in pairs:
            counts = firsts.get(address, Map[Address, int]())
            count = counts.get(first, 0) + by
            counts = counts.set(first, count) if count else counts.delete(first)
            firsts = firsts.set(address, counts) if counts else firsts.delete(address)
    # Rare, so the others on the address are not kept in an index: all are looked at.
    turn.change(firsts=firsts, work=turn.state.work.sweep())


def _see_slice(turn: Turn, slice_: EndpointSlice) -> None:
    owner = turn.state.slice_owner.get(slice_.key)
    if owner is not None and owner != slice_.service_key:
        _forget_slice(turn, slice_.key)
    state, key = turn.state, slice_.service_key
    before = _usable(turn, key)
    of_service = state.slices.get(key, Map[SliceKey, EndpointSlice]()).set(slice_.key, slice_)
    turn.change(slices=state.slices.set(key, of_service), slice_owner=state.slice_owner.set(slice_.key, key))
    _see_endpoints(turn, key, before)


def _forget_slice(turn: Turn, slice_key: SliceKey) -> None:
    state = turn.state
    key = state.slice_owner.get(slice_key)
    if key is None:
        return
    before = _usable(turn, key)
    rest = state.slices[key].delete(slice_key)
    slices = state.slices.set(key, rest) if rest else state.slices.delete(key)
    turn.change(slices=slices, slice_owner=state.slice_owner.delete(slice_key))
    _see_endpoints(turn, key, before)


def _usable(turn: Turn, key: ServiceKey) -> frozenset[str]:
    return reach_to(turn.state, key).nodes if turn.state.settings.ready_for > 0 else frozenset()


def _see_endpoints(turn: Turn, key: ServiceKey, before: frozenset[str]) -> None:
    """What there was at the start is not new: a restart withholds nothing."""
    state = turn.state
    if state.settings.ready_for > 0 and state.ready:
        settling = state.settling.see(key, before, _usable(turn, key), turn.now + state.settings.ready_for)
        turn.change(settling=settling)
    _touch(turn, key)


def end_waits(turn: Turn) -> None:
    """Nodes whose endpoints have been usable for long enough count from now on."""
    settling, keys = turn.state.settling.end(turn.now, turn.state.settings.effort)
    turn.change(settling=settling)
    for key in keys:
        _touch(turn, key)


def _touch(turn: Turn, key: ServiceKey) -> None:
    if key in turn.state.services:
        turn.change(work=turn.state.work.touch(key))


def _see_nodes(turn: Turn, nodes: Map[str, Node]) -> None:
    cordons = turn.state.settings.drain_cordoned
    drained = drained_nodes(nodes.values(), turn.state.marked, cordons=cordons)
    note_own_drain(turn, drained)
    turn.change(nodes=nodes, drained=drained, electorates=Map(), work=turn.state.work.sweep(), peers_due=True)


def _see_members(turn: Turn, seen: MembersSeen) -> None:
    """Those whose announcer is lost go first; newcomers can only take over, and that may take its turn."""
    state, names, waiting = turn.state, seen.names, seen.waiting - seen.names
    # What was counted while no speaker listened counts, too; a process that is new counts from 0.
    if seen.reunions != state.reunions:
        turn.change(anew=state.anew or seen.reunions > state.reunions, reunions=seen.reunions)
    if (names, waiting) == (state.members, state.waiting):
        return
    new = names - state.members
    gone = (state.members - names) | (state.waiting - waiting - names)
    # Who waits announces what nobody else does, or what another that waits does.
    awaited = {NOBODY, *waiting} if waiting - state.waiting else set()
    lost = [state.won[name] for name in sorted(gone | awaited) if name in state.won]
    turn.change(members=names, waiting=waiting, electorates=Map(), lost=(*state.lost, *lost))
    config = state.configuration.current
    routed = config is not None and bool(config.bgp_advertisements)
    # A lost node's place among a Service's few is another's, and so is that of who was to take over next.
    if new or ((routed or state.settings.stands_by) and gone):
        turn.change(work=turn.state.work.sweep())


def _config_changed(turn: Turn, configuration: Configuration) -> None:
    settings, latest = turn.state.settings, turn.state.config_latest
    if latest is None:
        latest = turn.now + settings.config_patience
    quiet = settings.config_quiet if Kind.CONFIG in turn.state.listed else 0.0
    turn.change(configuration=configuration, config_due=min(turn.now + quiet, latest), config_latest=latest)


def keep_config_in_force(turn: Turn) -> None:
    """Put changed configuration in force once it has been quiet for long enough."""
    due = turn.state.config_due
    nothing_configured = turn.state.configuration == Configuration() and due is None
    if nothing_configured or (due is not None and turn.now >= due):
        _put_config_in_force(turn)


def _put_config_in_force(turn: Turn) -> None:
    before = turn.state.configuration
    after = before.settled()
    turn.change(configuration=after, config_due=None, config_latest=None)
    if after.current != before.current or after.problems != before.problems:
        turn.intents.append(ReportConfig(config=after.current, problems=after.problems))
    if after.current is None or (turn.state.catalog is not None and after.current == before.current):
        return
    was_ready = turn.state.ready
    catalog = Catalog(after.current.pools)
    turn.change(catalog=catalog, electorates=Map(), work=turn.state.work.sweep(), peers_due=True)
    if not was_ready:
        turn.change(orphans=True)


def set_peers(turn: Turn) -> None:
    """Where a Node is, a speaker may be; where a Pod of one is, it is."""
    nodes = turn.state.nodes.values()
    peers = tuple(sorted({*turn.state.pods, *(address for node in nodes for address in node.addresses)}))
    if peers != turn.state.sent_peers:
        turn.change(sent_peers=peers)
        turn.intents.append(SetPeers(peers))

"""BGP: which sessions this node holds, what its routers are told, and what is heard of them."""

from __future__ import annotations

from attrs import evolve

from lbcore.announcement.judging import contributions_of
from lbcore.announcement.turn import Turn
from lbcore.bfd import BfdState, Watch, WatchStatus
from lbcore.bgp import BGPPeer
from lbcore.draining import drain_ended, node_drained, node_draining
from lbcore.events import Kind, PeerSeen, SecretGone, SecretSeen, WatchSeen
from lbcore.exports import Contribution
from lbcore.intents import EventType, LoseSession, RecordEvent, ReportPeer, ReportWithheld, SetSessions, SetWatches
from lbcore.model import Service, ServiceKey
from lbcore.peering import about, lonely_peers, peers_of, session_event, watch_event, watch_trouble, watches_of
from lbcore.routes import PeerStatus

__all__ = ["end_drain", "export", "note_of_routers", "note_own_drain", "set_sessions"]


def note_of_routers(turn: Turn, event: PeerSeen | WatchSeen | SecretSeen | SecretGone) -> None:
    """What was heard of sessions with routers, of the paths to them, and of Secrets with their passwords."""
    secrets = turn.state.secrets
    match event:
        case PeerSeen(name, status):
            _see_peer(turn, name, status)
        case WatchSeen(name, seen):
            _see_watch(turn, name, seen)
        case SecretSeen(secret):
            turn.change(secrets=secrets.set(secret.key, secret), peers_due=True)
        case SecretGone(key) if key in secrets:
            turn.change(secrets=secrets.delete(key), peers_due=True)


def _see_peer(turn: Turn, name: str, status: PeerStatus | None) -> None:
    before, node = turn.state.sessions.get(name), turn.state.settings.node
    if status == before:
        return
    sessions = turn.state.sessions
    turn.change(sessions=sessions.set(name, status) if status is not None else sessions.delete(name))
    _report_peer(turn, name, status)
    peer = _peer(turn, name)
    event = session_event(node, about(peer) if peer is not None else f"BGPPeer {name}", before, status)
    if event is not None:
        turn.intents.append(event)


def _report_peer(turn: Turn, name: str, status: PeerStatus | None) -> None:
    peer, watched = _peer(turn, name), turn.state.watched.get(name)
    if status is not None and not status.error:
        status = evolve(status, error=watch_trouble(peer, _watch(turn, name), watched))
    turn.intents.append(
        ReportPeer(
            node=turn.state.settings.node,
            peer=name,
            router=peer.router if peer is not None else "",
            status=status,
            watch=watched.state if watched is not None else None,
        )
    )


def _see_watch(turn: Turn, name: str, seen: WatchStatus | None) -> None:
    """A session falls with the path under it (RFC 5882 section 4.3), long before its hold time is over."""
    watched, before = turn.state.watched, turn.state.watched.get(name)
    turn.change(watched=watched.set(name, seen) if seen is not None else watched.delete(name))
    if seen is not None and seen.failed and before is not None and not before.failed:
        turn.intents.append(LoseSession(name, f"BFD: {seen.diagnostic.text}"))
    event = watch_event(turn.state.settings.node, _peer(turn, name), _watch(turn, name), before, seen)
    if event is not None:
        turn.intents.append(event)
    status = turn.state.sessions.get(name)
    if status is not None and _shown(seen) != _shown(before):
        _report_peer(turn, name, status)


def _shown(seen: WatchStatus | None) -> tuple[BfdState, int] | None:
    return (seen.state, seen.refused_ttl) if seen is not None else None


def _peer(turn: Turn, name: str) -> BGPPeer | None:
    return next((peer for peer in turn.state.peers if peer.name == name), None)


def _watch(turn: Turn, name: str) -> Watch | None:
    return next((watch for watch in turn.state.sent_watches if watch.peer == name), None)


def export(turn: Turn, key: ServiceKey, given: tuple[Contribution, ...]) -> None:
    """Tell routers what a Service's change means for them."""
    before = turn.state.exports.given.get(key, ())
    exports, intents = turn.state.exports.put(key, given)
    turn.change(exports=exports)
    turn.intents += intents
    if given and not before:
        text = f"announcing from node {turn.state.settings.node} with protocol bgp"
        about = f"Service {key}"
        turn.intents.append(RecordEvent(about=about, type=EventType.NORMAL, reason="nodeAssigned", message=text))


def withhold(turn: Turn, key: ServiceKey, service: Service | None) -> None:
    """Say once that routers are told of a Service later, and once that this is over."""
    state, node = turn.state, turn.state.settings.node
    new = service is not None and node in state.settling.waiting(key) and key not in state.exports.given
    waits = service is not None and new and bool(contributions_of(state, service, waits=False))
    if waits == (key in state.withheld):
        return
    turn.change(withheld=state.withheld.set(key, None) if waits else state.withheld.delete(key))
    after = state.settings.ready_for if waits else None
    turn.intents.append(ReportWithheld(key=key, node=node, after=after))
    if waits:
        text = f"node {node} tells routers when its endpoints have been usable for {after:g} s"
        about = f"Service {key}"
        turn.intents.append(RecordEvent(about=about, type=EventType.NORMAL, reason="routeWithheld", message=text))


def set_sessions(turn: Turn) -> None:
    """Not before every Service was looked at: a router that keeps our routes drops what the first table lacks.
    Nor before Secrets were told, if a password stands in one: it would be called missing.
    """
    config, node = turn.state.configuration.current, turn.state.nodes.get(turn.state.settings.node)
    given = config.bgp_peers if config is not None else ()
    if Kind.SECRETS not in turn.state.listed and any(peer.password_secret is not None for peer in given):
        return
    turn.change(peers_due=False)
    peers, problems = peers_of(given, node, turn.state.secrets)
    turn.intents += problems
    leaving = _leaving(turn, peers)
    if peers != turn.state.peers or leaving != turn.state.leaving:
        turn.change(peers=peers, leaving=leaving)
        turn.intents.append(SetSessions(peers, leaving))
    # Of all speakers that see it one says so.
    lonely = lonely_peers(given, turn.state.nodes)
    if turn.state.settings.node == min(turn.state.members, default=None):
        turn.intents += [event for name, event in lonely.items() if name not in turn.state.lonely]
    turn.change(lonely=frozenset(lonely))
    watches, problems = watches_of(peers, config.bfd_profiles if config is not None else ())
    if watches != turn.state.sent_watches:
        turn.change(sent_watches=watches)
        turn.intents += [*problems, SetWatches(watches)]


def _leaving(turn: Turn, peers: tuple[BGPPeer, ...]) -> frozenset[str]:
    """The peers that are to turn to other nodes; one that keeps our routes over a restart is to notice nothing."""
    state = turn.state
    if state.drain_ends is not None:
        return frozenset(peer.name for peer in peers)
    if state.stop_at is None:
        return frozenset()
    keeping = {name for name, status in state.sessions.items() if status.keeps_routes}
    return frozenset(peer.name for peer in peers) - keeping


def note_own_drain(turn: Turn, drained: frozenset[str]) -> None:
    """A node that starts as a drained one has nothing that its routers would have to turn away from."""
    node = turn.state.settings.node
    if node not in drained:
        if turn.state.drain_ends is not None and turn.state.ready:
            turn.intents.append(drain_ended(node))
        turn.change(drain_ends=None, drains=None)
    elif node not in turn.state.drained:
        wait = turn.state.settings.drain_time if turn.state.ready else 0.0
        turn.change(drain_ends=turn.now + wait)
        if turn.state.ready:
            routes = len(turn.state.exports.told)
            turn.change(drains=routes)
            turn.intents.append(node_draining(node, routes, wait))


def end_drain(turn: Turn) -> None:
    """The time that routers were given is over: what other nodes announce, too, is looked at to be withdrawn."""
    ends = turn.state.drain_ends
    if ends is not None and turn.now >= ends and not turn.state.drain_over:
        turn.change(drain_over=True, work=turn.state.work.sweep())
    elif turn.state.drain_over and (ends is None or turn.now < ends):
        turn.change(drain_over=False)


def tell_of_drain(turn: Turn) -> None:
    """A drain is done when everything was looked at after the routers' time."""
    before, left = turn.state.drains, len(turn.state.exports.told)
    if before is not None and turn.state.drain_over and not turn.state.unfinished:
        turn.change(drains=None)
        turn.intents.append(node_drained(turn.state.settings.node, max(0, before - left), left))

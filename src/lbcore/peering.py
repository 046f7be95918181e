"""Which routers does a node hold sessions with, and what is worth telling of a session that changed?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve

from lbcore.bfd import Watch, WatchStatus, watch_of
from lbcore.bgp import BFDProfile, BGPPeer
from lbcore.ingress import ObjectKey, Secret
from lbcore.intents import EventType, RecordEvent
from lbcore.model import Node
from lbcore.routes import PeerState, PeerStatus

__all__ = ["about", "lonely_peers", "peers_of", "session_event", "watch_event", "watch_trouble", "watches_of"]

_PASSWORD = "password"  # noqa: S105 - the key of a Secret of type kubernetes.io/basic-auth

_AS_IT_IS_MADE = f"of type kubernetes.io/basic-auth with a key {_PASSWORD!r}, in the namespace of the BGPPeer"


def peers_of(
    peers: Iterable[BGPPeer], node: Node | None, secrets: Mapping[ObjectKey, Secret]
) -> tuple[tuple[BGPPeer, ...], list[RecordEvent]]:
    """The peers of a node, with the passwords of Secrets filled in, and what is to be said of those that wait for one.

    A peer whose Secret is not there gets no session: one without a password would not come up either.
    """
    found: list[BGPPeer] = []
    problems: list[RecordEvent] = []
    for peer in peers:
        if not peer.runs_on(node):
            continue
        if peer.password_secret is None:
            found.append(peer)
            continue
        own = peer.origin.namespace if peer.origin is not None else ""
        key = ObjectKey(peer.password_secret.namespace or own, peer.password_secret.name)
        # As MetalLB, which goes by the name alone and looks where its own objects are.
        secret = secrets.get(key) or secrets.get(ObjectKey(own, key.name))
        password = secret.data.get(_PASSWORD, b"").decode("utf-8", "replace") if secret is not None else ""
        if password:
            found.append(evolve(peer, password=password))
        else:
            lack = f"has no key {_PASSWORD!r}" if secret is not None else f"is not there; make it, {_AS_IT_IS_MADE}"
            text = f"Secret {key} {lack}; no session with {peer.router} is tried before it has one"
            problems.append(_event(about(peer), EventType.WARNING, "passwordMissing", text))
    return tuple(found), problems


def watches_of(peers: Iterable[BGPPeer], profiles: Iterable[BFDProfile]) -> tuple[tuple[Watch, ...], list[RecordEvent]]:
    """The peers that are watched by BFD, and what is to be said of their profiles.

    Echoes are refused, and not the session: in asynchronous mode it finds the same failures, and the router is told
    that it may send no echoes (RFC 5880 section 6.8.1, Required Min Echo RX Interval 0).
    """
    known = {profile.name: profile for profile in profiles}
    watches: list[Watch] = []
    problems: list[RecordEvent] = []
    for peer in peers:
        profile = known.get(peer.bfd_profile)
        if profile is None:
            continue
        watches.append(watch_of(peer, profile))
        if profile.echo_mode:
            text = (
                f"BFDProfile {profile.name!r} has echoMode, which is not served: {peer.router} is watched by control "
                "packets alone; shorten its intervals if that is too slow, and take echoMode out"
            )
            problems.append(_event(about(peer), EventType.WARNING, "echoModeRefused", text))
    return tuple(watches), problems


def lonely_peers(peers: Iterable[BGPPeer], nodes: Mapping[str, Node]) -> dict[str, RecordEvent]:
    """The peers that no node has a session with, by name, and what is to be said of each.

    None in a cluster that lists no Nodes: there every speaker has those without selectors.
    """
    found: dict[str, RecordEvent] = {}
    for peer in peers:
        if nodes and not any(peer.runs_on(node) for node in nodes.values()):
            text = (
                f"no node has a session with {peer.router}: none of {len(nodes)} matches its nodeSelectors; "
                "label one, or widen them"
            )
            found[peer.name] = _event(about(peer), EventType.WARNING, "peerWithoutNode", text)
    return found


def about(peer: BGPPeer) -> str:
    """The object that Events about a peer go to: its own, or the ConfigMap that it stands in."""
    return str(peer.origin) if peer.origin is not None else f"BGPPeer {peer.name}"


def session_event(node: str, about: str, before: PeerStatus | None, after: PeerStatus | None) -> RecordEvent | None:
    """What is worth telling: a session that came up or was lost, and a new reason for one that does not come up."""
    was_up = before is not None and before.state is PeerState.ESTABLISHED
    if after is None:
        return (
            _event(about, EventType.NORMAL, "sessionClosed", f"node {node} has no session any more") if was_up else None
        )
    is_up = after.state is PeerState.ESTABLISHED
    if is_up and not was_up:
        return _event(about, EventType.NORMAL, "sessionUp", f"node {node} has an established session")
    if was_up and not is_up:
        return _event(about, EventType.WARNING, "sessionDown", f"node {node}: {after.error or 'the session is lost'}")
    if after.error and (before is None or after.error != before.error):
        return _event(about, EventType.WARNING, "sessionProblem", f"node {node}: {after.error}")
    return None


def watch_trouble(peer: BGPPeer | None, watch: Watch | None, seen: WatchStatus | None) -> str:
    """Why a peer that speaks BFD is not heard, in one line; '' where that is not so."""
    if peer is None or watch is None or seen is None or not seen.refused_ttl:
        return ""
    said = f"BFD: packets of {peer.router} arrive with a TTL of {seen.refused_ttl}"
    if watch.multihop or seen.refused_ttl < watch.minimum_ttl:
        lower = f"set minimumTtl of BFDProfile {peer.bfd_profile!r} to {seen.refused_ttl} or less"
        return f"{said}, and {watch.minimum_ttl} is asked for: {lower}, or let the router send them with 255"
    return f"{said}, and of a neighbour on a link they have 255: set ebgpMultiHop: true if a router is in between"


def watch_event(
    node: str, peer: BGPPeer | None, watch: Watch | None, before: WatchStatus | None, after: WatchStatus | None
) -> RecordEvent | None:
    """What is worth telling of the path to a peer: that its packets are not heard, whenever that is found anew."""
    trouble = watch_trouble(peer, watch, after)
    if peer is None or not trouble or (before is not None and before.refused_ttl):
        return None
    return _event(about(peer), EventType.WARNING, "sessionProblem", f"node {node}: {trouble}")


def _event(about: str, type_: EventType, reason: str, text: str) -> RecordEvent:
    return RecordEvent(about=about, type=type_, reason=reason, message=text)

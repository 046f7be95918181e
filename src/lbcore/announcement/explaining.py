"""Why a Service is announced where it is, in words for each node and each router."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.addresses import Address
from lbcore.advertising import PeerVerdict, Speakers, bgp_verdicts, every_peer_verdict
from lbcore.announcement.judging import (
    candidates_for,
    electorate_of,
    judge_service,
    owners_of,
    reach_to,
    told_reach_to,
)
from lbcore.announcement.state import AnnouncementState, NotAnnounced, Part
from lbcore.election import Electorate, judge_node, rank, restrict_to_endpoints
from lbcore.exports import joined
from lbcore.model import Service, ServiceKey
from lbcore.routes import Offer, Path, Prefix
from lbcore.verdicts import NODE_TEXTS, NodeVerdict, Reason

__all__ = ["bgp_announcers", "explain", "explain_bgp", "explain_routes"]


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
    judged = judge_service(state, service)
    if isinstance(judged, NotAnnounced):
        return judged
    return tuple((part.address, tuple(_node_verdicts(state, service, part))) for part in judged)


def _node_verdicts(state: AnnouncementState, service: Service, part: Part) -> Iterator[NodeVerdict]:
    ignore = state.settings.ignore_exclude_label
    local = candidates_for(state, service, part.adverts, electorate_of(state, part.adverts))
    order = rank(local.candidates, part.ranked_by, local.scores)
    for place, name in enumerate(order):
        if place == 0:
            detail = "announces it"
            if name in state.drained or name in state.waiting:
                why = "drained" if name in state.drained else "it is to wait, having been lost a moment ago"
                detail = f"announces it though {why}: no other node can"
            yield NodeVerdict(node=name, reason=Reason.OK, detail=detail)
        elif name in state.drained:
            yield NodeVerdict(node=name, reason=Reason.NODE_DRAINED, detail=NODE_TEXTS[Reason.NODE_DRAINED])
        else:
            text = f"{order[0]} ranks before it; number {place + 1} of {len(order)} to take over"
            yield NodeVerdict(node=name, reason=Reason.NOT_ELECTED, detail=text)
    living = state.members | state.waiting
    near = restrict_to_endpoints(Electorate(living), service, reach_to(state, service.key).nodes).candidates
    for name in sorted({*state.nodes, *living} - set(order)):
        verdict = judge_node(name, part.adverts, state.nodes, living, ignore_exclude_label=ignore)
        if verdict.reason is Reason.OK:  # what keeps it out is none of its own
            reason = Reason.NODE_WAITS if name in near else Reason.NO_LOCAL_ENDPOINTS
            verdict = NodeVerdict(node=name, reason=reason, detail=NODE_TEXTS[reason])
        yield verdict


def _speakers(state: AnnouncementState) -> Speakers:
    return Speakers(
        nodes=state.nodes,
        members=state.members,
        waiting=state.waiting,
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
    owned = owners_of(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    assert config is not None  # its pools own the addresses
    speakers = _speakers(state)
    reach = told_reach_to(state, key)
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
    owned = owners_of(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    assert config is not None  # its pools own the addresses
    if not config.bgp_advertisements and not config.bgp_peers:
        return ()
    speakers = _speakers(state)
    reach = told_reach_to(state, key)
    return tuple(
        verdict
        for address, pool in owned
        for verdict in every_peer_verdict(
            service, address, pool, config.bgp_advertisements, config.bgp_peers, speakers, reach
        )
    )


def routes(state: AnnouncementState) -> dict[tuple[str, str, Prefix], Path]:
    """What every node tells every router: by node, name of the BGPPeer and prefix, sorted."""
    given: dict[tuple[str, Prefix], dict[Offer, None]] = {}
    for key in sorted(state.services):
        verdicts = explain_routes(state, key)
        for each in verdicts if isinstance(verdicts, tuple) else ():
            if each.reason is Reason.OK and each.peer is not None:
                given.setdefault((each.node, each.prefix), {})[Offer(each.peer.name, each.path)] = None
    told = {
        (node, offer.peer, prefix): offer.path for (node, prefix), offers in given.items() for offer in joined(offers)
    }
    return {each: told[each] for each in sorted(told, key=_route_order)}


def _route_order(route: tuple[str, str, Prefix]) -> tuple[str, str, tuple[int, int, int]]:
    node, peer, prefix = route
    return node, peer, prefix.order


def bgp_announcers(state: AnnouncementState, key: ServiceKey) -> tuple[tuple[Address, tuple[str, ...]], ...]:
    """For each address of a Service the nodes that announce it over BGP, sorted; nothing where nobody may."""
    judged = explain_bgp(state, key)
    if judged is None or isinstance(judged, NotAnnounced):
        return ()
    return tuple(
        (address, tuple(verdict.node for verdict in verdicts if verdict.reason is Reason.OK))
        for address, verdicts in judged
    )

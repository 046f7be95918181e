"""Why a Service is announced where it is, in words for each node and each router."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lbcore.addresses import Address
from lbcore.advertising import Case, PeerVerdict, Speakers, bgp_verdicts, every_peer_verdict
from lbcore.announcement.judging import (
    candidates_for,
    electorate_of,
    judge_service,
    owners_of,
    reach_to,
    told_reach_to,
)
from lbcore.announcement.state import AnnouncementState, NotAnnounced, Part
from lbcore.bgp import BGPPeer
from lbcore.election import Electorate, judge_node, rank, restrict_to_endpoints
from lbcore.exports import merged
from lbcore.model import Service, ServiceKey
from lbcore.routes import Path, Prefix
from lbcore.verdicts import NODE_TEXTS, NodeVerdict, Reason

__all__ = ["all_bgp_announcers", "explain", "explain_bgp", "explain_routes", "routes"]


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
    service = state.services.get(key)
    cases = _cases(state, service) if service is not None else None
    if cases is None or isinstance(cases, NotAnnounced):
        return cases
    peers, speakers = _peers(state), _speakers(state)
    return tuple((address, tuple(bgp_verdicts(case, peers, speakers))) for address, case in cases)


def explain_routes(state: AnnouncementState, key: ServiceKey) -> tuple[PeerVerdict, ...] | NotAnnounced | None:
    """What each node tells each of its routers of a Service's addresses, and why not the others; or why nobody does.

    None for a Service that is not known, and empty where the configuration has nothing of BGP.
    """
    service, config = state.services.get(key), state.configuration.current
    cases = _cases(state, service) if service is not None else None
    if cases is None or isinstance(cases, NotAnnounced):
        return cases
    if config is None or not (config.bgp_advertisements or config.bgp_peers):
        return ()
    peers, speakers = _peers(state), _speakers(state)
    return tuple(verdict for address, case in cases for verdict in every_peer_verdict(address, case, peers, speakers))


def _peers(state: AnnouncementState) -> tuple[BGPPeer, ...]:
    config = state.configuration.current
    return config.bgp_peers if config is not None else ()


def _cases(state: AnnouncementState, service: Service) -> tuple[tuple[Address, Case], ...] | NotAnnounced:
    """A Service's addresses, each with what decides who announces it over BGP; or why nobody does."""
    config, owned = state.configuration.current, owners_of(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    assert config is not None  # its pools own the addresses
    reach = told_reach_to(state, service.key)
    return tuple(
        (address, Case.of(service, address.family, pool, config.bgp_advertisements, reach)) for address, pool in owned
    )


def _alike(state: AnnouncementState) -> dict[Case, list[tuple[ServiceKey, Address]]]:
    """Every address that may be announced and its Service, those together that all nodes treat alike."""
    alike: dict[Case, list[tuple[ServiceKey, Address]]] = {}
    for key, service in state.services.items():
        cases = _cases(state, service)
        for address, case in cases if not isinstance(cases, NotAnnounced) else ():
            alike.setdefault(case, []).append((key, address))
    return alike


def routes(state: AnnouncementState) -> dict[tuple[str, str], dict[Prefix, Path]]:
    """What every node tells every router: by node and name of the BGPPeer each prefix with its path, in no order."""
    peers, speakers = _peers(state), _speakers(state)
    told: dict[tuple[str, str], dict[Prefix, Path]] = {}
    for case, those in _alike(state).items():
        addresses = [address for _, address in those]
        prefixes: dict[int, dict[Prefix, None]] = {}  # by their length
        for each in every_peer_verdict(addresses[0], case, peers, speakers):
            if each.reason is not Reason.OK or each.peer is None:
                continue
            length, theirs = each.prefix.length, told.setdefault((each.node, each.peer.name), {})
            if length not in prefixes:
                prefixes[length] = dict.fromkeys(Prefix.of(address, length) for address in addresses)
            for prefix in prefixes[length]:
                known = theirs.get(prefix)
                theirs[prefix] = each.path if known in (None, each.path) else merged([known, each.path])
    return told


def all_bgp_announcers(state: AnnouncementState) -> Mapping[tuple[ServiceKey, Address], tuple[str, ...]]:
    """For each Service and its address the nodes that announce it over BGP, sorted by name; in no order."""
    peers, speakers = _peers(state), _speakers(state)
    return {
        each: names
        for case, those in _alike(state).items()
        for names in (_announcing(bgp_verdicts(case, peers, speakers)),)
        for each in those
    }


def _announcing(verdicts: Iterable[NodeVerdict]) -> tuple[str, ...]:
    return tuple(verdict.node for verdict in verdicts if verdict.reason is Reason.OK)

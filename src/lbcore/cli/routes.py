"""What `lbcore explain` says of routers: each prefix, to each of them, from each node; and how the session is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from lbcore.advertising import PeerVerdict
from lbcore.announcement import AnnouncementState, NotAnnounced, explain_routes
from lbcore.backends.statuses import PeerDocument, read_peers, read_withheld
from lbcore.cli.show import Column, print_table
from lbcore.model import ServiceKey
from lbcore.routes import PeerState
from lbcore.verdicts import NODE_TEXTS, Reason

__all__ = ["has_routes", "print_routes", "route_structures"]

Sessions = Mapping[tuple[str, str], PeerDocument]


def _sessions(place: object) -> Sessions:
    """How sessions are, where it is told: in a folder. By node and peer."""
    return {(each["node"], each["peer"]): each for each in read_peers(place)} if isinstance(place, Path) else {}


def _verdicts(state: AnnouncementState, key: ServiceKey, place: object = None) -> tuple[PeerVerdict, ...]:
    found = explain_routes(state, key)
    if found is None or isinstance(found, NotAnnounced):
        return ()
    # How long endpoints have been usable is known to those who saw them become so.
    waiting = read_withheld(place, key) if isinstance(place, Path) else frozenset[str]()
    reason = Reason.ENDPOINTS_TOO_NEW
    return tuple(
        evolve(each, reason=reason, detail=NODE_TEXTS[reason])
        if each.node in waiting and each.reason is Reason.OK
        else each
        for each in found
    )


def route_structures(state: AnnouncementState, key: ServiceKey, place: object) -> list[dict[str, Any]]:
    """The same for programs."""
    sessions = _sessions(place)
    return [_structure(each, _session(each, sessions)) for each in _verdicts(state, key, place)]


def _structure(verdict: PeerVerdict, session: PeerDocument | None) -> dict[str, Any]:
    return {
        "node": verdict.node,
        "peer": verdict.peer.name if verdict.peer is not None else None,
        "prefix": str(verdict.prefix),
        "reason": verdict.reason.value,
        "message": verdict.detail,
        "localPref": verdict.path.local_pref,
        "communities": [str(each) for each in verdict.path.communities],
        "session": session["state"] if session is not None else None,
        "error": session["error"] if session is not None else None,
    }


def has_routes(state: AnnouncementState, key: ServiceKey) -> bool:
    """Whether any node tells a router of it."""
    return any(each.reason is Reason.OK for each in _verdicts(state, key))


def print_routes(state: AnnouncementState, key: ServiceKey, place: object) -> None:
    """A table, where anything of BGP is configured."""
    verdicts = _verdicts(state, key, place)
    if not verdicts:
        return
    click.echo()
    columns = [Column("ROUTE"), Column("NODE"), Column("PEER"), Column("VERDICT"), Column("WHY", fold=True)]
    print_table(columns, list(_rows(verdicts, _sessions(place))))


def _rows(verdicts: Iterable[PeerVerdict], sessions: Sessions) -> Iterable[list[str]]:
    for each in verdicts:
        session = _session(each, sessions)
        told = each.reason is Reason.OK
        verdict = each.reason.value
        if told:
            up = session is None or session["state"] == PeerState.ESTABLISHED.value
            verdict = "advertises" if up else "session down"
        peer = f"{each.peer.name} ({each.peer.router})" if each.peer is not None else "all"
        yield [str(each.prefix), each.node, peer, verdict, "; ".join(_why(each, session))]


def _why(verdict: PeerVerdict, session: PeerDocument | None) -> Iterable[str]:
    yield verdict.detail
    if verdict.reason is not Reason.OK:
        return
    if verdict.path.local_pref:
        yield f"localPref {verdict.path.local_pref}"
    if verdict.path.communities:
        yield f"communities {' '.join(str(each) for each in verdict.path.communities)}"
    if session is not None and session["state"] != PeerState.ESTABLISHED.value:
        yield f"but the session is {session['state']}{': ' if session['error'] else ''}{session['error']}"


def _session(verdict: PeerVerdict, sessions: Sessions) -> PeerDocument | None:
    return sessions.get((verdict.node, verdict.peer.name)) if verdict.peer is not None else None

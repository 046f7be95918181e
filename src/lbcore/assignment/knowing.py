"""What an event changes in what a controller knows."""

from __future__ import annotations

from attrs import evolve
from immutables import Map

from lbcore.assignment.holding import keep
from lbcore.assignment.reporting import POOL, confirm, says
from lbcore.assignment.state import AssignmentState
from lbcore.assignment.turn import Turn
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
    LeadershipSeen,
    LinksSeen,
    Listed,
    ManifestRefused,
    MembersSeen,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    PeerSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import ReportConfig, SetAddresses
from lbcore.model import Labels, Service, ServiceKey
from lbcore.pools import Catalog
from lbcore.requests import PREFIX
from lbcore.worklist import Fifo, Worklist

__all__ = ["note", "put_config_in_force"]


def note(turn: Turn, event: Event) -> None:
    """Take in one event; what follows from it is worked on afterwards."""
    match event:
        case ServiceSeen(service):
            _see_service(turn, service)
        case ServiceGone(key, uid):
            known = turn.services.get(key)
            if known is not None and uid in ("", known.uid):
                _forget_service(turn, key)
        case ConfigSeen(document):
            turn.configuration = turn.configuration.seen(document)
            _config_changed(turn)
        case ConfigGone(origin):
            turn.configuration = turn.configuration.gone(origin)
            _config_changed(turn)
        case NamespaceSeen(namespace):
            _see_namespaces(turn, turn.namespaces.set(namespace.name, namespace.labels))
        case NamespaceGone(name) if name in turn.namespaces:
            _see_namespaces(turn, turn.namespaces.delete(name))
        case Listed(kind):
            turn.listed |= {kind}
        case LeadershipSeen(leading) if leading != turn.elected:
            _take_over(turn) if leading else _stand_by(turn)
        case Applied(SetAddresses() as intent) if turn.unconfirmed.get(intent.key) == intent:
            confirm(turn, intent.key)
        case Failed(intent=SetAddresses() as intent) if turn.unconfirmed.get(intent.key) == intent:
            # Final: the object is gone or newer than we thought. What comes next about it decides anew.
            confirm(turn, intent.key)
            turn.told = turn.told.delete(intent.key)
        case (
            LeadershipSeen()
            | NamespaceGone() | Applied() | Failed() | Tick() | Stopping() | ManifestRefused() | PeerSeen()
            | SliceSeen() | SliceGone() | NodeSeen() | NodeGone() | DrainsSeen()
            | MembersSeen() | LinksSeen() | AnsweringSeen() | AddressHeard()
        ):  # fmt: skip
            pass


def _take_over(turn: Turn) -> None:
    """Begin as after a start: what Services hold is claimed, the older first, before anything new is given."""
    turn.elected = True
    turn.config_due = turn.now


def _stand_by(turn: Turn) -> None:
    """Another decides now: keep what was told, forget every decision."""
    fresh = AssignmentState()
    turn.elected = False
    turn.catalog, turn.adopting, turn.ledger, turn.keeping = None, None, fresh.ledger, fresh.keeping
    turn.work, turn.waiting, turn.recalled, turn.chances = fresh.work, fresh.waiting, fresh.recalled, []
    turn.told, turn.unconfirmed, turn.showing = fresh.told, fresh.unconfirmed, fresh.showing
    turn.touched_pools, turn.told_usage = set(), fresh.told_usage


def _see_service(turn: Turn, service: Service) -> None:
    key = service.key
    known = turn.services.get(key)
    if known is not None and _looks_as_told(turn, known, service):
        turn.services = turn.services.set(key, service)  # the echo of a write: half of all that a watch says
        return
    if known is not None and known.uid != service.uid:
        _forget_service(turn, key)  # deleted and created again under its name, and we missed the end
    turn.services = turn.services.set(key, service)
    turn.recalled = turn.recalled.remove(key)
    if turn.adopting is not None:  # otherwise it is lined up with all the others when the decisions begin
        turn.work = turn.work.touch(key)


def _looks_as_told(turn: Turn, known: Service, service: Service) -> bool:
    """Whether nothing about a Service has changed but what was to be written, and that it shows."""
    told = turn.told.get(service.key)
    if told is None or told.uid != service.uid:
        return False
    if told.addresses != service.held or not says(service, told.refusal):
        return False
    before = known.annotations
    expected = before if told.pool is None else before.set(PREFIX + POOL, told.pool)
    if service.annotations not in (expected, before):
        return False
    return evolve(known, held=service.held, annotations=service.annotations, pending=service.pending) == service


def _forget_service(turn: Turn, key: ServiceKey) -> None:
    turn.services = turn.services.delete(key)
    turn.work = turn.work.strike(key)
    turn.waiting, turn.recalled = turn.waiting.remove(key), turn.recalled.remove(key)
    keep(turn, key)
    confirm(turn, key)
    if key in turn.told:
        turn.told = turn.told.delete(key)


def _see_namespaces(turn: Turn, namespaces: Map[str, Labels]) -> None:
    if namespaces == turn.namespaces:
        return
    turn.namespaces = namespaces
    if turn.catalog is None:
        return
    turn.catalog = Catalog(turn.catalog.pools, namespaces)
    if any(pool.allocation and pool.allocation.namespace_selectors for pool in turn.catalog.pools):
        _look_at_all(turn)


def _config_changed(turn: Turn) -> None:
    settings = turn.before.settings
    if turn.config_latest is None:
        turn.config_latest = turn.now + settings.config_patience
    quiet = settings.config_quiet if Kind.CONFIG in turn.listed else 0.0
    turn.config_due = min(turn.now + quiet, turn.config_latest)


def put_config_in_force(turn: Turn) -> None:
    """Take the configuration as it stands now, if it is sound, and look at everybody whom that may concern."""
    turn.config_due = turn.config_latest = None
    before = turn.configuration
    turn.configuration = before.settled()
    current, problems = turn.configuration.current, turn.configuration.problems
    # Who leads again has no pools yet: what it reported last may have been forgotten on its way.
    leads_again = turn.catalog is None and current is not None
    if current != before.current or problems != before.problems or leads_again:
        turn.intents.append(ReportConfig(config=current, problems=problems))
    if current is None or (turn.catalog is not None and current.pools == turn.catalog.pools):
        return
    old_pools = turn.catalog.pools if turn.catalog is not None else ()
    turn.catalog = Catalog(current.pools, turn.namespaces)
    turn.touched_pools |= {pool.name for pool in (*old_pools, *current.pools)}
    if turn.adopting is None:
        _begin(turn)
    else:
        _look_at_all(turn)


def _look_at_all(turn: Turn) -> None:
    """Holders first, in case they must move; then those who wait, in the order in which they came."""
    turn.work = turn.work.sweep()
    turn.recalled = turn.waiting.line


def _begin(turn: Turn) -> None:
    """The first configuration: line everybody up, holders first, the older first."""
    turn.adopting = Fifo.of(service.key for service in sorted(turn.services.values(), key=_seniority))
    turn.work = Worklist.of(turn.adopting)


def _seniority(service: Service) -> tuple[bool, str, str, str]:
    """Holders first, the older first. Keys as texts: to compare two of attrs takes ten times as long."""
    return (not service.held, service.created, service.key.namespace, service.key.name)

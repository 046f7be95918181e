"""What would become of each Ingress and of each of its annotations, by the very brain that serves them.

Nothing is read or written here. Annotations are `supported`, `partial` (something of it holds, or it means something
else here: how, is said), `ignored` (it has no effect, the default holds) or `dangerous` (taken, it could harm others;
passed over, it could let somebody in: so it is refused, or its Ingress is).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from attrs import frozen

from lbcore import routing
from lbcore.annotations.rules import Finding, State
from lbcore.annotations.table import PARTS, SWITCH
from lbcore.daemons.planning import settle
from lbcore.events import ConfigMapSeen, Event, IngressClassSeen, IngressSeen, Listed
from lbcore.ingress import Ingress, IngressClass, ObjectKey
from lbcore.routing import RoutingSettings, RoutingState, why_not_served

__all__ = [
    "AnnotationReport",
    "IngressReport",
    "Orphan",
    "StreamReport",
    "Verdict",
    "judge",
    "orphans",
    "report",
    "report_streams",
]


class Verdict(Enum):
    """What becomes of an annotation or an Ingress, the better ones first."""

    SUPPORTED = "supported"
    PARTIAL = "partial"
    IGNORED = "ignored"
    DANGEROUS = "dangerous"


_VERDICTS = {
    State.SUPPORTED: Verdict.SUPPORTED,
    State.PARTIAL: Verdict.PARTIAL,
    State.DROPPED: Verdict.IGNORED,
    State.UNSUPPORTED: Verdict.IGNORED,
    State.OBSOLETE: Verdict.IGNORED,
    State.UNKNOWN: Verdict.IGNORED,
    State.REFUSED: Verdict.DANGEROUS,
    State.DENIED: Verdict.DANGEROUS,
}


@frozen(kw_only=True)
class AnnotationReport:
    """One annotation, by its name without the prefix; `how` says what of it holds, or why nothing does.

    `is_wrong`: its value cannot be read.
    """

    name: str
    verdict: Verdict
    how: str = ""
    is_wrong: bool = False


@frozen(kw_only=True)
class IngressReport:
    """One Ingress. `problems` are what is wrong with it besides its annotations, `notes` what is so at the moment.

    Ignored is one that is not served at all, as its one problem says; dangerous, one with an annotation that is.
    """

    key: ObjectKey
    verdict: Verdict
    annotations: tuple[AnnotationReport, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        """How many of its annotations have a verdict."""
        return sum(each.verdict is verdict for each in self.annotations)


@frozen(kw_only=True)
class StreamReport:
    """An entry of a ConfigMap of TCP or UDP services; `path` is its field, `how` where it leads, or why not."""

    config_map: ObjectKey
    path: str
    verdict: Verdict
    how: str


def report_streams(state: RoutingState) -> tuple[StreamReport, ...]:
    """Every entry: served, served in part or closed for now (partial), or left out (ignored); sorted."""
    made = state.streams
    served = {(key, f"data.{each.port}"): each for transport, key in made.settings.maps for each in made.streams
              if each.transport is transport}  # fmt: skip
    found = [
        StreamReport(
            config_map=key,
            path=path,
            verdict=Verdict.SUPPORTED,
            how=f"{each.transport.value} to {each.service}:{each.service_port}",
        )
        for (key, path), each in served.items()
        if not any((key, path) == (one.config_map, one.path) for one in made.troubles)
    ]
    for each in (*made.troubles, *made.waiting):
        partly = each in made.waiting or (each.config_map, each.path) in served
        verdict = Verdict.PARTIAL if partly else Verdict.IGNORED
        found.append(StreamReport(config_map=each.config_map, path=each.path, verdict=verdict, how=each.message))
    return tuple(sorted(found, key=lambda one: (one.config_map, one.path, one.how)))


@frozen(order=True)
class Orphan:
    """An Ingress, and a backend of it that has nobody who could answer: `is_there`: the Service is."""

    ingress: ObjectKey
    service: ObjectKey
    port: str
    is_there: bool


def orphans(state: RoutingState) -> tuple[Orphan, ...]:
    """Each once, sorted: what is answered 503, or by a `default-backend`."""
    found: set[Orphan] = set()
    for site in state.table.sites.values():
        for location in site.locations:
            upstream = state.table.upstreams.get(location.upstream or "")
            if upstream is None or upstream.peers or not location.source.service:
                continue
            is_there = upstream.service in state.backing.services
            found.add(Orphan(location.source.ingress, upstream.service, upstream.port, is_there))
    return tuple(sorted(found))


def report(state: RoutingState, *, secrets: bool = True, services: bool = True) -> tuple[IngressReport, ...]:
    """Every Ingress that was told, sorted. `secrets`, `services`: those were told, too, and what they lack is known."""
    lacking: dict[ObjectKey, list[str]] = {}
    for each in orphans(state) if services else ():
        why = "has no endpoint that is ready" if each.is_there else "is not there"
        text = f"nobody answers at the moment: port {each.port} of Service {each.service} {why}"
        lacking.setdefault(each.ingress, []).append(text)
    return tuple(
        _report(state, ingress, secrets, lacking.get(key, [])) for key, ingress in sorted(state.ingresses.items())
    )


def judge(events: Iterable[Event]) -> tuple[IngressReport, ...]:
    """Ingresses of manifests, where the objects that they name may be elsewhere: no class, Service or Secret is missed.

    One whose class is known to be somebody else's is ignored. A ConfigMap that says whether snippets are taken is the
    controller's.
    """
    told = [*events]
    maps = [event.config_map for event in told if isinstance(event, ConfigMapSeen)]
    known = {event.ingress_class.name for event in told if isinstance(event, IngressClassSeen)}
    named = {event.ingress.class_name or "" for event in told if isinstance(event, IngressSeen)} - {""}
    options = next((each.key for each in maps if SWITCH in each.data), None)
    settings = RoutingSettings(without_class=True, config_map=options)
    ours = [IngressClass(name=name, controller=settings.controller_class) for name in sorted(named - known)]
    lists = [Listed(kind) for kind in sorted(routing.needs(settings), key=lambda kind: kind.value)]
    state, _ = settle(
        routing.step,
        RoutingState(settings=settings),
        [*map(IngressClassSeen, ours), *told, *lists],
        lambda state: state.settled,
    )
    return report(state, secrets=False, services=False)


def _report(state: RoutingState, ingress: Ingress, secrets: bool, lacking: Iterable[str]) -> IngressReport:
    why = why_not_served(state, ingress)
    if why:
        return IngressReport(key=ingress.key, verdict=Verdict.IGNORED, problems=(why,))
    annotations = tuple(map(_judged, state.findings.get(ingress.key, ())))
    problems = tuple(dict.fromkeys(_problems(state, ingress, secrets)))
    verdict = Verdict.SUPPORTED
    if any(each.verdict is Verdict.DANGEROUS for each in annotations):
        verdict = Verdict.DANGEROUS
    elif problems or any(each.verdict is not Verdict.SUPPORTED for each in annotations):
        verdict = Verdict.PARTIAL
    return IngressReport(
        key=ingress.key, verdict=verdict, annotations=annotations, problems=problems, notes=tuple(lacking)
    )


def _judged(finding: Finding) -> AnnotationReport:
    verdict = _VERDICTS[finding.state]
    if verdict is Verdict.SUPPORTED and finding.annotation in PARTS:
        return AnnotationReport(name=finding.annotation, verdict=Verdict.PARTIAL, how=PARTS[finding.annotation])
    how = {
        State.SUPPORTED: "",
        State.PARTIAL: finding.message,
        State.UNSUPPORTED: finding.message,
        State.DENIED: f"the Ingress is answered 503: {finding.message}",
    }
    return AnnotationReport(
        name=finding.annotation,
        verdict=verdict,
        how=how.get(finding.state, f"{finding.state.value.partition(':')[0]}: {finding.message}"),
        is_wrong=finding.state is State.DROPPED,
    )


def _problems(state: RoutingState, ingress: Ingress, secrets: bool) -> Iterator[str]:
    for host in sorted(routing.hosts_of(ingress)):
        built = state.built.get(host)
        for about, message in (*built.problems, *(built.lacking if secrets else ())) if built is not None else ():
            if about == ingress.key:
                yield message
    for rule in ingress.rules:
        if rule.host and rule.host.lower() not in routing.hosts_of(ingress):
            yield f"host {rule.host[:80]!r} cannot be served: it is no name"

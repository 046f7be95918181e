"""What is wrong with manifests, all of it, as the daemons would find it: nothing is read or written here.

The same decoding and the same joining as in a running cluster, and besides: a Service's wishes that
no pool could ever grant, and an object that two documents define.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import frozen

from lbcore.adapters.kubernetes.changes import name_of
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, parse_json_chunk, read_chunk
from lbcore.adapters.kubernetes.text import Chunk, TextError, parse, parse_json, split
from lbcore.config import ConfigDocument, InvalidConfig, build
from lbcore.daemons.reporting import Verdict, judge
from lbcore.errors import Problem
from lbcore.events import (
    ConfigMapSeen,
    ConfigSeen,
    Event,
    IngressClassSeen,
    IngressSeen,
    ServiceSeen,
)
from lbcore.ingress import ConfigMap, ObjectKey
from lbcore.requests import read_request
from lbcore.streams import StreamSettings, read_wishes
from lbcore.verdicts import Refusal

__all__ = ["Checked", "Entry", "check", "entries_of", "examine"]

Entry = tuple[str, Seen | Ignored | Refused]
"""A document's source (a file, with the document's number where it has several), and what was read of it."""


def _as_it_is(document: object) -> object:
    return document


def entries_of(text: str, name: str, placed: Callable[[object], object] = _as_it_is) -> Iterator[Entry]:
    """What the documents of a text hold; `name` is its file's, whose suffix tells JSON from YAML.

    `placed` gives what a document becomes where it is put, before it is read.
    """
    if name.endswith(".json") or (not name.endswith((".yaml", ".yml")) and _is_json(text)):
        entries = read_chunk(Chunk(1, 1, text), name, lambda chunk: [placed(each) for each in parse_json_chunk(chunk)])
        yield from ((name, entry) for entry in entries)
        return
    chunks = list(split(text))
    for chunk in chunks:
        source = name if len(chunks) == 1 else f"{name}#{chunk.number}"
        entries = read_chunk(chunk, source, lambda chunk: [placed(each) for each in parse(chunk)])
        yield from ((source, entry) for entry in entries)


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except TextError:
        return False
    return True


@frozen(kw_only=True)
class Checked:
    """What is wrong, and what only has no effect."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


def check(entries: Iterable[Entry]) -> tuple[Problem, ...]:
    """Every problem of the objects that these documents hold, in the order of the documents."""
    return examine(entries).problems


def examine(entries: Iterable[Entry], streams: StreamSettings | None = None) -> Checked:
    """The same, and what only has no effect; `streams` names the ConfigMaps of TCP and UDP services."""
    documents: list[ConfigDocument] = []
    problems: list[Problem] = []
    first: dict[tuple[str, str], str] = {}
    places: dict[str, int] = {}
    ingresses: dict[ObjectKey, str] = {}
    told: list[Event] = []
    for source, entry in entries:
        places.setdefault(source, len(places))
        if isinstance(entry, Ignored):
            continue
        if isinstance(entry, Refused):
            if isinstance(entry.event, ConfigSeen):
                documents.append(entry.event.document)
            else:
                problems.append(entry.event.problem)
            continue
        if isinstance(entry, ServiceSeen):
            problems += _judge_service(source, entry)
        if entry.subject in first:
            problems.append(_twice(source, entry, first[entry.subject]))
            problems += entry.document.problems if isinstance(entry, ConfigSeen) else ()
            continue
        first[entry.subject] = source
        if isinstance(entry, IngressSeen):
            ingresses[entry.ingress.key] = source
        if isinstance(entry, ConfigMapSeen) and streams is not None:
            problems += _judge_streams(source, entry.config_map, streams)
        if isinstance(entry, IngressSeen | IngressClassSeen | ServiceSeen | ConfigMapSeen):
            told.append(entry)
        if isinstance(entry, ConfigSeen):
            documents.append(entry.document)
    built = build(documents)
    if isinstance(built, InvalidConfig):
        problems += built.problems
    wrong, warnings = _judge_ingresses(ingresses, told)
    problems += wrong

    def place(problem: Problem) -> int:
        return places.get(problem.source.partition(" items[")[0], 0)

    # An item of a List has a place of its own inside its document's.
    return Checked(
        problems=tuple(sorted(dict.fromkeys(problems), key=place)), warnings=tuple(sorted(warnings, key=place))
    )


def _judge_ingresses(sources: Mapping[ObjectKey, str], told: Iterable[Event]) -> tuple[list[Problem], list[Problem]]:
    """What is refused, cannot be read or denies, and what has no effect."""
    wrong: list[Problem] = []
    warnings: list[Problem] = []
    for found in judge(told) if sources else ():
        if found.verdict is Verdict.IGNORED:  # somebody else's
            continue
        about = f"Ingress {found.key}"
        for each in found.annotations:
            problem = Problem(
                source=sources[found.key], object=about, field=f"metadata.annotations[{each.name}]", message=each.how
            )
            if each.verdict is Verdict.DANGEROUS or each.is_wrong:
                wrong.append(problem)
            elif each.verdict is not Verdict.SUPPORTED:
                warnings.append(problem)
        wrong += [
            Problem(source=sources[found.key], object=about, field="spec", message=each) for each in found.problems
        ]
    return wrong, warnings


def _judge_streams(source: str, found: ConfigMap, streams: StreamSettings) -> Iterator[Problem]:
    """Entries that cannot be read; the Services that they name may be elsewhere."""
    for transport, key in streams.maps:
        if key == found.key:
            for each in read_wishes(key, found.data, transport, streams.listening).troubles:
                yield Problem(source=source, object=f"ConfigMap {key}", field=each.path, message=each.message)


def _judge_service(source: str, seen: ServiceSeen) -> Iterator[Problem]:
    service = seen.service
    if not service.is_load_balancer:
        return
    request = read_request(service)
    if isinstance(request, Refusal):
        yield Problem(source=source, object=name_of(seen), field=request.path, message=request.detail)


def _twice(source: str, seen: Seen, other: str) -> Problem:
    where = "twice in this document" if source == other else f"here and in {other}"
    text = f"is defined {where}; take one out"
    return Problem(source=source, object=name_of(seen), field="metadata.name", message=text)

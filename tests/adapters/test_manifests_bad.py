"""Manifests that are wrong: each is refused at exactly its field, in words that help, and never with a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.documents import Refused, read, read_all, read_text
from lbcore.adapters.kubernetes.status import read_service_status
from lbcore.adapters.kubernetes.text import Chunk, TextError, parse, parse_json, split
from lbcore.backends.manifests import Manifest, signature_of
from lbcore.errors import ManifestError, Problem
from lbcore.events import ConfigSeen, ManifestRefused

BAD = Path(__file__).parent.parent / "data" / "bad"
GOOD = BAD.parent / "manifests"


def table() -> dict[str, list[tuple[str, str]]]:
    """For each file, the paths of its problems and a phrase of each."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (BAD / "TABLE.tsv").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            name, path, phrase = line.split("\t")
            found.setdefault(name, []).append(("" if path == "-" else path, phrase))
    return found


def problems_in(path: Path) -> list[Problem]:
    signature = signature_of(str(path))
    assert signature is not None
    manifest = Manifest(str(path), path.name, signature)
    list(manifest.read({}))
    return list(_problems([*manifest.seen, *(each.event for each in manifest.refused)]))


def _problems(events: list[object]) -> Iterator[Problem]:
    for event in events:
        if isinstance(event, ConfigSeen):
            yield from event.document.problems
        elif isinstance(event, ManifestRefused):
            yield event.problem


@pytest.mark.parametrize("name", sorted(table()))
def test_a_bad_manifest_is_refused_at_its_field(name: str) -> None:
    problems = problems_in(BAD / name)
    expected = table()[name]
    assert [path for path, _ in expected] == [problem.field for problem in problems]
    for (_, phrase), problem in zip(expected, problems, strict=True):
        assert phrase in problem.message
        assert problem.source.startswith(name)


CURE = re.compile(
    r"\bmust (be|not)\b|did you mean|known here: |are allowed|belongs to|needs "
    r"|\b(write|put|give|keep|take|leave|use|set|rename|swap|save|correct|look for|shorten)\b"
)


@pytest.mark.parametrize("name", sorted(table()))
def test_a_bad_manifest_is_told_what_would_make_it_good(name: str) -> None:
    assert [] == [problem.message for problem in problems_in(BAD / name) if not CURE.search(problem.message)]


def test_every_bad_manifest_is_in_the_table() -> None:
    names = {path.name for path in BAD.iterdir() if path.name != "TABLE.tsv"}
    assert names == table().keys()


def test_a_problem_names_the_object_and_the_document() -> None:
    (problem,) = problems_in(BAD / "yaml-second-document.yaml")
    assert "yaml-second-document.yaml#2" == problem.source
    assert "IPAddressPool" == problem.object
    (problem,) = problems_in(BAD / "pool-bare-address.yaml")
    assert "IPAddressPool metallb-system/prod" == problem.object


def test_all_that_is_wrong_with_a_pool_is_said_at_once() -> None:
    document = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "Prod", "labels": {"a": 1}},
        "spec": {"addresses": ["2001:db8::1", "192.0.2.0/33"], "autoAssign": "yes", "avoidBuggyIps": True},
    }
    seen = read(document, "pools.yaml")
    assert isinstance(seen, ConfigSeen)
    assert [
        "metadata.name",
        "spec.avoidBuggyIps",
        "spec.addresses[0]",
        "spec.addresses[1]",
        "spec.autoAssign",
        "metadata.labels.a",
    ] == [problem.field for problem in seen.document.problems]
    assert () == seen.document.resources  # never half of a pool


def test_a_pool_with_a_thousand_mistakes_does_not_fill_the_log() -> None:
    document = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "prod"},
        "spec": {"addresses": ["nonsense"] * 1000},
    }
    seen = read(document, "pools.yaml")
    assert isinstance(seen, ConfigSeen)
    assert 50 == len(seen.document.problems)


texts = st.text(max_size=12) | st.sampled_from(
    ["2001:db8::/64", "192.0.2.1-192.0.2.9", "192.0.2.1", "IPv6", "LoadBalancer", "In", "config", "..", "", "default"]
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | texts
jsonish = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def good_documents() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in sorted(GOOD.glob("*.yaml")):
        found += [document for chunk in split(path.read_text("utf-8")) for document in parse(chunk)]  # type: ignore[misc]
    assert found
    return found


def places(value: object, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document where a value stands."""
    yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*here, index))


def replaced(value: object, place: tuple[str | int, ...], new: object) -> object:
    if not place:
        return new
    first, rest = place[0], place[1:]
    if isinstance(value, dict):
        return value | {first: replaced(value[first], rest, new)}
    assert isinstance(value, list)
    return [replaced(inner, rest, new) if index == first else inner for index, inner in enumerate(value)]


PLACES = [(document, place) for document in good_documents() for place in places(document)]


def assert_total(document: object) -> None:
    """Reading ends in an event or in a problem that can be shown and stored."""
    try:
        seen = read(document, "some.yaml")
    except ManifestError as error:
        problems = [error.problem]
    else:
        problems = list(seen.document.problems) if isinstance(seen, ConfigSeen) else []
    for problem in problems:
        assert problem.message
        assert "some.yaml" == problem.source
        str(problem)
    for entry in read_all(document, "some.yaml"):
        assert not isinstance(entry, Refused) or list(_problems([entry.event]))


@given(st.sampled_from(PLACES), jsonish)
@example((PLACES[0][0], ("metadata",)), {"name": "x", "labels": {"\ud800": 1}})
def test_any_value_in_any_place_ends_in_a_problem_or_an_event(
    where: tuple[dict[str, object], tuple[str | int, ...]], value: object
) -> None:
    document, place = where
    assert_total(replaced(document, place, value))


@given(jsonish)
def test_any_value_is_read_without_a_traceback(value: object) -> None:
    assert_total(value)


@given(st.sampled_from(PLACES), texts, jsonish)
def test_an_added_field_ends_in_a_problem_or_an_event(
    where: tuple[dict[str, object], tuple[str | int, ...]], key: str, value: object
) -> None:
    document, place = where
    here: object = document
    for step in place:
        here = here[step]  # type: ignore[index]
    if isinstance(here, dict):
        assert_total(replaced(document, place, {**here, key: value}))


@given(st.text(max_size=200))
@example("%YAML 9.9\n---\na: 1\n...\n%TAG ! x\n--- b\n")
@example("\ufeff---\n\x85---\n\u2028--- a\r---\r\n")
@example("? [a]\n: b")
@example("<<: 1")
@example("a: &a {b: 1}\nc: {<<: *a, <<: *a}")
@example("'\ud800'")
def test_any_text_is_read_without_a_traceback(text: str) -> None:
    for name in ("a.yaml", "a.json"):
        for entry in read_text(text, name):
            assert entry is not None


@given(st.binary(max_size=200))
def test_any_bytes_in_a_status_are_read_or_refused(data: bytes) -> None:
    try:
        read_service_status(data, "web.json")
    except ManifestError as error:
        assert "web.json" == error.problem.source


# PyYAML would leave the text 0E0 without quotes, which YAML 1.2 and Kubernetes read as a number.
QUOTED = '"'

plain_documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
).filter(lambda document: document is not None)


@given(plain_documents)
def test_what_is_written_as_yaml_and_json_is_read_back(document: object) -> None:
    """PyYAML's and Python's writers are the judges: our readers must agree with them on every value."""
    as_json = json.dumps(document)
    assert document == parse_json(as_json)
    assert [document] == parse(Chunk(1, 1, yaml.safe_dump(document, default_style=QUOTED)))


@given(st.lists(plain_documents.filter(lambda value: isinstance(value, dict)), max_size=5))
def test_cutting_a_text_at_its_markers_loses_nothing(documents: list[object]) -> None:
    text = yaml.safe_dump_all(documents, default_style=QUOTED)
    assert documents == [found for chunk in split(text) for found in parse(chunk)]


@pytest.mark.parametrize("text", ["1:20:30", "2001-12-14", "2001-12-14T21:59:43Z", "1:2:3:4:5:6:7:8", "12e", "0x", "y"])
def test_what_yaml_1_1_would_turn_into_numbers_and_dates_stays_text(text: str) -> None:
    assert [{"a": text}] == parse(Chunk(1, 1, f"a: {text}"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 8), ("0x1F", 31), ("1_000", 1000), ("-7", -7), ("1e3", 1000.0), (".5", 0.5), ("~", None), ("off", False)],
)
def test_scalars_are_read_as_kubernetes_reads_them(text: str, value: object) -> None:
    assert [{"a": value}] == parse(Chunk(1, 1, f"a: {text}"))


def test_merge_keys_give_way_to_what_is_written_out() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: {b: 3, <<: *base}"
    assert [{"base": {"a": 1, "b": 2}, "more": {"b": 3, "a": 1}}] == parse(Chunk(1, 1, text))


@pytest.mark.parametrize(
    "text",
    ["%YAML 1.1\n---\na: 1\n", "# note\n\n---\na: 1\n...\n", "---\n---\na: 1\n---\n# end\n", "--- {a: 1}\r\n---\r\n"],
)
def test_directives_comments_and_empty_documents_are_no_documents(text: str) -> None:
    assert [{"a": 1}] == [document for chunk in split(text) for document in parse(chunk)]


def test_a_line_number_counts_from_the_start_of_the_file() -> None:
    chunks = list(split("# first\na: 1\n---\nb: 2\n---\nc: [\n"))
    with pytest.raises(TextError, match=r"^line [67]: "):
        parse(chunks[2])
    assert [(1, 1), (2, 3), (3, 5)] == [(chunk.number, chunk.line) for chunk in chunks]

"""The definitions of the custom resources: they and the readers know the same fields, bounds and choices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lbcore.adapters.kubernetes.crds import KINDS, definitions
from lbcore.adapters.kubernetes.documents import read
from lbcore.adapters.kubernetes.kinds import Kind, Version
from lbcore.adapters.kubernetes.text import parse, split
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.cli.main import cli
from lbcore.errors import Problem
from lbcore.events import ConfigSeen

ROOT = Path(__file__).parent.parent.parent
WISHES = [
    pytest.param(kind, version, id=f"{kind.name}-{version.name}")
    for kind in KINDS
    for version in kind.versions
    if not kind.name.endswith(("Status", "State"))
]


def problems(kind: Kind, version: Version, spec: object) -> tuple[Problem, ...]:
    seen = read(
        {"apiVersion": f"metallb.io/{version.name}", "kind": kind.name, "metadata": {"name": "x"}, "spec": spec}, "x"
    )
    assert isinstance(seen, ConfigSeen)
    return seen.document.problems


def mappings(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping with fields in a schema, with its path; `[]` is an item of a list."""
    if "properties" in schema:
        yield path, schema["properties"]
        for name, inner in schema["properties"].items():
            yield from mappings(inner, (*path, name))
    elif "items" in schema:
        yield from mappings(schema["items"], (*path, "[]"))


def wrapped(path: tuple[str, ...], value: object) -> Any:
    """A document that has a value at a path."""
    for step in reversed(path):
        value = [value] if step == "[]" else {step: value}
    return value


def field_path(path: tuple[str, ...]) -> str:
    return ".".join(("spec", *path)).replace(".[]", "[0]")


@pytest.mark.parametrize(("kind", "version"), WISHES)
def test_the_fields_of_the_schema_are_those_that_the_reader_knows(kind: Kind, version: Version) -> None:
    for path, fields in mappings(version.fields["spec"]):
        told = [
            problem.message
            for problem in problems(kind, version, wrapped(path, {"no-such-field-at-all-0123": 1}))
            if problem.field == field_path((*path, "no-such-field-at-all-0123"))
        ]
        assert 1 == len(told), path
        assert fields.keys() == set(told[0].partition("known here: ")[2].split(", ")), path


@pytest.mark.parametrize(("kind", "version"), WISHES)
def test_numbers_have_the_same_bounds_in_schema_and_reader(kind: Kind, version: Version) -> None:
    for path, fields in mappings(version.fields["spec"]):
        for name, schema in fields.items():
            if schema["type"] != "integer":
                continue
            for value, refused in (
                (schema["minimum"] - 1, True),
                (schema["minimum"], False),
                (schema["maximum"], False),
                (schema["maximum"] + 1, True),
            ):
                found = problems(kind, version, wrapped((*path, name), value))
                told = [each.message for each in found if each.field == field_path((*path, name))]
                if refused:  # but for port 0, which an object that was written as v1beta1 may have
                    assert told or (name == "peerPort" and value == 0), (path, name, value)
                else:
                    assert not [message for message in told if "must be from" in message], (path, name, value)


@pytest.mark.parametrize(("kind", "version"), WISHES)
def test_choices_are_the_same_in_schema_and_reader(kind: Kind, version: Version) -> None:
    for path, fields in mappings(version.fields["spec"]):
        for name, schema in fields.items():
            for choice in schema.get("enum", ()):
                found = problems(kind, version, wrapped((*path, name), choice))
                assert not [each for each in found if "must be" in each.message and each.field.endswith(name)]


def values(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from values(inner)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_text_and_list_has_a_bound_or_its_rules_would_cost_too_much(kind: Kind) -> None:
    for version in kind.versions:
        for schema in values(version.fields):
            if schema.get("type") == "string":
                assert "maxLength" in schema or "enum" in schema or "format" in schema, schema
            if schema.get("type") == "array":
                assert "maxItems" in schema, schema


def test_one_version_of_each_kind_is_stored_and_none_needs_a_webhook() -> None:
    for document in definitions():
        assert {"strategy": "None"} == document["spec"]["conversion"]
        assert 1 == sum(version["storage"] for version in document["spec"]["versions"])
        assert all(version["subresources"] == {"status": {}} for version in document["spec"]["versions"])


def test_the_text_reads_back_as_the_same_values() -> None:
    text = documents_text(definitions())
    assert list(definitions()) == [document for chunk in split(text) for document in parse(chunk)]


def test_the_chart_has_the_definitions_that_the_command_prints() -> None:
    printed = CliRunner().invoke(cli, ["crds"]).output
    assert printed == (ROOT / "deploy/chart/files/crds.yaml").read_text("utf-8"), "run `make manifests`"

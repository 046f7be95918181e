"""The words that a schema of a custom resource is written in: fields, bounds, and rules in CEL.

What comes out is a structural schema (OpenAPI v3 as `apiextensions.k8s.io/v1` takes it), as plain
values. Every list and text has a bound: the API server works out beforehand what a rule may cost,
and refuses a definition whose rules could cost too much. Which resources there are: `crds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "Schema",
    "flag",
    "label_selector",
    "label_selectors",
    "list_of",
    "mapping",
    "names",
    "number",
    "rule",
    "text",
    "with_rules",
]

Schema = dict[str, Any]
Rule = dict[str, str]

MOST_SELECTORS = 64
MOST_EXPRESSIONS = 32
MOST_VALUES = 64
MOST_NAME = 253  # RFC 1123 subdomain: what an object may be called

_LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
_LABEL_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


def rule(expression: str, message: str, *, field: str = "") -> Rule:
    """A rule that must hold: CEL, what is said when it does not, and the field that is to blame (`.peerASN`)."""
    made = {"rule": " ".join(expression.split()), "message": message}
    if field:
        made["fieldPath"] = field
    return made


def with_rules(schema: Schema, *rules: Rule) -> Schema:
    """The schema, and rules that its value must obey."""
    return {**schema, "x-kubernetes-validations": [*schema.get("x-kubernetes-validations", ()), *rules]}


def text(
    description: str,
    *,
    longest: int,
    shortest: int = 0,
    pattern: str = "",
    choices: Iterable[str] = (),
    default: str | None = None,
) -> Schema:
    """A text."""
    made: Schema = {"description": description, "type": "string"}
    if choices:
        made["enum"] = list(choices)
    else:
        made["maxLength"] = longest
    if shortest:
        made["minLength"] = shortest
    if pattern:
        made["pattern"] = pattern
    if default is not None:
        made["default"] = default
    return made


def number(description: str, lowest: int, highest: int | None = None, *, default: int | None = None) -> Schema:
    """A whole number within bounds. Always of 64 bits: `int32` would turn away half of the AS numbers.

    The largest of 64 bits must not be written as a bound: the API server keeps bounds as floating point, where
    that one is too large, and refuses every value.
    """
    made: Schema = {"description": description, "type": "integer", "format": "int64", "minimum": lowest}
    if highest is not None:
        made["maximum"] = highest
    if default is not None:
        made["default"] = default
    return made


def flag(description: str, *, default: bool | None = None) -> Schema:
    """True or false."""
    made: Schema = {"description": description, "type": "boolean"}
    if default is not None:
        made["default"] = default
    return made


def mapping(description: str, fields: Mapping[str, Schema], *, required: Iterable[str] = ()) -> Schema:
    """A mapping with these fields and no others."""
    made: Schema = {"description": description, "type": "object", "properties": dict(fields)}
    if needed := list(required):
        made["required"] = needed
    return made


def list_of(
    item: Schema, description: str, *, most: int, least: int = 0, unique: bool = False, key: str = ""
) -> Schema:
    """A list. `unique`: of scalars, none twice; `key`: of mappings, no two with the same value at that field."""
    made: Schema = {"description": description, "type": "array", "items": item, "maxItems": most}
    if least:
        made["minItems"] = least
    if unique:
        made["x-kubernetes-list-type"] = "set"
    elif key:
        made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    else:
        made["x-kubernetes-list-type"] = "atomic"
    return made


def names(description: str, what: str, *, most: int) -> Schema:
    """A list of names of `what`, none twice."""
    return list_of(text(f"The name of {what}.", longest=MOST_NAME, shortest=1), description, most=most, unique=True)


def label_selectors(description: str) -> Schema:
    """A list of label selectors, of which one must match; none twice."""
    listed = list_of(label_selector("Labels that must match."), description, most=MOST_SELECTORS)
    text_ = "a selector is given twice; keep one"
    return with_rules(listed, rule("self.all(one, self.exists_one(other, other == one))", text_))


def label_selector(description: str) -> Schema:
    """A label selector as `meta/v1` has it."""
    value = text("A label value.", longest=63, pattern=_LABEL_VALUE)
    expression = with_rules(
        mapping(
            "A condition on one label.",
            {
                "key": text("The label.", longest=317, shortest=1, pattern=_LABEL_NAME),
                "operator": text(
                    "How the label's value relates to `values`.",
                    longest=16,
                    choices=("In", "NotIn", "Exists", "DoesNotExist"),
                ),
                "values": list_of(
                    value, "Values for In and NotIn; none for Exists and DoesNotExist.", most=MOST_VALUES
                ),
            },
            required=("key", "operator"),
        ),
        rule(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",
            "In and NotIn need at least one value",
            field=".values",
        ),
        rule(
            "self.operator in ['In', 'NotIn'] || !has(self.values) || self.values.size() == 0",
            "Exists and DoesNotExist take no values; leave them out",
            field=".values",
        ),
    )
    labels = with_rules(
        {
            "description": "Labels and their values, all of which must be there.",
            "type": "object",
            "additionalProperties": value,
            "maxProperties": MOST_EXPRESSIONS,
        },
        rule(
            "self.all(name, !format.qualifiedName().validate(name).hasValue())",
            "one of the names is no label name; write name or example.com/name",
        ),
    )
    expressions = list_of(expression, "Conditions, all of which must hold.", most=MOST_EXPRESSIONS)
    made = mapping(description, {"matchLabels": labels, "matchExpressions": expressions})
    return {**made, "x-kubernetes-map-type": "atomic"}

"""`metav1.LabelSelector` -> `LabelSelector`, with the checks that MetalLB makes of them.

Sources: apimachinery's validation of label selectors; the duplicates that MetalLB's configuration
parser refuses (the same requirement, value or selector twice is a mistake in all likelihood).
"""

from __future__ import annotations

import re

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.model import LabelRequirement, LabelSelector, Operator

__all__ = ["read_selector", "read_selectors"]

_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def read_selectors(parent: Fields, key: str) -> tuple[LabelSelector, ...]:
    """A list of selectors, none twice."""
    found: list[LabelSelector] = []
    for each in parent.children(key):
        selector = read_selector(each)
        if selector in found:
            each.fault_here(f"the selector {_cut(selector)} is given twice; keep one")
        else:
            found.append(selector)
    return tuple(found)


def read_selector(selector: Fields) -> LabelSelector:
    """`matchLabels` and `matchExpressions` as one list of requirements."""
    selector.only("matchLabels", "matchExpressions")
    labels = selector.labels("matchLabels")
    for name, value in labels.items():
        _check_name(selector.child("matchLabels"), name, name)
        _check_value(selector.child("matchLabels"), name, value)
    requirements = list(LabelSelector.of_labels(labels).requirements)
    given: list[LabelRequirement] = []
    for each in selector.children("matchExpressions"):
        requirement = _requirement(each)
        if requirement in given:
            each.fault_here("this expression is given twice; keep one")
        given.append(requirement)
    return LabelSelector(tuple(requirements + given))


def _requirement(expression: Fields) -> LabelRequirement:
    expression.only("key", "operator", "values")
    name = expression.required_text("key", "write the label's name")
    if name:
        _check_name(expression, "key", name)
    if not expression.has("operator"):
        expression.fault("operator", "is missing; write In, NotIn, Exists or DoesNotExist")
    operator = expression.choice("operator", Operator.EXISTS)
    values = expression.unique_texts("values", empty_allowed=True)
    if expression.raw("operator") == operator.value:  # else that was told already
        _check_values(expression, operator, values)
    return LabelRequirement(name, operator, tuple(sorted(values)))


def _check_values(expression: Fields, operator: Operator, values: tuple[str, ...]) -> None:
    if operator in (Operator.IN, Operator.NOT_IN) and expression.raw("values") in (None, []):
        expression.fault("values", f"is empty; {operator.value} needs at least one value")
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        expression.fault("values", f"must be empty; {operator.value} takes no values")


def _check_name(fields: Fields, key: str, name: str) -> None:
    prefix, slash, rest = name.rpartition("/")
    if not _NAME.fullmatch(rest) or (slash and not _PREFIX.fullmatch(prefix)):
        fields.fault(
            key,
            f"{name[:80]!r} is no label name; write name or example.com/name, the name up to 63 of A-Z a-z 0-9 - _ .",
        )


def _check_value(fields: Fields, key: str, value: str) -> None:
    if value and not _NAME.fullmatch(value):
        fields.fault(key, f"{value[:80]!r} is no label value; up to 63 of A-Z a-z 0-9 - _ . are allowed")


def _cut(selector: LabelSelector) -> str:
    text = str(selector)
    return repr(text if len(text) <= 80 else f"{text[:80]}...")

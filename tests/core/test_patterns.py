"""Patterns that users write: what is taken compiles, and what could take for ever is not taken."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.patterns import Pattern, check

TEXTS = st.text(st.sampled_from("ab/()[]{}*+?|^$.\\-,:=!<>02wds"), max_size=14) | st.text(max_size=10)


@given(TEXTS)
@example("{1,2}")
@example("a{2,1}")
@example("[]a]")
@example("[a-\\d]")
def test_what_is_taken_compiles(text: str) -> None:
    """Judged by Python's engine, which refuses what PCRE refuses in this subset."""
    found = check(text)
    if isinstance(found, Pattern):
        compiled = re.compile(text.replace("[[:", "[:"))
        assert found.groups == compiled.groups


@pytest.mark.parametrize(
    "text", ["/api(/|$)(.*)", "/id/[0-9]+$", "/(?!admin).*", "/[^/]+/x?", "/a{2,3}", "(?i)/A", "/ü"]
)
def test_what_people_write_is_taken(text: str) -> None:
    assert isinstance(check(text), Pattern)


@pytest.mark.parametrize(
    "text",
    [
        *("(", ")", "[", "(?", "(a+)+$", "(a*)*", "(?<x>a)", "(?P<x>a)", "\\Q", "\\1", "a**", "^*", "[z-a]", "a{5,1}"),
        *("\n", "a" * 1001, "(" * 30 + ")" * 30, "(?#x)", "(*VERB)", "\\", "a\0", "{1,2}", "a+{2}", "[\\d-z]"),
    ],
)
def test_what_is_dangerous_or_broken_is_not_taken(text: str) -> None:
    assert isinstance(check(text), str)


def test_captures_inside_captures_are_known() -> None:
    assert Pattern("((a)(b))", 3, True) == check("((a)(b))")
    assert Pattern("(?:(a)(b))", 2, False) == check("(?:(a)(b))")

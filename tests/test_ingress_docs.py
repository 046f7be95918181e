"""The table of annotations in docs/ingress.md is what the code does, with the requests that show it."""

from __future__ import annotations

import os
from pathlib import Path

from asking.tables import CASES
from lbcore.annotations.rules import Bad
from lbcore.annotations.table import NOT_SUPPORTED, OBSOLETE, PREFIX, RULES

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "ingress.md"
START, END = "<!-- table -->\n", "<!-- end of table -->"


def shown_by() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in CASES:
        for each in case.ingresses:
            for name in each["metadata"]["annotations"]:
                cases = found.setdefault(name.removeprefix(PREFIX + "/"), [])
                if case.name not in cases:
                    cases.append(case.name)
    return found


def table() -> str:
    cases = shown_by()
    lines = ["| annotation | tier | bad value | shown by |", "|---|---|---|---|"]
    for name, rule in sorted(RULES.items()):
        names = ", ".join(f"`{each}`" for alias in (name, *rule.aliases) for each in cases.get(alias, ()))
        bad = "denied" if rule.bad is Bad.DENIED else "dropped"
        also = "".join(f", `{alias}`" for alias in rule.aliases)
        lines.append(f"| `{name}`{also} | {rule.tier} | {bad} | {names or '-'} |")
    lines += ["", "| annotation | why it is not supported |", "|---|---|"]
    lines += [f"| `{name}` | {why} |" for name, why in sorted(NOT_SUPPORTED.items())]
    lines += [f"| `{name}` | obsolete in ingress-nginx, too |" for name in sorted(OBSOLETE)]
    return "\n".join(lines) + "\n"


def test_the_table_is_up_to_date() -> None:
    text = PAGE.read_text()
    before, rest = text.split(START)
    _, after = rest.split(END)
    if os.environ.get("LBCORE_WRITE_DOCS"):
        PAGE.write_text(before + START + table() + END + after)
    assert before + START + table() + END + after == PAGE.read_text()


def test_every_annotation_of_the_first_tiers_is_shown_by_a_request() -> None:
    cases = shown_by()
    missing = [
        name
        for name, rule in sorted(RULES.items())
        if rule.tier in {"1A", "1B"} and not any(cases.get(each) for each in (name, *rule.aliases))
    ]
    assert [] == missing

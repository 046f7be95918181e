"""What of a snippet is in the closed list, as directives of ours."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.shared import Shared, exactly
from lbcore.adapters.nginx.tree import Condition, Directive, Entry, Plain, Value, Word, directive
from lbcore.proxy import Comparison, Return, Reworded, Snippet, Variable

__all__ = ["answered", "steps"]


def steps(snippet: Snippet, shared: Shared) -> Iterator[Directive]:
    """What ends a request early, in order. What is compared is a map: no text of a user stands in an `if`."""
    for step in snippet.steps:
        made = _made(step.what)
        if step.when is None:
            yield made
        else:
            yield directive("if", Condition(_compared(step.when, shared)), block=(made,))


def answered(snippet: Snippet) -> list[Directive]:
    """Headers of answers."""
    return [
        directive("add_header", Plain(name), Value(value), *(("always",) if always else ()))
        for name, value, always in snippet.answered
    ]


def _made(what: Return | Reworded) -> Directive:
    match what:
        case Return(code=code, text=None):
            return directive("return", code)
        case Return(code=code, text=text):
            return directive("return", code, Value(text or ()))
        case Reworded(pattern=pattern, to=to, permanent=permanent):
            return directive("rewrite", Plain(pattern), Value(to), "permanent" if permanent else "redirect")


def _compared(when: Comparison, shared: Shared) -> str:
    name = f"lbcore_i{digest(repr(when))}"
    yes, no = (Word("0"), Word("1")) if when.negated else (Word("1"), Word("0"))
    lines: tuple[Entry, ...]
    if when.equals is not None:
        lines = (Entry(exactly(when.equals), yes),)
    elif when.matches is not None:
        lines = (Entry(Plain("~" + when.matches), yes),)
    else:
        lines, no = (Entry(Plain(""), Word("0")), Entry(Plain("0"), Word("0"))), Word("1")
    shared.map(name, Variable(when.variable), no, lines)
    return name

"""Whom nobody serves: lists of the options, which no Ingress gets round, for they are asked before any location."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.tree import Condition, Directive, Entry, Name, Plain, Value, Word, directive, map_of
from lbcore.proxy import Blocked, Variable

__all__ = ["blocked_maps", "refusal"]

_BLOCKED = "lbcore_blocked"


def blocked_maps(blocked: Blocked) -> Iterator[Directive]:
    """At the http level: whether a request is one of them."""
    if blocked == Blocked():
        return
    found: list[Variable] = []
    if blocked.cidrs:
        lines = (Entry(Plain(cidr), Word("1")) for cidr in blocked.cidrs)
        block: tuple[Directive | Entry, ...] = (directive("default", 0), *lines)
        yield directive("geo", Name("lbcore_blocked_cidr"), block=block)
        found.append(Variable("lbcore_blocked_cidr"))
    for name, source, listed in (
        ("lbcore_blocked_agent", "http_user_agent", blocked.agents),
        ("lbcore_blocked_referer", "http_referer", blocked.referers),
    ):
        if listed:
            lines = (Entry(_key(each), Word("1")) for each in listed)
            yield map_of(Value((Variable(source),)), name, Word("0"), lines)
            found.append(Variable(name))
    if blocked.everybody:
        yield map_of(Value((Variable("request_id"),)), _BLOCKED, Word("1"))
    else:
        yield map_of(Value(tuple(found)), _BLOCKED, Word("1"), (Entry(Plain("0" * len(found)), Word("0")),))


def refusal(blocked: Blocked) -> Iterator[Directive]:
    """In every server."""
    if blocked != Blocked():
        yield directive("if", Condition(_BLOCKED), block=(directive("return", 403),))


def _key(text: str) -> Plain:
    """A pattern as it is; any other text as itself, whatever it would mean to nginx."""
    return Plain(text if text.startswith("~") else f"\\{text}")

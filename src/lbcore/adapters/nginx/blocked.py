"""Whom nobody serves: lists of the options, which no Ingress gets round, for they are asked before any location."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.tree import Argument, Condition, Directive, Entry, Name, Plain, Value, Word, directive
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
            yield _map(name, Value((Variable(source),)), Word("0"), *(Entry(_key(each), Word("1")) for each in listed))
            found.append(Variable(name))
    if blocked.everybody:
        yield _map(_BLOCKED, Value((Variable("request_id"),)), Word("1"))
    else:
        yield _map(_BLOCKED, Value(tuple(found)), Word("1"), Entry(Plain("0" * len(found)), Word("0")))


def refusal(blocked: Blocked) -> Iterator[Directive]:
    """In every server."""
    if blocked != Blocked():
        yield directive("if", Condition(_BLOCKED), block=(directive("return", 403),))


def _key(text: str) -> Plain:
    """A pattern as it is; any other text as itself, whatever it would mean to nginx."""
    return Plain(text if text.startswith("~") else f"\\{text}")


def _map(name: str, key: Value, default: Argument, *lines: Entry) -> Directive:
    return directive("map", key, Name(name), block=(Directive("default", (default,)), *lines))

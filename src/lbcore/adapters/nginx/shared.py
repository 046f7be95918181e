"""What the parts of a configuration need together: maps and zones at the http level, and files, each once."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.tree import Argument, Directive, Entry, Plain, Value, Word, map_of
from lbcore.proxy import Variable

__all__ = ["ESCAPED_URI", "Shared", "escaped_uri", "exactly", "literal"]

ESCAPED_URI = "escaped_request_uri"  # by ingress-nginx's name
_MOST_ENCODED = 24  # of one character in a URL: what follows stays as it is


@define
class Shared:
    """What locations need at the http level (maps, zones, split_clients) and as files, each once."""

    http: dict[str, Directive] = field(factory=dict)
    files: dict[str, bytes] = field(factory=dict)
    folder: str = ""

    def file(self, suffix: str, data: bytes) -> Word:
        """A file with this content; its name is a hash of it."""
        name = f"{digest(repr(data))}.{suffix}"
        self.files[name] = data
        return Word(f"{self.folder}/{name}")

    def map(self, name: str, key: Variable | None, default: Argument, lines: tuple[Entry, ...] = ()) -> Value:
        """A map of this name; what it comes to. Without a key it is the default, whatever is asked for."""
        self.http[name] = map_of(Value((key,) if key is not None else ()), name, default, lines)
        return Value((Variable(name),))

    def constant(self, value: str) -> str:
        """A variable that is always this word."""
        name = f"lbcore_c{digest(value)}"
        self.map(name, None, Word(value))
        return name

    def cookie_variable(self, name: str, cookie: str) -> None:
        """`$cookie_x` for names with characters that a variable cannot have: read out of the header."""
        capture = f"c{digest(cookie)}"  # a number is no variable in a map, and PCRE takes 32 characters
        pattern = f"~(?:^|;\\s*){literal(cookie)}=(?<{capture}>[^;]*)"
        self.map(name, Variable("http_cookie"), Value(()), (Entry(Plain(pattern), Value((Variable(capture),))),))


def escaped_uri() -> dict[str, Directive]:
    """`$escaped_request_uri`, what was asked for as a parameter's value: of the characters that a URL has, those are
    encoded that would end the value, or be decoded twice. nginx has no function for that, so each number of them is a
    line of a map.
    """
    shared, source = Shared(), "request_uri"
    for name, character, code in (
        ("lbcore_e0", "%", "%25"), ("lbcore_e1", "&", "%26"), (ESCAPED_URI, "+", "%2B"),
    ):  # fmt: skip
        shared.map(name, Variable(source), Value((Variable(source),)), tuple(_encodings(name, character, code)))
        source = name
    return shared.http


def _encodings(name: str, character: str, code: str) -> Iterator[Entry]:
    for number in range(1, _MOST_ENCODED + 1):
        names = [f"{name}_{each}" for each in range(number + 1)]
        inner = f"[^{character}]*"
        rest = ".*" if number == _MOST_ENCODED else inner
        groups = [*(f"(?<{each}>{inner})" for each in names[:-1]), f"(?<{names[-1]}>{rest})"]
        value = [part for each in names for part in (code, Variable(each))][1:]
        yield Entry(Plain("~^" + literal(character).join(groups) + "$"), Value(tuple(value)))


def literal(text: str) -> str:
    """A text as a pattern that matches it alone."""
    return "".join(each if each.isalnum() or each in "-_" else f"\\{each}" for each in text)


def exactly(text: str) -> Plain:
    """A key of a map that is compared as it is, whatever it would mean to nginx, and not in any case."""
    return Plain(f"~^{literal(text)}$")

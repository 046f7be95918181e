"""nginx's configuration as a tree, and the one place where it becomes text.

An argument is a `Word` (ours, checked to be harmless), a `Plain` (anybody's text where nginx expands no
variables: a location, a server name, a pattern) or a `Value` (texts and variables where it does). A bare `str`
is no argument. Quoting with backslashes neutralises every byte but `$` (measured with 1.22), and in a
`Value` a dollar of a text becomes `${lbcore_dollar}`, a variable that holds just that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import field, frozen

from lbcore.errors import LocalProtocolError
from lbcore.proxy import Template, Variable

__all__ = [
    "Argument",
    "Condition",
    "Directive",
    "Entry",
    "Name",
    "Plain",
    "Value",
    "Word",
    "directive",
    "map_of",
    "serialize",
    "word",
]

MOST_BYTES = 4000  # of one token: nginx ends at 4,096
_WORD = re.compile(r"[A-Za-z0-9_./:=@*+~-]+")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLE = re.compile(r"[a-z][a-z0-9_]*|[1-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BARE = re.compile(r"[A-Za-z0-9_/.*-]+")  # what needs no quotes, wherever it stands


@frozen
class Word:
    """Our own word, number or path: `on`, `60s`, `zone=r1:5m`, `=`."""

    text: str = field()

    @text.validator
    def _is_harmless(self, _attribute: object, text: str) -> None:
        if not _WORD.fullmatch(text):
            raise LocalProtocolError(f"{text[:60]!r} is no word of ours")


@frozen
class Plain:
    """Anybody's text, where nginx takes `$` as it is."""

    text: str


@frozen
class Value:
    """Texts and variables, where nginx expands variables."""

    parts: Template


@frozen
class Name:
    """A variable of ours that is set here."""

    name: str


@frozen
class Condition:
    """`if` this variable is neither empty nor 0."""

    name: str


Argument = Word | Plain | Value | Name | Condition


@frozen
class Entry:
    """A line of a `map`, `geo` or `split_clients`: a key, and what it stands for."""

    key: Plain
    value: Argument


@frozen
class Directive:
    """A directive with its arguments; `block` is None where it has none."""

    name: str
    arguments: tuple[Argument, ...] = ()
    block: tuple[Directive | Entry, ...] | None = None


def word(value: object) -> Word:
    """A number, a size or a word of ours; a boolean is `on` or `off`."""
    return Word(("on" if value else "off") if isinstance(value, bool) else str(value))


def directive(
    name: str, *arguments: Argument | int | str, block: Iterable[Directive | Entry] | None = None
) -> Directive:
    """A directive; bare numbers and texts in it are words of ours."""
    made = tuple(
        each if isinstance(each, Word | Plain | Value | Name | Condition) else word(each) for each in arguments
    )
    return Directive(name, made, tuple(block) if block is not None else None)


def map_of(key: Value, name: str, default: Argument, lines: Iterable[Entry] = ()) -> Directive:
    """A variable of this name that is worked out of the key by the lines, or else is the default."""
    return directive("map", key, Name(name), block=(Directive("default", (default,)), *lines))


def serialize(tree: Iterable[Directive | Entry], depth: int = 0) -> str:
    """The text. Raises `LocalProtocolError` for what must have been refused long before: control characters,
    tokens that are too long, names that are none.
    """
    pieces: list[str] = []
    _write(tree, "  " * depth, pieces)
    return "".join(pieces)


def _write(tree: Iterable[Directive | Entry], indent: str, pieces: list[str]) -> None:
    for each in tree:
        if isinstance(each, Entry):
            pieces.append(f"{indent}{_token(each.key)} {_token(each.value)};\n")
            continue
        if not _NAME.fullmatch(each.name):
            raise LocalProtocolError(f"{each.name[:60]!r} is no directive")
        pieces.append(indent + " ".join((each.name, *map(_token, each.arguments))))
        if each.block is None:
            pieces.append(";\n")
            continue
        pieces.append(" {\n")
        _write(each.block, indent + "  ", pieces)
        pieces.append(indent + "}\n")


def _token(argument: Argument) -> str:
    match argument:
        case Word(text):
            return text
        case Plain(text):
            return _quoted(text)
        case Value(parts):
            return _quoted_parts(parts)
        case Name(name) | Condition(name):
            if not _NAME.fullmatch(name):
                raise LocalProtocolError(f"{name[:60]!r} is no variable of ours")
            return f"${name}" if isinstance(argument, Name) else f"(${name})"


def _escaped(text: str) -> str:
    if _CONTROL.search(text):
        raise LocalProtocolError("a control character in a configuration")
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    token = text if _BARE.fullmatch(text) else f'"{_escaped(text)}"'
    return _checked(token)


def _quoted_parts(parts: Template) -> str:
    token = "".join(_part(each) for each in parts)
    return _checked(token if _BARE.fullmatch(token) else f'"{token}"')


def _part(part: str | Variable) -> str:
    if isinstance(part, Variable):
        if not _VARIABLE.fullmatch(part.name):
            raise LocalProtocolError(f"{part.name[:60]!r} is no variable")
        # A capture is one digit and takes no braces: nginx would look for a variable of that name.
        return f"${part.name}" if part.name.isdigit() else f"${{{part.name}}}"
    return _escaped(part).replace("$", "${lbcore_dollar}")


def _checked(token: str) -> str:
    try:
        size = len(token.encode())
    except UnicodeEncodeError:
        raise LocalProtocolError("half a character in a configuration") from None
    if size > MOST_BYTES:
        raise LocalProtocolError(f"a token of {size} bytes")
    return token

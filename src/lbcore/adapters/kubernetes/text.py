"""Text -> documents: YAML and JSON as plain Python objects, each document on its own.

A file is cut at its document markers (YAML 1.2 section 9.1: `---` and `...` at the start of a line
are markers wherever they stand), so that a document that cannot be parsed leaves its neighbours
alone. Scalars are read as Kubernetes reads them, with two differences that protect times and
addresses: no timestamps, and no base-60 numbers (to YAML 1.1, `1:20:30` is 4830, and so are some
IPv6 addresses). Tags that make objects, keys that are not text, keys given twice, and aliases that
multiply a document are refused. No file is opened here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from sys import intern
from typing import Any, NoReturn

import yaml
from attrs import define, field, frozen

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML built without libyaml: the same events, about ten times slower
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

__all__ = ["Chunk", "TextError", "parse", "parse_json", "split"]

MOST_NESTED = 64  # Kubernetes' own objects stay under 20; deeper is a mistake or an attack
MOST_ALIASED = 100_000  # values that aliases may add to one document; ten nested "laughs" add 10^10

_MARKER = re.compile(r"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)


class TextError(ValueError):
    """A text that is no document; `line` counts from 1 in the whole file, 0 when unknown."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line
        self.message = message


@frozen
class Chunk:
    """The text of one document: its `number` in the file and the `line` it starts at, both from 1."""

    number: int
    line: int
    text: str


def split(text: str) -> Iterator[Chunk]:
    """Cut a YAML text at its document markers; what holds only comments is no document."""
    number = 0
    for line, piece in _pieces(text):
        if all(not row.strip() or row.lstrip()[0] == "#" or row[0] == "%" for row in piece.splitlines()):
            continue
        number += 1
        yield Chunk(number, line, piece)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    begin, line = 0, 1
    for marker in _MARKER.finditer(text):
        piece = text[begin : marker.start()]
        yield line, piece
        line += piece.count("\n")
        # `---` stays with what follows it: content may stand on the same line.
        begin = marker.start() if marker.group() == "---" else marker.end()
    yield line, text[begin:]


def parse(chunk: Chunk) -> list[object]:
    """The documents of a chunk: one as a rule, none when it is empty.

    Raises `TextError` with the line and the cause, for broken YAML and for all that the head of
    this file refuses.
    """
    builder = _Builder(first_line=chunk.line)
    try:
        loader = Loader(chunk.text)
        try:
            return builder.documents(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = chunk.line + mark.line if mark else chunk.line
        cause = " ".join(part for part in (error.problem, error.context) if part)
        raise TextError(line, f"this is not YAML: {cause}; correct that line") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise TextError(chunk.line, f"this is not YAML: {_first_line(error)}; correct that") from None


def parse_json(text: str) -> object:
    """The one document of a JSON text. Raises `TextError`."""
    try:
        document: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except json.JSONDecodeError as error:
        raise TextError(error.lineno, f"this is not JSON: {error.msg}; correct that line") from None
    except RecursionError:
        raise TextError(0, "this JSON is nested too deep to be a manifest; write one object in it") from None
    except UnicodeError:
        raise TextError(
            0, r"a text has half of a surrogate pair (\ud800 to \udfff); write the whole character"
        ) from None
    except ValueError as error:
        raise TextError(0, f"this is not JSON: {_first_line(error)}") from None
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is given twice; keep one")
            seen.add(key)
    return mapping


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON; write one, or put it in quotes")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_NO_KEY: Any = object()
_MERGE: Any = object()

_WORDS: dict[str, object] = {"": None, "~": None}
_WORDS |= dict.fromkeys(("null", "Null", "NULL"))
_WORDS |= {form: True for word in ("true", "yes", "on") for form in (word, word.capitalize(), word.upper())}
_WORDS |= {form: False for word in ("false", "no", "off") for form in (word, word.capitalize(), word.upper())}

_MAYBE_NUMBER = frozenset("0123456789+-.")
_MAYBE_NO_TEXT = _MAYBE_NUMBER | {word[:1] for word in _WORDS} | {"<"}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]{0,30}|0[xX][0-9a-fA-F]{1,32}|0o[0-7]{1,32}|0b[01]{1,128}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,6})?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

_TAGS: dict[str, tuple[type, ...]] = {
    "tag:yaml.org,2002:str": (str,),
    "tag:yaml.org,2002:int": (int,),
    "tag:yaml.org,2002:float": (float, int),
    "tag:yaml.org,2002:bool": (bool,),
    "tag:yaml.org,2002:null": (type(None),),
    "tag:yaml.org,2002:map": (dict,),
    "tag:yaml.org,2002:seq": (list,),
    "!": (str, dict, list),
}


def _plain(text: str) -> object:
    """What an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _MAYBE_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if infinite := _INFINITE.fullmatch(text):
        return float("nan" if infinite[1] is None else f"{infinite[1]}inf")
    return text


def _integer(text: str) -> object:
    digits = text.replace("_", "")
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        return int(digits, 8) if not set("89") & set(digits) else float(digits)  # as Kubernetes: 010 is 8
    return int(digits, 0) if digits[:2].lower() in ("0x", "0o", "0b") else int(digits)


@define
class _Open:
    """A list or mapping whose end has not come yet."""

    container: Any
    anchor: str | None
    line: int
    key: Any = _NO_KEY
    merged: list[Any] = field(factory=list)


class _Builder:
    """Builds documents from events, with its own stack: nothing here recurses."""

    def __init__(self, first_line: int) -> None:
        self._first_line = first_line
        self._stack: list[_Open] = []
        self._anchors: dict[str, object] = {}
        self._aliased = 0
        self._documents: list[object] = []

    def documents(self, loader: Any) -> list[object]:
        """Every document of the event stream but the empty ones."""
        stack = self._stack
        while True:
            event = loader.get_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                # One copy of each text: a Service's name stands in it three times, its keys in every Service.
                text = intern(event.value)
                # Nine in ten scalars are nothing but text; for those, no call is made (a third of the time).
                is_text = not event.implicit[0] or text[:1] not in _MAYBE_NO_TEXT
                if not is_text or event.tag is not None or event.anchor is not None or not stack:
                    self._scalar(event)
                    continue
                top = stack[-1]
                if type(top.container) is list:
                    top.container.append(text)
                elif top.key is _NO_KEY:
                    top.key = text if text not in top.container else self._key(text, top.container, _line(event))
                elif top.key is not _MERGE:
                    top.container[top.key] = text
                    top.key = _NO_KEY
                else:
                    self._merge(top, text, _line(event))
            elif kind is yaml.MappingStartEvent:
                self._open(event, {})
            elif kind is yaml.SequenceStartEvent:
                self._open(event, [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close()
            elif kind is yaml.AliasEvent:
                self._add(self._alias(event), event)
            elif kind is yaml.DocumentStartEvent:
                self._anchors, self._aliased = {}, 0
            elif kind is yaml.StreamEndEvent or event is None:
                return self._documents

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        if event.tag is not None:
            value = self._tagged(event, text)
        elif event.implicit[0]:
            if text == "<<" and self._awaits_key():
                self._stack[-1].key = _MERGE
                return
            value = _plain(text)
        else:
            value = text
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        self._add(value, event)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and type(self._stack[-1].container) is dict and self._stack[-1].key is _NO_KEY

    def _tagged(self, event: Any, text: str) -> object:
        allowed = self._allowed(event)
        value = text if str in allowed else _plain(text)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise self._error(event, f"{text[:40]!r} does not fit its tag {_short(event.tag)}; leave the tag out")
        return value

    def _allowed(self, event: Any) -> tuple[type, ...]:
        if event.tag not in _TAGS:
            raise self._error(event, f"the tag {_short(event.tag)} is not known to Kubernetes; leave it out")
        return _TAGS[event.tag]

    def _open(self, event: Any, container: Any) -> None:
        if event.tag is not None and not isinstance(container, self._allowed(event)):
            raise self._error(event, f"this does not fit its tag {_short(event.tag)}; leave the tag out")
        if len(self._stack) >= MOST_NESTED:
            raise self._error(event, f"nested more than {MOST_NESTED} deep; look for what is not closed")
        self._stack.append(_Open(container, event.anchor, event.start_mark.line))

    def _close(self) -> None:
        done = self._stack.pop()
        for source in done.merged:
            for key, value in source.items():
                done.container.setdefault(key, value)
        if done.anchor is not None:
            self._anchors[done.anchor] = done.container
        self._add(done.container, None, done.line)

    def _add(self, value: object, event: Any, line: int = 0) -> None:
        if not self._stack:
            if value is not None:
                self._documents.append(value)
            return
        top = self._stack[-1]
        if type(top.container) is list:
            top.container.append(value)
        elif top.key is _NO_KEY:
            top.key = self._key(value, top.container, _line(event) if event else line)
        elif top.key is _MERGE:
            self._merge(top, value, _line(event) if event else line)
        else:
            top.container[top.key] = value
            top.key = _NO_KEY

    def _key(self, value: object, container: dict[str, object], line: int) -> str:
        if not isinstance(value, str):
            shown = repr(value) if isinstance(value, bool | int | float | None) else "a list or mapping"
            raise TextError(self._first_line + line, f"the key {shown} is not text; put it in quotes")
        if value in container:
            raise TextError(self._first_line + line, f"the key {value[:80]!r} is given twice; keep one")
        return value

    def _merge(self, top: _Open, value: object, line: int) -> None:
        sources: list[Any] = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise TextError(self._first_line + line, "`<<` takes a mapping or a list of mappings; write the fields out")
        self._spend(sources, self._first_line + line)
        top.merged += sources
        top.key = _NO_KEY

    def _alias(self, event: Any) -> object:
        if event.anchor not in self._anchors:
            raise self._error(event, f"the alias *{event.anchor} names no anchor that ends before it; write it out")
        value = self._anchors[event.anchor]
        self._spend([value], self._first_line + event.start_mark.line)
        return value

    def _spend(self, values: Iterable[object], line: int) -> None:
        """Count what an alias adds, as if it were written out, and stop early when it is too much."""
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            self._aliased += 1
            if self._aliased > MOST_ALIASED:
                raise TextError(line, f"aliases add more than {MOST_ALIASED} values to this document; write it out")
            if isinstance(value, dict):
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)

    def _error(self, event: Any, message: str) -> TextError:
        return TextError(self._first_line + event.start_mark.line, message)


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:80]

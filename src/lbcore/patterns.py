"""Is this regular expression one that a proxy may be given? A closed subset of PCRE, read to its end.

nginx refuses its whole configuration for one pattern that does not compile, and a pattern can cost
a worker minutes for one request. So a user's pattern is parsed here: literals, classes, groups,
alternatives, lookaround, anchors and repetition; no back references, no named groups (they would
set nginx's variables), no options but `(?i)` at the start, and nothing unbounded inside something
unbounded (`(a+)+`).
"""

from __future__ import annotations

import re

from attrs import define, frozen

__all__ = ["Pattern", "check"]

MOST_CHARACTERS = 1000
MOST_DEPTH = 20
MOST_REPEATS = 1000

_LITERAL_ESCAPES = re.compile(r"\\[^A-Za-z0-9]|\\[tnrfdDwWsShHvVbBAzZ]|\\x[0-9a-fA-F]{2}")
_IN_CLASS = re.compile(r"\\[^A-Za-z0-9]|\\[tnrfdDwWsShH]|\\x[0-9a-fA-F]{2}|\[:\^?[a-z]{5,6}:\]|[^\]\\]")
_POSIX = frozenset(
    ("alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper")
)  # `word` and `xdigit` are not five letters long, and nobody writes them in a path
_REPEAT = re.compile(r"\{(\d{1,4})(?:(,)(\d{0,4}))?\}")


@frozen
class Pattern:
    """A pattern that compiles; `groups` captures, of which `nested` says whether one lies in another."""

    text: str
    groups: int
    nested: bool


class _WrongError(Exception):
    pass


@define
class _Parser:
    text: str
    place: int = 0
    groups: int = 0
    nested: bool = False

    def alternatives(self, depth: int, captures: int) -> bool:
        """Reads up to a closing parenthesis or the end; whether what was read can repeat without bound."""
        if depth > MOST_DEPTH:
            raise _WrongError("its groups are nested too deeply")
        unbounded = False
        while self.place < len(self.text) and self.text[self.place] != ")":
            if self.text[self.place] == "|":
                self.place += 1
                continue
            unbounded |= self.piece(depth, captures)
        return unbounded

    def piece(self, depth: int, captures: int) -> bool:
        character = self.text[self.place]
        repeats, inside = True, False
        if character == "(":
            inside = self.group(depth, captures)
        elif character == "[":
            self.bracket()
        elif character == "\\":
            found = _LITERAL_ESCAPES.match(self.text, self.place)
            if not found:
                raise _WrongError(f"{self.text[self.place : self.place + 2]!r} is no escape that is allowed")
            repeats = found[0][1] not in "bBAzZ"
            self.place = found.end()
        elif character in "*+?" or _REPEAT.match(self.text, self.place):
            raise _WrongError(f"{character!r} has nothing to repeat")
        else:
            repeats = character not in "^$"
            self.place += 1
        endless = self.repetition(repeats)
        if endless and inside:
            raise _WrongError("an unbounded repetition lies inside another, which can take for ever")
        return endless or inside

    def group(self, depth: int, captures: int) -> bool:
        self.place += 1
        if self.text.startswith("?", self.place):
            kind = next(
                (kind for kind in ("?:", "?=", "?!", "?<=", "?<!") if self.text.startswith(kind, self.place)), ""
            )
            if not kind:
                raise _WrongError("a group with ? may only be (?: (?= (?! (?<= or (?<!")
            self.place += len(kind)
            start = self.place
            inside = self.alternatives(depth + 1, captures)
            if kind.startswith("?<") and re.search(r"[*+?{|(\\\[]", self.text[start : self.place]):
                raise _WrongError("what is looked for behind must be plain characters")
        else:
            self.groups += 1
            self.nested |= captures > 0
            inside = self.alternatives(depth + 1, captures + 1)
        if self.place >= len(self.text):
            raise _WrongError("a ( is not closed")
        self.place += 1
        return inside

    def bracket(self) -> None:
        self.place += 1
        if self.text.startswith("^", self.place):
            self.place += 1
        items: list[str] = []
        while not items or not self.text.startswith("]", self.place):
            found = None if self.text.startswith("]", self.place) else _IN_CLASS.match(self.text, self.place)
            if found is None:
                raise _WrongError("a [ is not closed, or is empty")
            if found[0].startswith("[:") and found[0][2:-2].lstrip("^") not in _POSIX:
                raise _WrongError(f"{found[0]} is no class")
            items.append(found[0])
            self.place = found.end()
        self.place += 1
        index = 1
        while index < len(items) - 1:
            if items[index] == "-":
                _check_span(items[index - 1], items[index + 1])
                index += 2
            index += 1

    def repetition(self, allowed: bool) -> bool:
        """Reads `*`, `+`, `?` or `{n,m}` if there; whether it is unbounded."""
        if self.place >= len(self.text):
            return False
        character = self.text[self.place]
        endless = character in "*+"
        if character == "{":
            found = _REPEAT.match(self.text, self.place)
            if not found:
                return False  # PCRE takes it literally, and it is read as a character next
            low, comma, high = int(found[1]), found[2], found[3]
            endless = bool(comma) and not high
            if low > MOST_REPEATS or (high and (int(high) > MOST_REPEATS or int(high) < low)):
                raise _WrongError(f"{found[0]} is not a repetition that is allowed (up to {MOST_REPEATS})")
            self.place = found.end()
        elif character in "*+?":
            self.place += 1
        else:
            return False
        if not allowed:
            raise _WrongError("an anchor cannot be repeated")
        if self.place < len(self.text) and self.text[self.place] in "?+":
            self.place += 1
        if self.place < len(self.text) and (self.text[self.place] in "*+?" or _REPEAT.match(self.text, self.place)):
            raise _WrongError("a repetition cannot be repeated")
        return endless


def _check_span(lower: str, upper: str) -> None:
    """`a-z`: both ends are one character, and in order."""
    ends = []
    for each in (lower, upper):
        if len(each) > 1 and (each[0] != "\\" or each[1].isalnum()):
            raise _WrongError(f"{lower}-{upper} is no range")
        ends.append(each[-1])
    if ends[0] > ends[1]:
        raise _WrongError(f"{lower}-{upper} is out of order")


def check(text: str) -> Pattern | str:
    """The pattern, or why it is none that may be used. Total."""
    if len(text) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    if any(ord(each) < 0x20 or 0x7F <= ord(each) <= 0x9F or 0xD800 <= ord(each) <= 0xDFFF for each in text):
        return "holds a control character"
    parser = _Parser(text.removeprefix("(?i)"))
    try:
        parser.alternatives(0, 0)
        if parser.place < len(parser.text):
            raise _WrongError("a ) closes nothing")
    except _WrongError as wrong:
        return str(wrong)
    return Pattern(text, parser.groups, parser.nested)

"""Reading one mapping of a document field by field: typed, with the field's path, and total.

A value of a wrong type is a problem with a path (`spec.addresses[0]`), what is wrong, and what to
do; reading goes on with the default, so that one look at a document finds all that is wrong with
it. `null` counts as absent, as the API server has it. Which fields there are is said elsewhere.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

from attrs import define, field, frozen
from immutables import Map

from lbcore.adapters.kubernetes.durations import parse_duration
from lbcore.config import Origin
from lbcore.errors import Problem
from lbcore.model import Labels

__all__ = ["Faults", "Fields", "Spelling", "show"]

MOST_PROBLEMS = 50  # of one object: enough to mend it, too few to fill a disk with

Choice = TypeVar("Choice", bound=Enum)

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NO_LABELS: Labels = Map()


@define
class Faults:
    """Gathers what is wrong with one object."""

    origin: Origin
    problems: list[Problem] = field(factory=list)

    def add(self, path: str, message: str) -> None:
        """Note a problem at a field, once."""
        problem = self.origin.problem(path, message)
        if len(self.problems) < MOST_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)


def show(value: object) -> str:
    """A wrong value as a message may show it: named by its YAML type, and cut."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            # repr() of an integer refuses more than 4,300 digits.
            return (
                f"the number {value!r}" if not isinstance(value, int) or value.bit_length() < 128 else "a huge number"
            )
        case str():
            return f"the text {value!r}" if len(value) <= 60 else f"the text {value[:60]!r}..."
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return f"a {type(value).__name__}"


@frozen
class Spelling:
    """How another format spells the fields of a mapping (its name -> ours), and `inside`, those of its lists' items."""

    names: Mapping[str, str]
    inside: Mapping[str, Spelling] = field(factory=dict)


class Fields:
    """The fields of one mapping; `path` is where it stands in its object (empty at the top)."""

    __slots__ = ("_faults", "_spelling", "_theirs", "_values", "path")

    def __init__(self, values: dict[str, object], path: str, faults: Faults) -> None:
        self._values = values
        self._faults = faults
        self._theirs: Mapping[str, str] = {}
        self._spelling: Spelling | None = None
        self.path = path

    def respelled(self, spelling: Spelling, *besides: str) -> Fields:
        """The same fields under our names, but for those read `besides`; problems show them as they are spelled there.

        Fields that the other format does not have are problems, those of our names too.
        """
        self.only(*besides, *spelling.names)
        values = {ours: self._values[theirs] for theirs, ours in spelling.names.items() if theirs in self._values}
        same = Fields(values, self.path, self._faults)
        same._theirs = {ours: theirs for theirs, ours in spelling.names.items()}
        same._spelling = spelling
        return same

    def at(self, key: object) -> str:
        """The path of a field of this mapping."""
        if isinstance(key, str):
            key = self._theirs.get(key, key)
        if not isinstance(key, str) or not _SIMPLE_KEY.fullmatch(key):
            return f"{self.path}[{str(key)[:80]!r}]"
        return f"{self.path}.{key}" if self.path and not self.path.endswith(":") else f"{self.path}{key}"

    def fault(self, key: str, message: str) -> None:
        """Note a problem at a field of this mapping."""
        self._faults.add(self.at(key), message)

    def fault_here(self, message: str) -> None:
        """Note a problem with this mapping as a whole."""
        self._faults.add(self.path, message)

    def fault_at(self, path: str, message: str) -> None:
        """Note a problem at a path that this mapping gave out."""
        self._faults.add(path, message)

    def __iter__(self) -> Iterator[str]:
        """The names of the fields that are there."""
        return iter(self._values)

    @property
    def values(self) -> dict[str, object]:
        """All that is there, as it stands."""
        return dict(self._values)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._values.get(key) is not None

    def raw(self, key: str) -> object:
        """The field as it stands, None when absent."""
        return self._values.get(key)

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        value = self._values.get(key)
        if isinstance(value, str):
            return value
        if value is not None:
            self.fault(key, f"must be text, not {show(value)}{_quoting(value)}")
        return default

    def required_text(self, key: str, what_to_do: str) -> str:
        """A text that may not be absent or empty."""
        value = self.text(key)
        if not value and not isinstance(self._values.get(key), bool | int | float | list | dict):
            self.fault(key, f"is missing; {what_to_do}")
        return value

    def moment(self, key: str) -> str:
        """A point in time as RFC 3339 text, which sorts as time does; empty when absent.

        Some YAML readers turn such texts into `datetime`; a naive one is UTC.
        """
        value = self._values.get(key)
        if not isinstance(value, datetime):
            return self.text(key)
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.strftime("%Y-%m-%dT%H:%M:%SZ")

    def integer(self, key: str, *, default: int, lowest: int, highest: int) -> int:
        """A whole number within bounds."""
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.fault(key, f"must be a whole number, not {show(value)}")
            return default
        if not lowest <= value <= highest:
            self.fault(key, f"must be from {lowest} to {highest}, not {show(value).removeprefix('the number ')}")
            return default
        return value

    def duration(self, key: str) -> int | None:
        """A duration as Go writes it (`1m30s`), in nanoseconds and not below 0; None when absent."""
        text = self.text(key)
        if not text:
            return None
        try:
            found = parse_duration(text)
        except ValueError as error:
            self.fault(key, str(error))
            return None
        if found < 0:
            self.fault(key, f"must not be negative, not {text[:60]!r}")
            return None
        return found

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.optional_flag(key)
        return default if value is None else value

    def optional_flag(self, key: str) -> bool | None:
        """True, false, or None when not said."""
        value = self._values.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.fault(key, f"must be true or false (without quotes), not {show(value)}")
        return None

    def choice(self, key: str, default: Choice) -> Choice:
        """One of an enum's values, as text."""
        value = self._values.get(key)
        if value is None or value == "":
            return default
        known: dict[object, Choice] = type(default)._value2member_map_  # type: ignore[assignment]
        if isinstance(value, str) and value in known:
            return known[value]
        allowed = [str(name) for name in known]
        self.fault(key, f"must be {_or(allowed)}, not {show(value)}{_did_you_mean(value, allowed)}")
        return default

    def child(self, key: str) -> Fields:
        """A mapping inside this one; an empty one when absent."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, dict):
            self.fault(key, f"must be a mapping, not {show(value)}")
            value = None
        return Fields(value or {}, self.at(key), self._faults)

    def items(self, key: str) -> Iterator[tuple[str, object]]:
        """The path and value of each item of a list; nothing when absent."""
        value = self._values.get(key)
        if value is None:
            return
        if not isinstance(value, list | tuple):
            self.fault(key, f"must be a list, not {show(value)}; put each item on a line of its own after `- `")
            return
        path = self.at(key)
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item

    def children(self, key: str) -> Iterator[Fields]:
        """The mappings of a list."""
        spelling = self._spelling.inside.get(key) if self._spelling is not None else None
        for path, item in self.items(key):
            if isinstance(item, dict):
                fields = Fields(item, path, self._faults)
                yield fields if spelling is None else fields.respelled(spelling)
            else:
                self._faults.add(path, f"must be a mapping, not {show(item)}")

    def raw_children(self, key: str) -> Iterator[dict[str, object]]:
        """The mappings of a list as they stand, for a second look: nothing is noted."""
        value = self._values.get(key)
        return (item for item in (value if isinstance(value, list | tuple) else ()) if isinstance(item, dict))

    def texts(self, key: str, *, empty_allowed: bool = False) -> tuple[tuple[str, str], ...]:
        """The path and text of each item of a list of texts."""
        found = []
        for path, item in self.items(key):
            if not isinstance(item, str):
                self._faults.add(path, f"must be text, not {show(item)}{_quoting(item)}")
            elif not item and not empty_allowed:
                self._faults.add(path, "is empty; write a value or take the line out")
            else:
                found.append((path, item))
        return tuple(found)

    def unique_texts(self, key: str, *, empty_allowed: bool = False) -> tuple[str, ...]:
        """A list of texts, none twice."""
        found: dict[str, None] = {}
        for path, item in self.texts(key, empty_allowed=empty_allowed):
            if item in found:
                self._faults.add(path, f"{item[:80]!r} is given twice; keep one")
            found[item] = None
        return tuple(found)

    def labels(self, key: str) -> Labels:
        """A mapping of texts to texts."""
        value = self._values.get(key)
        if value is None:
            return _NO_LABELS
        mapping = self.child(key)
        for name, text in mapping._values.items():
            if not isinstance(text, str) or not isinstance(name, str):
                self._faults.add(mapping.at(name), f"must be text, not {show(text)}{_quoting(text)}")
                return _NO_LABELS
        return Map(mapping._values)  # type: ignore[arg-type]

    def labels_quietly(self) -> Mapping[str, str]:
        """The texts of this mapping; of what is none, only the key is noted: its value may be a secret."""
        found = {}
        for name, value in self._values.items():
            if isinstance(value, str):
                found[name] = value
            elif value is not None:
                self._faults.add(self.at(name), "must be text")
        return found

    def only(self, *known: str) -> None:
        """Note every field that is not known: a typo would silently change what is meant."""
        for key in self._values:
            if key not in known:
                hint = _did_you_mean(key, known) or f"; known here: {', '.join(known)}"
                self._faults.add(self.at(key), f"is not a field that exists{hint}")


def _quoting(value: object) -> str:
    if isinstance(value, bool | int | float):
        return "; put it in quotes"
    return "; take the line out or write a value" if value is None else ""


def _or(allowed: list[str]) -> str:
    return allowed[0] if len(allowed) == 1 else f"{', '.join(allowed[:-1])} or {allowed[-1]}"


def _did_you_mean(value: object, allowed: list[str] | tuple[str, ...]) -> str:
    if not isinstance(value, str):
        return ""
    by_lower = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(value.lower()[:80], by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""

"""How one annotation is read, and what becomes of a bad value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from attrs import evolve, frozen

from lbcore.proxy import Policies

__all__ = ["Bad", "Finding", "Group", "Rule", "State", "Values"]


class Bad(Enum):
    """What a bad value of an annotation costs."""

    DROPPED = "dropped"  # a tuning knob: the default holds, and an Event says so
    DENIED = "denied"  # an access control: the Ingress's locations answer 503


class State(Enum):
    """What becomes of an annotation."""

    SUPPORTED = "supported"
    DROPPED = "dropped: bad value"
    DENIED = "denied: bad value"
    UNSUPPORTED = "not supported"
    REFUSED = "refused"
    PARTIAL = "taken in part"
    OBSOLETE = "obsolete"
    UNKNOWN = "unknown"


@frozen(kw_only=True)
class Rule:
    """One annotation: its name without the prefix, its parser (which raises `ValueError`), and its tier."""

    name: str
    parse: Callable[[str], object]
    tier: str
    bad: Bad = Bad.DROPPED
    aliases: tuple[str, ...] = ()


@frozen(kw_only=True, order=True)
class Finding:
    """What became of one annotation of one Ingress, and why; for Events, `check` and the report."""

    annotation: str
    state: State = State.SUPPORTED
    message: str = ""


class Values:
    """The parsed values of one Ingress's annotations, by name."""

    def __init__(self, namespace: str, parsed: Mapping[str, object], denied: str = "") -> None:
        self.namespace = namespace
        self.denied = denied
        self._parsed = parsed

    def __contains__(self, name: str) -> bool:
        return name in self._parsed

    def get(self, name: str) -> object:
        """The value; None when it is not there or was dropped. Each group knows what its own parsers return."""
        return self._parsed.get(name)

    def into(self, value: object, **fields: str) -> object:
        """A frozen value with those fields replaced whose annotation is there: field name -> annotation."""
        found = {field: self._parsed[name] for field, name in fields.items() if name in self._parsed}
        return evolve(value, **found) if found else value  # type: ignore[misc]


@frozen
class Group:
    """The annotations of one noun: how each is read, and what they make of the policies together.

    `apply` raises `ValueError` where values do not go together: the Ingress is then denied.
    """

    rules: tuple[Rule, ...]
    apply: Callable[[Values, Policies], Policies]

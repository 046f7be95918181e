"""Is a daemon alive, and is it ready: named checks, each asked when somebody wants to know.

Whoever makes a daemon adds what it depends on; what is answered is true at that moment, and never
remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import define, field, frozen

from lbcore.config import Configuration
from lbcore.events import Kind

__all__ = ["Answer", "Health", "Lists", "check_configuration", "check_lists"]

Probe = Callable[[], str | None]


@frozen
class Answer:
    """What one check says: None where all is well, else what is missing."""

    name: str
    missing: str | None


@define
class Health:
    """The checks of the daemons in this process, by name."""

    _probes: dict[str, Probe] = field(factory=dict)

    def add(self, name: str, probe: Probe) -> None:
        """One more thing to be ready for. `probe` returns None when it is there, else what is missing.

        A name has one check: adding it again replaces the old one.
        """
        self._probes[name] = probe

    def ask(self) -> tuple[Answer, ...]:
        """Every check's answer now, in the order added."""
        return tuple(Answer(name, probe()) for name, probe in self._probes.items())


class Lists(Protocol):
    """What both brains' states have in common."""

    @property
    def listed(self) -> frozenset[Kind]:
        """What has been told in full."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The documents, and what of them is in force."""
        ...


def check_lists(state: Lists, needs: Iterable[Kind]) -> str | None:
    """Which first lists have not come yet."""
    missing = sorted(kind.value for kind in needs if kind not in state.listed)
    return f"waiting for the first list of {', '.join(missing)}" if missing else None


def check_configuration(state: Lists) -> str | None:
    """Whether a configuration is in force. One that was refused later leaves the last good one, and is no fault."""
    if state.configuration.current is not None:
        return None
    problems = state.configuration.problems
    return f"refused: {problems[0]}" if problems else "none has been loaded yet"

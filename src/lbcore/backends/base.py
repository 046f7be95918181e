"""The small contracts that every backend keeps: a source of events, a sink for intents, a clock.

One suite (`tests/backends/`) runs against every implementation, the memory one included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from lbcore.events import Applied, Event, Failed
from lbcore.intents import Intent

__all__ = ["Clock", "Sink", "Source"]


class Source(Protocol):
    """Where events come from: first what is there, then `Listed` for each kind, then changes."""

    def events(self) -> AsyncIterator[Event]:
        """Every event from the beginning; closing the iterator releases what it holds."""
        ...


class Sink(Protocol):
    """Where intents go. `handles` names the types it carries out; each type has exactly one sink."""

    @property
    def handles(self) -> tuple[type[Intent], ...]:
        """The intent types that this sink carries out."""
        ...

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent; doing it twice does no harm."""
        ...


class Clock(Protocol):
    """Time in seconds that only goes forward."""

    def now(self) -> float:
        """Seconds since a moment that does not matter."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return at `moment` or later."""
        ...

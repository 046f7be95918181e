"""Virtual time: a heap of what happens when, and the trace of what happened.

Nothing here knows what it carries. Two things due at one moment happen in the order in which they
were planned, so that a history depends on its seed alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha256
from heapq import heappop, heappush
from typing import Any

__all__ = ["Clock", "Trace"]


class Clock:
    """Seconds since the beginning of the history, and what is planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._planned: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something at a moment, or now if that is past."""
        self._count += 1
        heappush(self._planned, (max(moment, self.now), self._count, action, arguments))

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something in so many seconds."""
        self.at(self.now + delay, action, *arguments)

    def run_until(self, end: float) -> None:
        """Do everything that is planned before `end`, and what that plans, then stand there."""
        planned = self._planned
        while planned and planned[0][0] <= end:
            self.now, _, action, arguments = heappop(planned)
            self.steps += 1
            action(*arguments)
        self.now = max(self.now, end)


class Trace:
    """What happened, as lines of canonical text: their hash, and the last few, or all, to read."""

    def __init__(self, clock: Clock, *, keep: int | None = 0) -> None:
        self._clock = clock
        self._hash = sha256()
        self._kept: deque[str] | None = deque(maxlen=keep) if keep != 0 else None

    def add(self, who: str, what: str) -> None:
        """One more line; it may contain nothing that depends on the order of a set."""
        line = f"{self._clock.now:.6f} {who} {what}\n"
        self._hash.update(line.encode())
        if self._kept is not None:
            self._kept.append(line)

    @property
    def digest(self) -> str:
        """The SHA-256 of all lines so far, in hexadecimal."""
        return self._hash.hexdigest()

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines that were kept: the last `keep`, or all (None)."""
        return tuple(self._kept or ())

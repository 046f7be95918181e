"""The shape of a brain: `step(state, event, now) -> Step(state, intents, wake_at)`.

A brain is a pure function. The loop holds its state, feeds it events one at a time, carries out
its intents, and sends `Tick` at `wake_at` (seconds on the clock of `now`; at or before `now`: as
soon as nothing else waits).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import frozen

from lbcore.events import Event
from lbcore.intents import Intent

__all__ = ["Brain", "Step"]

S = TypeVar("S")


@frozen(kw_only=True)
class Step(Generic[S]):
    """What one event led to: the state after it, what is to be done, and when to be asked again."""

    state: S
    intents: tuple[Intent, ...] = ()
    wake_at: float | None = None


Brain = Callable[[S, Event, float], Step[S]]

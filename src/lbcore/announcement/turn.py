"""One step of the speaker's brain in progress: what its parts hand around."""

from __future__ import annotations

from attrs import define, field

from lbcore.announcement.state import AnnouncementState
from lbcore.intents import Intent

__all__ = ["Turn"]


@define
class Turn:
    """The state so far, the intents so far, and what was spent of the step's effort (in hashes)."""

    state: AnnouncementState
    now: float
    intents: list[Intent] = field(factory=list)
    effort: int = 0

    def change(self, **changes: object) -> None:
        """Fill in fields of the state."""
        # The state is this step's own copy, which nobody else has seen yet: filling it in place costs a
        # tenth of `attrs.evolve`, and a step changes it some ten times.
        for name, value in changes.items():
            object.__setattr__(self.state, name, value)

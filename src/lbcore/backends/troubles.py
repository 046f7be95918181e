"""What is wrong just now, said once when it begins and once when it is over: no line per attempt."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Troubles"]


class Troubles:
    """Tells `say` of troubles that begin, change their reason, or end. Each has a name in words."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._now: dict[str, str] = {}

    def note(self, what: str, why: object | None) -> None:
        """`what` is wrong because of `why`, or is not wrong (None)."""
        if why is None:
            if self._now.pop(what, None) is not None:
                self._say(f"{what}: over")
            return
        text = str(why)
        if self._now.get(what) != text:
            self._now[what] = text
            self._say(f"{what}: {text}")

    def forget(self, what: str) -> None:
        """What it was about is gone."""
        self._now.pop(what, None)

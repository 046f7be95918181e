"""Files of nginx that no configuration names any more: certificates, passwords, authorities of hosts that are gone.

Workers of earlier configurations read certificates by their names at each handshake, and on a busy machine there may be
several such generations at once: reloads follow each other faster than nginx is done with one. So files stay a while.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

__all__ = ["KEPT", "Leftovers"]

KEPT = 60.0  # seconds in which files that are named no more may still be read
_OURS = frozenset({".pem", ".users", ".ca", ".crl", ".dh", ".ticket"})


class Leftovers:
    """The files of one folder that are named no more, and since when. Nothing but kinds of ours is ever touched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._since: dict[str, float] = {}

    @property
    def waiting(self) -> bool:
        """Whether there are any."""
        return bool(self._since)

    def tidy(self, wanted: Set[str], now: float) -> None:
        """Take away what has not been wanted for `KEPT` seconds, as far as it was looked at; `now` never goes back.

        Raises `OSError` for a folder that cannot be read or written.
        """
        for path in self._folder.iterdir():
            name = path.name
            if path.suffix not in _OURS:
                continue
            if name in wanted:
                self._since.pop(name, None)
            elif now - self._since.setdefault(name, now) >= KEPT:
                path.unlink(missing_ok=True)
                del self._since[name]

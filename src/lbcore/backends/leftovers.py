"""Files of nginx that no configuration names any more: certificates, passwords, authorities of hosts that are gone.

Workers of earlier configurations read certificates by their names at each handshake, and on a busy machine there may be
several such generations at once: reloads follow each other faster than nginx is done with one. So files stay a while;
and pairs of certificate and key that were renewed, for handshakes that have found them and not read them yet.
"""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

from lbcore.adapters.nginx.names import PAIR

__all__ = ["KEPT", "Leftovers"]

KEPT = 60.0  # seconds in which files that are named no more may still be read
_OURS = (PAIR, ".pem", ".users", ".ca", ".crl", ".dh", ".ticket")


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
        What a link leads to is wanted where the link is.

        Raises `OSError` for a folder that cannot be read or written.
        """
        with os.scandir(self._folder) as entries:
            found = [each for each in entries if each.name.endswith(_OURS) and each.name not in _OURS]
        links = [each.path for each in found if each.name in wanted and each.is_symlink()]
        led_to = {os.readlink(each) for each in links}  # noqa: PTH115 - pathlib takes several times as long
        unwanted = [each.name for each in found if each.name not in wanted and each.name not in led_to]
        since = {name: self._since.get(name, now) for name in unwanted}
        for name, first in since.items():
            if now - first >= KEPT:
                (self._folder / name).unlink(missing_ok=True)
        self._since = {name: first for name, first in since.items() if now - first < KEPT}

"""How long a member stays suspected: long at first, and the shorter the more others say the same (Lifeguard)."""

from __future__ import annotations

import math

from lbcore.adapters.memberlist.settings import Settings

__all__ = ["Suspicion"]


class Suspicion:
    """One suspicion among `count` known nodes, raised by `accuser` at `now`. Times in seconds.

    It starts at the greatest time and comes down to the least with the confirmations of others, of
    which a few are wanted; where there are too few nodes to confirm it is the least from the start.
    """

    def __init__(self, accuser: str, count: int, settings: Settings, now: float) -> None:
        wanted = settings.suspicion_mult - 2
        self._wanted = wanted if count - 2 >= wanted else 0
        scale = math.floor(max(1.0, math.log10(max(1, count))) * 1000) / 1000
        self._least = settings.suspicion_mult * scale * settings.probe_interval
        self._most = settings.suspicion_max_mult * self._least if self._wanted else self._least
        self._began = now
        self._accusers = {accuser}

    @property
    def deadline(self) -> float:
        """When the suspect is dead, as far as is known now."""
        if not self._wanted:
            return self._began + self._least
        share = math.log(len(self._accusers)) / math.log(self._wanted + 1)
        time = self._most - share * (self._most - self._least)
        return self._began + max(self._least, math.floor(time * 1000) / 1000)

    def confirm(self, accuser: str) -> bool:
        """Another says so, too; whether that is news."""
        if len(self._accusers) > self._wanted or accuser in self._accusers:
            return False
        self._accusers.add(accuser)
        return True

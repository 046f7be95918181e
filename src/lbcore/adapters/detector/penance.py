"""How long a member that was held for dead is no candidate after it has come back: the damping of flaps.

It is the member's own doing, said in its metadata, so that all know the same candidates. One second the first
time and twice as long each time after, up to a minute; ten good minutes, and it is forgotten. An address moves twice
for each time, so not more than 14 times in the first two minutes and then twice a minute, whatever the node does; of
several that fail, that many times for each, as long as one that may announce it does not wait.
"""

from __future__ import annotations

from lbcore.adapters.detector.times import Times
from lbcore.adapters.memberlist.messages import Status
from lbcore.adapters.memberlist.table import Table

__all__ = ["Parting", "Penance"]

_NEVER = float("inf")
_REUNION = 2.0  # seconds in which two sides that find each other again still tell each other that they are dead


class Parting:
    """Whom we held for dead when they held us for dead: two sides of a cut, of which the greater need not wait."""

    def __init__(self) -> None:
        self._held: dict[str, float] = {}

    def see(self, table: Table, now: float) -> None:
        """Look who is held for dead."""
        for record in table.others(Status.DEAD):
            self._held[record.name] = now
        for name in [name for name, last in self._held.items() if name not in table.records and last + _REUNION < now]:
            del self._held[name]

    def prevails(self, names: frozenset[str], own: str, now: float) -> bool:
        """Whether we are of the greater side; of two alike it is the one with the first of all names."""
        theirs = {name for name, last in self._held.items() if name not in names or now - last < _REUNION}
        ours = (names | {own}) - theirs
        if not theirs or len(ours) < len(theirs):
            return False
        return len(ours) > len(theirs) or min(ours) < min(theirs)


class Penance:
    """Times in seconds on the clock of `now`."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._count = 0
        self._began = -_NEVER
        self._until = _NEVER

    @property
    def deadline(self) -> float:
        """When it ends; never while there is none."""
        return self._until

    @property
    def lasts(self) -> bool:
        """Whether there is one."""
        return self._until < _NEVER

    def begin(self, now: float) -> None:
        """Another time; what belongs to one incident (told by several, or at its end again) counts once."""
        if now - self._began > self._times.calm:
            self._count = 0
        if not self.lasts:
            self._count += 1
        self._began = now
        self._until = now + min(self._times.longest, self._times.hold * 2 ** (self._count - 1))

    def ends(self, now: float) -> bool:
        """Whether it ends now; once."""
        if self._until > now:
            return False
        self._until = _NEVER
        return True

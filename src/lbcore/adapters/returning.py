"""Who comes back that was held for dead: each time the segment may have believed two, one on each side of a cut.

Whoever left in order has let go of everything, and is none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

__all__ = ["Returning"]

_MOST = 4096  # names: of nodes that never come back, the oldest are forgotten


class Returning:
    """`lose` and `see` are told what becomes of members; `reunions` counts how often they came back.

    One that waited when it was lost announced nothing that others did, but on its side of a cut it may have. It counts
    as back when it waits no longer: one that comes and goes must not stir everybody up each time.
    """

    def __init__(self) -> None:
        self.reunions = 0
        self._lost: dict[str, None] = {}  # the one that was lost longest ago first
        self._waited: dict[str, None] = {}  # of those that waited

    def come_back(self) -> None:
        """It is ourselves, who stood still and missed nobody."""
        self.reunions += 1

    def lose(self, candidates: Iterable[str], waiting: Iterable[str] = ()) -> None:
        """These are held for dead."""
        for names, lost in ((candidates, self._lost), (waiting, self._waited)):
            for name in names:
                lost.pop(name, None)
                lost[name] = None
            while len(lost) > _MOST:
                del lost[next(iter(lost))]

    def see(self, candidates: Collection[str], waiting: Collection[str] = ()) -> None:
        """These are members now; however many of them are back, they are one reunion."""
        back = [name for name in dict.fromkeys((*candidates, *waiting)) if name in self._lost]
        over = [name for name in candidates if name in self._waited]
        for name in back:
            del self._lost[name]
        for name in over:
            del self._waited[name]
        self.reunions += bool(back or over)

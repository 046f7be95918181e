"""Which addresses does a node still answer for, though another is to announce them? Those of a planned move.

Make before break: whoever loses an address to a living node goes on answering until that node is heard, or
for a bounded time. Meanwhile nobody's question stays unanswered; afterwards only one answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.worklist import Fifo

__all__ = ["HandOver"]


@frozen
class HandOver:
    """The addresses that are given up: when each is to be asked for again, and when it is let go whoever was heard.

    Times to ask come in the order in which they were set, so that the first one is found at once.
    """

    _queue: Fifo[Address] = field(factory=Fifo)
    _times: Map[Address, tuple[float, float]] = field(factory=Map)

    def __contains__(self, address: Address) -> bool:
        return address in self._times

    @property
    def deadline(self) -> float | None:
        """When the first one is due; None while nothing is handed over."""
        first = self._queue.first()
        return None if first is None else self._times[first][0]

    def begin(self, address: Address, ask_at: float, until: float) -> HandOver:
        """Give an address up, which is due at `ask_at`; one that is given up already keeps its end."""
        if address in self._times:
            until = self._times[address][1]
        times = self._times.set(address, (min(ask_at, until), until))
        return HandOver(self._queue.remove(address).push(address), times)

    def end(self, address: Address) -> HandOver:
        """It is let go, or taken back."""
        if address not in self._times:
            return self
        return HandOver(self._queue.remove(address), self._times.delete(address))

    def due(self, now: float) -> Iterator[tuple[Address, bool]]:
        """Those that are due, each with whether its end has come."""
        for address in self._queue:
            ask_at, until = self._times[address]
            if ask_at > now:
                return
            yield address, until <= now

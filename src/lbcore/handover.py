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
    """The addresses that are given up, each with the time at which it is let go whoever was heard.

    Times are told in the order in which they come, so that the first to end is found at once.
    """

    _queue: Fifo[Address] = field(factory=Fifo)
    _until: Map[Address, float] = field(factory=Map)

    def __contains__(self, address: Address) -> bool:
        return address in self._until

    @property
    def deadline(self) -> float | None:
        """When the first one is let go; None while nothing is handed over."""
        first = self._queue.first()
        return None if first is None else self._until[first]

    def begin(self, address: Address, until: float) -> HandOver:
        """Give an address up; one that is given up already keeps its time."""
        if address in self._until:
            return self
        return HandOver(self._queue.push(address), self._until.set(address, until))

    def end(self, address: Address) -> HandOver:
        """It is let go, or taken back."""
        if address not in self._until:
            return self
        return HandOver(self._queue.remove(address), self._until.delete(address))

    def due(self, now: float) -> Iterator[Address]:
        """Those whose time has come."""
        for address in self._queue:
            if self._until[address] > now:
                return
            yield address

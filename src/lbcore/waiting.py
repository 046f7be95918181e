"""Which Services wait for an address, and for what: woken first come, first served.

A Service waits in one queue for each thing that could end its wait. When an address becomes free
(or shareable), only those queues are asked that could use it, each from its longest-waiting end.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address, Family
from lbcore.model import ServiceKey
from lbcore.sharing import Sharing
from lbcore.worklist import Fifo

__all__ = ["Chance", "Waiting", "WaitsFor"]

WaitsFor = Address | tuple[str, Family] | Sharing
"""One address, any address of a pool's family, or company on the same sharing terms."""


@frozen(kw_only=True)
class Chance:
    """Something that may end a wait: an address, and the queues still to be asked, the first from `place` on."""

    address: Address
    queues: tuple[WaitsFor, ...]
    place: int = 0


@frozen
class Waiting:
    """Every Service that waits, by what it waits for; a Service keeps its place while it goes on waiting."""

    _queues: Map[WaitsFor, Fifo[ServiceKey]] = field(factory=Map)
    _entries: Map[ServiceKey, tuple[WaitsFor, ...]] = field(factory=Map)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: ServiceKey) -> bool:
        return key in self._entries

    def anyone_for(self, what: WaitsFor) -> bool:
        """Whether somebody waits for this."""
        return what in self._queues

    def queue(self, what: WaitsFor) -> Fifo[ServiceKey]:
        """Those who wait for this, the first first."""
        return self._queues.get(what) or Fifo()

    def put(self, key: ServiceKey, whats: tuple[WaitsFor, ...]) -> Waiting:
        """A Service waits for exactly these; where it waited already, it keeps its place."""
        before = self._entries.get(key, ())
        if before == whats:
            return self
        queues = self._queues
        for what in before:
            if what not in whats:
                queues = _without(queues, what, key)
        for what in whats:
            queues = queues.set(what, (queues.get(what) or Fifo()).push(key))
        entries = self._entries.set(key, whats) if whats else self._entries.delete(key)
        return Waiting(queues, entries)

    def remove(self, key: ServiceKey) -> Waiting:
        """A Service no longer waits."""
        return self.put(key, ())

    def next(self, chance: Chance) -> tuple[ServiceKey | None, Chance | None]:
        """The next Service to ask about a chance, and what is left of it after that."""
        while chance.queues:
            following = self.queue(chance.queues[0]).following(chance.place)
            if following is not None:
                place, key = following
                return key, evolve(chance, place=place + 1)
            chance = evolve(chance, queues=chance.queues[1:], place=0)
        return None, None


def _without(
    queues: Map[WaitsFor, Fifo[ServiceKey]], what: WaitsFor, key: ServiceKey
) -> Map[WaitsFor, Fifo[ServiceKey]]:
    queue = queues[what].remove(key)
    return queues.set(what, queue) if queue else queues.delete(what)

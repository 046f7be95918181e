"""Which Services wait for an address, and for what: woken first come, first served.

A Service waits in one queue for each thing that could end its wait, and only for what cannot be had
at the time. So when an address becomes free (or is open to company), the first in each queue that
could use it is nearly always served, and nobody else needs to be asked: ten thousand that wait for
the same cost no more than one.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address, Family
from lbcore.model import Port, ServiceKey
from lbcore.sharing import Sharing
from lbcore.worklist import Fifo

__all__ = ["Chance", "Company", "Place", "Waiting", "WaitsFor"]

Q = TypeVar("Q", bound=Hashable)
K = TypeVar("K", bound=Hashable)

Place = Address | tuple[str, Family]
"""One address, or any address of a pool's family."""


@frozen(cache_hash=True)
class Company:
    """A place that is held on these terms, with all these ports still unused there."""

    place: Place
    sharing: Sharing
    ports: tuple[Port, ...]


WaitsFor = Place | Company
"""A place that is free, or one to share."""


@frozen(kw_only=True)
class Chance:
    """Something that may end a wait: an address, and the queues still to be asked, the first from `place` on."""

    address: Address
    queues: tuple[WaitsFor, ...]
    place: int = 0

    @property
    def elsewhere(self) -> Chance | None:
        """What is left of it without its first queue."""
        return Chance(address=self.address, queues=self.queues[1:]) if len(self.queues) > 1 else None


@frozen
class Waiting:
    """Every Service that waits, by what it waits for; a Service keeps its place while it goes on waiting.

    `line` is all of them, the first first.
    """

    line: Fifo[ServiceKey] = field(factory=Fifo)
    _queues: Map[WaitsFor, Fifo[ServiceKey]] = field(factory=Map)
    _entries: Map[ServiceKey, tuple[WaitsFor, ...]] = field(factory=Map)
    _ports: Map[tuple[Place, Sharing], Fifo[tuple[Port, ...]]] = field(factory=Map)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: ServiceKey) -> bool:
        return key in self._entries

    def anyone_for(self, what: WaitsFor) -> bool:
        """Whether somebody waits for this."""
        return what in self._queues

    def companies(self, place: Place, sharing: Sharing) -> tuple[Company, ...]:
        """The different companies that are waited for at a place on these terms."""
        return tuple(Company(place, sharing, ports) for ports in self._ports.get((place, sharing), ()))

    def queue(self, what: WaitsFor) -> Fifo[ServiceKey]:
        """Those who wait for this, the first first."""
        return self._queues.get(what) or Fifo()

    def put(self, key: ServiceKey, whats: tuple[WaitsFor, ...]) -> Waiting:
        """A Service waits for exactly these; where it waited already, it keeps its place."""
        before = self._entries.get(key, ())
        if before == whats:
            return self
        queues, ports = self._queues, self._ports
        for what in before:
            if what not in whats:
                queues = _without(queues, what, key)
                if isinstance(what, Company) and what not in queues:
                    ports = _without(ports, (what.place, what.sharing), what.ports)
        for what in whats:
            queues = _with(queues, what, key)
            if isinstance(what, Company):
                ports = _with(ports, (what.place, what.sharing), what.ports)
        if not whats:
            return Waiting(self.line.remove(key), queues, self._entries.delete(key), ports)
        return Waiting(self.line.push(key), queues, self._entries.set(key, whats), ports)

    def remove(self, key: ServiceKey) -> Waiting:
        """A Service no longer waits."""
        return self.put(key, ())

    def next(self, chance: Chance) -> tuple[ServiceKey | None, Chance | None]:
        """The next Service to ask in the first queue of a chance, and what is left of it after that."""
        following = self.queue(chance.queues[0]).following(chance.place)
        if following is None:
            return None, chance.elsewhere
        place, key = following
        return key, evolve(chance, place=place + 1)


def _with(queues: Map[Q, Fifo[K]], what: Q, key: K) -> Map[Q, Fifo[K]]:
    return queues.set(what, (queues.get(what) or Fifo[K]()).push(key))


def _without(queues: Map[Q, Fifo[K]], what: Q, key: K) -> Map[Q, Fifo[K]]:
    queue = queues[what].remove(key)
    return queues.set(what, queue) if queue else queues.delete(what)

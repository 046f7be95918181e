"""What is still to be looked at, in order: persistent queues for brains that work in slices.

A brain may not do a hundred thousand look-ups in one step, so it keeps what is left to do in its
state. Keys touched by an event come first; a sweep over everything that is known goes on behind.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from attrs import field, frozen
from immutables import Map

__all__ = ["Fifo", "Worklist"]

K = TypeVar("K", bound=Hashable)


@frozen
class Fifo(Generic[K]):
    """A persistent first-in-first-out queue without repetition; every operation O(log n), amortised."""

    _head: int = 0
    _tail: int = 0
    _items: Map[int, K] = field(factory=Map)
    _places: Map[K, int] = field(factory=Map)

    @classmethod
    def of(cls, keys: Iterable[K]) -> Fifo[K]:
        """A queue of these, the first first; in bulk, at a tenth of the cost of pushing each."""
        items = dict(enumerate(dict.fromkeys(keys)))
        return cls(0, len(items), Map(items), Map({key: place for place, key in items.items()}))

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[K]:
        """From first to last; lazily, so that taking the first few is cheap."""
        return (self._items[place] for place in range(self._head, self._tail) if place in self._items)

    def push(self, key: K) -> Fifo[K]:
        """The queue with a key at its end; one that is in it already keeps its place."""
        if key in self._places:
            return self
        tail = self._tail
        return Fifo(self._head, tail + 1, self._items.set(tail, key), self._places.set(key, tail))

    def remove(self, key: K) -> Fifo[K]:
        """The queue without a key."""
        place = self._places.get(key)
        if place is None:
            return self
        items = self._items.delete(place)
        head = self._head
        while head < self._tail and head not in items:
            head += 1
        return Fifo(head, self._tail, items, self._places.delete(key))

    def compact(self) -> Fifo[K]:
        """The same queue with its places counted anew, if most of them are gaps that removed keys left."""
        if self._tail - self._head <= 2 * len(self) + 16:
            return self
        return Fifo.of(self)

    def following(self, place: int) -> tuple[int, K] | None:
        """The first key at or behind a place, with its own place: to go through the queue in portions."""
        for candidate in range(max(place, self._head), self._tail):
            if candidate in self._items:
                return candidate, self._items[candidate]
        return None

    def first(self) -> K | None:
        """The key that has waited longest, or None."""
        return self._items[self._head] if self._items else None


@frozen
class Worklist(Generic[K]):
    """Every key that is known (the roster, in the order of enrolment), and those still to be looked at."""

    # Made anew by the constructor: `attrs.evolve` takes 5 us, and a start does this four times a Service.
    _urgent: Fifo[K] = field(factory=Fifo)
    _roster: Fifo[K] = field(factory=Fifo)
    _cursor: int = 0
    _end: int = 0

    @classmethod
    def of(cls, roster: Fifo[K]) -> Worklist[K]:
        """Everybody in a queue is known, and nobody is to be looked at."""
        return cls(Fifo(), roster)

    def __bool__(self) -> bool:
        return bool(self._urgent) or self.sweeping

    def __iter__(self) -> Iterator[K]:
        """Every known key, in the order of enrolment."""
        return iter(self._roster)

    @property
    def sweeping(self) -> bool:
        """Whether a sweep has not reached its end."""
        return self._cursor < self._end

    def touch(self, key: K) -> Worklist[K]:
        """Look at this key soon; it is enrolled if it was not."""
        return Worklist(self._urgent.push(key), self._roster.push(key), self._cursor, self._end)

    def enrol(self, key: K) -> Worklist[K]:
        """Know this key, without a need to look at it."""
        return Worklist(self._urgent, self._roster.push(key), self._cursor, self._end)

    def strike(self, key: K) -> Worklist[K]:
        """Forget this key."""
        return Worklist(self._urgent.remove(key), self._roster.remove(key), self._cursor, self._end)

    def sweep(self) -> Worklist[K]:
        """Look at every key now known, from the beginning, behind what is urgent."""
        # Paid for by the removals that left the gaps: a sweep costs what there is, not what there was.
        roster = self._roster.compact()
        return Worklist(self._urgent, roster, roster._head, roster._tail)

    def take(self) -> tuple[K | None, Worklist[K]]:
        """The next key to look at and the list without it; None when there is none, or at a gap in a
        sweep that is passed over with this call.
        """
        urgent = self._urgent.first()
        if urgent is not None:
            return urgent, Worklist(self._urgent.remove(urgent), self._roster, self._cursor, self._end)
        if not self.sweeping:
            return None, self
        following = Worklist(self._urgent, self._roster, self._cursor + 1, self._end)
        return self._roster._items.get(self._cursor), following

"""Which addresses are taken, and which is the first free one: bitmaps in a persistent tree.

256 neighbouring addresses (an IPv4 /24) are one bitmap; above them, each node keeps one bit for
each child that is entirely taken. A search walks down past full children: one look-up for each 8
bits of the range, whatever its size and however many addresses are taken. The tree is by address,
not by pool, so a pool edit touches nothing here.

Two sets of summaries are kept for IPv4: "taken" and "taken but for .0 and .255", because a pool
with avoidBuggyIPs is full when only those are left.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from immutables import Map

__all__ = ["CountingSet", "Occupancy", "first_joinable"]

_FULL = (1 << 256) - 1
_EDGES = 1 | 1 << 255  # .0 and .255 of an IPv4 /24
_LEVEL_BITS = 5  # a level (0 to 15) and an index in one integer key: index << 5 | level

Masks = Map[int, int]


def _key(index: int, level: int) -> int:
    return index << _LEVEL_BITS | level


def _window(first: int, last: int, index: int, level: int) -> int:
    """The bits of the children of one node that lie between two addresses."""
    shift = 8 * level
    low = first >> shift & 255 if first >> (shift + 8) == index else 0
    high = last >> shift & 255 if last >> (shift + 8) == index else 255
    return (1 << (high + 1)) - (1 << low)


def _top_level(first: int, last: int) -> int:
    """The level of the smallest node that covers both addresses."""
    return max((first ^ last).bit_length() - 1, 0) >> 3


@frozen
class Occupancy:
    """A persistent set of addresses of one family, as numbers; `bits` is 32 or 128."""

    bits: int
    _leaves: Masks = field(factory=Map)
    _full: Masks = field(factory=Map)
    _nearly_full: Masks = field(factory=Map)  # IPv4 only

    def __contains__(self, value: int) -> bool:
        return bool(self._leaves.get(value >> 8, 0) >> (value & 255) & 1)

    def add(self, value: int) -> Occupancy:
        """The set with one more address; O(log n), nearly always one update."""
        index = value >> 8
        before = self._leaves.get(index, 0)
        after = before | 1 << (value & 255)
        if after == before:
            return self
        full, nearly = self._full, self._nearly_full
        if after == _FULL:
            full = self._mark(full, index)
        if self.bits == 32 and after | _EDGES == _FULL != before | _EDGES:
            nearly = self._mark(nearly, index)
        return Occupancy(self.bits, self._leaves.set(index, after), full, nearly)

    def discard(self, value: int) -> Occupancy:
        """The set without an address; O(log n)."""
        index = value >> 8
        before = self._leaves.get(index, 0)
        after = before & ~(1 << (value & 255))
        if after == before:
            return self
        leaves = self._leaves.set(index, after) if after else self._leaves.delete(index)
        full, nearly = self._full, self._nearly_full
        if before == _FULL:
            full = self._unmark(full, index)
        if self.bits == 32 and before | _EDGES == _FULL != after | _EDGES:
            nearly = self._unmark(nearly, index)
        return Occupancy(self.bits, leaves, full, nearly)

    def _mark(self, summary: Masks, index: int) -> Masks:
        """Say that a child is full, and its parents as far as that makes them full."""
        for level in range(1, self.bits // 8):
            parent = index >> 8
            mask = summary.get(_key(parent, level), 0) | 1 << (index & 255)
            summary = summary.set(_key(parent, level), mask)
            if mask != _FULL:
                break
            index = parent
        return summary

    def _unmark(self, summary: Masks, index: int) -> Masks:
        for level in range(1, self.bits // 8):
            parent = index >> 8
            key = _key(parent, level)
            before = summary[key]
            after = before & ~(1 << (index & 255))
            summary = summary.set(key, after) if after else summary.delete(key)
            if before != _FULL:
                break
            index = parent
        return summary

    def first_free(self, first: int, last: int, *, avoid_edges: bool = False) -> int | None:
        """The lowest address from `first` to `last` that is not taken, or None.

        With `avoid_edges`, IPv4 addresses that end in .0 or .255 are passed over.
        """
        avoid = avoid_edges and self.bits == 32
        level = _top_level(first, last)
        summary = self._nearly_full if avoid else self._full
        return self._search(summary, _EDGES if avoid else 0, level, first >> (8 * level + 8), first, last)

    def _search(self, summary: Masks, avoided: int, level: int, index: int, first: int, last: int) -> int | None:
        window = _window(first, last, index, level)
        if level == 0:
            free = window & ~(self._leaves.get(index, 0) | avoided)
            return index << 8 | (free & -free).bit_length() - 1 if free else None
        # A child that is not full can still have nothing free inside the window, but only at its two ends.
        open_children = window & ~summary.get(_key(index, level), 0)
        while open_children:
            lowest = open_children & -open_children
            child = index << 8 | lowest.bit_length() - 1
            found = self._search(summary, avoided, level - 1, child, first, last)
            if found is not None:
                return found
            open_children ^= lowest
        return None


@frozen
class CountingSet:
    """A persistent set of addresses that knows how many it has below each node of the tree.

    Only addresses that may be shared are kept in one: each change costs an update a level.
    """

    bits: int
    _leaves: Masks = field(factory=Map)
    _children: Masks = field(factory=Map)
    _counts: Map[int, int] = field(factory=Map)

    def __contains__(self, value: int) -> bool:
        return bool(self._leaves.get(value >> 8, 0) >> (value & 255) & 1)

    def __bool__(self) -> bool:
        return bool(self._leaves)

    def leaf(self, index: int) -> int:
        """The bitmap of the 256 addresses from `index << 8` on."""
        return self._leaves.get(index, 0)

    def children(self, index: int, level: int) -> int:
        """The bitmap of a node's children that are not empty."""
        return self._children.get(_key(index, level), 0)

    def count(self, index: int, level: int) -> int:
        """How many addresses are below a node; level 0 is a leaf."""
        return self._counts.get(_key(index, level), 0)

    def add(self, value: int) -> CountingSet:
        """The set with one more address."""
        return self if value in self else self._change(value, 1)

    def discard(self, value: int) -> CountingSet:
        """The set without an address."""
        return self._change(value, -1) if value in self else self

    def _change(self, value: int, by: int) -> CountingSet:
        index = value >> 8
        leaf = self._leaves.get(index, 0) ^ 1 << (value & 255)
        leaves = self._leaves.set(index, leaf) if leaf else self._leaves.delete(index)
        children, counts = self._children, self._counts
        for level in range(self.bits // 8):
            key = _key(index, level)
            count = counts.get(key, 0) + by
            counts = counts.set(key, count) if count else counts.delete(key)
            if level + 1 < self.bits // 8 and count == max(by, 0):  # this node became or ceased to be empty
                parent = _key(index >> 8, level + 1)
                mask = children.get(parent, 0) ^ 1 << (index & 255)
                children = children.set(parent, mask) if mask else children.delete(parent)
            index >>= 8
        return evolve(self, leaves=leaves, children=children, counts=counts)


def first_joinable(
    members: CountingSet, taken: tuple[CountingSet, ...], first: int, last: int, *, avoid_edges: bool = False
) -> int | None:
    """The lowest address from `first` to `last` that is in `members` and in none of `taken`, or None.

    Each of `taken` is a subset of `members`: the addresses whose group already uses one port. A
    node where one port is used on every member is passed over in one look, so one port costs
    O(log n); several ports together are told apart 256 addresses at a time.
    """
    level = _top_level(first, last)
    avoided = _EDGES if avoid_edges and members.bits == 32 else 0
    return _join(members, taken, avoided, level, first >> (8 * level + 8), first, last)


def _join(
    members: CountingSet,
    taken: tuple[CountingSet, ...],
    avoided: int,
    level: int,
    index: int,
    first: int,
    last: int,
) -> int | None:
    count = members.count(index, level)
    if not count or any(used.count(index, level) == count for used in taken):
        return None
    window = _window(first, last, index, level)
    if level == 0:
        open_ = members.leaf(index) & window & ~avoided
        for used in taken:
            open_ &= ~used.leaf(index)
        return index << 8 | (open_ & -open_).bit_length() - 1 if open_ else None
    children = members.children(index, level) & window
    while children:
        lowest = children & -children
        child = index << 8 | lowest.bit_length() - 1
        found = _join(members, taken, avoided, level - 1, child, first, last)
        if found is not None:
            return found
        children ^= lowest
    return None

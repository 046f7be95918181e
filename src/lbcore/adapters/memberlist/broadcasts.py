"""What is to be told to the others, each thing a limited number of times, the least told first."""

from __future__ import annotations

import math

__all__ = ["Broadcasts"]


class _Item:
    __slots__ = ("message", "number", "sent")

    def __init__(self, message: bytes, number: int) -> None:
        self.message = message
        self.number = number
        self.sent = 0


class Broadcasts:
    """Messages by what they are about; a newer one takes the place of an older.

    Each is handed out `mult` times the decimal logarithm of the number of nodes, rounded up: enough to reach
    all with all but certainty, and no more.
    """

    def __init__(self, mult: int) -> None:
        self._mult = mult
        self._items: dict[str, _Item] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, about: str, message: bytes) -> None:
        """Something new to tell."""
        self._number += 1
        self._items[about] = _Item(message, self._number)

    def clear(self) -> None:
        """Nothing more to tell."""
        self._items.clear()

    def take(self, room: int, count: int, *, overhead: int = 2, most: int = 255) -> list[bytes]:
        """What to tell now, within `room` bytes and `overhead` for each, among `count` nodes; it counts as told.

        The least told go first, among them the longest that still fits, and the newest of those.
        """
        if not self._items:
            return []
        limit = self._mult * math.ceil(math.log10(count + 1))
        taken = []
        order = sorted(self._items.items(), key=lambda each: (each[1].sent, -len(each[1].message), -each[1].number))
        for about, item in order:
            size = len(item.message) + overhead
            if size > room:
                continue
            room -= size
            taken.append(item.message)
            item.sent += 1
            if item.sent >= limit:
                del self._items[about]
            if len(taken) == most:
                break
        return taken

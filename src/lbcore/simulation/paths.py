"""Which nodes reach each other, and the gateway, each direction by itself: what partitions and broken cables change.

Beside the nodes there is one more station, the gateway, at which the clients and the API server are. Faults shut paths
under a name of theirs and open them again; a path is open while none of them has shut it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, field

__all__ = ["GATEWAY", "Paths"]

GATEWAY = "gateway"


@define
class Paths:
    """All paths between `nodes` and the gateway. `changing` are called before each change."""

    nodes: tuple[str, ...]
    changing: list[Callable[[], None]] = field(factory=list)
    _shut: dict[str, frozenset[tuple[str, str]]] = field(factory=dict)
    _closed: frozenset[tuple[str, str]] = frozenset()

    def open(self, one: str, other: str) -> bool:
        """Whether anything passes from one station to the other."""
        return (one, other) not in self._closed

    @property
    def all_open(self) -> bool:
        """Whether everybody reaches everybody."""
        return not self._closed

    def is_deaf(self, node: str) -> bool:
        """Whether nothing reaches a node."""
        return not any(self.open(each, node) for each in (*self.nodes, GATEWAY) if each != node)

    def shut(self, why: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Let nothing pass from the first to the second of each pair, until `reopen`."""
        self._change(self._shut | {why: frozenset(pairs)})

    def reopen(self, why: str) -> None:
        """What was shut under this name is open, unless something else keeps it shut."""
        self._change({each: pairs for each, pairs in self._shut.items() if each != why})

    def _change(self, shut: dict[str, frozenset[tuple[str, str]]]) -> None:
        for hear in self.changing:
            hear()
        self._shut = shut
        self._closed = frozenset().union(*shut.values())

    def between(self, one: Iterable[str], other: Iterable[str]) -> frozenset[tuple[str, str]]:
        """The paths between two sides, both ways."""
        left, right = tuple(one), tuple(other)
        return frozenset((a, b) for a in left for b in right) | frozenset((b, a) for a in left for b in right)

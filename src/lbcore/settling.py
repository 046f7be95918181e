"""Which nodes have had usable endpoints of a Service for so short a time that routers are not to be sent there yet?

A node that gets its first usable endpoint can serve when its kube-proxy has heard of it, too: some milliseconds later,
a second and more where it has much to do. As long as another node serves the Service, the new one is better left out;
where none does, a route to a node that may refuse for a moment is no worse than no route, and nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen
from immutables import Map

from lbcore.model import ServiceKey
from lbcore.worklist import Fifo

__all__ = ["Settling"]

_Place = tuple[ServiceKey, str]


@frozen
class Settling:
    """The nodes that wait, of each Service, with the time at which each counts.

    Times are told in the order in which they come, so that the first to end is found at once.
    """

    _queue: Fifo[_Place] = field(factory=Fifo)
    _until: Map[_Place, float] = field(factory=Map)
    _nodes: Map[ServiceKey, frozenset[str]] = field(factory=Map)

    @property
    def deadline(self) -> float | None:
        """When the first one counts; None while nobody waits."""
        first = self._queue.first()
        return None if first is None else self._until[first]

    def waiting(self, key: ServiceKey) -> frozenset[str]:
        """The nodes of a Service that do not count yet."""
        return self._nodes.get(key, frozenset())

    def see(self, key: ServiceKey, before: frozenset[str], after: frozenset[str], until: float) -> Settling:
        """The nodes with usable endpoints change; who is new among them waits `until` then.

        Who lost them and has them again is new. Nobody waits where nobody else would serve.
        """
        counting = (before - self.waiting(key)) & after
        waits = after - counting if counting else frozenset[str]()
        return self._without(key, self.waiting(key) - waits)._with(key, waits - self.waiting(key), until)

    def end(self, now: float, most: int) -> tuple[Settling, tuple[ServiceKey, ...]]:
        """Those whose time has come, at most so many, count from now on; their Services."""
        over = self
        ended: dict[ServiceKey, None] = {}
        for _ in range(most):
            first = over._queue.first()
            if first is None or over._until[first] > now:
                break
            key, node = first
            ended[key] = None
            over = over._without(key, (node,))
        return over, tuple(ended)

    def _with(self, key: ServiceKey, nodes: Iterable[str], until: float) -> Settling:
        queue, times, waiting = self._queue, self._until, self.waiting(key)
        for node in sorted(nodes):
            queue, times, waiting = queue.push((key, node)), times.set((key, node), until), waiting | {node}
        return Settling(queue, times, self._nodes.set(key, waiting)) if waiting else self

    def _without(self, key: ServiceKey, nodes: Iterable[str]) -> Settling:
        queue, times, waiting = self._queue, self._until, self.waiting(key)
        for node in waiting.intersection(nodes):
            queue, times, waiting = queue.remove((key, node)), times.delete((key, node)), waiting - {node}
        if waiting == self.waiting(key):
            return self
        return Settling(queue, times, self._nodes.set(key, waiting) if waiting else self._nodes.delete(key))

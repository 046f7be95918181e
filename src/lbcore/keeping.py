"""Addresses of deleted Services, kept for a time in case one of the name comes back.

How long is each pool's to say (`Pool.keep_for`); when it was deleted, it was said. A pool that no
longer keeps, or no longer has the address, lets go at once. What is kept stands in the ledger, too,
under its old key and on its old terms, so that nobody else is given it.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.ledger import Claim
from lbcore.model import ServiceKey
from lbcore.pools import Catalog, is_buggy
from lbcore.worklist import Fifo

__all__ = ["Keeping", "Reservation"]


@frozen(kw_only=True)
class Reservation:
    """What is kept under one key: its claim, and for each of its addresses for how long, and until when (seconds)."""

    claim: Claim
    spans: tuple[float, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, claim: Claim, catalog: Catalog, now: float) -> Reservation | None:
        """What the pools keep of a claim that ends now; None where that is nothing."""
        pools = [catalog.owner(address) for address in claim.addresses]
        spans = tuple(pool.keep_for if pool is not None else 0.0 for pool in pools)
        ends = tuple(now + span for span in spans)
        return cls(claim=evolve(claim, kept=True), spans=spans, ends=ends).still(catalog, now)

    def still(self, catalog: Catalog, now: float) -> Reservation | None:
        """What of it stays at a time, under the names that the pools have now; None where that is nothing."""
        kept = [
            (address, pool.name, span, end)
            for address, span, end in zip(self.claim.addresses, self.spans, self.ends, strict=True)
            if end > now
            and (pool := catalog.owner(address)) is not None
            and pool.keep_for > 0
            and not (pool.avoid_buggy_ips and is_buggy(address))
        ]
        if not kept:
            return None
        addresses, pools, spans, ends = zip(*kept, strict=True)
        return Reservation(claim=evolve(self.claim, addresses=addresses, pools=pools), spans=spans, ends=ends)


@frozen
class Keeping:
    """All reservations by key, and the order in which they end.

    One queue for each span: time goes forward, so each is in order by itself, and the next to end
    is the first of one of them.
    """

    _entries: Map[ServiceKey, Reservation] = field(factory=Map)
    _queues: Map[float, Fifo[tuple[float, ServiceKey]]] = field(factory=Map)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: ServiceKey) -> bool:
        return key in self._entries

    def of(self, key: ServiceKey) -> Reservation | None:
        """What is kept under a key."""
        return self._entries.get(key)

    def put(self, reservation: Reservation) -> Keeping:
        """One reservation more, in place of one under its key; ends that are new must be the last of their span."""
        key = reservation.claim.key
        before = self._entries.get(key)
        queues = _changed(self._queues, key, _places(before), _places(reservation))
        return Keeping(self._entries.set(key, reservation), queues)

    def remove(self, key: ServiceKey) -> Keeping:
        """Nothing is kept under a key any more."""
        if key not in self._entries:
            return self
        queues = _changed(self._queues, key, _places(self._entries[key]), {})
        return Keeping(self._entries.delete(key), queues)

    @property
    def next_end(self) -> float | None:
        """When the next of them ends."""
        first = self._first()
        return first[0] if first is not None else None

    def due(self, now: float) -> ServiceKey | None:
        """One that ends at this time or ended before."""
        first = self._first()
        return first[1] if first is not None and first[0] <= now else None

    def _first(self) -> tuple[float, ServiceKey] | None:
        if not self._queues:
            return None  # as almost always; asked three times a step
        return min((first for queue in self._queues.values() if (first := queue.first()) is not None), default=None)


_Place = tuple[float, float]  # a span and an end
_Queues = Map[float, Fifo[tuple[float, ServiceKey]]]


def _places(reservation: Reservation | None) -> dict[_Place, None]:
    """Where a reservation stands in the queues, each once."""
    return dict.fromkeys(zip(reservation.spans, reservation.ends, strict=True)) if reservation is not None else {}


def _changed(queues: _Queues, key: ServiceKey, before: dict[_Place, None], after: dict[_Place, None]) -> _Queues:
    for span, end in before:
        if (span, end) not in after:
            rest = queues[span].remove((end, key))
            queues = queues.set(span, rest) if rest else queues.delete(span)
    for span, end in after:
        queues = queues.set(span, (queues.get(span) or Fifo[tuple[float, ServiceKey]]()).push((end, key)))
    return queues

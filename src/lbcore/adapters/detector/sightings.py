"""What there is to be seen of all members, for people: the table's records, and for a while those it has forgotten.

Memberlist forgets the dead after half a minute; who asks why an address has moved comes later.
"""

from __future__ import annotations

from lbcore.adapters.memberlist.messages import Status
from lbcore.adapters.memberlist.table import Record, Table
from lbcore.adapters.views import Sight, SightState

__all__ = ["Sightings"]

_KEPT, _FOR = 64, 3600.0  # of those that are gone: how many, and for how many seconds

_STATES = {
    Status.ALIVE: SightState.ALIVE,
    Status.SUSPECT: SightState.SUSPECT,
    Status.DEAD: SightState.DEAD,
    Status.LEFT: SightState.LEFT,
}


class Sightings:
    """Seen by `name`. A member whose metadata is `standby` waits."""

    def __init__(self, name: str, standby: bytes) -> None:
        self._name = name
        self._standby = standby
        self._blamed: dict[str, tuple[str, ...]] = {}
        self._gone: dict[str, Sight] = {}

    def blame(self, subject: str, by: frozenset[str]) -> None:
        """We are about to hold a node for dead, since these accuse it."""
        self._blamed[subject] = tuple(sorted(by))

    def see(self, table: Table, now: float) -> tuple[Sight, ...]:
        """All of them by name, those that are gone included. `since` is on the clock of `now`."""
        known = {each.name: self._sight(each) for each in table.records.values()}
        for name, sight in known.items():
            self._gone.pop(name, None)
            if sight.state.is_member:
                self._blamed.pop(name, None)
            else:
                self._gone[name] = sight
        late = sorted(self._gone.values(), key=lambda each: each.since)
        for sight in late:
            if len(self._gone) > _KEPT or now - sight.since > _FOR:
                del self._gone[sight.name]
        return tuple(sight for _, sight in sorted({**self._gone, **known}.items()))

    def _sight(self, record: Record) -> Sight:
        state = _STATES[record.status]
        if state is SightState.ALIVE and record.meta == self._standby:
            state = SightState.WAITS
        by: tuple[str, ...] = (record.by,) if record.by else ()
        if record.by == self._name:  # said by us, for all that accused it
            by = self._blamed.get(record.name, by)
        return Sight(
            name=record.name,
            state=state,
            since=record.since,
            by=by if not state.is_member or state is SightState.SUSPECT else (),
            release=record.meta.decode("ascii", "replace").partition(" ")[0],
        )

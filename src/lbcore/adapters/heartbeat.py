"""Who lives: a sans-IO engine over member records that every speaker renews and everybody reads.

A record is one small JSON object: the node, the *incarnation* of its reflex process (a number
drawn at start) and a sequence number that grows with every renewal. A member lives while its
record keeps changing **as we see it**, by our clock alone: no clock of another node is ever
compared with ours, and a file that a dead node left behind gives it no life.

The rule: a record whose last two contents were seen less than `expiry` apart, and the last less
than `expiry` ago, belongs to a living member. Our own record obeys the same rule, read back from
where the others read it: a node that cannot be heard does not count itself in.
Heartbeats have to be polled; that is their nature (renewed and read once per `interval`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random

from attrs import frozen

from lbcore.adapters.base import Report
from lbcore.adapters.returning import Returning
from lbcore.errors import RemoteProtocolError
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence

__all__ = ["Heartbeat", "HeartbeatOutput", "Record", "RemoveRecord", "WriteRecord", "decode_record", "encode_record"]

_MAX_NUMBER = 1 << 63


@frozen
class Record:
    """What a member says of itself."""

    node: str
    incarnation: int
    sequence: int


@frozen
class WriteRecord:
    """Put our record where the others look."""

    data: bytes


@frozen
class RemoveRecord:
    """Take our record away: we leave."""


HeartbeatOutput = WriteRecord | RemoveRecord | Report


def encode_record(record: Record) -> bytes:
    """A record as the content of a file: one line of JSON."""
    body = {"node": record.node, "incarnation": record.incarnation, "sequence": record.sequence}
    return json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n"


def decode_record(data: bytes) -> Record:
    """Read a record. Raises `RemoteProtocolError`, and nothing else, for bytes that are none."""
    try:
        body = json.loads(data)
        node, numbers = body["node"], (body["incarnation"], body["sequence"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"no member record: {error!r}") from None
    if not isinstance(node, str):
        raise RemoteProtocolError(f"no member record: {node!r} is no node's name")
    if not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers):
        raise RemoteProtocolError(f"no member record: {numbers!r} are no incarnation and sequence")
    return Record(node, *numbers)


class _Sighting:
    """What we know of one record: its newest content, and for how long we have looked at it unchanged."""

    __slots__ = ("alive", "incarnation", "sequence", "unchanged")

    def __init__(self, record: Record) -> None:
        self.incarnation = record.incarnation
        self.sequence = record.sequence
        self.unchanged = 0.0
        self.alive = False

    def look(self, record: Record | None, elapsed: float, expiry: float) -> None:
        """Look again after `elapsed` seconds; `record` is None when its content could not be read."""
        self.unchanged += elapsed
        if record is not None and self._is_newer(record):
            self.alive = self.unchanged < expiry
            self.incarnation, self.sequence, self.unchanged = record.incarnation, record.sequence, 0.0
            return
        if self.unchanged >= expiry:
            self.alive = False

    def _is_newer(self, record: Record) -> bool:
        """Within one incarnation only a higher number is news: a stale cache must not look like life."""
        return record.incarnation != self.incarnation or record.sequence > self.sequence


class Heartbeat:
    """One node's membership. Times in seconds on the clock of `now`.

    Every time `deadline` has come: read the records, hand them to `observe`, then call `tick`.
    When they cannot be read, call `tick` alone: what is not looked at does not age, so that a
    folder nobody can read leaves the membership as it was rather than ending it everywhere.

    `interval` is how often the record is renewed and the others' are read (less up to a tenth, by
    `rng`, so that nodes do not beat in step); `expiry` is after how long an unchanged record is
    dead; the first `MembersSeen` comes as soon as every living node must have been seen, and at
    the latest `settle` seconds after the start.
    """

    def __init__(
        self,
        node: str,
        incarnation: int,
        *,
        rng: Random,
        interval: float = 0.1,
        expiry: float = 0.5,
        settle: float = 2.0,
    ) -> None:
        if not 0 < interval * 2 <= expiry:
            raise ValueError(f"expiry ({expiry} s) must be at least twice the interval ({interval} s)")
        self._node = node
        self._incarnation = incarnation
        self._rng = rng
        self._interval = interval
        self._expiry = expiry
        self._settle = settle
        self._sequence = 0
        self._present = False
        self._sightings: dict[str, _Sighting] = {}
        self._started: float | None = None
        self._looked: float | None = None
        self._looked_for = 0.0
        self._beat_at = float("-inf")
        self._returning = Returning()
        self._reported: MembersSeen | None = None
        self.ignored = 0  # records at the last look that are none

    @property
    def deadline(self) -> float:
        """When to look and beat next."""
        return self._beat_at

    @property
    def present(self) -> bool:
        """Whether our record is being renewed."""
        return self._present

    @property
    def members(self) -> frozenset[str] | None:
        """The names last reported, or None before the first report."""
        return None if self._reported is None else self._reported.names

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported."""
        return self._reported

    def command(self, intent: SetPresence, now: float) -> list[HeartbeatOutput]:
        """Begin or end to renew our record; leaving is told at once."""
        if intent.present == self._present:
            return []
        self._present = intent.present
        if self._present:
            return [self._renewal()]
        self._sightings.pop(self._node, None)
        return [RemoveRecord(), *self._report(now)]

    def observe(self, records: Mapping[str, bytes], now: float) -> list[HeartbeatOutput]:
        """Look at all records there are, by the node's name that each is filed under."""
        elapsed = self._elapsed(now)
        self.ignored = 0
        for name in self._sightings.keys() - records.keys():
            del self._sightings[name]
        for name, data in records.items():
            if name == self._node and not self._present:
                continue  # what an earlier process of this node left behind, or a removal that failed
            self._look(name, self._read(name, data), elapsed)
        return self._report(now)

    def tick(self, now: float) -> list[HeartbeatOutput]:
        """Renew our record when it is time; calling early or twice does no harm."""
        if self._started is None:
            self._started = now
        outputs = self._report(now)
        if now < self._beat_at:
            return outputs
        self._beat_at = now + self._interval * (1 - self._rng.random() / 10)
        return [*outputs, self._renewal()] if self._present else outputs

    def _elapsed(self, now: float) -> float:
        """How long the others could have been seen to change since the last look.

        At most half of `expiry` counts: when we (or the whole machine) stood still, the others
        did not get the chance to be seen, and it must not be held against them.
        """
        elapsed = 0.0 if self._looked is None else max(0.0, now - self._looked)
        self._looked = now
        if elapsed >= self._expiry and self._present:
            self._returning.come_back()  # who saw nothing for so long may not have been seen, and held for dead
        elapsed = min(elapsed, self._expiry / 2)
        self._looked_for += elapsed
        return elapsed

    def _read(self, name: str, data: bytes) -> Record | None:
        try:
            record = decode_record(data)
        except RemoteProtocolError:
            self.ignored += 1
            return None
        if record.node != name:  # a file copied or renamed by hand
            self.ignored += 1
            return None
        return record

    def _look(self, name: str, record: Record | None, elapsed: float) -> None:
        sighting = self._sightings.get(name)
        if sighting is not None:
            sighting.look(record, elapsed, self._expiry)
        elif record is not None:
            self._sightings[name] = _Sighting(record)

    def _renewal(self) -> WriteRecord:
        self._sequence += 1
        return WriteRecord(encode_record(Record(self._node, self._incarnation, self._sequence)))

    def _report(self, now: float) -> list[HeartbeatOutput]:
        names = frozenset(name for name, sighting in self._sightings.items() if sighting.alive)
        if self._reported is None and not self._settled(names, now):
            return []
        # A record that stays where it is and does not change is of one who did not leave.
        self._returning.lose(name for name in sorted((self.members or names) - names) if name in self._sightings)
        self._returning.see(names)
        seen = MembersSeen(names, reunions=self._returning.reunions)
        if seen == self._reported:
            return []
        self._reported = seen
        return [Report(seen)]

    def _settled(self, names: frozenset[str], now: float) -> bool:
        if self._started is not None and now - self._started >= self._settle:
            return True
        return self._looked_for >= self._expiry and (not self._present or self._node in names)

"""Who lives, while some speakers gossip and others still know each other by records: a cluster that crosses over.

In a rolling update from the one to the other, two parts that know nothing of each other would each elect an announcer,
until the last speaker is replaced. So one who gossips counts those in, too, whose records change; and as long as there
are any, it keeps a record itself, for them to see. Without I/O, on the clock of `now`, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from attrs import frozen

from lbcore.adapters.base import Report
from lbcore.adapters.heartbeat import Heartbeat, Record, encode_record
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence

__all__ = ["Crossing", "CrossingOutput", "Keep", "Remove", "Unheard"]

_LOOK = 0.5  # seconds between two looks at the records: a newcomer of that kind waits 3 s for ours to change
_QUICK, _SLOW = 1.0, 20.0  # seconds between renewals while somebody lives by records, and when nobody does
_OVERDUE = 45.0  # seconds after which a record that should be renewed every 20 is nobody's
_AFTERWARDS = 3.0  # seconds that a renewal must come after somebody was missed: it was not on its way
_HASTE = 1.0  # seconds between two renewals because what is to be seen in it has changed
_MEMORY = 10.0  # seconds that a record which no longer changes counts as somebody's


@frozen
class Keep:
    """Renew our record, where the others look. `data` is what those who live by records read; None: for people only."""

    data: bytes | None


@frozen
class Remove:
    """Take our record away: we are no member."""


CrossingOutput = Keep | Remove | Report


class Crossing:
    """One node's part. `interval` and `expiry` are those of them who live by records.

    `gossiped` hears what gossip says, `observe` what records there are of others who live by records; call
    `tick` when `deadline` has come. The first `MembersSeen` comes when both are known.
    """

    def __init__(
        self, node: str, incarnation: int, *, rng: Random, interval: float = _QUICK, expiry: float = 5.0
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._rng = rng
        self._interval = interval
        self._expiry = expiry
        self._heartbeat = Heartbeat(
            node, incarnation, rng=rng, interval=interval, expiry=expiry, settle=2 * interval + 1.0
        )
        self._present = False
        self._sequence = 0
        self._gossip: MembersSeen | None = None
        self._records: Mapping[str, bytes] | None = None
        self._looked = float("-inf")
        self._unchanged = float("inf")  # seconds that we have looked at records of others and seen none change
        self._absences = 0
        self._seen: object = None  # what was to be seen in our record when it was renewed last
        self._kept = False
        self._renewed = float("-inf")
        self._renew_at = float("-inf")
        self._look_at = float("-inf")
        self._reported: MembersSeen | None = None

    @property
    def deadline(self) -> float:
        """When to look at the records and call `tick` next."""
        return self._look_at

    @property
    def crosses(self) -> bool:
        """Whether somebody is there who lives by records, as far as was seen."""
        return bool(self._records) and self._unchanged <= _MEMORY

    @property
    def is_member(self) -> bool:
        """Whether we want to be one, and gossip counts us in."""
        return self._present and self._gossip is not None and self._node in self._gossip.names

    def command(self, intent: SetPresence, now: float) -> list[CrossingOutput]:
        """Come in, or leave; leaving is told at once."""
        self._present = intent.present
        return self._renew(now)

    def gossiped(self, seen: MembersSeen, now: float) -> list[CrossingOutput]:
        """What gossip says now."""
        self._gossip = seen
        return [*self._renew(now), *self._report()]

    def observe(self, records: Mapping[str, bytes], now: float) -> list[CrossingOutput]:
        """The records of others who live by them, by node. Not called, nobody ages: they cannot be read, or nothing
        shows that whoever keeps them is alive.
        """
        others = {node: data for node, data in records.items() if node != self._node}
        before = self._records or {}
        if self._records is not None:
            self._absences += self._was_away(now - self._looked)
        # No more counts than for the heartbeat: who could not be seen to change did not stand still.
        self._unchanged += min(now - self._looked, self._expiry / 2)
        self._looked = now
        if any(before.get(node) != data for node, data in others.items()):
            if self._unchanged > _MEMORY:
                self._renew_at = now  # they wait for ours
            self._unchanged = 0.0
        self._records = others
        self._heartbeat.observe(others, now)
        return [*self._renew(now), *self._report()]

    def _was_away(self, seconds: float) -> bool:
        """Whether those who live by records may have held us for dead, so long did they and we not see each other."""
        lives = self._heartbeat.members
        return bool(lives) and self.is_member and seconds >= self._expiry

    def miss(self, now: float) -> list[CrossingOutput]:
        """Our record is not there. Where it should be, an order to remove it, late by a cut, came after the one to keep
        it.
        """
        if now - self._renewed >= 2 * _HASTE:
            self._renew_at = now
        return self._renew(now)

    def tick(self, now: float, seen: object = None) -> list[CrossingOutput]:
        """Whatever is due. `seen` is what people are to see in our record; when it changes, it is renewed soon."""
        self._look_at = now + _LOOK
        if self._records is not None:  # the first look is given its time from when there is something to look at
            self._heartbeat.tick(now)
        if seen != self._seen and now - self._renewed >= _HASTE:
            self._seen, self._renew_at = seen, now
        return [*self._renew(now), *self._report()]

    def _renew(self, now: float) -> list[CrossingOutput]:
        if not self.is_member:
            kept, self._kept = self._kept, False
            return [Remove()] if kept else []
        if self._kept and now < self._renew_at:
            return []
        self._kept, self._renewed = True, now
        pause = self._interval if self.crosses else _SLOW
        self._renew_at = now + pause * (1 - self._rng.random() / 10)
        self._sequence += 1
        record = Record(self._node, self._incarnation, self._sequence)
        return [Keep(encode_record(record) if self.crosses else None)]

    def _report(self) -> list[CrossingOutput]:
        leased, gossip = self._heartbeat.seen, self._gossip
        if gossip is None or self._records is None or (leased is None and self._records):
            return []
        leased = MembersSeen(frozenset()) if leased is None else leased
        names = gossip.names | leased.names
        reunions = gossip.reunions + leased.reunions + self._absences
        seen = MembersSeen(names, gossip.waiting - names, reunions)
        if seen == self._reported:
            return []
        self._reported = seen
        return [Report(seen)]


class Unheard:
    """Who gossips, as its record is renewed, and is not heard by gossip: a port is closed, or the secret another."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._renewals: dict[str, tuple[str, float]] = {}  # what was last read, and when it was first
        self._missed: dict[str, float] = {}

    def look(self, renewals: Mapping[str, str], heard: frozenset[str], now: float) -> tuple[str, ...]:
        """The names, sorted. `renewals` is of each who gossips something that changes whenever it renews its record."""
        missed = {}
        for node, text in renewals.items():
            last = self._renewals.get(node)
            if last is None or last[0] != text:
                # A record that was there when we began may be left over.
                self._renewals[node] = (text, now if last is not None else float("-inf"))
            lives = now - self._renewals[node][1] < _OVERDUE
            if lives and node != self._node and node not in heard:
                missed[node] = self._missed.get(node, now)
        self._missed = missed
        # One that was held for dead a moment ago may have renewed it just before.
        return tuple(sorted(node for node, since in missed.items() if self._renewals[node][1] - since > _AFTERWARDS))

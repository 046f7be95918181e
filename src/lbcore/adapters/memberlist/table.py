"""What one member thinks of all others: the records, and the rules by which news changes them.

SWIM with incarnations: only its owner raises a record's incarnation, and a newer one beats an older. News
that changed something is put among the broadcasts. Nothing here sends or waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from attrs import evolve

from lbcore.adapters.memberlist.broadcasts import Broadcasts
from lbcore.adapters.memberlist.messages import (
    VERSIONS,
    Alive,
    Dead,
    Endpoint,
    Message,
    NodeState,
    PushPull,
    Status,
    Suspect,
    encode,
)
from lbcore.adapters.memberlist.settings import Settings
from lbcore.adapters.memberlist.suspicion import Suspicion

__all__ = ["Record", "Table"]

_LAST = (1 << 32) - 1  # the greatest incarnation that fits on the wire
_HERE = frozenset({Status.ALIVE, Status.SUSPECT})


class Record:
    """One node as it is known here. `since` is when its status last changed, `by` who said so (empty: itself)."""

    __slots__ = ("by", "endpoint", "incarnation", "meta", "name", "since", "status", "suspicion", "versions")

    def __init__(self, alive: Alive, now: float) -> None:
        self.name = alive.node
        self.endpoint = alive.endpoint
        self.meta = b""
        self.versions = VERSIONS
        self.incarnation = 0
        self.status = Status.DEAD
        self.since = now
        self.by = ""
        self.suspicion: Suspicion | None = None

    @property
    def is_here(self) -> bool:
        """Whether it counts as a member: a suspect does until it is dead."""
        return self.status in _HERE

    def become(self, status: Status, now: float, by: str = "") -> None:
        """Change the status; whatever was suspected is settled by it."""
        self.suspicion = None
        if status is not self.status:
            self.status = status
            self.since = now
            self.by = by


class Table:
    """All records by name, in the order in which they are probed. `changed` is set when the members change."""

    def __init__(self, name: str, endpoint: Endpoint, meta: bytes, settings: Settings, rng: Random) -> None:
        self._name = name
        self._settings = settings
        self._rng = rng
        self._own = Alive(incarnation=0, node=name, endpoint=endpoint, meta=meta)
        self._next = 0  # the last incarnation of ours that was told
        self._present = False
        self._suspects: set[str] = set()  # all that are suspected, and some that no longer are
        self.records: dict[str, Record] = {}
        self.ring: list[str] = []
        self.broadcasts = Broadcasts(settings.retransmit_mult)
        self.changed = False
        self.urgent = False  # something of ours was broadcast that the others should hear soon
        self.conflicts = 0  # records that claim a name from another address
        self.refutations = 0
        self.deaths = 0  # how often others held us for dead
        self.news = 0  # how often anything changed in what is known of anybody

    @property
    def present(self) -> bool:
        """Whether we count ourselves in."""
        return self._present

    @property
    def names(self) -> frozenset[str]:
        """The members, ourselves included as long as we are one."""
        return frozenset(record.name for record in self.records.values() if record.is_here)

    @property
    def count(self) -> int:
        """How many nodes are known, the dead that are not forgotten yet included."""
        return len(self.records)

    def others(self, *statuses: Status) -> Iterator[Record]:
        """The records of others with one of these statuses."""
        return (each for each in self.records.values() if each.status in statuses and each.name != self._name)

    @property
    def deadline(self) -> float | None:
        """When the next suspect is dead."""
        # Asked for after each datagram, a hundred times a second, of a thousand members of whom none is suspected.
        return min((suspicion.deadline for _, suspicion in self._suspected()), default=None) if self._suspects else None

    def _suspected(self) -> list[tuple[Record, Suspicion]]:
        records = [self.records[name] for name in sorted(self._suspects) if name in self.records]
        found = [(each, each.suspicion) for each in records if each.suspicion is not None]
        self._suspects = {record.name for record, _ in found}
        return found

    # Ourselves

    def enter(self, now: float) -> None:
        """Be a member from now on, as somebody new: what is known of others is forgotten, since it has aged."""
        self.records.clear()
        self.ring.clear()
        self.broadcasts.clear()
        self._present = True
        self._next += 1
        self._put_own(now)

    def leave(self, now: float) -> bytes | None:
        """No longer be a member; the word to tell the others, or None when we were none."""
        record = self.records.get(self._name)
        self._present = False
        if record is None or not record.is_here:
            return None
        word = Dead(incarnation=record.incarnation, node=self._name, origin=self._name)
        self._end(record, word, Status.LEFT, now)
        return encode(word)

    def _put_own(self, now: float) -> None:
        own = self.records.get(self._name)
        if own is None:
            own = self.records[self._name] = Record(self._own, now)
            self.ring.append(self._name)
            self.changed = True
        own.endpoint, own.meta = self._own.endpoint, self._own.meta
        own.incarnation = self._next
        own.become(Status.ALIVE, now)
        self._tell(self._name, self.own)

    @property
    def own(self) -> Alive:
        """What we say of ourselves."""
        return Alive(incarnation=self._next, node=self._name, endpoint=self._own.endpoint, meta=self._own.meta)

    def set_meta(self, meta: bytes, now: float) -> None:
        """Say something else of ourselves."""
        if meta == self._own.meta:
            return
        self._own = evolve(self._own, meta=meta)
        self.changed = True
        if self._present:
            self._next += 1
            self._put_own(now)

    def _refute(self, accused: int, now: float) -> None:
        if accused >= _LAST:
            return  # nothing is newer than that: a peer would have to be mad, or hostile, to say it
        self._next = max(self._next, accused) + 1
        self.refutations += 1
        self._put_own(now)

    def _tell(self, about: str, message: Message) -> None:
        self.broadcasts.put(about, encode(message))
        self.urgent = True
        self.news += 1

    # News

    def alive(self, news: Alive, now: float) -> None:
        """Somebody is said to be there."""
        ours = news.node == self._name
        if (ours and not self._present) or not _is_speakable(news.versions):
            return
        record = self.records.get(news.node)
        moved = record is not None and record.endpoint != news.endpoint
        if record is None:
            record = self._add(news, now)
        elif moved and not ours and record.status is not Status.LEFT:
            self.conflicts += 1
            return
        if ours:
            self._hear_of_ourselves(record, news, now)
        elif news.incarnation > record.incarnation or moved:
            self._take(record, news, now)

    def _add(self, news: Alive, now: float) -> Record:
        """A node that was not known: dead until its news is taken, and somewhere in the order of probes."""
        record = self.records[news.node] = Record(news, now)
        self.ring.append(news.node)
        other = self._rng.randrange(len(self.ring))
        self.ring[other], self.ring[-1] = self.ring[-1], self.ring[other]
        return record

    def _hear_of_ourselves(self, record: Record, news: Alive, now: float) -> None:
        """An older life of ours, or somebody who takes our name: what we say ourselves must beat it."""
        if news.incarnation < record.incarnation:
            return
        same = (news.endpoint, news.meta, news.versions) == (record.endpoint, record.meta, record.versions)
        if news.incarnation > record.incarnation or not same:
            self._refute(news.incarnation, now)

    def _take(self, record: Record, news: Alive, now: float) -> None:
        self.changed |= not record.is_here or record.meta != news.meta
        record.endpoint, record.meta, record.versions = news.endpoint, news.meta, news.versions
        record.incarnation = news.incarnation
        record.become(Status.ALIVE, now)
        self._tell(news.node, news)

    def suspect(self, news: Suspect, now: float) -> None:
        """Somebody is said not to answer."""
        record = self.records.get(news.node)
        if record is None or news.incarnation < record.incarnation:
            return
        if record.suspicion is not None:
            if record.suspicion.confirm(news.origin):
                self._tell(news.node, news)
            return
        if record.status is not Status.ALIVE:
            return
        if news.node == self._name:
            self._refute(news.incarnation, now)
            return
        record.incarnation = news.incarnation
        record.become(Status.SUSPECT, now, news.origin)
        record.suspicion = Suspicion(news.origin, self.count, self._settings, now)
        self._suspects.add(record.name)
        self._tell(news.node, news)

    def dead(self, news: Dead, now: float) -> None:
        """Somebody is said to be gone."""
        record = self.records.get(news.node)
        if record is None or news.incarnation < record.incarnation or not record.is_here:
            return
        if news.node == self._name:
            self.deaths += 1
            self._refute(news.incarnation, now)
            return
        self._end(record, news, Status.LEFT if news.origin == news.node else Status.DEAD, now)

    def _end(self, record: Record, news: Dead, status: Status, now: float) -> None:
        record.incarnation = news.incarnation
        record.become(status, now, "" if status is Status.LEFT else news.origin)
        self.changed = True
        self._tell(record.name, news)

    def accuse(self, name: str, now: float) -> None:
        """We have no answer from it."""
        record = self.records.get(name)
        if record is not None:
            self.suspect(Suspect(incarnation=record.incarnation, node=name, origin=self._name), now)

    def condemn(self, name: str, now: float) -> None:
        """We hold it for dead without waiting: the verdict of several observers."""
        record = self.records.get(name)
        if record is not None and name != self._name:
            self.dead(Dead(incarnation=record.incarnation, node=name, origin=self._name), now)

    # Everything at once

    def exchange(self, *, join: bool) -> PushPull:
        """All that is known here."""
        return PushPull(join=join, nodes=tuple(_state(each) for each in self.records.values()))

    def merge(self, exchange: PushPull, now: float) -> bool:
        """Take over what another knows; False when the two sides do not speak a common version."""
        if not self._agree(exchange):
            return False
        for node in exchange.nodes:
            self._merge(node, now)
        return True

    def _merge(self, node: NodeState, now: float) -> None:
        # One member's word alone ends nobody: whom it holds for dead is suspected, and can say that it is not.
        match node.status:
            case Status.ALIVE:
                self.alive(
                    Alive(
                        incarnation=node.incarnation,
                        node=node.node,
                        endpoint=node.endpoint,
                        meta=node.meta,
                        versions=node.versions,
                    ),
                    now,
                )
            case Status.LEFT:
                self.dead(Dead(incarnation=node.incarnation, node=node.node, origin=node.node), now)
            case Status.SUSPECT | Status.DEAD:
                own = self.records.get(node.node) if node.node == self._name else None
                self.deaths += own is not None and node.status is Status.DEAD and node.incarnation >= own.incarnation
                self.suspect(Suspect(incarnation=node.incarnation, node=node.node, origin=self._name), now)

    def _agree(self, exchange: PushPull) -> bool:
        """Whether everybody on both sides speaks what everybody understands."""
        there = [node.versions for node in exchange.nodes if node.status is Status.ALIVE]
        here = [record.versions for record in self.records.values() if record.status is Status.ALIVE]
        versions = [each for each in (*there, *here) if len(each) == len(VERSIONS)]
        if len(versions) < len(there) + len(here):
            return False
        if not versions:
            return True
        # What everybody understands is worked out once: among a thousand members anew for each would take a second.
        common = [
            (max(each[low] for each in versions), min(each[high] for each in versions), used)
            for low, high, used in ((0, 1, 2), (3, 4, 5))
        ]
        return all(least <= each[used] <= most for each in versions for least, most, used in common)

    # Time

    def tick(self, now: float) -> None:
        """Suspects whose time is over are dead."""
        for record, suspicion in self._suspected():
            if suspicion.deadline <= now:
                self.condemn(record.name, now)

    def forgive(self, now: float) -> None:
        """Take back what was thought of others, since it was us who could not hear: the dead are not known any more."""
        for record in tuple(self.others(Status.DEAD)):
            del self.records[record.name]
        for record in self.others(Status.SUSPECT):
            record.become(Status.ALIVE, now)
        self.broadcasts.clear()
        if self._present:
            self._tell(self._name, self.own)

    def forget_the_dead(self, now: float) -> None:
        """Drop what has been dead for so long that everybody must have heard; shuffle the order of probes."""
        for record in tuple(self.others(Status.DEAD, Status.LEFT)):
            if now - record.since > self._settings.gossip_to_the_dead:
                del self.records[record.name]
        self.ring = [name for name in self.ring if name in self.records]
        self._rng.shuffle(self.ring)


def _is_speakable(versions: bytes) -> bool:
    return len(versions) == len(VERSIONS) and 0 < versions[0] <= versions[1] and versions[1] > 0


def _state(record: Record) -> NodeState:
    return NodeState(
        node=record.name,
        endpoint=record.endpoint,
        meta=record.meta,
        incarnation=record.incarnation,
        status=record.status,
        versions=record.versions,
    )

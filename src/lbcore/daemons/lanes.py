"""What waits to be carried out, and in which order: one lane for each sink, without I/O.

For one subject, intents go one at a time and in order, and the newest replaces one that waits. A
status that shows an address which another Service gives up is written after that one's, so that at
no moment two Services show an address that they do not share. Where Services wait for each other
in a ring, as when two exchange their addresses, one of them first lets go of what it gives up: for
the time of one write it shows less, rather than both the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from attrs import define, evolve, field, frozen

from lbcore.addresses import Address
from lbcore.intents import Intent, SetAddresses

__all__ = ["Lane", "LaneState"]


@frozen(kw_only=True)
class Lane:
    """A way out: the intent types that go there, and how many may be under way at once.

    `reports`: whether the brain is told how each ended. What it does not wait for costs it a step otherwise.
    """

    name: str
    handles: tuple[type[Intent], ...]
    concurrency: int = 16
    reports: bool = True


@define
class LaneState:
    """Intents by subject: which may start, which wait behind one of their own subject, which for another's
    (`held`, each with the subject that it waits for; `holds` is the way back), and which failed.
    """

    lane: Lane
    ready: OrderedDict[Hashable, Intent] = field(factory=OrderedDict)  # taken from the front
    behind: dict[Hashable, Intent] = field(factory=dict)
    held: dict[Hashable, tuple[Intent, Hashable]] = field(factory=dict)
    holds: dict[Hashable, dict[Hashable, None]] = field(factory=dict)
    running: dict[Hashable, Intent] = field(factory=dict)
    attempts: dict[Hashable, int] = field(factory=dict)
    retrying: dict[Hashable, int] = field(factory=dict)  # the number of the try that is still wanted
    unwanted: set[Hashable] = field(factory=set)  # under way since before another became the leader
    losing: dict[Hashable, frozenset[Address]] = field(factory=dict)  # what it may still show, and gives up
    halves: dict[Hashable, Intent] = field(factory=dict)  # of which only the letting go is lined up or under way

    @property
    def can_start(self) -> bool:
        """Whether something could be carried out now."""
        return bool(self.ready) and len(self.running) < self.lane.concurrency

    @property
    def pending(self) -> int:
        """How many wait, are under way, or will be tried again."""
        return len(self.ready) + len(self.behind) + len(self.held) + len(self.running) + len(self.retrying)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, is under way, or will be tried again."""
        return not (self.ready or self.behind or self.held or self.running or self.retrying)

    def put(self, intent: Intent) -> None:
        """Something new is wanted: line it up, in the place of an older one for its subject."""
        subject = intent.subject
        self.attempts.pop(subject, None)
        self.retrying.pop(subject, None)
        self.losing.pop(subject, None)
        if isinstance(intent, SetAddresses) and intent.gives_up:
            self.losing[subject] = intent.gives_up
        self.line_up(intent)

    def line_up(self, intent: Intent) -> None:
        """Find the place of an intent, as things are now."""
        subject = intent.subject
        if subject in self.running:
            self.behind[subject] = intent
            return
        self.behind.pop(subject, None)
        self.halves.pop(subject, None)
        in_the_way = self._in_the_way(intent)
        first = next((each for each in in_the_way if not self._waits_for(each, subject)), None)
        if first is not None:
            self.ready.pop(subject, None)
            self.held[subject] = (intent, first)
            self.holds.setdefault(first, {})[subject] = None
            return
        self.held.pop(subject, None)
        if in_the_way:
            self.halves[subject] = self.behind[subject] = intent
            intent = _first_half(intent, frozenset().union(*in_the_way.values()))
        self.ready[subject] = intent

    def forget(self) -> None:
        """Carry out nothing more of what was wanted; what is under way is not tried again."""
        waiting = (
            self.ready,
            self.behind,
            self.held,
            self.holds,
            self.attempts,
            self.retrying,
            self.losing,
            self.halves,
        )
        for each in waiting:
            each.clear()
        self.unwanted |= self.running.keys()

    def start(self) -> Intent:
        """Take the one that has waited longest under way."""
        subject, intent = self.ready.popitem(last=False)
        self.running[subject] = intent
        return intent

    def applied(self, intent: Intent) -> None:
        """One has been carried out. Who waits for what it showed and shows no more comes before a newer one
        for its subject: that may wait for them.
        """
        subject = intent.subject
        newer = self._finish(subject)
        shown = frozenset(intent.addresses) if isinstance(intent, SetAddresses) and newer is not None else frozenset()
        self._still_loses(subject, self.losing.get(subject, frozenset()) & shown)
        if newer is not None:
            self.line_up(newer)

    def refused(self, intent: Intent) -> None:
        """One can never be carried out; a newer one for its subject may be."""
        newer = self._finish(intent.subject)
        if newer is not None:
            self.line_up(newer)
        else:
            self._still_loses(intent.subject, frozenset())

    def failed(self, intent: Intent) -> Intent | None:
        """One has failed, or nobody knows; what is to be tried again later, unless something newer is wanted."""
        subject = intent.subject
        half = self.halves.get(subject)
        newer = self._finish(subject)
        if newer is None or newer is half:
            return newer or intent
        self.line_up(newer)
        return None

    def _finish(self, subject: Hashable) -> Intent | None:
        self.running.pop(subject, None)
        self.halves.pop(subject, None)
        return self.behind.pop(subject, None)

    def _still_loses(self, subject: Hashable, addresses: frozenset[Address]) -> None:
        """Note what a subject may still show of what it gives up, and line up anew who waits for it."""
        self.losing.pop(subject, None)
        if addresses:
            self.losing[subject] = addresses
        for each in self.holds.pop(subject, ()):
            if each in self.held:
                self.line_up(self.held[each][0])

    def _in_the_way(self, intent: Intent) -> dict[Hashable, frozenset[Address]]:
        """The subjects that an intent is to be carried out after, and what of its own each may still show."""
        if not isinstance(intent, SetAddresses) or not intent.after:
            return {}
        found: dict[Hashable, frozenset[Address]] = {}
        for key in intent.after:
            other: Hashable = ("service", str(key))
            shown = self.losing.get(other, frozenset()).intersection(intent.addresses)
            if shown:
                found[other] = shown
        return found

    def _waits_for(self, other: Hashable, subject: Hashable) -> bool:
        """Whether one subject, in the end, waits for another."""
        last = other
        while last in self.held and last != subject:
            last = self.held[last][1]
        return last == subject


def _first_half(intent: Intent, others: frozenset[Address]) -> Intent:
    """Of a write that would show what others may still show: the letting go."""
    assert isinstance(intent, SetAddresses)
    addresses = tuple(each for each in intent.addresses if each not in others)
    return evolve(intent, addresses=addresses, pool=intent.pool if addresses else None, after=())

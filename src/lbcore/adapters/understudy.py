"""What is to be answered for as soon as a member is gone: said beforehand, so that nobody is asked when it happens.

The speaker's brain decides it (`StandBy`), for the case that one member goes and nothing else changes. When that
happens the segment is told at once; the brain hears of it at the same time, votes, and confirms it with an `Announce`,
or says what else is to be. Until then it is only acted. No socket and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from lbcore.addresses import Address
from lbcore.intents import Announce, StandBy, Withdraw

__all__ = ["Understudy"]


class Understudy:
    """The parts that node `name` is to take. What `see` and `command` make due is fetched with `due`, in portions."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: dict[Address, StandBy] = {}
        self._of: dict[str, dict[Address, None]] = {}  # by the member that plays them
        self._members: frozenset[str] | None = None
        self._acting: set[Address] = set()
        self._due: dict[Address, bool] = {}  # whether it is to be announced; else it is to be let go

    @property
    def waiting(self) -> bool:
        """Whether something is due."""
        return bool(self._due)

    def command(self, intent: StandBy) -> None:
        """Be ready to take over; from a member that is gone already, at once."""
        self.settle(intent.address)
        self._parts[intent.address] = intent
        self._of.setdefault(intent.member, {})[intent.address] = None
        if self._members is not None and self._name in self._members and intent.member not in self._members:
            self._act((intent.address,))

    def settle(self, address: Address) -> None:
        """Something else is wanted for an address, or it is confirmed: it is no part any more."""
        part = self._parts.pop(address, None)
        self._due.pop(address, None)
        self._acting.discard(address)
        if part is not None:
            of = self._of[part.member]
            del of[address]
            if not of:
                del self._of[part.member]

    def clear(self) -> None:
        """Forget all parts; what is acted is answered for, as if it had been confirmed."""
        self._parts.clear()
        self._of.clear()
        self._acting.clear()
        self._due.clear()

    def see(self, members: frozenset[str]) -> None:
        """Who is a member now: take over from those that are gone, let go of what those play who have come back."""
        before, self._members = self._members, members
        if self._name not in members:
            self._end(tuple(self._acting))  # it is us who are cut off, or leave
            return
        for member in sorted((members - before) if before is not None else ()):
            self._end(tuple(self._of.get(member, ())))
        # Who comes in itself may not know everybody yet.
        if before is not None and self._name in before:
            for member in sorted(before - members):
                self._act(self._of.get(member, ()))

    def due(self, most: int) -> Iterator[Announce | Withdraw]:
        """What to do next, at most so much."""
        for address in tuple(islice(self._due, most)):
            # Made here and not before: of a thousand that is a millisecond, for which the first would wait.
            if self._due.pop(address):
                yield Announce(address=address, interfaces=self._parts[address].interfaces)
            else:
                yield Withdraw(address=address)

    def _act(self, addresses: Iterable[Address]) -> None:
        self._acting.update(addresses)
        self._due.update(dict.fromkeys(addresses, True))

    def _end(self, addresses: tuple[Address, ...]) -> None:
        for address in addresses:
            if address in self._acting:
                self._acting.discard(address)
                self._due.pop(address, None)
                self._due[address] = False

"""The votes of several observers on one node, and the verdict: nobody is dead because one says so.

Of a node's observers more than half must accuse it. Where some do not vote (they are gone, or parted from
us), after a while all that did must agree, and be two, unless there is one alone left to ask.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field, frozen

from lbcore.adapters.detector.messages import Vote
from lbcore.adapters.detector.times import Times

__all__ = ["Jury"]


_ROUND = 10.0  # seconds in which a vote has long gone round


@frozen
class _Cast:
    vote: Vote
    at: float


@define
class _Case:
    """All votes on one life of one node (0: not known yet), by observer; `began` with the first accusation."""

    life: int
    began: float
    votes: dict[str, _Cast] = field(factory=dict)


class Jury:
    """Open cases. Times in seconds on the clock of `now`."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._cases: dict[str, _Case] = {}
        self._seen: dict[tuple[str, str], _Cast] = {}  # the newest vote of each on each: those passed on come again

    @property
    def subjects(self) -> tuple[str, ...]:
        """Who is accused, by name."""
        return tuple(sorted(self._cases))

    def take(self, vote: Vote, now: float) -> bool:
        """Note a vote; whether it is news. Without an accusation there is no case to vote on."""
        seen = self._seen.get((vote.name, vote.subject))
        if seen is not None and seen.vote.life == vote.life and seen.vote.number >= vote.number:
            return False
        self._seen[vote.name, vote.subject] = _Cast(vote, now)
        case = self._cases.get(vote.subject)
        if case is not None and 0 in {case.life, vote.subject_life}:  # who never heard it means any life of it
            case.life = case.life or vote.subject_life
        elif case is None or case.life != vote.subject_life:
            if not vote.accuses or (case is not None and self._accusers(case, now)):
                return False
            case = self._cases[vote.subject] = _Case(vote.subject_life, now)
        case.votes[vote.name] = _Cast(vote, now)
        return True

    def close(self, subject: str) -> None:
        """The case is decided, or of no more interest."""
        self._cases.pop(subject, None)

    def clear(self) -> None:
        """Forget everything."""
        self._cases.clear()

    def tick(self, now: float) -> None:
        """Drop cases in which nobody accuses any more, and votes that nobody passes on any more."""
        if not self._cases and self._seen:
            self._seen = {key: cast for key, cast in self._seen.items() if now - cast.at < _ROUND}
        for subject, case in tuple(self._cases.items()):
            if not self._accusers(case, now):
                del self._cases[subject]

    def deadline(self, now: float) -> float | None:
        """When the next case is to be looked at again though nobody speaks."""
        times = [case.began + self._times.patience for case in self._cases.values()]
        return min((time for time in times if time > now), default=None)

    def is_guilty(self, subject: str, observers: Iterable[str], now: float, *, by_all: bool = False) -> bool:
        """Whether most of its observers hold a node for dead, or else (not `by_all`) those that can still be asked."""
        case = self._cases.get(subject)
        if case is None:
            return False
        seats = set(observers)
        accusing = self._accusers(case, now) & seats
        if 2 * len(accusing) > len(seats):
            return True
        if by_all or now - case.began < self._times.patience:
            return False
        vouching = {name for name, cast in case.votes.items() if not cast.vote.accuses and self._counts(cast, now)}
        # Who is in doubt itself may be the one who hears nobody, and has no say here.
        left = {name for name in seats if not self._is_doubtful(name, now)}
        return not vouching & seats and len(accusing & left) >= max(1, min(2, len(left)))

    def accusers(self, subject: str, now: float) -> frozenset[str]:
        """Who accuses a node now."""
        case = self._cases.get(subject)
        return frozenset(self._accusers(case, now)) if case is not None else frozenset()

    def _is_doubtful(self, name: str, now: float) -> bool:
        case = self._cases.get(name)
        return case is not None and bool(self._accusers(case, now))

    def _accusers(self, case: _Case, now: float) -> set[str]:
        return {name for name, cast in case.votes.items() if cast.vote.accuses and self._counts(cast, now)}

    def _counts(self, cast: _Cast, now: float) -> bool:
        return now - cast.at < self._times.memory

"""Whether we are cut off: no member, no API server and no gateway answers.

`Witnesses` are those beside the members that can be asked at any time. Who hears a member, or has an answer of a
witness since it doubts, is not cut off; who was left alone goes on doubting, and asks. Where no witness has ever
answered there is nobody to ask, and silence says nothing about which side it is of: then we go on, as one who is left
alone should.
"""

from __future__ import annotations

from lbcore.adapters.detector.times import Times

__all__ = ["Contact"]

_ROUTINE, _SOON = 20.0, 1.0  # seconds between two questions while nothing is wrong; before the first answer
_UNLEARNT = 65.0  # seconds after which a witness that does not answer, while members do, is none any more
_SELDOM = 0.1  # seconds between two questions of one who is cut off


class Contact:
    """What we know of our own place. Times in seconds on the clock of `now`."""

    def __init__(self, times: Times) -> None:
        self.times = times
        self._answered: float | None = None  # the last answer of a witness
        self._doubting: float | None = None  # since when
        self._ask_at = 0.0
        self.cut_off = False

    @property
    def deadline(self) -> float:
        """When there is something to ask."""
        return self._ask_at

    @property
    def has_witness(self) -> bool:
        """Whether any witness has ever answered."""
        return self._answered is not None

    def answered(self, now: float) -> None:
        """A witness has answered."""
        self._answered = now

    def late(self, by: float) -> None:
        """We stood still: there was no time to be answered."""
        if self._doubting is not None:
            self._doubting += by

    def is_helpless(self, now: float) -> bool:
        """Whether there is nobody to ask, and silence has lasted: then those who are silent are held for dead."""
        if self._answered is not None or self._doubting is None:
            return False
        return now - self._doubting >= self.times.expiry - self.times.doubt + self.times.patience

    def reassure(self, now: float) -> bool:
        """Members are heard; whether the witnesses are to be asked all the same, so as to know that there are any."""
        if self._doubting is not None:
            self._doubting = None
            self._ask_at = now + _ROUTINE
        self.cut_off = False
        if self._ask_at > now:
            return False
        if self._answered is not None and now - self._answered > _UNLEARNT:
            self._answered = None
        self._ask_at = now + (_ROUTINE if self.has_witness else _SOON)
        return True

    def doubt(self, now: float) -> bool:
        """Nobody is heard; whether the witnesses are to be asked now."""
        if self._doubting is None:
            self._doubting = now
            self._ask_at = now
        if self._ask_at > now:
            return False
        self._ask_at = now + (_SELDOM if self.cut_off else self.times.again)
        return True

    def is_answered(self, now: float) -> bool:
        """Whether a witness has answered since we doubt, and lately."""
        if self._answered is None or self._doubting is None:
            return False
        return self._answered >= self._doubting and now - self._answered < self.times.expiry

    def judge(self, now: float) -> None:
        """See whether we are cut off, while nobody is heard."""
        if self.is_answered(now):
            self.cut_off = False
        elif self._answered is not None and self._doubting is not None:
            asked = now - max(self._doubting, self._answered)
            self.cut_off = self.cut_off or asked >= self.times.expiry

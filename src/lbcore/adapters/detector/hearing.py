"""Whom we still hear, by our own clock, of which only those moments count in which we were awake to hear.

An observer that was late itself (a busy machine, a stopped process) gives everybody the time that it
missed: what it did not hear then is not held against them.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from lbcore.adapters.detector.messages import Beat
from lbcore.adapters.detector.times import Times

__all__ = ["Hearing", "Voice"]

_LIVES = 32  # former lives of a name that are remembered, lest a recording speak for it


@define
class Voice:
    """One neighbour: when it was last heard, and in which life of it."""

    heard: float
    life: int = 0
    number: int = 0
    asked: float = float("-inf")
    former: list[int] = field(factory=list)

    def takes(self, beat: Beat) -> bool:
        """Whether a beat is news of it: of its life, or of a new one, and no recording."""
        if beat.life == self.life:
            return beat.number > self.number
        return beat.life not in self.former


class Hearing:
    """The voices of those whom we listen to."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._awake: float | None = None
        self.voices: dict[str, Voice] = {}

    def listen_to(self, names: Iterable[str], now: float) -> None:
        """These, and no others; who is new has until `expiry` to be heard."""
        wanted = set(names)
        for name in self.voices.keys() - wanted:
            del self.voices[name]
        for name in sorted(wanted - self.voices.keys()):
            self.voices[name] = Voice(now)

    def forgive(self, now: float) -> None:
        """Give everybody time anew."""
        for voice in self.voices.values():
            voice.heard = now

    def awake(self, now: float) -> float:
        """We run now; returns by how much that was late."""
        last, self._awake = self._awake, now
        late = 0.0 if last is None else now - last - self._times.interval
        if late <= self._times.slack:
            return 0.0
        for voice in self.voices.values():
            voice.heard = min(now, voice.heard + late)
        return late

    def hear(self, beat: Beat, now: float) -> bool:
        """A beat has come; whether it counts."""
        voice = self.voices.get(beat.name)
        if voice is None or not voice.takes(beat):
            return False
        if voice.life and beat.life != voice.life:
            voice.former = [*voice.former, voice.life][-_LIVES:]
        voice.life, voice.number, voice.heard = beat.life, beat.number, now
        return True

    def silence(self, name: str, now: float) -> float | None:
        """For how long a neighbour has not been heard; None for one whom we do not listen to."""
        voice = self.voices.get(name)
        return None if voice is None else now - voice.heard

    def quiet(self, least: float, now: float) -> list[str]:
        """Those not heard for at least so long, by name."""
        return [name for name, voice in sorted(self.voices.items()) if now - voice.heard >= least]

    def any_heard(self, now: float) -> bool:
        """Whether at least one neighbour was heard lately."""
        return any(now - voice.heard < self._times.expiry for voice in self.voices.values())

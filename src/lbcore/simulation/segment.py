"""The pretend switch and the shared store of member records: what nodes have in common beside the API.

Frames are real bytes. A frame that is sent reaches every other station a moment later, once, twice
or not at all, as the weather has it; a question of the judge is put to every station at once and
answered at once, so that it sees who answers now.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from lbcore.simulation.clock import Clock, Trace
from lbcore.simulation.network import Weather

__all__ = ["MemberRecords", "Segment", "Station"]


class Station(Protocol):
    """A node's port at the switch."""

    name: str

    @property
    def hears(self) -> bool:
        """Whether the cable is in, and somebody listens."""
        ...

    def take_frame(self, frame: bytes) -> None:
        """A frame has arrived."""
        ...

    def answer(self, frame: bytes) -> list[bytes]:
        """What this station would say to a frame, now."""
        ...


def _everybody(_sender: str, _receiver: str) -> bool:
    return True


@define
class Segment:
    """One Ethernet segment. `judges` hear each frame with its sender's name when it is sent; frames of one station
    get to those whom it `reaches`.
    """

    clock: Clock
    trace: Trace
    weather: Weather
    rng: random.Random
    counts: Counter[str]
    stations: list[Station] = field(factory=list)
    judges: list[Callable[[str, bytes], None]] = field(factory=list)
    reaches: Callable[[str, str], bool] = field(default=_everybody)

    def send(self, sender: Station, frame: bytes) -> None:
        """A station puts a frame on the wire."""
        self.counts["frames"] += 1
        self.trace.add(sender.name, f"frame {frame.hex()}")
        for judge in self.judges:
            judge(sender.name, frame)
        weather, rng = self.weather, self.rng
        reaches = self.reaches
        receivers = [each for each in self.stations if each is not sender and reaches(sender.name, each.name)]
        if weather.frames_lost:
            heard = [station for station in receivers if rng.random() >= weather.frames_lost]
            self.counts["frame lost"] += len(receivers) - len(heard)
            receivers = heard
        self.clock.after(rng.random() * weather.slowest_frame, self._deliver, receivers, frame)
        if weather.frames_twice and rng.random() < weather.frames_twice:
            self.counts["frame twice"] += 1
            self.clock.after(rng.random() * weather.slowest_frame, self._deliver, receivers, frame)

    def _deliver(self, receivers: list[Station], frame: bytes) -> None:
        for station in receivers:
            if station.hears:
                station.take_frame(frame)

    def ask(self, frame: bytes) -> list[tuple[str, bytes]]:
        """Everybody's answers to one frame, with the names of those who give them."""
        return [
            (station.name, answer) for station in self.stations if station.hears for answer in station.answer(frame)
        ]


@define
class MemberRecords:
    """The records of all members, as each finds them in the store that they share.

    A node that is cut off neither reads nor writes; whoever reads may be shown what was there a
    moment ago (`slowest_record`).
    """

    clock: Clock
    weather: Weather
    rng: random.Random
    cut: dict[str, None] = field(factory=dict)
    _records: dict[str, bytes] = field(factory=dict)
    _generation: dict[str, int] = field(factory=dict)
    _last: dict[str, float] = field(factory=dict)

    def write(self, node: str, data: bytes) -> None:
        """Put a node's record, soon."""
        if node not in self.cut:
            delay = self.rng.random() * self.weather.slowest_record
            moment = self._last[node] = max(self.clock.now + delay, self._last.get(node, 0.0))
            self.clock.at(moment, self._put, node, data, self._generation.get(node, 0))

    def write_now(self, node: str, data: bytes) -> None:
        """Put a node's record at once."""
        if node not in self.cut:
            self._records[node] = data

    def _put(self, node: str, data: bytes, generation: int) -> None:
        if self._generation.get(node, 0) == generation:
            self._records[node] = data

    def remove(self, node: str) -> None:
        """Take a node's record away; a write under way does not bring it back."""
        if node not in self.cut:
            self._generation[node] = self._generation.get(node, 0) + 1
            self._records.pop(node, None)

    def read(self, node: str) -> dict[str, bytes] | None:
        """All records as this node sees them; None when it cannot read."""
        return None if node in self.cut else dict(self._records)

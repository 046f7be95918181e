"""The small contracts that every backend keeps: a source of events, a sink for intents, a clock.

One suite (`tests/backends/`) runs against every implementation, the memory one included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from typing import Protocol

from lbcore.addresses import Address
from lbcore.events import Applied, Event, Failed
from lbcore.intents import Intent

__all__ = ["Clock", "FrameLink", "LinkFault", "Sink", "Source"]


class Source(Protocol):
    """Where events come from: first what is there, then `Listed` for each kind, then changes."""

    def events(self) -> AsyncIterator[Event]:
        """Every event from the beginning; closing the iterator releases what it holds."""
        ...


class Sink(Protocol):
    """Where intents go. `handles` names the types it carries out; each type has exactly one sink."""

    @property
    def handles(self) -> tuple[type[Intent], ...]:
        """The intent types that this sink carries out."""
        ...

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Carry out one intent; doing it twice does no harm."""
        ...


class Clock(Protocol):
    """Time in seconds that only goes forward."""

    def now(self) -> float:
        """Seconds since a moment that does not matter."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return at `moment` or later."""
        ...


class LinkFault(Enum):
    """What keeps an interface from carrying frames; the value is for the log."""

    DOWN = "the interface is down"  # frames come again by themselves when it is up
    GONE = "the interface no longer exists"  # close the link
    BUSY = "the interface takes no more frames just now"
    NO_GROUPS = "the interface joins no IPv6 multicast group"  # IPv6 is off there


class FrameLink(Protocol):
    """One network interface as Ethernet: ARP and Neighbor Discovery frames, headers included.

    Nothing blocks. An interface that goes down or away is a `LinkFault`, never an exception.
    """

    @property
    def readers(self) -> tuple[int, ...]:
        """The file descriptors to wait on: when one is readable, `receive` has something to tell."""
        ...

    def receive(self) -> list[bytes] | LinkFault:
        """The frames that have arrived, a bounded number at once; [] when there are none."""
        ...

    def send(self, frame: bytes) -> LinkFault | None:
        """Put one frame on the wire; a fault means that it is lost."""
        ...

    def set_groups(self, groups: frozenset[Address]) -> LinkFault | None:
        """Be a member of exactly these IPv6 multicast groups; with a fault, of those that could be joined."""
        ...

    def rejoin(self) -> LinkFault | None:
        """Join all groups anew, so that a switch that has not heard of them learns (MLD, RFC 3810)."""
        ...

    def close(self) -> None:
        """Leave the groups and give back the sockets; twice does no harm."""
        ...

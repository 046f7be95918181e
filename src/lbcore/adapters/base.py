"""The shape of every engine: inputs return outputs, time and dice are arguments.

An engine has `receive(data, source, now)`, `command(cmd, now)` and `tick(now)`; each returns the
outputs below, and `deadline` (seconds on the same clock as `now`, or None) is read again after
every call. `tick` may come late or twice: engines work from deadlines, not from counting calls.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

from lbcore.events import Event

__all__ = ["Hangup", "Output", "Report", "Send"]

Where = TypeVar("Where")


@frozen
class Send(Generic[Where]):
    """Put these bytes on the wire, towards `where` (an interface index, an address, a peer)."""

    data: bytes
    where: Where


@frozen
class Report:
    """Tell the loop what was learned."""

    event: Event


@frozen
class Hangup:
    """End the connection; `reason` is for the log."""

    reason: str


Output = Send[Where] | Report | Hangup

"""What the engine asks of whoever carries it, beside `Report` and `Send` (a datagram)."""

from __future__ import annotations

from attrs import frozen

from lbcore.adapters.base import Report, Send
from lbcore.adapters.memberlist.messages import Endpoint

__all__ = ["Answer", "Dial", "GossipOutput"]


@frozen(kw_only=True)
class Dial:
    """Connect to `where`, send `data`, and hand what comes back within `patience` seconds to `answered`."""

    number: int
    where: Endpoint
    data: bytes
    patience: float


@frozen
class Answer:
    """Send this back on the connection that the message came by, and close it."""

    data: bytes


GossipOutput = Send[Endpoint] | Dial | Answer | Report

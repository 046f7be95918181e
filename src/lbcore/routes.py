"""Routes as values: what a node tells a router, and what a router's session is like.

A route is a prefix and what goes with it; what only the session knows (next hop, AS path) is put on
where it is sent. Source: RFC 4271 sections 4.3 and 5.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from lbcore.addresses import Address, Family
from lbcore.bgp import Community

__all__ = ["Offer", "Path", "PeerState", "PeerStatus", "Prefix"]


@frozen(order=True, cache_hash=True)
class Prefix:
    """The addresses that begin with the same `length` bits; `value` is the first of them, as a number."""

    version: int
    value: int
    length: int

    @classmethod
    def of(cls, address: Address, length: int | None = None) -> Prefix:
        """The prefix of a length (by default the address alone) that an address lies in."""
        bits = address.family.bits
        length = bits if length is None else length
        return cls(address.version, address.value >> (bits - length) << (bits - length), length)

    @property
    def order(self) -> tuple[int, int, int]:
        """What to sort many by: the same order as its own, found by the interpreter itself and so ten times as fast."""
        return self.version, self.value, self.length

    @property
    def family(self) -> Family:
        """The family of its addresses."""
        return Family.IPV4 if self.version == 4 else Family.IPV6

    def __str__(self) -> str:
        return f"{Address(self.version, self.value)}/{self.length}"


@frozen(kw_only=True)
class Path:
    """What goes with a prefix to a router: `local_pref` 0 is "not set"; communities sorted, none twice."""

    local_pref: int = 0
    communities: tuple[Community, ...] = ()


@frozen
class Offer:
    """A path for the sessions of one BGPPeer."""

    peer: str
    path: Path


class PeerState(Enum):
    """Where a session is (RFC 4271 section 8.2.2); the value is what routers print."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"


@frozen(kw_only=True)
class PeerStatus:
    """A node's session with a peer, as it is now.

    `since` is when it came into this state, in seconds since 1970. `advertised` counts the prefixes that
    the router was sent and has not been told to drop, `received` those that it announced, all of which are
    dropped. `error` is the last thing that went wrong, in words, and empty when nothing did.
    """

    state: PeerState
    since: float
    advertised: int = 0
    received: int = 0
    error: str = ""
    flaps: int = 0  # times that an established session was lost
    keeps_routes: bool = False  # whether the router was asked to keep routes over a restart, and does

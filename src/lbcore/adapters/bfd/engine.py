"""The engine of all BFD sessions of a node: which session a datagram belongs to, and what is worth telling.

No sockets: `where` of what is to be sent says all that a socket needs to know (`Way`), since the last word of a
session is sent when the session is no more.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from attrs import evolve, frozen

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bfd.packets import ControlPacket, decode, encode
from lbcore.adapters.bfd.session import BfdSession
from lbcore.addresses import Address
from lbcore.bfd import BfdState, Watch, WatchStatus
from lbcore.errors import RemoteProtocolError
from lbcore.events import WatchSeen

__all__ = ["BfdEngine", "Origin", "Way"]

COUNT_EVERY = 10.0  # seconds between reports of numbers alone


@frozen
class Way:
    """Where a packet of a session goes: `address` None is a neighbor on a link that has not been heard yet; each of
    `hops` says whether it goes to the port for several hops.
    """

    watch: Watch
    address: Address | None
    hops: tuple[bool, ...]


BfdOutput = Send[Way] | Report


@frozen
class Origin:
    """Where a datagram came from: its source address, the interface's name, the TTL that was left, and whether
    it came to the port for several hops.
    """

    source: Address
    interface: str
    ttl: int
    multihop: bool


class BfdEngine:
    """All sessions of one node. `set` says which are wanted, `receive` and `tick` drive them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._sessions: dict[str, BfdSession] = {}
        self._by_discriminator: dict[int, BfdSession] = {}
        self._heard: dict[str, Origin] = {}  # where each session's last packet came from
        self._refused: dict[str, int] = {}  # the TTL of the first packet that had too little, of those not Up
        self._told: dict[str, WatchStatus] = {}
        self._count_at: float | None = None
        self.ignored = 0  # datagrams that were none for us

    @property
    def deadline(self) -> float | None:
        """When `tick` is due; None when there is nothing to wait for."""
        times = [session.deadline for session in self._sessions.values()]
        return min((each for each in (*times, self._count_at) if each is not None), default=None)

    def address(self, peer: str) -> Address | None:
        """Where the peer of a session is: as wanted, or as heard on its link."""
        session = self._sessions.get(peer)
        return self._way(session).address if session is not None else None

    def _way(self, session: BfdSession) -> Way:
        """To both ports until it is known which is heard."""
        watch, heard = session.watch, self._heard.get(session.watch.peer)
        address = watch.address or (heard.source if heard is not None else None)
        if watch.multihop is not None:
            return Way(watch, address, (watch.multihop,))
        return Way(watch, address, (True, False) if heard is None else (heard.multihop,))

    def set(self, watches: Iterable[Watch], now: float) -> list[BfdOutput]:
        """Have these sessions and no other. One whose timers alone have changed goes on."""
        wanted = {watch.peer: watch for watch in watches}
        outputs: list[BfdOutput] = []
        for peer, session in list(self._sessions.items()):
            if peer not in wanted or not _same_path(session.watch, wanted[peer]):
                outputs += self._end(peer, now)
                if peer not in wanted:
                    outputs.append(Report(WatchSeen(peer, None)))
        for peer, watch in wanted.items():
            present = self._sessions.get(peer)
            if present is None:
                session = self._sessions[peer] = BfdSession(watch, self._discriminator(), self._rng)
                self._by_discriminator[session.discriminator] = session
                outputs += self._settle(peer, session.start(now))
            elif present.watch != watch:
                outputs += self._settle(peer, present.change(watch, now))
        self._count_at = now + COUNT_EVERY if self._sessions else None
        return outputs

    def receive(self, data: bytes, origin: Origin, now: float) -> list[BfdOutput]:
        """A datagram on one of BFD's ports. What is no packet for one of our sessions is counted and dropped."""
        try:
            packet = decode(data)
        except RemoteProtocolError:
            self.ignored += 1
            return []
        session = self._find(packet, origin)
        if session is None:
            self.ignored += 1
            return self._refuse(origin)
        self._heard[session.watch.peer] = origin
        return self._settle(session.watch.peer, session.receive(packet, now))

    def tick(self, now: float) -> list[BfdOutput]:
        """Whatever is due."""
        outputs: list[BfdOutput] = []
        for peer, session in self._sessions.items():
            due = session.deadline
            if due is not None and due <= now:
                outputs += self._settle(peer, session.tick(now))
        if self._count_at is not None and now >= self._count_at:
            self._count_at = now + COUNT_EVERY
            for peer, session in self._sessions.items():
                if self._told.get(peer) != self._status(session):
                    outputs.append(self._tell(session))
        return outputs

    def recount(self) -> list[Report]:
        """How all sessions are, for somebody who has just come to listen."""
        return [self._tell(session) for session in self._sessions.values()]

    def close(self, now: float) -> list[BfdOutput]:
        """The last words to all peers."""
        return [output for peer in list(self._sessions) for output in self._end(peer, now)]

    def _end(self, peer: str, now: float) -> list[BfdOutput]:
        session = self._sessions[peer]
        way = self._way(session)
        outputs: list[BfdOutput] = [Send(encode(packet), way) for packet in session.stop(now)]
        del self._sessions[peer], self._by_discriminator[session.discriminator]
        self._told.pop(peer, None)
        self._heard.pop(peer, None)
        self._refused.pop(peer, None)
        return outputs

    def _settle(self, peer: str, packets: Iterable[ControlPacket]) -> list[BfdOutput]:
        outputs: list[BfdOutput] = [Send(encode(packet), self._way(self._sessions[peer])) for packet in packets]
        session, told = self._sessions[peer], self._told.get(peer)
        if session.status.state is BfdState.UP:
            self._refused.pop(peer, None)
        if told is None or _gist(told) != _gist(self._status(session)):
            outputs.append(self._tell(session))
        return outputs

    def _refuse(self, origin: Origin) -> list[BfdOutput]:
        """A packet that was not heard: worth telling, once, where nothing but its TTL keeps a session from coming up.

        While a session is Up whoever forges its peer's packets from far away is not worth a word.
        """
        for peer, session in self._sessions.items():
            waits = session.status.state is not BfdState.UP and peer not in self._refused
            if waits and self._is_by_way_of(session, origin) and not _is_near(session, origin):
                self._refused[peer] = origin.ttl
                return [self._tell(session)]
        return []

    def _status(self, session: BfdSession) -> WatchStatus:
        return evolve(session.status, refused_ttl=self._refused.get(session.watch.peer, 0))

    def _tell(self, session: BfdSession) -> Report:
        peer = session.watch.peer
        self._told[peer] = status = self._status(session)
        return Report(WatchSeen(peer, status))

    def _find(self, packet: ControlPacket, origin: Origin) -> BfdSession | None:
        """The session by our discriminator, else by where it came from (RFC 5880 6.8.6, 5881 4, 5883 3).

        A discriminator alone is not enough: whoever guesses or overhears one is not yet the peer.
        """
        if packet.yours:
            session = self._by_discriminator.get(packet.yours)
            return session if session is not None and self._is_from(session, origin) else None
        return next((each for each in self._sessions.values() if self._is_from(each, origin)), None)

    def _is_from(self, session: BfdSession, origin: Origin) -> bool:
        return _is_near(session, origin) and self._is_by_way_of(session, origin)

    def _is_by_way_of(self, session: BfdSession, origin: Origin) -> bool:
        """Whether all but the TTL is as the session's peer has it."""
        watch, multihop = session.watch, session.watch.multihop
        if multihop is None:
            heard = self._heard.get(watch.peer)
            is_up = session.status.state is BfdState.UP
            multihop = heard.multihop if heard is not None and is_up else origin.multihop
        if multihop is not origin.multihop:
            return False
        if watch.address is None:  # the neighbor on a link
            return origin.interface == watch.interface and origin.source.is_link_local
        if watch.interface and not multihop and origin.interface != watch.interface:
            return False
        return origin.source == watch.address

    def _discriminator(self) -> int:
        while True:
            chosen = self._rng.randint(1, (1 << 32) - 1)
            if chosen not in self._by_discriminator:
                return chosen


def _is_near(session: BfdSession, origin: Origin) -> bool:
    return origin.ttl >= session.watch.least_ttl(multihop=origin.multihop)


def _same_path(one: Watch, other: Watch) -> bool:
    """Whether two watches differ in their timers alone."""
    return (
        evolve(
            one,
            transmit_interval=other.transmit_interval,
            receive_interval=other.receive_interval,
            detect_multiplier=other.detect_multiplier,
            passive=other.passive,
        )
        == other
    )


def _gist(status: WatchStatus) -> tuple[object, ...]:
    """What is told at once when it changes."""
    return status.state, status.diagnostic, status.failed, status.refused_ttl, status.ups, status.downs

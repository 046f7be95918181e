"""The engine of one BGP session: when to connect, which of two connections stays, what the router has yet to be told.

No sockets: the backend dials when it is told to (`Dial`), hands in what happens to the connection, and
sends and closes as it is told. Time and dice are arguments. RFC 4271 sections 6.8 (collisions), 8 and 10.

An attempt that fails, and a session that is lost before it has been up for a minute, makes the next
attempt wait longer: a peer that accepts and then notifies is asked every 30 s, not a thousand times.
"""

from __future__ import annotations

import random
from collections import Counter
from enum import Enum
from functools import partial

from attrs import frozen

from lbcore.adapters.base import Report, Send
from lbcore.adapters.bgp.connection import Connection, LocalEnd, Negotiated, SessionSettings
from lbcore.adapters.bgp.messages import encode_notification, kinds_of
from lbcore.adapters.bgp.notifications import Cease, Notification, cease
from lbcore.adapters.bgp.outbox import Outbox
from lbcore.adapters.bgp.updates import end_of_rib
from lbcore.addresses import Family
from lbcore.events import PeerSeen
from lbcore.routes import Path, PeerState, PeerStatus, Prefix

__all__ = ["Dial", "Drop", "Session", "SessionOutput", "Side"]

CONNECT_WAIT = 10.0  # seconds until a TCP connection must be there, as MetalLB has it
LONGEST_RETRY = 30.0  # seconds between attempts at most; they double from 1
PROVEN = 60.0  # seconds up after which a session that is lost is an accident, not a habit
GATHER = 0.01  # seconds that changes are gathered, so that those of one moment share messages
SLICE = 2400  # prefixes told in one go: three messages of IPv4, and about 3 ms
MOST_WAITING = 256 << 10  # bytes that may wait for the kernel before no more are made
COUNT_EVERY = 1.0  # seconds between reports of numbers alone


class Side(Enum):
    """Who began a connection: at most one of each exists."""

    DIALED = "dialed"
    ACCEPTED = "accepted"


@frozen
class Dial:
    """Connect to the peer; then `connected` or `failed`."""


@frozen
class Drop:
    """Close a connection, behind what has been sent; for one that is still being dialed: give up."""

    side: Side
    reason: str


SessionOutput = Dial | Send[Side] | Drop | Report


class Session:
    """One BGPPeer on one node. Begins with `start`; `status` says how it is.

    Every method that takes `now` returns what is to be done, in order; `deadline` says when `tick` is due.
    """

    def __init__(self, name: str, settings: SessionSettings, rng: random.Random) -> None:
        self.name = name
        self.outbox = Outbox()
        self.sent: Counter[int] = Counter()  # messages by type, over all connections
        self.heard: Counter[int] = Counter()
        self._settings = settings
        self._rng = rng
        self._connections: dict[Side, Connection] = {}
        self._running = False
        self._leaving = False
        self._suspect = ""
        self._dial_until: float | None = None
        self._retry_at: float | None = None
        self._attempts = 0
        self._state = PeerState.IDLE
        self._since = 0.0
        self._error = ""
        self._flaps = 0
        self._flush_at: float | None = None
        self._marks: list[Family] = []  # families whose End-of-RIB is to be sent when all is told
        self._reported: PeerStatus | None = None
        self._reported_at = float("-inf")

    # What is to be known from outside.

    @property
    def deadline(self) -> float | None:
        """When `tick` is due, on the clock of `now`; None when nothing is."""
        times = [self._dial_until, self._retry_at, self._flush_at]
        times += [each.deadline for each in self._connections.values()]
        if self._reported is not None and self._reported != self.status:
            times.append(self._reported_at + COUNT_EVERY)
        return min((time for time in times if time is not None), default=None)

    @property
    def status(self) -> PeerStatus:
        """How the session is; `since` is on the clock of `now`."""
        connection = self._established
        return PeerStatus(
            state=self._state,
            since=self._since,
            advertised=self.outbox.advertised,
            received=connection.received if connection is not None else 0,
            error=self._error,
            flaps=self._flaps,
            keeps_routes=self._settings.restart_time is not None
            and connection is not None
            and connection.negotiated is not None
            and connection.negotiated.keeps_routes,
        )

    @property
    def negotiated(self) -> Negotiated | None:
        """What an established session can do."""
        return self._established.negotiated if self._established is not None else None

    @property
    def may_accept(self) -> bool:
        """Whether a connection of the peer's would be looked at."""
        return self._running and Side.ACCEPTED not in self._connections

    @property
    def _established(self) -> Connection | None:
        return next((each for each in self._connections.values() if each.state is PeerState.ESTABLISHED), None)

    # What happens.

    def start(self, now: float) -> list[SessionOutput]:
        """Begin, and never rest until `stop`."""
        if self._running:
            return []
        self._running = True
        return self._settle(self._dial(now), now)

    def stop(self, notification: Notification | None, now: float) -> list[SessionOutput]:
        """End the session with these words; None ends it without any, so that a peer that may keep routes does."""
        outputs: list[SessionOutput] = []
        self._running = False
        self._retry_at = None
        if self._dial_until is not None:
            self._dial_until = None
            outputs.append(Drop(Side.DIALED, "stopped"))
        for side in list(self._connections):
            if notification is not None:
                outputs.append(Send(encode_notification(notification), side))
            outputs += self._drop(side, "stopped")
        return self._settle(outputs, now)

    def lose(self, notification: Notification, why: str, now: float) -> list[SessionOutput]:
        """The path to the peer is lost, says somebody who watches it: end what is there, and begin anew."""
        outputs: list[SessionOutput] = []
        for side in list(self._connections):
            outputs.append(Send(encode_notification(notification), side))
            self._lose(side, why)
            outputs.append(Drop(side, why))
        return self._settle(outputs, now)

    def connected(self, side: Side, local: LocalEnd, now: float) -> list[SessionOutput]:
        """A TCP connection is there."""
        if side is Side.DIALED:
            self._dial_until = None
        if not self._running or side in self._connections:
            return self._settle([Send(encode_notification(cease(Cease.REJECTED)), side), Drop(side, "not wanted")], now)
        connection = Connection(self._settings, local, now, self._rng)
        self._connections[side] = connection
        return self._settle([Send(connection.open(), side)], now)

    def suspect(self, what: str) -> None:
        """What may be wrong where the peer does not answer, in words that follow "no answer in 10 s"; "" is nothing."""
        self._suspect = what

    def failed(self, why: str, now: float) -> list[SessionOutput]:
        """The dialed connection did not come about."""
        if self._dial_until is None:
            return []
        self._dial_until = None
        if self._established is None:
            self._error = why
        return self._settle([], now)

    def receive(self, side: Side, data: bytes, now: float) -> list[SessionOutput]:
        """Bytes of a connection."""
        connection = self._connections.get(side)
        if connection is None:
            return []
        before = connection.state
        outputs: list[SessionOutput] = [Send(each, side) for each in connection.receive(data, now)]
        self.heard += connection.heard
        connection.heard.clear()
        outputs += self._look(side, connection, before, now)
        return self._settle(outputs, now)

    def closed(self, side: Side, why: str, now: float) -> list[SessionOutput]:
        """A connection is gone."""
        connection = self._connections.get(side)
        if connection is None:
            return []
        self._lose(side, why)
        return self._settle([], now)

    def drained(self, side: Side, waiting: int, now: float) -> list[SessionOutput]:
        """How many bytes of a connection the kernel has yet to take; tell it after every try to send."""
        connection = self._connections.get(side)
        if connection is None:
            return []
        connection.drained(waiting, now)
        if connection is self._established and self.outbox.pending and waiting < MOST_WAITING // 2:
            self._flush_soon(now)
        return []

    def leave(self, *, leaving: bool, now: float) -> None:
        """Tell all routes as going away soon from now on (RFC 8326 section 4), or as they are again."""
        if leaving == self._leaving:
            return
        self._leaving = leaving
        for family in Family:
            self.outbox.again(family)
        if self.outbox.pending:
            self._flush_soon(now)

    def offer(self, prefix: Prefix, path: Path | None, now: float) -> None:
        """Advertise a prefix from now on, or with None no more; told with others when `deadline` has come."""
        if self.outbox.offer(prefix, path) and self._flush_at is None:
            self._flush_at = now + GATHER

    def tick(self, now: float) -> list[SessionOutput]:
        """What is due; early or twice does no harm."""
        outputs: list[SessionOutput] = []
        if self._dial_until is not None and now >= self._dial_until:
            self._dial_until = None
            outputs.append(Drop(Side.DIALED, "no answer"))
            self._error = f"no answer in {CONNECT_WAIT:.0f} s{self._suspicion()}"
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            outputs += self._dial(now)
        for side, connection in list(self._connections.items()):
            outputs += [Send(each, side) for each in connection.tick(now)]
            outputs += self._look(side, connection, connection.state, now)
        if self._flush_at is not None and now >= self._flush_at:
            outputs += self._flush(now)
        return self._settle(outputs, now)

    # How it is done.

    def _suspicion(self) -> str:
        if self._suspect:
            return f"; {self._suspect}"
        if self._settings.has_password:
            return "; is it reachable, and has it the same password?"
        return "; is it reachable, and does it want a password?"

    def _dial(self, now: float) -> list[SessionOutput]:
        if self._connections or not self._running:
            return []
        self._dial_until = now + CONNECT_WAIT
        return [Dial()]

    def _look(self, side: Side, connection: Connection, before: PeerState, now: float) -> list[SessionOutput]:
        """What a connection's new state means for the session."""
        if connection.failure is not None:
            why = connection.failure
            self._lose(side, why)
            return [Drop(side, why)]
        outputs: list[SessionOutput] = []
        if before is PeerState.OPEN_SENT and connection.negotiated is not None:
            outputs += self._resolve_collision(side, connection)
        if connection.state is PeerState.ESTABLISHED and side in self._connections:
            if before is not PeerState.ESTABLISHED:
                outputs += self._come_up(side, now)
            for family in connection.refreshes:
                self.outbox.again(family)
                self._flush_soon(now)
            connection.refreshes.clear()
        return outputs

    def _resolve_collision(self, side: Side, connection: Connection) -> list[SessionOutput]:
        """Of two connections with one peer the one begun by the higher router ID stays (RFC 4271 section 6.8)."""
        other_side = Side.ACCEPTED if side is Side.DIALED else Side.DIALED
        other = self._connections.get(other_side)
        if other is None or other.negotiated is None:
            return []
        assert connection.negotiated is not None
        peer = connection.negotiated.peer
        ours = (connection.local.router_id.value, self._settings.asn)
        theirs = (peer.router_id.value, peer.true_asn)  # RFC 6286 section 2.3 for equal ones
        stays = Side.DIALED if ours > theirs else Side.ACCEPTED
        if other.state is PeerState.ESTABLISHED:
            stays = other_side
        goes = Side.ACCEPTED if stays is Side.DIALED else Side.DIALED
        text = "collision: the peer's other connection stays"
        return [Send(encode_notification(cease(Cease.COLLISION)), goes), *self._drop(goes, text)]

    def _drop(self, side: Side, reason: str) -> list[SessionOutput]:
        connection = self._connections.pop(side)
        if connection.state is PeerState.ESTABLISHED:
            self._go_down()
        return [Drop(side, reason)]

    def _lose(self, side: Side, why: str) -> None:
        connection = self._connections.pop(side)
        # `failure` after a NOTIFICATION has left the state at Idle: whether it was up is ours to remember.
        if self._state is PeerState.ESTABLISHED and self._established is None:
            self._flaps += 1
            self._go_down()
        if self._established is None:
            self._error = connection.failure or why

    def _come_up(self, side: Side, now: float) -> list[SessionOutput]:
        connection = self._connections[side]
        assert connection.negotiated is not None
        families = connection.negotiated.next_hops
        self._error = "; ".join(connection.negotiated.refused)
        self.outbox.open(families)
        self._marks = list(families)
        self._flush_soon(now)
        outputs: list[SessionOutput] = []
        for other in [each for each in self._connections if each is not side]:
            outputs.append(Send(encode_notification(cease(Cease.COLLISION)), other))
            outputs += self._drop(other, "collision: another connection is established")
        return outputs

    def _go_down(self) -> None:
        self.outbox.close()
        self._flush_at = None
        self._marks = []

    def _flush_soon(self, now: float) -> None:
        self._flush_at = now if self._flush_at is None else min(self._flush_at, now)

    def _flush(self, now: float) -> list[SessionOutput]:
        """The next UPDATEs, as many as one turn may take and the connection has room for."""
        self._flush_at = None
        side, connection = next(
            ((side, each) for side, each in self._connections.items() if each is self._established), (None, None)
        )
        if side is None or connection is None:
            return []
        if connection.waiting >= MOST_WAITING:
            return []  # `drained` brings us back
        messages = self.outbox.take(SLICE, partial(connection.announce, leaving=self._leaving))
        if self.outbox.pending:
            self._flush_at = now
        else:
            messages += [end_of_rib(family) for family in self._marks]
            self._marks = []
        return [Send(b"".join(messages), side)] if messages else []

    def _settle(self, outputs: list[SessionOutput], now: float) -> list[SessionOutput]:
        """After everything: another attempt if none is under way, and a report if there is news."""
        for output in outputs:
            if isinstance(output, Send):
                self.sent.update(kinds_of(output.data))
        idle = not self._connections and self._dial_until is None
        if self._connections:
            self._retry_at = None
        elif self._running and idle and self._retry_at is None:
            self._retry_at = now + self._pause(now)
        self._note_state(now)
        status = self.status
        before = self._reported
        news = before is None or (before.state, before.error, before.flaps) != (
            status.state,
            status.error,
            status.flaps,
        )
        if news or (status != before and now >= self._reported_at + COUNT_EVERY):
            self._reported, self._reported_at = status, now
            outputs.append(Report(PeerSeen(self.name, status)))
        return outputs

    def _note_state(self, now: float) -> None:
        order = (PeerState.ESTABLISHED, PeerState.OPEN_CONFIRM, PeerState.OPEN_SENT)
        states = {each.state for each in self._connections.values()}
        state = next((each for each in order if each in states), None)
        if state is None:
            waits = PeerState.ACTIVE if self._running else PeerState.IDLE
            state = PeerState.CONNECT if self._dial_until is not None else waits
        if state is not self._state:
            self._state, self._since = state, now

    def _pause(self, now: float) -> float:
        """Seconds until the next attempt."""
        if self._state is PeerState.ESTABLISHED and now - self._since >= PROVEN:
            self._attempts = 0
        pause = min(2.0 ** min(self._attempts, 16), LONGEST_RETRY)
        if self._settings.connect_retry:
            pause = float(self._settings.connect_retry)
        self._attempts += 1
        return pause * self._rng.uniform(0.75, 1.25)

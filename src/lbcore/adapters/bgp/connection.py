"""One TCP connection with a router: RFC 4271's state machine from OpenSent on, as a table.

`_TABLE` says what each message does in each state; a pair that is not there is the peer's error
(RFC 6608). Whether to connect, and which of two connections stays, is the session's affair
(`session`). Every timer has a deadline here: hold, keepalive, and for a peer that does not read the
send hold timer (RFC 9687).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from attrs import field, frozen

from lbcore.adapters.bgp.attributes import Attributes
from lbcore.adapters.bgp.capabilities import Capabilities, GracefulRestart
from lbcore.adapters.bgp.messages import (
    KEEPALIVE,
    Framer,
    Kind,
    Open,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_open,
)
from lbcore.adapters.bgp.notifications import BgpError, Code, Notification
from lbcore.adapters.bgp.updates import NextHop, announcements, decode_update
from lbcore.addresses import Address, Family
from lbcore.bgp import Community, DynamicASN
from lbcore.routes import Path, PeerState, Prefix

__all__ = ["Connection", "LocalEnd", "SessionSettings"]

OPEN_WAIT = 30.0  # seconds for the peer's OPEN. RFC 4271 suggests 240; who has not spoken after 30 will not.
SEND_HOLD = 480.0  # seconds without a byte taken, or twice the hold time if that is more: RFC 9687 section 4
DEFAULT_LOCAL_PREF = 100
GRACEFUL_SHUTDOWN = Community((65535, 0))  # RFC 8326 section 8


@frozen(kw_only=True)
class SessionSettings:
    """What a session is to be like. Times in seconds; `hold_time` 0 is no timers.

    `asn` is ours as the peer is to see it, `peer_asn` the peer's or what it may be. `connect_retry` None
    is 1, 2, 4 ... 30. `restart_time` not None asks the peer to keep our routes so long when the
    connection breaks; `restarted` says that this has just happened. `has_password` and `ttl_security` are for
    words only.
    """

    asn: int
    peer_asn: int | DynamicASN
    families: frozenset[Family]
    hold_time: int = 90
    keepalive_time: int | None = None
    connect_retry: int | None = None
    restart_time: int | None = None
    restarted: bool = False
    has_password: bool = False
    ttl_security: bool = False


@frozen(kw_only=True)
class LocalEnd:
    """Our end of a connection: `over` which family it runs, our router ID, and the addresses that routers
    can send traffic to. `link_local` is told beside `ipv6` to a peer on the same link.
    """

    over: Family
    router_id: Address
    ipv4: Address | None = None
    ipv6: Address | None = None
    link_local: Address | None = None


@frozen
class Negotiated:
    """What both sides can do."""

    peer: Open
    internal: bool
    four_octets: bool
    hold_time: int
    next_hops: Mapping[Family, NextHop]
    refused: tuple[str, ...] = ()  # families that go nowhere, in words

    @property
    def keeps_routes(self) -> bool:
        """Whether the peer keeps our routes when the connection breaks."""
        return self.peer.capabilities.graceful_restart is not None


@frozen
class _Step:
    state: PeerState
    act: Callable[[Connection, bytes, float], list[bytes]] = field(eq=False)


class Connection:
    """Bytes in, bytes out. When `failure` is set the connection is over: send what was returned, and close."""

    def __init__(self, settings: SessionSettings, local: LocalEnd, now: float, rng: random.Random) -> None:
        self.local = local
        self.state = PeerState.OPEN_SENT
        self.negotiated: Negotiated | None = None
        self.failure: str | None = None
        self.refreshes: list[Family] = []  # families that the peer wants again; the session takes them
        self.received = 0
        self.heard: Counter[int] = Counter()  # messages by type; the session takes them
        self.faults = 0  # UPDATEs that suffered RFC 7606's treatment
        self.last_fault = ""
        self._settings = settings
        self._rng = rng
        self._framer = Framer()
        self._hold_at: float | None = now + OPEN_WAIT
        self._keepalive_at: float | None = None
        self._waiting = 0
        self._stuck_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `tick` is due."""
        times = (self._hold_at, self._keepalive_at, self._stuck_at)
        return min((time for time in times if time is not None), default=None)

    @property
    def waiting(self) -> int:
        """Bytes that have been given out and that the kernel has not taken."""
        return self._waiting

    def open(self) -> bytes:
        """What to send first."""
        settings = self._settings
        restart = None
        if settings.restart_time is not None:
            # Whoever forwards is the kernel, by rules that outlive the speaker.
            kept = tuple((family, True) for family in sorted(settings.families, key=lambda family: family.version))
            restart = GracefulRestart(seconds=settings.restart_time, restarted=settings.restarted, families=kept)
        extended = self.local.over is Family.IPV6 and Family.IPV4 in settings.families
        capabilities = Capabilities(
            families=settings.families,
            route_refresh=True,
            extended_next_hop=extended,
            graceful_restart=restart,
            asn=settings.asn,
        )
        return encode_open(
            Open(
                asn=settings.asn,
                hold_time=settings.hold_time,
                router_id=self.local.router_id,
                capabilities=capabilities,
            )
        )

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """Bytes from the peer; what to send in return."""
        sent: list[bytes] = []
        try:
            for kind, body in self._framer.feed(data):
                sent += self._take(kind, body, now)
                if self.failure is not None:
                    break
        except BgpError as error:
            sent += self.fail(error.notification, f"the peer sent {error}")
        return sent

    def fail(self, notification: Notification, why: str) -> list[bytes]:
        """End it for a reason of ours, and tell the peer."""
        self.failure = why
        return [encode_notification(notification)]

    def tick(self, now: float) -> list[bytes]:
        """What is due."""
        if self.failure is not None:
            return []
        if self._hold_at is not None and now >= self._hold_at:
            return self.fail(Notification(Code.HOLD_TIMER), self._silence())
        if self._stuck_at is not None and now >= self._stuck_at:
            return self.fail(Notification(Code.SEND_HOLD_TIMER), "the peer takes no more bytes (send hold timer)")
        if self._keepalive_at is not None and now >= self._keepalive_at:
            return [self._keepalive(now)]
        return []

    def _silence(self) -> str:
        if self.negotiated is None:
            text = f"the peer took the connection and sent no OPEN in {OPEN_WAIT:.0f} s"
            return f"{text}; does it send with a TTL of 255 (ttl-security)?" if self._settings.ttl_security else text
        return f"nothing was heard of the peer for {self.negotiated.hold_time} s (hold timer expired)"

    def drained(self, waiting: int, now: float) -> None:
        """How many bytes the kernel has yet to take."""
        if waiting == 0:
            self._stuck_at = None
        elif waiting < self._waiting or self._stuck_at is None:
            hold_time = self.negotiated.hold_time if self.negotiated is not None else 0
            self._stuck_at = now + max(SEND_HOLD, 2 * hold_time)
        self._waiting = waiting

    def announce(self, family: Family, path: Path, prefixes: list[Prefix], *, leaving: bool) -> Iterator[bytes]:
        """UPDATEs that announce prefixes, with the attributes that this peer is to see (RFC 4271 section 5.1).

        `leaving`: as going away soon, so that the peer prefers every other way (RFC 8326): by the community
        GRACEFUL_SHUTDOWN, which an external peer turns into the lowest preference, or by that itself.
        """
        assert self.negotiated is not None
        internal = self.negotiated.internal
        communities, local_pref = path.communities, path.local_pref or DEFAULT_LOCAL_PREF
        if leaving and internal:
            local_pref = 0
        elif leaving:
            communities = tuple(sorted({*communities, GRACEFUL_SHUTDOWN}))
        attributes = Attributes(
            as_path=() if internal else (self._settings.asn,),
            local_pref=local_pref if internal else None,
            communities=communities,
        )
        next_hop, four_octets = self.negotiated.next_hops[family], self.negotiated.four_octets
        return announcements(prefixes, family, attributes, next_hop, four_octets=four_octets)

    def _take(self, kind: int, body: bytes, now: float) -> list[bytes]:
        self.heard[kind] += 1
        step = _TABLE.get((self.state, kind))
        if step is None:
            subcode = _UNEXPECTED[self.state]
            text = f"the peer sent a message of type {kind} in the state {self.state.value}"
            return self.fail(Notification(Code.STATE, subcode), text)
        self.state = step.state
        return step.act(self, body, now)

    # What messages do.

    def _opened(self, body: bytes, now: float) -> list[bytes]:
        peer = decode_open(body)
        self.negotiated = self._negotiate(peer)
        self._heard(now)
        # At once, whatever the intervals: it is the answer to the OPEN.
        return [self._keepalive(now)]

    def _established(self, _body: bytes, now: float) -> list[bytes]:
        self._heard(now)
        return []

    def _alive(self, _body: bytes, now: float) -> list[bytes]:
        self._heard(now)
        return []

    def _told(self, body: bytes, now: float) -> list[bytes]:
        assert self.negotiated is not None
        self._heard(now)
        negotiated = self.negotiated
        update = decode_update(body, four_octets=negotiated.four_octets, internal=negotiated.internal)
        self.received += sum(each.count for each in update.announced)
        if update.faults:
            self.faults += 1
            self.last_fault = update.faults[0]
        return []

    def _asked(self, body: bytes, _now: float) -> list[bytes]:
        wish = decode_route_refresh(body)
        if wish.family is not None and wish.subtype == 0 and wish.family not in self.refreshes:
            self.refreshes.append(wish.family)
        return []

    def _refused(self, body: bytes, _now: float) -> list[bytes]:
        self.failure = f"the peer ended the session: {decode_notification(body)}"
        return []

    def _heard(self, now: float) -> None:
        assert self.negotiated is not None
        self._hold_at = now + self.negotiated.hold_time if self.negotiated.hold_time else None

    def _keepalive(self, now: float) -> bytes:
        assert self.negotiated is not None
        interval = self.negotiated.hold_time / 3
        if self._settings.keepalive_time:
            interval = min(interval, self._settings.keepalive_time)
        # RFC 4271 section 10 wants a jitter, so that sessions do not beat in step.
        self._keepalive_at = now + interval * self._rng.uniform(0.75, 1.0) if interval else None
        return KEEPALIVE

    def _negotiate(self, peer: Open) -> Negotiated:
        settings, ours = self._settings, self._settings.asn
        wanted, found = settings.peer_asn, peer.true_asn
        internal = found == ours
        if isinstance(wanted, DynamicASN):
            fits = internal == (wanted is DynamicASN.INTERNAL)
            expected = f"{wanted.value} to AS {ours}"
        else:
            fits = found == wanted
            expected = f"AS {wanted}"
        if not fits:
            raise BgpError(f"AS {found}, and {expected} is configured", Notification(Code.OPEN, 2))
        if internal and peer.router_id == self.local.router_id:
            raise BgpError(f"our own router ID {peer.router_id}", Notification(Code.OPEN, 3))  # RFC 6286 section 2.2
        theirs = peer.capabilities.families or frozenset({Family.IPV4})
        next_hops: dict[Family, NextHop] = {}
        refused: list[str] = []
        for family in sorted(settings.families, key=lambda family: family.version):
            hop = self._next_hop(family, peer.capabilities)
            if family not in theirs:
                refused.append(f"the peer takes no {family.value} routes; activate that address family on it")
            elif isinstance(hop, str):
                refused.append(hop)
            else:
                next_hops[family] = hop
        return Negotiated(
            peer=peer,
            internal=internal,
            four_octets=peer.capabilities.asn is not None,
            hold_time=min(settings.hold_time, peer.hold_time),
            next_hops=next_hops,
            refused=tuple(refused),
        )

    def _next_hop(self, family: Family, capabilities: Capabilities) -> NextHop | str:
        local = self.local
        if family is Family.IPV6:
            if local.ipv6 is not None:
                return NextHop(local.ipv6, local.link_local)
            if local.link_local is not None:
                return NextHop(local.link_local)
            return "this node has no IPv6 address on the way to the peer, so no next hop for IPv6 routes"
        if local.over is Family.IPV6 and capabilities.extended_next_hop:
            hop = local.ipv6 or local.link_local
            if hop is not None:
                return NextHop(hop, local.link_local if local.ipv6 is not None else None)
        if local.ipv4 is not None:
            return NextHop(local.ipv4)
        return "the peer does not take IPv4 routes with an IPv6 next hop; enable the extended next hop capability on it"


_UNEXPECTED = {PeerState.OPEN_SENT: 1, PeerState.OPEN_CONFIRM: 2, PeerState.ESTABLISHED: 3}

_TABLE: dict[tuple[PeerState, int], _Step] = {
    (PeerState.OPEN_SENT, Kind.OPEN): _Step(PeerState.OPEN_CONFIRM, Connection._opened),
    (PeerState.OPEN_SENT, Kind.NOTIFICATION): _Step(PeerState.IDLE, Connection._refused),
    (PeerState.OPEN_CONFIRM, Kind.KEEPALIVE): _Step(PeerState.ESTABLISHED, Connection._established),
    (PeerState.OPEN_CONFIRM, Kind.NOTIFICATION): _Step(PeerState.IDLE, Connection._refused),
    (PeerState.ESTABLISHED, Kind.KEEPALIVE): _Step(PeerState.ESTABLISHED, Connection._alive),
    (PeerState.ESTABLISHED, Kind.UPDATE): _Step(PeerState.ESTABLISHED, Connection._told),
    (PeerState.ESTABLISHED, Kind.ROUTE_REFRESH): _Step(PeerState.ESTABLISHED, Connection._asked),
    (PeerState.ESTABLISHED, Kind.NOTIFICATION): _Step(PeerState.IDLE, Connection._refused),
}

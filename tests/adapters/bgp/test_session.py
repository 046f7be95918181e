"""Two sessions joined in memory: they come up, tell each other what they should, and end with the right words."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from bgp_pair import Pair, heard, local_end
from lbcore.adapters.base import Send
from lbcore.adapters.bgp.capabilities import Capabilities, GracefulRestart
from lbcore.adapters.bgp.connection import SessionSettings
from lbcore.adapters.bgp.messages import (
    KEEPALIVE,
    Framer,
    Kind,
    Open,
    RouteRefresh,
    decode_notification,
    decode_open,
    encode_notification,
    encode_open,
    encode_route_refresh,
    frame,
)
from lbcore.adapters.bgp.notifications import Cease, Notification, cease
from lbcore.adapters.bgp.session import Dial, Drop, Session, SessionOutput, Side
from lbcore.adapters.bgp.updates import decode_update
from lbcore.addresses import Address, Family
from lbcore.bgp import Community, DynamicASN
from lbcore.routes import Path, PeerState, Prefix

BOTH = frozenset(Family)


def settings(asn: int = 64513, peer_asn: int | DynamicASN = 64512, **more: Any) -> SessionSettings:
    return SessionSettings(asn=asn, peer_asn=peer_asn, families=BOTH, **more)


def ebgp(**more: Any) -> Pair:
    return Pair(settings(64513, 64512, **more), settings(64512, 64513))


def ibgp() -> Pair:
    return Pair(settings(64512, 64512), settings(64512, 64512))


def prefixes(count: int) -> list[Prefix]:
    half = count // 2
    return [Prefix(4, (10 << 24) + n, 32) for n in range(half)] + [
        Prefix(6, (0x20010DB8 << 96) + n, 128) for n in range(count - half)
    ]


def notifications(pair: Pair) -> list[Notification]:
    return [decode_notification(body) for end in pair.ends for kind, body in end.sent if kind == Kind.NOTIFICATION]


@pytest.mark.parametrize("make", [ebgp, ibgp])
def test_two_speakers_come_up_and_tell_their_routes(make: Callable[[], Pair]) -> None:
    pair, wanted = make(), prefixes(2000)
    for prefix in wanted[:1000]:
        pair.a.session.offer(prefix, Path(), pair.now)
    pair.start()
    pair.run(1)
    assert pair.up()
    for prefix in wanted[1000:]:
        pair.a.session.offer(prefix, Path(), pair.now)
    pair.run(3)
    found, count = heard(pair.a, internal=make is ibgp)
    assert set(wanted) == found
    assert count < 20
    assert (2000, 2000) == (pair.a.session.status.advertised, pair.b.session.status.received)
    assert [] == [each for each in notifications(pair) if (each.code, each.subcode) != (6, 7)]


def test_one_change_among_ten_thousand_is_one_message() -> None:
    pair, wanted = ebgp(), prefixes(10_000)
    for prefix in wanted:
        pair.a.session.offer(prefix, Path(), pair.now)
    pair.start()
    pair.run(2)
    assert 10_000 == pair.a.session.status.advertised
    _, before = heard(pair.a)
    pair.a.session.offer(wanted[7], None, pair.now)
    pair.a.session.offer(wanted[8], Path(local_pref=5), pair.now)
    pair.a.session.offer(wanted[9], None, pair.now)
    pair.a.session.offer(wanted[9], Path(), pair.now)
    assert 2 == pair.a.session.outbox.pending
    pair.run(1)
    found, after = heard(pair.a)
    assert (set(wanted) - {wanted[7]}, 2) == (found, after - before)
    assert 9_999 == pair.a.session.status.advertised


def test_a_wish_taken_back_before_it_was_told_is_never_told() -> None:
    pair = ebgp()
    pair.start()
    pair.run(1)
    _, before = heard(pair.a)
    pair.a.session.offer(prefixes(2)[1], Path(), pair.now)
    pair.a.session.offer(prefixes(2)[1], None, pair.now)
    pair.run(1)
    assert (set(), before) == heard(pair.a)


def test_the_end_of_the_routes_is_marked_once_for_each_family() -> None:
    pair = ebgp()
    for prefix in prefixes(3000):
        pair.a.session.offer(prefix, Path(), pair.now)
    pair.start()
    pair.run(2)
    marks = [body for kind, body in pair.a.sent if kind == Kind.UPDATE][-2:]
    assert [bytes(4), bytes.fromhex("00000006800f03000201")] == marks
    assert 1 == sum(body == bytes(4) for _, body in pair.a.sent)


def test_a_lost_session_is_told_everything_again() -> None:
    pair, wanted = ebgp(), set(prefixes(50))
    for prefix in wanted:
        pair.a.session.offer(prefix, Path(), pair.now)
    pair.start()
    pair.run(1)
    for side in Side:
        pair.cut(pair.a, side)
    pair.settle()
    assert not pair.up()
    assert 1 == pair.a.session.status.flaps
    assert "closed the connection" in pair.a.session.status.error
    pair.run(5)
    assert pair.up()
    assert wanted == heard(pair.a)[0]
    assert "" == pair.a.session.status.error


def test_a_router_that_asks_again_is_told_again() -> None:
    pair = ebgp()
    for prefix in prefixes(10):
        pair.a.session.offer(prefix, Path(), pair.now)
    pair.start()
    pair.run(1)
    _, before = heard(pair.a)
    side = next(iter(pair.a.wires))
    pair.a.wires[side].data += encode_route_refresh(RouteRefresh(Family.IPV6))
    pair.run(1)
    _, after = heard(pair.a)
    assert 1 == after - before
    assert 10 == pair.a.session.status.advertised


@pytest.mark.parametrize(("ids", "stays"), [((1, 2), Side.ACCEPTED), ((2, 1), Side.DIALED), ((5, 5), Side.DIALED)])
def test_of_two_connections_that_of_the_higher_router_id_stays(ids: tuple[int, int], stays: Side) -> None:
    pair = Pair(settings(64513, 64512), settings(64512, 64513), ids)
    pair.start()
    for end in pair.ends:
        pair.answer_dial(end)
    assert (2, 2) == (len(pair.a.wires), len(pair.b.wires))
    pair.settle()
    assert pair.up()
    assert [stays] == list(pair.a.wires)
    assert {(6, 7)} == {(each.code, each.subcode) for each in notifications(pair)}
    assert ("", 0) == (pair.a.session.status.error, pair.a.session.status.flaps)


def test_an_established_connection_stays_whoever_comes() -> None:
    played = Played()
    played.come_up(router(router_id="10.9.9.9"))  # higher than ours: without the rule the new one would stay
    played.take(played.session.connected(Side.ACCEPTED, local_end(1), played.now))
    outputs = played.session.receive(Side.ACCEPTED, encode_open(router()), played.now)
    dropped = [output.side for output in outputs if isinstance(output, Drop)]
    assert ([Side.ACCEPTED], PeerState.ESTABLISHED) == (dropped, played.session.status.state)


# One session, and a peer that is played by hand.


class Played:
    """A session and everything it says; `say` puts bytes into its connection."""

    def __init__(self, **more: Any) -> None:
        self.session = Session("router", settings(**more), random.Random(3))
        self.now = 50.0
        self.framer = Framer()
        self.said: list[tuple[int, bytes]] = []
        self.dropped: list[str] = []
        self.dials = 0
        self.take(self.session.start(self.now))

    def take(self, outputs: Iterable[SessionOutput]) -> None:
        for output in outputs:
            match output:
                case Send(data, _):
                    self.said += self.framer.feed(data)
                case Drop(_, reason):
                    self.dropped.append(reason)
                    self.framer = Framer()
                case Dial():
                    self.dials += 1

    def connect(self, **more: Any) -> None:
        end = local_end(1, **more)
        self.take(self.session.connected(Side.DIALED, end, self.now))

    def say(self, *messages: bytes) -> None:
        self.take(self.session.receive(Side.DIALED, b"".join(messages), self.now))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.session.deadline) is not None and at <= until:
            self.now = max(self.now, at)
            self.take(self.session.tick(self.now))
        self.now = until

    def come_up(self, peer: Open | None = None) -> None:
        self.connect()
        self.say(encode_open(peer or router()), KEEPALIVE)
        assert PeerState.ESTABLISHED is self.session.status.state

    @property
    def last_words(self) -> Notification:
        return decode_notification([body for kind, body in self.said if kind == Kind.NOTIFICATION][-1])


def router(asn: int = 64512, hold_time: int = 90, router_id: str = "10.9.9.9", **more: Any) -> Open:
    capabilities = Capabilities(families=more.pop("families", BOTH), asn=asn, **more)
    return Open(asn=min(asn, 65535), hold_time=hold_time, router_id=Address.parse(router_id), capabilities=capabilities)


@pytest.mark.parametrize(
    ("peer", "wanted", "code"),
    [
        (router(asn=64999), 64512, (2, 2)),
        (router(asn=64513), DynamicASN.EXTERNAL, (2, 2)),
        (router(asn=64512), DynamicASN.INTERNAL, (2, 2)),
        (router(asn=64513, router_id="10.0.0.1"), 64513, (2, 3)),
    ],
)
def test_the_wrong_peer_is_refused_with_the_right_code(
    peer: Open, wanted: int | DynamicASN, code: tuple[int, int]
) -> None:
    played = Played(peer_asn=wanted)
    played.connect()
    played.say(encode_open(peer))
    assert code == (played.last_words.code, played.last_words.subcode)
    assert "AS " in played.session.status.error or "router ID" in played.session.status.error
    assert 1 == len(played.dropped)


@pytest.mark.parametrize(("dynamic", "asn"), [(DynamicASN.EXTERNAL, 4200000000), (DynamicASN.INTERNAL, 64513)])
def test_the_peer_may_say_its_as_number_itself(dynamic: DynamicASN, asn: int) -> None:
    played = Played(peer_asn=dynamic)
    played.come_up(router(asn=asn))
    negotiated = played.session.negotiated
    assert negotiated is not None
    assert (dynamic is DynamicASN.INTERNAL) == negotiated.internal


@pytest.mark.parametrize(
    ("before", "message", "code"),
    [
        ([], KEEPALIVE, (5, 1)),
        ([], frame(Kind.UPDATE, bytes(4)), (5, 1)),
        ([encode_open(router())], frame(Kind.UPDATE, bytes(4)), (5, 2)),
        ([encode_open(router())], encode_open(router()), (5, 2)),
        ([encode_open(router()), KEEPALIVE], encode_open(router()), (5, 3)),
        ([encode_open(router()), KEEPALIVE], b"x" * 19, (1, 1)),
        ([encode_open(router()), KEEPALIVE], b"\xff" * 16 + b"\x10\x01\x02", (1, 2)),
        ([encode_open(router()), KEEPALIVE], frame(Kind.UPDATE, b"\xff\xff\0\0"), (3, 1)),
    ],
)
def test_a_message_out_of_place_ends_it_with_the_right_code(
    before: list[bytes], message: bytes, code: tuple[int, int]
) -> None:
    played = Played()
    played.connect()
    played.say(*before, message)
    assert code == (played.last_words.code, played.last_words.subcode)
    assert 1 == len(played.dropped)
    assert PeerState.ACTIVE is played.session.status.state


def test_a_peer_that_falls_silent_is_told_so_when_the_hold_time_is_over() -> None:
    played = Played(hold_time=9)
    played.come_up()
    played.wait(8.9)
    played.say(frame(Kind.UPDATE, bytes(4)))  # an UPDATE is as good as a KEEPALIVE
    played.wait(8.9)
    assert PeerState.ESTABLISHED is played.session.status.state
    played.wait(0.2)
    assert Notification(4) == played.last_words
    assert "nothing was heard of the peer for 9 s (hold timer expired)" == played.session.status.error


def test_we_keep_alive_three_times_in_a_hold_time() -> None:
    played = Played(hold_time=90)
    played.come_up(router(hold_time=9))
    before = sum(kind == Kind.KEEPALIVE for kind, _ in played.said)
    for _ in range(12):
        played.wait(5)
        played.say(KEEPALIVE)
    sent = sum(kind == Kind.KEEPALIVE for kind, _ in played.said) - before
    assert 20 <= sent <= 27


def test_a_hold_time_of_zero_means_no_timers() -> None:
    played = Played()
    played.come_up(router(hold_time=0))
    count = len(played.said)
    played.wait(10_000)
    assert PeerState.ESTABLISHED is played.session.status.state
    assert {Kind.UPDATE} == {kind for kind, _ in played.said[count:]}


def test_a_peer_that_takes_the_connection_and_says_nothing_is_given_up() -> None:
    played = Played()
    played.connect()
    played.wait(30.5)
    assert Notification(4) == played.last_words
    assert "the peer took the connection and sent no OPEN in 30 s" == played.session.status.error
    # One whose packets are dropped for their TTL looks the same.
    played = Played(ttl_security=True)
    played.connect()
    played.wait(30.5)
    assert played.session.status.error.endswith("; does it send with a TTL of 255 (ttl-security)?")


def test_what_the_backend_suspects_is_said_where_nobody_answers() -> None:
    played = Played()
    played.session.suspect("it is far away")
    played.wait(10)
    assert "no answer in 10 s; it is far away" == played.session.status.error


def test_nobody_answers_and_the_pauses_grow() -> None:
    played = Played()
    played.wait(10)
    assert (1, ["no answer"]) == (played.dials, played.dropped)
    assert "no answer in 10 s; is it reachable, and does it want a password?" == played.session.status.error
    played.wait(600)
    assert 15 <= played.dials <= 22  # 10 s for each, and 1, 2, 4 ... 30 s between them


def test_a_peer_that_accepts_and_then_notifies_is_not_asked_in_a_tight_loop() -> None:
    played = Played()
    for _ in range(3000):
        played.wait(0.2)
        if played.dials > len(played.dropped):
            played.come_up()
            played.say(encode_notification(cease(Cease.RESOURCES)))
    assert 20 <= played.dials <= 35
    assert "the peer ended the session: cease: out of resources" == played.session.status.error
    assert played.dials == played.session.status.flaps


def test_a_session_that_was_proven_is_tried_again_at_once() -> None:
    played = Played()
    played.wait(300)
    played.come_up()
    for _ in range(10):
        played.wait(10)
        played.say(KEEPALIVE)
    played.take(played.session.closed(Side.DIALED, "connection reset", played.now))
    before = played.dials
    played.wait(1.3)
    assert 1 == played.dials - before


def test_a_connect_retry_of_the_operator_is_kept() -> None:
    played = Played(connect_retry=5)
    for _ in range(3):
        before = played.dials
        played.take(played.session.failed("connection refused", played.now))
        played.wait(3.7)
        assert 0 == played.dials - before
        played.wait(2.6)
        assert 1 == played.dials - before
    assert "connection refused" == played.session.status.error


def test_a_peer_that_does_not_read_is_given_up() -> None:
    played = Played()
    played.come_up()
    played.take(played.session.drained(Side.DIALED, 300_000, played.now))
    for _ in range(47):
        played.wait(10)
        played.say(KEEPALIVE)
        played.take(played.session.drained(Side.DIALED, 300_000, played.now))
    assert PeerState.ESTABLISHED is played.session.status.state
    played.wait(11)
    assert Notification(8) == played.last_words


def test_no_more_is_made_than_the_peer_takes() -> None:
    played = Played()
    for prefix in (Prefix(6, n << 64, 128) for n in range(50_000)):
        played.session.offer(prefix, Path(), played.now)
    played.come_up()
    played.take(played.session.drained(Side.DIALED, 300_000, played.now))
    count = len(played.said)
    played.wait(5)
    assert {Kind.KEEPALIVE} >= {kind for kind, _ in played.said[count:]}
    played.take(played.session.drained(Side.DIALED, 0, played.now))
    played.wait(0)
    assert 50_000 == played.session.status.advertised


def test_the_last_words_of_a_stop_are_told() -> None:
    played = Played()
    played.come_up()
    played.take(played.session.stop(cease(Cease.SHUTDOWN, "maintenance"), played.now))
    assert "maintenance" == played.last_words.communication
    played.wait(1000)
    assert (1, PeerState.IDLE, None) == (played.dials, played.session.status.state, played.session.deadline)


def test_a_stop_without_words_only_closes_so_that_routes_are_kept() -> None:
    played = Played(restart_time=120)
    played.come_up()
    played.take(played.session.stop(None, played.now))
    assert ([], 1) == ([kind for kind, _ in played.said if kind == Kind.NOTIFICATION], len(played.dropped))


def test_graceful_restart_is_offered_with_its_flags() -> None:
    played = Played(restart_time=120, restarted=True)
    played.connect()
    said = decode_open(played.said[0][1]).capabilities
    families = ((Family.IPV4, True), (Family.IPV6, True))
    assert GracefulRestart(seconds=120, restarted=True, families=families) == said.graceful_restart
    assert said.extended_next_hop  # the connection is over IPv6


@pytest.mark.parametrize("theirs", [frozenset[Family](), frozenset({Family.IPV4}), frozenset({Family.IPV6})])
def test_only_families_of_both_are_told(theirs: frozenset[Family]) -> None:
    played = Played()
    for prefix in prefixes(2):
        played.session.offer(prefix, Path(), played.now)
    played.come_up(router(families=theirs))
    played.wait(1)
    assert 1 == played.session.status.advertised
    missing = "IPv4" if theirs == {Family.IPV6} else "IPv6"
    assert f"the peer takes no {missing} routes" in played.session.status.error


@pytest.mark.parametrize("extended", [True, False])
def test_ipv4_over_ipv6_needs_the_extended_next_hop_or_an_ipv4_address(extended: bool) -> None:
    played = Played()
    played.session.offer(prefixes(2)[0], Path(), played.now)
    played.come_up(router(extended_next_hop=extended))
    negotiated = played.session.negotiated
    assert negotiated is not None
    version = negotiated.next_hops[Family.IPV4].address.version
    assert (6 if extended else 4) == version


def test_the_state_and_its_numbers_are_reported_without_a_flood() -> None:
    pair = ebgp()
    pair.start()
    pair.run(1)
    before = len(pair.a.reports)
    for index, prefix in enumerate(prefixes(1000)):
        pair.a.session.offer(prefix, Path(), pair.now)
        if index % 10 == 0:
            pair.pass_time(0.02)
    pair.run(3)
    assert len(pair.a.reports) - before <= 6
    status = pair.a.reports[-1].status
    assert status is not None
    assert (PeerState.ESTABLISHED, 1000) == (status.state, status.advertised)


@pytest.mark.parametrize("make", [ebgp, ibgp])
def test_a_session_that_is_left_tells_all_routes_as_the_last_to_be_used_and_back_again(
    make: Callable[[], Pair],
) -> None:
    """RFC 8326: the community GRACEFUL_SHUTDOWN to an external peer, LOCAL_PREF 0 to an internal one."""
    pair, wanted = make(), prefixes(20)
    for prefix in wanted:
        pair.a.session.offer(prefix, Path(local_pref=200, communities=(Community((1, 2)),)), pair.now)
    pair.start()
    pair.run(1)
    usual = told_attributes(pair, internal=make is ibgp)
    pair.a.session.leave(leaving=True, now=pair.now)
    pair.a.session.leave(leaving=True, now=pair.now)
    pair.a.session.offer(wanted[0], None, pair.now)
    pair.run(1)
    leaving = told_attributes(pair, internal=make is ibgp)
    gone = wanted.pop(0)
    assert gone not in heard(pair.a, internal=make is ibgp)[0]
    if make is ibgp:
        assert {(0, (Community((1, 2)),))} == {leaving[prefix] for prefix in wanted}
    else:
        assert {(None, (Community((1, 2)), Community((65535, 0))))} == {leaving[prefix] for prefix in wanted}
    pair.a.session.leave(leaving=False, now=pair.now)
    pair.run(1)
    assert {prefix: usual[prefix] for prefix in wanted} == {
        prefix: told_attributes(pair, internal=make is ibgp)[prefix] for prefix in wanted
    }
    assert 19 == pair.a.session.status.advertised


def told_attributes(pair: Pair, *, internal: bool) -> dict[Prefix, tuple[int | None, tuple[Community, ...]]]:
    """What the other end was told last of each prefix."""
    found: dict[Prefix, tuple[int | None, tuple[Community, ...]]] = {}
    for kind, body in pair.a.sent:
        if kind == Kind.UPDATE:
            update = decode_update(body, four_octets=True, internal=internal)
            for each in update.announced:
                attributes = update.attributes
                found.update(dict.fromkeys(each.prefixes(), (attributes.local_pref, attributes.communities)))
    return found

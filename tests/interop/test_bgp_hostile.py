"""Routers that misbehave: nonsense, oversized and half messages, a NOTIFICATION for a greeting, silence, a flood.

Sockets of the router's end for what no router would send, and ExaBGP for UPDATEs with broken attributes. At
every moment another peer has a session that nothing of it may touch.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path as Folder

import pytest
from attrs import evolve
from scapy.contrib import bgp as scapy_bgp

from bgp_link import NODE, ROUTER, Cable, Speaking, prefixes, session
from lbcore.adapters.bgp.capabilities import Capabilities
from lbcore.adapters.bgp.messages import KEEPALIVE, Framer, Kind, Open, encode_notification, encode_open, frame
from lbcore.adapters.bgp.notifications import Cease, cease
from lbcore.addresses import Address, Family
from lbcore.intents import AdvertiseRoute
from lbcore.routes import Offer, Path, PeerState

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns")]

GREETER = Open(
    asn=64512,
    hold_time=9,
    router_id=Address.parse("10.255.0.1"),
    capabilities=Capabilities(families=frozenset(Family), asn=64512),
)
GREETING = encode_open(GREETER)


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


class Well(threading.Thread):
    """A router that behaves, so that it can be seen whether another's misdeeds touch it. It counts what it is told."""

    def __init__(self, cable: Cable) -> None:
        super().__init__(daemon=True)
        self.listener = cable.listener(ROUTER[6])
        self.updates = 0
        self.connections = 0

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                with connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(GREETING + KEEPALIVE)
        connection.settimeout(1.0)
        framer = Framer()
        while True:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                connection.sendall(KEEPALIVE)
                continue
            if not data:
                return
            self.updates += sum(kind == Kind.UPDATE for kind, _ in framer.feed(data))


@pytest.fixture(scope="module")
def well(cable: Cable) -> Iterator[Well]:
    well = Well(cable)
    well.start()
    yield well
    well.listener.close()


@contextlib.contextmanager
def beside(cable: Cable, well: Well) -> Iterator[tuple[Speaking, socket.socket]]:
    """A speaker with a hostile peer `bad`, whose socket waits, and a good one that must not lose its session."""
    before = well.connections
    peers = session("bad", ROUTER[4]), session("good", ROUTER[6])
    with cable.listener(ROUTER[4]) as listener, cable.speaking(*peers) as speaking:
        speaking.wait_up("good")
        yield speaking, listener
        speaking.wait_up("good")
        assert (before + 1, 0) == (well.connections, speaking.sessions["good"].flaps)
        # It is still told what is new.
        told = well.updates
        speaking.advertise(prefixes(1, 6), "good")
        speaking.wait(lambda: well.updates > told, "an UPDATE for the good one")


def answer_of(connection: socket.socket) -> tuple[int, int]:
    """The NOTIFICATION that ends a connection, read by scapy."""
    connection.settimeout(10.0)
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            data += more
    for kind, body in Framer().feed(data):
        if kind == Kind.NOTIFICATION:
            read = scapy_bgp.BGP(frame(kind, body))[scapy_bgp.BGPNotification]
            return read.error_code, read.error_subcode
    raise AssertionError(f"ended without a NOTIFICATION, after {data!r}")


def raw(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A message whose header may lie about its length."""
    return b"\xff" * 16 + struct.pack("!HB", length if length is not None else 19 + len(body), kind) + body


UP = GREETING + KEEPALIVE
BAD = {
    "no marker": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (1, 1), "marker"),
    "oversized": (UP + raw(Kind.UPDATE, bytes(5000)), (1, 2), "5019 octets"),
    "undersized": (UP + raw(Kind.UPDATE, b"", 19), (1, 2), "19 octets"),
    "unknown type": (UP + raw(9, b""), (1, 3), "type 9"),
    "wrong version": (raw(Kind.OPEN, struct.pack("!BHH4sB", 3, 64512, 9, b"abcd", 0)), (2, 1), "version 3"),
    "wrong AS": (raw(Kind.OPEN, struct.pack("!BHH4sB", 4, 64999, 9, b"abcd", 0)), (2, 2), "AS 64999"),
    "bad hold time": (raw(Kind.OPEN, struct.pack("!BHH4sB", 4, 64512, 1, b"abcd", 0)), (2, 6), "hold time"),
    "routes before the greeting": (raw(Kind.UPDATE, bytes(4)), (5, 1), "type 2"),
    "a second greeting": (UP + GREETING, (5, 3), "type 1"),
    "withdrawals beyond the end": (UP + raw(Kind.UPDATE, b"\xff\xff\0\0"), (3, 1), "longer than the message"),
    "attributes beyond the end": (UP + raw(Kind.UPDATE, b"\0\0\xff\xff"), (3, 1), "longer than the message"),
    "a prefix of 33 bits": (UP + raw(Kind.UPDATE, b"\0\0\0\0\x21abcde"), (3, 10), "prefix"),
}


def test_each_breach_is_answered_with_its_code_and_told_in_words(cable: Cable, well: Well) -> None:
    with beside(cable, well) as (speaking, listener):
        for data, code, words in BAD.values():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(data)
                assert code == answer_of(connection)
            assert "the peer sent" in speaking.wait_error("bad", words)


def test_a_router_that_notifies_closes_or_resets_at_once_is_not_asked_in_a_tight_loop(cable: Cable, well: Well) -> None:
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    farewell = encode_notification(cease(Cease.REJECTED))
    answers: list[tuple[Callable[[socket.socket], None], str]] = [
        (lambda each: each.sendall(farewell), "connection rejected"),
        (lambda each: each.sendall(UP + farewell), "connection rejected"),
        (lambda each: None, "closed the connection without a word"),
        (reset, "reset"),
    ]
    peer = session("bad", ROUTER[4], connect_time=None)
    for answer, words in answers:
        with cable.listener(ROUTER[4]) as listener, cable.speaking(peer) as speaking:
            end, count = time.monotonic() + 2.5, 0
            while (left := end - time.monotonic()) > 0:
                listener.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    count += 1
                    connection.settimeout(5.0)
                    connection.recv(4096)
                    answer(connection)
                    connection.close()
            assert 1 <= count <= 3  # at 0, 1 and 3 s, give or take a quarter
            assert words in speaking.sessions["bad"].error.lower()


def test_a_router_that_floods_is_counted_and_nothing_of_it_is_kept(cable: Cable, well: Well) -> None:
    update = raw(Kind.UPDATE, b"\0\0" + b"\0\x14" + bytes.fromhex("40010100 400206020100 00fc00 400304c0000201")
                 + b"".join(b"\x20" + (n).to_bytes(4, "big") for n in range(1 << 24, (1 << 24) + 700)))  # fmt: skip
    with beside(cable, well) as (speaking, listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(UP + update * 200)
            speaking.wait(lambda: speaking.sessions["bad"].received == 140_000, "140,000 prefixes to be counted")
            assert PeerState.ESTABLISHED is speaking.sessions["bad"].state


def test_a_router_that_reads_nothing_keeps_no_other_waiting(cable: Cable, well: Well) -> None:
    with beside(cable, well) as (speaking, listener):
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(encode_open(evolve(GREETER, hold_time=0)) + KEEPALIVE)  # without timers
            speaking.wait_up("bad")
            # A path each, so a message each: 600 kB.
            speaking.apply(
                *(
                    AdvertiseRoute(prefix=prefix, offers=(Offer("bad", Path(local_pref=number)),))
                    for number, prefix in enumerate(prefixes(12_000, 4))
                )
            )
            # What waits stays bounded: the rest is not made before there is room.
            time.sleep(2.0)
            assert 0 < speaking.sessions["bad"].advertised < 12_000
            assert PeerState.ESTABLISHED is speaking.sessions["bad"].state


@pytest.mark.needs("exabgp")
def test_broken_attributes_of_exabgp_withdraw_routes_and_keep_the_session(
    cable: Cable, well: Well, tmp_path: Folder
) -> None:
    lines = [
        "attribute [ 0x01 0x40 0x09 ]",  # an ORIGIN that there is not
        "attribute [ 0x04 0x80 0x01 ]",  # a MED of one octet
        "attribute [ 0x08 0xc0 0x0102 ]",  # half a community
        "attribute [ 0x20 0xc0 0x010203 ]",  # a quarter of a large one
        "attribute [ 0x63 0xc0 0x01020304 ]",  # of a kind that nobody knows
        "attribute [ 0x07 0xc0 0x00 ]",  # an AGGREGATOR too short
        "",
    ]
    routes = "".join(f"route 203.0.113.{n}/32 next-hop {ROUTER[4]} {each};\n" for n, each in enumerate(lines))
    config = tmp_path / "exabgp.conf"
    config.write_text(
        f"neighbor {NODE[4]} {{ router-id 10.255.0.1; local-address {ROUTER[4]}; local-as 64512; peer-as 64513; "
        f"hold-time 9; passive true; static {{ {routes} }} }}\n"
    )
    settings = {"exabgp.daemon.user": "root", "exabgp.tcp.bind": ROUTER[4], "exabgp.tcp.port": "179",
                "exabgp.daemon.drop": "false", "exabgp.cli.pipe": "", "exabgp.log.destination": "stdout"}  # fmt: skip
    with (tmp_path / "log").open("ab") as log:
        program = cable.router.spawn(["exabgp", str(config)], env=os.environ | settings, stdout=log, stderr=log)
    try:
        with cable.speaking(session("bad", ROUTER[4]), session("good", ROUTER[6])) as speaking:
            speaking.wait(lambda: speaking.sessions["bad"].received > 0, "routes of ExaBGP")
            time.sleep(0.5)
            assert (PeerState.ESTABLISHED, 0) == (speaking.sessions["bad"].state, speaking.sessions["bad"].flaps)
            assert speaking.sessions["bad"].received < len(lines)
            assert 0 == speaking.sessions["good"].flaps
    finally:
        program.kill()
        program.wait()

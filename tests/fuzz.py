"""Nonsense for every decoder of what comes from a wire: good messages, mutated; only declared errors may come of it.

`python tests/fuzz.py [INPUTS [SEED]]` goes on for so many inputs (a million), on every core; `make soak` begins
with that, and the tests with a fixed share.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from attrs import frozen

from lbcore.adapters import arp, ndp
from lbcore.adapters.bfd import packets as bfd
from lbcore.adapters.bgp.attributes import Attributes
from lbcore.adapters.bgp.capabilities import Capabilities, GracefulRestart
from lbcore.adapters.bgp.connection import Connection, LocalEnd, SessionSettings
from lbcore.adapters.bgp.discovery import ADVERTISEMENT, check_advertisement
from lbcore.adapters.bgp.messages import (
    KEEPALIVE,
    Framer,
    Open,
    RouteRefresh,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_open,
    encode_route_refresh,
)
from lbcore.adapters.bgp.notifications import Cease, cease
from lbcore.adapters.bgp.updates import NextHop, announcements, decode_update, end_of_rib, withdrawals
from lbcore.adapters.ndp import NeighborSolicitation
from lbcore.addresses import Address, Family
from lbcore.bfd import BfdState
from lbcore.bgp import Community
from lbcore.errors import RemoteProtocolError
from lbcore.routes import Prefix

__all__ = ["DECODERS", "fuzz"]

V4, V6 = Address.parse("192.0.2.1"), Address.parse("2001:db8::1")
MAC = bytes.fromhex("020000000001")


@frozen
class Decoder:
    """What is fed, and good messages to begin with. What it gives back, it may not have made out of nothing."""

    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def _opens() -> tuple[bytes, ...]:
    families = frozenset(Family)
    kept = tuple((family, True) for family in Family)
    capabilities = (
        Capabilities(),
        Capabilities(families=families, asn=4_200_000_000, extended_next_hop=True, route_refresh=True),
        Capabilities(
            families=families, asn=1, graceful_restart=GracefulRestart(seconds=9, restarted=True, families=kept)
        ),
    )
    return tuple(encode_open(Open(asn=1, hold_time=9, router_id=V4, capabilities=each)) for each in capabilities)


def _updates() -> tuple[bytes, ...]:
    four = [Prefix(4, (10 << 24) + number, 32) for number in range(3)] + [Prefix(4, 10 << 24, 9)]
    six = [Prefix(6, (0xFD << 120) + number, 128) for number in range(3)] + [Prefix(6, 0xFD << 120, 33)]
    communities = (Community((1, 2)), Community((1, 2, 3)))
    attributes = Attributes(as_path=(64512, 4_200_000_000), local_pref=7, med=1, communities=communities)
    made = [*withdrawals(four, Family.IPV4), *withdrawals(six, Family.IPV6), *map(end_of_rib, Family)]
    for four_octets in (False, True):
        made += announcements(four, Family.IPV4, attributes, NextHop(V4), four_octets=four_octets)
        made += announcements(six, Family.IPV6, attributes, NextHop(V6, V6), four_octets=four_octets)
        made += announcements(four, Family.IPV4, attributes, NextHop(V6), four_octets=four_octets)
    return tuple(made)


def _update(four_octets: bool, internal: bool, body: bytes) -> None:
    if len(body) < 4:
        return  # the frame sees to that
    update = decode_update(body, four_octets=four_octets, internal=internal)
    # A prefix takes an octet at least, and each is read once.
    assert sum(each.count for each in (*update.announced, *update.withdrawn)) <= len(body)
    for each in (*update.announced, *update.withdrawn):
        assert each.count == sum(1 for _ in each.prefixes())


def _connection(data: bytes) -> None:
    """The whole state machine: nothing is raised, and what it says is messages."""
    settings = SessionSettings(asn=64513, peer_asn=1, families=frozenset(Family))
    connection = Connection(settings, LocalEnd(over=Family.IPV6, router_id=V4, ipv6=V6, ipv4=V4), 0.0, random.Random(1))
    for at in range(0, len(data), 97):
        for answer in connection.receive(data[at : at + 97], 1.0):
            assert 1 == len(list(Framer().feed(answer)))
        if connection.failure is not None:
            assert connection.failure.isprintable(), connection.failure
            return


def _framed(decode: Callable[[bytes], object], least: int, body: bytes) -> object:
    return decode(body) if len(body) >= least else None


def _bodies(messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(each[19:] for each in messages)


_OPENS, _UPDATES = _opens(), _updates()
_WORDS = (encode_notification(cease(Cease.SHUTDOWN, "maintenance")), encode_notification(cease(Cease.COLLISION)))
_REFRESHES = tuple(encode_route_refresh(RouteRefresh(family)) for family in Family)

_WATCH = bfd.ControlPacket(
    state=BfdState.UP, detect_multiplier=3, mine=1, yours=2, desired_min_tx=100_000, required_min_rx=100_000
)

DECODERS: Mapping[str, Decoder] = {
    "BGP OPEN": Decoder(partial(_framed, decode_open, 10), _bodies(_OPENS)),
    "BGP UPDATE": Decoder(partial(_update, True, False), _bodies(_UPDATES)),
    "BGP UPDATE, old and internal": Decoder(partial(_update, False, True), _bodies(_UPDATES)),
    "BGP NOTIFICATION": Decoder(partial(_framed, lambda body: str(decode_notification(body)), 2), _bodies(_WORDS)),
    "BGP ROUTE-REFRESH": Decoder(decode_route_refresh, _bodies(_REFRESHES)),
    "BGP frames": Decoder(lambda data: list(Framer().feed(data)), (*_OPENS, *_UPDATES, KEEPALIVE * 3)),
    "a BGP connection": Decoder(
        _connection, tuple(greeting + KEEPALIVE + b"".join(_UPDATES) + _REFRESHES[0] + _WORDS[0] for greeting in _OPENS)
    ),
    "Router Advertisement": Decoder(lambda data: check_advertisement(data, 255), (ADVERTISEMENT,)),
    "BFD": Decoder(bfd.decode, (bfd.encode(_WATCH),)),
    "ARP": Decoder(arp.decode, (arp.encode(arp.gratuitous_request(V4, MAC)),)),
    "NDP": Decoder(
        ndp.decode,
        (
            ndp.encode(
                NeighborSolicitation(
                    source=V6, destination=V6, target=V6, source_mac=MAC, destination_mac=MAC, link_layer=MAC
                )
            ),
        ),
    ),
}


def _mutated(rng: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del data[at : at + rng.randrange(1, 9)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                data[at:at] = data[at : at + rng.randrange(1, 64)]
            case _:
                del data[at:]
    return bytes(data)


def fuzz(inputs: int, seed: int) -> dict[str, int]:
    """Feed so many inputs, to all decoders in turn; how many of each were refused. Raises what was not declared."""
    rng = random.Random(seed)
    refused = dict.fromkeys(DECODERS, 0)
    for number in range(inputs):
        name = list(DECODERS)[number % len(DECODERS)]
        decoder = DECODERS[name]
        data = _mutated(rng, rng.choice(decoder.seeds)) if rng.random() < 0.95 else rng.randbytes(rng.randrange(200))
        try:
            decoder.decode(data)
        except RemoteProtocolError:
            refused[name] += 1
        except Exception as error:
            error.add_note(f"{name} of {data.hex()}, input {number} of seed {seed}")
            raise
    return refused


def _main(inputs: int, seed: int) -> None:
    jobs, slice_ = os.cpu_count() or 1, 10_000
    began, done = time.monotonic(), 0
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(partial(fuzz, slice_), range(seed, seed + -(-inputs // slice_))):
            done += slice_
            share = sum(part.values()) / slice_
            if sys.stdout.isatty():
                print(f"\r{done:,} inputs, {share:.0%} refused", end="", flush=True)
    print(f"\r{done:,} inputs for {len(DECODERS)} decoders in {time.monotonic() - began:.0f} s; nothing undeclared")


if __name__ == "__main__":
    _main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)

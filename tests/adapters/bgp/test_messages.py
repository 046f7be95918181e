"""BGP messages but UPDATE: round trips, vectors by hand, scapy as another reader, and garbage refused in words."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.contrib import bgp as scapy_bgp

from lbcore.adapters.bgp.capabilities import (
    Capabilities,
    GracefulRestart,
    decode_capabilities,
    encode_capabilities,
)
from lbcore.adapters.bgp.messages import (
    KEEPALIVE,
    Framer,
    Kind,
    Open,
    RouteRefresh,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_open,
    encode_route_refresh,
    frame,
)
from lbcore.adapters.bgp.notifications import BgpError, Cease, Code, Notification, cease
from lbcore.addresses import Address, Family
from lbcore.errors import LocalProtocolError

asns = st.integers(1, 0xFFFFFFFF)
restarts = st.builds(
    GracefulRestart,
    seconds=st.integers(0, 0xFFF),
    restarted=st.booleans(),
    families=st.sampled_from(
        [(), ((Family.IPV6, True),), ((Family.IPV4, False), (Family.IPV6, True)), ((Family.IPV4, True),)]
    ),
)
capabilities = st.builds(
    Capabilities,
    families=st.frozensets(st.sampled_from(Family)),
    route_refresh=st.booleans(),
    extended_next_hop=st.booleans(),
    graceful_restart=st.none() | restarts,
    asn=st.none() | asns,
)
opens = st.builds(
    Open,
    asn=st.integers(1, 0xFFFF),
    hold_time=st.integers(3, 0xFFFF) | st.just(0),
    router_id=st.integers(1, 0xFFFFFFFF).map(lambda value: Address(4, value)),
    capabilities=capabilities,
)
HEADER = b"\xff" * 16


def only(data: bytes) -> tuple[int, bytes]:
    """The one message in some bytes."""
    (message,) = Framer().feed(data)
    return message


@given(opens)
def test_an_open_survives_the_wire(message: Open) -> None:
    kind, body = only(encode_open(message))
    assert (Kind.OPEN, message) == (kind, decode_open(body))


@given(capabilities)
def test_capabilities_survive_the_wire(each: Capabilities) -> None:
    assert each == decode_capabilities(encode_capabilities(each))


@given(opens)
def test_scapy_reads_our_open(message: Open) -> None:
    read = scapy_bgp.BGP(encode_open(message))
    body: Any = read[scapy_bgp.BGPOpen]
    assert (4, message.asn, message.hold_time) == (body.version, body.my_as, body.hold_time)
    assert str(message.router_id) == body.bgp_id
    codes = [parameter.param_value.code for parameter in body.opt_params]
    # scapy shows the first capability of a parameter as the parameter's value.
    assert (codes[0] if codes else None) == _first_code(message.capabilities)


def _first_code(each: Capabilities) -> int | None:
    present = ((1, each.families), (2, each.route_refresh), (5, each.extended_next_hop), (64, each.graceful_restart))
    return next((code for code, there in present if there), 65 if each.asn is not None else None)


def test_our_open_to_an_ipv6_router_is_these_bytes() -> None:
    message = Open(
        asn=4200000001,
        hold_time=90,
        router_id=Address.parse("192.0.2.7"),
        capabilities=Capabilities(
            families=frozenset(Family), route_refresh=True, extended_next_hop=True, asn=4200000001
        ),
    )
    wanted = (
        HEADER
        + bytes.fromhex("003b 01 04 5ba0 005a c0000207 1e 02 1c")
        + bytes.fromhex("01 04 0001 00 01  01 04 0002 00 01  02 00  05 06 0001 0001 0002  41 04 fa56ea01")
    )
    assert wanted == encode_open(message)
    assert 4200000001 == decode_open(wanted[19:]).true_asn


def test_capabilities_that_frr_spreads_over_parameters_are_joined() -> None:
    parts = [b"\x01\x04\x00\x02\x00\x01", b"\x80\x00", b"\x02\x00", b"\x41\x04\x00\x00\xfc\x00", b"\x49\x03\x01r\x00"]
    parameters = b"".join(bytes((2, len(part))) + part for part in parts)
    body = struct.pack("!BHH4sB", 4, 64512, 9, b"\x0a\xff\0\1", len(parameters)) + parameters
    read = decode_open(body)
    assert Capabilities(families=frozenset({Family.IPV6}), route_refresh=True, asn=64512) == read.capabilities


def test_long_parameters_are_read() -> None:
    value = b"\x41\x04\x00\x01\x00\x00" + b"\xc8\xff" + bytes(255)
    parameters = b"\x02" + struct.pack("!H", len(value)) + value
    body = struct.pack("!BHH4sB", 4, 23456, 9, b"\x0a\xff\0\1", 255) + b"\xff"
    body += struct.pack("!H", len(parameters)) + parameters
    assert 65536 == decode_open(body).true_asn


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (struct.pack("!BHH4sB", 3, 1, 9, b"abcd", 0), (2, 1), "version 3"),
        (struct.pack("!BHH4sB", 4, 1, 2, b"abcd", 0), (2, 6), "hold time of 2"),
        (struct.pack("!BHH4sB", 4, 1, 9, bytes(4), 0), (2, 3), "router ID"),
        (struct.pack("!BHH4sB", 4, 0, 9, b"abcd", 0), (2, 2), "AS number 0"),
        (struct.pack("!BHH4sB", 4, 1, 9, b"abcd", 2) + b"\1\0", (2, 4), "parameter 1"),
        (struct.pack("!BHH4sB", 4, 1, 9, b"abcd", 4) + b"\2\0", (2, 0), "said to have 4"),
        (struct.pack("!BHH4sB", 4, 1, 9, b"abcd", 3) + b"\2\1\1", (2, 0), "capability is cut off"),
    ],
)
def test_a_broken_open_is_answered_with_its_code(body: bytes, code: tuple[int, int], words: str) -> None:
    with pytest.raises(BgpError, match=words) as caught:
        decode_open(body)
    assert code == (caught.value.notification.code, caught.value.notification.subcode)


@given(st.lists(st.sampled_from([KEEPALIVE, encode_notification(Notification(6, 2)), frame(2, bytes(4))])), st.data())
def test_a_stream_is_cut_the_same_however_it_arrives(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    framer, found, position = Framer(), [], 0
    while position < len(stream):
        size = data.draw(st.integers(1, 40))
        found += list(framer.feed(stream[position : position + size]))
        position += size
    assert [(each[18], each[19:]) for each in messages] == found


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"\xfe" * 16 + b"\0\x13\4", (1, 1)),
        (HEADER + b"\0\x12\4", (1, 2)),
        (HEADER + b"\x10\x01\2", (1, 2)),
        (HEADER + b"\xff\xff\2", (1, 2)),
        (HEADER + b"\0\x14\4", (1, 2)),
        (HEADER + b"\0\x16\2", (1, 2)),
        (HEADER + b"\0\x13\x09", (1, 3)),
        (HEADER + b"\0\x13\x00", (1, 3)),
    ],
)
def test_a_broken_header_is_answered_with_its_code(header: bytes, code: tuple[int, int]) -> None:
    with pytest.raises(BgpError) as caught:
        list(Framer().feed(header))
    assert code == (caught.value.notification.code, caught.value.notification.subcode)


def test_messages_before_a_broken_header_still_count() -> None:
    messages = Framer().feed(KEEPALIVE + b"garbage that is no header")
    assert (Kind.KEEPALIVE, b"") == next(messages)
    with pytest.raises(BgpError):
        next(messages)


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=5000))
def test_a_notification_survives_the_wire_cut_to_what_fits(code: int, subcode: int, data: bytes) -> None:
    encoded = encode_notification(Notification(code, subcode, data))
    assert len(encoded) <= 4096
    assert Notification(code, subcode, data[:4075]) == decode_notification(encoded[19:])
    assert str(Notification(code, subcode, data)).isprintable()


@given(st.text(max_size=300))
@example("é" * 200)
def test_what_we_say_at_a_shutdown_is_read_again(text: str) -> None:
    said = cease(Cease.SHUTDOWN, text)
    assert len(said.data) <= 256
    shown = "".join(each if each.isprintable() else " " for each in said.data[1:].decode()).strip()
    assert shown == said.communication


def test_a_notification_is_told_in_words() -> None:
    assert 'cease: administrative shutdown ("maintenance")' == str(cease(Cease.SHUTDOWN, "maintenance"))
    assert "OPEN error: bad peer AS; compare the AS numbers on both sides" == str(Notification(Code.OPEN, 2))
    assert "hold timer expired" == str(Notification(Code.HOLD_TIMER))
    assert "error 77: subcode 3" == str(Notification(77, 3))
    assert "" == Notification(6, 2, b"\x09abc").communication
    assert "" == Notification(6, 2, b"\x02\xff\xfe").communication


@pytest.mark.parametrize("family", Family)
def test_a_route_refresh_survives_the_wire(family: Family) -> None:
    kind, body = only(encode_route_refresh(RouteRefresh(family)))
    assert (Kind.ROUTE_REFRESH, RouteRefresh(family)) == (kind, decode_route_refresh(body))


def test_a_route_refresh_of_a_family_that_nobody_knows_is_none() -> None:
    assert RouteRefresh(None) == decode_route_refresh(b"\x00\x19\x00\x46")
    with pytest.raises(BgpError) as caught:
        decode_route_refresh(b"\x00\x01")
    assert Notification(7, 1, b"\x00\x01") == caught.value.notification


def test_no_message_is_longer_than_allowed() -> None:
    assert 4096 == len(frame(Kind.UPDATE, bytes(4077)))
    with pytest.raises(LocalProtocolError):
        frame(Kind.UPDATE, bytes(4078))


@given(st.binary(max_size=300))
def test_garbage_is_no_open_and_raises_only_what_is_declared(body: bytes) -> None:
    try:
        decode_open(body.ljust(10, b"\0"))
    except BgpError as error:
        assert Code.OPEN == error.notification.code


@given(st.binary(max_size=100))
def test_garbage_is_cut_into_messages_or_refused(data: bytes) -> None:
    try:
        list(Framer().feed(HEADER + data))
    except BgpError as error:
        assert Code.HEADER == error.notification.code

"""Neighbor Discovery: scapy as the second opinion both ways, and every rule of RFC 4861 section 7.1."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    in6_chksum,
)
from scapy.layers.l2 import Ether

from frames import damaged, group_macs, ipv6, macs
from lbcore.adapters import ndp
from lbcore.adapters.ndp import ALL_NODES, UNSPECIFIED, NeighborAdvertisement, NeighborSolicitation
from lbcore.addresses import Address
from lbcore.errors import LocalProtocolError, RemoteProtocolError

OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
VIP, CLIENT = Address.parse("2001:db8::20"), Address.parse("fe80::2")
GROUP = Address.parse("ff02::1:ff00:20")

questions = st.builds(
    NeighborSolicitation,
    source=ipv6,
    destination=ipv6 | ipv6.map(ndp.solicited_node),
    target=ipv6,
    source_mac=macs,
    destination_mac=macs | group_macs,
    link_layer=st.none() | macs,
)
checks = st.builds(
    NeighborSolicitation,
    source=st.just(UNSPECIFIED),
    destination=ipv6.map(ndp.solicited_node),
    target=ipv6,
    source_mac=macs,
    destination_mac=group_macs,
)
solicitations = questions | checks
advertisements = st.builds(
    NeighborAdvertisement,
    source=ipv6,
    destination=ipv6 | st.just(ALL_NODES),
    target=ipv6,
    source_mac=macs,
    destination_mac=macs | group_macs,
    link_layer=st.none() | macs,
    router=st.booleans(),
    solicited=st.booleans(),
    override=st.booleans(),
).map(lambda packet: evolve(packet, solicited=packet.solicited and packet.destination != ALL_NODES))
packets = solicitations | advertisements


def dotted(mac: bytes) -> str:
    """A MAC as scapy prints it."""
    return ":".join(f"{byte:02x}" for byte in mac)


def canonical(text: str) -> str:
    """An address as we print it; the C library prints `::1:0` as `::0.1.0.0`."""
    return str(Address.from_bytes(socket.inet_pton(socket.AF_INET6, text)))


def read_by_scapy(frame: bytes) -> dict[str, Any]:
    """What scapy reads from a frame, after it has computed the checksum itself."""
    read = Ether(frame)
    ip = read[IPv6]
    assert (6, 255, 58) == (ip.version, ip.hlim, ip.nh)
    assert len(bytes(ip.payload)) == ip.plen
    body = bytearray(bytes(ip.payload))
    checksum = body[2] << 8 | body[3]
    body[2:4] = b"\x00\x00"
    assert in6_chksum(58, ip, bytes(body)) == checksum
    said = {"dst": read.dst, "src": read.src, "ip_src": canonical(ip.src), "ip_dst": canonical(ip.dst)}
    if ICMPv6ND_NS in read:
        option = read[ICMPv6NDOptSrcLLAddr].lladdr if ICMPv6NDOptSrcLLAddr in read else None
        return said | {"target": canonical(read[ICMPv6ND_NS].tgt), "option": option}
    option = read[ICMPv6NDOptDstLLAddr].lladdr if ICMPv6NDOptDstLLAddr in read else None
    packet = read[ICMPv6ND_NA]
    return said | {"target": canonical(packet.tgt), "option": option, "flags": (packet.R, packet.S, packet.O)}


def read_by_us(packet: NeighborSolicitation | NeighborAdvertisement) -> dict[str, Any]:
    """The same of our value."""
    said = {
        "dst": dotted(packet.destination_mac),
        "src": dotted(packet.source_mac),
        "ip_src": str(packet.source),
        "ip_dst": str(packet.destination),
        "target": str(packet.target),
        "option": None if packet.link_layer is None else dotted(packet.link_layer),
    }
    if isinstance(packet, NeighborSolicitation):
        return said
    return said | {"flags": (packet.router, packet.solicited, packet.override)}


def by_scapy(packet: NeighborSolicitation | NeighborAdvertisement, **ip: Any) -> bytes:
    """The same frame, written by scapy; `ip` replaces fields of the IPv6 header."""
    said = read_by_us(packet)
    header = Ether(dst=said["dst"], src=said["src"]) / IPv6(
        **({"src": said["ip_src"], "dst": said["ip_dst"], "hlim": 255} | ip)
    )
    if isinstance(packet, NeighborSolicitation):
        whole = header / ICMPv6ND_NS(tgt=said["target"])
        return bytes(whole / ICMPv6NDOptSrcLLAddr(lladdr=said["option"]) if said["option"] else whole)
    r, s, o = said["flags"]
    whole = header / ICMPv6ND_NA(tgt=said["target"], R=int(r), S=int(s), O=int(o))
    return bytes(whole / ICMPv6NDOptDstLLAddr(lladdr=said["option"]) if said["option"] else whole)


def with_body(body: bytes, *, source: Address = CLIENT, destination: Address = GROUP, **ip: Any) -> bytes:
    """A frame with any ICMPv6 message (its checksum field is filled in by scapy's arithmetic)."""
    header = IPv6(**({"src": str(source), "dst": str(destination), "hlim": 255, "nh": 58} | ip))
    summed = in6_chksum(58, header, body[:2] + b"\x00\x00" + body[4:])
    frame = Ether(dst=dotted(ndp.multicast_mac(GROUP)), src=dotted(THEIRS)) / header
    return bytes(frame / (body[:2] + summed.to_bytes(2, "big") + body[4:]))


def ns_body(target: Address = VIP, options: bytes = b"", code: int = 0) -> bytes:
    """The ICMPv6 message of a solicitation."""
    return bytes((135, code)) + bytes(6) + target.packed + options


@given(packets)
def test_what_is_encoded_decodes_to_itself(packet: NeighborSolicitation | NeighborAdvertisement) -> None:
    frame = ndp.encode(packet)
    assert packet == ndp.decode(frame)
    assert packet == ndp.decode(frame + b"pad")  # padding is not part of the message


@given(packets)
def test_scapy_reads_what_we_write(packet: NeighborSolicitation | NeighborAdvertisement) -> None:
    assert read_by_us(packet) == read_by_scapy(ndp.encode(packet))


@given(packets)
def test_we_read_what_scapy_writes(packet: NeighborSolicitation | NeighborAdvertisement) -> None:
    assert packet == ndp.decode(by_scapy(packet))


def decoded_or_refused(frame: bytes) -> None:
    try:
        packet = ndp.decode(frame)
    except RemoteProtocolError as error:
        assert str(error)
    else:
        assert packet == ndp.decode(ndp.encode(packet))


@given(st.binary(max_size=120) | damaged(packets.map(ndp.encode)))
def test_garbage_is_refused_and_never_crashes(frame: bytes) -> None:
    decoded_or_refused(frame)


@given(st.sampled_from([135, 136]), st.binary(max_size=3), st.binary(max_size=16), st.binary(max_size=40))
def test_garbage_with_a_right_checksum_is_refused_and_never_crashes(
    kind: int, flags: bytes, target: bytes, options: bytes
) -> None:
    body = bytes((kind, 0, 0, 0)) + flags.ljust(4, b"\x00") + target.ljust(16, b"\x20") + options
    decoded_or_refused(with_body(body, destination=VIP))


@given(packets, st.data())
def test_any_flipped_bit_of_the_message_breaks_the_checksum(
    packet: NeighborSolicitation | NeighborAdvertisement, data: st.DataObject
) -> None:
    frame = bytearray(ndp.encode(packet))
    bit = data.draw(st.integers(0, (len(frame) - 22) * 8 - 1))  # from the source address on
    frame[22 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError):
        ndp.decode(bytes(frame))


def a_question(**changes: Any) -> NeighborSolicitation:
    """A client's multicast question for the address."""
    asked = NeighborSolicitation(
        source=CLIENT,
        destination=GROUP,
        target=VIP,
        source_mac=THEIRS,
        destination_mac=ndp.multicast_mac(GROUP),
        link_layer=THEIRS,
    )
    return evolve(asked, **changes)


@pytest.mark.parametrize("option", [THEIRS, None], ids=["with the source option", "without"])
def test_a_question_is_answered_to_the_asker_solicited_and_overriding(option: bytes | None) -> None:
    answer = ndp.encode(ndp.advertisement_for(a_question(link_layer=option), OURS))
    assert {
        "dst": dotted(THEIRS),
        "src": dotted(OURS),
        "ip_src": str(VIP),
        "ip_dst": str(CLIENT),
        "target": str(VIP),
        "option": dotted(OURS),
        "flags": (0, 1, 1),
    } == read_by_scapy(answer)


def test_an_answer_goes_to_the_mac_that_the_asker_names() -> None:
    answer = ndp.advertisement_for(a_question(link_layer=b"\x02\x00\x00\x00\x00\x99"), OURS)
    assert b"\x02\x00\x00\x00\x00\x99" == answer.destination_mac


def test_a_duplicate_check_and_an_announcement_go_to_everybody_unsolicited_and_overriding() -> None:
    check = a_question(source=UNSPECIFIED, link_layer=None)
    told = {
        "dst": "33:33:00:00:00:01",
        "src": dotted(OURS),
        "ip_src": str(VIP),
        "ip_dst": "ff02::1",
        "target": str(VIP),
        "option": dotted(OURS),
        "flags": (0, 0, 1),
    }
    assert told == read_by_scapy(ndp.encode(ndp.advertisement_for(check, OURS)))
    assert told == read_by_scapy(ndp.encode(ndp.unsolicited(VIP, OURS)))


def test_the_group_of_an_address_keeps_its_last_24_bits() -> None:
    assert Address.parse("ff02::1:ffcd:ef01") == ndp.solicited_node(Address.parse("2001:db8::23ab:abcd:ef01"))
    assert bytes.fromhex("3333ffcdef01") == ndp.multicast_mac(Address.parse("ff02::1:ffcd:ef01"))


GOOD = ndp.encode(a_question())
OPTION = b"\x01\x01" + THEIRS


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (GOOD[:77], "needs 78 bytes, the frame ends after 77"),
        (GOOD[:12] + b"\x08\x06" + GOOD[14:], "EtherType 0x0806 is not Neighbor Discovery"),
        (GOOD[:14] + b"\x40" + GOOD[15:], "IP version 4"),
        (by_scapy(a_question(), hlim=254), "hop limit 254 is not 255"),
        (with_body(ns_body(), nh=0), "next header 0 is not ICMPv6"),
        (GOOD[:18] + b"\x00\x17" + GOOD[20:], "23 bytes"),
        (GOOD[:18] + b"\x00\x21" + GOOD[20:], "33 bytes"),
        (with_body(b"\x88\x01" + bytes(6) + VIP.packed), "code 1"),
        (with_body(b"\x80\x00" + bytes(6) + VIP.packed), "ICMPv6 type 128"),
        (GOOD[:56] + b"\xde\xad" + GOOD[58:], "checksum"),
        (with_body(ns_body(target=GROUP)), "multicast address"),
        (with_body(ns_body(), source=GROUP), "multicast address"),
        (with_body(ns_body(options=b"\x01\x00" + THEIRS)), "option claims 0 of the 8"),
        (with_body(ns_body(options=b"\x0e\x02" + THEIRS)), "option claims 16 of the 8"),
        (with_body(ns_body(options=OPTION + b"\x0e")), "option claims 0 of the 1"),
        (with_body(ns_body(options=OPTION + b"\x0e"))[:-1] + b"\x0f", "checksum"),
        (with_body(ns_body(options=b"\x01\x02" + bytes(14))), "no station's Ethernet address"),
        (with_body(ns_body(options=b"\x01\x01\x01" + bytes(5))), "no station's Ethernet address"),
        (with_body(ns_body(), source=UNSPECIFIED, destination=VIP), "no solicited-node group"),
        (with_body(ns_body(options=OPTION), source=UNSPECIFIED), "with a source link-layer option"),
        (with_body(b"\x88\x00\x00\x00\x60\x00\x00\x00" + VIP.packed, destination=ALL_NODES), "calls itself solicited"),
    ],
)
def test_each_broken_rule_is_told(frame: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        ndp.decode(frame)
    assert words in str(caught.value)


def test_unknown_options_are_stepped_over_and_the_first_of_two_link_layer_options_counts() -> None:
    nonce = b"\x0e\x01" + b"nonce!"
    frame = with_body(ns_body(options=nonce + OPTION + b"\x01\x01" + OURS))
    decoded = ndp.decode(frame)
    assert THEIRS == decoded.link_layer


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (a_question(target=Address(4, 1)), "Neighbor Discovery is for IPv6"),
        (a_question(target=GROUP), "multicast address"),
        (a_question(source_mac=b"\x02"), "has 1 bytes"),
        (a_question(link_layer=b"\x02"), "has 1 bytes"),
        (a_question(link_layer=b"\x33\x33" + bytes(4)), "group address"),
        (a_question(source=UNSPECIFIED), "with a source link-layer option"),
        (evolve(ndp.unsolicited(VIP, OURS), solicited=True), "cannot be solicited"),
    ],
)
def test_what_may_not_be_sent_is_our_own_fault(
    packet: NeighborSolicitation | NeighborAdvertisement, words: str
) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        ndp.encode(packet)
    assert words in str(caught.value)

"""ARP: what we write scapy reads, what scapy writes we read, and garbage is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from frames import damaged, group_macs, ipv4, macs
from lbcore.adapters import arp
from lbcore.adapters.arp import ArpPacket, Operation
from lbcore.addresses import Address
from lbcore.errors import LocalProtocolError, RemoteProtocolError

packets = st.builds(
    ArpPacket,
    operation=st.sampled_from(Operation),
    sender_mac=macs,
    sender=ipv4,
    target_mac=macs | group_macs,
    target=ipv4,
    destination=macs | group_macs,
    source=macs,
)
requests = packets.filter(lambda packet: packet.operation is Operation.REQUEST)
wire_like = st.binary(max_size=70).map(lambda tail: bytes(12) + b"\x08\x06" + tail)

OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
VIP, CLIENT = Address.parse("192.0.2.20"), Address.parse("192.0.2.2")


def dotted(mac: bytes) -> str:
    """A MAC as scapy prints it."""
    return ":".join(f"{byte:02x}" for byte in mac)


def fields(frame: bytes) -> dict[str, Any]:
    """What scapy reads from an ARP frame."""
    read = Ether(frame)
    ether, packet = read[Ether], read[ARP]
    assert (1, 0x0800, 6, 4, 0x0806) == (packet.hwtype, packet.ptype, packet.hwlen, packet.plen, ether.type)
    return {
        "destination": ether.dst,
        "source": ether.src,
        "op": packet.op,
        "sha": packet.hwsrc,
        "spa": packet.psrc,
        "tha": packet.hwdst,
        "tpa": packet.pdst,
    }


def fields_of(packet: ArpPacket) -> dict[str, Any]:
    """The same of our value."""
    return {
        "destination": dotted(packet.destination),
        "source": dotted(packet.source),
        "op": packet.operation.value,
        "sha": dotted(packet.sender_mac),
        "spa": str(packet.sender),
        "tha": dotted(packet.target_mac),
        "tpa": str(packet.target),
    }


@given(packets)
def test_what_is_encoded_decodes_to_itself(packet: ArpPacket) -> None:
    frame = arp.encode(packet)
    assert 60 == len(frame)
    assert packet == arp.decode(frame)
    assert packet == arp.decode(frame[:42])  # without the padding
    assert packet == arp.decode(frame + b"trailer")


@given(packets)
def test_scapy_reads_what_we_write(packet: ArpPacket) -> None:
    assert fields_of(packet) == fields(arp.encode(packet))


@given(packets)
def test_we_read_what_scapy_writes(packet: ArpPacket) -> None:
    said = fields_of(packet)
    built = Ether(dst=said["destination"], src=said["source"]) / ARP(
        op=said["op"], hwsrc=said["sha"], psrc=said["spa"], hwdst=said["tha"], pdst=said["tpa"]
    )
    assert packet == arp.decode(bytes(built))


@given(st.binary(max_size=100) | wire_like | damaged(packets.map(arp.encode)))
def test_garbage_is_refused_and_never_crashes_and_the_short_way_agrees(frame: bytes) -> None:
    try:
        packet = arp.decode(frame)
    except RemoteProtocolError as error:
        assert str(error)
        assert not arp.is_plain_request(frame)
    else:
        assert arp.is_plain_request(frame) == (packet.operation is Operation.REQUEST)


@given(requests, macs)
def test_the_short_way_to_an_answer_gives_the_same_bytes_as_the_long_one(request: ArpPacket, mac: bytes) -> None:
    frame = arp.encode(request)
    assert arp.encode(arp.reply_to(request, mac)) == arp.answer(frame, mac)


def a_request(sender: Address = CLIENT) -> ArpPacket:
    """A client's broadcast question for the address."""
    return ArpPacket(
        operation=Operation.REQUEST,
        sender_mac=THEIRS,
        sender=sender,
        target_mac=bytes(6),
        target=VIP,
        destination=b"\xff" * 6,
        source=THEIRS,
    )


@pytest.mark.parametrize("sender", [CLIENT, Address(4, 0)], ids=["request", "probe"])
def test_a_request_and_a_probe_from_zero_are_answered_to_the_asker(sender: Address) -> None:
    said = fields(arp.encode(arp.reply_to(a_request(sender), OURS)))
    assert {
        "destination": dotted(THEIRS),
        "source": dotted(OURS),
        "op": 2,
        "sha": dotted(OURS),
        "spa": str(VIP),
        "tha": dotted(THEIRS),
        "tpa": str(sender),
    } == said


def test_an_announcement_as_request_has_no_target_mac_and_one_as_reply_has_ours() -> None:
    asked = fields(arp.encode(arp.gratuitous_request(VIP, OURS)))
    told = fields(arp.encode(arp.gratuitous_reply(VIP, OURS)))
    both = {"destination": dotted(b"\xff" * 6), "source": dotted(OURS), "sha": dotted(OURS)}
    both |= {"spa": str(VIP), "tpa": str(VIP)}
    assert both | {"op": 1, "tha": dotted(bytes(6))} == asked
    assert both | {"op": 2, "tha": dotted(OURS)} == told


GOOD = arp.encode(a_request())


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "0 bytes are no Ethernet frame"),
        (GOOD[:13], "13 bytes are no Ethernet frame"),
        (GOOD[:41], "ARP needs 42 bytes, the frame ends after 41"),
        (GOOD[:12] + b"\x86\xdd" + GOOD[14:], "EtherType 0x86dd is not ARP"),
        (GOOD[:12] + bytes.fromhex("81000014") + GOOD[12:], "EtherType 0x8100 is not ARP"),
        (GOOD[:14] + b"\x00\x06" + GOOD[16:], "hardware 6"),
        (GOOD[:16] + b"\x86\xdd" + GOOD[18:], "protocol 0x86dd"),
        (GOOD[:18] + b"\x08" + GOOD[19:], "(8 bytes)"),
        (GOOD[:19] + b"\x10" + GOOD[20:], "(16 bytes)"),
        (GOOD[:20] + b"\x00\x03" + GOOD[22:], "operation 3 is neither request"),
        (GOOD[:22] + b"\x01" + GOOD[23:], "01:00:00:00:00:02 is a group address"),
    ],
)
def test_each_broken_rule_is_told(frame: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        arp.decode(frame)
    assert words in str(caught.value)
    assert not arp.is_plain_request(frame)


@pytest.mark.parametrize(
    ("builder", "address", "mac", "words"),
    [
        (arp.gratuitous_request, Address.parse("2001:db8::20"), OURS, "ARP is for IPv4"),
        (arp.gratuitous_reply, VIP, b"\x02", "has 1 bytes"),
        (arp.gratuitous_request, VIP, b"\x03" + bytes(5), "group address"),
    ],
)
def test_what_arp_cannot_say_is_our_own_fault(builder: Any, address: Address, mac: bytes, words: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        arp.encode(builder(address, mac))
    assert words in str(caught.value)

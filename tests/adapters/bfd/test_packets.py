"""BFD packets: what is encoded is decoded, scapy reads the same, and no bytes raise anything but the declared error."""

from __future__ import annotations

import contextlib
import struct

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.bfd.packets import ControlPacket, decode, encode
from lbcore.bfd import BfdDiagnostic, BfdState
from lbcore.errors import RemoteProtocolError

words = st.integers(1, (1 << 32) - 1)
packets = st.builds(
    ControlPacket,
    state=st.sampled_from(BfdState),
    diagnostic=st.sampled_from(BfdDiagnostic),
    poll=st.booleans(),
    final=st.booleans(),
    detect_multiplier=st.integers(1, 255),
    mine=words,
    yours=words,
    desired_min_tx=words,
    required_min_rx=st.integers(0, (1 << 32) - 1),
)
UP = ControlPacket(
    state=BfdState.UP, detect_multiplier=3, mine=7, yours=9, desired_min_tx=100_000, required_min_rx=100_000
)


@given(packets)
def test_what_is_encoded_is_decoded(packet: ControlPacket) -> None:
    assert packet == decode(encode(packet))


@given(packets)
def test_scapy_reads_the_same(packet: ControlPacket) -> None:
    from scapy.contrib.bfd import BFD  # noqa: PLC0415 - a second to import

    seen = BFD(encode(packet))
    expected = (1, packet.diagnostic.value, packet.state.value, packet.detect_multiplier, 24)
    assert expected == (seen.version, seen.diag, seen.sta, seen.detect_mult, seen.len)
    assert (packet.mine, packet.yours) == (seen.my_discriminator, seen.your_discriminator)
    assert (packet.desired_min_tx, packet.required_min_rx) == (seen.min_tx_interval, seen.min_rx_interval)
    assert seen.echo_rx_interval == 0
    assert (packet.poll, packet.final) == ("P" in str(seen.flags), "F" in str(seen.flags))


@given(st.binary(max_size=60) | packets.map(encode).flatmap(lambda data: st.integers(0, 23).map(lambda n: data[:n])))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode(data)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, 2 << 5, "BFD version 2"),
        (3, 25, "a length of 25"),
        (3, 23, "a length of 23"),
        (2, 0, "a detection multiplier of 0"),
        (1, 0xC1, "the multipoint bit"),
        (1, 0xC4, "authenticated"),
    ],
)
def test_what_the_rfc_discards_is_refused_with_the_reason(at: int, value: int, why: str) -> None:
    data = bytearray(encode(UP))
    data[at] = value
    with pytest.raises(RemoteProtocolError, match=why):
        decode(bytes(data))


def test_a_peer_without_a_discriminator_or_up_without_ours_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="a discriminator of 0"):
        decode(encode(evolve(UP, mine=0)))
    with pytest.raises(RemoteProtocolError, match="state Up without our discriminator"):
        decode(encode(evolve(UP, yours=0)))


def test_bytes_behind_the_packet_and_reserved_diagnostics_do_no_harm() -> None:
    data = bytearray(encode(UP) + b"padding")
    data[0] |= 31
    assert evolve(UP, diagnostic=BfdDiagnostic.NONE) == decode(bytes(data))


def test_the_bytes_are_those_of_the_rfc() -> None:
    expected = struct.pack(">BBBBIIIII", 1 << 5, 3 << 6, 3, 24, 7, 9, 100_000, 100_000, 0)
    assert expected == encode(UP)

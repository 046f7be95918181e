"""BFD control packets, bytes to values and back (RFC 5880 section 4.1).

Authentication is not spoken: neither FRR nor BIRD's users have it with BGP, and what carries it is refused as
section 6.8.6 has it for a session without.
"""

from __future__ import annotations

import struct

from attrs import frozen

from lbcore.bfd import BfdDiagnostic, BfdState
from lbcore.errors import RemoteProtocolError

__all__ = ["ControlPacket", "decode", "encode"]

_FORM = struct.Struct(">BBBBIIIII")
_VERSION = 1
_POLL, _FINAL, _AUTHENTICATED, _MULTIPOINT = 0x20, 0x10, 0x04, 0x01


@frozen(kw_only=True)
class ControlPacket:
    """One control packet; intervals in microseconds, discriminators as the sender and the receiver chose them.

    `required_min_rx` 0 asks to be sent nothing. Flags that we neither send nor heed (control plane independent,
    demand) are not kept.
    """

    state: BfdState
    diagnostic: BfdDiagnostic = BfdDiagnostic.NONE
    poll: bool = False
    final: bool = False
    detect_multiplier: int
    mine: int
    yours: int = 0
    desired_min_tx: int
    required_min_rx: int


def encode(packet: ControlPacket) -> bytes:
    """24 bytes. Echoes are never asked for."""
    return _FORM.pack(
        _VERSION << 5 | packet.diagnostic.value,
        packet.state.value << 6 | (_POLL if packet.poll else 0) | (_FINAL if packet.final else 0),
        packet.detect_multiplier,
        _FORM.size,
        packet.mine,
        packet.yours,
        packet.desired_min_tx,
        packet.required_min_rx,
        0,
    )


def decode(data: bytes) -> ControlPacket:
    """The packet in a datagram. Raises `RemoteProtocolError` for what section 6.8.6 discards unseen."""
    if len(data) < _FORM.size:
        raise RemoteProtocolError(f"{len(data)} bytes are no BFD packet, which has {_FORM.size} at least")
    first, second, multiplier, length, mine, yours, tx, rx, _echo = _FORM.unpack_from(data)
    if first >> 5 != _VERSION:
        raise RemoteProtocolError(f"BFD version {first >> 5}; only {_VERSION} is spoken")
    if not _FORM.size <= length <= len(data):
        raise RemoteProtocolError(f"a length of {length} in {len(data)} bytes")
    if not multiplier:
        raise RemoteProtocolError("a detection multiplier of 0")
    if second & _MULTIPOINT:
        raise RemoteProtocolError("the multipoint bit is set")
    if second & _AUTHENTICATED:
        raise RemoteProtocolError("the packet is authenticated, and this session is not")
    if not mine:
        raise RemoteProtocolError("a discriminator of 0")
    state = BfdState(second >> 6)
    if not yours and state not in (BfdState.DOWN, BfdState.ADMIN_DOWN):
        raise RemoteProtocolError(f"state {state.word} without our discriminator")
    return ControlPacket(
        state=state,
        diagnostic=_diagnostic(first & 0x1F),
        poll=bool(second & _POLL),
        final=bool(second & _FINAL),
        detect_multiplier=multiplier,
        mine=mine,
        yours=yours,
        desired_min_tx=tx,
        required_min_rx=rx,
    )


def _diagnostic(value: int) -> BfdDiagnostic:
    # 9 to 31 are reserved: why a peer went down is for people, and no reason to discard what it says.
    return BfdDiagnostic(value) if value <= BfdDiagnostic.REVERSE_CONCATENATED_PATH_DOWN.value else BfdDiagnostic.NONE

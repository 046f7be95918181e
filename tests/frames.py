"""Strategies for what stands in Ethernet frames, and for frames that something has damaged."""

from __future__ import annotations

from hypothesis import strategies as st

from lbcore.addresses import Address

__all__ = ["damaged", "group_macs", "ipv4", "ipv6", "link_local", "macs"]


def _unicast(mac: bytes) -> bytes:
    return bytes([mac[0] & 0xFE]) + mac[1:]


macs = st.binary(min_size=6, max_size=6).map(_unicast)
group_macs = st.binary(min_size=6, max_size=6).map(lambda mac: bytes([mac[0] | 1]) + mac[1:])
ipv4 = st.builds(Address, st.just(4), st.integers(0, 2**32 - 1))
# Everything below the multicast addresses, ff00::/8, and above `::`.
ipv6 = st.builds(Address, st.just(6), st.integers(1, (0xFF << 120) - 1))
link_local = st.builds(Address, st.just(6), st.integers(1, 2**64 - 1).map(lambda low: 0xFE80 << 112 | low))


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """One of `frames` with up to three bytes changed, then cut short or lengthened."""
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    kept = frame[: draw(st.integers(0, len(frame)) | st.just(len(frame)))]
    return bytes(kept) + draw(st.binary(max_size=8))

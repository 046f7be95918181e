"""Router Advertisements: ours are what scapy reads as such, and of others' only a neighbour's count."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS

from lbcore.adapters.bgp.discovery import ADVERTISEMENT, SOLICITATION, check_advertisement
from lbcore.errors import RemoteProtocolError


def test_ours_makes_nobody_send_traffic_by_us() -> None:
    read = ICMPv6ND_RA(ADVERTISEMENT)
    assert (134, 0, 0) == (read.type, read.code, read.routerlifetime)
    assert b"" == bytes(read.payload)  # no prefix, no other option
    assert 133 == ICMPv6ND_RS(SOLICITATION).type
    check_advertisement(ADVERTISEMENT, 255)


@pytest.mark.parametrize(
    ("data", "hop_limit"),
    [(ADVERTISEMENT, 254), (ADVERTISEMENT[:15], 255), (SOLICITATION + bytes(8), 255), (b"\x86\x01" + bytes(14), 255)],
)
def test_what_is_no_neighbours_advertisement_is_refused(data: bytes, hop_limit: int) -> None:
    with pytest.raises(RemoteProtocolError):
        check_advertisement(data, hop_limit)


@given(st.binary(max_size=64), st.integers(0, 255))
def test_garbage_raises_only_what_is_declared(data: bytes, hop_limit: int) -> None:
    with contextlib.suppress(RemoteProtocolError):
        check_advertisement(data, hop_limit)

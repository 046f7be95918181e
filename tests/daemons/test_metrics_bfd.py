"""BFD's families on the page of metrics."""

from __future__ import annotations

from immutables import Map

from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.bfd import BfdState, WatchStatus
from lbcore.bgp import BGPPeer
from lbcore.daemons.metrics_bfd import bfd_families

SIX = BGPPeer(name="six", my_asn=64513, peer_asn=64512, address=Address.parse("2001:db8::1"), vrf="red")
FOUR = BGPPeer(name="four", my_asn=64513, peer_asn=64512, address=Address.parse("192.0.2.1"))
UNWATCHED = BGPPeer(name="plain", my_asn=64513, peer_asn=64512, address=Address.parse("192.0.2.2"))


def _samples(**watched: WatchStatus) -> dict[tuple[str, str, str], float]:
    state = AnnouncementState(
        settings=AnnouncementSettings(node="n1"), peers=(SIX, FOUR, UNWATCHED), watched=Map(watched)
    )
    return {
        (each.name, each.labels["peer"], each.labels["vrf"]): each.value
        for family in bfd_families(state)
        for each in family.samples
    }


def test_each_watched_peer_has_its_state_and_its_counts() -> None:
    found = _samples(
        six=WatchStatus(state=BfdState.UP, ups=2, downs=1, received=70, sent=80),
        four=WatchStatus(state=BfdState.DOWN),
    )
    six = {name: value for (name, peer, vrf), value in found.items() if (peer, vrf) == ("2001:db8::1", "red")}
    assert six == {
        "metallb_bfd_session_up": 1,
        "metallb_bfd_control_packet_input": 70,
        "metallb_bfd_control_packet_output": 80,
        "metallb_bfd_echo_packet_input": 0,
        "metallb_bfd_echo_packet_output": 0,
        "metallb_bfd_session_up_events": 2,
        "metallb_bfd_session_down_events": 1,
    }
    assert found["metallb_bfd_session_up", "192.0.2.1", ""] == 0
    assert {"2001:db8::1", "192.0.2.1"} == {peer for _, peer, _ in found}


def test_where_nobody_is_watched_there_are_no_families() -> None:
    assert {} == _samples()

"""The Layer 2 engine: whom it answers, when it speaks unasked, and what it makes of rivals."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from frames import damaged
from lbcore.adapters import arp, ndp
from lbcore.adapters.arp import ArpPacket, Operation
from lbcore.adapters.base import Send
from lbcore.adapters.counts import AddressCount
from lbcore.adapters.ndp import NeighborAdvertisement
from lbcore.adapters.responder import SCHEDULE, SLICE, Responder
from lbcore.addresses import Address
from lbcore.events import AddressHeard
from lbcore.intents import Announce, AnnounceAnew, SetLinks, Withdraw
from lbcore.model import Link
from segment import CLIENT4, CLIENT6, CLIENT_MAC, Node, Segment, announced, frames, heard, question

VIP4, VIP6 = Address.parse("192.0.2.20"), Address.parse("2001:db8::20")
OTHER4, OTHER6 = Address.parse("192.0.2.21"), Address.parse("2001:db8::21")
RIVAL = bytes.fromhex("0200000000bb")
ETH0 = Link(index=2, name="eth0", mac=bytes.fromhex("020000000001"))
ETH1 = Link(index=3, name="eth1", mac=bytes.fromhex("020000000002"))

BOTH = pytest.mark.parametrize("vip", [VIP6, VIP4], ids=["IPv6", "IPv4"])


def claiming(*addresses: Address, links: tuple[Link, ...] = (ETH0,), refresh: float | None = 60.0) -> Responder:
    """An engine that began to answer for the addresses at second 0."""
    responder = Responder(rng=random.Random(1), refresh=refresh)
    responder.command(SetLinks(links=links), 0.0)
    for address in addresses:
        responder.command(Announce(address=address), 0.0)
    return responder


def told_until(responder: Responder, end: float) -> list[tuple[float, Address, int]]:
    """Every announcement up to `end`, ticking at each deadline."""
    told: list[tuple[float, Address, int]] = []
    while (deadline := responder.deadline) is not None and deadline <= end:
        told += [(deadline, address, link) for address, link in announced(responder.tick(deadline))]
    return told


def rival_speaks(address: Address, mac: bytes = RIVAL) -> bytes:
    """Another station's announcement of an address."""
    if address.version == 4:
        return arp.encode(arp.gratuitous_reply(address, mac))
    return ndp.encode(ndp.unsolicited(address, mac))


# Answering


@BOTH
def test_a_question_for_a_claimed_address_is_answered_with_the_links_mac(vip: Address) -> None:
    responder = claiming(vip, links=(ETH0, ETH1))
    ((where, answer),) = frames(responder.receive(question(vip), 3, 1.0))
    assert 3 == where
    assert not isinstance(answer, ndp.NeighborSolicitation)
    if isinstance(answer, ArpPacket):
        assert (Operation.REPLY, vip, ETH1.mac) == (answer.operation, answer.sender, answer.sender_mac)
        assert (CLIENT4, CLIENT_MAC, CLIENT_MAC) == (answer.target, answer.target_mac, answer.destination)
    else:
        assert (vip, ETH1.mac, CLIENT6) == (answer.target, answer.link_layer, answer.destination)
        assert (True, True) == (answer.solicited, answer.override)
    assert ETH1.mac == answer.source if isinstance(answer, ArpPacket) else answer.source_mac


@BOTH
def test_a_probe_of_someone_who_wants_the_address_is_answered(vip: Address) -> None:
    responder = claiming(vip)
    ((_, answer),) = frames(responder.receive(question(vip, probe=True), 2, 1.0))
    if isinstance(answer, ArpPacket):
        assert (Address(4, 0), CLIENT_MAC) == (answer.target, answer.destination)
    else:
        assert isinstance(answer, NeighborAdvertisement)
        assert (ndp.ALL_NODES, False) == (answer.destination, answer.solicited)


@BOTH
def test_a_question_to_our_own_mac_is_answered_and_one_to_another_stations_is_not(vip: Address) -> None:
    responder = claiming(vip)
    assert 1 == len(responder.receive(question(vip, destination=ETH0.mac), 2, 1.0))
    assert [] == responder.receive(question(vip, destination=RIVAL), 2, 1.0)


@pytest.mark.parametrize("other", [OTHER6, OTHER4], ids=["IPv6", "IPv4"])
def test_a_question_for_an_address_of_somebody_else_is_not_answered(other: Address) -> None:
    responder = claiming(VIP4, VIP6)
    assert [] == responder.receive(question(other), 2, 1.0)


@BOTH
def test_an_address_is_answered_only_on_its_interfaces(vip: Address) -> None:
    responder = claiming(links=(ETH0, ETH1))
    responder.command(Announce(address=vip, interfaces=("eth1",)), 0.0)
    assert [] == responder.receive(question(vip), 2, 1.0)
    assert 1 == len(responder.receive(question(vip), 3, 1.0))


@pytest.mark.parametrize(
    "link",
    [
        evolve(ETH0, up=False),
        evolve(ETH0, carrier=False),
        evolve(ETH0, arp=False),
        evolve(ETH0, loopback=True),
        evolve(ETH0, mac=b""),
        evolve(ETH0, mac=bytes(6)),
        evolve(ETH0, index=7),
    ],
    ids=["down", "no carrier", "NOARP", "loopback", "no MAC", "zero MAC", "other index"],
)
@BOTH
def test_a_link_that_cannot_speak_is_silent(vip: Address, link: Link) -> None:
    responder = claiming(links=(link,))
    if link.index == 2:
        assert [] == responder.command(Announce(address=vip), 0.0)
        assert responder.deadline is None
    assert [] == responder.receive(question(vip), 2, 1.0)


def test_a_link_without_broadcast_speaks_ndp_but_no_arp() -> None:
    responder = claiming(VIP4, VIP6, links=(evolve(ETH0, broadcast=False),))
    assert [] == responder.receive(question(VIP4), 2, 1.0)
    assert 1 == len(responder.receive(question(VIP6), 2, 1.0))
    assert {VIP6} == {address for _, address, _ in told_until(responder, 100)}


def test_another_stations_announcement_is_not_a_question() -> None:
    responder = claiming(VIP4)
    announcement = arp.encode(arp.gratuitous_request(VIP4, RIVAL))
    assert [] == frames(responder.receive(announcement, 2, 1.0))


@given(st.binary(max_size=120) | damaged(st.sampled_from([question(VIP4), question(VIP6), rival_speaks(VIP6)])))
def test_garbage_does_no_harm(frame: bytes) -> None:
    responder = claiming(VIP4, VIP6)
    responder.receive(frame, 2, 1.0)
    assert 1 == len(responder.receive(question(VIP4), 2, 1.0))


def test_the_counters_count() -> None:
    responder = claiming(VIP4, VIP6)
    before = responder.statistics
    assert (3, 0, 0, 0, 0) == (
        before.gratuitous,
        before.arp_answered,
        before.ndp_answered,
        before.malformed,
        before.heard,
    )
    broken_ndp = question(VIP6)[:57] + b"\x00" + question(VIP6)[58:]
    broken_arp = question(VIP4)[:21] + b"\x09" + question(VIP4)[22:]
    for frame in (question(VIP4), question(VIP6), question(VIP6), broken_arp, broken_ndp, rival_speaks(VIP6)):
        responder.receive(frame, 2, 1.0)
    after = responder.statistics
    assert (1, 2, 2, 1) == (after.arp_answered, after.ndp_answered, after.malformed, after.heard)


# Announcing


@BOTH
def test_what_is_announced_anew_is_told_by_the_schedule_but_for_its_first_moment(vip: Address) -> None:
    responder = claiming(vip, links=(ETH0, ETH1))
    told_until(responder, 100.0)
    assert [] == responder.command(AnnounceAnew(1), 100.0)
    told = told_until(responder, 110.0)
    moments = [100.0 + after for after in SCHEDULE[1:]]
    assert {(moment, vip, link) for moment in moments for link in (2, 3)} == set(told)


@BOTH
def test_what_is_given_up_is_not_announced_anew(vip: Address) -> None:
    responder = claiming(vip)
    responder.command(Announce(address=vip, yielding=True), 100.0)
    responder.command(AnnounceAnew(1), 100.0)
    assert [] == told_until(responder, 200.0)
    responder.command(Withdraw(address=vip), 200.0)
    responder.command(AnnounceAnew(2), 200.0)
    assert responder.deadline is None


@BOTH
def test_a_take_over_is_told_at_once_and_again_by_the_schedule_and_then_refreshed(vip: Address) -> None:
    responder = claiming()
    assert [(vip, 2)] == announced(responder.command(Announce(address=vip), 10.0))
    times = [moment for moment, _, _ in told_until(responder, 500.0)]
    assert [10.0 + after for after in SCHEDULE[1:]] == times[: len(SCHEDULE) - 1]
    refreshes = times[len(SCHEDULE) - 2 :]
    gaps = [later - earlier for earlier, later in pairwise(refreshes)]
    assert len(gaps) >= 7
    assert all(54.0 <= gap <= 66.0 for gap in gaps)
    assert len(set(gaps)) > 1  # not in step with anybody


def test_arp_is_told_in_both_forms() -> None:
    responder = claiming()
    sent = [packet for _, packet in frames(responder.command(Announce(address=VIP4), 0.0))]
    assert [arp.gratuitous_request(VIP4, ETH0.mac), arp.gratuitous_reply(VIP4, ETH0.mac)] == sent


def test_without_a_refresh_it_is_silent_after_the_schedule() -> None:
    responder = claiming(VIP6, refresh=None)
    assert 5 == len(told_until(responder, 10_000.0))
    assert responder.deadline is None


def test_a_schedule_may_begin_later_and_may_be_empty() -> None:
    patient = Responder(rng=random.Random(1), schedule=(1.0,), refresh=None)
    patient.command(SetLinks(links=(ETH0,)), 0.0)
    assert [] == patient.command(Announce(address=VIP6), 0.0)
    assert [(1.0, VIP6, 2)] == told_until(patient, 100.0)
    silent = Responder(rng=random.Random(1), schedule=(), refresh=None)
    silent.command(SetLinks(links=(ETH0,)), 0.0)
    assert [] == silent.command(Announce(address=VIP6), 0.0)
    assert silent.deadline is None
    silent.command(Withdraw(address=VIP6), 0.0)
    assert [] == silent.receive(question(VIP6), 2, 1.0)


@BOTH
def test_the_same_again_tells_nothing(vip: Address) -> None:
    responder = claiming(vip)
    assert [] == responder.command(Announce(address=vip), 1.0)
    assert [] == responder.command(SetLinks(links=(ETH0,)), 1.0)
    assert 5 == len(told_until(responder, 10.0))


@BOTH
def test_a_late_tick_tells_once_and_a_second_one_nothing(vip: Address) -> None:
    responder = claiming(vip)
    assert [(vip, 2)] == announced(responder.tick(3.0))
    assert [] == responder.tick(3.0)
    assert 4.8 == responder.deadline


@BOTH
def test_an_interface_that_is_added_is_told_and_the_others_are_not(vip: Address) -> None:
    responder = claiming(links=(ETH0, ETH1))
    responder.command(Announce(address=vip, interfaces=("eth0",)), 0.0)
    assert [(vip, 3)] == announced(responder.command(Announce(address=vip, interfaces=("eth1", "eth0")), 20.0))
    assert [] == responder.command(Announce(address=vip, interfaces=("eth1",)), 21.0)
    assert [] == responder.receive(question(vip), 2, 22.0)
    assert {3} == {link for _, _, link in told_until(responder, 200.0)}


@BOTH
@pytest.mark.parametrize(
    "before", [(), (evolve(ETH0, up=False),), (evolve(ETH0, carrier=False),), (evolve(ETH0, mac=RIVAL),)]
)
def test_a_link_that_comes_or_comes_back_or_changes_its_mac_is_told_by_the_whole_schedule(
    vip: Address, before: tuple[Link, ...]
) -> None:
    responder = claiming(vip, links=before)
    told_until(responder, 100.0)
    assert [(vip, 2)] == announced(responder.command(SetLinks(links=(ETH0,)), 100.0))
    assert [100.0 + after for after in SCHEDULE[1:]] == [moment for moment, _, _ in told_until(responder, 110.0)]
    assert 1 == len(responder.receive(question(vip), 2, 110.0))


def test_a_link_that_is_renamed_into_an_addresses_interfaces_is_told() -> None:
    responder = claiming(links=(ETH0,))
    responder.command(Announce(address=VIP6, interfaces=("lan",)), 0.0)
    assert [] == responder.receive(question(VIP6), 2, 1.0)
    assert [(VIP6, 2)] == announced(responder.command(SetLinks(links=(evolve(ETH0, name="lan"),)), 2.0))


@BOTH
def test_a_withdrawn_address_is_neither_answered_nor_told(vip: Address) -> None:
    responder = claiming(vip)
    assert [] == responder.command(Withdraw(address=vip), 0.05)
    assert responder.deadline is None
    assert [] == responder.tick(100.0)
    assert [] == responder.receive(question(vip), 2, 0.06)
    assert [] == responder.command(Withdraw(address=vip), 0.07)


def test_an_address_announced_anew_after_a_withdrawal_begins_the_schedule_anew() -> None:
    responder = claiming(VIP6)
    responder.command(Withdraw(address=VIP6), 1.0)
    assert [(VIP6, 2)] == announced(responder.command(Announce(address=VIP6), 1.0))
    assert [1.0 + after for after in SCHEDULE[1:]] == [moment for moment, _, _ in told_until(responder, 10.0)]


def test_a_thousand_addresses_are_all_told_at_once_when_their_link_comes() -> None:
    responder = claiming(*(Address(6, VIP6.value + number) for number in range(1000)), links=())
    assert 1000 == len(announced(responder.command(SetLinks(links=(ETH0,)), 5.0)))


def test_a_tick_tells_so_many_and_no_more_and_the_next_ones_tell_the_rest() -> None:
    addresses = {Address(6, VIP6.value + number) for number in range(1000)}
    responder = claiming(*addresses)
    told: list[Address] = []
    ticks = 0
    while responder.deadline is not None and responder.deadline <= 0.1:
        outputs = announced(responder.tick(0.1))
        assert len(outputs) <= SLICE
        told += [address for address, _ in outputs]
        ticks += 1
    assert sorted(addresses) == sorted(told)
    assert 1000 / SLICE == ticks


def test_a_flapping_link_does_not_fill_the_memory() -> None:
    responder = claiming(*(Address(6, VIP6.value + number) for number in range(20)))

    def flap(times: int) -> None:
        for _ in range(times):
            responder.command(SetLinks(links=()), 1.0)
            responder.command(SetLinks(links=(ETH0,)), 1.0)

    flap(20)
    tracemalloc.start()
    try:
        flap(200)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000  # 4,000 forgotten announcements would be more than half a megabyte


# What the speaker asks


def test_answering_lists_every_claim_sorted() -> None:
    responder = claiming(VIP6, VIP4)
    responder.command(Announce(address=OTHER4, interfaces=("eth1", "eth0", "eth1")), 0.0)
    assert ((VIP4, ()), (OTHER4, ("eth0", "eth1")), (VIP6, ())) == responder.answering


def test_a_group_is_needed_as_long_as_one_of_its_addresses_is() -> None:
    twin = Address.parse("2001:db8:1::20")
    responder = claiming(VIP6, twin, VIP4, OTHER6, links=(ETH0, ETH1))
    both = frozenset({ndp.solicited_node(VIP6), ndp.solicited_node(OTHER6)})
    assert both == responder.groups(2) == responder.groups(3)
    responder.command(Withdraw(address=twin), 1.0)
    assert both == responder.groups(2)
    responder.command(Announce(address=VIP6, interfaces=("eth1",)), 1.0)
    assert frozenset({ndp.solicited_node(OTHER6)}) == responder.groups(2)
    assert both == responder.groups(3)
    responder.command(SetLinks(links=(ETH1,)), 1.0)
    assert frozenset() == responder.groups(2)
    assert both == responder.groups(3)


def test_a_link_without_carrier_stays_in_its_groups() -> None:
    responder = claiming(VIP6, links=(evolve(ETH0, carrier=False),))
    assert frozenset({ndp.solicited_node(VIP6)}) == responder.groups(2)


# Rivals


@BOTH
def test_another_station_that_speaks_for_our_address_is_reported(vip: Address) -> None:
    responder = claiming(vip)
    outputs = responder.receive(rival_speaks(vip), 2, 1.0)
    assert [AddressHeard(address=vip, mac=RIVAL, link="eth0")] == heard(outputs)


def test_a_question_or_a_reply_in_our_addresses_name_is_reported_too() -> None:
    responder = claiming(VIP4, VIP6, OTHER4, OTHER6)
    asked6 = ndp.decode(question(OTHER6, mac=RIVAL))
    asked4 = arp.decode(question(OTHER4, mac=RIVAL))
    for frame, vip in (
        (ndp.encode(evolve(asked6, source=VIP6)), VIP6),
        (arp.encode(evolve(asked4, sender=VIP4)), VIP4),
    ):
        outputs = responder.receive(frame, 2, 1.0)
        assert [AddressHeard(address=vip, mac=RIVAL, link="eth0")] == heard(outputs)
        assert 1 == len(frames(outputs))  # and the question is answered


@BOTH
def test_our_own_frames_on_another_link_are_no_rivals(vip: Address) -> None:
    responder = claiming(vip, links=(ETH0, ETH1))
    assert [] == responder.receive(rival_speaks(vip, ETH1.mac), 2, 1.0)
    assert [] == responder.receive(question(vip, mac=ETH1.mac), 2, 1.0)


def test_our_own_mac_in_a_frame_that_somebody_passes_on_is_no_rival() -> None:
    responder = claiming(VIP4)
    passed_on = evolve(arp.gratuitous_reply(VIP4, ETH0.mac), source=RIVAL)
    assert [] == responder.receive(arp.encode(passed_on), 2, 5.0)


def test_a_question_in_our_addresses_name_for_an_address_of_somebody_else_is_reported() -> None:
    responder = claiming(VIP4, VIP6)
    asked6 = evolve(ndp.decode(question(OTHER6, mac=RIVAL)), source=VIP6)
    asked4 = evolve(arp.decode(question(OTHER4, mac=RIVAL)), sender=VIP4)
    for frame, vip in ((ndp.encode(asked6), VIP6), (arp.encode(asked4), VIP4)):
        (output,) = responder.receive(frame, 2, 1.0)
        assert [AddressHeard(address=vip, mac=RIVAL, link="eth0")] == heard([output])


@BOTH
def test_a_rival_where_we_do_not_answer_is_none(vip: Address) -> None:
    responder = claiming(links=(ETH0, ETH1))
    responder.command(Announce(address=vip, interfaces=("eth1",)), 0.0)
    assert [] == responder.receive(rival_speaks(vip), 2, 1.0)


@BOTH
def test_a_rival_is_reported_once_a_second_and_each_on_its_own(vip: Address) -> None:
    responder = claiming(vip)
    second = bytes.fromhex("0200000000bd")
    moments = [(0.1, RIVAL), (0.2, RIVAL), (0.3, second), (1.0, RIVAL), (1.1, RIVAL), (1.2, RIVAL), (1.3, second)]
    reported = [
        (moment, event.mac)
        for moment, mac in moments
        for event in heard(responder.receive(rival_speaks(vip, mac), 2, moment))
    ]
    assert [(0.1, RIVAL), (0.3, second), (1.1, RIVAL), (1.3, second)] == reported


def test_a_station_that_makes_up_macs_is_not_reported_without_end() -> None:
    responder = claiming(VIP4)
    reports = 0
    for number in range(2000):
        mac = b"\x02\x01" + number.to_bytes(4, "big")
        reports += len(heard(responder.receive(rival_speaks(VIP4, mac), 2, 1.0)))
    assert 0 < reports < 1000
    assert 2000 == responder.statistics.heard
    assert 1 == len(heard(responder.receive(rival_speaks(VIP4), 2, 2.0)))


@BOTH
def test_a_settled_claim_is_defended_every_ten_seconds_at_most_and_a_young_one_is_not(vip: Address) -> None:
    responder = claiming(vip, refresh=None)
    defended = [
        moment
        for moment in (0.5, 1.9, 2.0, 2.5, 11.9, 12.0, 12.1, 21.9, 30.0)
        if announced(responder.receive(rival_speaks(vip), 2, moment))
    ]
    assert [2.0, 12.0, 30.0] == defended


@BOTH
@pytest.mark.parametrize("refresh", [None, 60.0])
def test_the_last_word_is_ours_after_a_rival_that_spoke_too_soon_to_be_answered(
    vip: Address, refresh: float | None
) -> None:
    # A node that stood still while another took over was never asked to announce again: whoever
    # believed the other would do so until the next refresh.
    responder = claiming(vip, refresh=refresh)
    responder.tick(5.0)
    assert [(vip, 2)] == announced(responder.receive(rival_speaks(vip), 2, 20.0))
    assert [] == announced(
        [*responder.receive(rival_speaks(vip), 2, 20.1), *responder.receive(rival_speaks(vip), 2, 21)]
    )
    assert 30.0 == responder.deadline
    assert [] == responder.tick(29.9)
    assert [(vip, 2)] == announced(responder.tick(30.0))
    assert responder.deadline is None if refresh is None else responder.deadline > 80.0


@BOTH
@given(when=st.floats(10.0, 1e6))
def test_the_last_word_comes_whatever_the_clock_shows(vip: Address, when: float) -> None:
    responder = claiming(vip, refresh=None)
    responder.tick(5.0)
    for moment in (when, when + 0.1):
        responder.receive(rival_speaks(vip), 2, moment)
    due = responder.deadline
    assert due is not None
    assert [(vip, 2)] == announced(responder.tick(due))
    assert responder.deadline is None


@BOTH
def test_a_claim_that_is_withdrawn_owes_nobody_a_word(vip: Address) -> None:
    responder = claiming(vip, refresh=None)
    responder.tick(5.0)
    for moment in (20.0, 20.1):
        responder.receive(rival_speaks(vip), 2, moment)
    responder.command(Withdraw(address=vip), 21.0)
    assert responder.deadline is None
    assert [] == responder.tick(30.0)


# Two engines on one segment


def nodes() -> tuple[Node, Node]:
    """Two nodes."""
    return Node("a", bytes.fromhex("02000000000a")), Node("b", bytes.fromhex("02000000000b"))


@BOTH
def test_a_clean_hand_over_moves_the_client_and_is_no_conflict(vip: Address) -> None:
    a, b = nodes()
    segment = Segment(a, b)
    segment.tell(a, Announce(address=vip))
    segment.run_until(100.0)
    assert a.mac == segment.cache[vip]
    segment.tell(a, Withdraw(address=vip))
    segment.tell(b, Announce(address=vip))
    assert b.mac == segment.cache[vip]
    segment.run_until(200.0)
    assert b.mac == segment.cache[vip]
    assert 1 == len(segment.ask(vip))
    assert [] == a.heard + b.heard


@BOTH
def test_a_hand_over_with_an_overlap_settles_at_the_new_node(vip: Address) -> None:
    a, b = nodes()
    segment = Segment(a, b)
    segment.tell(a, Announce(address=vip))
    segment.run_until(100.0)
    segment.tell(b, Announce(address=vip))  # b has seen the change of members first
    segment.run_until(100.05)
    assert [b.mac] == [event.mac for event in a.heard]
    segment.tell(a, Withdraw(address=vip))
    segment.run_until(100.2)
    assert b.mac == segment.cache[vip]
    segment.run_until(200.0)
    assert b.mac == segment.cache[vip]


@BOTH
def test_two_nodes_that_both_insist_report_each_other_without_a_storm(vip: Address) -> None:
    a, b = nodes()
    segment = Segment(a, b)
    for node in (a, b):
        segment.tell(node, Announce(address=vip))
    segment.run_until(120.0)
    assert {b.mac} == {event.mac for event in a.heard}
    assert {a.mac} == {event.mac for event in b.heard}
    # Each: 6 by the schedule, 2 refreshes, and a defence every 10 s at the very most; ARP has two frames each.
    most = (6 + 2 + 12) * (2 if vip.version == 4 else 1)
    assert max(a.sent, b.sent) <= most


# What is counted for each address


@given(
    done=st.lists(st.sampled_from([VIP6, VIP4, OTHER6, OTHER4, "tell", "recount"]), max_size=30),
    most=st.integers(1, 3),
)
def test_counts_that_are_told_a_few_at_a_time_add_up_to_what_was_done(done: list[Address | str], most: int) -> None:
    vips = (VIP6, VIP4, OTHER6, OTHER4)
    responder = claiming(*vips, refresh=None)
    asked: dict[Address, int] = dict.fromkeys(vips, 0)
    known: dict[Address, AddressCount] = {}
    told_until(responder, 20.0)
    for each in done:
        if isinstance(each, Address):
            asked[each] += 1
            responder.receive(question(each), 2, 20.0)
        elif each == "recount":
            responder.recount()
            known.clear()
        else:
            told = responder.counts(most)
            assert len(told) <= most
            known.update((count.address, count) for count in told)
    while told := responder.counts(most):
        known.update((count.address, count) for count in told)
    assert asked == {address: count.requests for address, count in known.items()}
    assert asked == {address: count.responses for address, count in known.items()}
    assert responder.statistics.gratuitous == sum(count.gratuitous for count in known.values())
    assert () == responder.counts(most), "what has not changed is not told again"


@BOTH
def test_an_address_that_is_claimed_anew_counts_from_nothing_and_one_let_go_is_not_told(vip: Address) -> None:
    responder = claiming(vip, refresh=None)
    responder.receive(question(vip), 2, 0.0)
    responder.command(Withdraw(address=vip), 0.0)
    assert () == responder.counts(9)
    responder.recount()
    assert () == responder.counts(9)
    responder.command(Announce(address=vip), 1.0)
    (count,) = responder.counts(9)
    assert (vip, 0, 0) == (count.address, count.requests, count.responses)


# A planned move


@BOTH
def test_a_claim_that_yields_answers_contradicts_nobody_and_asks_who_else_has_it(vip: Address) -> None:
    responder = claiming(vip)
    responder.tick(20.0)
    (asked,) = (out for out in responder.command(Announce(address=vip, yielding=True), 30.0) if isinstance(out, Send))
    assert (vip, 2) == (questioned(asked.data), asked.where)
    # The question of one that yields is answered by one that has taken over already, and that is heard.
    successor = claiming(vip, links=(evolve(ETH0, mac=RIVAL),))
    (answer,) = (out for out in successor.receive(asked.data, 2, 30.0) if isinstance(out, Send))
    assert [AddressHeard(address=vip, mac=RIVAL, link="eth0")] == heard(responder.receive(answer.data, 2, 30.1))
    for moment in (31.5, 33.0, 34.5):
        assert [] == announced(responder.receive(rival_speaks(vip), 2, moment))
        assert [] == responder.tick(moment)
        assert 1 == len(responder.receive(question(vip), 2, moment))
    # After a time it is a claim like any other: it is defended.
    assert [(vip, 2)] == announced(responder.receive(rival_speaks(vip), 2, 36.0))


@BOTH
def test_a_claim_that_is_taken_back_is_told_anew_and_what_was_heard_before_is_heard_again(vip: Address) -> None:
    responder = claiming(vip)
    responder.tick(20.0)
    assert 1 == len(heard(responder.receive(rival_speaks(vip), 2, 29.9)))
    responder.command(Announce(address=vip, yielding=True), 30.0)
    assert 1 == len(heard(responder.receive(rival_speaks(vip), 2, 30.1)))
    assert [] == told_until(responder, 31.0)
    assert [(vip, 2)] == announced(responder.command(Announce(address=vip), 31.0))
    assert [(31.1, vip, 2)] == told_until(responder, 31.2)


@BOTH
def test_what_is_not_claimed_cannot_be_given_up(vip: Address) -> None:
    """The word came late: to a process that was started anew (found by the simulation, seed 1030)."""
    responder = claiming()
    assert [] == responder.command(Announce(address=vip, yielding=True), 30.0)
    assert () == responder.answering


def questioned(frame: bytes) -> Address:
    """The address that a question without a questioner's own is for."""
    if frame[12:14] == b"\x08\x06":
        packet = arp.decode(frame)
        assert (arp.Operation.REQUEST, Address(4, 0)) == (packet.operation, packet.sender)
        return packet.target
    solicitation = ndp.decode(frame)
    assert isinstance(solicitation, ndp.NeighborSolicitation)
    assert solicitation.is_duplicate_check
    return solicitation.target

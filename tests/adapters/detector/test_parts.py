"""The parts of the detector alone: rings, votes, messages, witnesses, echo, routes."""

from __future__ import annotations

from collections.abc import Iterable
from math import log2

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.adapters.detector.contact import Contact
from lbcore.adapters.detector.jury import Jury
from lbcore.adapters.detector.messages import Beat, Vote, decode, encode
from lbcore.adapters.detector.penance import Penance
from lbcore.adapters.detector.rings import MOST, neighbours
from lbcore.adapters.detector.times import FAST
from lbcore.adapters.gateways import Gateway, gateways4, gateways6
from lbcore.adapters.icmp import decode_echo_reply, encode_echo_request
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.errors import RemoteProtocolError
from lbcore.verdicts import NODE_TEXTS, Reason

NUMBERS = st.integers(0, (1 << 64) - 1)
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
MEMBERS = st.sets(NAMES, min_size=2, max_size=40)

ROUTES4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0114A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0014A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
nonsense
"""
ROUTES6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe800000000000000000000000000001 00000400 00000000 00000000 00000003     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
    "fd000020000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
)


@given(MEMBERS)
def test_neighbours_are_mutual_few_and_enough(members: set[str]) -> None:
    of = {name: neighbours(name, members) for name in members}
    for name, near in of.items():
        assert name not in near
        assert min(2, len(members) - 1) <= len(near) <= MOST
        assert all(name in of[each] for each in near)


@given(MEMBERS, st.data())
def test_everybody_is_reached_by_passing_on(members: set[str], data: st.DataObject) -> None:
    reached = {data.draw(st.sampled_from(sorted(members)))}
    while more := {each for name in reached for each in neighbours(name, members)} - reached:
        reached |= more
    assert members == reached


@given(NAMES, NAMES, NUMBERS, NUMBERS, NUMBERS, st.booleans())
def test_messages_come_out_as_they_went_in(name: str, other: str, life: int, number: int, of: int, flag: bool) -> None:
    beat = Beat(name=name, life=life, number=number, asks=flag)
    vote = Vote(name=name, life=life, number=number, subject=other, subject_life=of, accuses=flag)
    for message in (beat, vote):
        data = encode(message)
        assert message == decode(data)
        for cut in range(len(data)):
            with pytest.raises(RemoteProtocolError):
                decode(data[:cut])


@given(st.binary(max_size=80))
def test_other_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    for each in (data, b"lbcore\x01\x01" + data, b"lbcore\x01\x02" + data):
        try:
            decode(each)
        except RemoteProtocolError:
            continue


def vote(name: str, subject: str, number: int, *, accuses: bool = True) -> Vote:
    return Vote(name=name, life=1, number=number, subject=subject, subject_life=7, accuses=accuses)


def test_more_than_half_of_the_observers_decide_at_once() -> None:
    jury, seats = Jury(FAST), ("a", "b", "c", "d")
    for number, name in enumerate(("a", "b"), 1):
        assert jury.take(vote(name, "x", number), 0.0)
        assert not jury.is_guilty("x", seats, 0.0)
    assert jury.take(vote("c", "x", 1), 0.0)
    assert jury.is_guilty("x", seats, 0.0)
    assert not jury.is_guilty("x", seats, FAST.memory)  # a vote counts for so long


def test_a_stranger_does_not_vote() -> None:
    jury = Jury(FAST)
    for name in ("s", "t", "u"):
        jury.take(vote(name, "x", 1), 0.0)
    assert not jury.is_guilty("x", ("a", "b"), FAST.patience)


def test_one_who_vouches_outweighs_half_of_the_accusers() -> None:
    jury, seats = Jury(FAST), ("a", "b", "c", "d")
    jury.take(vote("a", "x", 1), 0.0)
    jury.take(vote("b", "x", 1), 0.0)
    jury.take(vote("c", "x", 1, accuses=False), 0.0)
    assert not jury.is_guilty("x", seats, FAST.patience)


def test_a_vote_is_withdrawn_by_a_newer_one_and_not_by_an_older() -> None:
    jury = Jury(FAST)
    jury.take(vote("a", "x", 1), 0.0)
    jury.take(vote("a", "x", 3, accuses=False), 0.0)
    assert not jury.take(vote("a", "x", 2), 0.0)
    assert not jury.is_guilty("x", ("a",), 0.0)


def test_whom_two_accuse_is_dead_when_the_other_observers_are_in_doubt_themselves() -> None:
    jury, seats = Jury(FAST), ("a", "b", "c", "d")
    for number, subject in enumerate(("x", "c", "d"), 1):
        for name in ("a", "b"):
            jury.take(vote(name, subject, number), 0.0)
    assert not jury.is_guilty("x", seats, 0.0)
    assert jury.is_guilty("x", seats, FAST.patience)


def test_a_witness_that_answers_after_the_doubt_began_says_that_we_are_not_cut_off() -> None:
    contact = Contact(FAST)
    contact.answered(0.0)
    assert contact.doubt(1.0)
    contact.answered(1.1)
    seen = []
    for moment in (1.2, 1.11 + FAST.expiry):
        contact.judge(moment)
        seen.append(contact.cut_off)
    contact.answered(2.0)
    contact.judge(2.0)
    assert [False, True, False] == [*seen, contact.cut_off]


def test_without_a_witness_silence_says_nothing_of_us() -> None:
    contact = Contact(FAST)
    contact.doubt(0.0)
    contact.judge(100.0)
    assert not contact.cut_off
    assert contact.is_helpless(100.0)


def test_a_penance_is_doubled_until_it_is_forgotten() -> None:
    penance, now, waits = Penance(FAST), 0.0, []
    for _ in range(8):
        penance.begin(now)
        penance.begin(now)  # told twice
        waits.append(penance.deadline - now)
        now = penance.deadline
        assert penance.ends(now)
        assert not penance.ends(now)
    assert [1, 2, 4, 8, 16, 32, 60, 60] == waits
    penance.begin(now + FAST.calm + 60)
    assert FAST.hold == penance.deadline - (now + FAST.calm + 60)


def losses(seconds: float) -> int:
    """How often a node can have been lost as a candidate, so long after the first time: the longest waits included."""
    return 1 + int(log2(seconds + 1)) if seconds < 63 else 7 + int((seconds - 63) / 60)


def changes(lost: Iterable[float], until: float) -> list[tuple[float, bool]]:
    """When a node that is lost at these moments, and back at once, becomes a candidate or ceases to be one."""
    penance, found = Penance(FAST), []
    for now in (*sorted(lost), until):
        if penance.lasts and (over := penance.deadline) <= now and penance.ends(now):
            found.append((over, True))
        if now < until:
            found += [] if penance.lasts else [(now, False)]
            penance.begin(now)
    return found


MOMENTS = st.lists(st.floats(0, 900) | st.integers(0, 900).map(float), min_size=1, max_size=80)
AT_ONCE = [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, *(123.0 + 60 * number for number in range(12))]  # the worst of all


@given(st.lists(MOMENTS, min_size=1, max_size=4))
@example([AT_ONCE])
@example([AT_ONCE, [each + 0.5 for each in AT_ONCE]])
@example([AT_ONCE, AT_ONCE, [0.0, *(650.0 + each for each in AT_ONCE if each < 100)]])
def test_an_address_moves_at_most_twice_for_each_time_that_one_of_those_who_fail_can_be_lost(
    nodes: list[list[float]],
) -> None:
    # One that may announce it, too, does not fail: as long as there is such a one, the waiting moves nothing.
    names = [f"n{number}" for number in range(len(nodes))]
    told = sorted(
        (when, name, comes) for name, lost in zip(names, nodes, strict=True) for when, comes in changes(lost, until=1e4)
    )
    began, candidates = told[0][0], {"steady", *names}
    address = Address.parse("2001:db8::1")
    winner, moves = elect(candidates, address), 0
    for when, name, comes in told:
        candidates = candidates | {name} if comes else candidates - {name}
        before, winner = winner, elect(candidates, address)
        moves += before != winner
        assert moves <= 2 * len(nodes) * losses(when - began + 1e-6)


def test_of_one_that_fails_as_soon_as_it_may_it_is_fourteen_times_in_two_minutes_and_twice_a_minute_then() -> None:
    (*_, last) = [when for when, comes in changes(AT_ONCE, 1e4) if not comes]
    assert (123.0 + 60 * 11, len(AT_ONCE)) == (last, losses(last))
    assert [7, 8, 9] == [losses(seconds) for seconds in (120.0, 123.0, 183.0)]


def test_what_people_are_told_of_a_penance_is_how_long_it_is() -> None:
    text = NODE_TEXTS[Reason.NODE_WAITS]
    assert f"waits {FAST.hold:g} s the first time, twice as long each time after, {FAST.longest:g} s at most" in text


def test_default_gateways_are_read_from_the_kernels_tables() -> None:
    assert (Gateway(Address.parse("192.168.20.1"), "eth0"),) == gateways4(ROUTES4)
    assert (Gateway(Address.parse("fe80::1"), "eth0"),) == gateways6(ROUTES6)
    assert () == gateways4("") == gateways6("")


@given(st.text(max_size=300))
def test_no_table_is_too_odd_to_be_read(text: str) -> None:
    gateways4(text)
    gateways6(text)


@given(st.sampled_from([4, 6]), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=64))
def test_an_echo_comes_back_as_it_went_out(version: int, identifier: int, sequence: int, data: bytes) -> None:
    request = encode_echo_request(version, identifier, sequence, data)
    header = b"\x45" + bytes(19) if version == 4 else b""
    with pytest.raises(RemoteProtocolError):
        decode_echo_reply(version, header + request)
    reply = header + bytes((0 if version == 4 else 129,)) + request[1:]
    assert (identifier, sequence, data) == decode_echo_reply(version, reply)


@given(st.binary(max_size=64))
def test_no_packet_is_too_odd_to_be_refused(packet: bytes) -> None:
    for version in (4, 6):
        try:
            decode_echo_reply(version, packet)
        except RemoteProtocolError:
            continue


def test_the_checksum_is_that_of_the_rfc() -> None:
    # RFC 1071 section 3: the sum over a message that has its checksum in it is all ones.
    request = encode_echo_request(4, 0x1234, 7, b"odd")
    words = [int.from_bytes((request + b"\0")[index : index + 2], "big") for index in range(0, len(request) + 1, 2)]
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert 0xFFFF == total

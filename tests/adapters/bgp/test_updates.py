"""UPDATEs: packed tightly, read by scapy, and those of peers treated as RFC 7606 wants."""

from __future__ import annotations

import struct
from ipaddress import IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib import bgp as scapy_bgp

from lbcore.adapters.bgp.attributes import Attributes, attribute
from lbcore.adapters.bgp.messages import Framer
from lbcore.adapters.bgp.nlri import Nlri, NlriError, encode_prefix
from lbcore.adapters.bgp.notifications import BgpError, Code
from lbcore.adapters.bgp.updates import NextHop, Update, announcements, decode_update, end_of_rib, withdrawals
from lbcore.addresses import Address, Family
from lbcore.bgp import Community
from lbcore.errors import LocalProtocolError
from lbcore.routes import Prefix

V4, V6 = Address.parse("192.0.2.7"), Address.parse("2001:db8::7")
LINK_LOCAL = Address.parse("fe80::7")


def prefixes_of(family: Family, shortest: int = 0) -> st.SearchStrategy[Prefix]:
    numbers = st.integers(0, 2**family.bits - 1).map(lambda value: Address(family.version, value))
    return st.builds(Prefix.of, numbers, st.integers(shortest, family.bits))


standard = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)).map(Community)
large = st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 3).map(Community)
communities = st.tuples(st.lists(standard, max_size=70), st.lists(large, max_size=70)).map(
    lambda both: (*both[0], *both[1])
)
attributes = st.builds(
    Attributes,
    as_path=st.lists(st.integers(1, 0xFFFFFFFF), max_size=3).map(tuple),
    local_pref=st.none() | st.integers(0, 0xFFFFFFFF),
    med=st.none() | st.integers(0, 0xFFFFFFFF),
    communities=communities,
)
next_hops = {
    Family.IPV4: st.sampled_from([NextHop(V4), NextHop(V6), NextHop(V6, LINK_LOCAL)]),
    Family.IPV6: st.sampled_from([NextHop(V6), NextHop(V6, LINK_LOCAL)]),
}


def read(message: bytes, *, four_octets: bool = True, internal: bool = False) -> Update:
    ((_, body),) = Framer().feed(message)
    return decode_update(body, four_octets=four_octets, internal=internal)


def all_of(found: tuple[Nlri, ...]) -> list[Prefix]:
    return [prefix for each in found for prefix in each.prefixes()]


@pytest.mark.parametrize("family", Family)
@given(data=st.data())
def test_what_is_announced_arrives(family: Family, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(prefixes_of(family), min_size=1, max_size=40))
    attrs, next_hop = data.draw(attributes), data.draw(next_hops[family])
    messages = list(announcements(wanted, family, attrs, next_hop, four_octets=True))
    assert all(len(message) <= 4096 for message in messages)
    updates = [read(message, internal=True) for message in messages]
    found = [prefix for update in updates for prefix in all_of((*update.announced, *update.withdrawn))]
    assert wanted == found
    for update in updates:
        assert (attrs.as_path, attrs.med, attrs.communities) == (
            update.attributes.as_path,
            update.attributes.med,
            update.attributes.communities,
        )
        # Without LOCAL_PREF an internal UPDATE is a withdrawal: RFC 7606 section 3 (d).
        assert (attrs.local_pref is None) == bool(update.withdrawn) == bool(update.faults)


@pytest.mark.parametrize("family", Family)
@given(data=st.data())
def test_what_is_withdrawn_arrives(family: Family, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(prefixes_of(family), min_size=1, max_size=40))
    updates = [read(message) for message in withdrawals(wanted, family)]
    assert wanted == [prefix for update in updates for prefix in all_of(update.withdrawn)]
    assert not any(update.announced or update.faults for update in updates)


@pytest.mark.parametrize(("family", "most"), [(Family.IPV4, 13), (Family.IPV6, 43)])
def test_ten_thousand_prefixes_take_few_messages(family: Family, most: int) -> None:
    wanted = [Prefix(family.version, 10 << family.bits - 8 | n, family.bits) for n in range(10_000)]
    attrs = Attributes(as_path=(64513,), communities=(Community((65000, 1)),))
    next_hop = NextHop(V4 if family is Family.IPV4 else V6)
    messages = list(announcements(wanted, family, attrs, next_hop, four_octets=True))
    assert all(len(message) <= 4096 for message in messages)
    assert len(messages) <= most
    assert wanted == [prefix for message in messages for prefix in all_of(read(message).announced)]
    assert len(list(withdrawals(wanted, family))) <= most


def test_an_ipv4_announcement_is_these_bytes() -> None:
    attrs = Attributes(as_path=(64513,), communities=(Community((64513, 100)),))
    (message,) = announcements(
        [Prefix.of(Address.parse("203.0.113.9"))], Family.IPV4, attrs, NextHop(V4), four_octets=True
    )
    wanted = "0000 001b 400101 00 400206 02010000fc01 400304 c0000207 c00804 fc010064 20 cb007109"
    assert bytes.fromhex(wanted) == message[19:]


def test_an_ipv6_announcement_begins_with_its_prefixes() -> None:
    attrs = Attributes(as_path=(), local_pref=100)
    (message,) = announcements(
        [Prefix.of(Address.parse("2001:db8:1::"), 48)], Family.IPV6, attrs, NextHop(V6, LINK_LOCAL), four_octets=True
    )
    hops = V6.packed.hex() + LINK_LOCAL.packed.hex()
    wanted = f"0000 003d 800e2c 0002 01 20 {hops} 00 30 20010db80001 400101 00 400200 400504 00000064"
    assert bytes.fromhex(wanted) == message[19:]


def test_an_old_peer_gets_the_long_path_beside_the_short_one() -> None:
    attrs = Attributes(as_path=(4200000001,))
    (message,) = announcements([Prefix.of(V4)], Family.IPV4, attrs, NextHop(V4), four_octets=False)
    assert bytes.fromhex("400204 02015ba0") in message
    assert bytes.fromhex("c01106 0201fa56ea01") in message
    assert (23456,) == read(message, four_octets=False).attributes.as_path
    (short,) = announcements([Prefix.of(V4)], Family.IPV4, Attributes(as_path=(64513,)), NextHop(V4), four_octets=False)
    assert b"\xc0\x11" not in short


# scapy guesses from the bytes whether prefixes have path identifiers, and takes many short ones for such.
@settings(max_examples=30)
@given(wanted=st.lists(prefixes_of(Family.IPV4, 17), min_size=1, max_size=20), attrs=attributes)
def test_scapy_reads_our_ipv4_announcements(wanted: list[Prefix], attrs: Attributes) -> None:
    scapy_bgp.bgp_module_conf.use_2_bytes_asn = False
    found: list[str] = []
    for message in announcements(wanted, Family.IPV4, attrs, NextHop(V4), four_octets=True):
        update: Any = scapy_bgp.BGP(message)[scapy_bgp.BGPUpdate]
        found += [nlri.prefix for nlri in update.nlri]
        kinds = {each.type_code: each for each in update.path_attr}
        assert list(kinds) == sorted(kinds)
        assert str(V4) == kinds[3].attribute.next_hop
        if attrs.as_path:
            assert list(attrs.as_path) == kinds[2].attribute.segments[0].segment_value
        if attrs.local_pref is not None:
            assert attrs.local_pref == kinds[5].attribute.local_pref
    assert [str(each) for each in wanted] == found


@settings(max_examples=30)
@given(wanted=st.lists(prefixes_of(Family.IPV6, 17), min_size=1, max_size=20), attrs=attributes)
def test_scapy_reads_our_ipv6_announcements(wanted: list[Prefix], attrs: Attributes) -> None:
    found: list[str] = []
    for message in announcements(wanted, Family.IPV6, attrs, NextHop(V6), four_octets=True):
        update: Any = scapy_bgp.BGP(message)[scapy_bgp.BGPUpdate]
        reach = update.path_attr[0].attribute
        assert (2, 1, 16) == (reach.afi, reach.safi, reach.nh_addr_len)
        found += [nlri.prefix for nlri in reach.nlri]
    assert [IPv6Network(str(each)) for each in wanted] == [IPv6Network(each) for each in found]


@pytest.mark.parametrize("family", Family)
def test_the_end_of_the_routes_is_marked(family: Family) -> None:
    assert Update(end_of_rib=family) == read(end_of_rib(family))
    wanted = {Family.IPV4: "00000000", Family.IPV6: "00000006800f03000201"}[family]
    assert bytes.fromhex(wanted) == end_of_rib(family)[19:]


def test_attributes_without_room_for_a_prefix_are_our_own_fault() -> None:
    many = Attributes(communities=tuple(Community((n, n, n)) for n in range(340)))
    with pytest.raises(LocalProtocolError):
        list(announcements([Prefix.of(V4)], Family.IPV4, many, NextHop(V4), four_octets=True))


# What a peer sends.

ORIGIN, PATH, HOP = attribute(0x40, 1, b"\0"), attribute(0x40, 2, b"\2\1\0\0\xfc\0"), attribute(0x40, 3, V4.packed)
GOOD = ORIGIN + PATH + HOP
ROUTE = encode_prefix(Prefix.of(Address.parse("198.51.100.0"), 24))


def update(attrs: bytes, routes: bytes = ROUTE, withdrawn: bytes = b"") -> bytes:
    return struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attrs)) + attrs + routes


def take(body: bytes, *, internal: bool = False) -> Update:
    return decode_update(body, four_octets=True, internal=internal)


@pytest.mark.parametrize(
    "attrs",
    [
        attribute(0x40, 1, b"\7") + PATH + HOP,
        attribute(0x40, 1, b"") + PATH + HOP,
        attribute(0xC0, 1, b"\0") + PATH + HOP,
        ORIGIN + attribute(0x40, 2, b"\2\2\0\0\xfc\0") + HOP,
        ORIGIN + attribute(0x40, 2, b"\x09\1\0\0\xfc\0") + HOP,
        ORIGIN + attribute(0x40, 2, b"\2\0") + HOP,
        ORIGIN + PATH + attribute(0x40, 3, b"\1\2\3"),
        ORIGIN + PATH,
        GOOD + attribute(0x80, 4, b"\0"),
        GOOD + attribute(0xC0, 8, b"\0\0\0"),
        GOOD + attribute(0xC0, 8, b""),
        GOOD + attribute(0xC0, 32, bytes(11)),
        GOOD + attribute(0xC0, 16, bytes(7)),
        GOOD + b"\xc0\x08\x40\0",
        GOOD + b"\xc0\x08",
        GOOD + b"\xd0\x08\x00",
    ],
)
def test_a_broken_attribute_withdraws_its_routes_and_keeps_the_session(attrs: bytes) -> None:
    found = take(update(attrs))
    assert (ROUTE,) == tuple(each.data for each in found.withdrawn)
    assert () == found.announced
    assert found.faults


@pytest.mark.parametrize(
    "extra",
    [
        attribute(0x40, 5, bytes(4)),
        attribute(0x40, 6, b"\1"),
        attribute(0xC0, 7, bytes(3)),
        attribute(0x40, 1, b"\1"),
        attribute(0xC0, 17, b"\2"),
        attribute(0xC0, 18, b"\2"),
    ],
)
def test_a_broken_attribute_that_decides_nothing_is_passed_over(extra: bytes) -> None:
    found = take(update(GOOD + extra))
    assert (ROUTE,) == tuple(each.data for each in found.announced)
    assert 1 == len(found.faults)


@pytest.mark.parametrize("extra", [attribute(0x80, 9, b""), attribute(0x80, 10, b"\1"), attribute(0xE0, 200, b"abc")])
def test_attributes_of_others_do_not_matter(extra: bytes) -> None:
    found = take(update(GOOD + extra))
    assert (1, ()) == (len(found.announced), found.faults)


UNREACH = attribute(0x80, 15, b"\0\2\1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\xff\xff\0\0", (3, 1)),
        (b"\0\0\xff\xff", (3, 1)),
        (update(GOOD, b"\x21abcde"), (3, 10)),
        (update(GOOD, b"\x20abc"), (3, 10)),
        (update(GOOD, withdrawn=b"\x20abc"), (3, 10)),
        (update(GOOD + UNREACH + UNREACH), (3, 1)),
        (update(GOOD + attribute(0x40, 99, b"x")), (3, 2)),
        (update(GOOD + attribute(0x80, 14, b"\0\2\1\x07" + bytes(8)), b""), (3, 9)),
        (update(GOOD + attribute(0x80, 14, b"\0\2\1"), b""), (3, 9)),
        (update(GOOD + attribute(0x80, 14, b"\0\2\1\x10" + bytes(17) + b"\x81"), b""), (3, 9)),
        (update(GOOD + attribute(0x80, 15, b"\0\2"), b""), (3, 9)),
        (update(attribute(0x40, 1, b"\7"), b""), (3, 1)),
    ],
)
def test_what_hides_the_prefixes_ends_the_session(body: bytes, code: tuple[int, int]) -> None:
    with pytest.raises(BgpError) as caught:
        take(body)
    assert code == (caught.value.notification.code, caught.value.notification.subcode)


def test_families_that_nobody_asked_for_are_passed_over() -> None:
    foreign = attribute(0x80, 14, b"\0\x19\x46\4" + bytes(5) + b"whatever")
    assert Update() == Update(withdrawn=take(update(foreign, b"")).withdrawn)


@given(st.binary(max_size=200))
def test_garbage_attributes_raise_only_what_is_declared(attrs: bytes) -> None:
    for routes in (ROUTE, b""):
        try:
            take(update(attrs, routes))
        except BgpError as error:
            assert Code.UPDATE == error.notification.code


@given(st.binary(min_size=4, max_size=200), st.booleans(), st.booleans())
def test_garbage_updates_raise_only_what_is_declared(body: bytes, four_octets: bool, internal: bool) -> None:
    try:
        decode_update(body, four_octets=four_octets, internal=internal)
    except BgpError as error:
        assert Code.UPDATE == error.notification.code


@given(data=st.data())
def test_a_good_update_with_a_flipped_byte_raises_only_what_is_declared(data: st.DataObject) -> None:
    wanted = data.draw(st.lists(prefixes_of(Family.IPV6), min_size=1, max_size=5))
    (message,) = announcements(wanted, Family.IPV6, data.draw(attributes), NextHop(V6), four_octets=True)
    body = bytearray(message[19:])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        take(bytes(body))
    except BgpError as error:
        assert Code.UPDATE == error.notification.code


@given(st.sampled_from(Family), st.binary(max_size=60))
def test_prefixes_that_pass_the_check_can_be_listed(family: Family, data: bytes) -> None:
    try:
        found = Nlri.check(family, data)
    except NlriError:
        return
    listed = list(found.prefixes())
    assert found.count == len(listed)
    assert listed == list(Nlri.check(family, b"".join(map(encode_prefix, listed))).prefixes())

"""Addresses and ranges, with the standard library's `ipaddress` as the second opinion."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange, merge_ranges
from lbcore.errors import AddressError
from strategies import addresses, clumped_ranges, ranges

MAPPED = range(0xFFFF << 32, 0x1_0000 << 32)


def judge(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.IPv4Address(address.value) if address.version == 4 else ipaddress.IPv6Address(address.value)


def is_mapped(address: Address) -> bool:
    return address.version == 6 and address.value in MAPPED


@given(addresses())
@example(Address(6, 0))
@example(Address(6, 1))
@example(Address(6, 0xFFFF))
@example(Address(6, 0x1_0000))
@example(Address(6, 0x01020304))
@example(Address(6, 0xFFFF_FFFF))
@example(Address(6, 0x1_0000_0000))
@example(Address(6, 0x20010DB8_0001_0000_0000_0001_0000_0001))
@example(Address(4, 0))
@example(Address(4, 0xFFFFFFFF))
def test_an_address_prints_as_rfc_5952_and_reads_back(address: Address) -> None:
    if is_mapped(address):
        return
    assert str(judge(address)) == str(address)
    assert address == Address.parse(str(address))
    assert address == Address.parse(f" {judge(address).exploded}\n")


@given(addresses())
def test_an_address_packs_as_it_stands_in_a_frame(address: Address) -> None:
    assert judge(address).packed == address.packed
    assert address == Address.from_bytes(address.packed)


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_bytes_of_another_length_are_no_address(length: int) -> None:
    with pytest.raises(AddressError):
        Address.from_bytes(bytes(length))


def test_families_are_named_as_kubernetes_names_them() -> None:
    four, six = Address.parse("192.0.2.1").family, Address.parse("2001:db8::1").family
    assert ("IPv6", 6, 128, "IPv4") == (six.value, six.version, six.bits, six.other.value)
    assert ("IPv4", 4, 32, "IPv6") == (four.value, four.version, four.bits, four.other.value)


def test_an_ipv4_mapped_address_is_refused_and_says_what_to_write() -> None:
    for text in ("::ffff:192.0.2.1", "::ffff:c000:201", "0:0:0:0:0:ffff:192.0.2.1"):
        with pytest.raises(AddressError, match=r"write 192\.0\.2\.1$"):
            Address.parse(text)
    assert "::fffe:ffff:ffff" == str(Address.parse("::fffe:ffff:ffff"))
    assert "::1:0:0:0" == str(Address.parse("::1:0:0:0"))


# Whatever people type: fragments of addresses, masks and ranges, put together at random.
fragments = st.lists(
    st.sampled_from(["192.0.2.1", "2001:db8::", "::", "-", "/", "24", "0", "129", "%eth0", " ", ".", ":", "x", "1e3"]),
    max_size=5,
).map("".join)
garbage = st.text(max_size=30) | fragments | st.binary(max_size=20).map(lambda data: data.decode("latin-1"))


@given(garbage)
@example("1.2.3.4/" + "1" * 5000)
@example("1.2.3.4/" + "0" * 5000)
@example("1.2.3.4/٣")
@example("1.2.3.0/-1")
@example("\x00")
@example("\uff11.2.3.4")
@example("1.2.3")
@example("0x7f000001")
@example("010.0.0.1")
@example("fe80::1%eth0")
@example("-")
@example("/")
def test_garbage_raises_address_error_or_means_what_the_standard_library_thinks(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError as error:
        assert "write" in str(error)
    else:
        assert judge(address) == ipaddress.ip_address(text.strip())
    try:
        AddressRange.parse(text)
    except AddressError as error:
        assert str(error)


@given(addresses().filter(lambda address: not is_mapped(address)), st.data())
def test_a_cidr_covers_what_the_standard_library_says(address: Address, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, address.family.bits))
    text = f"{address}/{length}"
    network = ipaddress.ip_network(text, strict=False)
    parsed = AddressRange.parse(text)
    assert (int(network.network_address), int(network.broadcast_address)) == (parsed.first, parsed.last)
    assert network.num_addresses == parsed.size
    assert address.family is parsed.family


@given(ranges())
def test_a_range_is_covered_exactly_by_the_fewest_cidrs_in_ascending_order(given_range: AddressRange) -> None:
    first, last = judge(Address(given_range.version, given_range.first)), given_range.last
    expected = ipaddress.summarize_address_range(first, judge(Address(given_range.version, last)))
    found = [ipaddress.ip_network(text) for text in given_range.cidrs()]
    assert list(expected) == found


@given(ranges())
def test_a_range_prints_as_text_that_reads_back(given_range: AddressRange) -> None:
    ends = [Address(given_range.version, given_range.first), Address(given_range.version, given_range.last)]
    if any(map(is_mapped, ends)):
        return
    assert given_range == AddressRange.parse(str(given_range))
    assert given_range == AddressRange.parse(f" {ends[0]} - {ends[1]} ")
    assert (len(given_range.cidrs()) == 1) == ("/" in str(given_range))


@given(addresses(), addresses())
def test_ends_of_two_families_or_in_the_wrong_order_make_no_range(one: Address, other: Address) -> None:
    if is_mapped(one) or is_mapped(other):
        return
    text = f"{one}-{other}"
    if one.version != other.version:
        with pytest.raises(AddressError, match=r"mixes IPv[46] and IPv[46]"):
            AddressRange.parse(text)
    elif one > other:
        with pytest.raises(AddressError, match="swap the two addresses"):
            AddressRange.parse(text)
    else:
        assert AddressRange(one.version, one.value, other.value) == AddressRange.parse(text)


def test_a_bare_address_is_no_range_and_the_error_shows_the_mask() -> None:
    for text, cure in (("2001:db8::1", "2001:db8::1/128"), ("192.0.2.1", "192.0.2.1/32")):
        with pytest.raises(AddressError, match=f"write {cure}$"):
            AddressRange.parse(text)


def test_a_mask_that_is_too_long_says_how_long_it_may_be() -> None:
    for text, longest in (("::/129", "/128"), ("0.0.0.0/33", "/32"), ("::/", "/128"), ("10.0.0.0/ 8", "/32")):
        with pytest.raises(AddressError, match=f"from /0 to {longest}$"):
            AddressRange.parse(text)


@given(ranges(max_size=40) | clumped_ranges(4), ranges(max_size=40) | clumped_ranges(4), addresses())
def test_overlap_and_membership_are_those_of_sets(one: AddressRange, other: AddressRange, address: Address) -> None:
    def members(of: AddressRange) -> set[tuple[int, int]]:
        return {(of.version, value) for value in range(of.first, of.last + 1)}

    assert bool(members(one) & members(other)) == one.overlaps(other) == other.overlaps(one)
    assert ((address.version, address.value) in members(one)) == (address in one)
    for value in (one.first - 1, one.first, one.last, one.last + 1):
        assert (one.first <= value <= one.last) == (Address(one.version, value) in one)
        assert Address(10 - one.version, value) not in one
    assert len(members(one)) == one.size


@given(st.lists(clumped_ranges(4), max_size=8))
def test_merged_ranges_hold_the_same_addresses_apart_and_in_order(given_ranges: list[AddressRange]) -> None:
    merged = list(merge_ranges(given_ranges))
    assert {(each.version, v) for each in given_ranges for v in range(each.first, each.last + 1)} == {
        (each.version, v) for each in merged for v in range(each.first, each.last + 1)
    }
    assert all((one.version, one.last + 1) < (other.version, other.first) for one, other in itertools.pairwise(merged))


@given(st.lists(addresses(), max_size=8))
def test_addresses_sort_as_numbers_with_all_of_ipv4_first(found: list[Address]) -> None:
    assert sorted(found, key=lambda address: (address.version, address.value)) == sorted(found)


def test_a_range_that_is_no_block_prints_its_two_ends() -> None:
    assert ["10.0.0.1-10.0.0.4", "2001:db8::2-2001:db8::5"] == [
        str(AddressRange.parse(text)) for text in ("10.0.0.1-10.0.0.4", "2001:db8::2-2001:db8::5")
    ]
    assert "10.0.0.4/30" == str(AddressRange.parse("10.0.0.4-10.0.0.7"))

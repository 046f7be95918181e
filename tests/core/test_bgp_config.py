"""BGP's wishes joined into one configuration: names that must exist, and what cannot stand beside each other."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange, Family
from lbcore.bgp import (
    BFDProfile,
    BGPAdvertisement,
    BGPPeer,
    Community,
    CommunityAlias,
    local_prefs_agree,
    parse_community,
)
from lbcore.config import Config, ConfigDocument, InvalidConfig, Origin, Pool, Resource, build
from lbcore.errors import CommunityError
from lbcore.model import LabelSelector
from strategies import ranges

KINDS = {Pool: "IPAddressPool", CommunityAlias: "Community"}
RACK_A, RACK_B = LabelSelector.of(rack="a"), LabelSelector.of(rack="b")


def document(resource: Resource) -> ConfigDocument:
    kind = KINDS.get(type(resource), type(resource).__name__)
    origin = Origin(kind=kind, namespace="metallb-system", name=resource.name, source=f"{resource.name}.yaml")
    return ConfigDocument(origin=origin, resources=(resource,))


def peer(name: str = "spine", address: str = "2001:db8::1", **more: Any) -> BGPPeer:
    return BGPPeer(name=name, my_asn=64500, peer_asn=64501, address=Address.parse(address), **more)


def alias(name: str, value: str) -> CommunityAlias:
    return CommunityAlias(name=name, community=parse_community(value))


def joined(*resources: Resource) -> Config | InvalidConfig:
    return build([document(each) for each in resources])


def sound(*resources: Resource) -> Config:
    built = joined(*resources)
    assert isinstance(built, Config), built
    return built


def problems(*resources: Resource) -> list[tuple[str, str, str]]:
    built = joined(*resources)
    assert isinstance(built, InvalidConfig)
    return [(each.object.partition("/")[2], each.field, each.message) for each in built.problems]


def the_problem(*resources: Resource) -> tuple[str, str, str]:
    (found,) = problems(*resources)
    return found


SIX = Pool.parse("six", "2001:db8:5::/64")
FOUR = Pool.parse("four", "10.0.0.0/24")


# Communities.


@given(st.tuples(*[st.integers(0, 2**16 - 1)] * 2) | st.tuples(*[st.integers(0, 2**32 - 1)] * 3))
def test_a_community_is_read_back_from_its_text(fields: tuple[int, ...]) -> None:
    community = Community(fields)
    assert community == parse_community(str(community))


@given(st.text("0123456789:large ", max_size=20) | st.text(max_size=10))
@example("large:1:2:4294967296")
@example("65536:1")
@example("\uff11:1")
@example("1:" + "9" * 5000)
def test_any_text_is_a_community_or_is_refused_with_what_to_write(text: str) -> None:
    try:
        community = parse_community(text)
    except CommunityError as error:
        assert "is not a community" in str(error)
        return
    parts = text.removeprefix("large:").split(":")
    assert tuple(int(part) for part in parts) == community.fields
    assert community.is_large is text.startswith("large:")


def test_communities_sort_as_numbers_and_not_as_texts() -> None:
    texts = ["large:1:10:0", "65000:100", "65000:20", "large:4259840020:0:0", "large:1:9:9", "9:9"]
    expected = ["large:1:9:9", "large:1:10:0", "9:9", "65000:20", "large:4259840020:0:0", "65000:100"]
    assert expected == [str(each) for each in sorted(parse_community(text) for text in texts)]


def test_names_and_literals_become_communities_sorted_and_none_twice() -> None:
    advert = BGPAdvertisement(name="a", community_texts=("no-export", "65000:2", "large:1:2:3", "65535:65281"))
    config = sound(advert, alias("no-export", "65535:65281"))
    assert ["large:1:2:3", "65000:2", "65535:65281"] == [str(c) for c in config.bgp_advertisements[0].communities]


def test_a_name_counts_before_a_literal() -> None:
    config = sound(BGPAdvertisement(name="a", community_texts=("1:1",)), alias("1:1", "2:2"))
    assert (Community((2, 2)),) == config.bgp_advertisements[0].communities


def test_an_unknown_community_is_refused_with_the_name_that_was_meant() -> None:
    where, path, message = the_problem(
        BGPAdvertisement(name="a", community_texts=("1:1", "no-exprot")), alias("no-export", "65535:65281")
    )
    assert ("a", "spec.communities[1]") == (where, path)
    assert "did you mean no-export?" in message


def test_a_name_for_two_communities_is_refused_wherever_the_second_stands() -> None:
    one, two = alias("site", "1:1"), alias("site", "1:2")
    origin = Origin(kind="Community", namespace="metallb-system", name="more", source="more.yaml")
    built = build([document(one), ConfigDocument(origin=origin, resources=(two,))])
    assert isinstance(built, InvalidConfig)
    assert [("Community metallb-system/site", "community 'site' is defined twice (also by Community metallb-system/more"
             " in more.yaml); rename one")] == [(each.object, each.message) for each in built.problems]  # fmt: skip


def test_a_route_with_more_communities_than_routers_take_is_refused() -> None:
    texts = tuple(f"1:{n}" for n in range(64))
    assert 63 == len(sound(BGPAdvertisement(name="a", community_texts=texts[:63])).bgp_advertisements[0].communities)
    assert "an advertisement can have 63" in the_problem(BGPAdvertisement(name="a", community_texts=texts))[2]


def test_communities_that_add_up_to_more_than_a_message_holds_are_refused() -> None:
    def of(name: str, first: int, count: int, **fields: Any) -> BGPAdvertisement:
        texts = tuple(f"large:1:2:{n}" for n in range(first, first + count))
        return BGPAdvertisement(name=name, community_texts=texts, **fields)

    four = [of("a", 0, 63), of("b", 63, 63), of("c", 126, 63), of("d", 189, 63)]
    sound(SIX, *four)
    sound(SIX, *four, of("e", 0, 63))
    name, field, text = the_problem(SIX, *four, of("e", 252, 1))
    assert ("e", "spec.communities") == (name, field)
    assert "a route would have 253 communities, and 252 fit" in text
    sound(SIX, FOUR, *four[:3], of("d", 189, 63, pools=("six",)), of("e", 252, 1, pools=("nothing",)))


# Names that must exist.


def test_a_peer_with_an_unknown_profile_is_refused() -> None:
    where, path, message = the_problem(peer(bfd_profile="quikc"), BFDProfile(name="quick"))
    assert ("spine", "spec.bfdProfile") == (where, path)
    assert "did you mean quick?" in message
    sound(peer(bfd_profile="quick"), BFDProfile(name="quick"))


def test_what_a_broken_document_would_have_defined_is_not_missed() -> None:
    origin = Origin(kind="BFDProfile", namespace="metallb-system", name="quick", source="quick.yaml")
    broken = ConfigDocument(origin=origin, problems=(origin.problem("spec.detectMultiplier", "must be more"),))
    built = build([broken, document(peer(bfd_profile="quick"))])
    assert isinstance(built, InvalidConfig)
    assert ["spec.detectMultiplier"] == [problem.field for problem in built.problems]


def test_names_of_peers_and_pools_that_do_not_exist_are_passed_over() -> None:
    sound(BGPAdvertisement(name="a", pools=("no-such",), peers=("no-such",)), SIX)


@pytest.mark.parametrize(
    "twice", [peer(), BGPAdvertisement(name="a"), BFDProfile(name="b"), SIX], ids=lambda each: type(each).__name__
)
def test_two_of_one_kind_and_name_are_refused(twice: Resource) -> None:
    origin = Origin(kind="Other", namespace="elsewhere", name="other", source="other.yaml")
    built = build([document(twice), ConfigDocument(origin=origin, resources=(twice,))])
    assert isinstance(built, InvalidConfig)
    assert "is defined twice" in built.problems[0].message


# Two sessions with one router.


def test_one_router_twice_on_the_same_nodes_is_refused() -> None:
    where, path, message = the_problem(peer("a"), peer("b", node_selectors=(RACK_A,)))
    assert ("b", "spec.peerAddress") == (where, path)
    assert "2001:db8::1 port 179 is BGPPeer 'a' already" in message
    unnumbered = [BGPPeer(name=name, my_asn=1, peer_asn=2, interface="eth1") for name in ("c", "d")]
    assert ("d", "spec.interface") == the_problem(*unnumbered)[:2]


@pytest.mark.parametrize(
    "other",
    [
        peer("b", "2001:db8::2"),
        peer("b", port=1179),
        peer("b", vrf="red"),
        peer("b", source_address=Address.parse("2001:db8::9")),
        peer("b", node_selectors=(RACK_B,)),
    ],
    ids=["address", "port", "vrf", "source", "nodes"],
)
def test_what_differs_is_another_session(other: BGPPeer) -> None:
    sound(peer("a", node_selectors=(RACK_A,)), other)


# Aggregates.


@given(ranges(), st.integers(1, 128))
@example(AddressRange.parse("10.0.0.1-10.0.0.254"), 25)
@example(AddressRange.parse("2001:db8::/64"), 64)
def test_an_aggregate_may_not_be_wider_than_the_largest_block_of_each_range(within: AddressRange, length: int) -> None:
    length = min(length, within.family.bits)
    shortest = min(int(cidr.rpartition("/")[2]) for cidr in within.cidrs())
    if within.family is Family.IPV4:
        advert = BGPAdvertisement(name="a", aggregation_length=length)
    else:
        advert = BGPAdvertisement(name="a", aggregation_length_v6=length)
    built = joined(Pool(name="p", ranges=(within,)), advert)
    told = built.problems if isinstance(built, InvalidConfig) else ()
    assert (length < shortest) is any("is wider than" in problem.message for problem in told)


def test_an_aggregate_is_judged_against_the_pools_that_it_announces_only() -> None:
    wide = BGPAdvertisement(name="a", pools=("four",), aggregation_length=24, aggregation_length_v6=48)
    sound(FOUR, SIX, wide)
    everywhere = BGPAdvertisement(name="a", aggregation_length=24, aggregation_length_v6=48)
    where, path, message = the_problem(FOUR, SIX, everywhere)
    assert ("a", "spec.aggregationLengthV6") == (where, path)
    assert "48 is wider than 2001:db8:5::/64 of pool 'six'" in message
    assert "write 64 or more" in message


# LOCAL_PREF.


NAMES = ["p", "q", "r"]
adverts = st.builds(
    BGPAdvertisement,
    name=st.just("x"),
    peers=st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    aggregation_length=st.sampled_from([24, 32]),
    aggregation_length_v6=st.sampled_from([64, 128]),
    local_pref=st.sampled_from([0, 100]),
)


def routes(advert: BGPAdvertisement, address: Address) -> dict[tuple[str, int], int]:
    """What each peer hears of an address: the prefix's length, and its LOCAL_PREF."""
    length = advert.length(address.family)
    return {(name, length): advert.local_pref for name in advert.peers or NAMES}


@given(adverts, adverts, st.sets(st.sampled_from(Family), min_size=1))
def test_two_preferences_agree_unless_a_peer_hears_both_for_one_prefix(
    one: BGPAdvertisement, other: BGPAdvertisement, of: set[Family]
) -> None:
    # A family whose lengths are equal is enough to be heard twice: both families must differ to agree.
    heard = [
        routes(one, address)[route] != routes(other, address)[route]
        for address in (Address(4, 0x0A000001), Address(6, 0x20010DB8 << 96))
        if address.family in of
        for route in routes(one, address).keys() & routes(other, address).keys()
    ]
    assert any(heard) is not local_prefs_agree(one, other, of)
    assert local_prefs_agree(one, other, of) is local_prefs_agree(other, one, of)


def test_two_preferences_for_one_pool_are_refused() -> None:
    one, other = BGPAdvertisement(name="a", local_pref=100), BGPAdvertisement(name="b")
    where, path, message = the_problem(SIX, one, other)
    assert ("b", "spec.localPref") == (where, path)
    assert "0 contradicts 100 of BGPAdvertisement 'a' for pool 'six'" in message


def test_two_lists_of_nodes_with_one_selector_in_common_meet() -> None:
    both, a_only = (RACK_B, RACK_A), (RACK_A,)
    one = BGPAdvertisement(name="a", local_pref=100, node_selectors=both)
    assert "spec.localPref" == the_problem(SIX, one, BGPAdvertisement(name="b", node_selectors=a_only))[1]
    assert "spec.peerAddress" == the_problem(peer("a", node_selectors=a_only), peer("b", node_selectors=both))[1]


@pytest.mark.parametrize(
    "other",
    [
        BGPAdvertisement(name="b", pools=("four",)),
        BGPAdvertisement(name="b", node_selectors=(RACK_B,)),
        BGPAdvertisement(name="b", peers=("q",)),
        BGPAdvertisement(name="b", aggregation_length_v6=64),
        BGPAdvertisement(name="b", service_selectors=(RACK_A,)),
    ],
    ids=["pool", "nodes", "peers", "length", "services"],
)
def test_preferences_that_may_never_meet_are_left_to_each_node(other: BGPAdvertisement) -> None:
    one = BGPAdvertisement(name="a", local_pref=100, pools=("six",), peers=("p",), node_selectors=(RACK_A,))
    sound(SIX, FOUR, one, other)


# BFD's echo.


def test_echoes_and_ipv6_do_not_go_together() -> None:
    echo, advert = BFDProfile(name="echo", echo_mode=True), BGPAdvertisement(name="a", peers=("spine",))
    sound(FOUR, echo, advert, peer(bfd_profile="echo"))
    sound(SIX, echo, advert, peer("other", bfd_profile="echo"))  # no advertisement reaches it
    sound(SIX, BFDProfile(name="echo"), advert, peer(bfd_profile="echo"))
    where, path, message = the_problem(SIX, echo, advert, peer(bfd_profile="echo"))
    assert ("spine", "spec.bfdProfile") == (where, path)
    assert "name a profile without echoMode" in message


# Addresses that can be nobody's.


def is_nobodys(address: Address) -> bool:
    found = ipaddress.ip_address(str(address)) if address.version == 4 else ipaddress.IPv6Address(address.value)
    mapped = isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None
    broadcast = found == ipaddress.ip_address("255.255.255.255")
    return found.is_unspecified or (found.is_loopback and not mapped) or found.is_multicast or mapped or broadcast


@given(ranges(max_size=64))
@example(AddressRange.parse("223.255.255.250-224.0.0.0"))
@example(AddressRange.parse("126.255.255.255/32"))
@example(AddressRange(6, (0xFFFF << 32) - 3, 0xFFFF << 32))
@example(AddressRange.parse("::1/128"))
def test_a_range_with_addresses_of_nobody_is_refused(within: AddressRange) -> None:
    bad = any(is_nobodys(Address(within.version, value)) for value in range(within.first, within.last + 1))
    built = joined(Pool(name="p", ranges=(AddressRange.parse("192.0.2.0/31"), within)))
    told = built.problems if isinstance(built, InvalidConfig) else ()
    assert bad is any(
        problem.field == "spec.addresses[1]" and "can never be announced" in problem.message for problem in told
    )


# All together.


@given(st.data())
def test_the_order_of_bgp_documents_does_not_matter(data: st.DataObject) -> None:
    some: list[Resource] = [peer("a"), peer("b"), peer("c", bfd_profile="x"), SIX, FOUR, alias("k", "1:1")]
    drawn = data.draw(st.lists(st.sampled_from(some) | adverts, max_size=7))
    documents = []
    for number, each in enumerate(drawn):
        origin = Origin(kind="Any", namespace="metallb-system", name=f"{number}", source=f"{number}.yaml")
        documents.append(ConfigDocument(origin=origin, resources=(each,)))
    assert build(documents) == build(data.draw(st.permutations(documents)))


def test_a_profile_is_not_missed_while_an_old_config_map_cannot_be_read() -> None:
    origin = Origin(kind="ConfigMap", namespace="metallb-system", name="config", source="config.yaml")
    broken = ConfigDocument(origin=origin, problems=(origin.problem("data.config", "must be a mapping"),))
    built = build([broken, document(peer(bfd_profile="quick"))])
    assert isinstance(built, InvalidConfig)
    assert ["data.config"] == [problem.field for problem in built.problems]


@pytest.mark.parametrize("text", ["127.1.0.0/24", "127.255.255.255/32", "::1/128"])
def test_all_of_loopback_is_refused(text: str) -> None:
    _, path, message = the_problem(Pool.parse("loop", text))
    assert ("spec.addresses[0]", True) == (path, "is loopback); take them out" in message)


def test_echoes_do_no_harm_to_an_ipv6_pool_that_is_announced_elsewhere() -> None:
    echo, advert = BFDProfile(name="echo", echo_mode=True), BGPAdvertisement(name="a", pools=("four",))
    sound(SIX, FOUR, echo, advert, peer(bfd_profile="echo"))


@pytest.mark.parametrize("text", ["small:1:2:3", "1:2:3:4", "large:1:2", "1:2:3"])
def test_three_numbers_are_a_large_community_only_when_it_says_so(text: str) -> None:
    with pytest.raises(CommunityError, match="write 65000:100 or large:65000:1:2"):
        parse_community(text)


@pytest.mark.parametrize(("text", "most"), [("1:65536", 65535), ("large:1:2:4294967296", 4294967295)])
def test_a_number_of_a_community_that_is_one_too_many_is_refused(text: str, most: int) -> None:
    with pytest.raises(CommunityError, match=f"write a number from 0 to {most}, not"):
        parse_community(text)

"""BGPPeer, BGPAdvertisement, BFDProfile, Community, also in the old ConfigMap: what each field becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.documents import read, read_text
from lbcore.adapters.kubernetes.durations import SECOND, parse_duration
from lbcore.addresses import Address
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, CommunityAlias, DynamicASN, SecretRef, parse_community
from lbcore.config import ConfigDocument, L2Advertisement, Pool, Resource
from lbcore.events import ConfigSeen
from lbcore.model import LabelRequirement, LabelSelector, Operator

GOOD = Path(__file__).parent.parent / "data" / "manifests"

Wanted = TypeVar("Wanted", Pool, L2Advertisement, BGPPeer, BGPAdvertisement, BFDProfile, CommunityAlias)


def resources(name: str, kind: type[Wanted]) -> dict[str, Wanted]:
    found: list[Resource] = []
    for entry in read_text((GOOD / name).read_text("utf-8"), name):
        assert isinstance(entry, ConfigSeen)
        assert () == entry.document.problems
        found += entry.document.resources
    return {each.name: each for each in found if isinstance(each, kind)}


def peer(**spec: Any) -> ConfigDocument:
    """A document whose peer has these fields and otherwise sound ones; None takes a field out."""
    fields = {"myASN": 64500, "peerASN": 64501, "peerAddress": "2001:db8::1"} | spec
    return decoded(
        "BGPPeer", {name: value for name, value in fields.items() if value is not None}, "metallb.io/v1beta2"
    )


def decoded(kind: str, spec: dict[str, Any], version: str = "metallb.io/v1beta1") -> ConfigDocument:
    seen = read({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}, "x.yaml")
    assert isinstance(seen, ConfigSeen)
    return seen.document


def the_peer(document: ConfigDocument) -> BGPPeer:
    assert () == document.problems
    (found,) = document.resources
    assert isinstance(found, BGPPeer)
    return found


def faults(document: ConfigDocument) -> list[str]:
    assert () == document.resources
    return [problem.field for problem in document.problems]


def test_every_field_of_a_peer_is_read() -> None:
    assert resources("bgp.yaml", BGPPeer)["spine-six"] == BGPPeer(
        name="spine-six",
        my_asn=4200000001,
        peer_asn=64501,
        local_asn=64999,
        address=Address.parse("2001:db8::1"),
        source_address=Address.parse("2001:db8::10"),
        port=1179,
        hold_time=90,
        keepalive_time=20,
        connect_time=5,
        router_id=Address.parse("10.0.0.10"),
        node_selectors=(
            LabelSelector.of(rack="a"),
            LabelSelector((LabelRequirement("rack", Operator.IN, ("b", "c")),)),
        ),
        password_secret=SecretRef("spine", "metallb-system"),
        bfd_profile="quick",
        graceful_restart=True,
        ebgp_multihop=True,
        vrf="red",
        dual_stack=True,
    )


def test_an_unnumbered_peer_with_a_dynamic_number_needs_neither_address_nor_number() -> None:
    found = resources("bgp.yaml", BGPPeer)["unnumbered"]
    assert (
        BGPPeer(name="unnumbered", my_asn=64500, dynamic_asn=DynamicASN.EXTERNAL, interface="eth1", password="s3cr3t")
        == found
    )
    assert "s3cr3t" not in repr(found)


def test_times_that_an_old_peer_leaves_out_are_the_default_and_not_zero() -> None:
    old = resources("bgp.yaml", BGPPeer)["old"]
    assert (179, None, None) == (old.port, old.hold_time, old.keepalive_time)


def test_profiles_advertisements_and_communities_are_read() -> None:
    profiles = resources("bgp.yaml", BFDProfile)
    assert BFDProfile(name="default") == profiles["default"]
    assert profiles["quick"] == BFDProfile(
        name="quick",
        receive_interval=100,
        transmit_interval=60000,
        echo_interval=10,
        detect_multiplier=2,
        minimum_ttl=254,
        passive_mode=True,
    )
    adverts = resources("bgp.yaml", BGPAdvertisement)
    assert BGPAdvertisement(name="everything") == adverts["everything"]
    assert adverts["production"] == BGPAdvertisement(
        name="production",
        pools=("production",),
        pool_selectors=(LabelSelector.of(tier="bgp"),),
        node_selectors=(LabelSelector.of(rack="a"),),
        peers=("spine-six",),
        aggregation_length=24,
        aggregation_length_v6=64,
        local_pref=2**32 - 1,
        community_texts=("no-export", "65000:100", "site", "65535:65281"),
    )
    aliases = resources("bgp.yaml", CommunityAlias)
    assert {"no-export": "65535:65281", "site": "large:4200000001:1:2"} == {
        name: str(alias.community) for name, alias in aliases.items()
    }


def test_the_old_configmap_becomes_the_same_kinds() -> None:
    peers = resources("legacy-configmap.yaml", BGPPeer)
    assert ["peer1", "peer2"] == list(peers)
    assert peers["peer2"] == BGPPeer(
        name="peer2",
        my_asn=64500,
        peer_asn=64501,
        address=Address.parse("2001:db8::1"),
        hold_time=120,
        keepalive_time=40,
        router_id=Address.parse("10.0.0.9"),
        ebgp_multihop=True,
        bfd_profile="Quick_One",
        node_selectors=(
            LabelSelector(
                (
                    LabelRequirement("router-id", Operator.IN, ("yes",)),
                    LabelRequirement("rack", Operator.IN, ("a",)),
                )
            ),
        ),
    )
    assert (
        BFDProfile(name="Quick_One", receive_interval=50, minimum_ttl=3)
        == (resources("legacy-configmap.yaml", BFDProfile)["Quick_One"])
    )
    assert parse_community("65535:65281") == (resources("legacy-configmap.yaml", CommunityAlias)["internal"].community)


def test_each_bgp_pool_of_the_old_configmap_has_its_advertisements() -> None:
    adverts = resources("legacy-configmap.yaml", BGPAdvertisement)
    assert [
        ("bgpadvertisement1", ("Old_Pool",), 32, 0, ("internal",)),
        ("bgpadvertisement2", ("Old_Pool",), 24, 100, ()),
        ("bgpadvertisement3", ("plain-bgp",), 32, 0, ()),
    ] == [
        (each.name, each.pools, each.aggregation_length, each.local_pref, each.community_texts)
        for each in adverts.values()
    ]


def test_a_pool_says_in_an_annotation_how_long_it_keeps() -> None:
    pools = resources("bgp.yaml", Pool)
    assert (600.0, 0.0) == (pools["kept"].keep_for, pools["production"].keep_for)


@pytest.mark.parametrize(
    ("hold", "keepalive", "expected"),
    [
        (None, None, (None, None)),
        ("90s", None, (90, 30)),
        (None, "7s", (21, 7)),
        ("0s", "0s", (0, 0)),
        ("900ms", None, (0, 0)),
        ("90s", "0s", (90, 30)),
        ("3s", "3s", (3, 3)),
        ("65535s", "1h", (65535, 3600)),
    ],
)
def test_times_are_whole_seconds_and_complete_each_other(
    hold: str | None, keepalive: str | None, expected: tuple[int | None, int | None]
) -> None:
    found = the_peer(peer(holdTime=hold, keepaliveTime=keepalive))
    assert expected == (found.hold_time, found.keepalive_time)


@given(hold=st.none() | st.integers(0, 70_000), keepalive=st.none() | st.integers(0, 70_000))
def test_any_times_are_refused_or_fit_each_other(hold: int | None, keepalive: int | None) -> None:
    texts = {"holdTime": hold, "keepaliveTime": keepalive}
    document = peer(**{name: None if seconds is None else f"{seconds}s" for name, seconds in texts.items()})
    refused = hold in (1, 2) or max(hold or 0, keepalive or 0) > 65535
    refused = refused or (hold is not None and keepalive is not None and keepalive > hold)
    assert refused is bool(document.problems)
    if refused:
        return
    found = the_peer(document)
    assert (found.hold_time is None) is (found.keepalive_time is None)
    if found.hold_time is not None and found.keepalive_time is not None:
        assert 0 <= found.keepalive_time <= found.hold_time <= 65535
        assert found.hold_time == 0 or found.keepalive_time > 0


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"myASN": None}, "spec.myASN"),
        ({"peerASN": None}, "spec.peerASN"),
        ({"peerASN": 0}, "spec.peerASN"),
        ({"dynamicASN": "internal"}, "spec.dynamicASN"),
        ({"peerAddress": None}, "spec.peerAddress"),
        ({"interface": "eth1"}, "spec.interface"),
        ({"peerAddress": "ff02::1"}, "spec.peerAddress"),
        ({"peerAddress": "0.0.0.0"}, "spec.peerAddress"),
        ({"sourceAddress": "10.0.0.1"}, "spec.sourceAddress"),
        ({"routerID": "2001:db8::1"}, "spec.routerID"),
        ({"routerID": "0.0.0.0"}, "spec.routerID"),
        ({"connectTime": "1500ms"}, "spec.connectTime"),
        ({"connectTime": "0s"}, "spec.connectTime"),
        ({"holdTime": "-5s"}, "spec.holdTime"),
        ({"password": "x" * 81}, "spec.password"),
        ({"password": "x", "passwordSecret": {"name": "y"}}, "spec.passwordSecret.name"),
        ({"peerASN": 64500, "ebgpMultiHop": True}, "spec.ebgpMultiHop"),
        ({"peerPort": 16385}, "spec.peerPort"),
        ({"peerPort": -1}, "spec.peerPort"),
    ],
)
def test_a_peer_that_contradicts_itself_is_refused_at_its_field(spec: dict[str, Any], path: str) -> None:
    assert [path] == faults(peer(**spec))


@pytest.mark.parametrize(
    ("value", "hops"), [("1", 1), ("254", 254), ("0", None), ("255", None), ("-1", None), ("one", None), ("1e1", None)]
)
def test_over_how_many_routers_a_peer_may_come_is_an_annotation(value: str, hops: int | None) -> None:
    metadata = {"name": "x", "annotations": {"lbcore.io/ttl-security-hops": value, "example.org/other": "kept"}}
    spec = {"myASN": 1, "peerASN": 2, "peerAddress": "2001:db8::1"}
    seen = read({"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": metadata, "spec": spec}, "x.yaml")
    assert isinstance(seen, ConfigSeen)
    if hops is not None:
        assert hops == the_peer(seen.document).ttl_security_hops
    else:
        assert ["metadata.annotations['lbcore.io/ttl-security-hops']"] == faults(seen.document)


def test_a_field_of_the_new_version_is_unknown_in_the_old_one() -> None:
    spec = {"myASN": 1, "peerASN": 2, "peerAddress": "2001:db8::1", "vrf": "red"}
    assert ["spec.vrf"] == faults(decoded("BGPPeer", spec))


def test_problems_in_the_old_configmap_are_at_its_own_names() -> None:
    text = """
peers:
- {my-asn: 0, peer-asn: 1, peer-address: nonsense, holdTime: 3s, node-selectors: [{match-label: {a: b}}]}
bfd-profiles: [{name: x, receive-interval: 5}]
bgp-communities: {a: "1:2:3"}
address-pools:
- name: p
  protocol: bgp
  addresses: [2001:db8::/64]
  bgp-advertisements: [{aggregation-length: 33, localPref: 1}]
"""
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config", "namespace": "metallb-system"},
        "data": {"config": text},
    }
    seen = read(document, "x.yaml")
    assert isinstance(seen, ConfigSeen)
    assert [
        "data.config:peers[0].holdTime",
        "data.config:peers[0].my-asn",
        "data.config:peers[0].peer-address",
        "data.config:peers[0].node-selectors[0].match-label",
        "data.config:bfd-profiles[0].receive-interval",
        "data.config:bgp-communities.a",
        "data.config:address-pools[0].bgp-advertisements[0].localPref",
        "data.config:address-pools[0].bgp-advertisements[0].aggregation-length",
    ] == [problem.field for problem in seen.document.problems]


def test_an_unknown_annotation_of_ours_on_a_pool_is_no_silent_typo() -> None:
    document = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "p", "annotations": {"lbcore.io/keepfor": "10m"}},
        "spec": {"addresses": ["2001:db8::/64"]},
    }
    seen = read(document, "x.yaml")
    assert isinstance(seen, ConfigSeen)
    (problem,) = seen.document.problems
    assert ("metadata.annotations['lbcore.io/keepfor']", True) == (problem.field, "keep-for" in problem.message)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("1m30s", 90), ("1.5h", 5400), (".5m", 30), ("1h1m1s", 3661), ("-2s", -2), ("+3s", 3)],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: int) -> None:
    assert seconds * SECOND == parse_duration(text)


def test_parts_of_a_second_are_exact() -> None:
    assert 2_999_999_999 == parse_duration("2.999999999s")
    assert 1_002_003 == parse_duration("1ms2us3ns") == parse_duration("1ms2µs3ns")
    assert 0 == parse_duration("0.9ns")


@pytest.mark.parametrize("text", ["", "90", "s", ".s", "1x", "1 s", "1s ", "1d", "٣s", "1e3s", "--1s", "1s-1s", "300y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_duration_that_go_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 292 years"):
        parse_duration("2562048h")


@given(st.text("0123456789.hmsnuµ-+", max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        found = parse_duration(text)
    except ValueError:
        return
    assert abs(found) < 2**63


def test_a_problem_of_one_field_is_told_once() -> None:
    document = decoded("Community", {"communities": [{"name": "home", "value": ["x"]}]})
    assert ["spec.communities[0].value: must be text, not a list"] == [
        f"{each.field}: {each.message}" for each in document.problems
    ]

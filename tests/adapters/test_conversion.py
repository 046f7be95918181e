"""Values to manifests and back, and other systems' objects to ours: nothing changes, or a note says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lbcore import testing
from lbcore.adapters.kubernetes.conversion import convert_config_maps, object_name
from lbcore.adapters.kubernetes.documents import read, read_text
from lbcore.adapters.kubernetes.manifests import manifest_of, manifests_of
from lbcore.adapters.kubernetes.openelb import convert_openelb
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.addresses import Address, AddressRange
from lbcore.bgp import (
    BFDProfile,
    BGPAdvertisement,
    BGPPeer,
    Community,
    CommunityAlias,
    DynamicASN,
    SecretRef,
)
from lbcore.cli.main import cli
from lbcore.config import Config, L2Advertisement, Pool, PreferredNodes, Resource, ServiceAllocation, build
from lbcore.events import ConfigSeen
from lbcore.model import LabelSelector, Operator
from strategies import label_selectors

GOOD = Path(__file__).parent.parent / "data/manifests"

names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
texts = st.lists(names, unique=True, max_size=3).map(tuple)


def sound(selector: LabelSelector) -> LabelSelector:
    """A selector that a reader could have given: `label_selectors` draws others, too."""
    made = {}
    for each in selector.requirements:
        needs_values = each.operator in (Operator.IN, Operator.NOT_IN)
        values = tuple(sorted(set(each.values))) or ("gold",)
        made[each.key] = attrs.evolve(each, values=values if needs_values else ())
    return LabelSelector(tuple(made.values()))


sound_selectors = label_selectors.map(sound)
selectors = st.lists(sound_selectors, unique=True, max_size=2).map(tuple)
asns = st.integers(1, 2**32 - 1)
allocations = st.builds(
    ServiceAllocation,
    priority=st.integers(-5, 5),
    namespaces=texts,
    namespace_selectors=selectors,
    service_selectors=selectors,
)
ranges = st.lists(testing.ranges(), min_size=1, max_size=3).map(tuple)
pools = st.builds(
    Pool,
    name=names,
    ranges=ranges,
    auto_assign=st.booleans(),
    avoid_buggy_ips=st.booleans(),
    labels=testing.labels(),
    allocation=st.none() | allocations,
    keep_for=st.sampled_from([0.0, 0.5, 600.0]),
)
choices: dict[str, Any] = {"name": names, "pools": texts, "pool_selectors": selectors, "node_selectors": selectors}
l2_advertisements = st.builds(
    L2Advertisement,
    **choices,
    service_selectors=selectors,
    interfaces=texts,
    preferred_nodes=st.lists(
        st.builds(PreferredNodes, weight=st.integers(1, 100), preference=sound_selectors), max_size=2
    ).map(tuple),
)
communities = st.sampled_from([Community((65535, 65281)), Community((1, 20)), Community((4200000001, 1, 2))])
bgp_advertisements = st.builds(
    BGPAdvertisement,
    **choices,
    peers=texts,
    aggregation_length=st.integers(1, 32),
    aggregation_length_v6=st.integers(1, 128),
    local_pref=st.integers(0, 2**32 - 1),
    community_texts=st.lists(communities.map(str), unique=True, max_size=2).map(tuple),
)
profiles = st.builds(
    BFDProfile,
    name=names,
    receive_interval=st.none() | st.integers(10, 60000),
    detect_multiplier=st.none() | st.integers(2, 255),
    minimum_ttl=st.none() | st.integers(1, 254),
    echo_mode=st.booleans(),
    passive_mode=st.booleans(),
)


@st.composite
def peers(draw: st.DrawFn) -> BGPPeer:
    version = draw(st.sampled_from([4, 6]))
    router, here = ("10.0.0.1", "10.0.0.9") if version == 4 else ("2001:db8::1", "2001:db8::9")
    unnumbered, dynamic, hold = draw(st.booleans()), draw(st.booleans()), draw(st.none() | st.integers(3, 65535))
    return BGPPeer(
        name=draw(names),
        my_asn=64500,
        peer_asn=None if dynamic else draw(asns.filter(lambda asn: asn != 64500)),
        dynamic_asn=draw(st.sampled_from(DynamicASN)) if dynamic else None,
        local_asn=draw(st.none() | asns),
        address=None if unnumbered else Address.parse(router),
        interface="eth1" if unnumbered else "",
        source_address=draw(st.sampled_from([None, Address.parse(here)])),
        port=draw(st.integers(1, 16384)),
        hold_time=hold,
        keepalive_time=None if hold is None else draw(st.integers(1, hold)),
        connect_time=draw(st.none() | st.integers(1, 65535)),
        router_id=draw(st.sampled_from([None, Address.parse("10.0.0.3")])),
        node_selectors=draw(selectors),
        password_secret=draw(st.sampled_from([None, SecretRef("spine"), SecretRef("spine", "metallb-system")])),
        bfd_profile=draw(st.sampled_from(["", "quick"])),
        graceful_restart=draw(st.booleans()),
        ebgp_multihop=draw(st.booleans()),
        vrf=draw(st.sampled_from(["", "red"])),
        dual_stack=draw(st.booleans()),
        ttl_security_hops=draw(st.none() | st.integers(1, 254)),
    )


aliases = st.builds(CommunityAlias, name=names, community=communities)


@given(pools | l2_advertisements | bgp_advertisements | profiles | peers() | aliases)
def test_what_is_written_reads_as_the_same_value(resource: Resource) -> None:
    seen = read(manifest_of(resource, "metallb-system"), "x")
    assert isinstance(seen, ConfigSeen)
    assert ((), (resource,)) == (seen.document.problems, seen.document.resources)


def config_of(text: str) -> Config:
    found = [each for each in read_text(text, "x.yaml") if isinstance(each, ConfigSeen)]
    built = build(each.document for each in found)
    assert isinstance(built, Config), built
    return built


def config_map(config: dict[str, Any]) -> str:
    metadata = {"name": "config", "namespace": "metallb-system"}
    data = {"config": yaml.safe_dump(config)}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


old_adverts = st.fixed_dictionaries(
    {},
    optional={
        "aggregation-length": st.just(32),
        "aggregation-length-v6": st.just(128),
        "localpref": st.just(100),
        "communities": st.just(["internal", "65000:1"]),
    },
)


@st.composite
def old_configs(draw: st.DrawFn) -> dict[str, Any]:
    ranges = draw(testing.disjoint_ranges(max_ranges=4))
    ranges = tuple(each for each in ranges if not unusable(each))
    entries = []
    for number, each in enumerate(ranges):
        entry: dict[str, Any] = {"name": f"pool-{number}", "addresses": [str(each)]}
        entry["protocol"] = draw(st.sampled_from(["layer2", "bgp"]))
        entry |= draw(
            st.fixed_dictionaries({}, optional={"auto-assign": st.booleans(), "avoid-buggy-ips": st.booleans()})
        )
        if draw(st.booleans()):
            entry["bgp-advertisements"] = draw(st.lists(old_adverts, max_size=1))
        entries.append(entry)
    routers = draw(st.lists(st.sampled_from(["10.0.0.1", "2001:db8::1", "10.0.0.3"]), unique=True))
    times = st.fixed_dictionaries({}, optional={"hold-time": st.just("1m30s"), "peer-port": st.just(1179)})
    known = [{"peer-address": each, "my-asn": 64500, "peer-asn": 64501} | draw(times) for each in routers]
    config: dict[str, Any] = {"address-pools": entries, "bgp-communities": {"internal": "65535:65281"}}
    return config | ({"peers": known} if known else {})


def unusable(each: AddressRange) -> bool:
    bad = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/16", "ff00::/8")
    return any(each.overlaps(AddressRange.parse(text)) for text in bad)


@given(old_configs())
def test_an_old_configmap_and_what_it_becomes_are_the_same_configuration(config: dict[str, Any]) -> None:
    text = config_map(config)
    converted = convert_config_maps([("config.yaml", text)], "metallb-system")
    assert ((), ()) == (converted.problems, converted.notes)
    assert config_of(text) == config_of(documents_text(converted.manifests))


def test_names_that_no_object_may_have_are_changed_everywhere_and_told() -> None:
    text = (GOOD / "legacy-configmap.yaml").read_text("utf-8")
    converted = convert_config_maps([("config.yaml", text)], "metallb-system")
    assert ["data.config:address-pools[1].name", "data.config:bfd-profiles[0].name"] == [
        note.field for note in converted.notes
    ]
    old, new = config_of(text), config_of(documents_text(converted.manifests))
    named = {"Old_Pool": "old-pool", "Quick_One": "quick-one"}
    assert {named.get(pool.name, pool.name) for pool in old.pools} == {pool.name for pool in new.pools}
    assert {advert.pools for advert in new.bgp_advertisements} == {("old-pool",), ("plain-bgp",)}
    assert "quick-one" == new.bgp_peers[1].bfd_profile
    assert [attrs.evolve(peer, bfd_profile="") for peer in old.bgp_peers] == [
        attrs.evolve(peer, bfd_profile="") for peer in new.bgp_peers
    ]


@given(st.text(max_size=300), st.sets(names))
def test_any_text_gives_a_name_that_is_free_and_allowed(text: str, taken: set[str]) -> None:
    name = object_name(text, taken)
    assert name not in taken
    seen = read(manifest_of(Pool.parse(name, "2001:db8::/64"), "x"), "x")
    assert isinstance(seen, ConfigSeen)
    assert () == seen.document.problems


@pytest.mark.parametrize("name", ["legacy-peer.yaml", "legacy-not-yaml.yaml", "pool-bare-address.yaml"])
def test_a_configmap_that_cannot_be_read_is_not_converted_in_part(name: str) -> None:
    path = GOOD.parent / "bad" / name
    result = CliRunner().invoke(cli, ["convert", "metallb-configmap", str(path)])
    assert (1, "") == (result.exit_code, result.stdout)
    assert name in result.stderr
    assert "Traceback" not in result.stderr


EIPS = """
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: six, annotations: {eip.openelb.kubesphere.io/is-default-eip: "true"}}
spec: {address: "2001:db8::/112", protocol: layer2, interface: eth0}
status: {used: {"2001:db8::7": shop/web}}
---
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: teams}
spec: {address: 192.0.2.16/255.255.255.240, protocol: layer2, interface: eth0, priority: 3, namespaces: [shop]}
status: {used: {192.0.2.17: "shop/a;shop/b"}}
---
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: old}
spec: {address: 198.51.100.1, disable: true, interface: "can_reach:10.0.0.1", protocol: vip}
---
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: routed}
spec: {address: 203.0.113.1-203.0.113.9}
---
apiVersion: network.kubesphere.io/v1alpha2
kind: BgpConf
metadata: {name: default}
spec:
  {as: 64500, asPerRack: {a: 64510, b: 64511}, routerId: 10.0.0.9, listenPort: 17900, gracefulRestart: {enabled: true}}
---
apiVersion: network.kubesphere.io/v1alpha2
kind: BgpPeer
metadata: {name: spine}
spec:
  conf: {neighborAddress: "2001:db8:1::1", peerAs: 64501, authPassword: s3cr3t, description: the left one}
  timers: {config: {holdTime: "90", keepaliveInterval: "30", connectRetry: "5"}}
  ebgpMultihop: {enabled: true, multihopTtl: 3}
  nodeSelector: {matchLabels: {edge: "yes"}}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  finalizers: [finalizer.lb.kubesphere.io/v1alpha1]
  annotations: {lb.kubesphere.io/v1alpha1: openelb, eip.openelb.kubesphere.io/v1alpha2: six, mine: kept}
spec: {type: LoadBalancer, loadBalancerIP: "2001:db8::9", ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: "2001:db8::7"}]}}
---
apiVersion: v1
kind: Service
metadata: {name: stranger, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""


def test_openelbs_objects_become_ours_and_each_loss_is_one_note() -> None:
    converted = convert_openelb([("eips.yaml", EIPS)], "metallb-system")
    assert () == converted.problems
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in converted.manifests}
    assert {"addresses": ["2001:db8::/112"]} == by_name["IPAddressPool", "six"]["spec"]
    teams = by_name["IPAddressPool", "teams"]["spec"]
    assert {
        "addresses": ["192.0.2.16/28"],
        "serviceAllocation": {"priority": 4, "namespaces": ["shop"]},
    } == teams
    assert {"addresses": ["198.51.100.1/32"], "autoAssign": False} == by_name["IPAddressPool", "old"]["spec"]
    layer2 = by_name["L2Advertisement", "layer2-eth0"]["spec"]
    assert {"ipAddressPools": ["six", "teams"], "interfaces": ["eth0"]} == layer2
    assert {"ipAddressPools": ["old"]} == by_name["L2Advertisement", "layer2"]["spec"]
    assert {"ipAddressPools": ["routed"]} == by_name["BGPAdvertisement", "bgp"]["spec"]
    peer = by_name["BGPPeer", "spine-b"]["spec"]
    assert (64511, "90s", "5s", True) == (
        peer["myASN"],
        peer["holdTime"],
        peer["connectTime"],
        peer["enableGracefulRestart"],
    )
    assert [{"matchLabels": {"edge": "yes", "openelb.kubesphere.io/rack": "b"}}] == peer["nodeSelectors"]
    assert {"password": "s3cr3t"} == by_name["Secret", "spine-password"]["stringData"]
    web = by_name["Service", "web"]
    assert {"mine": "kept", "metallb.io/address-pool": "six", "metallb.io/loadBalancerIPs": "2001:db8::7"} == web[
        "metadata"
    ]["annotations"]
    assert "finalizers" not in web["metadata"]
    assert "loadBalancerIP" not in web["spec"]
    assert {
        ("Eip teams", "spec.namespaces"),
        ("Eip teams", "spec.priority"),
        ("Eip teams", "status.used['192.0.2.17']"),
        ("Eip old", "spec.disable"),
        ("Eip old", "spec.protocol"),
        ("Eip old", "spec.interface"),
        ("Eip routed", "spec.protocol"),
        ("BgpConf default", "spec.routerId"),
        ("BgpConf default", "spec.listenPort"),
        ("BgpPeer spine", "spec.conf.description"),
        ("BgpPeer spine", "spec.ebgpMultihop.multihopTtl"),
        ("Service shop/stranger", "metadata.annotations['lb.kubesphere.io/v1alpha1']"),
        ("Service shop/a", ""),
        ("Service shop/b", ""),
    } == {(note.object, note.field) for note in converted.notes}
    assert len(converted.notes) == len({(note.object, note.field) for note in converted.notes})


def test_what_openelbs_objects_become_is_a_sound_configuration_without_a_secret_in_the_notes() -> None:
    converted = convert_openelb([("eips.yaml", EIPS)], "metallb-system")
    config = config_of(documents_text(converted.manifests))
    assert {"spine-a", "spine-b"} == {peer.name for peer in config.bgp_peers}
    assert not [note for note in converted.notes if "s3cr3t" in str(note)]


def test_every_address_in_use_is_asked_for_afterwards() -> None:
    converted = convert_openelb([("eips.yaml", EIPS)], "metallb-system")
    told = " ".join(str(note) for note in converted.notes)
    assert "-n shop a metallb.io/loadBalancerIPs=192.0.2.17" in told
    assert "-n shop b metallb.io/loadBalancerIPs=192.0.2.17" in told


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"address": "router.example"}, "spec.address"),
        ({"address": "192.0.2.0/255.0.255.0"}, "spec.address"),
        ({"address": 7}, "spec.address"),
        ({}, "spec.address"),
        ({"address": "2001:db8::/64", "protocol": "rip"}, "spec.protocol"),
        ({"address": "2001:db8::/64", "priority": "high"}, "spec.priority"),
        ({"address": "2001:db8::/64", "namespaces": "shop"}, "spec.namespaces"),
    ],
)
def test_an_eip_that_cannot_be_read_is_refused_at_its_field(spec: dict[str, Any], path: str) -> None:
    document = {"apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "x"}, "spec": spec}
    converted = convert_openelb([("x.yaml", yaml.safe_dump(document))], "metallb-system")
    assert () == converted.manifests
    assert [path] == [problem.field for problem in converted.problems]


def test_the_names_of_communities_stand_in_one_object() -> None:
    found = manifests_of([CommunityAlias(name=name, community=Community((1, 2))) for name in "ab"], "x")
    assert ["a", "b"] == [each["name"] for (one,) in [found] for each in one["spec"]["communities"]]

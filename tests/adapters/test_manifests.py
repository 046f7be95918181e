"""Manifests that are right: what each field becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from immutables import Map

from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read, read_all, read_text
from lbcore.adapters.kubernetes.status import ServiceStatus, read_service_status, service_status
from lbcore.addresses import Address, AddressRange, Family
from lbcore.config import Config, L2Advertisement, Origin, Pool, PreferredNodes, Resource, ServiceAllocation, build
from lbcore.errors import ManifestError
from lbcore.events import ConfigSeen, NamespaceSeen, NodeSeen, ServiceSeen, SliceSeen
from lbcore.intents import SetAddresses
from lbcore.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPFamilyPolicy,
    LabelRequirement,
    LabelSelector,
    Namespace,
    Node,
    Operator,
    Port,
    Service,
    ServiceKey,
    ServicePort,
    SliceKey,
    TrafficPolicy,
)
from lbcore.verdicts import PoolVerdict, Reason, Refusal

GOOD = Path(__file__).parent.parent / "data" / "manifests"

Wanted = TypeVar("Wanted", Pool, L2Advertisement)


def entries(name: str) -> list[Seen | Ignored | Refused]:
    return list(read_text((GOOD / name).read_text("utf-8"), name))


def resources(name: str, kind: type[Wanted]) -> dict[str, Wanted]:
    found: list[Resource] = []
    for entry in entries(name):
        if isinstance(entry, ConfigSeen):
            assert () == entry.document.problems
            found += entry.document.resources
    return {each.name: each for each in found if isinstance(each, kind)}


def ranges(*texts: str) -> tuple[AddressRange, ...]:
    return tuple(AddressRange.parse(text) for text in texts)


def test_a_dual_stack_pool_keeps_its_ranges_in_their_order() -> None:
    dual = resources("pools.yaml", Pool)["dual"]
    expected = ranges("192.168.12.0/24", "192.168.144.0/20", "2001:db8:12::/112", "2001:db8:13::10-2001:db8:13::1f")
    assert expected == dual.ranges
    assert dual.avoid_buggy_ips
    assert Map({"tier": "production"}) == dual.labels
    assert Origin(kind="IPAddressPool", namespace="metallb-system", name="dual") == dual.origin
    assert dual.origin is not None
    assert "pools.yaml#2" == dual.origin.source


def test_a_pool_as_small_as_can_be_has_kubernetes_defaults() -> None:
    plain = resources("pools.yaml", Pool)["plain"]
    assert Pool(name="plain", ranges=ranges("192.168.20.20-192.168.20.255")) == plain
    assert (True, False, None) == (plain.auto_assign, plain.avoid_buggy_ips, plain.allocation)


def test_a_pool_says_whom_it_is_for() -> None:
    tenants = resources("pools.yaml", Pool)["tenants"]
    unlike_test = LabelRequirement(
        "tier", Operator.NOT_IN, ("dev", "test")
    )  # values are sorted: their order says nothing
    assert not tenants.auto_assign
    assert tenants.allocation == ServiceAllocation(
        priority=50,
        namespaces=("shop", "blog"),
        namespace_selectors=(LabelSelector.of(team="web"),),
        service_selectors=(LabelSelector((unlike_test, LabelRequirement("public", Operator.EXISTS))),),
    )


def test_an_advertisement_says_what_is_announced_where_and_by_whom() -> None:
    adverts = resources("advertisements.yaml", L2Advertisement)
    host = "kubernetes.io/hostname"
    assert L2Advertisement(name="everything") == adverts["everything"]
    assert adverts["production"] == L2Advertisement(
        name="production",
        pools=("plain", "dual"),
        pool_selectors=(LabelSelector.of(tier="production"),),
        node_selectors=(
            LabelSelector.of_labels({host: "node-a"}),
            LabelSelector((LabelRequirement("rack", Operator.IN, ("a", "b")),)),
        ),
        service_selectors=(LabelSelector.of(public="yes"),),
        interfaces=("eth0", "eth1"),
        preferred_nodes=(PreferredNodes(weight=100, preference=LabelSelector.of_labels({host: "node-b"})),),
    )


def test_the_old_configmap_becomes_pools_and_advertisements() -> None:
    pools = resources("legacy-configmap.yaml", Pool)
    adverts = resources("legacy-configmap.yaml", L2Advertisement)
    assert ["default", "Old_Pool", "plain-bgp", "six"] == list(pools)
    assert ranges("192.168.3.251-192.168.3.254") == pools["default"].ranges
    assert (True, False) == (pools["Old_Pool"].avoid_buggy_ips, pools["six"].auto_assign)
    assert ranges("2001:db8:3::/120") == pools["six"].ranges
    assert {"l2advertisement1": ("default",), "l2advertisement2": ("six",)} == {
        name: advert.pools for name, advert in adverts.items()
    }


def test_all_the_good_configuration_is_sound_together() -> None:
    documents = [
        entry.document
        for name in ("pools.yaml", "advertisements.yaml", "legacy-configmap.yaml", "bgp.yaml")
        for entry in entries(name)
        if isinstance(entry, ConfigSeen)
    ]
    config = build(documents)
    assert isinstance(config, Config)
    assert 9 == len(config.pools)


def test_a_service_as_small_as_can_be_has_kubernetes_defaults() -> None:
    seen = entries("services.yaml")[0]
    assert seen == ServiceSeen(
        Service(
            key=ServiceKey("default", "nginx-service"),
            type="LoadBalancer",
            selector={"app": "nginx"},
            ports=(Port("TCP", 80),),
            named_ports=(ServicePort("", 80),),
        )
    )


def test_every_field_of_a_service_that_a_decision_reads_is_read() -> None:
    seen = entries("services.yaml")[1]
    assert seen == ServiceSeen(
        Service(
            key=ServiceKey("shop", "resolver"),
            uid="6a1b7c62-6f2b-4f0a-9c0e-2f1f4e3c9d10",
            created="2024-05-01T10:20:30Z",
            type="LoadBalancer",
            load_balancer_class="lbcore.io/layer2",
            labels={"app": "dns"},
            annotations={
                "metallb.io/allow-shared-ip": "dns",
                "metallb.universe.tf/address-pool": "dual",
                "lbcore.io/note": "kept",
            },
            cluster_ips=("fd00::53", "10.96.0.53"),
            ip_families=(Family.IPV6, Family.IPV4),
            ip_family_policy=IPFamilyPolicy.REQUIRE_DUAL_STACK,
            load_balancer_ip="2001:db8:12::53",
            external_traffic_policy=TrafficPolicy.LOCAL,
            selector={"app": "dns"},
            ports=(Port("UDP", 53), Port("TCP", 53)),
            named_ports=(ServicePort("dns-udp", 53, "dns", "UDP"), ServicePort("dns-tcp", 53)),
            held=(Address.parse("2001:db8:12::53"), Address.parse("192.168.12.53")),
        )
    )


def test_a_list_is_unfolded_into_what_is_read_and_what_is_not() -> None:
    hostname, name_label = "kubernetes.io/hostname", "kubernetes.io/metadata.name"
    namespace, node, slice_, deployment = entries("cluster.yaml")
    assert NamespaceSeen(Namespace(name="shop", labels={"team": "web", name_label: "shop"})) == namespace
    assert node == NodeSeen(
        Node(name="node-a.example.com", labels={hostname: "node-a", "rack": "a"}, network_unavailable=True)
    )
    assert slice_ == SliceSeen(
        EndpointSlice(
            key=SliceKey("shop", "resolver-x7k2p"),
            service="resolver",
            endpoints=(
                Endpoint(addresses=("2001:db8:1::7",), node="node-a.example.com", ready=True, serving=True),
                Endpoint(addresses=("2001:db8:1::8",), ready=False, serving=True),
                Endpoint(addresses=("2001:db8:1::9",)),
            ),
            ports=(EndpointPort("", 53),),
        )
    )
    assert isinstance(deployment, Ignored)
    assert "EndpointSlices" in deployment.note


@pytest.mark.parametrize(
    ("annotations", "unschedulable", "expected"),
    [
        ({}, None, (False, False)),
        ({"lbcore.io/drain": "2026-01-01T00:00:00Z"}, None, (True, False)),
        ({"lbcore.io/drain": ""}, True, (True, True)),
        ({"lbcore.io/drain": "false", "other": "true"}, False, (False, False)),
    ],
)
def test_a_node_is_drained_by_an_annotation_and_cordoned_by_its_spec(
    annotations: dict[str, str], unschedulable: bool | None, expected: tuple[bool, bool]
) -> None:
    spec = {} if unschedulable is None else {"unschedulable": unschedulable}
    metadata = {"name": "a", "annotations": annotations}
    seen = read({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}, "")
    assert isinstance(seen, NodeSeen)
    assert expected == (seen.node.drained, seen.node.cordoned)


@pytest.mark.parametrize(("status", "unavailable"), [("True", True), ("False", False), ("Unknown", False)])
def test_a_node_lacks_its_network_only_when_its_condition_says_so(status: str, unavailable: bool) -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": status}]
    document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "status": {"conditions": conditions}}
    seen = read(document, "")
    assert isinstance(seen, NodeSeen)
    assert unavailable is seen.node.network_unavailable


def test_a_nodes_addresses_are_those_inside_the_cluster_and_what_is_none_is_passed_over() -> None:
    addresses = [
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "nonsense"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "Hostname", "address": "a"},
    ]
    document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "status": {"addresses": addresses}}
    seen = read(document, "")
    assert isinstance(seen, NodeSeen)
    assert ["192.0.2.1", "fd00::1"] == [str(each) for each in seen.node.addresses]


def test_the_items_of_a_typed_list_need_no_kind() -> None:
    items = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
    listed = {"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": items}
    labels = "kubernetes.io/hostname"
    assert [NodeSeen(Node(name=name, labels={labels: name})) for name in "ab"] == list(read_all(listed, "api"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (datetime(2024, 5, 1, 10, 20, 30, tzinfo=UTC), "2024-05-01T10:20:30Z"),
        (datetime(2024, 5, 1, 10, 20, 30), "2024-05-01T10:20:30Z"),  # noqa: DTZ001 - as PyYAML makes it
        ("2024-05-01T10:20:30Z", "2024-05-01T10:20:30Z"),
        (None, ""),
    ],
)
def test_a_creation_time_is_text_that_sorts(given: object, expected: str) -> None:
    metadata = {"name": "web", "creationTimestamp": given}
    seen = read({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}, "")
    assert isinstance(seen, ServiceSeen)
    assert expected == seen.service.created


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("serving.knative.dev/v1", "Service"), ("apps/v1", "Deployment"), ("v1", "Pod"), ("v1", "PersistentVolume")],
)
def test_what_lbcore_does_not_read_is_ignored_with_a_note(api_version: str, kind: str) -> None:
    ignored = read({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": 7}, "")
    assert isinstance(ignored, Ignored)
    assert f"{kind} default/x" == ignored.about
    assert ignored.note


@pytest.mark.parametrize(
    ("name", "namespace", "text", "is_config"),
    [
        ("config", "metallb-system", "{}", True),
        ("config", "elsewhere", "address-pools: []", True),
        ("config", "elsewhere", "log-level: debug", False),
        ("other", "metallb-system", "address-pools: []", False),
    ],
)
def test_another_programs_configmap_is_left_alone(name: str, namespace: str, text: str, is_config: bool) -> None:
    metadata = {"name": name, "namespace": namespace}
    seen = read({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config": text}}, "")
    assert is_config == isinstance(seen, ConfigSeen)


def test_a_broken_service_raises_and_a_broken_pool_does_not() -> None:
    with pytest.raises(ManifestError, match=r"Service default/web: spec\.type"):
        read({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": 7}}, "")
    pool = read({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "a"}}, "")
    assert isinstance(pool, ConfigSeen)
    assert ["spec"] == [problem.field for problem in pool.document.problems]


V6 = Address.parse("2001:db8::20")
WEB = ServiceKey("shop", "web")


def test_a_status_is_read_back_as_it_was_written() -> None:
    intent = SetAddresses(key=WEB, uid="7", addresses=(V6, Address.parse("192.0.2.20")), pool="dual")
    assert ServiceStatus(uid="7", addresses=intent.addresses, pool="dual") == read_service_status(
        service_status(intent), ""
    )


def test_a_refusal_is_kept_with_what_each_pool_said() -> None:
    verdicts = (
        PoolVerdict(pool="a", reason=Reason.POOL_EXHAUSTED),
        PoolVerdict(pool="b", reason=Reason.POOL_LACKS_FAMILY),
    )
    refusal = Refusal(key=WEB, reason=Reason.POOL_EXHAUSTED, detail="every pool is full", pools=verdicts)
    data = service_status(SetAddresses(key=WEB, refusal=refusal))
    status = read_service_status(data, "")
    assert ("PoolExhausted", "every pool is full") == (status.reason, status.message)
    assert b'"PoolLacksFamily"' in data


@pytest.mark.parametrize("data", [b"", b"[]", b'{"addresses": ["2001:db8::/64"]}', b'{"addresses": "x"}', b"\xff"])
def test_what_is_no_status_is_refused_with_its_file(data: bytes) -> None:
    with pytest.raises(ManifestError, match="remove the file") as caught:
        read_service_status(data, ".lbcore/services/shop/web.json")
    assert ".lbcore/services/shop/web.json" == caught.value.problem.source

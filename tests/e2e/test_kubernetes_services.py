"""What users of MetalLB ask of Services, on a real control plane and with kubectl as the only client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from fleet import deployment, manifest, pool, service
from kubefleet import BASE, KubeFleet, install_crds
from lbcore.addresses import Address, AddressRange
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]


@pytest.fixture(scope="module")
def fleet() -> Iterator[KubeFleet]:
    """Two nodes with two pods, pool `first` of both families, controller and speakers; for all tests of this file."""
    with KubernetesLab(nodes=2) as lab:
        install_crds(lab.api)
        running = KubeFleet(lab).start()
        running.apply(BASE)
        yield running


def lies_in(address: Address, text: str) -> bool:
    return address in AddressRange.parse(text)


def test_an_address_that_is_asked_for_is_given_and_one_that_is_taken_is_refused_with_the_reason(
    fleet: KubeFleet,
) -> None:
    fleet.apply(service("asks", loadBalancerIP="fd00:20::110", ipFamilies=["IPv6"]))
    assert [Address.parse("fd00:20::110")] == list(fleet.wait_for_addresses("asks"))
    assert fleet.wait_for_page(Address.parse("fd00:20::110"))
    fleet.apply(service("late", loadBalancerIP="fd00:20::110", ipFamilies=["IPv6"]))
    assert "fd00:20::110" in fleet.wait_for_events("late", "AllocationFailed")
    assert "<pending>" in fleet.lab.kubectl("get", "service", "late")
    fleet.lab.kubectl("delete", "service", "asks")
    assert [Address.parse("fd00:20::110")] == list(fleet.wait_for_addresses("late"))


def test_a_service_has_an_address_of_each_family(fleet: KubeFleet) -> None:
    fleet.apply(service("both", ipFamilyPolicy="RequireDualStack"))
    addresses = fleet.wait_for_addresses("both")
    assert [4, 6] == sorted(address.version for address in addresses)
    for address in addresses:
        assert fleet.wait_for_page(address)


def test_under_local_the_pod_sees_the_client_and_only_its_node_announces(fleet: KubeFleet) -> None:
    fleet.apply(deployment("local", replicas=1))
    fleet.apply(service("local", app="local", externalTrafficPolicy="Local", ipFamilies=["IPv6"]))
    (address,) = fleet.wait_for_addresses("local")
    pod, _, node = fleet.wait_for_page(address).partition("/")
    assert node == fleet.lab.announcer(address)
    client = str(fleet.lab.client.address(6))
    fleet.wait(lambda: client in fleet.callers(pod), "the client's own address in the log of the pod")


def test_two_services_share_an_address_on_different_ports(fleet: KubeFleet) -> None:
    sharing = {"metallb.io/allow-shared-ip": "us"}
    for name, port in (("one", 8001), ("two", 8002)):
        ports = [{"port": port, "targetPort": 80}]
        fleet.apply(service(name, annotations=sharing, ports=ports, ipFamilies=["IPv6"]))
    one, two = fleet.wait_for_addresses("one"), fleet.wait_for_addresses("two")
    assert one == two
    assert fleet.wait_for_page(one[0], 8001)
    assert fleet.wait_for_page(two[0], 8002)


def test_a_pool_for_some_namespaces_and_services_serves_those_first_and_nobody_else(fleet: KubeFleet) -> None:
    fleet.lab.kubectl("create", "namespace", "team")
    terms = {"priority": 1, "namespaces": ["team"], "serviceSelectors": [{"matchLabels": {"tier": "edge"}}]}
    fleet.apply(pool("team", "192.168.20.60-192.168.20.69", serviceAllocation=terms))
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    fleet.apply(manifest("v1", "Service", "edge", "team", spec, labels={"tier": "edge"}))
    fleet.apply(manifest("v1", "Service", "inner", "team", spec))
    (edge,), (inner,) = fleet.wait_for_addresses("edge", "team"), fleet.wait_for_addresses("inner", "team")
    assert lies_in(edge, "192.168.20.60-192.168.20.69")
    assert not lies_in(inner, "192.168.20.60-192.168.20.69")


def test_a_pool_that_shrinks_or_goes_leaves_nobody_with_an_address_outside(fleet: KubeFleet) -> None:
    fleet.apply(pool("small", "192.168.20.70-192.168.20.79", autoAssign=False))
    wants = {"metallb.io/address-pool": "small"}
    fleet.apply(service("kept", annotations=wants, loadBalancerIP="192.168.20.71"))
    fleet.apply(service("moves", annotations=wants, loadBalancerIP="192.168.20.79"))
    fleet.wait_for_addresses("kept")
    fleet.wait_for_addresses("moves")
    fleet.lab.kubectl("patch", "service", "moves", "--type=merge", "-p", '{"spec": {"loadBalancerIP": null}}')
    fleet.apply(pool("small", "192.168.20.70-192.168.20.75", autoAssign=False))
    fleet.wait(
        lambda: any(lies_in(address, "192.168.20.70-192.168.20.75") for address in fleet.addresses("moves")),
        "the Service outside of the smaller pool to move into it",
    )
    assert "192.168.20.71" == str(fleet.addresses("kept")[0])
    fleet.lab.kubectl("delete", "ipaddresspool", "small", "-n", "metallb-system")
    fleet.wait(lambda: not fleet.addresses("kept") and not fleet.addresses("moves"), "their addresses to be taken back")
    assert "<pending>" in fleet.lab.kubectl("get", "service", "kept")


def test_a_service_of_another_class_is_left_alone(fleet: KubeFleet) -> None:
    fleet.apply(service("elsewhere", loadBalancerClass="example.org/other"))
    fleet.apply(service("here"))
    fleet.wait_for_addresses("here")
    other = fleet.get("service", "elsewhere")
    assert {"loadBalancer": {}} == other["status"]
    assert "Events:                   <none>" in fleet.lab.kubectl("describe", "service", "elsewhere")


def test_a_service_that_is_created_anew_is_served_anew(fleet: KubeFleet) -> None:
    for _ in range(3):
        fleet.apply(service("again", ipFamilies=["IPv6"]))
        (address,) = fleet.wait_for_addresses("again")
        assert fleet.wait_for_page(address)
        fleet.lab.kubectl("delete", "service", "again")
        fleet.wait_for_no_page(address)


def test_the_pools_of_the_old_configmap_serve_as_long_as_it_is_there(fleet: KubeFleet) -> None:
    old = {"address-pools": [{"name": "old", "protocol": "layer2", "addresses": ["192.168.20.80-192.168.20.89"]}]}
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config", "namespace": "metallb-system"},
        "data": {"config": yaml.safe_dump(old)},
    }
    fleet.apply(json.dumps(document))
    fleet.apply(service("old", annotations={"metallb.universe.tf/address-pool": "old"}))
    (address,) = fleet.wait_for_addresses("old")
    assert lies_in(address, "192.168.20.80-192.168.20.89")
    assert fleet.wait_for_page(address)
    fleet.lab.kubectl("delete", "configmap", "config", "-n", "metallb-system")
    fleet.wait(lambda: not fleet.addresses("old"), "its address to be taken back")

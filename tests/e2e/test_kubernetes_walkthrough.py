"""MetalLB's own first steps on a real control plane: pool, advertisement, Deployment, Service, EXTERNAL-IP, curl.

kubectl is the only client. They run with MetalLB's programs, too: the resources are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet import advertisement, deployment, pool, service
from kubefleet import KubeFleet, install_crds, start_metallb
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]


@pytest.fixture
def bare() -> Iterator[KubeFleet]:
    """A cluster with the resources, and nobody who serves them."""
    with KubernetesLab(nodes=2) as lab:
        install_crds(lab.api)
        yield KubeFleet(lab)


def walk_through(fleet: KubeFleet) -> None:
    fleet.apply(pool("first", "192.168.20.20-192.168.20.59", "fd00:20::20-fd00:20::59") + advertisement())
    fleet.apply(deployment("nginx", replicas=2))
    fleet.apply(service("nginx-service", app="nginx", ipFamilyPolicy="RequireDualStack"))
    addresses = fleet.wait_for_addresses("nginx-service")
    assert {4, 6} == {address.version for address in addresses}
    shown = fleet.lab.kubectl("get", "service", "nginx-service").splitlines()
    assert ",".join(map(str, addresses)) == shown[1].split()[shown[0].split().index("EXTERNAL-IP")]
    for address in addresses:
        assert fleet.wait_for_page(address).startswith("nginx-")
    assert str(addresses[0]) in fleet.wait_for_events("nginx-service", "IPAllocated")

    fleet.lab.kubectl("delete", "service", "nginx-service")
    for address in addresses:
        fleet.wait_for_no_page(address)
    fleet.wait(lambda: fleet.get("ipaddresspool", "first", "metallb-system")["status"]["assignedIPv6"] == 0, "a count")


def test_the_first_steps_with_the_rights_of_the_chart_and_no_request_is_refused(bare: KubeFleet) -> None:
    bare.start()
    walk_through(bare)
    refused = {
        (user.rpartition(":")[2], each["verb"], each["objectRef"]["resource"])
        for each in bare.api.requests()
        if (user := each["user"]["username"]).startswith("system:serviceaccount:metallb-system:lbcore-")
        and each["responseStatus"]["code"] == 403
    }
    assert set() == refused


@pytest.mark.needs("peers")
def test_metallbs_own_programs_serve_these_resources(bare: KubeFleet) -> None:
    start_metallb(bare.lab)
    walk_through(bare)

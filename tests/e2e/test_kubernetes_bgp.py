"""BGP at a real API server: objects by kubectl, a password by Secret, the routes of FRR, and what is told of them."""

from __future__ import annotations

import json

import pytest

from fleet import deployment, manifest, pool, service
from kubefleet import KubeFleet, install_crds
from lbcore.lab.kubernetes import KubernetesLab
from lbcore.lab.router import kernel_routes
from routers import frr

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx", "frr")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

SYSTEM = "metallb-system"


def test_from_kubectl_apply_to_the_routes_of_a_router_and_back() -> None:
    with KubernetesLab(nodes=2) as lab:
        client = lab.client
        nodes = {str(node.address(version)): 64513 for node in lab.nodes.values() for version in (4, 6)}
        router = frr(client.namespace, nodes, extra=["password s3cret"]).start()
        install_crds(lab.api)
        fleet = KubeFleet(lab).start()
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tor", "namespace": SYSTEM}}
        lab.api.apply(secret | {"type": "kubernetes.io/basic-auth", "stringData": {"password": "s3cret"}})
        for version in (4, 6):
            spec = {"myASN": 64513, "peerASN": 64512, "peerAddress": str(client.address(version)), "holdTime": "9s"}
            spec |= {"connectTime": "1s", "passwordSecret": {"name": "tor", "namespace": SYSTEM}}
            fleet.apply(manifest("metallb.io/v1beta2", "BGPPeer", f"tor{version}", SYSTEM, spec))
        fleet.apply(manifest("metallb.io/v1beta1", "BGPAdvertisement", "all", SYSTEM, {}))
        fleet.apply(pool("public", "203.0.113.0/24", "2001:db8:77::/112") + deployment())
        fleet.apply(service("web", ipFamilyPolicy="RequireDualStack", externalTrafficPolicy="Local"))
        addresses = fleet.wait_for_addresses("web")
        wanted = {
            f"{each}/{each.family.bits}": sorted(str(node.address(each.version)) for node in lab.nodes.values())
            for each in addresses
        }
        fleet.wait(lambda: wanted == kernel_routes(client.namespace, "bgp"), "the routes of both nodes")
        for address in addresses:
            assert fleet.wait_for_page(address)
        fleet.wait(lambda: [["tor4", "tor6"]] * 2 == _peers_told(fleet), "a ServiceBGPStatus of each node")
        logs = "".join(each.read_text() for each in lab.directory.glob("*.log"))
        assert "s3cret" not in logs
        fleet.wait(lambda: "sessionUp" in lab.kubectl("get", "events", "-n", SYSTEM), "an Event")
        lab.kubectl("delete", "service", "web")
        fleet.wait(lambda: not kernel_routes(client.namespace, "bgp"), "the routes to go")
        router.stop()


def _peers_told(fleet: KubeFleet) -> list[list[str]]:
    label = "metallb.io/service-name=web"
    listed = json.loads(fleet.lab.kubectl("get", "servicebgpstatuses", "-n", SYSTEM, "-l", label, "-o", "json"))
    return [each.get("status", {}).get("peers", []) for each in listed["items"]]

"""The lab with Kubernetes' own control plane: pods of Deployments are real, and real kube-proxy brings clients to them.

No daemon of ours runs here: a Service's address is written by hand, and the client's neighbour entry too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from fleet import deployment, service
from lbcore.addresses import Address
from lbcore.lab.kubernetes import KubernetesLab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "curl", "nginx"),
]

V4, V6 = Address.parse("192.168.20.20"), Address.parse("fd00:20::20")
WEB = "/api/v1/namespaces/default/services/web"


@pytest.fixture(scope="module")
def lab() -> Iterator[KubernetesLab]:
    with KubernetesLab(nodes=2) as running:
        yield running


def ready_replicas(lab: KubernetesLab) -> int:
    shown = yaml.safe_load(lab.kubectl("get", "deployment", "web", "-o", "yaml"))
    return int(shown["status"].get("readyReplicas", 0))


def answered(lab: KubernetesLab, address: Address) -> bool:
    return lab.curl(address).ok


def nodes_that_answer(lab: KubernetesLab, address: Address) -> set[str]:
    return {lab.curl(address).served_by.partition("/")[2] for _ in range(20)} - {""}


def test_a_deployment_becomes_nginx_behind_an_address_and_what_is_lost_comes_back(lab: KubernetesLab) -> None:
    lab.kubectl("apply", "-f", "-", text=deployment(replicas=2) + service(ipFamilyPolicy="RequireDualStack"))
    lab.wait_until(lambda: ready_replicas(lab) == 2, "two pods to be ready", 60)
    ingress = [{"ip": str(each)} for each in (V4, V6)]
    lab.api.ask("PATCH", f"{WEB}/status", {"status": {"loadBalancer": {"ingress": ingress}}})
    for address in (V6, V4):
        lab.network.set_neighbour(address, lab.nodes["n1"].mac)
        lab.wait_until(partial(answered, lab, address), f"a page from {address}", 60)
        assert {"n1", "n2"} == nodes_that_answer(lab, address)

    lab.cut("n2")  # its pods go out of service when its node is not heard of
    lab.wait_until(lambda: nodes_that_answer(lab, V4) == {"n1"} and lab.curl(V6).ok, "n2 to be given up", 60)
    lab.heal("n2")
    lab.wait_until(lambda: nodes_that_answer(lab, V4) == {"n1", "n2"}, "n2 to serve again", 60)

    lab.kubectl("delete", "pods", "-l", "app=web", "--field-selector", "spec.nodeName=n2", "--wait=false")
    lab.wait_until(lambda: ready_replicas(lab) == 2, "a pod in place of the deleted one", 60)
    lab.kubectl("delete", "deployment", "web")
    lab.wait_until(lambda: "No resources" in lab.kubectl("get", "pods") or not lab.kubectl("get", "pods"), "no pods")
    assert not lab.curl(V4, timeout=0.5).ok

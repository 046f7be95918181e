"""`--ready-for` beside the real kube-proxy: when a node with a new Pod becomes a next hop, and when it is none."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from connections import Connections
from fleet import deployment, manifest, pool, service
from kubefleet import KubeFleet, install_crds
from lbcore.lab.kubernetes import KubernetesLab
from lbcore.lab.router import bird, kernel_routes

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx", "bird")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

SYSTEM = "metallb-system"
STATED = 4.0  # seconds
LATE = 1.0  # seconds: how much later than it was seen something may stand in a log


def test_a_node_is_a_next_hop_when_its_pod_has_been_ready_for_the_stated_time_and_none_when_it_is_not(
    tmp_path: Path,
) -> None:
    with KubernetesLab(nodes=2) as lab:
        client = lab.client
        bird(client.namespace, tmp_path, {str(node.address(6)): 64513 for node in lab.nodes.values()}).start()
        install_crds(lab.api)
        fleet = KubeFleet(lab).start("--ready-for", str(STATED), "--log-level", "debug")
        spec = {"myASN": 64513, "peerASN": 64512, "peerAddress": str(client.address(6)), "connectTime": "1s"}
        fleet.apply(manifest("metallb.io/v1beta2", "BGPPeer", "tor", SYSTEM, spec))
        fleet.apply(manifest("metallb.io/v1beta1", "BGPAdvertisement", "all", SYSTEM, {}))
        fleet.apply(pool("public", "2001:db8:77::/112") + deployment(replicas=1))
        fleet.apply(service("web", ipFamilies=["IPv6"], externalTrafficPolicy="Local"))
        (address,) = fleet.wait_for_addresses("web")

        def hops() -> set[str]:
            found = kernel_routes(client.namespace).get(f"{address}/128", [])
            return {name for name, node in lab.nodes.items() if str(node.address(6)) in found}

        # Nobody else serves it: the first node does not wait.
        fleet.wait(lambda: len(hops()) == 1, "a route")
        (first,) = hops()
        (second,) = set(lab.nodes) - {first}
        assert fleet.wait_for_page(address)
        running = Connections(client.namespace, address, neighbour=False)
        lab.kubectl("scale", "deployment", "web", "--replicas=2")
        fleet.wait(lambda: hops() == {first, second}, "routes by both")
        assert STATED - LATE <= _waited(fleet, second)
        assert "routeWithheld" in fleet.wait_for_events("web", "routeWithheld")
        # kube-proxy has made its rules meanwhile.
        assert 0 == running.end()["failed"]
        # Its kubelet falls silent, and Kubernetes calls its Pod not ready: it is no next hop, whatever time is stated.
        lab.stop_kubelet(second)
        fleet.wait(lambda: hops() == {first}, "a route by the other alone")
        lab.start_kubelet(second)
        fleet.wait(lambda: hops() == {first, second}, "routes by both again")
        assert STATED - LATE <= _waited(fleet, second)


def _waited(fleet: KubeFleet, node: str) -> float:
    """Seconds from when a speaker saw new endpoints last to when it told its router, by its log."""
    text = fleet.speakers[node].log.read_text(encoding="utf-8")
    withheld = re.findall(r"^(\S+) .*reason=routeWithheld", text, re.MULTILINE)[-1]
    told = re.findall(r"^(\S+) .* advertising .*prefix=2001:db8:77::", text, re.MULTILINE)[-1]
    return (datetime.fromisoformat(told) - datetime.fromisoformat(withheld)).total_seconds()

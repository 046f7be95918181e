"""Members on a real API server, as the chart runs speakers: they gossip, and find each other by their Pods.

A node whose kubelet is gone goes on serving, one that is cut off is followed at once, and one can see why.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import service
from kubefleet import BASE, CHART_LABELS, SYSTEM, KubeFleet, install_crds, put_secret_aside, put_speaker_pod
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

FAILOVER = 3.0  # seconds; 0.3 on an idle machine, and more than 5 by Leases or by memberlist alone
PORT = "7472"
UNKNOWN = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"


@pytest.fixture(scope="module")
def fleet() -> Iterator[KubeFleet]:
    """Three nodes with a pod each, controller and speakers as the chart starts them."""
    with KubernetesLab(nodes=3) as lab:
        install_crds(lab.api)
        running = KubeFleet(lab).start("--metrics-host", "::", "--metrics-port", PORT)
        running.apply(BASE)
        running.wait_for_members(*lab.nodes)
        yield running


def lease_of(fleet: KubeFleet, node: str) -> dict[str, Any]:
    found: dict[str, Any] = fleet.get("lease", f"lbcore-speaker-{node}", SYSTEM)
    return found


def serve(fleet: KubeFleet, name: str, node: str, **spec: Any) -> Address:
    """The address of a Service that is to be announced by a node."""
    addresses = (Address.parse(f"fd00:20::1{number:02x}") for number in range(64))
    taken = {str(each) for other in ("all", "here", "web") for each in fleet_addresses(fleet, other)}
    chosen = next(each for each in addresses if str(each) not in taken and elect(fleet.lab.nodes, each) == node)
    fleet.apply(service(name, loadBalancerIP=str(chosen), ipFamilies=["IPv6"], **spec))
    assert (chosen,) == fleet.wait_for_addresses(name)
    fleet.wait(lambda: fleet.lab.curl(chosen).ok and fleet.lab.announcer(chosen) == node, f"{node} to serve {name}")
    return chosen


def fleet_addresses(fleet: KubeFleet, name: str) -> tuple[Address, ...]:
    return fleet.addresses(name) if name in fleet.lab.kubectl("get", "services", "-o", "name") else ()


def test_speakers_find_each_other_by_the_labels_of_their_pods_alone() -> None:
    """They gossip at addresses that no Node has."""
    with KubernetesLab(nodes=2) as lab:
        install_crds(lab.api)
        fleet = KubeFleet(lab)
        lab.start_controller(None, "--ml-secret-name", "memberlist")
        put_secret_aside(lab)
        labels = ",".join(f"{name}={value}" for name, value in CHART_LABELS.items())
        for number, (name, station) in enumerate(lab.nodes.items(), 1):
            address = f"fd00:20::7:{number}"
            station.namespace.run(["ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad"], check=True)
            put_speaker_pod(lab, name, CHART_LABELS, address)
            gossip = ("--bind-address", address, "--secret", str(lab.directory / "memberlist"), "--ml-labels", labels)
            fleet.speakers[name] = lab.start_speaker(name, None, *gossip)
        fleet.wait_for_members(*lab.nodes)


def test_a_node_without_its_kubelet_goes_on_serving_and_one_that_is_cut_off_is_followed_at_once(
    fleet: KubeFleet,
) -> None:
    lab, node = fleet.lab, "n2"
    anywhere = serve(fleet, "all", node, externalTrafficPolicy="Cluster")
    local = serve(fleet, "here", node, externalTrafficPolicy="Local")
    log = fleet.speakers[node].log
    before = len(log.read_text(encoding="utf-8"))

    def not_ready() -> None:
        lab.stop_kubelet(node)
        fleet.wait(lambda: lab.kubectl("get", "node", node, "-o", UNKNOWN) == "Unknown", f"{node} to be not ready")
        # Its pod counts as not ready now, and kube-proxy there serves nobody from outside under Local.
        fleet.wait(lambda: lab.announcer(local) != node and lab.curl(local).ok, "another node to serve under Local")

    waited = lab.outage(anywhere, not_ready, timeout=0.5)
    print("kubelet gone, under Cluster", waited)
    assert waited < FAILOVER
    lab.flush_neighbours()
    assert (True, node) == (lab.curl(anywhere).ok, lab.announcer(anywhere))
    said = log.read_text(encoding="utf-8")[before:]
    assert [] == [line for line in said.splitlines() if "withdrawing" in line and f"ip={anywhere} " in line]
    verdicts = {each["node"]: each["reason"] for each in fleet.explained("here")["announcers"][str(local)]}
    assert "NoLocalEndpoints" == verdicts[node]

    waited = lab.outage(anywhere, lambda: lab.cut_silently(node))
    print("then cut off", waited)
    assert waited < FAILOVER
    assert node != lab.announcer(anywhere)

    # Who is gone, by whose verdict and since when, for people.
    others = sorted(set(lab.nodes) - {node})
    fleet.wait(lambda: others == fleet.members()["members"], "get members to say so")
    found = fleet.members()
    sights = {view["node"]: {each["name"]: each for each in view["members"]} for view in found["views"]}
    for name in others:
        assert ("dead", "alive") == (sights[name][node]["state"], sights[name][name]["state"])
        assert set(sights[name][node]["by"]) <= set(others)
        assert sights[name][node]["by"]
        assert "lbcore/1" == sights[name][node]["release"]
    (why,) = [each for each in fleet.explained("all")["announcers"][str(anywhere)] if each["node"] == node]
    assert "NotAMember" == why["reason"]
    assert "its speaker is dead since 20" in why["message"]
    assert "by the verdict of n" in why["message"]
    lab.heal(node)
    lab.start_kubelet(node)
    fleet.wait(lambda: sorted(lab.nodes) == fleet.members()["members"], "all to be members again")


def test_what_a_speaker_sees_is_in_its_lease_and_at_its_port(fleet: KubeFleet) -> None:
    lease = lease_of(fleet, "n1")
    assert 60 == lease["spec"]["leaseDurationSeconds"]
    assert "lbcore.io/record" not in lease["metadata"]["annotations"]
    station = fleet.lab.nodes["n1"]
    said = fleet.members("--ask", f"[{station.address(6)}]:{PORT}")
    (view,) = said["views"]
    assert (sorted(fleet.lab.nodes), "n1", "fast") == (said["members"], view["node"], view["detector"])
    lbcore, run = str(Path(sys.executable).parent / "lbcore"), fleet.lab.control.namespace.run
    asked = [lbcore, "get", "members", "--kubeconfig", str(fleet.api.kubeconfig)]
    whole = "Detector on n1, n2, n3: fast (all members are lbcore's)."
    # One that was cut off took its Lease away, and has it again when it is a candidate again.
    table = fleet.wait(lambda: whole in (text := run(asked, check=True).stdout) and text, f"{whole!r} to be said")
    assert isinstance(table, str)
    assert ["NAME", "STATE", "SINCE", "BY", "PROGRAM", "SEEN", "BY"] == table.splitlines()[0].split()

"""Several controllers on one real API server: one writes, another takes over, and no address changes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lbcore.adapters.kubernetes.crds import definitions
from lbcore.lab.controlplane import ApiServer, Daemon

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]

POOL = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: prod, namespace: metallb-system}
spec: {addresses: ["192.0.2.0/28", "2001:db8::/120"]}
"""
RIVAL = """
apiVersion: v1
kind: Pod
metadata: {name: controller-0, namespace: metallb-system, labels: {app: metallb, component: controller}}
spec: {containers: [{name: controller, image: "quay.io/metallb/controller", args: ["--port=7472"]}]}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    with ApiServer.start(audit=True, flags=("--disable-admission-plugins=ServiceAccount",)) as api:
        api.apply(*definitions())
        api.kubectl("create", "namespace", "metallb-system")
        api.wait(lambda: api.request("GET", "/apis/metallb.io/v1beta1/ipaddresspools").status == 200, "definitions")
        api.apply(POOL)
        yield api


@pytest.fixture
def start(cluster: ApiServer) -> Iterator[Callable[[str], Daemon]]:
    started: list[Daemon] = []

    def controller(name: str) -> Daemon:
        argv = ["-m", "lbcore.cli.main", "controller", "--kubeconfig", str(cluster.kubeconfig)]
        started.append(cluster.daemon(name, argv, program=Path(sys.executable), log=name).start())
        return started[-1]

    yield controller
    for each in started:
        if each.running:
            each.signal(signal.SIGCONT)
            each.stop()


def create(api: ApiServer, *names: str) -> None:
    for name in names:
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        api.ask("POST", "/api/v1/namespaces/default/services", body)


def address(api: ApiServer, name: str) -> str:
    status = api.ask("GET", f"/api/v1/namespaces/default/services/{name}")["status"]
    return ",".join(each["ip"] for each in status["loadBalancer"].get("ingress") or ())


def status_writes(api: ApiServer) -> int:
    """Those that the server took. One that was past the fence when its process was stopped is sent when that goes on,
    and refused: it names the version of the Service that it was meant for.
    """
    return sum(
        each["verb"] in ("patch", "update")
        and each.get("objectRef", {}).get("subresource") == "status"
        and each["responseStatus"]["code"] < 300
        for each in api.requests()
        if each.get("objectRef", {}).get("resource") == "services"
    )


def test_a_leader_that_stands_still_is_followed_and_finds_the_fence_closed(
    cluster: ApiServer, start: Callable[[str], Daemon]
) -> None:
    names = [f"first-{number}" for number in range(3)]
    create(cluster, *names)
    one = start("one")
    cluster.wait(lambda: all(address(cluster, name) for name in names), "addresses from the first")
    two = start("two")
    cluster.wait(lambda: "API server" in two.said(), "the second to start")
    before = {name: address(cluster, name) for name in names}
    create(cluster, *(f"batch-{number}" for number in range(5)))
    one.signal(signal.SIGSTOP)  # wherever it was in the batch
    create(cluster, "later")
    everyone = [*names, *(f"batch-{number}" for number in range(5)), "later"]
    cluster.wait(lambda: all(address(cluster, name) for name in everyone), "addresses from the second", 60)
    settled, written = {name: address(cluster, name) for name in everyone}, status_writes(cluster)
    assert before.items() <= settled.items()
    assert len(everyone) == len(set(settled.values()))
    one.signal(signal.SIGCONT)
    cluster.wait(lambda: "not leading" in one.said(), "the first to see that it was followed")
    time.sleep(1.0)  # what it had under way would be written now
    assert settled == {name: address(cluster, name) for name in everyone}
    assert written == status_writes(cluster)
    assert 0 == two.stop()  # gives the Lease up
    create(cluster, "after")
    cluster.wait(lambda: address(cluster, "after"), "an address from the first again")


def test_a_new_leader_parts_two_services_that_hold_one_address_and_the_younger_moves(
    cluster: ApiServer, start: Callable[[str], Daemon]
) -> None:
    create(cluster, "elder")
    time.sleep(1.1)  # creationTimestamp counts seconds
    create(cluster, "younger")
    for name in ("elder", "younger"):
        body = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.14"}]}}}
        cluster.ask("PATCH", f"/api/v1/namespaces/default/services/{name}/status", body)
    start("three")
    cluster.wait(lambda: address(cluster, "younger") not in ("", "192.0.2.14"), "the younger to move", 30)
    assert "192.0.2.14" == address(cluster, "elder")


def test_nothing_is_written_while_metallbs_own_controller_serves_the_same_class(
    cluster: ApiServer, start: Callable[[str], Daemon]
) -> None:
    cluster.apply(RIVAL)
    daemon = start("four")
    cluster.wait(lambda: "writes nothing: MetalLB's controller runs as Pod" in daemon.said(), "the refusal")
    create(cluster, "contested")
    time.sleep(2.0)
    assert "" == address(cluster, "contested")
    cluster.ask("DELETE", "/api/v1/namespaces/metallb-system/pods/controller-0?gracePeriodSeconds=0")
    cluster.wait(lambda: address(cluster, "contested"), "an address once it is gone", 30)

"""MetalLB's speakers replaced one by one by ours, and back again, under 200 requests a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubefleet import SYSTEM
from migrating import Migrating, Seen, migrating

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx", "peers")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

SLACK = 1.0  # seconds in which two nodes may answer beyond what MetalLB by MetalLB takes, on a machine that is busy
FAILOVER = 12.0  # seconds: the longest that MetalLB takes to notice a dead speaker


@pytest.fixture(scope="module")
def cluster() -> Iterator[Migrating]:
    with migrating() as running:
        yield running


def test_speakers_are_replaced_one_by_one_and_back_and_no_address_moves_to_another(cluster: Migrating) -> None:
    before, elected = cluster.addresses, cluster.elected
    assert 4 == len(before)
    seen: dict[str, Seen] = {"MetalLB by MetalLB": cluster.roll(cluster.metallb)}
    seen["MetalLB by lbcore"] = cluster.roll(cluster.lbcore)
    assert elected == cluster.announcers
    cluster.hand_over_to_our_controller()
    cluster.lab.wait_until(lambda: _leads(cluster), "our controller to lead", 60)
    found = tuple(address for number in range(2) for address in cluster.fleet.addresses(f"web-{number}"))
    assert (before, elected) == (found, cluster.announcers)
    cluster.hand_back()
    seen["lbcore by MetalLB"] = cluster.roll(cluster.metallb)
    assert elected == cluster.announcers
    found = tuple(address for number in range(2) for address in cluster.fleet.addresses(f"web-{number}"))
    assert before == found
    for name, each in seen.items():
        print(name, each)
    theirs = seen["MetalLB by MetalLB"]
    for name in ("MetalLB by lbcore", "lbcore by MetalLB"):
        assert seen[name].doubled <= theirs.doubled + SLACK, (name, seen)
        assert seen[name].silence <= FAILOVER, (name, seen)
        assert seen[name].sent >= theirs.sent / 10


def _leads(cluster: Migrating) -> bool:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lbcore-controller"
    answer = cluster.lab.api.request("GET", lease)
    return answer.status == 200

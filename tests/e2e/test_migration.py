"""MetalLB's speakers replaced one by one by ours, and back again, under 200 requests a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubefleet import SYSTEM
from migrating import Migrating, Seen, migrating

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx", "peers")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

SLACK = 1.0  # seconds in which two nodes may answer beyond what MetalLB by MetalLB takes, on a machine that is busy
FAILOVER = 4.0  # seconds: what MetalLB takes at least to notice a dead speaker


@pytest.fixture(scope="module")
def cluster() -> Iterator[Migrating]:
    with migrating() as running:
        yield running


def test_speakers_are_replaced_one_by_one_and_back_and_no_address_moves_to_another(cluster: Migrating) -> None:
    before, elected = cluster.addresses, cluster.elected
    assert 4 == len(before)
    seen: dict[str, Seen] = {"MetalLB by MetalLB": cluster.roll(cluster.metallb)}
    nodes = list(cluster.lab.nodes)

    def ours(node: str) -> None:
        cluster.lbcore(node)
        # Beside another program memberlist alone decides, and each of ours says so; after the last one the detector.
        left = nodes[nodes.index(node) + 1 :]
        why = f"not lbcore's, or without its detector: {', '.join(left)}" if left else "all members are lbcore's"
        expected = [("memberlist" if left else "fast", why)] * (len(nodes) - len(left))
        cluster.lab.wait_until(lambda: (nodes, expected) == _told(cluster), f"{expected} to be told", 30)

    seen["MetalLB by lbcore"] = cluster.roll(ours)
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
        assert seen[name].silence <= theirs.silence + FAILOVER, (name, seen)
        assert seen[name].sent >= theirs.sent / 10


def _told(cluster: Migrating) -> tuple[list[str], list[tuple[str, str]]]:
    """The members, and which detector is in force on each of our nodes and why, as `get members` has it."""
    found = cluster.fleet.members()
    return found["members"], [(view["detector"], view["why"]) for view in found["views"]]


def _leads(cluster: Migrating) -> bool:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lbcore-controller"
    answer = cluster.lab.api.request("GET", lease)
    return answer.status == 200

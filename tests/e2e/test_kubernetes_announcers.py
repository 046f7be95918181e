"""Who announces, as dashboards and people read it from a real API server, when nodes come and go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet import service
from kubefleet import BASE, KubeFleet, install_crds
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]


@pytest.fixture
def fleet() -> Iterator[KubeFleet]:
    """Two nodes with two pods, controller and speakers, for one test, which may break it."""
    with KubernetesLab(nodes=2) as lab:
        install_crds(lab.api)
        running = KubeFleet(lab).start()
        running.apply(BASE)
        yield running


def test_who_announces_is_told_and_nothing_is_told_of_a_node_that_is_lost(fleet: KubeFleet) -> None:
    fleet.apply(service("web", ipFamilyPolicy="RequireDualStack"))
    _, address = fleet.wait_for_addresses("web")
    assert fleet.wait_for_page(address)
    first = fleet.wait_for_announcer("web", address, among=2)
    shown = fleet.lab.kubectl("get", "servicel2statuses", "-n", "metallb-system").splitlines()
    assert ["ALLOCATED", "NODE", "SERVICE", "NAME", "SERVICE", "NAMESPACE"] == shown[0].split()[1:]
    assert [first, "web", "default"] == shown[1].split()[1:]
    (said,) = fleet.explained("web")["announcedBy"]
    assert {"node": first, "protocol": "layer2", "interfaces": [], "peers": []} == said

    fleet.lab.kill(first)
    (second,) = set(fleet.lab.nodes) - {first}
    assert second == fleet.wait_for_announcer("web", address, among=1)
    fleet.lab.flush_neighbours()
    assert fleet.wait_for_page(address)
    assert second == fleet.lab.announcer(address)
    now = fleet.explained("web")
    verdicts = {each["node"]: each["reason"] for each in now["announcers"][str(address)]}
    assert {first: "NotAMember", second: "OK"} == verdicts
    assert [second] == [each["node"] for each in now["announcedBy"]]
    fleet.lab.kubectl("delete", "service", "web")
    fleet.wait(lambda: [] == fleet.said_to_announce("web"), "the status to be gone")

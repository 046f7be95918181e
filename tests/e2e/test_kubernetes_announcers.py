"""Who announces, as dashboards and people read it from a real API server, when nodes come and go."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def explained(fleet: KubeFleet, name: str) -> Any:
    """What `lbcore explain` says, asked on the control plane's host."""
    lbcore = str(Path(sys.executable).parent / "lbcore")
    asked = [lbcore, "explain", name, "-o", "json", "--kubeconfig", str(fleet.api.kubeconfig)]
    return json.loads(fleet.lab.control.namespace.run(asked, check=True).stdout)


def test_who_announces_is_told_and_nothing_is_told_of_a_node_that_is_lost(fleet: KubeFleet) -> None:
    fleet.apply(service("web", ipFamilyPolicy="RequireDualStack"))
    _, address = fleet.wait_for_addresses("web")
    assert fleet.wait_for_page(address)
    first = fleet.lab.announcer(address)
    assert first is not None
    fleet.wait(lambda: [first] == fleet.said_to_announce("web"), f"the status of {first}")
    shown = fleet.lab.kubectl("get", "servicel2statuses", "-n", "metallb-system").splitlines()
    assert ["ALLOCATED", "NODE", "SERVICE", "NAME", "SERVICE", "NAMESPACE"] == shown[0].split()[1:]
    assert [first, "web", "default"] == shown[1].split()[1:]
    (said,) = explained(fleet, "web")["announcedBy"]
    assert {"node": first, "protocol": "layer2", "interfaces": [], "peers": []} == said

    fleet.lab.kill(first)
    (second,) = set(fleet.lab.nodes) - {first}
    fleet.wait(lambda: [second] == fleet.said_to_announce("web"), f"the status of {second} alone")
    fleet.lab.flush_neighbours()
    assert fleet.wait_for_page(address)
    assert second == fleet.lab.announcer(address)
    now = explained(fleet, "web")
    verdicts = {each["node"]: each["reason"] for each in now["announcers"][str(address)]}
    assert {first: "NotAMember", second: "OK"} == verdicts
    assert [second] == [each["node"] for each in now["announcedBy"]]
    fleet.lab.kubectl("delete", "service", "web")
    fleet.wait(lambda: [] == fleet.said_to_announce("web"), "the status to be gone")

"""Secrets of a real API server, with the chart's rights: passwords of BGP sessions, and the key of those who gossip."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import manifest, service
from kubefleet import BASE, KubeFleet, install_crds
from lbcore.lab.kubernetes import KubernetesLab
from routers import bird, kernel_routes

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx", "bird")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

SYSTEM = "metallb-system"
RIGHT, WRONG = "r1ght-s3cret", "wr0ng-s3cret"


@pytest.fixture
def fleet() -> Iterator[KubeFleet]:
    with KubernetesLab(nodes=1) as lab:
        install_crds(lab.api)
        running = KubeFleet(lab).start()
        running.apply(BASE)
        yield running


def test_a_session_has_the_password_of_its_secret_as_it_is_now_and_nobody_reads_it_in_a_log(
    fleet: KubeFleet, tmp_path: Path
) -> None:
    lab = fleet.lab
    (station,) = lab.nodes.values()
    (tmp_path / "bird").mkdir()
    peers = {str(station.address(6)): 64513}
    bird(lab.client.namespace, tmp_path / "bird", peers, extra=f'password "{RIGHT}";').start()
    address = str(lab.client.address(6))
    spec: dict[str, Any] = {"myASN": 64513, "peerASN": 64512, "peerAddress": address, "connectTime": "1s"}
    spec |= {"passwordSecret": {"name": "tor", "namespace": "elsewhere"}, "holdTime": "9s"}  # by name, as in MetalLB
    fleet.apply(manifest("metallb.io/v1beta2", "BGPPeer", "tor", SYSTEM, spec))
    fleet.apply(manifest("metallb.io/v1beta1", "BGPAdvertisement", "bgp", SYSTEM, {}))
    fleet.apply(service("web", ipFamilies=["IPv6"]))
    (given,) = fleet.wait_for_addresses("web")

    def events() -> str:
        return lab.kubectl("get", "events", "-n", SYSTEM, "-o", "json")

    fleet.wait(lambda: "passwordMissing" in events(), "the Event about the Secret that is missing")
    make = ("create", "secret", "generic", "tor", "-n", SYSTEM, "--type=kubernetes.io/basic-auth")
    lab.kubectl(*make, f"--from-literal=password={WRONG}")
    fleet.wait(lambda: "same password" in events(), "the Event about the password that is wrong")
    lab.kubectl("delete", "secret", "tor", "-n", SYSTEM)
    lab.kubectl(*make, f"--from-literal=password={RIGHT}")
    fleet.wait(lambda: f"{given}/128" in str(kernel_routes(lab.client.namespace)), "the route")
    for log in [*lab.directory.rglob("*.log"), *(program.log for program in fleet.speakers.values())]:
        text = log.read_text(encoding="utf-8", errors="replace")
        assert (False, False) == (RIGHT in text, WRONG in text), log
    assert "s3cret" not in events()


def test_speakers_gossip_with_the_secret_as_metallbs_tutorial_makes_it(tmp_path: Path) -> None:
    """`openssl rand -base64 128` has line feeds in it, which belong to the key."""
    with KubernetesLab(nodes=2) as lab:
        install_crds(lab.api)
        fleet = KubeFleet(lab)
        fleet.apply(BASE)
        random = lab.control.namespace.run(["openssl", "rand", "-base64", "128"], check=True).stdout.rstrip("\n")
        make = ("create", "secret", "generic", "-n", SYSTEM, "memberlist", f"--from-literal=secretkey={random}")
        lab.kubectl(*make)
        lab.start_controller(None, "--ml-secret-name", "memberlist")
        document = fleet.get("secret", "memberlist", SYSTEM)
        # As a kubelet mounts it.
        (tmp_path / "secretkey").write_bytes(base64.b64decode(document["data"]["secretkey"]))
        for name, station in lab.nodes.items():
            gossip = ("--bind-address", str(station.address(6)), "--secret", str(tmp_path))
            fleet.speakers[name] = lab.start_speaker(name, None, *gossip)
        fleet.apply(service("web", ipFamilies=["IPv6"]))
        (address,) = fleet.wait_for_addresses("web")
        assert fleet.wait_for_page(address)
        first = fleet.wait_for_announcer("web", address, among=2)
        assert document["data"] == fleet.get("secret", "memberlist", SYSTEM)["data"]  # it was there: nobody touches it
        leases = lab.kubectl("get", "leases", "-n", SYSTEM, "-l", "lbcore.io/speaker", "-o", "jsonpath={.items}")
        assert (True, False) == ("lbcore.io/members" in leases, "lbcore.io/record" in leases)  # for people only
        fleet.speakers[first].stop()
        fleet.wait(lambda: fleet.said_to_announce("web") not in ([], [first]), "the other's status")
        lab.flush_neighbours()
        assert fleet.wait_for_page(address)
        assert first != lab.announcer(address)
        for log in lab.directory.rglob("*.log"):
            assert random.splitlines()[0] not in log.read_text(encoding="utf-8", errors="replace")

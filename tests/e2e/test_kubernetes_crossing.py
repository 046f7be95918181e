"""A rolling update from speakers that know each other by Leases to ones that gossip, and back, on a real API server.

Each address is asked for on the wire all the while: two nodes answer for less time than a failover by Leases takes.
"""

from __future__ import annotations

import pytest

from answerers import Answerers
from fleet import service
from kubefleet import BASE, KubeFleet, install_crds
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

BY_LEASES = 5.0  # seconds


def test_in_a_rolling_update_to_gossip_and_back_all_elect_among_the_same_nodes() -> None:
    with KubernetesLab(nodes=3) as lab:
        install_crds(lab.api)
        fleet = KubeFleet(lab).start(gossip=False)
        fleet.apply(BASE)
        fleet.apply(service("one", ipFamilyPolicy="RequireDualStack"))
        fleet.apply(service("two", ipFamilies=["IPv6"]))
        addresses = (*fleet.wait_for_addresses("one"), *fleet.wait_for_addresses("two"))
        for address in addresses:
            assert fleet.wait_for_page(address)
        fleet.wait_for_members(*lab.nodes)
        wire = Answerers(lab.client.namespace, addresses, 0.02)
        for gossip in (True, False):
            for node in lab.nodes:
                fleet.speakers[node].stop()
                fleet.start_speaker(node, gossip=gossip)
                fleet.wait_for_members(*lab.nodes)
        heard = wire.end()
        print(heard)
        assert all(each["longest"] < BY_LEASES for each in heard.values()), heard
        for address in addresses:
            assert fleet.wait_for_page(address)

"""A rolling update from speakers that know each other by Leases to ones that gossip, and back, on a real API server;
and one that lives by Leases, is away, and comes back.

Each address is asked for on the wire all the while: two nodes answer for less time than a failover by Leases takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from answerers import Answerers
from fleet import service
from kubefleet import BASE, KubeFleet, install_crds
from lbcore.addresses import Address
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "openssl", "netns", "nft", "packet", "curl", "nginx")

pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

BY_LEASES = 5.0  # seconds

Served = tuple[KubeFleet, tuple[Address, ...]]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Three speakers that know each other by Leases, and two Services that answer."""
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
        yield fleet, addresses


def test_a_node_that_was_away_answers_alone_again_and_clients_are_told(served: Served) -> None:
    fleet, (address, *_) = served
    lab = fleet.lab
    first = fleet.wait_for_announcer("one", address, among=3)
    fleet.wait(lambda: lab.curl(address).ok and lab.announcer(address) == first, f"{first} to answer")
    lab.cut_silently(first)
    # What follows the client learns by what it is told: nobody makes it ask.
    fleet.wait(lambda: lab.curl(address, timeout=0.5).ok and lab.announcer(address) != first, "another to answer")
    wire = Answerers(lab.client.namespace, [address], 0.02)
    lab.heal(first)
    fleet.wait_for_members(*lab.nodes)
    fleet.wait(lambda: lab.announcer(address) == first and lab.curl(address).ok, f"the client to be told of {first}")
    heard = wire.end()[address]
    print("back", heard)
    assert heard["longest"] < BY_LEASES
    wire = Answerers(lab.client.namespace, [address], 0.02)
    assert lab.curl(address).ok
    assert 0 == wire.end()[address]["doubled"]


def test_in_a_rolling_update_to_gossip_and_back_all_elect_among_the_same_nodes(served: Served) -> None:
    fleet, addresses = served
    lab = fleet.lab
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

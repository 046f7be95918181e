"""Drains and stops over BGP, seen by a router (BIRD) in whose kernel the routes are, and by connections through it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connections import Connections
from fleet import PATIENCE, Fleet, deployment, lbcore, manifest, pool, service, wait_for
from lbcore.addresses import Address
from lbcore.lab import Lab, Program
from routers import Router, bird, kernel_routes

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "nginx", "bird")]


def peer(address: Address, **spec: object) -> str:
    fields = {
        "myASN": 64513,
        "peerASN": 64512,
        "peerAddress": str(address),
        "holdTime": "9s",
        "connectTime": "1s",
        **spec,
    }
    return manifest("metallb.io/v1beta2", "BGPPeer", "tor", "metallb-system", {**fields, **spec})


ADVERT = manifest("metallb.io/v1beta1", "BGPAdvertisement", "bgp", "metallb-system", {})
# What an operator writes on a router for RFC 8326; FRR does it by itself.
OBEYING = "import filter { if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; };"


class Site:
    """Three nodes with speakers, and the client as their router."""

    def __init__(self, lab: Lab, folder: Path, *, keeping: bool) -> None:
        for name in ("net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy"):
            lab.client.namespace.run(["sysctl", "-qw", f"{name}=1"])
        self.lab = lab
        self.router = _router(lab, folder)
        spec = {"enableGracefulRestart": True} if keeping else {}
        lab.apply(pool("public", "203.0.113.0/24") + deployment() + peer(lab.client.address(4), **spec) + ADVERT)
        self.fleet = Fleet(lab).start("--drain-time", "3")
        lab.apply(service("web"))
        (self.address,) = lab.wait_for_address("web", timeout=PATIENCE)
        lab.wait_for_pods(PATIENCE)
        self.wait_for_hops(*lab.nodes)
        self.fleet.wait_for_page(self.address)

    def hops(self) -> list[str]:
        """The nodes that the router's kernel uses."""
        found = kernel_routes(self.lab.client.namespace).get(f"{self.address}/32", [])
        names = {str(station.address(4)): name for name, station in self.lab.nodes.items()}
        return sorted(names[each] for each in found)

    def wait_for_hops(self, *names: str) -> None:
        wait_for(lambda: sorted(names) == self.hops(), f"routes over {names}", 2 * PATIENCE)

    def told(self) -> str:
        """What the router has been told, with attributes."""
        return self.lab.client.namespace.run(["birdc", "-s", self.router.commands[0][5], "show", "route", "all"]).stdout


def _router(lab: Lab, folder: Path) -> Router:
    router = bird(lab.client.namespace, folder, {str(each.address(4)): 64513 for each in lab.nodes.values()})
    config = folder / "bird.conf"
    config.write_text(config.read_text().replace("import all; export none;", f"{OBEYING} export none;"))
    return router.start()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def test_a_drained_node_is_no_next_hop_before_its_routes_are_withdrawn_and_no_new_connection_fails(
    lab: Lab, tmp_path: Path
) -> None:
    site = Site(lab, tmp_path, keeping=False)
    first, *others = lab.nodes
    running = Connections(lab.client.namespace, site.address, neighbour=False)
    assert 0 == lbcore("drain", first, "--cluster", str(lab.folder)).returncode
    site.wait_for_hops(*others)
    assert "(65535,0)" in site.told()  # it has the route still, and uses others
    wait_for(lambda: "(65535,0)" not in site.told(), "the end of the drain")
    found = running.end()
    print("drained", found)
    assert 0 == found["failed"]
    assert [] == [each for each in site.fleet.json("get", "nodes")["nodes"] if each["drained"] and each["bgpAddresses"]]
    # A speaker that stops without a router that keeps its routes asks it first to turn away.
    running = Connections(lab.client.namespace, site.address, neighbour=False)
    assert 0 == lbcore("undrain", first, "--cluster", str(lab.folder)).returncode
    site.wait_for_hops(*lab.nodes)
    with ThreadPoolExecutor(1) as aside:
        ended = aside.submit(site.fleet.speakers[first].stop)
        wait_for(lambda: "(65535,0)" in site.told(), "a word before the end")
        site.wait_for_hops(*others)
        assert 0 == ended.result()
    found = running.end()
    print("stopped", found)
    assert 0 == found["failed"]


def test_a_router_that_keeps_routes_notices_nothing_of_a_speaker_that_is_replaced(lab: Lab, tmp_path: Path) -> None:
    site = Site(lab, tmp_path, keeping=True)
    everybody, first = sorted(lab.nodes), next(iter(lab.nodes))
    running = Connections(lab.client.namespace, site.address, neighbour=False)
    seen: set[tuple[str, ...]] = set()
    for end in (Program.stop, Program.kill):
        end(site.fleet.speakers[first])
        seen.add(tuple(site.hops()))
        site.fleet.start_speaker(first)

        def up() -> bool:
            seen.add(tuple(site.hops()))
            peers = site.fleet.json("get", "peers")["peers"]
            return any(each["node"] == first and each["prefixesAdvertised"] == 1 for each in peers)

        wait_for(up, "a session again")
    found = running.end()
    print("replaced", found)
    assert {tuple(everybody)} == seen
    assert (0, 0, 0) == (found["failed"], found["cut"], found["broken"])

"""Drains and stops over BGP, seen by a router (BIRD) in whose kernel the routes are, and by connections through it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connections import STAYING, Connections
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
    """Three nodes with speakers, and the client as their router, over one family; `internal` in their own AS."""

    def __init__(
        self, lab: Lab, folder: Path, *, keeping: bool = False, version: int = 4, internal: bool = False
    ) -> None:
        for name in ("net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy"):
            lab.client.namespace.run(["sysctl", "-qw", f"{name}=1"])
        self.lab = lab
        self.version = version
        asn = 64513 if internal else 64512
        self.router = _router(lab, folder, version, asn)
        self.mark = "BGP.local_pref: 0\n" if internal else "(65535,0)"
        spec = {"enableGracefulRestart": keeping, "peerASN": asn}
        addresses = {4: "203.0.113.0/24", 6: "2001:db8:77::/112"}[version]
        lab.apply(pool("public", addresses) + deployment() + peer(lab.client.address(version), **spec) + ADVERT)
        self.fleet = Fleet(lab).start("--drain-time", "3")
        lab.apply(service("web", ipFamilies=[f"IPv{version}"]))
        (self.address,) = lab.wait_for_address("web", timeout=PATIENCE)
        lab.wait_for_pods(PATIENCE)
        self.wait_for_hops(*lab.nodes)
        self.fleet.wait_for_page(self.address)

    def hops(self) -> list[str]:
        """The nodes that the router's kernel uses."""
        found = kernel_routes(self.lab.client.namespace).get(f"{self.address}/{self.address.family.bits}", [])
        names = {str(station.address(self.version)): name for name, station in self.lab.nodes.items()}
        return sorted(names[each] for each in found)

    def wait_for_hops(self, *names: str) -> None:
        wait_for(lambda: sorted(names) == self.hops(), f"routes over {names}", 2 * PATIENCE)

    def told(self) -> str:
        """What the router has been told, with attributes."""
        return self.lab.client.namespace.run(["birdc", "-s", self.router.commands[0][5], "show", "route", "all"]).stdout

    def is_asked(self) -> bool:
        """Whether a route is told as going away."""
        return self.mark in self.told()

    def drain(self, node: str, *, asks: bool) -> dict[str, int]:
        """What becomes of connections while a node is drained; whether it asks the router first to use others."""
        running = Connections(self.lab.client.namespace, self.address, neighbour=False)
        assert 0 == lbcore("drain", node, "--cluster", str(self.lab.folder)).returncode
        self.wait_for_hops(*(name for name in self.lab.nodes if name != node))
        assert not asks or self.is_asked()  # it has the route still
        wait_for(lambda: ["nodeDraining", "nodeDrained"] == self.events()[-2:], "the end of the drain")
        wait_for(lambda: not self.is_asked(), "a router that was told so")
        return running.end()

    def undrain(self, node: str) -> None:
        assert 0 == lbcore("undrain", node, "--cluster", str(self.lab.folder)).returncode
        self.wait_for_hops(*self.lab.nodes)

    def events(self) -> list[str]:
        """The reasons of what has been told of nodes, in order."""
        lines = (self.lab.folder / ".lbcore" / "events.jsonl").read_text().splitlines()
        return [each["reason"] for each in map(json.loads, lines) if "Node " in each["about"]]


def _router(lab: Lab, folder: Path, version: int, asn: int) -> Router:
    peers = {str(each.address(version)): 64513 for each in lab.nodes.values()}
    router = bird(lab.client.namespace, folder, peers, asn=asn)
    config = folder / "bird.conf"
    config.write_text(config.read_text().replace("import all; export none;", f"{OBEYING} export none;"))
    return router.start()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize(("version", "internal"), [(4, False), (6, True)])
def test_a_drained_node_is_no_next_hop_before_its_routes_are_withdrawn_and_no_new_connection_fails(
    lab: Lab, tmp_path: Path, version: int, internal: bool
) -> None:
    site = Site(lab, tmp_path, version=version, internal=internal)
    first, *others = lab.nodes
    found = site.drain(first, asks=True)
    print("drained", found)
    assert 0 == found["failed"]
    assert [] == [each for each in site.fleet.json("get", "nodes")["nodes"] if each["drained"] and each["bgpAddresses"]]
    site.undrain(first)
    # A speaker that stops without a router that keeps its routes asks it first to turn away.
    running = Connections(lab.client.namespace, site.address, neighbour=False)
    with ThreadPoolExecutor(1) as aside:
        ended = aside.submit(site.fleet.speakers[first].stop)
        wait_for(site.is_asked, "a word before the end")
        site.wait_for_hops(*others)
        assert 0 == ended.result()
    found = running.end()
    print("stopped", found)
    assert 0 == found["failed"]
    # Beside a bare withdrawal: what breaks of open connections is what the router hashes anew, however it is asked.
    site.fleet.start_speaker(first, "--drain-time", "0")
    site.wait_for_hops(*lab.nodes)
    found = site.drain(first, asks=False)
    print("withdrawn at once", found)
    assert STAYING == found["open"]


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
            told = [(each["state"], each["prefixesAdvertised"]) for each in peers if each["node"] == first]
            return [("Established", 1)] == told  # and not what the one before told last

        wait_for(up, "a session again")
    found = running.end()
    print("replaced", found)
    assert {tuple(everybody)} == seen
    assert (0, 0, 0) == (found["failed"], found["cut"], found["broken"])

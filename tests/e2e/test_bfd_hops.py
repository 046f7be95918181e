"""BFD over several hops (RFC 5883): a router on no link of any node, behind one that only passes packets on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from fleet import Fleet, service, wait_for
from lbcore.lab import Lab
from lbcore.lab.namespaces import Namespace
from routers import Router, bird, frr
from watched import BASE, BIRD_BFD, DUAL, nodes, peer, profile, sessions, wait_until_up

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "nginx")]

NEAR, FAR = {4: "10.99.0.1", 6: "fd00:99::1"}, {4: "10.99.0.2", 6: "fd00:99::2"}
LENGTH = {4: 24, 6: 64}
NODES = {4: "192.168.20.0/24", 6: "fd00:20::/64"}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(nodes=2) as lab:
        yield lab


@pytest.fixture
def far(lab: Lab) -> Iterator[Namespace]:
    """A host behind the client, which is the nodes' default gateway and passes packets on."""
    with Namespace("far") as far:
        middle = lab.client.namespace
        cable = ["ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", str(far.pid)]
        middle.run(cable, check=True)
        for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            middle.run(["sysctl", "-qw", f"{setting}=1"], check=True)
        far.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0"])
        for space, link, own in ((middle, "far", NEAR), (far, "eth0", FAR)):
            lines = ["link set lo up", f"link set {link} up"]
            lines += [f"addr add {own[n]}/{LENGTH[n]} dev {link}{' nodad' if n == 6 else ''}" for n in (4, 6)]
            lines += [f"route add {NODES[n]} via {NEAR[n]}" for n in (4, 6) if space is far]
            space.run(["ip", "-batch", "-"], text="\n".join(lines) + "\n", check=True)
        yield far


@frozen
class Far:
    """A router behind another: `ttl` is what its packets have left at the nodes; what it says of paths and of BFD."""

    router: Router
    ttl: int
    paths: Callable[[], str]
    watched: Callable[[], int]  # how many sessions of several hops are up


def a_bird(lab: Lab, far: Namespace, folder: Path) -> Far:
    ways = " ".join(f"protocol static {{ ipv{n}; route {NODES[n]} via {NEAR[n]}; }}" for n in (4, 6))
    several = {"hops": "multihop 2;", "own": FAR, "extra": "bfd on;", "more": BIRD_BFD + ways}
    router = bird(far, folder, nodes(lab), **several)  # type: ignore[arg-type]
    # A session of several hops is on no interface. BIRD sends its packets with a TTL of 64, which is its own affair.
    return Far(
        router,
        63,
        lambda: router.ask("show", "route", "all"),
        lambda: router.ask("show", "bfd", "sessions").count("---        Up"),
    )


def a_frr(lab: Lab, far: Namespace, _folder: Path) -> Far:
    extra = ["timers 30 90", "ebgp-multihop 2", "bfd 3 100 100"]
    router = frr(far, nodes(lab), extra=extra, daemons=["bfdd"])
    return Far(
        router,
        254,
        lambda: "".join(router.ask(f"show bgp ipv{n} unicast json") for n in (4, 6)),
        lambda: router.ask("show bfd peers json").replace(" ", "").count('"multihop":true'),
    )


ROUTERS = [pytest.param(a_bird, marks=pytest.mark.needs("bird")), pytest.param(a_frr, marks=pytest.mark.needs("frr"))]


def forward(lab: Lab, *rules: str) -> None:
    """What the host between nodes and router does to packets, in place of what it did before."""
    lines = ["table inet middle {}", "delete table inet middle", "table inet middle {", "chain forward {"]
    lines += ["type filter hook forward priority 0;", *rules, "}", "}", ""]
    lab.client.namespace.run(["nft", "-f", "-"], text="\n".join(lines), check=True)


@pytest.mark.parametrize("make", ROUTERS)
def test_a_router_two_hops_away_is_watched_and_is_not_heard_with_a_ttl_below_the_profiles(
    lab: Lab, far: Namespace, tmp_path: Path, make: Callable[[Lab, Namespace, Path], Far]
) -> None:
    there = make(lab, far, tmp_path)
    there.router.start()
    peers = [peer(f"tor{version}", FAR[version], ebgpMultiHop=True) for version in (4, 6)]
    lab.apply(BASE + profile(minimumTtl=there.ttl) + "".join(peers))
    fleet = Fleet(lab).start()
    lab.apply(service("web", **DUAL))
    lab.wait_for_address("web", timeout=30)
    wait_until_up(fleet, 4)
    wait_for(lambda: 4 == there.watched(), "the sessions at the router")
    ports = lab.nodes["n1"].namespace.run(["ss", "-Huln"]).stdout
    assert ":4784 " in ports
    assert ":3784 " not in ports
    hops = set(nodes(lab))
    wait_for(lambda: hops == {each for each in hops if each in there.paths()}, "paths by all nodes")
    _cut_in_the_middle(fleet, there)
    # What comes has passed more routers than the profile allows: it is not heard, and is told of.
    less = there.ttl - 1
    forward(
        lab, f'iifname "far" udp dport 4784 ip ttl set {less}', f'iifname "far" udp dport 4784 ip6 hoplimit set {less}'
    )
    wait_for(lambda: all(f"TTL of {less}, and {there.ttl} is" in each["error"] for each in sessions(fleet)), "words")
    assert {"Down"} == {each["bfd"] for each in sessions(fleet)}
    lab.apply(profile(minimumTtl=less))
    wait_until_up(fleet, 4)
    assert {""} == {each["error"] for each in sessions(fleet)}


def _cut_in_the_middle(fleet: Fleet, there: Far) -> None:
    """Somewhere on the way nothing passes any more, with every cable in its place: one node alone is concerned."""
    lab = fleet.lab
    gone = {str(lab.nodes["n1"].address(version)) for version in (4, 6)}
    before = {each["node"]: each["sessionsLost"] for each in sessions(fleet)}
    forward(lab, *(f"ip{'6' if ':' in each else ''} {way} {each} drop" for each in gone for way in ("saddr", "daddr")))

    def lost() -> bool:
        return all("BFD: nothing was heard" in each["error"] for each in sessions(fleet) if each["node"] == "n1")

    wait_for(lost, "what the node says", 15)
    wait_for(lambda: not any(each in there.paths() for each in gone), "paths by the other alone", 15)
    assert {before["n2"]} == {each["sessionsLost"] for each in sessions(fleet) if each["node"] == "n2"}
    forward(lab, "accept")
    wait_until_up(fleet, 4)
    wait_for(lambda: all(each in there.paths() for each in gone), "paths by both again", 60)

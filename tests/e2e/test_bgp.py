"""BGP with real routers: from BGPPeer and BGPAdvertisement to the routes in a router's kernel, and pages through them.

The client is the router here: BIRD runs on it, so what `curl` takes is what BGP has told its kernel.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connections import Connections
from fleet import PATIENCE, Fleet, deployment, manifest, pool, service, wait_for
from lbcore.addresses import Address
from lbcore.lab import Lab
from lbcore.lab.router import Routes
from routers import Router, bird, frr, kernel_routes

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "nginx", "bird")]

V4, V6 = "203.0.113.", "2001:db8:77::"


def peer(name: str, address: str, **spec: Any) -> str:
    fields = {"myASN": 64513, "peerASN": 64512, "peerAddress": address, "holdTime": "9s", "connectTime": "1s", **spec}
    return manifest("metallb.io/v1beta2", "BGPPeer", name, "metallb-system", fields)


def advert(name: str = "bgp", **spec: Any) -> str:
    return manifest("metallb.io/v1beta1", "BGPAdvertisement", name, "metallb-system", spec)


BASE = pool("public", f"{V4}0/24", f"{V6}/112") + deployment()
DUAL: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab() as lab:
        for name in ("net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy"):
            lab.client.namespace.run(["sysctl", "-qw", f"{name}=1"])
        yield lab


def nodes(lab: Lab, version: int) -> dict[str, int]:
    return {str(each.address(version)): 64513 for each in lab.nodes.values()}


def router_of(lab: Lab, folder: Path, **options: Any) -> Router:
    folder.mkdir(exist_ok=True)
    peers = {**nodes(lab, 4), **nodes(lab, 6)}
    return bird(lab.client.namespace, folder, options.pop("peers", peers), **options).start()


def routes(lab: Lab) -> dict[str, list[str]]:
    return kernel_routes(lab.client.namespace)


def sessions(fleet: Fleet) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["node"], each["peer"]): each for each in fleet.json("get", "peers")["peers"]}


def states(fleet: Fleet) -> dict[str, str]:
    """The state of each node's session, where nodes have one each; a node that has not told yet is not in it."""
    return {node: each["state"] for (node, _), each in sessions(fleet).items()}


def wait_for_routes(lab: Lab, wanted: dict[str, list[str]]) -> None:
    found: dict[str, list[str]] = {}

    def there() -> bool:
        found.clear()
        found.update(routes(lab))
        return wanted == found

    try:
        wait_for(there, "the routes", PATIENCE)
    except AssertionError:
        assert wanted == found
        raise


def hops(lab: Lab, version: int, *names: str) -> list[str]:
    return sorted(str(lab.nodes[name].address(version)) for name in names or lab.nodes)


def host(address: Address) -> str:
    return f"{address}/{address.family.bits}"


@pytest.mark.parametrize("internal", [False, True])
def test_routers_spread_connections_over_all_nodes(lab: Lab, tmp_path: Path, internal: bool) -> None:
    asn = 64513 if internal else 64512
    router = router_of(lab, tmp_path / "router", asn=asn)
    four, six = lab.client.address(4), lab.client.address(6)
    lab.apply(BASE + peer("tor4", str(four), peerASN=asn) + peer("tor6", str(six), peerASN=asn) + advert())
    fleet = Fleet(lab).start()
    lab.apply(service("web", **DUAL))
    addresses = lab.wait_for_address("web", timeout=PATIENCE)
    wait_for_routes(lab, {host(each): hops(lab, each.version) for each in addresses})
    lab.wait_for_pods(PATIENCE)
    for address in addresses:
        fleet.wait_for_page(address)
        answers = [lab.curl(address) for _ in range(30)]
        assert all(answer.ok for answer in answers)
    _see_sessions_and_changes(fleet, router)


def _see_sessions_and_changes(fleet: Fleet, router: Router) -> None:
    lab = fleet.lab

    def all_told() -> dict[tuple[str, str], dict[str, Any]]:
        found = sessions(fleet)
        return found if all(each["prefixesAdvertised"] == 1 for each in found.values()) else {}

    up = wait_for(all_told, "one prefix in each session")
    assert {(node, name) for node in lab.nodes for name in ("tor4", "tor6")} == set(up)
    assert {"Established"} == {each["state"] for each in up.values()}
    explained = fleet.json("explain", "web")["routes"]
    assert {(node, name, "OK", "Established") for node, name in up} <= {
        (each["node"], each["peer"], each["reason"], each["session"]) for each in explained
    }
    assert "its session carries no IPv6 routes" in fleet.cli("explain", "web").stdout.replace("\n", " ")
    table = fleet.cli("get", "peers").stdout.splitlines()
    assert table[0].split() == ["NODE", "PEER", "ROUTER", "STATE", "SINCE", "BFD", "ADVERTISED", "RECEIVED", "ERROR"]
    # A Service that goes takes its routes along, and no session with them.
    lab.delete("Service", "default", "web")
    wait_for_routes(lab, {})
    assert {key: each["since"] for key, each in up.items()} == {
        key: each["since"] for key, each in sessions(fleet).items()
    }
    # Routers that are gone are noticed, and found again.
    router.stop()
    wait_for(lambda: "Established" not in {each["state"] for each in sessions(fleet).values()}, "lost sessions")
    assert all(each["error"] for each in sessions(fleet).values())
    router.start()
    wait_for(lambda: {"Established"} == {each["state"] for each in sessions(fleet).values()}, "sessions again")
    events = (lab.folder / ".lbcore" / "events.jsonl").read_text()
    assert "sessionUp" in events
    assert "sessionDown" in events


def test_a_node_that_dies_is_no_next_hop_when_its_hold_time_is_over(lab: Lab, tmp_path: Path) -> None:
    router_of(lab, tmp_path / "router")
    lab.apply(BASE + peer("tor4", str(lab.client.address(4)), holdTime="3s") + advert())
    fleet = Fleet(lab).start()
    lab.apply(service("web"))
    (address,) = lab.wait_for_address("web", timeout=PATIENCE)
    wait_for_routes(lab, {host(address): hops(lab, 4)})
    first, *others = lab.nodes
    lab.cut_silently(first)
    wait_for_routes(lab, {host(address): hops(lab, 4, *others)})
    lab.heal(first)
    wait_for_routes(lab, {host(address): hops(lab, 4)})
    # Stopped in order, a speaker says so, and its routes are gone at once.
    fleet.speakers[first].stop()
    wait_for_routes(lab, {host(address): hops(lab, 4, *others)})
    assert {node for node, _ in sessions(fleet)} == set(others)


def test_a_frozen_router_is_given_up_and_the_other_is_not_touched(lab: Lab, tmp_path: Path) -> None:
    router = router_of(lab, tmp_path / "router")
    four = str(lab.client.address(4))
    lab.apply(BASE + peer("tor4", four, holdTime="3s") + advert())
    fleet = Fleet(lab).start()
    # Of all nodes: one that calls a router when it is frozen already has no hold timer yet that could expire.
    wait_for(lambda: dict.fromkeys(lab.nodes, "Established") == states(fleet), "sessions")
    router.signal(signal.SIGSTOP)
    wait_for(lambda: all("hold timer" in each["error"] for each in sessions(fleet).values()), "the hold timers")
    router.signal(signal.SIGCONT)
    wait_for(lambda: dict.fromkeys(lab.nodes, "Established") == states(fleet), "sessions again")


@pytest.mark.parametrize("version", [4, 6])
def test_a_password_is_kept_and_a_wrong_one_is_suspected(lab: Lab, tmp_path: Path, version: int) -> None:
    router_of(lab, tmp_path / "router", extra='password "s3cret";', peers=nodes(lab, version))
    address = str(lab.client.address(version))
    lab.apply(BASE + peer("tor", address, password="wrong") + advert())
    fleet = Fleet(lab).start()
    wait_for(
        lambda: all("same password" in each["error"] for each in sessions(fleet).values()) and sessions(fleet),
        "suspicion",
        40,
    )
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tor", "namespace": "metallb-system"}}
    secret |= {"type": "kubernetes.io/basic-auth", "stringData": {"password": "s3cret"}}
    (lab.folder / "secret.json").write_text(json.dumps(secret))
    lab.apply(peer("tor", address, passwordSecret={"name": "tor", "namespace": "metallb-system"}))
    wait_for(lambda: {"Established"} == {each["state"] for each in sessions(fleet).values()}, "sessions", 40)
    logs = "".join(fleet.log(program.name) for program in fleet.speakers.values())
    assert "s3cret" not in logs


def test_both_families_over_one_ipv6_session_and_aggregates_beside_the_addresses(lab: Lab, tmp_path: Path) -> None:
    router = router_of(lab, tmp_path / "router", peers=nodes(lab, 6))
    names = {"communities": [{"name": "blue", "value": "64513:77"}]}
    lab.apply(manifest("metallb.io/v1beta1", "Community", "names", "metallb-system", names))
    wide = advert("wide", aggregationLength=24, aggregationLengthV6=112, communities=["blue", "large:64513:1:2"])
    lab.apply(BASE + peer("tor6", str(lab.client.address(6)), dualStackAddressFamily=True) + advert() + wide)
    Fleet(lab).start()
    lab.apply(service("web", **DUAL))
    addresses = lab.wait_for_address("web", timeout=PATIENCE)
    prefixes = [host(each) for each in addresses] + [f"{V4}0/24", f"{V6}/112"]
    wait_for_routes(lab, {each: hops(lab, 6) for each in prefixes})
    for prefix in prefixes:
        told = router.ask("show", "route", "all", "for", prefix)
        assert prefix.endswith(("/24", "/112")) == ("(64513,77)" in told) == ("(64513, 1, 2)" in told)


def test_a_node_with_new_endpoints_is_a_next_hop_when_they_have_been_ready_for_the_stated_time(
    lab: Lab, tmp_path: Path
) -> None:
    router_of(lab, tmp_path / "router")
    first, second, third = lab.nodes
    lab.apply(
        pool("public", f"{V4}0/24") + deployment(replicas=1) + peer("tor4", str(lab.client.address(4))) + advert()
    )
    fleet = Fleet(lab)
    fleet.start_controller()
    for node, seconds in {first: 0, second: 1000, third: 3}.items():
        fleet.start_speaker(node, "--ready-for", str(seconds))
    lab.apply(service("web", externalTrafficPolicy="Local"))
    (address,) = lab.wait_for_address("web", timeout=PATIENCE)
    # Nobody else serves it, so nobody waits.
    wait_for_routes(lab, {host(address): hops(lab, 4, first)})
    running = Connections(lab.client.namespace, address, neighbour=False)
    lab.apply(deployment(replicas=3))
    wait_for_routes(lab, {host(address): hops(lab, 4, first, third)})
    expected = {first: "OK", second: "EndpointsTooNew", third: "OK"}
    wait_for(
        lambda: expected == {each["node"]: each["reason"] for each in fleet.json("explain", "web")["routes"]}, "why"
    )
    # Of what a speaker finds when it starts nothing is new.
    fleet.speakers[second].stop()
    fleet.start_speaker(second, "--ready-for", "1000")
    wait_for_routes(lab, {host(address): hops(lab, 4)})
    assert 0 == running.end()["failed"]
    # What is ready no longer is withdrawn at once.
    lab.apply(deployment(replicas=1))
    wait_for_routes(lab, {host(address): hops(lab, 4, first)})


# Two routers of different makers: FRR has IPv4 routes, BIRD has IPv6 routes. Each node serves what its own pod
# serves, so that a page says which node the router has chosen.


def known(lab: Lab) -> Routes:
    space = lab.client.namespace
    return kernel_routes(space, "bgp") | kernel_routes(space, "bird")


@pytest.mark.needs("frr")
def test_connections_spread_over_three_nodes_and_a_speaker_that_is_killed_moves_no_route(tmp_path: Path) -> None:
    with Lab() as lab:
        space = lab.client.namespace
        for version in (4, 6):
            space.run(["sysctl", "-qw", f"net.ipv{version}.fib_multipath_hash_policy=1"], check=True)
        extra = f"graceful restart on; local {lab.client.address(6)} port 1790;"
        second = bird(space, tmp_path, nodes(lab, 6), extra=extra).start()
        first = frr(space, nodes(lab, 4)).start()
        keep = {"enableGracefulRestart": True}
        lab.apply(BASE + peer("frr", str(lab.client.address(4)), **keep) + advert())
        lab.apply(peer("bird", str(lab.client.address(6)), peerPort=1790, **keep))
        fleet = Fleet(lab).start()
        lab.apply(service("web", externalTrafficPolicy="Local", **DUAL))
        addresses = lab.wait_for_address("web", timeout=PATIENCE)
        wanted = {
            host(each): sorted(str(node.address(each.version)) for node in lab.nodes.values()) for each in addresses
        }
        wait_for(lambda: wanted == known(lab), "routes by all nodes")
        lab.wait_for_pods(PATIENCE)
        for address in addresses:
            fleet.wait_for_page(address)
            assert 3 == len({lab.curl(address).served_by for _ in range(30)})
        _kill_a_speaker(fleet, addresses, wanted)
        assert first.programs
        # One router goes; the other's sessions are as they were.
        second.stop()
        wait_for(
            lambda: all(
                each["state"] != "Established" for (_, name), each in sessions(fleet).items() if name == "bird"
            ),
            "lost sessions",
        )
        assert {("Established", 0)} == {
            (each["state"], each["sessionsLost"]) for (_, name), each in sessions(fleet).items() if name == "frr"
        }


def _kill_a_speaker(fleet: Fleet, addresses: tuple[Address, ...], wanted: Routes) -> None:
    """Routes and pages are as they were at every moment while a speaker dies and another takes its place."""
    lab, done = fleet.lab, threading.Event()
    seen: list[Routes] = []
    lost: list[Address] = []

    def watch() -> None:
        while not done.is_set():
            seen.append(known(lab))
            lost.extend(each for each in addresses if not lab.curl(each, timeout=5.0).ok)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        fleet.speakers["n1"].kill()
        told = sessions(fleet)
        before = {each["since"] for each in told.values()}  # what it told stands there until another begins, and is old
        assert {(node, "Unknown" if node == "n1" else "Established") for node in lab.nodes} == {
            (node, each["state"]) for (node, _), each in told.items()
        }
        wait_for(lambda: len(seen) > 5, "a while without a speaker")
        fleet.start_speaker("n1")
        wait_for(lambda: _up_again(fleet, before), "sessions of the new speaker")
        count = len(seen)
        wait_for(lambda: len(seen) > count + 10, "a while with the new one")
    finally:
        done.set()
        watching.join()
    assert [] == [each for each in seen if each != wanted]
    assert [] == lost


def _up_again(fleet: Fleet, before: set[str]) -> bool:
    found = [each for (node, _), each in sessions(fleet).items() if node == "n1" and each["since"] not in before]
    return [("Established", 1)] * 2 == [(each["state"], each["prefixesAdvertised"]) for each in found]

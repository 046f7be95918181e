"""Speakers that gossip: three nodes with a secret find each other, and another takes over when one stops or is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fleet import BASE, Fleet, deployment
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "packet", "nft", "nginx", "curl")]

CLEAN, CRASH = 1.5, 3.0  # seconds; on an idle machine 0.3, memberlist alone would take 5 to 13

Served = tuple[Fleet, tuple[Address, ...]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Each test has nodes of its own: who was lost a few times in another test waits for half a minute and more."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "secretkey").write_text("c2VjcmV0IG9mIHRoZSBzcGVha2Vycw\n", encoding="utf-8")
    with Lab(grace=0.3) as lab:
        lab.apply(BASE)
        fleet = Fleet(lab)
        fleet.start_controller()
        for name in lab.nodes:
            fleet.start_speaker(name, *options(lab, name, secret))
        addresses = fleet.serve("web", ipFamilyPolicy="RequireDualStack")
        for name in lab.nodes:
            fleet.wait_for_log(f"speaker-{name}", " members ", "names=n1,n2,n3")
        yield fleet, addresses


def test_who_asks_the_folder_is_told_that_it_does_not_know_which_speakers_live(served: Served) -> None:
    fleet, addresses = served
    done = fleet.cli("explain", "web", "-o", "json")
    verdicts = [each["reason"] for each in json.loads(done.stdout)["announcers"][str(addresses[0])]]
    assert ["NotElected", "NotElected", "OK"] == sorted(verdicts)
    assert "every Node counts as one with a speaker" in done.stderr


def options(lab: Lab, name: str, secret: Path) -> list[str]:
    peers = [part for each in lab.nodes.values() for part in ("--peer", str(each.address(6)))]
    bind = ("--bind-address", str(lab.nodes[name].address(6)))
    return ["--membership", "gossip", "--secret", str(secret), *bind, *peers]


def test_clients_that_believed_another_in_a_partition_are_told_when_it_is_healed(served: Served) -> None:
    fleet, addresses = served
    lab = fleet.lab
    first = fleet.announcer(addresses, elect(lab.nodes, addresses[0]))
    other, third = (name for name in lab.nodes if name != first)
    lab.part(first, other)
    for address in addresses:
        lab.wait_until(partial(is_served, fleet, address, third), f"{third} to take over {address} at the client", 30)
    for name in (first, other):
        lab.heal(name)
    # The client asks for nothing meanwhile, and so finds nothing out by itself. The first refresh is after 54 s.
    for address in addresses:
        lab.wait_until(partial(is_believed, fleet, address, first), f"{first} to be believed again", 20)
    assert first == fleet.announcer(addresses, first)


def is_served(fleet: Fleet, address: Address, node: str) -> bool:
    """Whether the client gets a page, from a node."""
    return fleet.lab.curl(address, timeout=0.5).ok and is_believed(fleet, address, node)


def is_believed(fleet: Fleet, address: Address, node: str) -> bool:
    """Whether the client's neighbour table has a node for an address."""
    return fleet.lab.announcer(address) == node


def test_what_only_one_node_may_announce_does_not_wait_for_its_penance(served: Served) -> None:
    fleet, addresses = served
    lab = fleet.lab
    lab.apply(deployment("lone", replicas=1))
    (address,) = fleet.serve("lone", app="lone", externalTrafficPolicy="Local", ipFamilies=["IPv6"])
    lone, everybody, before = fleet.wait_for_one_answerer(address), ",".join(lab.nodes), 0
    for _ in range(3):  # each time it is lost it waits for longer: 1, 2, and 4 s
        for name in lab.nodes:  # a wait that lasts counts once
            lab.wait_until(partial(sees, fleet, name, everybody), f"{name} to see all as candidates", 30)
        before = len(fleet.log(f"speaker-{lone}"))
        lab.cut_silently(lone)
        fleet.wait_for_log(f"speaker-{lone}", "withdrawing", f"ip={address} ", since=before)
        for name in set(lab.nodes) - {lone}:
            lab.wait_until(partial(misses, fleet, name, everybody), f"{name} to miss {lone}", 30)
        lab.heal(lone)
        fleet.wait_for_page(address)
    lines = fleet.log(f"speaker-{lone}", since=before).splitlines()
    announced = next(index for index, line in enumerate(lines) if "announcing " in line and f"ip={address} " in line)
    members = [line for line in lines[:announced] if " members " in line]
    assert f" waiting={lone} " in members[-1]
    for name in lab.nodes:
        lab.wait_until(partial(sees, fleet, name, everybody), f"{name} to see all as candidates", 60)
    assert elect(lab.nodes, addresses[0]) == fleet.announcer(addresses)


def test_another_node_takes_over_from_one_that_is_lost_and_from_one_that_stops(served: Served) -> None:
    fleet, addresses = served
    first = fleet.announcer(addresses, elect(fleet.lab.nodes, addresses[0]))
    assert set() == fleet.members()
    assert worst(fleet, addresses, lambda: fleet.lab.cut_silently(first)) < CRASH
    second = fleet.announcer(addresses)
    assert first != second
    fleet.lab.heal(first)
    assert first == fleet.announcer(addresses, first)  # it is back, and elected as it was
    assert worst(fleet, addresses, fleet.speakers[first].stop) < CLEAN
    assert second == fleet.announcer(addresses, second)


def worst(fleet: Fleet, addresses: tuple[Address, ...], during: Callable[[], object]) -> float:
    outages = fleet.outages(addresses, during)
    print(outages)
    return max(outages.values())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_node_that_is_cut_off_stops_by_itself_and_a_lone_survivor_goes_on(count: int) -> None:
    with Lab(count, grace=0.3) as lab:
        lab.apply(BASE)
        fleet = Fleet(lab)
        fleet.start_controller()
        for name, station in lab.nodes.items():
            fleet.start_speaker(name, "--bind-address", str(station.address(6)))  # the others are found by their Nodes
        addresses = fleet.serve("web", ipFamilyPolicy="RequireDualStack")
        everybody = ",".join(lab.nodes)
        for name in lab.nodes:
            lab.wait_until(partial(sees, fleet, name, everybody), f"{name} to see all", 90)
        left = set(lab.nodes)
        while len(left) > 1:  # to the last
            first = fleet.announcer(addresses)
            before = len(fleet.log(f"speaker-{first}"))
            assert worst(fleet, addresses, partial(lab.cut_silently, first)) < CRASH
            left.remove(first)
            assert fleet.announcer(addresses) in left
            for address in addresses:  # nobody could tell it: only the gateway that no longer answers
                fleet.wait_for_log(f"speaker-{first}", "withdrawing", f"ip={address} ", since=before)
        for name in set(lab.nodes) - left:
            lab.heal(name)
        for name in lab.nodes:
            lab.wait_until(partial(sees, fleet, name, everybody), f"{name} to see all", 60)


def sees(fleet: Fleet, name: str, everybody: str) -> bool:
    """Whether a speaker's last word on members is that they are all there."""
    lines = ["", *(line for line in fleet.log(f"speaker-{name}").splitlines() if " members " in line)]
    return lines[-1].endswith(f"names={everybody}")


def misses(fleet: Fleet, name: str, everybody: str) -> bool:
    """Whether a speaker's last word on members is that they are not all there."""
    return not sees(fleet, name, everybody)

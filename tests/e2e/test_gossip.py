"""Speakers that gossip: three nodes with a secret find each other, and another takes over when one stops or is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fleet import BASE, Fleet
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "packet", "nft", "nginx", "curl")]

CLEAN, CRASH = 1.5, 3.0  # seconds; on an idle machine 0.3, memberlist alone would take 5 to 13

Served = tuple[Fleet, tuple[Address, ...]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    secret = tmp_path_factory.mktemp("secret")
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

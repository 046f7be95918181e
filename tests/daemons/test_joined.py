"""A controller and three speakers live together (`joined`) through any history.

Run as a script with a seed, it prints the whole trace of one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from joined import House
from lbcore.addresses import Address
from lbcore.config import L2Advertisement, Pool
from lbcore.events import (
    Kind,
    SliceSeen,
    Stopping,
)
from lbcore.model import Endpoint, EndpointSlice, IPFamilyPolicy, Namespace, Node, Port, Service, ServiceKey, SliceKey
from worlds import plain_service

NAMES = ("n1", "n2", "n3")


def service(number: int, rng: random.Random) -> Service:
    terms = {"metallb.io/allow-shared-ip": "k"} if rng.random() < 0.3 else {}
    dual = rng.random() < 0.3 and not terms
    return plain_service(
        f"s{number}",
        uid=f"uid-{rng.random()}",
        cluster_ips=("fd00::1", "10.96.0.1") if dual else ("fd00::1",),
        ip_family_policy=IPFamilyPolicy.PREFER_DUAL_STACK if dual else IPFamilyPolicy.SINGLE_STACK,
        annotations=terms,
        ports=(Port("TCP", rng.choice([80, 443])),),
        labels={"tier": rng.choice(["gold", "tin"])},
    )


def endpoints_of(number: int, nodes: Iterable[str]) -> EndpointSlice:
    found = tuple(Endpoint(addresses=("fd00::9",), node=name, ready=True) for name in nodes)
    return EndpointSlice(key=SliceKey("red", f"s{number}"), service=f"s{number}", endpoints=found)


def pools(size: int) -> tuple[Pool, ...]:
    return (Pool.parse("p", f"2001:db8::/{128 - size}", f"10.0.0.0/{32 - size}"), Pool.parse("q", "2001:db8:1::/126"))


def furnished(seed: int) -> House:
    house = House(random.Random(seed))
    house.cluster.put(Namespace(name="red"), *pools(2), L2Advertisement(name="all"))
    house.cluster.put(*(Node(name=name) for name in NAMES), *(endpoints_of(number, NAMES) for number in range(12)))
    house.cluster.put(*(service(number, house.rng) for number in range(8)))
    for name in NAMES:
        house.start_speaker(name)
    return house


def live_a_little(house: House) -> None:
    """Something happens."""
    rng, number, name = house.rng, house.rng.randrange(12), house.rng.choice(NAMES)
    match rng.randrange(9):
        case 0 | 1:
            house.cluster.delete(ServiceKey("red", f"s{number}"))
            house.cluster.put(service(number, rng))
        case 2:
            house.cluster.delete(ServiceKey("red", f"s{number}"))
        case 3:
            house.cluster.put(*pools(rng.choice([1, 2, 3])))
        case 4:
            house.cluster.put(endpoints_of(number, rng.sample(NAMES, rng.randrange(4))))
        case 5:
            house.cluster.fail_next(rng.randrange(6))
        case 6 if name in house.daemons:
            house.lose(name)
        case 7 if name in house.daemons:
            house.daemons[name].loop.receive(Stopping())
        case 8:
            house.start_controller()
        case _:
            house.start_speaker(name)


def history(seed: int, length: int = 25) -> House:
    """A long life in short: things happen at any moment, and in the end it is quiet."""
    house = furnished(seed)
    for _ in range(length):
        house.run(house.rng.choice([0.0, 0.01, 0.2, 3.0]))
        live_a_little(house)
    house.run(200.0)
    return house


def judge(house: House) -> None:
    held: dict[Address, list[Service]] = {}
    endpoints = {event.service: event.endpoints for event in slices_of(house)}
    for each in house.cluster.services.values():
        for address in each.held:
            held.setdefault(address, []).append(each)
    for address, holders in held.items():
        ports = [port for each in holders for port in each.ports]
        assert len(ports) == len(set(ports))
        assert len(holders) == 1 or all(each.annotations for each in holders)
        announced = bool(house.members) and any(endpoints.get(each.key.name) for each in holders)
        assert announced == (address in house.announcers)
    assert all(len(names) == 1 for names in house.announcers.values())
    assert house.announcers.keys() <= held.keys()
    before = len(house.trace)
    house.run(1000.0)
    assert before == len(house.trace)


def slices_of(house: House) -> list[EndpointSlice]:
    return [event.slice for event in house.follow([Kind.SLICES]).read() if isinstance(event, SliceSeen)]


@pytest.mark.parametrize("seed", range(12))
def test_every_address_that_is_held_has_one_announcer_in_the_end(seed: int) -> None:
    with closing(history(seed)) as house:
        judge(house)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_and_so_it_is_in_many_more_houses(seed: int) -> None:
    with closing(history(seed, length=60)) as house:
        judge(house)


def test_a_node_that_is_lost_is_succeeded_without_waiting_for_anything() -> None:
    with closing(furnished(3)) as house:
        house.run(5.0)
        before = house.announcers
        lost = next(iter(before.values()))[0]
        house.lose(lost)
        house.run(0.0)
        missing = [address for address in before if address not in house.announcers]
        # One answer in twenty fails in this house and is given at the next try; the others are given at once.
        assert len(missing) <= 1
        house.run(5.0)
        assert before.keys() == house.announcers.keys()


def test_a_speaker_that_stops_answers_until_its_successors_do() -> None:
    with closing(furnished(4)) as house:
        house.run(5.0)
        addresses = house.announcers.keys()
        leaving = next(iter(house.announcers.values()))[0]
        house.daemons[leaving].loop.receive(Stopping())
        for _ in range(400):
            house.run(0.01)
            assert addresses == house.announcers.keys()
        assert leaving not in house.daemons
        assert all(len(names) == 1 for names in house.announcers.values())


def test_the_same_history_is_the_same_whatever_the_hash_seed() -> None:
    def trace(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, __file__, "7"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    first = trace("0")
    assert len(first.splitlines()) > 100
    assert first == trace("1") == trace("4242")


if __name__ == "__main__":
    with closing(history(int(sys.argv[1]))) as lived:
        print(*lived.trace, sep="\n")

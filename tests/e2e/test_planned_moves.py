"""Planned moves, seen by a client that opens connections all the time: none of them fails.

What was open when the address moved breaks in any case: the other node's kernel does not know it. It is counted,
beside a withdrawal without a hand-over, and printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connections import Connections
from fleet import BASE, Fleet, wait_for
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "packet", "nft", "nginx", "curl")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Fleet, tuple[Address, ...]]]:
    """Two addresses of one dual-stack Service on one of three nodes."""
    with Lab() as lab:
        lab.apply(BASE)
        fleet = Fleet(lab).start()
        fleet.wait_for_members(*lab.nodes)
        yield fleet, fleet.serve("web", ipFamilyPolicy="RequireDualStack")


def answerer(fleet: Fleet, addresses: tuple[Address, ...], *others_than: str) -> str:
    """The one node that answers for all of these by now; the client's kernel asks at the same time."""

    def one() -> str:
        names = {name for address in addresses for name in fleet.answers(address)}
        return names.pop() if len(names) == 1 and not names.intersection(others_than) else ""

    return wait_for(one, f"one node other than {others_than} to answer")


def during(fleet: Fleet, addresses: tuple[Address, ...], move: Callable[[], object]) -> list[dict[str, int]]:
    """What becomes of connections to each address while it goes to another node."""
    before = answerer(fleet, addresses)
    running = [Connections(fleet.lab.client.namespace, address) for address in addresses]
    move()
    answerer(fleet, addresses, before)
    return [each.end() for each in running]


def test_no_new_connection_fails_while_a_node_is_drained_and_undrained(
    cluster: tuple[Fleet, tuple[Address, ...]],
) -> None:
    fleet, addresses = cluster
    first = fleet.announcer(addresses, elect(fleet.lab.nodes, addresses[0]))
    since = len(fleet.log(f"speaker-{first}"))
    found = during(fleet, addresses, lambda: fleet.cli("drain", first))
    print("drain", found)
    assert [0, 0] == [each["failed"] for each in found]
    for address in addresses:
        said = [line for line in fleet.log(f"speaker-{first}", since).splitlines() if f" ip={address} " in line]
        order = [
            event for line in said for event in ("handing over", "successor heard", "withdrawing") if event in line
        ]
        assert ["handing over", "successor heard", "withdrawing"] == order
    nodes = {each["name"]: each for each in fleet.json("get", "nodes")["nodes"]}
    assert (True, 0) == (nodes[first]["drained"], nodes[first]["layer2Addresses"])
    verdicts = {each["node"]: each["reason"] for each in fleet.json("explain", "web")["announcers"][str(addresses[0])]}
    assert "NodeDrained" == verdicts[first]

    found = during(fleet, addresses, lambda: fleet.cli("undrain", first))
    print("undrain", found)
    assert [0, 0] == [each["failed"] for each in found]


def test_no_new_connection_fails_while_a_speaker_is_stopped_in_order(
    cluster: tuple[Fleet, tuple[Address, ...]],
) -> None:
    fleet, addresses = cluster
    fleet.restore()
    first = fleet.announcer(addresses, elect(fleet.lab.nodes, addresses[0]))

    found = during(fleet, addresses, fleet.speakers[first].stop)
    print("stop", found)
    assert [0, 0] == [each["failed"] for each in found]

    found = during(fleet, addresses, lambda: fleet.start_speaker(first))
    print("return", found)
    assert [0, 0] == [each["failed"] for each in found]


def test_the_last_node_that_can_serve_goes_on_though_it_is_drained(cluster: tuple[Fleet, tuple[Address, ...]]) -> None:
    fleet, addresses = cluster
    fleet.restore()
    for node in fleet.lab.nodes:
        assert 0 == fleet.cli("drain", node).returncode
    assert "though drained" in fleet.cli("explain", "web").stdout
    assert all(fleet.lab.curl(address).ok for address in addresses)
    for node in fleet.lab.nodes:
        assert 0 == fleet.cli("undrain", node).returncode

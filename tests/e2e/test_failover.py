"""Take-over, seen from the client: who answers when a node goes, for how long nobody did, and that it is one node.

Bounds are several times what an idle machine takes (a clean stop: 20 ms, a dead node: 0.6 s), so
that a busy one does not fail them; what they would catch is a client that waits for its own
neighbour cache to expire, which takes 30 s and more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fleet import BASE, Fleet
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "packet", "nft", "nginx", "curl")]

CLEAN, CRASH = 1.5, 3.0  # seconds
# How long a speaker that was killed may be away: far longer than a busy machine needs to start the next one; or, where
# it stays away, no longer than the test wants to wait.
PATIENT, IMPATIENT = ("--restart-time", "120"), ("--restart-time", "1")


Served = tuple[Fleet, tuple[Address, ...], str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Fleet, tuple[Address, ...]]]:
    """A dual-stack Service that answers. Pods of a dead node are out of service after a moment, not after a minute."""
    with Lab(grace=0.3) as lab:
        lab.apply(BASE)
        fleet = Fleet(lab).start(*PATIENT)
        yield fleet, fleet.serve("web", ipFamilyPolicy="RequireDualStack")


@pytest.fixture
def served(cluster: tuple[Fleet, tuple[Address, ...]]) -> Served:
    """The cluster whole, and the node that announces both addresses.

    Whoever stood in goes on answering until it hears the winner, so the first to be found alone may be on its way
    out (a speaker needs about 0.6 s from its member record to its first answer): it is the winner that is waited for.
    """
    fleet, addresses = cluster
    fleet.restore()
    return fleet, addresses, fleet.announcer(addresses, elect(fleet.lab.nodes, addresses[0]))


def assert_outages_below(bound: float, outages: dict[Address, float]) -> None:
    assert {} == {str(address): seconds for address, seconds in outages.items() if seconds >= bound}


def test_a_speaker_that_stops_hands_its_addresses_over(served: Served) -> None:
    fleet, addresses, first = served
    status: list[int] = []
    before = len(fleet.log(f"speaker-{first}"))
    assert_outages_below(CLEAN, fleet.outages(addresses, lambda: status.append(fleet.speakers[first].stop())))
    second = fleet.announcer(addresses)
    assert second != first
    assert [0] == status
    assert [] == fleet.reflex(first)
    # Of each address it let go only when it had heard its successor: at no moment nobody answered.
    lines = fleet.log(f"speaker-{first}", since=before).splitlines()
    for address in addresses:
        said = [
            event
            for line in lines
            for event in ("successor heard", "withdrawing")
            if f"{event} " in line and f" ip={address} " in line
        ]
        assert ["successor heard", "withdrawing"] == said
    fleet.wait_for_members(*(set(fleet.lab.nodes) - {first}))
    # It goes on until the last: then nobody is left to answer.
    assert_outages_below(CLEAN, fleet.outages(addresses, fleet.speakers[second].stop))
    assert fleet.announcer(addresses) not in (first, second)


def test_a_node_that_dies_is_replaced_and_gets_its_addresses_back_when_it_returns(served: Served) -> None:
    fleet, addresses, first = served
    assert_outages_below(CRASH, fleet.outages(addresses, lambda: fleet.lab.kill(first)))
    second = fleet.announcer(addresses)
    assert second != first
    verdicts = {each["node"]: each["reason"] for each in fleet.json("explain", "web")["announcers"][str(addresses[0])]}
    assert ("OK", "NotAMember") == (verdicts[second], verdicts[first])

    def come_back() -> None:
        fleet.lab.heal(first)
        fleet.start_speaker(first)
        fleet.announcer(addresses, first)

    # The election ranks nodes the same whatever happened before, so it is the first one again.
    assert_outages_below(CLEAN, fleet.outages(addresses, come_back))


def test_a_node_whose_cable_is_pulled_leaves_at_once_and_returns_with_it(served: Served) -> None:
    fleet, addresses, first = served
    assert_outages_below(CRASH, fleet.outages(addresses, lambda: fleet.lab.cut(first)))
    assert fleet.announcer(addresses) != first
    # It left by itself, because it noticed: its speaker runs, and took its record away.
    assert fleet.speakers[first].running
    fleet.wait_for_members(*(set(fleet.lab.nodes) - {first}))
    fleet.lab.heal(first)
    fleet.announcer(addresses, first)


def test_a_node_that_hangs_is_replaced_and_lets_go_when_it_wakes_up(served: Served) -> None:
    fleet, addresses, first = served
    assert_outages_below(CRASH, fleet.outages(addresses, lambda: fleet.lab.freeze(first)))
    assert fleet.announcer(addresses) != first
    # Awake again it believes for a moment that it still announces; in the end one node does, and it is a candidate.
    assert_outages_below(CRASH, fleet.outages(addresses, lambda: fleet.lab.thaw(first)))
    fleet.announcer(addresses, first)
    fleet.wait_for_members(*fleet.lab.nodes)


def test_a_speaker_that_crashes_is_no_outage_and_the_next_one_takes_its_answers_up(served: Served) -> None:
    fleet, addresses, first = served
    (child,) = fleet.reflex(first)
    before = len(fleet.log(f"speaker-{first}"))

    def crash_and_restart() -> None:
        fleet.speakers[first].kill()
        for address in addresses:
            assert {first: 3} == dict(fleet.answers(address))  # without any speaker on this node
        fleet.start_speaker(first)
        fleet.wait_for_log(f"speaker-{first}", "reflex process taken up", "answering=2", since=before)

    assert_outages_below(0.5, fleet.outages(addresses, crash_and_restart))
    assert [child] == fleet.reflex(first)
    fleet.announcer(addresses, first)
    assert "withdrawing" not in fleet.log(f"speaker-{first}", since=before)


def test_what_was_deleted_while_a_speaker_was_dead_falls_silent_when_it_is_back(served: Served) -> None:
    fleet, addresses, _ = served
    (gone,) = fleet.serve("gone", ipFamilies=["IPv6"])
    node = fleet.wait_for_one_answerer(gone)
    fleet.speakers[node].kill()
    fleet.lab.delete("Service", "default", "gone")
    fleet.lab.wait_until(lambda: not fleet.status_path("gone").exists(), "the status to go")
    assert {node: 3} == dict(fleet.answers(gone))  # there was nobody to tell the answering process
    fleet.start_speaker(node)
    fleet.wait_for_silence(gone)
    fleet.announcer(addresses)


def test_a_speaker_that_stays_dead_is_replaced_after_its_answering_process_has_waited_for_it(served: Served) -> None:
    fleet, addresses, first = served
    fleet.speakers[first].stop()
    fleet.start_speaker(first, *IMPATIENT)
    fleet.announcer(addresses, first)

    def stay_dead() -> None:
        fleet.speakers[first].kill()
        fleet.wait_for_members(*(set(fleet.lab.nodes) - {first}))

    assert_outages_below(CRASH, fleet.outages(addresses, stay_dead))
    assert fleet.announcer(addresses) != first
    fleet.lab.wait_until(lambda: not fleet.reflex(first), "the answering process to end")


def test_an_answering_process_that_is_killed_is_started_again(served: Served) -> None:
    fleet, addresses, first = served
    (child,) = fleet.reflex(first)
    assert_outages_below(CRASH, fleet.outages(addresses, lambda: os.kill(child, signal.SIGKILL)))
    fleet.lab.wait_until(lambda: len(fleet.reflex(first)) == 1, "a new answering process")
    assert [child] != fleet.reflex(first)
    assert fleet.speakers[first].running
    fleet.announcer(addresses, first)

"""Graceful restart beside BFD: what a router makes of a speaker that is replaced or dies, and of a node that dies.

BFD ends with the speaker's Pod, and its packets say that they share that fate (C bit 0, RFC 5882 section 4.3).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import field, frozen

from connections import Connections
from fleet import PATIENCE, Fleet, service, wait_for
from lbcore.addresses import Address
from lbcore.backends.statuses import PeerDocument, read_peers
from lbcore.lab import Lab
from routers import Router, bird, frr
from watched import BASE, BIRD_BFD, nodes, peer, profile, wait_until_up

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "nginx")]

Make = Callable[[Lab, Path, int], Router]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(nodes=2) as lab:
        yield lab


def a_bird(lab: Lab, folder: Path, version: int, bfd: str = "graceful") -> Router:
    extra = f"graceful restart on; bfd {bfd};"
    return bird(lab.client.namespace, folder, nodes(lab, version), extra=extra, more=BIRD_BFD)


def a_frr(lab: Lab, _folder: Path, version: int, *lines: str) -> Router:
    extra = ["timers 30 90", "bfd 3 100 100"]
    return frr(lab.client.namespace, nodes(lab, version), extra=extra, lines=lines, daemons=["bfdd"])


@frozen
class Site:
    """Two nodes and a router that keeps the routes of one that restarts, watched by BFD."""

    lab: Lab
    router: Router
    fleet: Fleet
    address: Address
    seen: set[int] = field(factory=set)

    @classmethod
    def build(cls, lab: Lab, router: Router, version: int) -> Site:
        lab.client.namespace.run(["sysctl", "-qw", f"net.ipv{version}.fib_multipath_hash_policy=1"], check=True)
        router.start()
        lab.apply(BASE + profile() + peer("tor", lab.client.address(version), enableGracefulRestart=True))
        fleet = Fleet(lab).start("--restart-time", "60")  # what is watched after a kill may take a busy machine seconds
        lab.apply(service("web", ipFamilies=[f"IPv{version}"]))
        (address,) = lab.wait_for_address("web", timeout=PATIENCE)
        lab.wait_for_pods(PATIENCE)
        site = cls(lab, router, fleet, address)
        site.settle()
        return site

    def hops(self) -> int:
        """Over how many nodes the router's kernel sends."""
        return len(self.router.routes().get(f"{self.address}/{self.address.family.bits}", ()))

    def settle(self) -> None:
        """Until both nodes are watched and next hops."""
        wait_until_up(self.fleet, 2)
        wait_for(lambda: self.hops() == 2, "routes by both", PATIENCE)
        self.fleet.wait_for_page(self.address)

    def kill_all(self) -> None:
        """What becomes of a Pod whose memory runs out: no process of it says a last word."""
        answering = self.fleet.reflex("n1")
        self.fleet.speakers["n1"].kill()
        for pid in answering:
            os.kill(pid, signal.SIGKILL)

    def watch(self) -> None:
        """Take note of what the router does for a second: more than three times the detection time."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            self.seen.add(self.hops())
            time.sleep(0.02)

    def own(self) -> list[PeerDocument]:
        """The session of the node that things happen to, as it stands in the folder: to ask for it takes seconds on a
        busy machine, and it is asked for between the end of a speaker and the next one's beginning.
        """
        return [each for each in read_peers(self.lab.folder) if each["node"] == "n1"]

    def restart(self) -> None:
        """A new speaker, until its own session is as the last one's was; what the router does meanwhile is noted.

        What one that was killed has told of its session stands there until another begins.
        """
        before = {each["since"] for each in self.own()}
        self.fleet.start_speaker("n1")

        def is_back() -> bool:
            self.seen.add(self.hops())
            return [("Established", "Up", 1)] == [
                (each["state"], each["bfd"], each["prefixesAdvertised"])
                for each in self.own()
                if each["since"] not in before
            ]

        wait_for(is_back, "the new speaker's session")

    def wait_for_bird(self, count: int, what: str, timeout: float = PATIENCE) -> None:
        """Until BIRD itself takes so many BFD sessions to be up."""
        wait_for(lambda: count == self.router.ask("show", "bfd", "sessions").count(" Up "), what, timeout)


@pytest.mark.parametrize(
    ("make", "version"),
    [
        pytest.param(a_frr, 4, marks=pytest.mark.needs("frr")),
        pytest.param(a_bird, 6, marks=pytest.mark.needs("bird")),
    ],
)
def test_a_speaker_that_is_replaced_or_dies_moves_nothing_where_the_router_counts_that_as_a_restart(
    lab: Lab, tmp_path: Path, make: Make, version: int
) -> None:
    site = Site.build(lab, make(lab, tmp_path, version), version)
    running = Connections(lab.client.namespace, site.address, neighbour=False)
    for end in (site.fleet.speakers["n1"].stop, site.kill_all):
        end()
        site.watch()
        site.restart()
    found = running.end()
    print("replaced", found)
    assert {2} == site.seen
    assert (0, 0, 0) == (found["failed"], found["cut"], found["broken"])
    if make is a_bird:
        # `bfd graceful` is for any end of BFD: of a node that is gone it keeps what leads nowhere, too.
        lab.cut_silently("n1")
        site.wait_for_bird(1, "the end of BFD", 15)
        site.watch()
        assert {2} == site.seen


@pytest.mark.needs("bird")
def test_where_the_router_counts_bfd_first_the_routes_of_a_speaker_that_ends_with_its_pod_go_by_it(
    lab: Lab, tmp_path: Path
) -> None:
    site = Site.build(lab, a_bird(lab, tmp_path, 6, "on"), 6)
    # Killed alone, it leaves BFD to the process that answers for it, and nothing moves.
    site.fleet.speakers["n1"].kill()
    site.watch()
    assert {2} == site.seen
    site.restart()
    for end in (site.fleet.speakers["n1"].stop, site.kill_all):
        # BIRD takes only what was up and is down for an end: before that it would keep the routes for 120 s.
        site.wait_for_bird(2, "both nodes to be watched")
        end()
        wait_for(lambda: site.hops() == 1, "a route by the other alone", 15)
        site.restart()
        wait_for(lambda: site.hops() == 2, "routes by both")


@pytest.mark.needs("frr")
def test_the_routes_of_one_that_does_not_come_back_are_kept_by_frr_for_as_long_as_it_is_told(
    lab: Lab, tmp_path: Path
) -> None:
    stale = ("router bgp 64512", "bgp graceful-restart stalepath-time 4")
    site = Site.build(lab, a_frr(lab, tmp_path, 6, *stale), 6)
    site.kill_all()
    site.watch()
    assert {2} == site.seen  # it may be a restart
    wait_for(lambda: site.hops() == 1, "a route by the other alone", 15)
    site.restart()
    wait_for(lambda: site.hops() == 2, "routes by both")
    # A node that is gone in an open session: by BFD in 0.3 to 0.5 s, and if not, as before.
    lab.cut_silently("n1")
    wait_for(lambda: site.hops() == 1, "a route by the other alone again", 15)

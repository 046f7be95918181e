"""BFD over real sockets: the ports of two machines, each in a namespace of its own, on one cable."""

from __future__ import annotations

import random
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from bgp_link import NODE, ROUTER, Cable
from lbcore.addresses import Address
from lbcore.backends.bfd import BfdPorts
from lbcore.bfd import BfdState, Watch, WatchStatus
from lbcore.events import WatchSeen
from lbcore.lab.namespaces import Namespace

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns")]

PATIENCE = 30.0  # seconds: many times what anything here takes


class Machine:
    """The ports of one machine, with what they are told to do and what they report."""

    def __init__(self) -> None:
        self.seen: list[WatchStatus | None] = []
        self.wishes: list[Callable[[BfdPorts], None]] = []
        self.ends = threading.Event()

    def live(self) -> None:
        """Until the end; called inside its namespace."""
        selector = selectors.DefaultSelector()
        ports = BfdPorts(
            rng=random.Random(), selector=selector, clock=time.monotonic, report=self._hear, say=lambda line: None
        )
        while not self.ends.is_set():
            while self.wishes:
                self.wishes.pop(0)(ports)
            # A selector without files waits for nothing at all on some systems.
            for key, events in selector.select(min(0.02, max(0.0, ports.deadline - time.monotonic()))):
                key.data(events)
            ports.tick()
            time.sleep(0.002)
        ports.close()
        selector.close()

    def _hear(self, event: object) -> None:
        assert isinstance(event, WatchSeen)
        self.seen.append(event.status)

    def wait(self, condition: Callable[[WatchStatus], bool]) -> WatchStatus:
        end = time.monotonic() + PATIENCE
        while True:
            last = self.seen[-1] if self.seen else None
            if last is not None and condition(last):
                return last
            assert time.monotonic() < end, self.seen[-3:]
            time.sleep(0.02)


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


@pytest.mark.parametrize("version", [6, 4])
@pytest.mark.parametrize("process_ends", [False, True], ids=["no longer wanted", "the process ends"])
def test_who_switches_bfd_off_says_so_and_is_not_taken_for_lost(cable: Cable, version: int, process_ends: bool) -> None:
    node, router = Machine(), Machine()
    with ThreadPoolExecutor() as pool:
        homes: list[tuple[Machine, Namespace, str]] = [
            (node, cable.node, ROUTER[version]),
            (router, cable.router, NODE[version]),
        ]
        lives = [pool.submit(space.call, machine.live) for machine, space, _ in homes]
        try:
            for machine, _, address in homes:
                watch = Watch(peer="other", address=Address.parse(address), transmit_interval=500, receive_interval=500)
                machine.wishes.append(partial(BfdPorts.set, watches=[watch]))
            for machine, _, _ in homes:
                machine.wait(lambda status: status.state is BfdState.UP)
            if process_ends:
                node.ends.set()
            else:
                node.wishes.append(lambda ports: ports.set([]))
            last = router.wait(lambda status: status.state is not BfdState.UP)
            assert (BfdState.ADMIN_DOWN, False) == (last.remote, last.failed)
        finally:
            node.ends.set()
            router.ends.set()
            for life in lives:
                life.result(PATIENCE)

"""What a speaker's brain does with 10,000 addresses and 200 nodes: at its start, and when nodes come and go.

Measured is `announcement.step`, event by event and slice by slice as the loop calls it, with the
garbage collector as the daemons set it: what it stops the process for lies in the steps. Times are
processor time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from statistics import median

from attrs import define, field

from benchmarks import clusters
from benchmarks.report import Row, percentile, progress
from lbcore import announcement
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.config import ConfigDocument, L2Advertisement, Origin, Pool
from lbcore.daemons.carrier import calm_collector
from lbcore.events import (
    AnsweringSeen,
    ConfigSeen,
    Event,
    LinksSeen,
    Listed,
    MembersSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
    Tick,
)
from lbcore.intents import Announce, Intent
from lbcore.model import Endpoint, EndpointSlice, Link, Node, Port, Service, SliceKey

__all__ = ["NAME", "run"]

NAME = "announcing (processor time): the speaker's brain, 10,000 addresses over 200 nodes"
ADDRESSES, NODES, ROUNDS = 10_000, 200, 3
NAMES = [f"node-{number:03}.example.org" for number in range(NODES)]
ME, LEAVER = NAMES[0], NAMES[100]
_MOST_STEPS = 100_000


@define
class _Speaker:
    """A brain with what it took: one number of nanoseconds for each step."""

    state: AnnouncementState = field(
        factory=lambda: AnnouncementState(settings=AnnouncementSettings(node=ME, config_quiet=0.0))
    )
    steps: list[int] = field(factory=list)
    intents: list[Intent] = field(factory=list)
    wake_at: float | None = None

    def tell(self, event: Event) -> None:
        """One step."""
        begin = time.thread_time_ns()
        step = announcement.step(self.state, event, 0.0)
        self.state, self.wake_at = step.state, step.wake_at
        self.steps.append(time.thread_time_ns() - begin)
        self.intents += step.intents

    def settle(self, is_done: Callable[[AnnouncementState], bool] = lambda state: state.settled) -> None:
        """Slices until nothing is left to look at."""
        for _ in range(_MOST_STEPS):
            if is_done(self.state):
                return
            self.tell(Tick())
        raise AssertionError("the brain does not come to rest")

    def taken(self) -> list[int]:
        """The steps since the last question."""
        steps, self.steps = self.steps, []
        return steps


def run() -> list[Row]:
    """From nothing, then one node leaves and comes back; each round with a speaker of its own."""
    noted, whole, longest, leaving, joining, slices, announced = [], [], [], [], [], [], 0
    thresholds = gc.get_threshold()
    for number in range(ROUNDS):
        progress(f"round {number + 1} of {ROUNDS}")
        world = list(_world())
        gc.collect()
        calm_collector()
        speaker = _Speaker()
        for event in world:
            speaker.tell(event)
        noted.append(sum(speaker.taken()) / 1e9)
        speaker.tell(MembersSeen(frozenset(NAMES)))
        speaker.settle()
        gc.freeze()
        steps = speaker.taken()
        whole.append(sum(steps) / 1e9)
        longest.append(max(steps) / 1e6)
        slices.append(percentile(steps, 0.5) / 1e6)
        announced = sum(isinstance(intent, Announce) for intent in speaker.intents)
        leaving.append(_leaving(speaker))
        joining.append(_joining(speaker))
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    return [
        Row(what="take note of Services, endpoints and nodes", figure=median(noted), unit="s",
            note=f"{2 * ADDRESSES + NODES:,} events, before the first election"),
        Row(what="from nothing: elect every address", figure=median(whole), unit="s", at_most=2,
            note=f"{announced} of them for this node"),
        Row(what="the same: longest step", figure=median(longest), unit="ms", at_most=5,
            note=f"{median(slices):.1f} ms in the median; a step is a slice of about 4,000 hashes"),
        Row(what="one node leaves: all its addresses elected anew", figure=median(leaving), unit="ms", at_most=20),
        Row(what="one node joins: compared with every winner", figure=median(each for each, _ in joining), unit="ms",
            note="in slices; what is urgent comes in between"),
        Row(what="the same: longest step", figure=median(each for _, each in joining), unit="ms", at_most=5),
    ]  # fmt: skip


def _leaving(speaker: _Speaker) -> float:
    """Milliseconds until nobody is left whom the lost node won, newcomers' sweeps not counted."""
    before = len(speaker.state.won.get(LEAVER, ()))
    assert before > ADDRESSES // NODES // 2
    speaker.tell(MembersSeen(frozenset(NAMES) - {LEAVER}))
    speaker.settle()
    assert LEAVER not in speaker.state.won
    return sum(speaker.taken()) / 1e6


def _joining(speaker: _Speaker) -> tuple[float, float]:
    speaker.tell(MembersSeen(frozenset(NAMES)))
    speaker.settle()
    assert len(speaker.state.won.get(LEAVER, ())) > ADDRESSES // NODES // 2
    steps = speaker.taken()
    return sum(steps) / 1e6, max(steps) / 1e6


def _world() -> Iterable[Event]:
    """All but the membership: everything listed, and the reflex process taken up."""
    yield AnsweringSeen(())
    yield LinksSeen((Link(index=2, name="eth0", mac=bytes(range(6))),))
    origin = Origin(kind="IPAddressPool", namespace="metallb-system", name=clusters.POOL)
    pool = Pool.parse(clusters.POOL, "10.0.0.0/8", "fd00:10::/64")
    yield ConfigSeen(ConfigDocument(origin=origin, resources=(pool, L2Advertisement(name="everything"))))
    for name in NAMES:
        yield NodeSeen(Node(name=name, labels={"kubernetes.io/hostname": name}))
    for number in range(ADDRESSES):
        yield ServiceSeen(_service(number))
        yield SliceSeen(_slice(number))
    for kind in sorted(announcement.NEEDS, key=lambda kind: kind.value):
        yield Listed(kind)


def _service(number: int) -> Service:
    address = clusters.address_of(number)
    return Service(
        key=clusters.key_of(number),
        labels={"app": f"web-{number}"},
        annotations={"metallb.io/address-pool": clusters.POOL},
        ip_families=(address.family,),
        selector={"app": f"web-{number}"},
        ports=(Port("TCP", 80),),
        held=(address,),
    )


def _slice(number: int) -> EndpointSlice:
    key = clusters.key_of(number)
    endpoint = Endpoint(addresses=(f"10.244.0.{number % 250 + 1}",), node=NAMES[number % NODES], ready=True)
    return EndpointSlice(key=SliceKey(key.namespace, f"{key.name}-a1"), service=key.name, endpoints=(endpoint,))

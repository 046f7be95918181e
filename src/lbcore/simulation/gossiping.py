"""Makes of a pretend cluster one whose members gossip, and says what is promised of it, from the engines' constants."""

from __future__ import annotations

import random

from lbcore.adapters.detector.times import FAST, SLOW, Times
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.settings import LAN, Settings
from lbcore.announcement import AnnouncementSettings
from lbcore.simulation.checker import LAST_WORD, Checker
from lbcore.simulation.fabric import Fabric
from lbcore.simulation.faults import Faults
from lbcore.simulation.gossip import GossipNetwork
from lbcore.simulation.node import LINK, Node
from lbcore.simulation.paths import Paths
from lbcore.simulation.splits import Splits
from lbcore.simulation.views import Promises, Views

__all__ = ["Gossiping", "gossips", "promises"]

_EVERY = 8  # of so many seeds one
_PROCESSES = 0.02  # seconds for what lies between a detector's word and the wire: two processes, some messages


def gossips(seed: int) -> bool:
    """Whether the members of this seed's cluster gossip; those of all others keep records."""
    return seed % _EVERY == _EVERY - 1


def promises(times: Times = FAST, settings: Settings = LAN, *, late: float = 0.0) -> Promises:
    """What may be expected of nodes whose processes are at most `late` seconds late, each time they have to do
    something; see docs/failover.md.
    """
    # Silence is measured from the last beat. Half of a node's observers may be gone with it: then the others wait
    # for their votes. What they say to each other takes two turns.
    noticed = times.expiry + times.patience + times.interval + 4 * late + _PROCESSES
    # Doubt, then questions until they have not been answered for long enough.
    alone = times.doubt + times.expiry + times.again + 4 * late + _PROCESSES
    lone = SLOW.expiry + 2 * SLOW.again + 4 * late + _PROCESSES
    # A process that starts waits for its first answers; those who lost each other ask again, three a time, so that four
    # are asked in two; then who announced goes on for as long as its successor is not heard.
    settled = settings.settle + 2 * settings.rejoin + AnnouncementSettings(node="").hand_over + 10 * late
    return Promises(noticed=noticed, alone=alone, lone=lone, settled=settled, steady=settled, waiting=times.longest)


class Gossiping:
    """The gossip of one history: its network, what goes wrong with it, and its judge."""

    def __init__(self, fabric: Fabric, nodes: list[Node], faults: Faults, checker: Checker, rng: random.Random) -> None:
        self._clock = fabric.clock
        self._rng = rng
        self._nodes = nodes
        network = GossipNetwork(
            fabric.clock,
            fabric.weather,
            Paths(tuple(node.name for node in nodes)),
            fabric.counts,
            random.Random(rng.getrandbits(64)),
            drift=rng.choice((0.0, 1e-4, 1e-2)),
            lateness=rng.choice((0.0, 0.0, 0.01, 0.03)),
            loss=rng.choice((0.0, 0.0, 0.01)),
            envelope=Envelope(compressed=rng.random() < 0.5),
        )
        fabric.gossip = network
        fabric.segment.reaches = network.paths.open
        fabric.pulse.rousing.append(network.rouse)
        network.paths.changing.append(network.rouse)
        self.promises = promises(late=network.lateness)
        dice = random.Random(rng.getrandbits(64))
        self.splits = splits = Splits(fabric, network, faults, nodes, dice, settled=self.promises.settled)
        self.views = Views(checker, splits, self.promises, LINK)
        network.judges.append(self.views.reported)
        fabric.segment.judges.append(self.views.heard)
        splits.deafening.append(self._look_at_the_deaf)
        faults.waiting = self.promises.waiting

    def _look_at_the_deaf(self) -> None:
        for patience in (self.promises.alone, self.promises.lone):
            self._clock.after(patience + 0.001, self.views.look_at_the_deaf)

    def look(self) -> None:
        """Judge what is so now."""
        self.views.look()

    def settle(self) -> None:
        """Let the stated time pass, and judge."""
        self._pass(self.promises.settled + 0.01)
        self.views.look()

    def trials(self) -> None:
        """What is promised in fair weather, each of it by itself."""
        self._lose_all_but_one()
        if len(self._nodes) > 2:
            self._break_a_path()
            self._part_most()
        self._flap()

    def _pass(self, seconds: float) -> None:
        self._clock.run_until(self._clock.now + max(0.0, seconds))

    def _break_a_path(self) -> None:
        """Two nodes that do not hear each other are nobody's death."""
        self.splits.break_path()
        self._pass(2 * self.promises.steady)
        self.splits.mend()
        self.settle()

    def _part_most(self) -> None:
        """The greater part is away from all clients, who hear of those that stand in; healed, they are told again."""
        names = [node.name for node in self._nodes]
        self.splits.part(*names[: len(names) // 2 + 1])
        self.settle()
        self.splits.mend()
        self.settle()
        self._pass(self.promises.waiting + LAST_WORD + 0.01)
        self.views.look()

    def _flap(self) -> None:
        """A node goes and comes again and again, until it has to wait for longer than others take to settle."""
        node = self._rng.choice(self._nodes).name
        for turn in range(5):
            self.splits.flap(node, 0.5 + self._rng.random())
            self._pass(1.5)
            self.settle()
            self._pass(FAST.hold * 2**turn - self.promises.settled)  # a penance that lasts counts once

    def _lose_all_but_one(self) -> None:
        """One node after the other is lost, soon after each other, until one is left alone."""
        order = [node.name for node in self._nodes]
        self._rng.shuffle(order)
        for node in order[:-1]:
            self.splits.lose(node)
            self._pass(self.promises.noticed)
            self.views.look(after=self.promises.noticed - 0.001)
            if self._rng.random() < 0.7:
                self._pass(self._rng.choice((0.1, 1.0, 5.0)) * self._rng.random())
        self.splits.mend()
        self.settle()

"""Members with the fast detector joined in memory: `gossip`'s world, with gateways, one-way links and slow machines."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from gossip import GossipNode, GossipWorld
from lbcore.adapters.detector.engine import Detector
from lbcore.adapters.detector.times import FAST, Times
from lbcore.adapters.memberlist.engine import Memberlist

__all__ = ["DetectorWorld"]


class DetectorWorld(GossipWorld):
    """So many members with detectors, those in `foreign` without. `gateways` are the nodes that reach one."""

    def __init__(
        self, count: int, *, foreign: Iterable[str] = (), gateway: bool = True, times: Times = FAST, **how: Any
    ) -> None:
        self.foreign = set(foreign)
        self.times = times
        self.mute: set[tuple[str, str]] = set()  # pairs between which nothing passes, in that direction
        self.lives = 0
        super().__init__(count, **how)
        self.gateways = {node.name for node in self.nodes} if gateway else set[str]()

    def make(self, node: GossipNode) -> Memberlist | Detector:
        """The engine of a node that starts."""
        if node.name in self.foreign:
            return super().make(node)
        self.lives += 1
        return Detector(
            node.name,
            node.endpoint,
            rng=Random(self.rng.random()),
            life=self.lives,
            envelope=self.envelope,
            settings=self.settings,
            times=self.times,
        )

    def detector(self, node: GossipNode) -> Detector:
        """The detector of a node that has one."""
        assert isinstance(node.engine, Detector)
        return node.engine

    def settle(self) -> DetectorWorld:
        """Start every node, and let them find each other."""
        self.start()
        self.until(lambda: self.agreed, 30)
        self.run(2.0)
        return self

    def cut(self, node: GossipNode) -> None:
        """Nothing passes from or to a node; it reaches no gateway either."""
        self.part([each for each in self.nodes if each is not node])
        self.gateways.discard(node.name)

    def heal(self) -> None:
        """Everybody reaches everybody again, and gateways."""
        super().heal()
        self.mute.clear()
        self.gateways = {node.name for node in self.nodes}

    def reaches(self, one: GossipNode, other: GossipNode) -> bool:
        """Whether anything passes from one to the other."""
        return (one.name, other.name) not in self.mute and super().reaches(one, other)

    def ask(self, node: GossipNode) -> None:
        """The gateway answers whom it hears."""
        if node.name in self.gateways:
            engine = self.detector(node)
            self.at(self.now + 2 * self.delay, lambda: node.do(lambda: engine.witnessed(self.now)))

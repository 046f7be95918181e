"""What goes wrong with machines and networks, for how long, and the book that is kept of it for the judge."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable

from lbcore.simulation.controller import ControllerMachine
from lbcore.simulation.fabric import Fabric
from lbcore.simulation.node import Node

__all__ = ["Faults"]


class Faults:
    """Breaks things and mends them. As `Health` it says what nothing is wrong with, and since when.

    One thing at a time is wrong with a machine; everything may be wrong at once in the cluster.
    """

    def __init__(self, fabric: Fabric, controller: ControllerMachine, nodes: list[Node], rng: random.Random) -> None:
        self._in = fabric
        self._controller = controller
        self._nodes = nodes
        self._rng = rng
        self._healthy: dict[str, float] = {node.name: 0.0 for node in nodes}
        self._mending: dict[str, Callable[[], None]] = {}
        self.apart: dict[str, float] = {}  # nodes whose path to the API server is shut, since when
        self.waiting = 0.0  # seconds after a doubt in which a node may be no candidate though it lives
        self.lossy_at = -1.0
        self.forewarned: list[Callable[[], None]] = []  # called before anything is broken or mended
        self._kinds: tuple[tuple[int, str, Callable[[], None]], ...] = (
            (4, "node crashed", self._crash_node),
            (3, "node froze", self._freeze_node),
            (4, "speaker crashed", self._crash_speaker),
            (4, "reflex crashed", self._crash_reflex),
            (3, "speaker stopped", self._stop_speaker),
            (3, "store cut", self._cut_store),
            (3, "API cut", self._cut_api),
            (2, "node cut off", self._cut_off),
            (2, "cable pulled", self._pull_cable),
            (6, "controller crashed", self._crash_controller),
            (2, "controller froze", self._freeze_controller),
            (2, "controller cut off", self._cut_controller),
            (5, "watch broken", self._break_watch),
            (4, "slow API", self._slow_api),
            (5, "writes failing", self._fail_writes),
            (3, "events told twice", self._tell_twice),
            (3, "frames lost", self._lose_frames),
            (2, "slow store", self._slow_store),
            (1, "history compacted", fabric.server.compact),
        )
        self._weights = [weight for weight, _, _ in self._kinds]

    def add(self, *kinds: tuple[int, str, Callable[[], None]]) -> None:
        """More that may go wrong, each with its weight and its name."""
        self._kinds += kinds
        self._weights = [weight for weight, _, _ in self._kinds]

    # What the judge may know

    def healthy_since(self, node: str) -> float | None:
        """Since when nothing has been wrong with a node; None while something is."""
        return None if node in self.apart else self._healthy.get(node)

    def fit_since(self, node: str) -> float | None:
        """Since when nothing has been wrong with a node but its paths."""
        return self._healthy.get(node)

    @property
    def unchanged_since(self) -> float:
        """Since when nobody's life has been in doubt."""
        return self._in.pulse.last_doubt + self.waiting

    @property
    def members(self) -> Iterable[str]:
        """The nodes whose records are kept alive."""
        return sorted(self._in.pulse.beating)

    # What is done

    def know(self, kinds: Iterable[tuple[int, str, Callable[[], None]]], *, instead_of: Collection[str]) -> None:
        """Let other things go wrong, too, and some no longer: weight, name, and what does it."""
        self._kinds = (*(each for each in self._kinds if each[1] not in instead_of), *kinds)
        self._weights = [weight for weight, _, _ in self._kinds]

    def part(self, node: Node) -> None:
        """A node's path to the API server is shut."""
        self.apart[node.name] = self._in.clock.now
        node.cut_api()

    def reunite(self, node: Node) -> None:
        """It is open again."""
        del self.apart[node.name]
        node.heal_api()
        if node.name in self._healthy:
            self._healthy[node.name] = self._in.clock.now

    def strike(self) -> None:
        """Let one thing go wrong."""
        ((_, name, action),) = self._rng.choices(self._kinds, self._weights)
        self._in.counts[f"fault: {name}"] += 1
        self._in.trace.add("fault", name)
        self._forewarn()
        action()

    def _forewarn(self) -> None:
        for each in self.forewarned:
            each()

    def mend_all(self, *, but: int = 0) -> None:
        """Everything works again, except for so many nodes that are left switched off."""
        for what in list(self._mending):
            node = next((node for node in self._nodes if node.name == what), None)
            if but > 0 and node is not None and node.speaker is None and node.reflex is None:
                but -= 1
                continue
            self._mend(what)
        self._in.weather.clear()

    def restart_controller(self) -> None:
        """For a test of what that changes: kill the controller and start another."""
        self._controller.crash()
        self._in.clock.after(1.5, self._controller.start)

    def restart_node(self) -> None:
        """For a test of what that changes: a node goes away and comes back."""
        node = self._well_node()
        if node is not None:
            self._ail(node, node.start, self._rng.uniform(0.5, 3.0))
            node.crash()

    def restart_speaker(self) -> str | None:
        """For a test of what that changes: a node's speaker ends in order and another starts; whose."""
        node = self._well_node()
        if node is None:
            return None
        self._ail(node, lambda: self._start_again(node), self._rng.uniform(4.0, 8.0))
        node.stop_speaker()
        return node.name

    # Machines

    def _well_node(self) -> Node | None:
        well = [node for node in self._nodes if node.name not in self._mending]
        return self._rng.choice(well) if well else None

    def _ail(self, node: Node, mend: Callable[[], None], duration: float) -> None:
        del self._healthy[node.name]
        self.last(node.name, mend, duration)

    def ails(self, what: str) -> bool:
        """Whether something is wrong with it already."""
        return what in self._mending

    def last(self, what: str, mend: Callable[[], None], duration: float) -> None:
        """Something is wrong for so many seconds, or until all is mended."""
        self._mending[what] = mend
        self._in.clock.after(duration, self._end, what, mend)

    def _end(self, what: str, mend: Callable[[], None]) -> None:
        if self._mending.get(what) is mend:
            self._mend(what)

    def _mend(self, what: str) -> None:
        self._in.trace.add("mended", what)
        self._forewarn()
        self._mending.pop(what)()
        if any(node.name == what for node in self._nodes):
            self._healthy[what] = self._in.clock.now

    def _crash_node(self) -> None:
        node = self._well_node()
        if node is not None:
            self.crash(node, self._rng.uniform(0.5, 20.0))

    def crash(self, node: Node, duration: float) -> None:
        """The power of a node with which nothing is wrong goes, and comes back."""
        self._ail(node, node.start, duration)
        node.crash()

    def _freeze_node(self) -> None:
        node = self._well_node()
        if node is not None:
            self.freeze(node, self._rng.choice([0.3, 0.6, 2.0, 7.0]) * self._rng.uniform(0.8, 1.2))

    def freeze(self, node: Node, duration: float) -> None:
        """A node with which nothing is wrong stands still for a while."""
        self._ail(node, node.thaw, duration)
        node.freeze()

    def _crash_speaker(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, node.start, self._rng.choice([0.2, 2.0, 8.0]) * self._rng.uniform(0.8, 1.2))
            node.crash_speaker()

    def _crash_reflex(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, _nothing_more, 1.0)
            node.crash_reflex()

    def _stop_speaker(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, lambda: self._start_again(node), self._rng.uniform(3.0, 15.0))
            node.stop_speaker()

    def _start_again(self, node: Node) -> None:
        """A new speaker in the place of one that has ended, or should have by now."""
        if node.speaker is not None:
            node.crash()
        node.start()

    def _cut_store(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, lambda: self._heal_store(node), self._rng.uniform(0.2, 15.0))
            self._in.pulse.rouse()
            self._in.records.cut[node.name] = None

    def _heal_store(self, node: Node) -> None:
        self._in.pulse.rouse()
        self._in.records.cut.pop(node.name, None)

    def _cut_api(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, lambda: self._heal_api(node), self._rng.uniform(0.2, 15.0))
            node.cut_api()

    def _heal_api(self, node: Node) -> None:
        if node.name not in self.apart:
            node.heal_api()

    def _cut_off(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, lambda: self._reconnect(node), self._rng.uniform(0.2, 15.0))
            self._in.pulse.rouse()
            self._in.records.cut[node.name] = None
            node.cut_api()

    def _reconnect(self, node: Node) -> None:
        self._heal_store(node)
        node.heal_api()

    def _pull_cable(self) -> None:
        node = self._well_node()
        if node is not None:
            self._ail(node, lambda: node.set_carrier(up=True), self._rng.uniform(0.2, 10.0))
            node.set_carrier(up=False)

    def _break_watch(self) -> None:
        number = self._rng.randrange(8)
        node = self._well_node()
        if self._rng.random() < 0.5 and self._controller.link is not None:
            self._controller.link.disconnect(number)
        elif node is not None:
            self._ail(node, _nothing_more, 0.5)
            node.disconnect(number)

    # The controller

    def _crash_controller(self) -> None:
        if "controller" not in self._mending:
            self.last("controller", self._controller.start, self._rng.uniform(1.2, 8.0))
            self._controller.crash()

    def _freeze_controller(self) -> None:
        if "controller" not in self._mending:
            self.last("controller", self._controller.thaw, self._rng.uniform(0.2, 6.0))
            self._controller.freeze()

    def _cut_controller(self) -> None:
        link = self._controller.link
        if "controller" not in self._mending and link is not None:
            self.last("controller", link.heal, self._rng.uniform(0.2, 10.0))
            link.cut()

    # The weather

    def storm(self, what: str, **figures: float) -> None:
        """The weather is bad for a while."""
        if what in self._mending:
            return
        before = {name: getattr(self._in.weather, name) for name in figures}
        for name, value in figures.items():
            setattr(self._in.weather, name, value)
        self.last(what, lambda: self._calm(before), self._rng.uniform(1.0, 12.0))

    def _calm(self, before: dict[str, float]) -> None:
        if self._in.gossip is not None:
            self._in.gossip.rouse()
        if "frames_lost" in before:
            self.lossy_at = self._in.clock.now
        for name, value in before.items():
            setattr(self._in.weather, name, value)

    def _slow_api(self) -> None:
        self.storm("slow API", slowest=self._rng.choice([0.2, 0.5, 1.0]))

    def _fail_writes(self) -> None:
        shares = [0.0, 0.2, 0.5]
        self.storm(
            "writes",
            writes_lost=self._rng.choice(shares),
            writes_refused=self._rng.choice(shares),
            answers_lost=self._rng.choice(shares),
        )

    def _tell_twice(self) -> None:
        self.storm("told twice", told_twice=0.3)

    def _lose_frames(self) -> None:
        self.storm("frames", frames_lost=self._rng.choice([0.1, 0.5]), frames_twice=0.1, slowest_frame=0.02)

    def _slow_store(self) -> None:
        self.storm("store", slowest_record=0.3)


def _nothing_more() -> None:
    """What has gone wrong mends itself."""

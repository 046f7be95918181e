"""One seed, one history: `simulate` makes a cluster, lets it live through so many hours, and reports.

A history is a series of rounds of a quarter of an hour. In each comes first a storm, in which
everything changes and everything fails; then the faults stop, and `AFTER_STORM` seconds later all
must be settled; then fair weather, in which all must be settled `WHEN_FAIR` seconds after every
change; then a restart, which may change nothing; then quiet until the end of the round.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from attrs import field, frozen

from lbcore.assignment import AssignmentSettings
from lbcore.simulation.checker import Checker, Violation
from lbcore.simulation.clock import Clock, Trace
from lbcore.simulation.controller import ControllerMachine
from lbcore.simulation.fabric import Fabric
from lbcore.simulation.faults import Faults
from lbcore.simulation.gossiping import Gossiping, gossips
from lbcore.simulation.network import Decoder, Weather
from lbcore.simulation.node import LINK, Node
from lbcore.simulation.oracle import Cluster
from lbcore.simulation.reflex import Pulse
from lbcore.simulation.route_checker import SLOWEST
from lbcore.simulation.routed import Routed, Scheme
from lbcore.simulation.routed_users import RoutedUsers
from lbcore.simulation.segment import MemberRecords, Segment
from lbcore.simulation.users import Users
from lbcore.simulation.world import RESOURCES, ApiServer, Document, name_of

__all__ = ["AFTER_STORM", "ROUND", "WHEN_FAIR", "Report", "has_routers", "simulate"]

ROUND = 900.0
AFTER_STORM = 60.0  # seconds: the longest pause between two tries of a write is 30 s and a quarter
WHEN_FAIR = 5.0
_LOOK = 3.0  # seconds between two looks of the judge while things happen
_CALM = 5.0  # seconds in which nobody may write anything
_PARTED = 0.5  # share of the rounds in which a node and a router cannot talk for longer than any hold time
_VAIN = 5  # writes that say nothing new while things change: the answer to a write may overtake the watch


@frozen(kw_only=True)
class Report:
    """What came of one history."""

    seed: int
    hours: float
    trace_hash: str
    violations: tuple[Violation, ...]
    counts: Mapping[str, int]
    lines: tuple[str, ...] = field(default=(), repr=False)


def has_routers(seed: int) -> bool:
    """Whether a seed's cluster has routers, unless told otherwise: one in eight, as these histories are dearer."""
    return seed % 8 == 6


def simulate(
    seed: int, hours: float, *, keep: int | None = 0, routers: bool | None = None, gossip: bool | None = None
) -> Report:
    """Run one history of so many simulated hours; ends early after a round with violations.

    `keep`: how many of the trace's last lines the report shall have; None: all. `routers`: whether the cluster has
    routers, and speaks BGP and BFD with them; `gossip`: whether members gossip rather than keep records; None: as the
    seed has it, never both.
    """
    routed = has_routers(seed) and not gossip if routers is None else routers
    history = _History(seed, keep, routed=routed, gossip=gossips(seed) and not routers if gossip is None else gossip)
    history.run(hours * 3600.0)
    return history.report()


class _History:
    def __init__(self, seed: int, keep: int | None, *, routed: bool, gossip: bool) -> None:
        self._seed = seed
        self._rng = rng = random.Random(seed)
        self._clock = clock = Clock()
        self._trace = trace = Trace(clock, keep=keep)
        self._counts: Counter[str] = Counter()
        weather, decoder = Weather(), Decoder()
        self._server = server = ApiServer(clock, trace, routed=routed)
        records = MemberRecords(clock, weather, random.Random(rng.getrandbits(64)))
        self._fabric = fabric = Fabric(
            clock=clock,
            trace=trace,
            server=server,
            decoder=decoder,
            weather=weather,
            segment=Segment(clock, trace, weather, random.Random(rng.getrandbits(64)), self._counts),
            records=records,
            pulse=Pulse(clock, records),
            counts=self._counts,
            seeds=rng,
        )
        names = tuple(f"node-{letter}" for letter in "abcdef"[: rng.randint(2, 5)])
        self._nodes = [
            Node(name, fabric, bytes([2, 0, 0, 0, 0, number + 1]), rng.choice((60.0, 300.0, None)))
            for number, name in enumerate(names)
        ]
        fabric.segment.stations.extend(self._nodes)
        self._controller = ControllerMachine(fabric, AssignmentSettings(slice_size=rng.choice((1, 4, 128))))
        scheme = Scheme.draw(seed) if routed else None
        users = random.Random(rng.getrandbits(64)), self._counts, names
        self._users = (
            Users(server, *users) if scheme is None else RoutedUsers(server, *users, scheme.wishes, scheme.dice)
        )
        self._faults = Faults(fabric, self._controller, self._nodes, random.Random(rng.getrandbits(64)))
        self._checker = Checker(lambda: clock.now, fabric.segment.ask, self._faults, LINK)
        server.judges.append(self._judge_change)
        fabric.segment.judges.append(self._checker.heard)
        dice = random.Random(f"gossip {seed}")
        self._gossip = Gossiping(fabric, self._nodes, self._faults, self._checker, dice) if gossip else None
        self._routed: Routed | None = None
        if scheme is not None:
            self._routed = Routed(scheme, fabric, self._nodes, self._faults, self._cluster, self._checker.complain)
            server.judges.append(self._routed.judge.changed)

    def _judge_change(self, resource: str, before: Document | None, after: Document | None, who: str) -> None:
        if resource in RESOURCES:  # those of routers have a judge of their own
            self._checker.changed(resource, before, after, who)

    def _cluster(self) -> Cluster | None:
        return self._checker.cluster if self._checker.sound else None

    def run(self, seconds: float) -> None:
        self._users.begin()
        if self._gossip is not None:
            self._users.populate(8)
        self._controller.start()
        if self._routed is not None:
            self._routed.start()
        for node in self._nodes:
            self._clock.after(self._rng.random(), node.start)
        self._clock.run_until(AFTER_STORM / 4)
        self._judge()
        while self._clock.now < seconds and not self._checker.violations:
            self._round(min(seconds, self._clock.now + ROUND))

    def report(self) -> Report:
        self._counts["events"] = self._clock.steps
        self._counts["writes"] = self._server.writes
        if self._routed is not None:
            self._counts["sessions judged"] = self._routed.judge.judged
        return Report(
            seed=self._seed,
            hours=self._clock.now / 3600.0,
            trace_hash=self._trace.digest,
            violations=tuple(self._checker.violations),
            counts=dict(sorted(self._counts.items())),
            lines=self._trace.lines,
        )

    def _round(self, end: float) -> None:
        self._server.compact()
        self._storm(self._rng.uniform(15.0, 45.0))
        for _ in range(self._rng.randint(3, 6)):
            if self._checker.violations:
                return
            self._fair()
        if self._gossip is not None:
            self._gossip.trials()
        self._restart_something()
        if self._routed is not None and self._rng.random() < _PARTED:
            self._routed.part_for_long()
            self._clock.run_until(self._clock.now + SLOWEST)
            self._routed.rejoin()
        self._calm(max(_CALM, end - self._clock.now))

    def _storm(self, duration: float) -> None:
        self._trace.add("history", "storm")
        end = self._clock.now + duration
        self._clock.after(0.0, self._act_again, end, 0.1, 5.0)
        self._clock.after(0.0, self._strike_again, end)
        while self._clock.now < end:
            self._clock.run_until(self._clock.now + _LOOK)
            self._look()
        self._users.repair()
        self._faults.mend_all(but=int(self._rng.random() < 0.2))
        self._trace.add("history", "the faults have stopped")
        if self._gossip is not None:
            self._gossip.settle()
        self._clock.run_until(self._clock.now + AFTER_STORM)
        self._judge()
        self._calm(_CALM)
        self._await_sessions()

    def _act_again(self, end: float, shortest: float, longest: float) -> None:
        if self._clock.now < end:
            self._users.act()
            pause = shortest if self._rng.random() < 0.4 else self._rng.uniform(shortest, longest)
            self._clock.after(pause, self._act_again, end, shortest, longest)

    def _strike_again(self, end: float) -> None:
        if self._clock.now < end:
            self._faults.strike()
            self._clock.after(self._rng.uniform(0.5, 8.0), self._strike_again, end)

    def _fair(self) -> None:
        """A change or a few, in fair weather; while the configuration is broken, only who answers is judged."""
        vain = self._server.vain_writes
        for _ in range(self._rng.randint(1, 3)):
            self._users.act()
            self._clock.run_until(self._clock.now + self._rng.uniform(0.0, 0.3))
        self._clock.run_until(self._clock.now + WHEN_FAIR)
        self._look()
        if not self._checker.sound:
            self._users.repair()
            self._clock.run_until(self._clock.now + WHEN_FAIR)
        self._judge()
        self._judge_writes(vain, allowed=_VAIN)

    def _restart_something(self) -> None:
        before, vain = self._held(), self._server.vain_writes
        restart = self._rng.choice((self._faults.restart_controller, self._faults.restart_node))
        if self._routed is not None:
            restart = self._routed.choose(restart)
        self._trace.add("history", "a restart")
        restart()
        self._clock.run_until(self._clock.now + 3 * WHEN_FAIR)
        after = self._held()
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        for name in changed:
            self._checker.complain("a restart changes nothing", f"{name}: {before.get(name)} became {after.get(name)}")
        if self._routed is not None:
            self._routed.judge.end_stillness()
        self._judge()
        self._judge_writes(vain, allowed=0)

    def _held(self) -> dict[str, object]:
        """What each Service has; why another has not may be told in other words after a restart."""
        return {
            name_of(service): service.get("status", {}).get("loadBalancer") for service in self._server.all("services")
        }

    def _calm(self, duration: float) -> None:
        before, end = self._server.writes, self._clock.now + duration
        if self._routed is not None and duration > SLOWEST:
            self._await_sessions()
            self._routed.judge.begin_quiet()
            self._clock.run_until(end)
            self._routed.judge.end_quiet()
        self._clock.run_until(end)
        if self._server.writes != before:
            self._checker.complain("quiet when settled", f"{self._server.writes - before} writes while all was settled")

    def _judge_writes(self, vain: int, *, allowed: int) -> None:
        if self._server.vain_writes - vain > allowed:
            text = f"{self._server.vain_writes - vain} statuses were written that said so already"
            self._checker.complain("nothing is written twice", text)

    def _await_sessions(self) -> None:
        """Until every session with a router is up that can be."""
        if self._routed is not None:
            self._clock.run_until(self._clock.now + SLOWEST)
            self._routed.judge.settled()

    def _look(self) -> None:
        self._checker.look()
        if self._gossip is not None:
            self._gossip.look()

    def _judge(self) -> None:
        """All must be settled now, unless the configuration is broken."""
        self._counts["judgements"] += 1
        if self._routed is not None:
            self._routed.judge.settled()
        if self._checker.sound:
            self._checker.settled()

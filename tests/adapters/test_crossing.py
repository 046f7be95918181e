"""Speakers that gossip and speakers that live by Leases in one cluster: a rolling update, joined in memory.

Time is a number, Leases are a dictionary that all read; gossip is as fast as the real one is against a Lease: at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import attrs
import pytest

from lbcore.adapters.base import Report
from lbcore.adapters.crossing import Crossing, CrossingOutput, Keep, Remove, Unheard
from lbcore.adapters.heartbeat import Heartbeat, HeartbeatOutput, RemoveRecord, WriteRecord
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence

STEP = 0.1
ADDRESSES = tuple(Address.parse(f"2001:db8::{number}") for number in range(1, 7))
TWO_ANSWER = 2.5  # seconds at most; one failover by Leases takes 5 to 6
COME, GO = SetPresence(present=True, why="it starts"), SetPresence(present=False, why="it stops")


@attrs.frozen
class Lease:
    record: bytes | None
    gossips: bool


@attrs.define
class Cluster:
    """Nodes by name, and what lies at the API server; `doubles` is the longest time for which two announced. While it
    is `silent` nothing is read that is new, and what is written last comes to it afterwards.
    """

    rng: Random
    now: float = 0.0
    leases: dict[str, Lease] = attrs.field(factory=dict)
    nodes: dict[str, Old | New] = attrs.field(factory=dict)
    since: dict[Address, float] = attrs.field(factory=dict)
    doubles: float = 0.0
    writes: int = 0
    silent: bool = False
    unwritten: dict[str, Lease | None] = attrs.field(factory=dict)

    def write(self, name: str, lease: Lease | None) -> None:
        """Have a node's Lease so, or have none."""
        self.unwritten[name] = lease
        if not self.silent:
            self.speak()

    def speak(self) -> None:
        """The API server takes what it was told last, and shows it."""
        self.silent = False
        self.leases |= {name: lease for name, lease in self.unwritten.items() if lease is not None}
        for name in [name for name, lease in self.unwritten.items() if lease is None]:
            self.leases.pop(name, None)
        self.unwritten.clear()

    def start(self, name: str, *, gossips: bool) -> None:
        kind = New if gossips else Old
        self.nodes[name] = kind(self, name)
        self.nodes[name].command(COME)
        self.gossip()

    def stop(self, name: str) -> None:
        self.nodes.pop(name).command(GO)
        self.gossip()

    def crash(self, name: str) -> None:
        del self.nodes[name]
        self.gossip()

    def gossip(self) -> None:
        names = frozenset(name for name, node in self.nodes.items() if isinstance(node, New))
        for node in self.nodes.values():
            if isinstance(node, New):
                node.carry_out(node.engine.gossiped(MembersSeen(names), self.now))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for node in tuple(self.nodes.values()):
                node.turn()
            self.judge()

    def announcers(self, address: Address) -> list[str]:
        return [name for name, node in self.nodes.items() if node.members and elect(node.members, address) == name]

    def judge(self) -> None:
        for address in ADDRESSES:
            if len(self.announcers(address)) < 2:
                self.since.pop(address, None)
            else:
                self.doubles = max(self.doubles, self.now - self.since.setdefault(address, self.now))


class Old:
    """One that lives by Leases, as `LeaseMembers` carries it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.engine = Heartbeat(
            name, cluster.rng.getrandbits(62), rng=cluster.rng, interval=1.0, expiry=5.0, settle=3.0
        )
        self.shown: dict[str, bytes] | None = None

    @property
    def members(self) -> frozenset[str]:
        return self.engine.members or frozenset()

    def command(self, intent: SetPresence) -> None:
        self.carry_out(self.engine.command(intent, self.cluster.now))

    def turn(self) -> None:
        if self.engine.deadline <= self.cluster.now:
            records = {name: each.record for name, each in self.cluster.leases.items() if each.record is not None}
            if records != self.shown:
                self.shown = records
                self.carry_out(self.engine.observe(records, self.cluster.now))
            self.carry_out(self.engine.tick(self.cluster.now))

    def carry_out(self, outputs: Iterable[HeartbeatOutput]) -> None:
        for output in outputs:
            if isinstance(output, WriteRecord):
                self.cluster.write(self.name, Lease(output.data, gossips=False))
            elif isinstance(output, RemoveRecord):
                self.cluster.write(self.name, None)


class New:
    """One that gossips, as `GossipMembers` carries it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.engine = Crossing(name, cluster.rng.getrandbits(62), rng=cluster.rng)
        self.members = frozenset[str]()
        self.reunions = 0
        self.shown: dict[str, Lease] | None = None

    def command(self, intent: SetPresence) -> None:
        self.carry_out(self.engine.command(intent, self.cluster.now))

    def turn(self) -> None:
        if self.engine.deadline <= self.cluster.now:
            leases = dict(self.cluster.leases)
            if leases != self.shown:
                self.shown = leases
                lived = {name: each.record for name, each in leases.items() if not each.gossips}
                records = {name: record for name, record in lived.items() if record is not None}
                self.carry_out(self.engine.observe(records, self.cluster.now))
            if self.name not in leases:
                self.carry_out(self.engine.miss(self.cluster.now))
            self.carry_out(self.engine.tick(self.cluster.now))

    def carry_out(self, outputs: Iterable[CrossingOutput]) -> None:
        for output in outputs:
            match output:
                case Keep(data):
                    self.cluster.writes += 1
                    self.cluster.write(self.name, Lease(data, gossips=True))
                case Remove():
                    self.cluster.write(self.name, None)
                case Report(MembersSeen(names) as seen):
                    self.members, self.reunions = names, seen.reunions
                case _:
                    raise AssertionError(output)


def started(names: Iterable[str], *, gossips: bool, seed: int = 1) -> Cluster:
    cluster = Cluster(Random(seed))
    for name in names:
        cluster.start(name, gossips=gossips)
        cluster.run(0.3)
    cluster.run(8.0)
    assert all(node.members == frozenset(names) for node in cluster.nodes.values())
    cluster.doubles = 0.0
    return cluster


@pytest.mark.parametrize("gossips", [True, False], ids=["to gossip", "and back"])
@pytest.mark.parametrize("seed", range(4))
def test_in_a_rolling_update_two_nodes_answer_for_less_than_a_failover(gossips: bool, seed: int) -> None:
    names = ("n1", "n2", "n3", "n4")
    cluster = started(names, gossips=not gossips, seed=seed)
    for name in cluster.rng.sample(names, len(names)):
        cluster.stop(name)
        cluster.run(cluster.rng.uniform(0.2, 8.0))
        cluster.start(name, gossips=gossips)
        cluster.run(cluster.rng.uniform(0.0, 8.0))
    cluster.run(10.0)
    assert cluster.doubles <= TWO_ANSWER
    assert all(node.members == frozenset(names) for node in cluster.nodes.values())
    assert all(len(cluster.announcers(address)) == 1 for address in ADDRESSES)


def test_in_a_cluster_that_crosses_over_who_gossips_is_missed_at_once_and_who_does_not_after_its_lease() -> None:
    cluster = started(("a", "b"), gossips=False)
    for name in ("c", "d"):
        cluster.start(name, gossips=True)
    cluster.run(8.0)
    assert all(node.members == {"a", "b", "c", "d"} for node in cluster.nodes.values())
    cluster.crash("d")
    cluster.run(STEP)
    assert {"a", "b", "c"} == cluster.nodes["c"].members
    assert {"a", "b", "c", "d"} == cluster.nodes["a"].members
    cluster.run(6.5)
    assert {"a", "b", "c"} == cluster.nodes["a"].members
    cluster.crash("b")
    cluster.run(6.5)
    assert all(node.members == {"a", "c"} for node in cluster.nodes.values())


def test_while_the_api_server_is_silent_nobody_is_missed_and_who_died_meanwhile_is_afterwards() -> None:
    cluster = started(("a", "b", "dead"), gossips=False)
    for name in ("c", "d"):
        cluster.start(name, gossips=True)
    cluster.run(8.0)
    everybody = {"a", "b", "c", "d", "dead"}
    new = [node for node in cluster.nodes.values() if isinstance(node, New)]
    before = [node.reunions for node in new]
    cluster.silent = True
    cluster.run(30.0)
    cluster.crash("dead")
    cluster.run(30.0)
    assert all(node.members == everybody for node in cluster.nodes.values())
    cluster.speak()
    for _ in range(150):
        cluster.run(STEP)
        assert all(node.members >= everybody - {"dead"} for node in cluster.nodes.values())
    assert all(node.members == everybody - {"dead"} for node in cluster.nodes.values())
    # Those who live by Leases may have held them for dead: each tells the segment anew what it announces.
    assert [count + 1 for count in before] == [node.reunions for node in new]
    assert 0.0 == cluster.doubles


def test_where_all_gossip_a_lease_is_for_people_and_seldom_written() -> None:
    cluster = started(("a", "b", "c"), gossips=True)
    assert all(lease.record is None for lease in cluster.leases.values())
    before = cluster.writes
    cluster.run(60.0)
    assert 9 <= cluster.writes - before <= 12
    cluster.leases["old"] = Lease(b"what somebody left behind", gossips=False)
    cluster.run(15.0)
    before = cluster.writes
    cluster.run(60.0)
    assert cluster.writes - before <= 12
    assert all(node.members == {"a", "b", "c"} for node in cluster.nodes.values())


def test_what_people_see_is_written_soon_but_not_at_every_change() -> None:
    engine = Crossing("a", 1, rng=Random(1))
    now = 0.0
    kept = []
    engine.observe({}, now)
    kept += engine.command(COME, now)
    kept += engine.gossiped(MembersSeen(frozenset({"a"})), now)
    for step in range(200):
        now = step / 10
        kept += engine.tick(now, seen=min(step, 50))
    assert 5 <= sum(isinstance(each, Keep) for each in kept) <= 8


def test_who_is_cut_off_or_leaves_takes_its_lease_away() -> None:
    engine = Crossing("a", 1, rng=Random(1))
    engine.observe({}, 0.0)
    engine.command(COME, 0.0)
    assert [Keep(None), Report(MembersSeen(frozenset("ab")))] == engine.gossiped(MembersSeen(frozenset("ab")), 0.0)
    assert [Remove(), Report(MembersSeen(frozenset("b")))] == engine.gossiped(MembersSeen(frozenset("b")), 1.0)
    assert [Keep(None), Report(MembersSeen(frozenset("ab")))] == engine.gossiped(MembersSeen(frozenset("ab")), 2.0)
    assert [Remove()] == engine.command(GO, 3.0)
    assert [] == engine.command(GO, 3.0)


def test_a_lease_that_is_gone_though_it_was_kept_is_written_again() -> None:
    engine = Crossing("a", 1, rng=Random(1))
    engine.observe({}, 0.0)
    engine.command(COME, 0.0)
    engine.gossiped(MembersSeen(frozenset("a")), 0.0)
    assert [] == engine.miss(0.5)  # on its way
    assert [] == engine.observe({}, 5.0)
    assert [Keep(None)] == engine.miss(6.0)
    engine.command(GO, 7.0)
    assert [] == engine.miss(20.0)


def test_nothing_is_told_before_the_leases_are_known() -> None:
    engine = Crossing("a", 1, rng=Random(1))
    engine.command(COME, 0.0)
    assert not [each for each in engine.gossiped(MembersSeen(frozenset("a")), 0.0) if isinstance(each, Report)]
    assert not [each for each in engine.tick(20.0) if isinstance(each, Report)]
    assert [Report(MembersSeen(frozenset("a")))] == engine.observe({}, 30.0)


def test_who_renews_its_record_and_is_not_heard_is_named_and_who_died_is_not() -> None:
    unheard = Unheard("a")
    told = []
    for moment in range(200):
        renewals = {
            "a": f"{moment // 20}",
            "b": f"{moment // 20}",
            "closed": f"{moment // 20}",
            "dead": f"{min(moment, 41) // 20}",  # renewed at 40, just before it died
            "left over": "0",
        }
        heard = frozenset({"a", "b"}) | (frozenset({"dead"}) if moment < 41 else frozenset())
        told.append(unheard.look(renewals, heard, float(moment)))
    assert {(), ("closed",)} == set(told)
    assert ("closed",) == told[60] == told[-1]
    heard_again = unheard.look({"closed": "10"}, frozenset({"closed"}), 200.0)
    assert () == heard_again

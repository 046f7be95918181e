"""Detectors joined in memory, on a virtual clock: what they notice, how soon, and what they do not take for death."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import DetectorWorld
from gossip import GossipNode
from lbcore.adapters.detector.times import SLOW
from lbcore.adapters.memberlist.messages import Dead, Endpoint, encode

NOTICED = 0.3  # seconds from a fault until everybody else knows; beats are missed after 0.22
ALONE = 0.4  # seconds after which one who is cut off knows it


def view_without(world: DetectorWorld, gone: GossipNode) -> Callable[[], bool]:
    rest = frozenset(node.name for node in world.nodes if node is not gone)
    return lambda: all(node.view == rest for node in world.nodes if node is not gone)


def agreement(side: list[GossipNode]) -> Callable[[], bool]:
    names = {node.name for node in side}
    return lambda: all(names == node.view for node in side)


@pytest.mark.parametrize("count", [2, 3, 5, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", ["cut", "kill", "pause"])
def test_a_node_that_is_gone_is_noticed_by_all_within_a_third_of_a_second(count: int, fault: str) -> None:
    world = DetectorWorld(count, seed=count).settle()
    victim = world.nodes[0]
    if fault == "cut":
        world.cut(victim)
    else:
        getattr(victim, fault)()
    assert world.until(view_without(world, victim), 5.0) <= NOTICED


@pytest.mark.parametrize("seed", range(8))
def test_a_node_that_is_gone_before_all_have_heard_it_is_noticed_as_soon(seed: int) -> None:
    world = DetectorWorld(3, seed=seed)
    for node in world.nodes:
        node.start()
        world.run(0.3)
    world.until(lambda: world.agreed, 5.0)
    victim = world.nodes[seed % 3]
    victim.kill()
    assert world.until(view_without(world, victim), 10.0) <= NOTICED


@pytest.mark.parametrize("count", [2, 3, 5])
def test_one_who_is_cut_off_counts_itself_out_and_comes_back_when_it_is_reached_again(count: int) -> None:
    world = DetectorWorld(count, seed=count).settle()
    victim = world.nodes[0]
    world.cut(victim)
    assert world.until(lambda: victim.name not in victim.view, 5.0) <= ALONE
    world.run(20.0)  # long enough for memberlist to hold all others for dead
    assert victim.name not in victim.view
    world.heal()
    assert world.until(lambda: world.agreed, 5.0) < 3.0
    before = [len(node.views) for node in world.nodes]
    world.run(30.0)
    assert before == [len(node.views) for node in world.nodes]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_lone_survivor_that_reaches_a_gateway_goes_on(count: int) -> None:
    world = DetectorWorld(count, seed=count).settle()
    survivor, *others = world.nodes
    for each in others:
        each.kill()
    took = world.until(lambda: survivor.view == {survivor.name}, 5.0)
    assert took <= ALONE
    world.run(20.0)
    assert {survivor.name} == survivor.view


class _NewsLost(DetectorWorld):
    """Where nobody hears from others that somebody is dead, until the time `lost_until`."""

    lost_until = 0.0

    def deliver(self, sender: GossipNode, where: Endpoint, data: bytes) -> None:
        news = any(isinstance(each, Dead) for each in self.envelope.unwrap(data))
        if not news or self.now >= self.lost_until:
            super().deliver(sender, where, data)


def test_one_whom_a_verdict_did_not_reach_asks_until_it_is_told() -> None:
    world = _NewsLost(3)
    world.settle()
    victim, knows, other = world.nodes
    world.lost_until = world.now + 0.5  # by then nobody tells it any more of himself
    victim.kill()
    word = Dead(incarnation=9, node=victim.name, origin=knows.name)
    knows.do(lambda: knows.engine.receive(world.envelope.wrap([encode(word)]), knows.endpoint, world.now))
    assert world.until(lambda: victim.name not in other.view, 20.0) <= 0.5 + 0.3


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_those_who_come_back_together_do_not_drive_out_the_one_who_stayed(count: int, seed: int) -> None:
    world = DetectorWorld(count, seed=seed).settle()
    survivor = world.nodes[0]
    world.part([survivor])
    world.gateways = {survivor.name}
    world.run(3.0)
    assert {survivor.name} == survivor.view
    began = world.now
    world.heal()
    world.until(lambda: world.agreed, 10.0)
    world.run(5.0)
    assert all(survivor.name in view for moment, view in survivor.views if moment > began)


def test_a_lone_survivor_that_reaches_no_gateway_any_more_stops() -> None:
    world = DetectorWorld(3).settle()
    survivor, *others = world.nodes
    for each in others:
        each.kill()
    world.until(lambda: survivor.view == {survivor.name}, 5.0)
    world.run(10.0)
    world.gateways.clear()
    assert world.until(lambda: not survivor.view, 10.0) <= SLOW.expiry + 2 * SLOW.again
    world.heal()
    assert world.until(lambda: survivor.view == {survivor.name}, 5.0) <= 0.5


def test_a_node_that_knows_of_no_others_does_not_need_a_gateway() -> None:
    world = DetectorWorld(1)
    world.start()
    world.run(3.0)
    world.gateways.clear()
    world.run(20.0)
    assert [{world.nodes[0].name}] == [view for _, view in world.nodes[0].views]


def test_where_nobody_can_be_asked_a_lone_survivor_goes_on() -> None:
    world = DetectorWorld(2, gateway=False).settle()
    survivor, other = world.nodes
    other.kill()
    assert world.until(lambda: survivor.view == {survivor.name}, 5.0) <= 0.5


def test_both_sides_of_a_partition_go_on_where_both_reach_a_gateway() -> None:
    world = DetectorWorld(5).settle()
    one, other = world.nodes[:2], world.nodes[2:]
    world.part(one, other)
    for side in (one, other):
        world.until(agreement(side), 1.0)
    world.heal()
    world.until(lambda: world.agreed, 6.0)


@pytest.mark.parametrize("count", [3, 5])
def test_one_broken_path_between_two_nodes_is_nobodys_death(count: int) -> None:
    world = DetectorWorld(count).settle()
    one, other, *_ = world.nodes
    world.mute = {(one.name, other.name), (other.name, one.name)}
    before = [len(node.views) for node in world.nodes]
    world.run(30.0)
    assert before == [len(node.views) for node in world.nodes]


@pytest.mark.parametrize("deaf", [True, False])
def test_a_node_with_half_a_cable_is_out_by_its_own_view_or_by_that_of_the_others(deaf: bool) -> None:
    world = DetectorWorld(3).settle()
    victim, *others = world.nodes
    pairs = [(each.name, victim.name) for each in others]
    world.mute = {pair if deaf else pair[::-1] for pair in pairs}
    world.gateways.discard(victim.name)
    world.until(lambda: victim.name not in victim.view, 1.0)
    if not deaf:  # nobody hears it: the others have taken over
        assert all(victim.name not in node.view for node in others)
    world.heal()
    world.until(lambda: world.agreed, 10.0)


def test_an_observer_that_stood_still_accuses_nobody() -> None:
    world = DetectorWorld(2).settle()
    slow, other = world.nodes
    for _ in range(50):
        slow.pause()
        world.run(0.15)
        slow.resume()
        world.run(0.05)
    assert all({slow.name, other.name} == view for node in world.nodes for _, view in node.views[1:])


def test_a_member_of_another_program_makes_memberlist_alone_decide_until_it_has_left() -> None:
    world = DetectorWorld(4, foreign={"n4"}).settle()
    *ours, theirs = world.nodes
    assert not any(world.detector(node).active for node in ours)
    ours[0].pause()
    world.run(1.0)
    assert "n1" in ours[1].view  # memberlist takes 5 s and more
    ours[0].resume()
    world.run(10.0)
    theirs.leave()
    world.until(lambda: all(world.detector(node).active for node in ours), 2.0)
    ours[0].kill()
    assert world.until(lambda: all({"n2", "n3"} == node.view for node in ours[1:]), 5.0) <= NOTICED


def test_all_that_stood_still_together_go_on_together() -> None:
    world = DetectorWorld(5).settle()
    for node in world.nodes:
        node.pause()
    world.run(20.0)
    for node in world.nodes:
        node.resume()
    world.run(3.0)
    assert world.agreed


def test_all_that_restart_at_once_find_each_other() -> None:
    world = DetectorWorld(5).settle()
    for node in world.nodes:
        node.kill()
    world.run(0.1)
    for node in world.nodes:
        node.start()
    world.until(lambda: world.agreed, 5.0)
    world.run(2.0)
    assert world.agreed


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_nodes_that_come_and_go_are_candidates_ever_more_seldom(count: int) -> None:
    world = DetectorWorld(count + 2).settle()
    *victims, observer, _ = world.nodes
    began = world.now
    while world.now - began < 300.0:
        for victim in victims:
            victim.pause()
            world.run(0.4)
            victim.resume()
            world.run(1.2 / count)
    views = [view for view in observer.views if view[0] > began]
    changes = [after[0] for before, after in pairwise(views) if before[1] != after[1]]
    first = [moment for moment in changes if moment - began < 120.0]
    assert len(first) <= 14 * count
    assert len(changes) - len(first) <= (2 * 180 / 60 + 2) * count
    # When it was a candidate, was lost and came back, and when it waits no longer; not each time that it came and went.
    assert 1 <= observer.seen.reunions <= len(changes) + 1


def test_who_comes_back_waits_and_all_know_of_both() -> None:
    world = DetectorWorld(3).settle()
    victim, *others = world.nodes
    before = [node.seen.reunions for node in others]
    victim.pause()
    world.run(0.6)
    victim.resume()
    world.run(0.4)
    everybody = frozenset(node.name for node in world.nodes)
    for node in world.nodes:
        assert (everybody - {victim.name}, frozenset({victim.name})) == (node.seen.names, node.seen.waiting)
    world.run(2.0)
    assert [(everybody, frozenset())] * 3 == [(node.seen.names, node.seen.waiting) for node in world.nodes]
    assert [each + 1 for each in before] == [node.seen.reunions for node in others]


def test_one_who_stood_still_and_missed_nobody_knows_that_it_was_away() -> None:
    world = DetectorWorld(3).settle()
    victim = world.nodes[0]
    world.run(1.0)
    before = victim.seen
    victim.pause()
    world.run(0.6)
    victim.resume()
    world.run(0.4)
    assert before.reunions < victim.seen.reunions


@pytest.mark.parametrize("seed", [0, 5, 6, 7])
def test_who_was_away_for_a_moment_is_told_what_was_said_meanwhile(seed: int) -> None:
    world, rng = DetectorWorld(3, seed=seed).settle(), Random(seed)
    for _ in range(8):  # who waits, and who waits no longer, changes all the time
        world.cut(rng.choice(world.nodes))
        world.run(0.6)
        world.heal()
        world.run(0.3)
        differing = 0
        for _ in range(30):
            world.run(0.05)
            differing = differing + 1 if len({node.view for node in world.nodes}) > 1 else 0
            assert differing <= 4


def test_who_leaves_and_joins_again_is_no_reunion() -> None:
    world = DetectorWorld(3).settle()
    victim, *others = world.nodes
    before = [node.seen.reunions for node in others]
    victim.leave()
    world.run(2.0)
    assert all(victim.name not in node.seen.names for node in others)
    victim.kill()
    victim.start()
    world.until(lambda: world.agreed, 5.0)
    assert before == [node.seen.reunions for node in others]


def test_a_beat_that_was_recorded_and_is_sent_again_is_no_sign_of_life() -> None:
    world = DetectorWorld(3).settle()
    victim = world.nodes[0]
    recorded: list[tuple[GossipNode, bytes]] = []
    deliver = world.deliver

    def record(sender: GossipNode, where: object, data: bytes) -> None:
        if sender is victim:
            recorded.append((next(node for node in world.nodes if node.endpoint == where), data))
        deliver(sender, where, data)  # type: ignore[arg-type]

    def hear(receiver: GossipNode, data: bytes) -> None:
        receiver.do(lambda: receiver.engine.receive(data, victim.endpoint, world.now))

    world.deliver = record  # type: ignore[method-assign]
    world.run(1.0)
    victim.kill()
    for step in range(50):
        for receiver, data in recorded:
            world.at(world.now + step * 0.02, partial(hear, receiver, data))
    assert world.until(view_without(world, victim), 5.0) <= NOTICED


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32), count=st.integers(3, 8), loss=st.sampled_from([0.0, 0.02, 0.1]))
def test_lost_datagrams_alone_are_nobodys_death(seed: int, count: int, loss: float) -> None:
    world = DetectorWorld(count, seed=seed, loss=loss).settle()
    before = [len(node.views) for node in world.nodes]
    world.run(10.0)
    assert before == [len(node.views) for node in world.nodes]


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(2, 6),
    faults=st.lists(st.tuples(st.sampled_from(["cut", "kill", "pause", "part"]), st.integers(0, 5)), max_size=5),
)
def test_after_any_faults_all_that_live_agree_again_and_then_nothing_changes(
    seed: int, count: int, faults: list[tuple[str, int]]
) -> None:
    world = DetectorWorld(count, seed=seed).settle()
    for what, number in faults:
        node = world.nodes[number % count]
        if what == "part":
            world.part(world.nodes[: number % count], world.nodes[number % count :])
        elif what == "cut":
            world.cut(node)
        elif node.alive and not node.paused:
            getattr(node, what)()
        world.run(world.rng.random() * 2)
    world.heal()
    for node in world.nodes:
        if node.paused:
            node.resume()
        if not node.alive:
            node.start()
    world.until(lambda: world.agreed, 60.0)
    world.run(16.0)  # the longest that somebody may still be waiting for
    assert world.agreed
    before = [len(node.views) for node in world.nodes]
    world.run(10.0)
    assert before == [len(node.views) for node in world.nodes]


def test_what_a_node_sends_does_not_grow_with_the_cluster() -> None:
    rates = []
    for count in (5, 25):
        world = DetectorWorld(count).settle()
        before = sum(node.sent for node in world.nodes)
        world.run(2.0)
        rates.append((sum(node.sent for node in world.nodes) - before) / count / 2.0)
    assert rates[1] <= 1.2 * rates[0]

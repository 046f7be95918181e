"""What a member sees of the others, for people: the detector, who is gone, by whose verdict and since when."""

from __future__ import annotations

import pytest

from detectors import DetectorWorld
from gossip import LEAVE, GossipNode
from lbcore.adapters.views import Sight, SightState, View, waiting


def view(world: DetectorWorld, node: GossipNode) -> View:
    return world.detector(node).view(world.now)


def sight(world: DetectorWorld, node: GossipNode, other: GossipNode) -> Sight:
    return next(each for each in view(world, node).sights if each.name == other.name)


@pytest.mark.parametrize("count", [3, 5])
def test_who_is_dead_by_whose_verdict_and_since_when_is_known_for_an_hour(count: int) -> None:
    world = DetectorWorld(count, seed=count).settle()
    victim, *others = world.nodes
    cut = world.now
    world.cut(victim)
    world.run(2.0)
    names = {node.name for node in others}
    for moment in (0.0, 120.0):  # memberlist itself forgets the dead after half a minute
        world.run(moment)
        for node in others:
            seen = sight(world, node, victim)
            assert (SightState.DEAD, "lbcore/1") == (seen.state, seen.release)
            assert cut + 0.2 <= seen.since <= cut + 0.3
            assert set(seen.by) <= names
            assert seen.by
            assert names == view(world, node).members
    # One of them counted the votes, and they were those of most of the victim's observers.
    assert max(len(sight(world, node, victim).by) for node in others) >= 2


def test_a_node_that_is_cut_off_says_so_and_one_that_returns_waits() -> None:
    world = DetectorWorld(3, seed=7).settle()
    victim, other, _ = world.nodes
    world.cut(victim)
    world.run(2.0)
    assert view(world, victim).cut_off
    world.heal()
    world.until(lambda: SightState.WAITS is sight(world, other, victim).state, 5.0)
    names = frozenset(node.name for node in world.nodes)
    world.until(lambda: waiting([view(world, node) for node in world.nodes], names) == {victim.name}, 0.5)
    world.until(lambda: world.agreed, 10.0)
    world.run(1.0)
    assert (SightState.ALIVE, ()) == (sight(world, other, victim).state, sight(world, other, victim).by)
    assert not view(world, victim).cut_off


def test_a_node_that_left_has_nobodys_verdict() -> None:
    world = DetectorWorld(3, seed=2).settle()
    victim, other, _ = world.nodes
    victim.carry_out(victim.engine.command(LEAVE, world.now))
    world.run(1.0)
    seen = sight(world, other, victim)
    assert (SightState.LEFT, ()) == (seen.state, seen.by)


def test_beside_another_program_memberlist_alone_decides_and_the_view_names_it() -> None:
    world = DetectorWorld(3, foreign=["n3"], seed=3)
    world.start()
    world.until(lambda: world.agreed, 30)
    first, _, foreign = world.nodes
    seen = view(world, first)
    assert (False, "") == (seen.fast, sight(world, first, foreign).release)
    assert foreign.name in seen.why
    world.cut(foreign)
    world.until(lambda: foreign.name not in first.view, 30)
    world.run(1.0)
    assert SightState.DEAD is sight(world, first, foreign).state
    assert sight(world, first, foreign).by
    assert (True, "all members are lbcore's") == (view(world, first).fast, view(world, first).why)


def test_a_view_changes_only_with_its_revision() -> None:
    world = DetectorWorld(3, seed=5).settle()
    node = world.detector(world.nodes[0])
    for _ in range(100):
        before = node.revision, node.view(world.now)
        world.run(0.1)
        assert before[0] != node.revision or before[1] == node.view(world.now)

"""Many members joined in memory, on a virtual clock: they find each other, lose each other, and agree again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gossip import JOIN, GossipWorld
from lbcore.adapters.memberlist.broadcasts import Broadcasts
from lbcore.adapters.memberlist.engine import Memberlist
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import Alive, Dead, Endpoint, PushPull, Status, Suspect, encode
from lbcore.adapters.memberlist.settings import LAN
from lbcore.adapters.memberlist.suspicion import Suspicion
from lbcore.adapters.memberlist.table import Table
from lbcore.addresses import Address

OURS = Endpoint(Address.parse("fd00::1"), 7946)
THEIRS = Endpoint(Address.parse("fd00::2"), 7946)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40])
def test_members_that_start_together_soon_see_each_other(count: int) -> None:
    world = GossipWorld(count).start()
    world.until(lambda: world.agreed, 3.0)


@pytest.mark.parametrize(
    ("members", "seconds"),
    [(1, 30), (32, 30), (33, 60), (64, 60), (65, 90), (128, 90), (129, 120), (1000, 180)],  # Go's pushPullScale
)
def test_the_more_members_the_rarer_a_member_exchanges_everything(members: int, seconds: int) -> None:
    assert seconds == LAN.exchange_every(members)


def test_nobody_is_suspected_while_all_live_and_a_tenth_of_the_datagrams_is_lost() -> None:
    world = GossipWorld(5, loss=0.1).start()
    world.until(lambda: world.agreed, 5.0)
    before = [len(node.views) for node in world.nodes]
    world.run(300)
    assert before == [len(node.views) for node in world.nodes]


@pytest.mark.parametrize(("count", "most"), [(2, 6.5), (3, 8.0), (10, 13.0)])
def test_a_killed_member_is_found_dead_in_the_time_that_memberlist_takes(count: int, most: float) -> None:
    world = GossipWorld(count).start().run(10)
    world.nodes[0].kill()
    assert 4.0 <= world.until(lambda: world.agreed, most)


def test_a_member_that_leaves_is_gone_at_once_and_may_return() -> None:
    world = GossipWorld(3).start().run(10)
    node = world.nodes[1]
    node.leave()
    world.until(lambda: world.agreed, 0.05)
    world.run(1)
    node.start()
    world.until(lambda: world.agreed, 0.5)


def test_a_killed_member_that_returns_at_once_is_not_missed() -> None:
    world = GossipWorld(3).start().run(10)
    before = len(world.nodes[0].views)
    world.nodes[1].kill()
    world.run(0.5)
    world.nodes[1].start()
    world.until(lambda: world.agreed, 1.0)
    world.run(20)
    assert before == len(world.nodes[0].views)


def test_a_member_held_for_dead_is_back_soon_after_it_restarts() -> None:
    world = GossipWorld(3).start().run(10)
    world.nodes[1].kill()
    world.until(lambda: world.agreed, 10)
    world.nodes[1].start()
    world.until(lambda: world.agreed, 0.5)


def test_a_member_that_stood_still_for_four_seconds_refutes_and_is_never_lost() -> None:
    world = GossipWorld(3).start().run(10)
    node = world.nodes[2]
    before = [len(each.views) for each in world.nodes]
    node.pause()
    world.run(4)
    node.resume()
    world.run(30)
    assert before == [len(each.views) for each in world.nodes]
    assert 0 < node.engine.counts.refutations


def test_a_member_that_only_tcp_reaches_is_kept() -> None:
    world = GossipWorld(3).start().run(10)
    deaf = world.nodes[0]
    before = [len(each.views) for each in world.nodes]
    world.deliver = lambda sender, where, data: (  # type: ignore[method-assign]
        None if where == deaf.endpoint else GossipWorld.deliver(world, sender, where, data)
    )
    world.run(60)
    assert before[1:] == [len(each.views) for each in world.nodes][1:]


def test_the_two_halves_of_a_parted_cluster_become_one_again() -> None:
    world = GossipWorld(6).start().run(10)
    left, right = world.nodes[:3], world.nodes[3:]
    world.part(left, right)
    world.until(lambda: all(node.view == {each.name for each in left} for node in left), 40)
    world.run(60)
    world.heal()
    world.until(lambda: world.agreed, 12)
    world.run(30)
    assert world.agreed


faults = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["kill", "start", "leave", "pause", "resume", "part", "heal"]),
        st.floats(0.0, 4.0),
    ),
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(faults, st.integers(0, 10_000), st.sampled_from([0.0, 0.05]), st.sampled_from([0.001, 0.05]))
@example([(0, "leave", 0.0), (0, "start", 0.0), (1, "part", 3.0), (1, "kill", 3.9), (1, "start", 1.0)], 3, 0.0, 0.001)
def test_after_the_last_fault_all_who_live_agree(
    history: list[tuple[int, str, float]], seed: int, loss: float, delay: float
) -> None:
    world = GossipWorld(5, seed=seed, loss=loss, delay=delay).start().run(3)
    for index, what, pause in history:
        node = world.nodes[index]
        match what:
            case "kill":
                node.kill()
            case "start" if not node.alive:
                node.start()
            case "leave" if node.alive and not node.paused:
                node.leave()
            case "pause" if node.alive:
                node.pause()
            case "resume" if node.paused:
                node.resume()
            case "part":
                world.part(world.nodes[: index + 1], world.nodes[index + 1 :])
            case "heal":
                world.heal()
        world.run(pause)
    world.heal()
    for node in world.nodes:
        if node.paused:
            node.resume()
    world.until(lambda: world.agreed, 60)
    world.loss = 0.0
    world.run(20)
    assert world.agreed


@pytest.mark.slow
def test_an_idle_member_sends_four_datagrams_a_second_whatever_the_size() -> None:
    for count in (3, 20):
        world = GossipWorld(count).start().run(30)
        before = [node.sent for node in world.nodes]
        world.run(60)
        assert all(110 <= node.sent - sent <= 135 for node, sent in zip(world.nodes, before, strict=True))


# One member by hand


def member() -> Memberlist:
    engine = Memberlist("a", OURS, rng=Random(1))
    engine.command(JOIN, 0.0)
    return engine


def tell(engine: Memberlist, *messages: Alive | Suspect | Dead, now: float = 1.0) -> None:
    engine.receive(Envelope().wrap([encode(each) for each in messages]), THEIRS, now)


def test_a_member_that_is_called_dead_says_that_it_lives_with_a_higher_number() -> None:
    engine = member()
    tell(engine, Dead(incarnation=7, node="a", origin="b"))
    assert Status.ALIVE is engine.table.records["a"].status
    assert 8 == engine.table.records["a"].incarnation


def test_the_greatest_number_there_is_ends_nothing() -> None:
    engine = member()
    tell(engine, Suspect(incarnation=(1 << 32) - 1, node="a", origin="b"))
    engine.tick(100.0)
    assert 1 == engine.table.own.incarnation


def test_an_older_word_changes_nothing() -> None:
    engine = member()
    tell(engine, Alive(incarnation=5, node="b", endpoint=THEIRS))
    tell(engine, Dead(incarnation=4, node="b", origin="c"), Suspect(incarnation=4, node="b", origin="c"))
    assert Status.ALIVE is engine.table.records["b"].status


def test_a_name_from_another_address_is_a_conflict_until_its_owner_has_left() -> None:
    engine = member()
    elsewhere = Endpoint(Address.parse("fd00::9"), 7946)
    tell(engine, Alive(incarnation=5, node="b", endpoint=THEIRS))
    tell(engine, Alive(incarnation=9, node="b", endpoint=elsewhere))
    assert (THEIRS, 1) == (engine.table.records["b"].endpoint, engine.counts.conflicts)
    tell(engine, Dead(incarnation=5, node="b", origin="b"))
    tell(engine, Alive(incarnation=1, node="b", endpoint=elsewhere))
    assert (elsewhere, Status.ALIVE) == (engine.table.records["b"].endpoint, engine.table.records["b"].status)


def test_one_members_word_for_a_death_is_a_suspicion_only() -> None:
    engine, other = member(), Table("c", THEIRS, b"", LAN, Random(1))
    other.enter(0.0)
    for table in (engine.table, other):
        table.alive(Alive(incarnation=5, node="b", endpoint=THEIRS), 1.0)
    other.condemn("b", 1.0)
    exchange = other.exchange(join=False)
    assert isinstance(exchange, PushPull)
    engine.table.merge(exchange, 1.0)
    assert Status.SUSPECT is engine.table.records["b"].status


def test_peers_that_speak_no_common_version_are_not_merged() -> None:
    engine, other = member(), Table("c", THEIRS, b"", LAN, Random(1))
    other.enter(0.0)
    other.alive(Alive(incarnation=1, node="d", endpoint=THEIRS, versions=bytes((3, 5, 4, 0, 0, 0))), 0.0)
    assert not engine.table.merge(other.exchange(join=True), 1.0)
    assert {"a"} == engine.table.names


@given(st.integers(1, 200), st.lists(st.sampled_from("abcdef"), max_size=6))
def test_suspicion_shortens_with_every_new_accuser_and_never_below_the_least(count: int, others: list[str]) -> None:
    suspicion = Suspicion("a", count, LAN, 100.0)
    deadlines = [suspicion.deadline]
    for other in others:
        news = suspicion.confirm(other)
        deadlines.append(suspicion.deadline)
        assert news == (deadlines[-1] < deadlines[-2])
    assert sorted(deadlines, reverse=True) == deadlines
    assert 104.0 <= deadlines[-1]


def test_one_confirmation_of_two_leaves_eleven_seconds() -> None:
    suspicion = Suspicion("a", 4, LAN, 0.0)
    assert 24.0 == suspicion.deadline
    suspicion.confirm("b")
    assert 11.381 == suspicion.deadline
    suspicion.confirm("c")
    assert 4.0 == suspicion.deadline


@given(st.integers(1, 2000), st.integers(20, 400))
def test_news_is_told_a_limited_number_of_times_and_never_more_than_fits(count: int, room: int) -> None:
    news = Broadcasts(4)
    for index in range(30):
        news.put(f"n{index}", bytes(index + 1))
    told = 0
    while taken := news.take(room, count):
        assert sum(len(each) + 2 for each in taken) <= room
        told += len(taken)
    limit = 4 * len(str(count))  # the digits of n are its logarithm, rounded up
    fitting = sum(index + 3 <= room for index in range(30))
    assert told <= fitting * limit
    assert 30 - fitting == len(news)

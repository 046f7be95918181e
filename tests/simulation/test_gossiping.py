"""Simulated clusters whose members gossip: no promise broken, and what the promises follow from.

Planted bugs are in `test_mutants`. Histories of this kind cost some thirty times as much as those of records, so there
are fewer of them here.
"""

from __future__ import annotations

import pytest

from lbcore.simulation.gossiping import gossips, promises
from lbcore.simulation.run import simulate

QUARTER = 0.25  # hours: one round


@pytest.mark.parametrize("seed", range(3))
def test_no_promise_is_broken_where_members_gossip(seed: int) -> None:
    assert () == simulate(seed, QUARTER, gossip=True).violations


@pytest.mark.slow
@pytest.mark.parametrize("first", range(3, 15, 3))
def test_no_promise_is_broken_in_three_rounds_of_more_clusters_that_gossip(first: int) -> None:
    broken = {seed: simulate(seed, QUARTER, gossip=True).violations for seed in range(first, first + 3)}
    assert {} == {seed: violations for seed, violations in broken.items() if violations}


def test_one_seed_in_eight_gossips_and_is_one_history_all_the_same() -> None:
    assert [7, 15] == [seed for seed in range(16) if gossips(seed)]
    first = simulate(7, 0.02)
    assert first.counts["datagrams"] > 1000
    assert first.trace_hash == simulate(7, 0.02, gossip=True).trace_hash
    assert "datagrams" not in simulate(6, 0.02).counts


def test_what_is_promised_follows_from_the_engines_constants() -> None:
    found = promises()
    assert found.noticed < 0.4
    assert found.alone < 0.4
    assert found.settled == found.steady == 6.0

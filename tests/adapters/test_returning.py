"""Who comes back that was held for dead, counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.returning import Returning

names = st.sets(st.sampled_from("abcd")).map(sorted)


@given(st.lists(st.tuples(st.booleans(), names, names), max_size=20))
def test_each_time_anybody_is_back_counts_once_and_one_that_waited_when_it_waits_no_longer(
    history: list[tuple[bool, list[str], list[str]]],
) -> None:
    returning, lost, waited, reunions = Returning(), set[str](), set[str](), 0
    for dies, some, waiting in history:
        if dies:
            returning.lose(some, waiting)
            lost |= set(some)
            waited |= set(waiting)
        else:
            returning.see(some, waiting)
            reunions += bool(lost & {*some, *waiting} or waited & set(some))
            lost -= {*some, *waiting}
            waited -= set(some)
        assert reunions == returning.reunions


def test_of_ten_thousand_that_never_come_back_some_are_remembered() -> None:
    returning = Returning()
    returning.lose(f"n{index}" for index in range(10_000))
    returning.see(["n1"])
    assert 0 == returning.reunions
    returning.see(["n9999"])
    assert 1 == returning.reunions

"""What a daemon says of what it cannot carry out: one line, however much of it there is, and one when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lbcore.addresses import Address
from lbcore.daemons.observe import log_observer
from lbcore.events import Applied, Failed, LeadershipSeen
from lbcore.intents import SetAddresses, SetPoolUsage
from lbcore.model import ServiceKey


def write(number: int) -> SetAddresses:
    return SetAddresses(key=ServiceKey("shop", f"s{number}"), addresses=(Address.parse(f"2001:db8::{number:x}"),))


def said(outcomes: Sequence[Applied | Failed | LeadershipSeen]) -> list[Any]:
    """The lines that somebody sees who has not asked for more."""
    with capture_logs() as lines:
        observe = log_observer(structlog.get_logger())
        for outcome in outcomes:
            observe(outcome, ())
    return [line for line in lines if line["log_level"] != "debug"]


@given(numbers=st.lists(st.integers(0, 5), max_size=60))
def test_however_many_writes_fail_however_often_there_is_one_line_of_it(numbers: list[int]) -> None:
    lines = said([Failed(intent=write(number), message="may not") for number in numbers])
    twice = any(numbers.count(number) > 1 for number in numbers)
    assert (["warning"] if twice else []) == [line["log_level"] for line in lines]


@given(numbers=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_when_the_last_of_them_is_written_it_is_over_and_the_next_trouble_is_told(numbers: list[int]) -> None:
    trouble = [Failed(intent=write(number), message="may not") for number in (*numbers, *numbers)]
    over = [Applied(write(number)) for number in dict.fromkeys(numbers)]
    lines = said([*trouble, *over, *trouble])
    assert ["warning", "info", "warning"] == [line["log_level"] for line in lines]


def test_what_succeeds_at_the_second_try_is_not_worth_a_line() -> None:
    assert [] == said([Failed(intent=write(1), message="409"), Applied(write(1))] * 3)


def test_trouble_with_one_kind_of_write_does_not_hide_that_with_another() -> None:
    usage = SetPoolUsage(pool="p", assigned_ipv4=0, assigned_ipv6=1, available_ipv4=0, available_ipv6=9)
    lines = said([Failed(intent=intent, message="may not") for intent in (write(1), write(1), usage, usage)])
    assert 2 == len(lines)


def test_what_is_given_up_is_told_each_time_and_what_another_leader_writes_is_forgotten() -> None:
    final = Failed(intent=write(1), message="is bad", retry=False)
    assert 2 == len(said([final, final]))
    again = Failed(intent=write(1), message="may not")
    assert 2 == len(said([again, again, LeadershipSeen(False, "lost"), again, again]))

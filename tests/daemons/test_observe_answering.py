"""What a speaker says of addresses: who announces says so, and that it lets go; who is only next says nothing."""

from __future__ import annotations

from typing import Any

import structlog
from structlog.testing import capture_logs

from lbcore.addresses import Address
from lbcore.daemons.observe import log_observer
from lbcore.intents import Announce, Intent, StandBy, Withdraw

ADDRESS = Address.parse("2001:db8::20")
TAKE, LEAVE, NEXT = Announce(address=ADDRESS), Withdraw(address=ADDRESS), StandBy(address=ADDRESS, member="n2")


def said(*intents: Intent) -> list[Any]:
    with capture_logs() as lines:
        observe = log_observer(structlog.get_logger())
        for intent in intents:
            observe(None, (intent,))
    return [line["event"] for line in lines if line["log_level"] != "debug"]


def test_who_announces_says_so_and_that_it_lets_go() -> None:
    assert ["announcing", "withdrawing"] == said(TAKE, LEAVE)
    assert ["announcing", "withdrawing"] == said(NEXT, TAKE, LEAVE)
    assert ["announcing", "withdrawing", "announcing"] == said(TAKE, NEXT, TAKE)


def test_who_is_only_next_for_an_address_and_is_it_no_longer_says_nothing() -> None:
    assert [] == said(NEXT, LEAVE, NEXT, NEXT, LEAVE)
    assert ["announcing", "withdrawing"] == said(TAKE, NEXT, LEAVE)


def test_what_was_announced_by_an_earlier_process_is_let_go_of_aloud() -> None:
    assert ["withdrawing"] == said(LEAVE)

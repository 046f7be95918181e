"""The demo's chapter of faults: nodes stop, are cut off, lose power, and the client's silence is measured."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from lbcore.addresses import Address
from lbcore.lab.demo.stage import Stage

__all__ = ["Takeover", "faults"]


@frozen
class Takeover:
    """What happened, who announced before and after, and the longest time between two answers, in seconds."""

    what: str
    before: str
    after: str
    silence: float

    @property
    def row(self) -> list[str]:
        """As a line of the table."""
        return [self.what, self.before, self.after, f"{self.silence * 1000:.0f} ms"]


def faults(stage: Stage) -> None:
    """Take the announcing node away in three ways, and give it back."""
    (address,) = stage.lab.addresses("nginx-service")
    stage.screen.say(
        f"The client asks {address} for a page every 10 ms, each time with a new connection, and whoever announces the "
        "address is taken away. What counts is the longest time between two answers."
    )
    stage.fetch(address)
    rows = _takeovers(stage, address)
    stage.screen.table(["WHAT HAPPENED", "BEFORE", "AFTER", "WITHOUT AN ANSWER"], [each.row for each in rows])
    stage.screen.say(
        "A speaker that is stopped keeps answering until its successor is heard. One whose link is down takes its "
        "sign of life out of the folder that all share. One without power says nothing: the others miss its signs of "
        "life, ten a second. The successor announces itself (gratuitous ARP), and clients follow at once."
    )
    worst = max(rows, key=lambda each: each.silence)
    stage.found("the announcing node is lost", f"longest without an answer: {worst.row[-1]} ({worst.what})")


def _takeovers(stage: Stage, address: Address) -> list[Takeover]:
    lab = stage.lab
    first = stage.announcer(address)  # of all nodes the one that ranks first, so it has the address whenever it can

    def they_return() -> None:
        lab.heal(second)
        stage.start_speaker(first)

    def power_returns() -> None:
        lab.heal(first)
        stage.start_speaker(first)

    rows = [_measure(stage, address, f"the speaker of {first} is stopped cleanly", lambda: stage.stop_speaker(first))]
    second = rows[-1].after
    rows.append(_measure(stage, address, f"the cable of {second} is pulled", lambda: lab.cut(second)))
    # Both come back before the next fault, so that there is somebody left to take over.
    rows.append(_measure(stage, address, f"{first} and {second} are back", they_return, until=first))
    rows.append(_measure(stage, address, f"{first} loses its power", lambda: stage.lose(first)))
    rows.append(_measure(stage, address, f"{first} has power again", power_returns, until=first))
    return rows


def _measure(
    stage: Stage, address: Address, what: str, act: Callable[[], None], *, until: str | None = None
) -> Takeover:
    """Do something to the nodes and wait until the client has another node for the address, or this one."""
    before = stage.announcer(address)
    after = before

    def during() -> None:
        nonlocal after
        act()
        after = stage.announcer(address, other_than=before) if until is None else stage.announced_by(until, address)

    with stage.screen.step(what) as results:
        silence = stage.lab.outage(address, during)
        results.append(f"from {before} to {after}, {silence * 1000:.0f} ms without an answer")
    return Takeover(what, before, after, silence)

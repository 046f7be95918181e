"""The demo's chapter of faults: a node stops, is cut off, loses power; the client's silence is measured, and who took
over is told with what the speakers said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from attrs import frozen

from lbcore.adapters.detector.times import FAST
from lbcore.addresses import Address
from lbcore.lab.demo.chapters import FIRST
from lbcore.lab.demo.stage import Stage

__all__ = ["Takeover", "faults"]

_FIELD = re.compile(r" (names|ip)=(\S*)")


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
    """Take the announcing node away in three ways, and give it back each time."""
    (address,) = stage.lab.addresses(FIRST)
    stage.screen.say(
        f"The client asks {address} for a page every 10 ms, each time with a new connection, and the node that "
        "announces the address is taken away. What counts is the longest time between two answers."
    )
    stage.screen.say(
        f"The speakers know each other by gossip. Beside it each tells its neighbours {1 / FAST.interval:.0f} times a "
        f"second that it lives: who is silent for {FAST.expiry} s is accused, and dead when most of those that listen "
        "to it agree."
    )
    stage.fetch(address)
    rows = _takeovers(stage, address)
    stage.screen.table(["WHAT HAPPENED", "BEFORE", "AFTER", "WITHOUT AN ANSWER"], [each.row for each in rows])
    stage.screen.say(
        "Who takes over tells the segment (gratuitous ARP), and clients follow at once. A speaker that is stopped goes "
        "on answering until its successor is heard; so does whoever stood in for a node that is back. docs/failover.md "
        "has a picture, and what is promised when the network falls apart."
    )
    worst = max(rows, key=lambda each: each.silence)
    stage.found("the announcing node is lost", f"longest without an answer: {worst.row[-1]} ({worst.what})")


def _takeovers(stage: Stage, address: Address) -> list[Takeover]:
    lab, order = stage.lab, _ranking(stage, address)
    # Of all nodes the one that ranks first, so it has the address whenever it can. Before each fault all are there.
    first = stage.announced_by(order[0], address)

    def stop() -> None:
        stage.stop_speaker(first)

    def start() -> None:
        stage.start_speaker(first)

    moments: list[datetime] = []

    def cut() -> None:
        moments.append(datetime.now(UTC))
        lab.cut_silently(first)

    def power_returns() -> None:
        lab.heal(first)
        start()

    rows = [_measure(stage, address, f"the speaker of {first} is stopped", stop)]
    rows.append(_measure(stage, address, f"the speaker of {first} is started again", start, until=first))
    rows.append(_measure(stage, address, f"{first} is cut off", cut))
    _tell_why(stage, address, rows[-1], moments[0], order)
    rows.append(_measure(stage, address, f"{first} is reached again", lambda: lab.heal(first), until=first))
    rows.append(_measure(stage, address, f"{first} loses its power", lambda: stage.lose(first)))
    rows.append(_measure(stage, address, f"{first} has power again", power_returns, until=first))
    return rows


def _ranking(stage: Stage, address: Address) -> list[str]:
    """The nodes in the order in which they are to announce an address, as `lbcore explain` tells it."""
    known = json.loads(stage.lbcore("explain", FIRST, "-o", "json", show=False))
    return [each["node"] for each in known["announcers"][str(address)]]


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


def _tell_why(stage: Stage, address: Address, fault: Takeover, since: datetime, order: list[str]) -> None:
    """Who knew what, and when, after a node was cut off: lines of the speakers' logs."""

    def lets_go() -> bool:
        return any(text.startswith("withdrawing") for _, text in _said(stage, fault.before, address, since))

    with stage.screen.step(f"{fault.before} finds out by itself, and lets go of {address}"):
        stage.wait(lets_go, f"{fault.before} to withdraw {address}")
    lines = [(moment, node, text) for node in stage.lab.nodes for moment, text in _said(stage, node, address, since)]
    rows = [[f"{(moment - since).total_seconds() * 1000:+.0f} ms", node, text] for moment, node, text in sorted(lines)]
    stage.screen.say(
        f"The switch drops {fault.before}'s frames; its link stays up, so nobody is told. From the speakers' logs:"
    )
    stage.screen.table(["AFTER THE CUT", "SPEAKER", "ITS LOG"], rows)
    place = order.index(fault.after) + 1
    stage.screen.say(
        f"Of those that are left {fault.after} ranks first: `lbcore explain` had it as number {place} of {len(order)}. "
        f"{fault.before} hears no other speaker, and its gateway answers no ping: it takes itself for cut off."
    )


def _said(stage: Stage, node: str, address: Address, since: datetime) -> Iterator[tuple[datetime, str]]:
    """When a speaker told of other members, or that it announces or withdraws the address."""
    for line in stage.log_of(node):
        start, _, rest = line.partition(" ")
        event = rest.partition("] ")[2]
        if not event.startswith(("members ", "announcing ", "withdrawing ")):
            continue
        fields = dict(_FIELD.findall(event))
        moment = datetime.fromisoformat(start)
        if moment >= since and fields.get("ip", str(address)) == str(address):
            yield moment, f"{event.split()[0]} {fields.get('names', fields.get('ip', ''))}"

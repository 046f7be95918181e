"""The network parted in two, for `failover`: how long the client's half waits, and who answers where."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from attrs import frozen

from benchmarks.contestants import Contestant
from benchmarks.listening import answerers
from benchmarks.report import Row

__all__ = ["Halves", "part", "rows_of_halves"]

_AGREED = 3  # times in a row that one alone answers, and the halves count as one again


@frozen
class Halves:
    """Milliseconds without a page at the client, who answered in its half and in the other, and until one answered."""

    waited: float
    here: frozenset[str]
    there: frozenset[str]
    both: float


def part(one: Contestant) -> Halves:
    """Who answers and one more node on one side, the third node and the client (who is the gateway) on the other."""
    lab, node = one.lab, one.announcer()
    other = next(name for name in lab.nodes if name != node)
    macs = {station.mac: name for name, station in lab.nodes.items()}
    try:
        waited = lab.outage(one.address, lambda: lab.part(node, other), interval=0.005, settle=0.4, limit=60)
        time.sleep(1.0)
        here = answerers(lab.client, one.address, 0.2)
        # Both are asked, for nobody answers himself: an address that has moved to who asks would seem to be nobody's.
        there = set[str]().union(*(answerers(lab.nodes[each], one.address, 0.2) for each in (node, other)))
    finally:
        began = time.monotonic()
        lab.heal(node)
        lab.heal(other)
    agreed, both = 0, 0.0
    while agreed < _AGREED and time.monotonic() - began < 30:
        now = time.monotonic()
        if len(answerers(lab.client, one.address)) == 1:
            agreed += 1
        else:
            agreed, both = 0, now - began
    time.sleep(one.back)
    names = [frozenset({"nobody"} if not each else {macs.get(mac, mac) for mac in each}) for each in (here, there)]
    roles = {node: "the one before", other: "its neighbour", "nobody": "nobody"}
    told = [frozenset(roles.get(name, "the third") for name in each) for each in names]
    return Halves(waited * 1000, told[0], told[1], both * 1000)


def rows_of_halves(what: str, found: Sequence[Halves]) -> list[Row]:
    """The client's wait, and who answered in which half."""
    waited, both = [seen.waited for seen in found], [seen.both for seen in found]
    note = f"{len(found)} times; answered by {_told([seen.here for seen in found])}"
    there = f"in the other half: {_told([seen.there for seen in found])}"
    return [
        Row(what=f"{what}, the half without who answered, median", figure=median(waited), unit="ms", note=note),
        Row(what=f"{what}, the same, worst", figure=max(waited), unit="ms", note=there),
        Row(what=f"{what}, healed, until one answers", figure=median(both), unit="ms", note=f"worst {max(both):,.0f}"),
    ]


def _told(found: Sequence[frozenset[str]]) -> str:
    each = sorted({" and ".join(sorted(names)) for names in found})
    return "; ".join(f"{names} ({sum(' and '.join(sorted(one)) == names for one in found)})" for names in each)

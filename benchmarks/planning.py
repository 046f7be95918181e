"""`lbcore plan` of two states, the second with an edited pool: does ten times the Services cost ten times the time?

Measured is all that the command does but printing: reading both folders, and both brains until all
is settled, in processor time. With routers there is a route for each Service, node and router to be planned.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from attrs import frozen

from benchmarks import clusters
from benchmarks.report import Row, progress
from lbcore.daemons.planning import Change, World, plan
from lbcore.daemons.snapshot import list_folder

__all__ = ["NAME", "run"]

NAME = "plan of an edit: two states, every Service with an EndpointSlice"
SIZES = {2_000: 5, 20_000: 2}  # and how often each is measured
ROUTED = {200: 3, 2_000: 1}
LARGE, LARGE_NODES = 5_000, 100  # once: 2,000,000 routes in each state
_NODES, _ROUTED_NODES, _ROUTERS = 10, 20, 4
_MOVED = 64  # the edit takes so many IPv4 addresses out of the pool


@frozen
class _Cost:
    """Seconds of processor time."""

    reading: float
    planning: float

    @property
    def total(self) -> float:
        return self.reading + self.planning


def run() -> list[Row]:
    """Both sizes, and what one is to the other; without routers and with some, and then a cluster of many routes."""
    plain = _rows(f" on {_NODES} nodes", _costs(SIZES, clusters.ADVERTISEMENT, _NODES))
    routed = _costs(ROUTED, _ROUTED, _ROUTED_NODES)
    return [*plain, *_rows(_told_by(_ROUTED_NODES), routed), *_large(max(ROUTED), routed[max(ROUTED)])]


def _costs(sizes: Mapping[int, int], advertised: str, nodes: int) -> dict[int, _Cost]:
    return {size: _median([_measure(size, advertised, nodes) for _ in range(rounds)]) for size, rounds in sizes.items()}


def _rows(about: str, costs: Mapping[int, _Cost]) -> list[Row]:
    small, large = costs.values()
    ratio = large.total / small.total
    note = f"planning alone {large.planning / small.planning:.1f} times"
    what = f"ten times the Services{about}"
    return [
        *(_row(size, about, cost) for size, cost in costs.items()),
        Row(what=what, figure=ratio, unit="times", at_most=12, note=note),
    ]


def _row(size: int, about: str, cost: _Cost) -> Row:
    note = f"reading {cost.reading:.2f} s, planning {cost.planning:.2f} s"
    return Row(what=f"{size:,} Services{about}", figure=cost.total, unit="s", note=note)


def _large(size: int, cost: _Cost) -> list[Row]:
    """More Services and more nodes, beside a cluster of fewer: does a route cost the same?"""
    large = _measure(LARGE, _ROUTED, LARGE_NODES)
    times = LARGE * LARGE_NODES / (size * _ROUTED_NODES)
    what = f"{times:g} times the routes, planning alone"
    ratio = Row(what=what, figure=large.planning / cost.planning, unit="times", at_most=1.2 * times)
    return [_row(LARGE, _told_by(LARGE_NODES), large), ratio]


def _told_by(nodes: int) -> str:
    return f" told to {_ROUTERS} routers by {nodes} nodes"


_BGP = """\
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata:
  name: everything
  namespace: metallb-system
"""


def _router_text(number: int) -> str:
    return f"""\
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata:
  name: router-{number}
  namespace: metallb-system
spec:
  myASN: 64513
  peerASN: 64512
  peerAddress: 192.0.2.{number + 1}
  dualStackAddressFamily: true
"""


_ROUTED = _BGP + "".join(map(_router_text, range(_ROUTERS)))


def _median(costs: list[_Cost]) -> _Cost:
    return _Cost(median(each.reading for each in costs), median(each.planning for each in costs))


def _measure(size: int, advertised: str, nodes: int) -> _Cost:
    progress(f"{size:,} Services")
    with tempfile.TemporaryDirectory() as place:
        before, after = Path(place, "before"), Path(place, "after")
        first = clusters.address_of(2 * _MOVED)
        config = clusters.CONFIG.replace("10.0.0.0/8", f"{first}-10.255.255.255")
        _write(before, size, clusters.CONFIG + advertised, nodes)
        _write(after, size, config + advertised, nodes)
        begin = time.process_time()
        worlds = [World.of(asyncio.run(list_folder(folder))) for folder in (before, after)]
        read = time.process_time()
        found = plan(worlds)
        cost = _Cost(read - begin, time.process_time() - read)
    changes = [service.change for service in found.services]
    assert len(changes) == size, f"planned {len(changes)} of {size} Services"
    assert Change.MOVE in changes, "the edit moved nobody"
    return cost


def _write(folder: Path, size: int, config: str, count: int) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    nodes = [f"node-{number}" for number in range(count)]
    clusters.write_documents(folder, "nodes", (clusters.node_text(node) for node in nodes))
    clusters.write_documents(folder, "services", clusters.service_texts(range(size)))
    clusters.write_documents(folder, "slices", clusters.slice_texts(range(size), nodes[0]))

"""From the detector's verdict to the frames of a take-over: 1,000 addresses of both families, from a node that was cut.

Two nodes and a client, who is their gateway; real speakers that read a folder. The first node is elected for all
addresses and is cut off silently. What the second one sends is stamped by the kernel at its own port of the switch:
the vote by which it accuses the first, which is the verdict where there is no other observer, and the frames that
tell the segment of each address. The last of the first round is the last of those that tell an address first.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from attrs import frozen

from benchmarks import clusters
from benchmarks.listening import ALL, ARP, IPV6, Ear, claim_of
from benchmarks.report import Row, progress
from benchmarks.wire import log_of
from lbcore.adapters.detector.messages import Vote, decode
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import User
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.errors import RemoteProtocolError
from lbcore.lab import LabUnavailable
from lbcore.lab.network import Network, Plan

__all__ = ["NAME", "run"]

NAME = "takeover (time that passes): from the verdict on a node that was cut to the frames of its successor"
ADDRESSES = int(os.environ.get("LBCORE_BENCH_TAKEOVER", "1000"))
ROUNDS = 7
FIRST, SECOND = "n1", "n2"
_PATIENCE = 60.0
_AIM_FIRST, _AIM_LAST = 2.0, 50.0  # ms
_UDP = 14 + 20 + 8  # where the payload of a datagram begins


@frozen
class Taken:
    """Milliseconds from the verdict to the first frame, and to the last of the first round."""

    first: float
    last: float


class Cluster:
    """The two nodes, their speakers, and what the second one says."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self.directory = directory
        self.folder = directory / "cluster"
        mine = (number for number in itertools.count() if elect((FIRST, SECOND), clusters.address_of(number)) == FIRST)
        by_version: dict[int, list[int]] = {4: [], 6: []}
        while any(len(each) < ADDRESSES // 2 for each in by_version.values()):
            number = next(mine)
            chosen = by_version[clusters.address_of(number).version]
            if len(chosen) < ADDRESSES // 2:
                chosen.append(number)
        numbers = sorted(itertools.chain(*by_version.values()))
        self.addresses = frozenset(map(clusters.address_of, numbers))
        self._write(numbers)
        self._ear = Ear(network.switch, ALL, link=f"port-{SECOND}")
        self._witness = {kind: Ear(network.client.namespace, kind) for kind in (ARP, IPV6)}

    def _write(self, numbers: list[int]) -> None:
        self.folder.mkdir()
        (self.folder / "config.yaml").write_text(clusters.CONFIG + clusters.ADVERTISEMENT, encoding="utf-8")
        nodes = "---\n".join(map(clusters.node_text, self.network.nodes))
        (self.folder / "nodes.yaml").write_text(nodes, encoding="utf-8")
        one_by_one = [range(number, number + 1) for number in numbers]
        services = itertools.chain.from_iterable(map(clusters.service_texts, one_by_one))
        slices = itertools.chain.from_iterable(clusters.slice_texts(each, SECOND) for each in one_by_one)
        clusters.write_documents(self.folder, "services", services)
        clusters.write_documents(self.folder, "slices", slices)
        for each in one_by_one:
            clusters.write_statuses(self.folder, each)

    def start(self, node: str) -> None:
        """A speaker, which finds the other by its address."""
        station = self.network.nodes[node]
        peers = [part for each in self.network.nodes.values() for part in ("--peer", str(each.address(4)))]
        run = self.directory / node
        run.mkdir(exist_ok=True)
        argv = [sys.executable, "-m", "lbcore.cli.main", "speaker", "--cluster", str(self.folder), "--node", node]
        argv += ["--runtime-dir", str(run), "--bind-address", str(station.address(4)), *peers]
        with log_of(self.directory / f"speaker-{node}").open("ab") as log:
            station.namespace.spawn(argv, stdout=subprocess.DEVNULL, stderr=log)

    def wait_for_claims(self, node: str) -> None:
        """Until a node has told the segment of all addresses, and who had them has let go."""
        mac, left = self.network.nodes[node].mac, set(self.addresses)
        end = time.monotonic() + _PATIENCE
        while left:
            for ear in self._witness.values():
                left -= {each.address for each in ear.claims() if each.mac == mac}
            if time.monotonic() > end:
                raise RuntimeError(f"{node} does not announce {len(left)} addresses")
            time.sleep(0.05)
        time.sleep(6.0)  # repeated for 4.8 s

    def cut(self) -> Taken:
        """Cut the first node off, see the second take over, and bring the first one back."""
        for ear in (self._ear, *self._witness.values()):
            for _ in ear.frames():
                pass
        self.network.cut_silently(FIRST)
        time.sleep(3.0)
        mac, told, votes = self.network.nodes[SECOND].mac, dict[Address, float](), list[float]()
        for at, frame in self._ear.frames():
            claim = claim_of(frame, at)
            if claim is not None and claim.mac == mac and claim.address in self.addresses:
                told.setdefault(claim.address, at)
            elif _accuses(frame, FIRST):
                votes.append(at)
        if len(told) < len(self.addresses) or not votes:
            raise RuntimeError(f"{len(told)} addresses were taken over after {len(votes)} votes")
        first = min(told.values())
        verdict = max(at for at in votes if at <= first)
        self._bring_back()
        return Taken((first - verdict) * 1000, (max(told.values()) - verdict) * 1000)

    def _bring_back(self) -> None:
        """As somebody new: who is cut off again and again is no candidate for longer and longer."""
        station = self.network.nodes[FIRST]
        station.namespace.signal_all(signal.SIGKILL)
        station.namespace.reap()
        self.network.heal(FIRST)
        self.start(FIRST)
        self.wait_for_claims(FIRST)


def _accuses(frame: bytes, subject: str) -> bool:
    """Whether a frame has a vote that holds somebody for dead."""
    try:
        messages = Envelope().unwrap(frame[_UDP:])
        votes = [decode(message.data) for message in messages if isinstance(message, User)]
    except RemoteProtocolError:
        return False
    return any(isinstance(vote, Vote) and vote.accuses and vote.subject == subject for vote in votes)


def measured(rounds: int, report: Callable[[Taken], None] = lambda _: None) -> list[Taken]:
    """So many take-overs."""
    plan = Plan.parse(2, "192.168.20.0/24", "fd00:20::/64")
    with tempfile.TemporaryDirectory(prefix="lbcore-bench-") as name, Network(plan) as network:
        cluster = Cluster(network, Path(name))
        progress(f"two speakers, of which one announces {ADDRESSES:,} addresses")
        cluster.start(FIRST)
        cluster.start(SECOND)
        cluster.wait_for_claims(FIRST)
        found = []
        for number in range(rounds):
            progress(f"cut {number + 1} of {rounds}")
            found.append(cluster.cut())
            report(found[-1])
        return found


def run() -> list[Row]:
    """Cut after cut."""
    try:
        found = measured(ROUNDS)
    except LabUnavailable as why:
        progress(f"left out: {why}")
        return []
    first, last = [each.first for each in found], [each.last for each in found]
    what = f"{ADDRESSES:,} addresses taken over: from the verdict to the"
    return [
        Row(what=f"{what} first frame, median", figure=median(first), unit="ms", at_most=_AIM_FIRST,
            note=f"worst {max(first):.1f} of {len(first)}"),
        Row(what=f"{what} last of the first round, median", figure=median(last), unit="ms", at_most=_AIM_LAST,
            note=f"worst {max(last):.0f}"),
    ]  # fmt: skip


if __name__ == "__main__":
    measured(int(sys.argv[1]) if len(sys.argv) > 1 else 3, lambda taken: progress(str(taken)))

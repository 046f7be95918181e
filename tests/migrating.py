"""A cluster whose speakers are replaced one by one, MetalLB's by ours and back, under requests; what a client sees.

Used by the test of migration and by its benchmark. Addresses are of both families, pages come from the node that
announces (`externalTrafficPolicy: Local`), and requests go to all addresses in turn.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

from attrs import define, frozen

from answerers import Answerers
from fleet import advertisement, deployment, pool, service, who_answers
from kubefleet import (
    METALLB_LABELS,
    SYSTEM,
    KubeFleet,
    install_crds,
    start_metallb,
    start_metallb_controller,
    start_metallb_speaker,
)
from lbcore.addresses import Address
from lbcore.election import elect
from lbcore.lab import probe
from lbcore.lab.controlplane import Daemon
from lbcore.lab.errors import LabError
from lbcore.lab.kubernetes import KubernetesLab
from lbcore.lab.namespaces import Namespace
from lbcore.lab.segment import Program

__all__ = ["Migrating", "Seen", "migrating"]

RATE = 200  # requests a second, to all addresses together
_PATIENCE = 0.5  # seconds after which a request counts as lost
_LABELS = ",".join(f"{name}={value}" for name, value in METALLB_LABELS.items())


@frozen(kw_only=True)
class Seen:
    """What a client has seen: `sent` requests and how many were `lost`; the longest time without an answer of one
    address; and of all addresses together the seconds in which two nodes answered on the wire, and the longest run.
    """

    sent: int
    lost: int
    silence: float
    doubled: float
    longest: float


class _Requests:
    """Requests to one address, as long as they are wanted."""

    def __init__(self, client: Namespace, address: Address, interval: float) -> None:
        argv = [sys.executable, "-I", "-S", probe.__file__, str(address), "80", str(interval), str(_PATIENCE)]
        self._process = client.spawn(argv, stdout=subprocess.PIPE)
        self._lines: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines += self._process.stdout

    def end(self) -> tuple[int, int, float]:
        """How many were sent, how many of them lost, and the longest time without an answer."""
        time.sleep(_PATIENCE)
        self._process.kill()
        self._process.wait()
        self._thread.join()
        sent = [line.split() for line in self._lines if line.endswith(b"\n")]
        answered = sorted(float(each[1]) for each in sent if each[2] == b"1")
        gaps = [later - earlier for earlier, later in pairwise(answered)]
        return len(sent), len(sent) - len(answered), max(gaps, default=float("inf"))


@define
class Migrating:
    """The cluster: who speaks on each node, and each Service's addresses."""

    fleet: KubeFleet
    services: tuple[tuple[Address, ...], ...]
    speakers: dict[str, Daemon | Program]
    controller: Daemon | Program

    @property
    def lab(self) -> KubernetesLab:
        return self.fleet.lab

    @property
    def elected(self) -> dict[Address, str | None]:
        """Who is to announce, by MetalLB's own rule: all addresses of a Service where its first one is."""
        nodes = frozenset(self.lab.nodes)
        return {address: elect(nodes, each[0]) for each in self.services for address in each}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All that are served."""
        return tuple(address for each in self.services for address in each)

    @property
    def announcers(self) -> dict[Address, str | None]:
        """Who does, as everybody on the segment would hear."""
        client, found = self.lab.client, dict[Address, str | None]()
        for address in self.addresses:
            nodes = {self.lab.node_of(mac) for mac in client.namespace.call(who_answers, client, address)}
            found[address] = nodes.pop() if len(nodes) == 1 else None
        return found

    def settled(self) -> None:
        """Return when every address is announced by whom it is to be."""
        self.lab.wait_until(lambda: self.announcers == self.elected, "every address on its node", 120)
        time.sleep(1.0)  # for a node that announces nothing, and joins unseen

    def metallb(self, node: str) -> None:
        """Put MetalLB's speaker on a node."""
        self._end(node)
        self.speakers[node] = start_metallb_speaker(self.lab, node)
        self.settled()

    def lbcore(self, node: str) -> None:
        """Put ours there, as the chart starts it; it finds the others by the labels of their Pods."""
        self._end(node)
        address, secret = str(self.lab.nodes[node].addresses[0]), str(self.lab.directory / "memberlist")
        gossip = ("--bind-address", address, "--secret", secret, "--ml-labels", _LABELS)
        self.speakers[node] = self.lab.start_speaker(node, None, *gossip)
        self.settled()

    def hand_over_to_our_controller(self) -> None:
        """MetalLB's controller goes, ours comes."""
        self.controller.stop()
        self.lab.kubectl("delete", "pod", "controller-0", "-n", SYSTEM, "--grace-period=0", "--force")
        self.controller = self.lab.start_controller(None, "--ml-secret-name", "memberlist")

    def hand_back(self) -> None:
        """Ours goes, MetalLB's comes."""
        self.controller.stop()
        self.controller = start_metallb_controller(self.lab.api)

    def _end(self, node: str) -> None:
        before = self.speakers.pop(node, None)
        if before is not None:
            before.stop()

    def seen(self, during: Callable[[], object]) -> Seen:
        """What a client sees while something happens."""
        client, count = self.lab.client.namespace, len(self.addresses)
        wire = Answerers(client, self.addresses)
        requests = [_Requests(client, address, count / RATE) for address in self.addresses]
        time.sleep(0.5)
        during()
        results = [each.end() for each in requests]
        rounds = wire.end().values()
        return Seen(
            sent=sum(sent for sent, _, _ in results),
            lost=sum(lost for _, lost, _ in results),
            silence=max(silence for _, _, silence in results),
            doubled=sum(each["doubled"] for each in rounds),
            longest=max(each["longest"] for each in rounds),
        )

    def roll(self, put: Callable[[str], None]) -> Seen:
        """One node after the other gets another speaker."""

        def all_nodes() -> None:
            for node in self.lab.nodes:
                put(node)

        return self.seen(all_nodes)


@contextmanager
def migrating(services: int = 2) -> Iterator[Migrating]:
    """Three nodes with MetalLB's programs, and dual-stack Services with a pod on each node."""
    with KubernetesLab(3) as lab:
        fleet = KubeFleet(lab)
        install_crds(lab.api)
        started = start_metallb(lab)
        text = pool("first", "192.168.20.20-192.168.20.59", "fd00:20::100-fd00:20::13f") + advertisement()
        lab.wait_until(lambda: _applied(lab, text + deployment()), "the pool to be taken", 60)
        given: list[tuple[Address, ...]] = []
        for number in range(services):
            name = f"web-{number}"
            fleet.apply(service(name, externalTrafficPolicy="Local", ipFamilyPolicy="RequireDualStack"))
            given.append(fleet.wait(partial(_both, fleet, name), f"both addresses of {name}"))
        speakers = {node: started[node] for node in lab.nodes}
        found = Migrating(fleet, tuple(given), dict(speakers), started["controller"])
        found.settled()
        yield found


def _both(fleet: KubeFleet, name: str) -> tuple[Address, ...]:
    found = fleet.addresses(name)
    return found if len(found) == 2 else ()


def _applied(lab: KubernetesLab, text: str) -> bool:
    try:
        lab.kubectl("apply", "-f", "-", text=text)
    except LabError:
        return False
    return True

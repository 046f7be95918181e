"""The lab's control plane and node agents in one thread: kubelet, slice controller and kube-proxy.

It looks at the folder 20 times a second, works out what should be (`lbcore.lab.workloads`) and
brings pods, slices and forwarding there. It never touches an address of a Service itself.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from immutables import Map

from lbcore.addresses import Address
from lbcore.errors import LbcoreError, ManifestError
from lbcore.lab.manifests import Document, Folder, ObjectKey, ServiceWish, Workload
from lbcore.lab.network import Network, Station
from lbcore.lab.pods import Pod, PodPlan
from lbcore.lab.proxy import install, render
from lbcore.lab.workloads import PodStatus, forwardings, node_document, plan_pods, slice_documents
from lbcore.model import ServiceKey

__all__ = ["ControlPlane"]

T = TypeVar("T")

_PERIOD = 0.05  # seconds between two looks at the folder
_HURRY = 0.005  # the same while a pod is starting
_REST = 4  # and at least so many times as long as a look takes, in a folder with very many objects
_RESTART_AFTER = 1.0  # seconds that a pod must have run or waited before it is started again


class ControlPlane:
    """What keeps the folder and the nodes in step.

    `grace` is how long, in seconds, a node may be silent until its pods count as not ready
    (Kubernetes: 50 s, `--node-monitor-grace-period`).
    """

    def __init__(self, network: Network, folder: Folder, pods_folder: Path, grace: float) -> None:
        self._network = network
        self._folder = folder
        self._pods_folder = pods_folder
        self._grace = grace
        self._pods: dict[tuple[str, str], Pod] = {}
        self._ready: set[tuple[str, str]] = set()
        self._started: dict[tuple[str, str], float] = {}
        self._silent_since: dict[str, float] = {}
        self._written: dict[ObjectKey, Document] = {}
        self._installed: dict[str, str] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._failed: BaseException | None = None
        self.notes: list[str] = []
        # What others read is replaced as a whole at the end of each look.
        self.pods: tuple[PodStatus, ...] = ()  # as the slices have them
        self.forwarded: Map[ServiceKey, tuple[Address, ...]] = Map()  # by every node that is reachable
        self._seen: object = None
        self._begun = self._ended = 0
        self._write_nodes()
        self._thread = threading.Thread(target=self._run, name="lab control plane", daemon=True)

    def start(self) -> None:
        """Begin to look after the cluster."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; pods end with their namespaces. The manifests that it wrote are removed."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for key in self._written:
            self._folder.remove(key)

    def nudge(self) -> None:
        """Look at once."""
        self._wake.set()

    def next_look(self) -> Callable[[], bool]:
        """A question that becomes true when a look that begins from now on has ended."""
        number = self._begun + 1
        self.nudge()
        return lambda: self._ended >= number

    def check(self) -> None:
        """Raise what has ended the thread, if anything has: a bug."""
        if self._failed is not None:
            raise self._failed

    def set_labels(self, node: str, labels: Mapping[str, str]) -> None:
        """Give a Node object these labels beside its standard ones."""
        self._labels[self._network.station(node).name] = dict(labels)
        self.nudge()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                self._begun += 1
                start = time.monotonic()
                self._note_errors(self._look)
                took = time.monotonic() - start
                self._ended = self._begun
                period = _HURRY if any(not pod.ready for pod in self.pods) else _PERIOD
                self._wake.wait(max(period, took * _REST))
        except BaseException as error:  # `check` raises it where somebody sees it
            self._failed = error

    def _look(self) -> None:
        objects = self._folder.objects()
        for problem in self._folder.problems.values():
            self._note(str(problem))
        pods = self._run_pods(self._read(objects, "Deployment", Workload.read))
        services = self._read(objects, "Service", ServiceWish.read)
        self._write_nodes()
        self._write_slices(services, pods)
        self.pods = pods
        self._forward()

    def _read(self, objects: Mapping[ObjectKey, Document], kind: str, read: Callable[[Document], T]) -> list[T]:
        found = []
        for key, document in objects.items():
            if key.kind == kind:
                try:
                    found.append(read(document))
                except ManifestError as error:
                    self._note(str(error))
        return found

    def _live(self, station: Station) -> bool:
        """Whether the control plane still counts on a node."""
        if station.reachable:
            self._silent_since.pop(station.name, None)
            return True
        since = self._silent_since.setdefault(station.name, time.monotonic())
        return time.monotonic() - since < self._grace

    def _run_pods(self, workloads: Iterable[Workload]) -> tuple[PodStatus, ...]:
        nodes = list(self._network.nodes.values())
        plans = plan_pods(workloads, {key: pod.plan for key, pod in self._pods.items()}, nodes)
        for key in [key for key, pod in self._pods.items() if plans.get(key) != pod.plan]:
            self._ready.discard(key)
            self._pods.pop(key).stop()
        for key, plan in plans.items():
            if self._network.nodes[plan.node].reachable:  # a kubelet that is not heard from does nothing new
                self._run_pod(key, plan)
        return tuple(
            PodStatus(plan, key in self._ready and self._live(self._network.nodes[plan.node]))
            for key, plan in plans.items()
        )

    def _run_pod(self, key: tuple[str, str], plan: PodPlan) -> None:
        now = time.monotonic()
        if key not in self._pods:
            self._started[key] = now
            station = self._network.nodes[plan.node]
            self._pods[key] = Pod(plan, station, self._pods_folder / f"{plan.namespace}_{plan.name}")
        elif not self._pods[key].running:
            self._ready.discard(key)
            if now - self._started[key] >= _RESTART_AFTER:
                words = self._pods[key].last_words()
                self._note(f"pod {plan.name} on {plan.node} had ended and starts again" + f": {words}" * bool(words))
                self._started[key] = now
                self._pods[key].restart()
        elif key not in self._ready and self._pods[key].ready():
            self._ready.add(key)

    def _write_nodes(self) -> None:
        for station in self._network.nodes.values():
            labels = self._labels.get(station.name, {})
            self._write(node_document(station, labels, ready=self._live(station)))

    def _write_slices(self, services: Iterable[ServiceWish], pods: Iterable[PodStatus]) -> None:
        wanted = [document for service in services for document in slice_documents(service, pods)]
        for document in wanted:
            self._write(document)
        keep = {ObjectKey.of(document) for document in wanted}
        for key in [key for key in self._written if key.kind == "EndpointSlice" and key not in keep]:
            del self._written[key]
            self._folder.remove(key)

    def _write(self, document: Document) -> None:
        key = ObjectKey.of(document)
        if self._written.get(key) != document:
            self._folder.write(key, yaml.safe_dump(document, sort_keys=False))
            self._written[key] = document

    def _forward(self) -> None:
        # The Services, slices and addresses of one moment: a Service that came during this look must not be
        # remembered as forwarded when it was not.
        # A node that is cut off has a kube-proxy that does not hear of changes either.
        objects, addresses = self._folder.objects(), self._folder.addresses()
        stations = [station for station in self._network.nodes.values() if station.reachable]
        seen = (objects, addresses, stations)
        if seen == self._seen:
            return
        wanted = forwardings(self._read(objects, "Service", ServiceWish.read), objects, addresses)
        for station in stations:
            ruleset = render(wanted, station.name)
            if self._installed.get(station.name) != ruleset:
                install(ruleset, station.namespace)
                self._installed[station.name] = ruleset
        self._seen = seen
        self.forwarded = Map(addresses)

    def _note_errors(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (LbcoreError, OSError, subprocess.SubprocessError) as error:
            self._note(f"control plane: {error}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

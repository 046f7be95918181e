"""`Lab`: a whole cluster on one machine, to test with, to measure and to play.

    with Lab(nodes=3) as lab:
        lab.apply(manifests)
        lab.start_controller()
        for node in lab.nodes:
            lab.start_speaker(node)
        (address,) = lab.wait_for_address("nginx-service")
        print(lab.curl(address).body)

Nodes, cables, kube-proxy's work, pods and control plane are the lab's; addresses and their
announcement are lbcore's daemons' alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lbcore.addresses import Address
from lbcore.lab.control import ControlPlane
from lbcore.lab.errors import LabError
from lbcore.lab.manifests import Folder, ObjectKey, ServiceWish, Workload, split_documents
from lbcore.lab.network import Network, Plan
from lbcore.lab.pods import nginx_note
from lbcore.lab.segment import Program, Segment
from lbcore.lab.workloads import PodStatus
from lbcore.model import ServiceKey

__all__ = ["Lab", "Program"]


class Lab(Segment):
    """N nodes, a switch and a client as network namespaces, and a folder of manifests as the cluster.

    `network` and `network6` are the segment's networks (CIDRs; None leaves a family out). The client
    is the tenth host of each, node N the (10 + N)th. `folder` is the cluster's folder; without one it
    lies in `directory`. There the logs are, too; without one it is a temporary one that ends with the
    lab. `grace` is how many seconds a silent node keeps its
    pods in service (Kubernetes: 50).

    Nothing stays behind: not when the `with` block ends, nor when this process ends in whatever way.
    Raises `LabUnavailable` where the machine does not allow it (see `ensure_privileges`).
    """

    def __init__(
        self,
        nodes: int = 3,
        network: str | None = "192.168.20.0/24",
        network6: str | None = "fd00:20::/64",
        folder: Path | str | None = None,
        directory: Path | str | None = None,
        *,
        grace: float = 1.0,
    ) -> None:
        plan = Plan.parse(nodes, network, network6)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="lbcore-lab-", ignore_cleanup_errors=True)
            directory = self._temporary.name
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._folder = Folder(Path(folder) if folder is not None else self.directory / "cluster")
        self.folder = self._folder.path
        try:
            self.network = Network(plan, self.directory if self._temporary else None)
        except BaseException:
            self._remove_directory()
            raise
        self.programs: list[Program] = []
        self._control = ControlPlane(self.network, self._folder, self.directory / "pods", grace)
        note = nginx_note()
        if note:
            self._control.notes.append(note)
        self._control.start()

    # Who is there

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody should know: what is not real here, and manifests that cannot be used."""
        return tuple(self._control.notes)

    @property
    def pods(self) -> tuple[PodStatus, ...]:
        """The pods and whether each takes traffic."""
        return self._control.pods

    # Manifests

    def apply(self, manifest: str) -> tuple[str, ...]:
        """Put every object of a manifest into the cluster, as `kubectl apply` does.

        Returns a line for each (`service/nginx-service created`). Raises `ManifestError`, and
        applies nothing, if one cannot be used.
        """
        objects = [(ObjectKey.of(document), text, document) for text, document in split_documents(manifest)]
        for key, _, document in objects:
            if key.kind == "Node" and key.name in self.nodes:
                raise LabError(f"Node {key.name} is written by the lab; give it labels with label_node")
            if key.kind == "Deployment":
                Workload.read(document)
            if key.kind == "Service":
                ServiceWish.read(document)
        lines = tuple(f"{key} {self._folder.write(key, text)}" for key, text, _ in objects)
        self._control.nudge()
        return lines

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object that was applied; raises `LabError` if there is none."""
        key = ObjectKey.named(kind, namespace, name)
        if not self._folder.remove(key):
            raise LabError(f"there is no {key} in namespace {namespace!r} that was applied here")
        self._control.nudge()

    def label_node(self, node: str, labels: Mapping[str, str]) -> None:
        """Give a Node these labels beside its standard ones, in place of those given before."""
        self._control.set_labels(node, labels)

    # lbcore's daemons

    def start_controller(self, *options: str) -> Program:
        """Start `lbcore controller` for the cluster; it runs on none of the nodes."""
        return self.start("controller", self.network.switch, "controller", "--cluster", str(self.folder), *options)

    def start_speaker(self, node: str, *options: str) -> Program:
        """Start `lbcore speaker` on a node."""
        run = self.directory / "run" / node
        run.mkdir(parents=True, exist_ok=True)
        arguments = ["speaker", "--cluster", str(self.folder), "--node", node, "--runtime-dir", str(run), *options]
        return self.start(f"speaker-{node}", self.network.station(node).namespace, *arguments)

    def start_ingress(self, node: str, *options: str) -> Program:
        """Start `lbcore ingress` on a node, at the node's own addresses: its pods have port 80 of theirs."""
        station, run = self.network.station(node), self.directory / "ingress" / node
        run.parent.mkdir(exist_ok=True)
        self.directory.chmod(0o711)  # nginx's workers are of another user, and read certificates
        listen = [word for address in station.addresses for word in ("--listen", str(address))]
        arguments = ["ingress", "--cluster", str(self.folder), "--runtime-dir", str(run), *listen, *options]
        return self.start(f"ingress-{node}", station.namespace, *arguments)

    # Waiting

    def check(self) -> None:
        """Raise what has ended the control plane's thread, if anything has."""
        self._control.check()

    def addresses(self, name: str, namespace: str = "default") -> tuple[Address, ...]:
        """The addresses that lbcore's controller has given to a Service and the nodes forward, empty if none."""
        return self._control.forwarded.get(ServiceKey(namespace, name), ())

    def wait_for_address(self, name: str, namespace: str = "default", timeout: float = 10.0) -> tuple[Address, ...]:
        """The addresses of a Service as soon as it has any and all reachable nodes forward them."""
        return self.wait_until(
            lambda: self.addresses(name, namespace), f"an address of Service {namespace}/{name}", timeout
        )

    def wait_for_pods(self, timeout: float = 10.0) -> tuple[PodStatus, ...]:
        """The pods, as soon as there are any and all that were applied are ready and in the slices."""
        looked = self._control.next_look()

        def ready() -> tuple[PodStatus, ...]:
            pods = self.pods
            return pods if looked() and all(pod.ready for pod in pods) else ()

        return self.wait_until(ready, "all pods to be ready", timeout)

    # The end

    def close(self) -> None:
        """End every process of the lab and remove what it made; twice does no harm."""
        self._control.stop()
        self.network.close()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

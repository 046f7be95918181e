"""The kubelets of a lab, in one thread: they run what the API server's Pods ask for on the nodes they are bound to.

A Pod becomes a real nginx at its own address in the node's namespace; its status, the Node's and the node's Lease
are told to the API server as a kubelet does. A node that is cut off or frozen says and does nothing, and neither does
one whose kubelet was silenced; what runs there goes on.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from immutables import Map

from lbcore.addresses import Address
from lbcore.errors import LbcoreError
from lbcore.lab.api import Caller
from lbcore.lab.controlplane import ApiServer
from lbcore.lab.errors import LabError
from lbcore.lab.network import Network, Station
from lbcore.lab.pods import NamedPort, Pod, PodPlan
from lbcore.lab.workloads import node_document
from lbcore.model import Port

__all__ = ["Kubelets"]

_PERIOD = 0.1  # seconds between two looks at the Pods
_RENEWAL = 1.0  # seconds between two signs of life; Kubernetes: 10
_RESTART_AFTER = 1.0
_FIRST_POD = 2
_MOST_PODS = 110
_READY = ("Initialized", "PodScheduled", "ContainersReady", "Ready")
_ROOM = {"cpu": "8", "memory": "16Gi", "pods": str(_MOST_PODS)}  # what the scheduler may count on

Document = Mapping[str, Any]


class Kubelets:
    """One kubelet for each node. `start` returns when every Node is known to the API server."""

    def __init__(self, network: Network, api: ApiServer, folder: Path) -> None:
        self._network = network
        self._api = api
        self._folder = folder
        self._pods: dict[str, Pod] = {}  # by the Pod's uid
        self._started: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._calls: Caller = api.caller()
        self._silenced: frozenset[str] = frozenset()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lab kubelets", daemon=True)
        self.notes: list[str] = []

    def start(self) -> None:
        """Tell the API server of the nodes, and begin."""
        self._network.station("control").namespace.call(self._join)
        self._calls.close()
        self._thread.start()

    def silence(self, node: str) -> None:
        """The kubelet of this node is gone; its pods live, and so does its network."""
        self._silenced |= {node}

    def revive(self, node: str) -> None:
        """It is back."""
        self._silenced -= {node}

    def stop(self) -> None:
        """Stop looking; what runs ends with its namespace."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _join(self) -> None:
        for station in self._network.nodes.values():
            document = node_document(station, {}, ready=True)
            networks = document["spec"]["podCIDRs"]
            node = {**document, "spec": {"podCIDR": networks[0], "podCIDRs": networks}}
            self._calls.ask("POST", "/api/v1/nodes", node)
            self._tell_node(station)
            lease = {"metadata": {"name": station.name}, "spec": _renewal(station)}
            self._calls.ask("POST", _LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})

    def _tell_node(self, station: Station) -> None:
        status = dict(node_document(station, {}, ready=True)["status"])
        now = _now()
        conditions = [
            {"type": kind, "status": state, "reason": "Lab", "lastHeartbeatTime": now, "lastTransitionTime": now}
            for kind, state in (("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"))
        ]
        status.update(conditions=conditions, capacity=_ROOM, allocatable=_ROOM)
        self._calls.ask("PATCH", f"/api/v1/nodes/{station.name}/status", {"status": status})

    def _run(self) -> None:
        # Threads inherit the network namespace of the one that starts them: this one stays at the control plane.
        self._network.station("control").namespace.call(self._loop)

    def _loop(self) -> None:
        while not self._stopping.wait(_PERIOD):
            try:
                self._renew()
                self._look()
            except (LbcoreError, OSError, subprocess.SubprocessError) as error:
                self._note(f"kubelet: {error}")

    def _renew(self) -> None:
        now = time.monotonic()
        for station in self._network.nodes.values():
            silent = now - self._renewed.get(station.name, now)
            if not self._heeds(station) or (silent < _RENEWAL and station.name in self._renewed):
                continue
            self._renewed[station.name] = now
            self._calls.ask("PATCH", f"{_LEASES}/{station.name}", {"spec": _renewal(station)})
            if silent > 2 * _RENEWAL:  # it may have been given up meanwhile
                self._tell_node(station)

    def _look(self) -> None:
        found = self._calls.ask("GET", "/api/v1/pods?resourceVersion=0")["items"]
        there = {pod["metadata"]["uid"] for pod in found}
        for uid in [uid for uid in self._pods if uid not in there]:
            self._end(uid)
        for document in found:
            station = self._network.nodes.get(document["spec"].get("nodeName", ""))
            # A pod on the host's network is a daemon that somebody else starts, and tells of: it is no nginx.
            if station is not None and self._heeds(station) and not document["spec"].get("hostNetwork"):
                self._bring(document, station)

    def _heeds(self, station: Station) -> bool:
        return station.reachable and station.name not in self._silenced

    def _bring(self, document: Document, station: Station) -> None:
        """Bring one Pod of a node to where it should be."""
        uid = document["metadata"]["uid"]
        if "deletionTimestamp" in document["metadata"]:
            self._end(uid)
            self._calls.request("DELETE", _path(document), {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
            return
        now = time.monotonic()
        if uid not in self._pods:
            self._started[uid] = now
            self._pods[uid] = Pod(self._plan(document, station), station, self._folder / uid)
        pod = self._pods[uid]
        # What the API server has is compared: the control plane takes the pods of a silent node out of service.
        shown = any(each == ("Ready", "True") for each in _conditions(document))
        if not pod.running:
            if shown:
                self._tell_pod(document, pod.plan, station, ready=False)
            if now - self._started[uid] >= _RESTART_AFTER:
                self._note(f"pod {pod.plan.name} on {station.name} had ended and starts again: {pod.last_words()}")
                self._started[uid] = now
                pod.restart()
        elif not shown and pod.ready():
            self._tell_pod(document, pod.plan, station, ready=True)

    def _end(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            pod.stop()

    def _plan(self, document: Document, station: Station) -> PodPlan:
        metadata = document["metadata"]
        ports = tuple(
            NamedPort(port.get("name", ""), Port(port.get("protocol", "TCP"), port["containerPort"]))
            for container in document["spec"]["containers"]
            for port in container.get("ports", ())
        )
        return PodPlan(
            namespace=metadata["namespace"],
            name=metadata["name"],
            owner="",
            node=station.name,
            addresses=self._free_addresses(station),
            labels=Map(metadata.get("labels", {})),
            ports=ports or (NamedPort("", Port("TCP", 80)),),
        )

    def _free_addresses(self, station: Station) -> tuple[Address, ...]:
        taken = {pod.plan.addresses for pod in self._pods.values()}
        for number in range(_FIRST_POD, _FIRST_POD + _MOST_PODS):
            addresses = station.pod_addresses(number)
            if addresses not in taken:
                return addresses
        raise LabError(f"no room for a pod on {station.name}: it has {_MOST_PODS}")

    def _tell_pod(self, document: Document, plan: PodPlan, station: Station, *, ready: bool) -> None:
        now, state = _now(), "True" if ready else "False"
        addresses = [{"ip": str(each)} for each in plan.addresses]
        hosts = [{"ip": str(each)} for each in station.addresses]
        status = {
            "phase": "Running",
            "startTime": now,
            "hostIP": hosts[0]["ip"],
            "hostIPs": hosts,
            "podIP": addresses[0]["ip"],
            "podIPs": addresses,
            "conditions": [
                {"type": kind, "status": "True" if kind in _READY[:2] else state, "lastTransitionTime": now}
                for kind in _READY
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "started": ready,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }
                for container in document["spec"]["containers"]
            ],
        }
        answered = self._calls.request("PATCH", f"{_path(document)}/status", {"status": status})
        if answered.status not in (200, 404):  # deleted meanwhile
            answered.wanted(f"status of pod {plan.name}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def _path(pod: Document) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _conditions(pod: Document) -> Iterator[tuple[str, str]]:
    return ((each["type"], each["status"]) for each in pod.get("status", {}).get("conditions", ()))


def _now(precision: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _renewal(station: Station) -> dict[str, Any]:
    return {"holderIdentity": station.name, "leaseDurationSeconds": 40, "renewTime": _now("microseconds")}

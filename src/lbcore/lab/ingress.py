"""Ingress controllers of a lab: what a kubelet does for the Pods of a DaemonSet on the nodes' own network.

The lab's kubelets run nginx for Pods with addresses of their own. These are started as their template says, `lbcore`
with its arguments and environment, on the node that each is bound to, and the API server is told when they are ready.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from lbcore.lab.controlplane import Daemon
from lbcore.lab.errors import LabError
from lbcore.lab.kubernetes import KubernetesLab

__all__ = ["IngressPod", "start_ingress"]

_PATIENCE = 30.0
_HEALTH = 10254
_FIELDS = {"metadata.name": "name", "metadata.namespace": "namespace"}


@frozen(kw_only=True)
class IngressPod:
    """One Pod, the node it is on, and the program that runs for it."""

    name: str
    namespace: str
    node: str
    daemon: Daemon


def start_ingress(lab: KubernetesLab, namespace: str, name: str, kubeconfig: Path) -> tuple[IngressPod, ...]:
    """Run the Pods of a DaemonSet; returns when all are ready. `kubeconfig` is what their account may."""
    selector = json.loads(lab.kubectl("get", "daemonset", name, "-n", namespace, "-o", "json"))["spec"]["selector"]
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector["matchLabels"].items()))

    def scheduled() -> list[dict[str, Any]]:
        found = json.loads(lab.kubectl("get", "pods", "-n", namespace, "-l", labels, "-o", "json"))["items"]
        bound = [each for each in found if each["spec"].get("nodeName")]
        return bound if len(bound) == len(lab.nodes) else []

    pods = lab.wait_until(scheduled, f"a Pod of {name} on each node", _PATIENCE)
    started = tuple(_start(lab, each, kubeconfig) for each in pods)
    for pod in started:
        _wait(lab, pod)
        _tell(lab, pod)
    return started


def _start(lab: KubernetesLab, document: dict[str, Any], kubeconfig: Path) -> IngressPod:
    metadata, node = document["metadata"], document["spec"]["nodeName"]
    container, station = document["spec"]["containers"][0], lab.nodes[node]
    environment = {
        each["name"]: metadata[_FIELDS[each["valueFrom"]["fieldRef"]["fieldPath"]]]
        if "valueFrom" in each
        else each["value"]
        for each in container["env"]
    }
    arguments = [_filled(each, environment) for each in container["args"]]
    run = lab.directory / "ingress" / node
    run.parent.mkdir(exist_ok=True)
    lab.directory.chmod(0o711)  # nginx's workers are of another user, and read certificates
    # The node's own Pods share its network here, so that not every address of port 80 is free.
    listen = [word for address in station.addresses for word in ("--listen", str(address))]
    own = ["--kubeconfig", str(kubeconfig), "--runtime-dir", str(run), "--nginx", shutil.which("nginx") or "nginx"]
    daemon = lab.api.daemon(
        f"ingress-{node}",
        [*arguments, *own, *listen],
        program=Path(sys.executable).with_name("lbcore"),
        space=station.namespace,
        environment=environment,
    ).start()
    return IngressPod(name=metadata["name"], namespace=metadata["namespace"], node=node, daemon=daemon)


def _wait(lab: KubernetesLab, pod: IngressPod) -> None:
    try:
        lab.wait_until(lambda: _is_ready(lab, pod), f"{pod.name} to be ready", _PATIENCE)
    except LabError as error:
        raise LabError(f"{error}; it says: {pod.daemon.said()}") from None


def _filled(argument: str, environment: dict[str, str]) -> str:
    for name, value in environment.items():
        argument = argument.replace(f"$({name})", value)
    return argument


def _is_ready(lab: KubernetesLab, pod: IngressPod) -> bool:
    return lab.nodes[pod.node].namespace.call(_asks, str(lab.nodes[pod.node].addresses[0]))


def _asks(address: str) -> bool:
    with closing(http.client.HTTPConnection(address, _HEALTH, timeout=1.0)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False


def _tell(lab: KubernetesLab, pod: IngressPod) -> None:
    """What a kubelet says of a Pod that is ready."""
    addresses = [{"ip": str(each)} for each in lab.nodes[pod.node].addresses]
    status = {
        "phase": "Running",
        "hostIP": addresses[0]["ip"],
        "podIP": addresses[0]["ip"],
        "podIPs": addresses,
        "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "ContainersReady", "Ready")],
    }
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/status"
    lab.api.ask("PATCH", path, {"status": status})

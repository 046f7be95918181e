"""A cluster with Kubernetes' own control plane and somebody's controller and speakers in it, driven by kubectl alone.

`Fleet` of `fleet.py` is the same on a folder. What counts is what `kubectl get` shows and what the client gets.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fleet import PATIENCE, advertisement, deployment, pool
from lbcore.addresses import Address
from lbcore.lab.controlplane import ApiServer, Daemon
from lbcore.lab.kubernetes import KubernetesLab
from lbcore.lab.segment import Program

__all__ = [
    "BASE",
    "CHART_LABELS",
    "CRDS",
    "METALLB_LABELS",
    "KubeFleet",
    "accounts",
    "install_crds",
    "put_secret_aside",
    "put_speaker_pod",
    "roles",
    "start_metallb",
    "start_metallb_controller",
    "start_metallb_speaker",
]

T = TypeVar("T")

DEPLOY = Path(__file__).parent.parent / "deploy"
CRDS = DEPLOY / "chart" / "files" / "crds.yaml"
BASE = pool("first", "192.168.20.20-192.168.20.59", "fd00:20::100-fd00:20::13f") + advertisement() + deployment()
SYSTEM = "metallb-system"
METALLB_LABELS = {"app": "metallb", "component": "speaker"}
CHART_LABELS = {
    "app.kubernetes.io/component": "speaker",
    "app.kubernetes.io/instance": "lbcore",
    "app.kubernetes.io/name": "lbcore",
}


def install_crds(api: ApiServer) -> None:
    """The namespace `metallb-system` and the resources, ready to be used."""
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, CRDS)
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def accounts() -> list[dict[str, Any]]:
    """The ServiceAccounts and rights of the plain manifests, which are made from the chart."""
    documents = yaml.safe_load_all((DEPLOY / "manifests" / "lbcore.yaml").read_text(encoding="utf-8"))
    return [each for each in documents if each and each["kind"].endswith(("Account", "Role", "Binding"))]


def roles(name: str) -> list[dict[str, Any]]:
    """The ClusterRole and the Role of that name."""
    return [each for each in accounts() if each["kind"].endswith("Role") and each["metadata"]["name"] == name]


class KubeFleet:
    """A lab whose Services somebody serves; `start` has started ours."""

    def __init__(self, lab: KubernetesLab) -> None:
        self.lab = lab
        self.api = lab.api
        self.speakers: dict[str, Program] = {}

    def start(self, *options: str, gossip: bool = True) -> KubeFleet:
        """Our controller and a speaker on each node, with the accounts and rights that the chart gives them, and its
        options: speakers gossip, or else know each other by Leases. `options` are more of the speakers.
        """
        self.api.apply(*accounts())
        self.lab.start_controller(self.account("controller"), "--ml-secret-name", "memberlist")
        put_secret_aside(self.lab)
        for node in self.lab.nodes:
            self.start_speaker(node, *options, gossip=gossip)
        return self

    def account(self, name: str) -> Path:
        """A kubeconfig with the rights of the controller, or of the speakers."""
        return self.api.kubeconfig_of(SYSTEM, f"lbcore-{name}")

    def start_speaker(self, node: str, *options: str, gossip: bool = True) -> Program:
        """One speaker as the chart has it, with its Pod where it gossips; `options` go after those."""
        if gossip:
            put_speaker_pod(self.lab, node, CHART_LABELS)
            address, secret = str(self.lab.nodes[node].addresses[0]), str(self.lab.directory / "memberlist")
            labels = ",".join(f"{name}={value}" for name, value in CHART_LABELS.items())
            options = ("--bind-address", address, "--secret", secret, "--ml-labels", labels, *options)
        self.speakers[node] = self.lab.start_speaker(node, self.account("speaker"), *options)
        return self.speakers[node]

    def sees(self, node: str) -> set[str]:
        """The members, by a speaker's last word on them."""
        text = self.speakers[node].log.read_text(encoding="utf-8")
        lines = ["names=", *(line for line in text.splitlines() if " members " in line or "started" in line)]
        return set(lines[-1].rpartition("names=")[2].split(",")) - {""} if "names=" in lines[-1] else set()

    def wait_for_members(self, *nodes: str) -> None:
        """Wait until every speaker that runs sees these, and no others."""
        running = [node for node, program in self.speakers.items() if program.running]
        self.lab.wait_until(lambda: all(self.sees(node) == set(nodes) for node in running), f"all to see {nodes}", 90)

    def explained(self, name: str) -> Any:
        """What `lbcore explain` says of a Service, asked on the control plane's host."""
        lbcore = str(Path(sys.executable).parent / "lbcore")
        asked = [lbcore, "explain", name, "-o", "json", "--kubeconfig", str(self.api.kubeconfig)]
        return json.loads(self.lab.control.namespace.run(asked, check=True).stdout)

    def members(self, *options: str) -> Any:
        """What `lbcore get members` says, asked on the control plane's host."""
        lbcore = str(Path(sys.executable).parent / "lbcore")
        asked = [lbcore, "get", "members", "-o", "json", "--kubeconfig", str(self.api.kubeconfig), *options]
        return json.loads(self.lab.control.namespace.run(asked, check=True).stdout)

    def wait_for_announcer(self, name: str, address: Address, among: int) -> str:
        """The node that is to announce an address, once so many may and it alone says that it does."""

        def elected() -> str | None:
            verdicts = {
                each["node"]: each["reason"] for each in self.explained(name)["announcers"].get(str(address), ())
            }
            able = [node for node, reason in verdicts.items() if reason in ("OK", "NotElected")]
            winner = next((node for node in able if verdicts[node] == "OK"), "")
            return winner if len(able) == among and [winner] == self.said_to_announce(name) else None

        return self.wait(elected, f"one of {among} nodes to announce {name}") or ""

    def said_to_announce(self, name: str) -> list[str]:
        """The nodes that stand in the ServiceL2Statuses of a Service, found as dashboards find them."""
        label = f"metallb.io/service-name={name}"
        listed = json.loads(self.lab.kubectl("get", "servicel2statuses", "-n", SYSTEM, "-l", label, "-o", "json"))
        return [each.get("status", {}).get("node", "") for each in listed["items"]]

    def apply(self, text: str) -> None:
        self.lab.kubectl("apply", "-f", "-", text=text)

    def get(self, kind: str, name: str, namespace: str = "default") -> Any:
        return json.loads(self.lab.kubectl("get", kind, name, "-n", namespace, "-o", "json"))

    def addresses(self, name: str, namespace: str = "default") -> tuple[Address, ...]:
        """The EXTERNAL-IP of a Service."""
        status = self.get("service", name, namespace)["status"]["loadBalancer"]
        return tuple(Address.parse(each["ip"]) for each in status.get("ingress", ()))

    def wait(self, condition: Callable[[], T], what: str) -> T:
        return self.lab.wait_until(condition, what, PATIENCE)

    def wait_for_addresses(self, name: str, namespace: str = "default") -> tuple[Address, ...]:
        return self.wait(lambda: self.addresses(name, namespace), f"an EXTERNAL-IP of {namespace}/{name}")

    def wait_for_events(self, name: str, word: str, namespace: str = "default") -> str:
        """What `kubectl describe service` shows, once a word of an Event is in there."""

        def shown() -> str | None:
            text = self.lab.kubectl("describe", "service", name, "-n", namespace)
            return text if word in text else None

        return self.wait(shown, f"{word} in the description of {namespace}/{name}") or ""

    def wait_for_page(self, address: Address, port: int = 80) -> str:
        """The pod and node that answered."""
        answer = self.wait(lambda: (got := self.lab.curl(address, port=port)).ok and got, f"a page from {address}")
        assert answer
        return answer.served_by

    def wait_for_no_page(self, address: Address) -> None:
        self.wait(lambda: not self.lab.curl(address, timeout=0.3).ok, f"{address} to be silent")

    def callers(self, pod: str, namespace: str = "default") -> set[str]:
        """Who has asked a pod for a page, from its own access log."""
        uid = self.get("pod", pod, namespace)["metadata"]["uid"]
        log = self.lab.directory / "pods" / uid / "access.log"
        return {line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()}


# MetalLB's own programs


def start_metallb(lab: KubernetesLab) -> dict[str, Daemon]:
    """MetalLB's controller beside the control plane, and its speaker on every node; by `controller` and nodes."""
    started = {"controller": start_metallb_controller(lab.api)}
    put_secret_aside(lab)
    return started | {node: start_metallb_speaker(lab, node) for node in lab.nodes}


def put_secret_aside(lab: KubernetesLab) -> None:
    """The Secret that a controller makes, in `directory/memberlist`, as a kubelet mounts it."""
    secret = f"/api/v1/namespaces/{SYSTEM}/secrets/memberlist"
    lab.wait_until(lambda: lab.api.request("GET", secret).status == 200, "the Secret memberlist", PATIENCE)
    key = lab.directory / "memberlist"
    key.mkdir(exist_ok=True)
    (key / "secretkey").write_bytes(base64.b64decode(lab.api.ask("GET", secret)["data"]["secretkey"]))


def put_speaker_pod(lab: KubernetesLab, node: str, labels: Mapping[str, str], address: str = "") -> None:
    """The Pod of a speaker on a node, which somebody else starts, with what its kubelet would say of it."""
    address, name = address or str(lab.nodes[node].addresses[0]), f"speaker-{node}"
    metadata = {"name": name, "namespace": SYSTEM, "labels": dict(labels)}
    spec = {"nodeName": node, "hostNetwork": True, "containers": [{"name": "speaker", "image": "speaker"}]}
    accounts = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/default"
    lab.wait_until(lambda: lab.api.request("GET", accounts).status == 200, "a ServiceAccount for Pods", PATIENCE)
    lab.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": address}}
    lab.api.ask("PATCH", f"/api/v1/namespaces/{SYSTEM}/pods/{name}/status", status)


def start_metallb_controller(api: ApiServer) -> Daemon:
    """What MetalLB's controller wants to find, and itself."""
    containers = [{"name": "controller", "image": "controller"}]
    template = {"metadata": {"labels": {"app": "metallb"}}, "spec": {"containers": containers}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "metallb"}}, "template": template}
    metadata = {"name": "controller", "namespace": SYSTEM}
    api.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    pod = {"containers": containers, "hostNetwork": True}
    accounts = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/default"
    api.wait(lambda: api.request("GET", accounts).status == 200, "a ServiceAccount for Pods")
    api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": "controller-0"}, "spec": pod})
    flags = ["--kubeconfig", str(api.kubeconfig), "--namespace", SYSTEM, "--pod-name", "controller-0", "--port", "0"]
    flags += ["--webhook-mode", "disabled", "--health-probe-port", "17472", "--cert-dir", str(api.folder / "webhook")]
    names = {"BGP_TYPE": "native", "ML_SECRET_NAME": "memberlist", "DEPLOYMENT": "controller"}
    environment = {f"METALLB_{name}": value for name, value in names.items()}
    return api.daemon("metallb-controller", flags, program=_peer("controller"), environment=environment).start()


def start_metallb_speaker(lab: KubernetesLab, node: str) -> Daemon:
    """MetalLB's speaker on a node, with the secret that `start_metallb` has put aside."""
    station, name = lab.nodes[node], f"speaker-{node}"
    address = str(station.addresses[0])
    put_speaker_pod(lab, node, METALLB_LABELS)
    names = {
        "BGP_TYPE": "native",
        "NODE_NAME": node,
        "HOST": address,
        "POD_NAME": name,
        "ML_BIND_ADDR": address,
        "ML_LABELS": ",".join(f"{name}={value}" for name, value in METALLB_LABELS.items()),
        "ML_SECRET_KEY_PATH": str(lab.directory / "memberlist"),
    }
    return lab.api.daemon(
        name,
        ["--kubeconfig", str(lab.api.kubeconfig), "--namespace", SYSTEM, "--port", "0"],
        program=_peer("speaker"),
        space=station.namespace,
        environment={f"METALLB_{name}": value for name, value in names.items()},
    ).start()


def _peer(name: str) -> Path:
    return Path(os.environ["LBCORE_PEERS"]) / f"metallb-{name}"

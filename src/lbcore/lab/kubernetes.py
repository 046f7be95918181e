"""`KubernetesLab`: a cluster with Kubernetes' own control plane and kube-proxy, on one machine and without containers.

    with KubernetesLab(nodes=3) as lab:
        lab.kubectl("apply", "-f", "nginx.yaml")
        lab.start_controller()
        for node in lab.nodes:
            lab.start_speaker(node)
        lab.kubectl("get", "service")

etcd, kube-apiserver, kube-controller-manager and kube-scheduler run on a host of their own on the segment (`control`),
a kube-proxy on every node. Only the kubelets are the lab's (`lab/kubelet.py`): their pods are nginx, not containers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lbcore.lab.controlplane import ApiServer, Daemon, assets
from lbcore.lab.kubelet import Kubelets
from lbcore.lab.network import Network, Plan, Station
from lbcore.lab.pods import nginx_note
from lbcore.lab.segment import Program, Segment

__all__ = ["PROGRAMS", "KubernetesLab"]

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl")
_CONTROL = "control"
_POD_NETWORKS = "10.244.0.0/16,fd00:244::/32"


class KubernetesLab(Segment):
    """N nodes, a client and a control plane, ready for `kubectl`.

    `mode` is kube-proxy's (nftables or iptables). `grace` is how many seconds a silent node keeps its pods in
    service (Kubernetes: 50); at least 3. Nothing stays behind, however this process ends. Raises
    `LabUnavailable` where the machine lacks a program or does not allow namespaces.
    """

    def __init__(
        self,
        nodes: int = 3,
        network: str | None = "192.168.20.0/24",
        network6: str | None = "fd00:20::/64",
        *,
        mode: str = "nftables",
        grace: int = 4,
        flags: Sequence[str] = (),
    ) -> None:
        assets(*PROGRAMS)
        plan = Plan.parse(nodes, network, network6)
        self._temporary = tempfile.TemporaryDirectory(prefix="lbcore-lab-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name)
        self.programs: list[Program] = []
        self.network = Network(plan, self.directory, beside=[_CONTROL])
        self._proxies: dict[str, Daemon] = {}
        try:
            address = str(self.control.addresses[0])
            self.api = ApiServer.start(space=self.control.namespace, address=address, audit=True, flags=flags)
        except BaseException:
            self.network.close()
            self._temporary.cleanup()
            raise
        self._kubelets = Kubelets(self.network, self.api, self.directory / "pods")
        try:
            self._start(mode, grace)
        except BaseException:
            self.close()
            raise

    def _start(self, mode: str, grace: int) -> None:
        common = [f"--kubeconfig={self.api.kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        self.api.daemon("kube-controller-manager", [*common, *_controller_flags(self.api.folder, grace)]).start()
        self.api.daemon("kube-scheduler", common).start()
        self._kubelets.start()
        for name, station in self.nodes.items():
            flags = _proxy_flags(self.api.kubeconfig, name, mode)
            self._proxies[name] = self.api.daemon(
                "kube-proxy", flags, space=station.namespace, log=f"kube-proxy-{name}"
            ).start()
        self.wait_until(self._has_accounts, "the controller-manager to make ServiceAccounts", 60)

    def _has_accounts(self) -> bool:
        return self.api.request("GET", "/api/v1/namespaces/default/serviceaccounts/default").status == 200

    @property
    def control(self) -> Station:
        """The host of the control plane."""
        return self.network.station(_CONTROL)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not real here, and what the kubelets complained of."""
        note = nginx_note()
        return (*([note] if note else []), *self._kubelets.notes)

    def kubectl(self, *arguments: str, text: str = "", check: bool = True) -> str:
        """What an administrator's kubectl prints, on the control plane's host."""
        return self.api.kubectl(*arguments, text=text, check=check)

    def proxy(self, node: str) -> Daemon:
        """The kube-proxy of a node."""
        return self._proxies[node]

    def stop_kubelet(self, node: str) -> None:
        """End a node's kubelet: after `grace` seconds it counts as not ready. Its pods and its kube-proxy go on."""
        self._kubelets.silence(node)

    def start_kubelet(self, node: str) -> None:
        """Have it back."""
        self._kubelets.revive(node)

    # lbcore's daemons

    def start_controller(self, kubeconfig: Path | None = None, *options: str, name: str = "controller") -> Program:
        """Start `lbcore controller` beside the control plane; an administrator's unless `kubeconfig` is another's."""
        who = str(kubeconfig or self.api.kubeconfig)
        return self.start(name, self.control.namespace, "controller", "--kubeconfig", who, *options)

    def start_speaker(self, node: str, kubeconfig: Path | None = None, *options: str) -> Program:
        """Start `lbcore speaker` on a node."""
        run = self.directory / "run" / node
        run.mkdir(parents=True, exist_ok=True)
        who = str(kubeconfig or self.api.kubeconfig)
        arguments = ["speaker", "--kubeconfig", who, "--node", node, "--runtime-dir", str(run), *options]
        return self.start(f"speaker-{node}", self.network.station(node).namespace, *arguments)

    # The end

    def close(self) -> None:
        """End every process of the lab and remove what it made; twice does no harm."""
        self._kubelets.stop()
        self.api.close()
        self.network.close()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _controller_flags(folder: Path, grace: int) -> list[str]:
    return [
        f"--service-account-private-key-file={folder / 'sa.key'}",
        f"--root-ca-file={folder / 'certs' / 'apiserver.crt'}",
        "--controllers=*,-nodeipam,-cloud-node-lifecycle",
        "--allocate-node-cidrs=false",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={grace}s",
    ]


def _proxy_flags(kubeconfig: Path, node: str, mode: str) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--proxy-mode={mode}",
        f"--hostname-override={node}",
        f"--cluster-cidr={_POD_NETWORKS}",
        "--conntrack-max-per-core=0",
        "--metrics-bind-address=127.0.0.1:10249",
        "--healthz-bind-address=127.0.0.1:10256",
        "--nodeport-addresses=primary",
    ]

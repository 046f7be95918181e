"""`lbcore demo --kubernetes`: MetalLB's first steps at a real API server, with kubectl and curl as a user has them.

Everything that is printed happened, as in the demo on a folder; what does not happen ends it with an error.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from lbcore.adapters.kubernetes.crds import definitions
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.errors import LbcoreError
from lbcore.lab.controlplane import assets
from lbcore.lab.demo.chapters import FIRST
from lbcore.lab.demo.kubernetes_ingress import web_sites
from lbcore.lab.demo.scene import Scene
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import Findings
from lbcore.lab.errors import LabError
from lbcore.lab.kubernetes import PROGRAMS, KubernetesLab

__all__ = ["run_kubernetes"]

_NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: metallb-system}\n---\n"
_DUAL = "dual-stack"


def run_kubernetes() -> None:
    """Show the walk-through. Raises `LabUnavailable` where a program is missing or the machine allows no
    namespaces, and `LabError` when something did not happen.
    """
    assets(*PROGRAMS)
    start = time.monotonic()
    screen, findings = Screen(), Findings()
    screen.title(
        "lbcore demo: Services of type LoadBalancer on Kubernetes' own control plane",
        f"{', '.join(PROGRAMS[:-1])} run in network namespaces of this machine, without containers: a small kubelet "
        "of the lab runs nginx for each Pod. Nothing outside is touched, and nothing stays. A minute.",
    )
    with screen.step("a control plane, 3 nodes with kube-proxy, a switch and a client"):
        lab = KubernetesLab(nodes=3)
    with lab:
        scene = Scene(lab, screen, findings)
        try:
            for number, (heading, code, tell) in enumerate(_STORY, start=1):
                screen.chapter(number, len(_STORY), heading, code)
                tell(scene)
        except (LbcoreError, OSError, subprocess.SubprocessError):
            scene.show_logs()
            raise
    screen.heading("What was shown")
    screen.table(["WHAT", "SEEN"], findings)
    screen.say(f"All of it happened as shown, in {time.monotonic() - start:.0f} seconds. The cluster is gone again.")


def _install(scene: Scene) -> None:
    screen, lab = scene.screen, scene.lab
    with screen.step("the resources of metallb.io are known to the API server"):
        lab.api.apply(_NAMESPACE + documents_text(definitions()))
        lab.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    lab.start_controller()
    for node in lab.nodes:
        lab.start_speaker(node)
    screen.say("lbcore's controller runs beside the control plane and a speaker on each node; nothing else does.")
    scene.kubectl("get", "nodes", "-o", "wide")


def _first_service(scene: Scene) -> None:
    scene.apply("first/pool.yaml")
    scene.apply("first/nginx.yaml")
    (address,) = scene.addresses(FIRST)
    scene.kubectl("get", "service", FIRST)
    answer = scene.page(address)
    scene.findings.append(("EXTERNAL-IP from the pool, a page through kube-proxy", f"{address}, {answer.served_by}"))
    node = scene.wait(lambda: scene.lab.announcer(address), f"a node to announce {address}")
    scene.findings.append(("announced by one node", f"{node}, as the client's neighbour table has it"))
    scene.kubectl("get", "events", "--field-selector", f"involvedObject.name={FIRST}")
    scene.kubectl("get", "ipaddresspools", "-n", "metallb-system")


def _both_families(scene: Scene) -> None:
    scene.apply("first/dual-stack.yaml")
    addresses = scene.addresses(_DUAL)
    if {each.version for each in addresses} != {4, 6}:
        raise LabError(f"{_DUAL} has {', '.join(map(str, addresses))}, not an address of each family")
    scene.kubectl("get", "service", _DUAL)
    for address in addresses:
        scene.page(address)
    scene.findings.append(("a dual-stack Service, reached over both", " and ".join(map(str, addresses))))


def _deletion(scene: Scene) -> None:
    (address,) = scene.addresses(FIRST)
    scene.kubectl("delete", "service", FIRST)
    with scene.screen.step(f"nothing answers at {address} any more"):
        scene.wait(lambda: not scene.lab.curl(address, timeout=0.5).ok, f"{address} to be silent")
    scene.findings.append(("a deleted Service", f"{address} is silent"))


_STORY: tuple[tuple[str, str, Callable[[Scene], None]], ...] = (
    ("A control plane, and lbcore", "src/lbcore/lab/kubernetes.py (these programs), src/lbcore/cli/serve.py", _install),
    (
        "kubectl apply, get, curl",
        "src/lbcore/allocation.py, src/lbcore/adapters/kubernetes/, src/lbcore/backends/kubernetes/",
        _first_service,
    ),
    ("IPv4 and IPv6", "src/lbcore/requests.py, src/lbcore/adapters/ndp.py", _both_families),
    ("kubectl delete", "src/lbcore/assignment/, src/lbcore/announcement/", _deletion),
    ("Ingress: web sites behind one address", "deploy/ingress-chart/, src/lbcore/routing/", web_sites),
)

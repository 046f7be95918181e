"""`lbcore demo --kubernetes`: MetalLB's first steps at a real API server, with kubectl and curl as a user has them.

Everything that is printed happened, as in the demo on a folder; what does not happen ends it with an error.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from lbcore.adapters.kubernetes.crds import definitions
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.addresses import Address
from lbcore.errors import LbcoreError
from lbcore.lab.client import Answer
from lbcore.lab.controlplane import assets
from lbcore.lab.demo.chapters import FIRST, page_text
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import Findings, manifest
from lbcore.lab.errors import LabError
from lbcore.lab.kubernetes import PROGRAMS, KubernetesLab

__all__ = ["run_kubernetes"]

T = TypeVar("T")

_PATIENCE = 60.0  # seconds for what takes about two on an idle machine
_LOG_LINES = 8
_NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: metallb-system}\n---\n"
_DUAL = "dual-stack"


class _Scene:
    """The cluster, and the screen that shows what a user does with it."""

    def __init__(self, lab: KubernetesLab, screen: Screen, findings: Findings) -> None:
        self.lab = lab
        self.screen = screen
        self.findings = findings

    def wait(self, condition: Callable[[], T], what: str) -> T:
        def look() -> T:
            for program in self.lab.programs:
                if not program.running:
                    raise LabError(f"lbcore's {program.name} has ended by itself")
            return condition()

        return self.lab.wait_until(look, what, _PATIENCE)

    def kubectl(self, *arguments: str, text: str = "", shown: str = "") -> None:
        """Run kubectl and show it, as `shown` where a file was given on its standard input."""
        output = self.lab.kubectl(*arguments, text=text)
        self.screen.command("control ", shown or f"kubectl {' '.join(arguments)}", output)

    def apply(self, name: str) -> None:
        """Show a file, and what kubectl says to it."""
        text, short = manifest(name), name.rpartition("/")[2]
        self.screen.file(short, text)
        self.kubectl("apply", "-f", "-", text=text, shown=f"kubectl apply -f {short}")

    def addresses(self, service: str) -> tuple[Address, ...]:
        """A step: the Service gets its addresses."""

        def look() -> tuple[Address, ...]:
            document = json.loads(self.lab.kubectl("get", "service", service, "-o", "json"))
            ingress = document["status"]["loadBalancer"].get("ingress", ())
            return tuple(Address.parse(each["ip"]) for each in ingress)

        with self.screen.step(f"Service {service} gets an address") as results:
            found = self.wait(look, f"an EXTERNAL-IP of Service {service}")
            results.extend(map(str, found))
        return found

    def page(self, address: Address) -> Answer:
        """A step: the client gets a page, which is shown as curl shows it."""
        with self.screen.step(f"the client fetches a page from {address}") as results:
            answer = self.wait(lambda: got if (got := self.lab.curl(address)).ok else None, f"a page from {address}")
            assert answer is not None
            results.append(f"answered by {answer.served_by}")
        command, text = page_text(self.lab.client.namespace, address)
        self.screen.command("client ", command, text)
        return answer

    def show_logs(self) -> None:
        """The last lines of every daemon."""
        for program in self.lab.programs:
            lines = program.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
            self.screen.log(f"{program.name} ({'runs' if program.running else 'has ended'}), its last lines:", lines)


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
        "of the lab runs nginx for each Pod. Nothing outside is touched, and nothing stays. Half a minute.",
    )
    with screen.step("a control plane, 3 nodes with kube-proxy, a switch and a client"):
        lab = KubernetesLab(nodes=3)
    with lab:
        scene = _Scene(lab, screen, findings)
        try:
            for number, (heading, tell) in enumerate(_STORY, start=1):
                screen.chapter(number, len(_STORY), heading)
                tell(scene)
        except (LbcoreError, OSError, subprocess.SubprocessError):
            scene.show_logs()
            raise
    screen.heading("What was shown")
    screen.table(["WHAT", "SEEN"], findings)
    screen.say(f"All of it happened as shown, in {time.monotonic() - start:.0f} seconds. The cluster is gone again.")


def _install(scene: _Scene) -> None:
    screen, lab = scene.screen, scene.lab
    with screen.step("the resources of metallb.io are known to the API server"):
        lab.api.apply(_NAMESPACE + documents_text(definitions()))
        lab.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    lab.start_controller()
    for node in lab.nodes:
        lab.start_speaker(node)
    screen.say("lbcore's controller runs beside the control plane and a speaker on each node; nothing else does.")
    scene.kubectl("get", "nodes", "-o", "wide")


def _first_service(scene: _Scene) -> None:
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


def _both_families(scene: _Scene) -> None:
    scene.apply("first/dual-stack.yaml")
    addresses = scene.addresses(_DUAL)
    if {each.version for each in addresses} != {4, 6}:
        raise LabError(f"{_DUAL} has {', '.join(map(str, addresses))}, not an address of each family")
    scene.kubectl("get", "service", _DUAL)
    for address in addresses:
        scene.page(address)
    scene.findings.append(("a dual-stack Service, reached over both", " and ".join(map(str, addresses))))


def _deletion(scene: _Scene) -> None:
    (address,) = scene.addresses(FIRST)
    scene.kubectl("delete", "service", FIRST)
    with scene.screen.step(f"nothing answers at {address} any more"):
        scene.wait(lambda: not scene.lab.curl(address, timeout=0.5).ok, f"{address} to be silent")
    scene.findings.append(("a deleted Service", f"{address} is silent"))


_STORY: tuple[tuple[str, Callable[[_Scene], None]], ...] = (
    ("A control plane, and lbcore", _install),
    ("kubectl apply, get, curl", _first_service),
    ("IPv4 and IPv6", _both_families),
    ("kubectl delete", _deletion),
)

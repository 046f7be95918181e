"""A cluster with Kubernetes' control plane on a screen: what every chapter of `lbcore demo --kubernetes` does again and
again. What is expected is waited for and checked; if it does not come, a `LabError` says what failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from lbcore.addresses import Address
from lbcore.lab.client import Answer
from lbcore.lab.demo.chapters import page_text
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import Findings, manifest
from lbcore.lab.errors import LabError
from lbcore.lab.kubernetes import KubernetesLab

__all__ = ["Scene"]

T = TypeVar("T")

_PATIENCE = 60.0  # seconds for what takes about two on an idle machine
_LOG_LINES = 8


class Scene:
    """The cluster, and the screen that shows what a user does with it."""

    def __init__(self, lab: KubernetesLab, screen: Screen, findings: Findings) -> None:
        self.lab = lab
        self.screen = screen
        self.findings = findings

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until a condition gives something true; raises `LabError` when that takes too long or a daemon ends."""

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

    def apply(self, name: str, *, show: bool = True) -> None:
        """Show a file, and what kubectl says to it."""
        text, short = manifest(name), name.rpartition("/")[2]
        if show:
            self.screen.file(short, text)
        self.kubectl("apply", "-f", "-", text=text, shown=f"kubectl apply -f {short}")

    def addresses(self, service: str, namespace: str = "default") -> tuple[Address, ...]:
        """A step: the Service gets its addresses."""

        def look() -> tuple[Address, ...]:
            document = json.loads(self.lab.kubectl("get", "service", service, "-n", namespace, "-o", "json"))
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

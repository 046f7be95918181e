"""What a kubelet does for one pod: an address on the node, a real nginx behind it, a readiness probe.

Whatever image a Deployment names, the lab runs nginx with its own welcome page; each answer says in
the header `X-Served-By: POD/NODE` who gave it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import shutil
import subprocess
import sys
from pathlib import Path

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.lab import page
from lbcore.lab.errors import LabError
from lbcore.lab.network import Station, add_host_addresses, remove_host_addresses
from lbcore.model import Labels, Port

__all__ = ["NamedPort", "Pod", "PodPlan", "nginx_note"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")  # RFC 1123, as Kubernetes demands; safe in a path and in nginx
_WELCOME = (
    "/var/www/html/index.nginx-debian.html",
    "/usr/share/nginx/html/index.html",
    "/var/lib/nginx/html/index.html",
)
_PLAIN_PAGE = "<!DOCTYPE html>\n<title>nginx</title>\n<h1>nginx, without its welcome page</h1>\n"
_PROBE_TIMEOUT = 1.0  # readinessProbe.timeoutSeconds of Kubernetes


@frozen(order=True)
class NamedPort:
    """One of `containers[].ports`: its name (may be empty), protocol and number."""

    name: str = field()
    port: Port


@frozen(kw_only=True)
class PodPlan:
    """What a pod is to be. `number` counts the pods of a node and makes their addresses."""

    namespace: str
    name: str = field()
    owner: str
    node: str
    addresses: tuple[Address, ...]
    labels: Labels = field(factory=Map)
    ports: tuple[NamedPort, ...] = (NamedPort("", Port("TCP", 80)),)

    @name.validator
    def _safe_name(self, _attribute: object, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a pod: lower case letters, digits, '-' and '.' only")

    @property
    def served(self) -> tuple[int, ...]:
        """The TCP ports that nginx listens on."""
        return tuple(sorted({each.port.number for each in self.ports if each.port.protocol == "TCP"}))


class Pod:
    """A pod that runs: made started, not yet ready."""

    def __init__(self, plan: PodPlan, station: Station, folder: Path) -> None:
        self.plan = plan
        self._station = station
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        station.namespace.call(add_host_addresses, plan.addresses)
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "output.log").open("ab") as log:
            return self._station.namespace.spawn(self._program(), stdout=log, stderr=log)

    def _program(self) -> list[str]:
        identity = f"{self.plan.name}/{self.plan.node}"
        if shutil.which("nginx") is None:
            port = str(next(iter(self.plan.served), 80))
            return [sys.executable, "-I", "-S", page.__file__, identity, port, *map(str, self.plan.addresses)]
        (self._folder / "nginx.conf").write_text(nginx_configuration(self.plan), encoding="utf-8")
        (self._folder / "index.html").write_bytes(welcome_page())
        return ["nginx", *_early_log(), "-p", f"{self._folder}/", "-c", "nginx.conf"]

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line that its program printed, empty if it printed nothing."""
        lines = (self._folder / "output.log").read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line), "")

    def ready(self) -> bool:
        """Whether a GET from the node is answered on every address and port now, as a readiness probe asks."""
        return self.running and self._station.namespace.call(_answers, self.plan)

    def restart(self) -> None:
        """Start it again after its process has ended."""
        self._process = self._start()

    def stop(self) -> None:
        """End it and take its addresses away."""
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._station.namespace.call(remove_host_addresses, self.plan.addresses)


def _answers(plan: PodPlan) -> bool:
    return all(_answer(address, port) for address in plan.addresses for port in plan.served)


def _answer(address: Address, port: int) -> bool:
    connection = http.client.HTTPConnection(str(address), port, timeout=_PROBE_TIMEOUT)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False


def nginx_configuration(plan: PodPlan) -> str:
    """nginx.conf for a pod. All paths are relative to the pod's folder (`nginx -p`).

    One process, without a master, so that one signal ends it, and no user but root: a user
    namespace has no other, and nginx gives its folders to that user.
    """
    listens = [
        f"    listen {f'[{address}]' if address.version == 6 else address}:{port};"
        for address in plan.addresses
        for port in plan.served
    ]
    temporary = [f"  {kind}_temp_path temp_{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    return "\n".join(
        [
            "user root;",
            "daemon off;",
            "master_process off;",
            "pid nginx.pid;",
            "error_log error.log;",
            "events { worker_connections 1024; }",
            "http {",
            "  access_log access.log;",
            "  default_type text/html;",
            *temporary,
            "  server {",
            *listens,
            "    root .;",
            f"    add_header X-Served-By {plan.name}/{plan.node} always;",
            "    location = / { try_files /index.html =404; }",
            "    location / { return 404; }",
            "  }",
            "}",
            "",
        ]
    )


def welcome_page() -> bytes:
    """The welcome page of nginx page itself, as the machine has it; a line that says so where it has none."""
    for candidate in map(Path, _WELCOME):
        with contextlib.suppress(OSError):
            content = candidate.read_bytes()
            if b"nginx" in content:
                return content
    return _PLAIN_PAGE.encode()


def nginx_note() -> str | None:
    """What is not real about the pods on this machine, or None."""
    if shutil.which("nginx") is None:
        return "nginx is not installed: the pods are a small Python web server instead"
    if welcome_page() == _PLAIN_PAGE.encode():
        return "nginx has no welcome page on this machine: the pods serve a plain one"
    return None


@functools.cache
def _early_log() -> tuple[str, ...]:
    """Without -e (nginx 1.19.5) nginx first opens the log path it was compiled with, on the machine itself."""
    shown = subprocess.run(["nginx", "-h"], capture_output=True, text=True, check=False, timeout=10)
    return ("-e", "error.log") if "-e filename" in shown.stdout + shown.stderr else ()

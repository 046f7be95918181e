"""The Ingress controller as it runs: a start with many hosts, endpoints that change, and reloads among many changes.

The real program on a folder of manifests, on loopback; backends are servers of nginx that say their number. A client
asks again and again, each time on a new connection, until the answer is the new one's. One host has a Service to
itself, all others share one: an endpoint changes of either.
`--hosts` are the hosts that are there (1000,10000).
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.report import Row, progress, sizes
from lbcore.backends.nginx import find_capabilities

__all__ = ["NAME", "run"]

NAME = "ingress: the program that runs, in a folder of manifests"
SIZES = sizes("LBCORE_BENCH_HOSTS")
_CHANGES = 100
_TURNS, _RELOADS = 21, 7  # a reload of 10,000 hosts takes seconds
_PATIENCE = 300.0
_TAKEN = ("nginx_ingress_controller_success{", "nginx_ingress_controller_success_total{")


def run() -> Iterator[Row]:
    """Every size, with Lua where it is installed, and without; each row as soon as it is known."""
    plain = ("--no-dynamic-upstreams",)
    ways: tuple[tuple[str, ...], ...] = ((), plain) if find_capabilities("nginx").lua else (plain,)
    for hosts in SIZES:
        for how in ways:
            yield from _of_one(hosts, how)


def _of_one(hosts: int, how: tuple[str, ...]) -> Iterator[Row]:
    name = f"{hosts:,} hosts, {'plain nginx' if how else 'nginx with Lua'}"
    with tempfile.TemporaryDirectory(prefix="lbcore-live-") as above:
        gate = _Gate(Path(above), hosts, how)
        try:
            progress(f"{name}: start")
            began = time.monotonic()
            gate.start()
            gate.until(lambda: gate.answer(f"app{hosts - 1}.example.org") != "", "the last host")
            took = time.monotonic() - began
            progress(f"{name}: served after {took:.1f} s")
            yield Row(what=f"{name}: start until the last host is served", figure=took, unit="s", note="wall clock")
            time.sleep(2.0)  # what follows the first table has come and gone
            yield _endpoints(gate, f"{name}: an endpoint of one host's Service", "moving", "app0", bool(how))
            yield _endpoints(gate, f"{name}: an endpoint of all others' Service", "web", f"app{hosts - 1}", bool(how))
            yield _reloads(gate, name)
        finally:
            gate.stop()


def _endpoints(gate: _Gate, name: str, service: str, host: str, reloaded: bool) -> Row:
    progress(name)
    before = gate.taken
    turns = _RELOADS if reloaded else _TURNS
    waits = [gate.moved(service, host, turn % 2) * 1000 for turn in range(1, turns + 1)]
    return Row(
        what=f"{name} changes, until the first answer of the new one",
        figure=median(waits),
        unit="ms",
        at_most=None if reloaded else 100.0,
        note=f"wall clock; median of {turns}, most {max(waits):.0f} ms; {gate.taken - before} reloads",
    )


def _reloads(gate: _Gate, name: str) -> Row:
    progress(f"{name}: changes")
    before = gate.taken
    for number in range(_CHANGES):
        gate.write_extra(number)
        time.sleep(0.05)
    gate.until(lambda: gate.answer(f"extra{_CHANGES - 1}.example.org") != "", "the last change")
    what = f"{name}: reloads among {_CHANGES} new Ingresses, 20 a second"
    return Row(what=what, figure=gate.taken - before, unit="reloads")


class _Gate:
    """The program with its folder, and backends behind it."""

    def __init__(self, above: Path, hosts: int, how: tuple[str, ...]) -> None:
        above.chmod(0o755)
        self._cluster, self._runtime, self._how = above / "cluster", above / "run", how
        self._cluster.mkdir()
        self._http, self._https, self._health, *self._backends = _free_ports(5)
        self._log = (above / "log").open("w")
        servers = "".join(
            f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{number}'; }} }}"
            for number, port in enumerate(self._backends)
        )
        (above / "backends.conf").write_text(
            f"daemon off; pid {above}/pid; error_log stderr; events {{}} http {{ access_log off; {servers} }}"
        )
        self._programs = [subprocess.Popen(["nginx", "-c", str(above / "backends.conf")], stderr=subprocess.DEVNULL)]
        self._write("around", *_around())
        self._write("hosts", *(_ingress(f"app{number}") for number in range(1, hosts)), _ingress("app0", "moving"))
        for service in ("web", "moving"):
            self._move(service, 0)

    def start(self) -> None:
        """Start the program."""
        command = [
            sys.executable, "-m", "lbcore.cli.main", "ingress", "--cluster", str(self._cluster), "--runtime-dir",
            str(self._runtime), "--listen", "127.0.0.1", "--http-port", str(self._http), "--https-port",
            str(self._https), "--healthz-host", "127.0.0.1", "--healthz-port", str(self._health),
            "--allow-vulnerable-nginx", *self._how,
        ]  # fmt: skip
        self._programs.append(subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT))

    def answer(self, host: str) -> str:
        """What a host answers now; empty: nothing good."""
        connection = http.client.HTTPConnection("127.0.0.1", self._http, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": host})
            found = connection.getresponse()
            return found.read().decode() if found.status == 200 else ""
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def moved(self, service: str, host: str, to: int) -> float:
        """Seconds from the file with another endpoint of a Service to the first answer of it at a host."""
        began = time.monotonic()
        self._move(service, to)
        self.until(lambda: self.answer(f"{host}.example.org") == str(to), "the other endpoint")
        return time.monotonic() - began

    def write_extra(self, number: int) -> None:
        """One more Ingress."""
        self._write(f"extra{number}", _ingress(f"extra{number}"))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Ask until it is so."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {_PATIENCE:g} s in vain for {what}")
            time.sleep(0.001)

    @property
    def taken(self) -> int:
        """How many configurations nginx has taken so far, the first one too."""
        connection = http.client.HTTPConnection("127.0.0.1", self._health, timeout=5)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return round(sum(float(each.split()[-1]) for each in lines if each.startswith(_TAKEN)))

    def stop(self) -> None:
        """End everything."""
        for program in reversed(self._programs):
            program.terminate()
            program.wait()
        self._log.close()

    def _move(self, service: str, to: int) -> None:
        self._write(f"slice-{service}", _slice(service, self._backends[to]))

    def _write(self, name: str, *documents: dict[str, Any]) -> None:
        aside = self._cluster / f".{name}"
        aside.write_text(yaml.dump_all(documents, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
        aside.replace(self._cluster / f"{name}.yaml")


def _free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return found


def _around() -> list[dict[str, Any]]:
    """What every Ingress needs: the class, and the Services. One host has a Service to itself, whose endpoint moves."""
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}}
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"name": "http", "port": 80}]}}
    named = ({**service, "metadata": {"name": name, "namespace": "default"}} for name in ("web", "moving"))
    return [{**kind, "spec": {"controller": "k8s.io/ingress-nginx"}}, *named]


def _slice(service: str, port: int) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{service}-1", "namespace": "default", "labels": labels},
        "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "http", "port": port}],
    }  # fmt: skip


def _ingress(name: str, service: str = "web") -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend} for path in ("/", "/api", "/static")]
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": f"{name}.example.org", "http": {"paths": paths}}]},
    }  # fmt: skip

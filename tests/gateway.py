"""nginx as `lbcore ingress` runs it, before backends that say what reached them; requests in, answers out.

All on loopback: each backend is a thread with a socket of its own, each Ingress of a test has a host of its own,
so that one nginx serves a whole file of tests.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

from lbcore.ingress import Certificate

__all__ = ["Answer", "Backend", "Gateway", "config_map", "ingress", "secret"]

PREFIX = "nginx.ingress.kubernetes.io/"
PATIENCE = 30.0
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


@frozen(kw_only=True)
class Answer:
    """A status, headers (lower case; the last one counts), every Set-Cookie, and the body."""

    status: int
    headers: dict[str, str]
    cookies: tuple[str, ...] = ()
    body: bytes = b""

    @property
    def seen(self) -> dict[str, Any]:
        """What the backend saw of the request."""
        return dict(json.loads(self.body))

    @property
    def backend(self) -> str:
        """Who answered."""
        return str(self.seen["backend"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        if self.headers.get("Sec-WebSocket-Key"):
            self._talk()
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        backend: Backend = self.server.backend  # type: ignore[attr-defined]
        time.sleep(float(self.headers.get("X-Want-Pause") or backend.pause))
        status = int(self.headers.get(backend.status_header) or backend.status)
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = {
            "backend": backend.name, "method": self.command, "path": self.path, "headers": headers, "length": len(body),
            "version": self.request_version, **self._of_tls(),
        }  # fmt: skip
        data = json.dumps(said).encode().ljust(int(self.headers.get("X-Want-Size") or 0))
        self.send_response(status)
        for name, value in (*backend.answers.items(), *self._wanted(backend)):
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _wanted(self, backend: Backend) -> Iterator[tuple[str, str]]:
        """Headers that the request asks for; of a backend that echoes, what it was asked as well."""
        for name in ("Cookie", "Location"):
            if f"X-Want-{name}" in self.headers:
                yield f"{'Set-' if name == 'Cookie' else ''}{name}", self.headers[f"X-Want-{name}"]
        if "X-Want-Header" in self.headers:
            yield "X-Long", "x" * int(self.headers["X-Want-Header"])
        if backend.echoes:
            yield from (("Door-Method", self.command), ("Door-Path", self.path))
            yield from ((f"Door-{name}", value) for name, value in self.headers.items())

    def _of_tls(self) -> dict[str, str | None]:
        """Which server a client of TLS asked for, who it said it is, and what was spoken."""
        if not isinstance(self.connection, ssl.SSLSocket):
            return {}
        subject = (self.connection.getpeercert() or {}).get("subject", ())
        names: list[str] = [value for ((kind, value),) in subject if kind == "commonName"]  # type: ignore[misc, str-unpack]
        return {
            "sni": getattr(self.connection, "asked_for", None), "client": names[0] if names else None,
            "protocol": self.connection.version(),
        }  # fmt: skip

    def _talk(self) -> None:
        """RFC 6455, section 4.2.2, and then whatever comes goes back."""
        proof = base64.b64encode(sha1(self.headers["Sec-WebSocket-Key"].encode() + _WEBSOCKET).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", proof)
        self.end_headers()
        while data := self.connection.recv(4096):
            self.connection.sendall(data)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _note_name(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    connection.asked_for = name  # type: ignore[attr-defined]


@frozen(eq=False)
class Backend:
    """An HTTP server that says what it was asked; `answers` are headers that it adds.

    A request may say what it wants: X-Want-Status, -Pause (seconds), -Size (bytes), -Header (bytes of one),
    -Cookie, -Location; with Sec-WebSocket-Key all that comes goes back.
    """

    name: str
    status: int = 200
    answers: Mapping[str, str] = field(factory=dict)
    pause: float = 0.0  # seconds before it answers
    pair: Certificate | None = None  # with one, it speaks TLS
    clients: bytes = b""  # authorities (PEM) of those who may show a certificate
    status_header: str = "X-Want-Status"
    echoes: bool = False  # its answer has what it was asked in headers Door-...
    server: ThreadingHTTPServer = field(init=False)

    @server.default
    def _make(self) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.backend = self  # type: ignore[attr-defined]
        server.daemon_threads = True
        if self.pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.NamedTemporaryFile() as file:
                file.write(self.pair.chain + self.pair.key)
                file.flush()
                context.load_cert_chain(file.name)
            context.sni_callback = _note_name
            if self.clients:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(cadata=self.clients.decode())
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        return server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_address[1])

    def manifests(self, service: str | None = None, *others: Backend) -> list[dict[str, Any]]:
        """A Service (port 80, named `http`) with this and other backends, each in a slice of its own."""
        name = service or self.name
        meta = {"name": name, "namespace": "default"}
        made: list[dict[str, Any]] = [
            {"apiVersion": "v1", "kind": "Service", "metadata": meta,
             "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}}
        ]  # fmt: skip
        for number, each in enumerate((self, *others)):
            made.append(
                {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                 "metadata": {"name": f"{name}-{number}", "namespace": "default",
                              "labels": {"kubernetes.io/service-name": name}},
                 "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "http", "port": each.port}]}
            )  # fmt: skip
        return made


def ingress(
    name: str,
    host: str,
    service: str = "a",
    path: str = "/",
    *,
    kind: str = "Prefix",
    port: int | str = 80,
    tls: str | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **annotations: object,
) -> dict[str, Any]:
    """An Ingress with one rule; annotations by their names with `_` for `-`."""
    number = {"number": port} if isinstance(port, int) else {"name": port}
    rule: dict[str, Any] = {
        "http": {"paths": [{"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": number}}}]}
    }
    if host:
        rule["host"] = host
    spec: dict[str, Any] = {"ingressClassName": "nginx", "rules": [rule]}
    if tls is not None:
        spec["tls"] = [{"hosts": [host], "secretName": tls}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": "default",
            "creationTimestamp": created,
            "annotations": {PREFIX + key.replace("_", "-"): str(value) for key, value in annotations.items()},
        },
        "spec": spec,
    }


def secret(name: str, **data: str) -> dict[str, Any]:
    """A Secret."""
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}


def config_map(**data: str) -> dict[str, Any]:
    """The controller's own ConfigMap; `_` for `-`."""
    meta = {"name": "options", "namespace": "default"}
    values = {key.replace("_", "-"): value for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": values}


CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "nginx"},
    "spec": {"controller": "k8s.io/ingress-nginx"},
}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(pid: str) -> bool:
    """Whether a worker of an older configuration still takes connections: for a moment after a reload it may."""
    try:
        return "shutting down" not in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


class Gateway:
    """The program `lbcore ingress` on a folder, or at an API server where a kubeconfig is given."""

    def __init__(
        self, folder: Path, *, kubeconfig: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.cluster = folder / "cluster"
        # nginx's workers are of another user where tests run as root, and pytest's own folders are closed to it.
        self._above = Path(tempfile.mkdtemp(prefix="lbcore-gateway-"))
        self._above.chmod(0o755)
        self.runtime = self._above / "run"
        self.cluster.mkdir()
        self.http, self.https = free_port(), free_port()
        self._log = folder / "log"
        self._round = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._kubeconfig = kubeconfig
        self._environment = dict(environment or {})

    def start(self, *arguments: str) -> Gateway:
        """Start it; `put` waits until it serves."""
        command = [
            sys.executable, "-m", "lbcore.cli.main", "ingress", *self._place(), "--http-port",
            str(self.http), "--https-port", str(self.https), "--runtime-dir", str(self.runtime), "--listen",
            "127.0.0.1", "--reload-interval", "0.1", "--configmap", "default/options", "--allow-vulnerable-nginx",
            *arguments,
        ]  # fmt: skip
        environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin"} | self._environment
        self._process = subprocess.Popen(
            command, stdout=self._log.open("ab"), stderr=subprocess.STDOUT, env=environment
        )
        return self

    def _place(self) -> list[str]:
        return ["--kubeconfig", str(self._kubeconfig)] if self._kubeconfig else ["--cluster", str(self.cluster)]

    def terminate(self) -> None:
        """Ask it to end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, well."""
        assert self._process is not None
        assert 0 == self._process.wait(20)
        self._process = None

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process is not None and self._process.poll() is None

    @property
    def workers(self) -> frozenset[str]:
        """nginx's workers: others after a reload."""
        master = (self.runtime / "nginx.pid").read_text().strip()
        return frozenset(Path(f"/proc/{master}/task/{master}/children").read_text().split())

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something, without any change of ours."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {PATIENCE} s in vain for {what}:\n{self.log[-3000:]}")
            time.sleep(0.02)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """As long as this lasts it does nothing; nginx goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill_nginx(self) -> None:
        """Let nginx's master die, and its workers with it, as from lack of memory."""
        master = int((self.runtime / "nginx.pid").read_text())
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        for pid in (master, *map(int, workers)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        if self._process is not None:
            self.terminate()
            self.wait()
        shutil.rmtree(self._above, ignore_errors=True)

    @property
    def log(self) -> str:
        """All that it and nginx have said."""
        return self._log.read_text(errors="replace")

    @property
    def text(self) -> str:
        """The configuration that is in force."""
        return (self.runtime / "nginx.conf").read_text()

    def write(self, name: str, *documents: dict[str, Any]) -> None:
        """Let a file of the folder hold these, at once."""
        aside = self.cluster / f".{name}"
        aside.write_text(yaml.safe_dump_all([CLASS, *documents] if name == "all" else list(documents)))
        aside.replace(self.cluster / f"{name}.yaml")

    def put(self, name: str, *documents: dict[str, Any]) -> None:
        """Write a file, and wait until it is served: shown by a host of its own that is told last."""
        self._round += 1
        before = self.workers if (self.runtime / "nginx.pid").exists() else frozenset()
        marker = f"round{self._round}.marker.test"
        self.write(name, *documents, ingress(f"zz-marker-{name}", marker, permanent_redirect=f"http://{marker}/"))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                # Of a host that is not there yet: 404. What the ConfigMap says may come before the redirect.
                if self.get(marker).status in {301, 308, 503} and not any(map(_accepts, before)):
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not served within {PATIENCE} s:\n{self.log[-3000:]}")

    def get(
        self,
        host: str,
        path: str = "/",
        *,
        method: str = "GET",
        tls: bool = False,
        body: bytes | None = None,
        certificate: tuple[Path, Path] | None = None,
        server_name: str | None = None,
        preface: bytes = b"",
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own; headers by their names with `_` for `-`. Never tried again.

        `server_name` is what TLS asks for, if that is not the host; `preface` is sent before everything.
        """
        port = self.https if tls else self.http
        raw: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        raw.sendall(preface)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if certificate is not None:
                context.load_cert_chain(*certificate)
            raw = context.wrap_socket(raw, server_hostname=server_name or host.partition(":")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.sock = raw
        try:
            # A header with an underscore has it doubled.
            named = {"Host": host} | {
                name.replace("__", "\0").replace("_", "-").replace("\0", "_"): value for name, value in headers.items()
            }
            connection.request(method, path, body=body, headers=named)
            found = connection.getresponse()
            data = found.read()
        finally:
            connection.close()
        cookies = tuple(value for name, value in found.getheaders() if name.lower() == "set-cookie")
        answers = {name.lower(): value for name, value in found.getheaders()}
        return Answer(status=found.status, headers=answers, cookies=cookies, body=data)

    def certificate_of(self, host: str) -> bytes:
        """The certificate (DER) that is shown for a name."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.https), timeout=PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname=host) as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True) or b""

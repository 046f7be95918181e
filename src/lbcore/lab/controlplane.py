"""A real etcd and kube-apiserver on this machine, for tests, benchmarks and `make demo-kubernetes`.

    with ApiServer.start() as api:
        api.kubectl("create", "namespace", "shop")
        run("lbcore", "controller", "--kubeconfig", api.kubeconfig)

The programs are found in the folder that KUBEBUILDER_ASSETS names, as setup-envtest fills it. Everything
they write lies in one temporary folder; they and it are gone when the block ends, or its process does.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from lbcore.lab import guard
from lbcore.lab.api import Answered, Caller
from lbcore.lab.errors import LabError, LabUnavailable
from lbcore.lab.namespaces import Namespace
from lbcore.lab.waiting import wait_for

__all__ = ["ASSETS", "ApiServer", "Daemon", "assets", "free_ports", "kubeconfig_text"]

ASSETS = "KUBEBUILDER_ASSETS"  # controller-runtime's own variable
_PATIENCE = 60.0  # seconds for a program to be ready; kube-apiserver takes 5 alone and 20 on a busy machine
_END = 10.0  # seconds for a program to end by itself
_PORTS = (20_000, 32_000)  # below what the kernel gives to outgoing connections, so that a restart finds it free
_ADMIN = "system:masters"
SERVICE_NETWORKS = ("10.96.0.0/16", "fd00:96::/112")

_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


def assets(*programs: str) -> Path:
    """The folder that KUBEBUILDER_ASSETS names; raises `LabUnavailable` when it or one of `programs` is missing."""
    named = os.environ.get(ASSETS)
    if not named:
        raise LabUnavailable(
            f"{ASSETS} is not set; it names a folder with {', '.join(programs)}. "
            "`setup-envtest use -p path` prints one with etcd, kube-apiserver and kubectl; others of the same "
            "release of Kubernetes are put beside them"
        )
    missing = [each for each in programs if not os.access(Path(named) / each, os.X_OK)]
    if missing:
        raise LabUnavailable(f"{ASSETS}={named} has no {', '.join(missing)}")
    return Path(named)


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """TCP ports that nobody listens on now."""
    with ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port = random.randrange(*_PORTS)
            probe = stack.enter_context(socket.socket(socket.AF_INET))
            with suppress(OSError):
                probe.bind((address, port))
                found.append(port)
        return found


def kubeconfig_text(server: str, token: str, authority: Path | None) -> str:
    """A kubeconfig with one cluster and one user, who shows a bearer token. Without `authority` (a PEM file of
    certificates) the server's certificate is not checked.
    """
    trust = {"certificate-authority": str(authority)} if authority else {"insecure-skip-tls-verify": True}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": server, **trust}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
            "current-context": "lab",
        },
        sort_keys=False,
    )


class _Care:
    """The guard (`guard.py`) of this process's programs: it outlives us and ends them."""

    def __init__(self, folder: Path) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def say(self, sign: str, pid: int) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{sign}{pid}\n".encode())
        self._guard.stdin.flush()

    def close(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


class Daemon:
    """A program that can be started, stopped, killed, frozen and started again; `log` is all that it prints.

    It runs in `space`, or beside this process. Not started when it is made.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        care: _Care,
        space: Namespace | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self._care = care
        self._space = space
        self._environment = None if environment is None else {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process; raises `LabError` when it was never started."""
        if self._process is None:
            raise LabError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it, again if it has ended."""
        if self.running:
            raise LabError(f"{self.name} runs already")
        with self.log.open("ab") as output:
            options: dict[str, Any] = {"stdout": output, "stderr": output, "env": self._environment}
            if self._space is not None:
                self._process = self._space.spawn(self.argv, **options)
            else:
                self._process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self._care.say("+", self._process.pid)
        return self

    def signal(self, number: int) -> None:
        """Send it a signal (SIGSTOP and SIGCONT freeze and thaw it)."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, timeout: float = _END) -> int:
        """End it by SIGTERM, and by SIGKILL after `timeout` seconds; its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._ended()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def _ended(self) -> int:
        assert self._process is not None
        code = self._process.wait()
        self._care.say("-", self._process.pid)
        return code

    def said(self, characters: int = 2000) -> str:
        """The end of what it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:]


class ApiServer:
    """A control plane without controllers: etcd, kube-apiserver and an administrator's credentials.

    `url`, `token`, `kubeconfig` (a path) and `authority` (a PEM file) are what a client needs; `folder` is
    where everything lies and where a test may put what belongs to it. `etcd` and `server` are the two
    programs, to be killed and started again. With `audit` every request is told in `requests()`.

    In `space` (a namespace) it listens on all addresses there, `address` is what others reach it by, and clients
    in other namespaces must be on one network with it. Without, it is on the loopback of this process.
    """

    def __init__(
        self,
        *,
        space: Namespace | None = None,
        address: str = "127.0.0.1",
        audit: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        programs = assets("etcd", "kube-apiserver")
        if shutil.which("openssl") is None:
            raise LabUnavailable("an API server needs a signing key, made by openssl; install the package openssl")
        self.folder = Path(tempfile.mkdtemp(prefix="lbcore-api-"))
        self.space = space
        self.address = address
        self.token = secrets.token_hex(16)
        store, peer, self.port = free_ports(3)
        self.url = f"https://{address}:{self.port}"
        self.authority = self.folder / "certs" / "apiserver.crt"
        self._care = _Care(self.folder)
        self._daemons: list[Daemon] = []
        self._audit = self.folder / "audit.jsonl" if audit else None
        self._tokens = {self.token: ("admin", _ADMIN)}
        self._programs = programs
        self._write_keys()
        self.kubeconfig = self.kubeconfig_for("admin", self.token)
        self.etcd_url = f"http://127.0.0.1:{store}"
        self.etcd = self.daemon("etcd", _etcd_flags(self.folder, self.etcd_url, peer))
        bind = "0.0.0.0" if space else address  # noqa: S104 - in a namespace, that of the lab's segment
        self.server = self.daemon(
            "kube-apiserver",
            [*_server_flags(self.folder, self.etcd_url, self.port, bind, address), *self._audit_flags(), *flags],
        )

    @classmethod
    def start(cls, **options: Any) -> Self:
        """One that runs and is ready; `options` as of the constructor."""
        api = cls(**options)
        try:
            api.etcd.start()
            api.server.start()
            api.wait_ready()
        except BaseException:
            api.close()
            raise
        return api

    def _write_keys(self) -> None:
        key, public = self.folder / "sa.key", self.folder / "sa.pub"
        for argv in (
            ["openssl", "genrsa", "-out", str(key), "2048"],
            ["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)],
        ):
            subprocess.run(argv, check=True, capture_output=True)
        lines = [f"{token},{user},{user},{group}\n" for token, (user, group) in self._tokens.items()]
        (self.folder / "tokens.csv").write_text("".join(lines), encoding="ascii")

    def _audit_flags(self) -> list[str]:
        if self._audit is None:
            return []
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(_AUDIT_POLICY, encoding="utf-8")
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self._audit}", "--audit-log-mode=blocking"]

    def program(self, name: str) -> Path:
        """The path of a program beside kube-apiserver; raises `LabUnavailable` if it is not there."""
        return assets(name) / name

    def daemon(
        self,
        name: str,
        flags: Sequence[str],
        *,
        program: Path | str | None = None,
        space: Namespace | None = None,
        environment: Mapping[str, str] | None = None,
        log: str = "",
    ) -> Daemon:
        """One more program that ends with this one, not started yet: `name` beside kube-apiserver, or `program`."""
        argv = [str(program or self._programs / name), *flags]
        where = self.folder / f"{log or name}.log"
        daemon = Daemon(name, argv, where, care=self._care, space=space or self.space, environment=environment)
        self._daemons.append(daemon)
        return daemon

    # Its users

    def kubeconfig_for(self, name: str, token: str, server: str | None = None) -> Path:
        """A kubeconfig file of this server (or of `server`, a URL before it) for somebody with a token."""
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(kubeconfig_text(server or self.url, token, self.authority), encoding="utf-8")
        path.chmod(0o600)
        return path

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A token of a ServiceAccount that exists, from the TokenRequest API."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return str(self.ask("POST", path, body)["status"]["token"])

    def kubeconfig_of(self, namespace: str, account: str, server: str | None = None) -> Path:
        """A kubeconfig file with the rights of a ServiceAccount that exists, and no others."""
        token = self.service_account_token(namespace, account)
        return self.kubeconfig_for(f"{namespace}-{account}", token, server)

    def kubectl(self, *argv: str, text: str = "", check: bool = True, kubeconfig: Path | None = None) -> str:
        """What kubectl prints; with `check` a failure raises `LabError` with what it said, else that is returned."""
        command = [str(self.program("kubectl")), f"--kubeconfig={kubeconfig or self.kubeconfig}", *argv]
        if self.space is not None:
            command = self.space.command(command)
        home = {**os.environ, "HOME": str(self.folder)}  # its cache of what the server offers
        done = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", check=False, timeout=120, env=home
        )
        if check and done.returncode != 0:
            raise LabError(f"kubectl {' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout if done.returncode == 0 else done.stderr + done.stdout

    def apply(self, *documents: Mapping[str, Any] | str | Path) -> None:
        """`kubectl apply --server-side` of documents, YAML texts or files."""
        texts = [
            each.read_text(encoding="utf-8") if isinstance(each, Path)
            else each if isinstance(each, str)
            else yaml.safe_dump(dict(each), sort_keys=False)
            for each in documents
        ]  # fmt: skip
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text="\n---\n".join(texts))

    # Asking it directly

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None, timeout: float = 30.0
    ) -> Answered:
        """One request with a JSON body (PATCH: a JSON merge patch); any HTTP status is an answer. Raises
        `OSError` when nothing answers.
        """
        if self.space is not None:
            return self.space.call(self._request, method, path, body, token or self.token, timeout)
        return self._request(method, path, body, token or self.token, timeout)

    def caller(self, token: str | None = None) -> Caller:
        """A connection that stays, for one thread that is where the server can be reached."""
        return Caller(self.address, self.port, token or self.token, self.authority)

    def _request(self, method: str, path: str, body: object, token: str, timeout: float) -> Answered:
        with closing(self.caller(token)) as caller:
            return caller.request(method, path, body, timeout=timeout)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The document that the server answers with; raises `LabError` for a status of 400 and above."""
        return self.request(method, path, body).wanted(f"{method} {path}")

    def requests(self) -> Iterator[dict[str, Any]]:
        """The audit log so far: an `audit.k8s.io/v1` Event for each request that was answered."""
        if self._audit is None:
            raise LabError("the API server keeps no audit log; start it with audit=True")
        if self._audit.exists():
            with self._audit.open(encoding="utf-8") as lines:
                for line in lines:
                    with suppress(ValueError):  # the last one may be half written
                        yield json.loads(line)

    # Its life

    def wait_ready(self, seconds: float = _PATIENCE) -> None:
        """Return when it serves; raises `LabError` with its last words if it does not within `seconds`."""

        def ready() -> bool:
            for each in (self.etcd, self.server):
                if not each.running:
                    raise LabError(f"{each.name} has ended: {each.said()}")
            try:
                return self.authority.exists() and self.request("GET", "/readyz", timeout=5).status == 200
            except OSError:
                return False

        self.wait(ready, "the API server to be ready", seconds)

    def wait(self, condition: Callable[[], object], what: str, seconds: float = _PATIENCE) -> None:
        """Wait until a question is answered with something true; raises `LabError` after `seconds`."""
        wait_for(condition, seconds, f"waited {seconds:g} s in vain for {what}", pause=0.05)

    def restart(self) -> None:
        """Start kube-apiserver again after it was stopped or killed, and wait until it serves."""
        self.server.start()
        self.wait_ready()

    def close(self) -> None:
        """End both programs and all made by `daemon`, and remove the folder; twice does no harm."""
        for each in reversed(self._daemons):
            if each.running:
                each.kill()
        self._care.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _etcd_flags(folder: Path, url: str, peer: int) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",  # a lab need not survive the loss of power
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--log-level=warn",
    ]


def _server_flags(folder: Path, etcd: str, port: int, bind: str, address: str) -> list[str]:
    return [
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        f"--bind-address={bind}",
        f"--advertise-address={address}",
        f"--cert-dir={folder / 'certs'}",
        f"--service-cluster-ip-range={','.join(SERVICE_NETWORKS)}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
    ]

# ruff: noqa: E501 - manifests are read in rows
"""All tables of requests, and the world that they are asked in: backends, Services, Secrets, client certificates."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from asking import access, conformance, fastcgi, headers, passing, paths, redirects, sessions
from asking.case import Case
from certificates import make_client_pair, make_pair
from gateway import Backend, config_map, free_port, ingress, secret
from lbcore.adapters.certificates import make_fake
from lbcore.ingress import Certificate
from scripts import Script

__all__ = ["CASES", "World"]

CASES: tuple[Case, ...] = (
    *conformance.CASES, *paths.CASES, *redirects.CASES, *passing.CASES, *access.CASES, *sessions.CASES,
    *fastcgi.CASES, *headers.CASES,
)  # fmt: skip


def _fake(name: str) -> Certificate:
    return make_fake(datetime.now(UTC), name)


def _revoked(authority: tuple[bytes, bytes], certificate: bytes) -> str:
    """A list of revoked certificates (PEM) with one in it."""
    now = datetime.now(UTC)
    number = x509.load_pem_x509_certificate(certificate).serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - timedelta(hours=1)).build()
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_pem_x509_certificate(authority[0]).subject)
        .last_update(now - timedelta(hours=1))
        .next_update(now + timedelta(days=1))
        .add_revoked_certificate(entry)
        .sign(load_pem_private_key(authority[1], None), hashes.SHA256())  # type: ignore[arg-type]
    )
    return made.public_bytes(Encoding.PEM).decode()


def _deaf(stack: ExitStack) -> int:
    """A port where nobody takes connections: its queue is full, so that not even a handshake is answered."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(2):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return int(listener.getsockname()[1])


def _service(name: str, ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports or [{"port": 80}], **spec},
    }  # fmt: skip


def _slice(service: str, port: int, name: str = "", ready: bool = True, number: int = 0) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{service}-{number}", "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}], "ports": [{"name": name, "port": port}],
    }  # fmt: skip


@frozen(eq=False)
class World:
    """Everything that the tables' Ingresses name, running until `stack` is closed. `folder` gets clients' pairs."""

    folder: Path
    stack: ExitStack = field(factory=ExitStack)
    authority: tuple[bytes, bytes] = field(factory=lambda: make_pair("authority", common="authority"))
    pair: Certificate = field(factory=lambda: _fake("tls.test"))
    wild: Certificate = field(factory=lambda: _fake("*.wild.test"))
    clients: dict[str, tuple[bytes, bytes]] = field(init=False)
    backends: dict[str, Backend] = field(init=False)
    scripts: tuple[Script, ...] = field(factory=lambda: (Script("script"), Script("script-b")))

    @clients.default
    def _clients(self) -> dict[str, tuple[bytes, bytes]]:
        made = {name: make_client_pair(self.authority, name, "people") for name in ("ann", "revoked")}
        return {**made, "stranger": make_client_pair(make_pair("other", common="other"), "ann", "people")}

    @backends.default
    def _backends(self) -> dict[str, Backend]:
        door = {
            "status": 401,
            "answers": {"X-User": "ann", "Set-Cookie": "session=1"},
            "status_header": "X-Door-Status",
        }
        made = [
            Backend("a"), Backend("b"), Backend("page"), Backend("bad", status=502), Backend("good"),
            Backend("door", echoes=True, **door), Backend("sealed-door", pair=self.pair, **door),  # type: ignore[arg-type]
            Backend("sealed", pair=self.pair, clients=self.authority[0]),
            *(Backend(f"ten-{number}") for number in range(10)),
        ]  # fmt: skip
        return {each.name: each for each in made}

    def client(self, name: str) -> tuple[Path, Path]:
        """The files of a client's certificate and key."""
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        for path, data in zip(files, self.clients[name], strict=True):
            path.write_bytes(data)
        return files

    def documents(self) -> list[dict[str, Any]]:
        """All manifests: Services with their endpoints, Secrets, classes, and the tables' Ingresses."""
        gone = free_port()
        words = {
            "@door@": str(self.backends["door"].port), "@sealed-door@": str(self.backends["sealed-door"].port),
            "@gone@": str(gone),
        }  # fmt: skip
        made = [_with_words(each, words) for case in CASES for each in case.ingresses]
        made.append(ingress("wild", "*.wild.test", tls="wild"))
        return [
            *self._services(gone),
            *self._secrets(),
            *_maps(),
            config_map(global_allowed_response_headers=headers.ALLOWED),
            OTHERS,
            *made,
        ]

    def _services(self, gone: int) -> list[dict[str, Any]]:
        of = self.backends
        cluster: dict[str, Any] = {"clusterIPs": ["192.0.2.1"], "clusterIP": "192.0.2.1"}
        found = [each for name in ("a", "b", "page", "door", "sealed") for each in of[name].manifests()]
        found += of["ten-0"].manifests("ten", *(of[f"ten-{number}"] for number in range(1, 10)))
        found += of["a"].manifests("both", Backend("a"))
        found += of["bad"].manifests("halves", of["good"])
        found += [
            _service("numbered", [{"name": "http", "port": 80, "targetPort": 8099}]),
            _slice("numbered", of["a"].port, "http"),
            _service("half-ready"), _slice("half-ready", of["a"].port), _slice("half-ready", of["b"].port, ready=False, number=1),
            _service("gone"), _slice("gone", gone),
            _service("gone-too"), _slice("gone-too", gone), _slice("gone-too", of["a"].port, number=1),
            _service("deaf"), _slice("deaf", _deaf(self.stack)),
            _service("with-cluster-ip", **cluster), _slice("with-cluster-ip", of["a"].port),
            _service("empty"),
            *(each for script in self.scripts for each in (_service(script.name), _slice(script.name, script.port))),
            _service("half-script"), _slice("half-script", gone), _slice("half-script", self.scripts[0].port, number=1),
            _service("inside", type="ExternalName", externalName="localhost"),
            _service("inside-address", type="ExternalName", externalName="127.0.0.2"),
        ]  # fmt: skip
        return found

    def _secrets(self) -> list[dict[str, Any]]:
        authority = self.authority[0].decode()
        return [
            secret("pair", **_tls(self.pair)),
            secret("wild", **_tls(self.wild)),
            secret("conformance", **_tls(_fake("tls.conformance.test"))),
            secret("users", auth="u:{PLAIN}p\n"),
            secret("usermap", u="{PLAIN}p", evil="x\nevil:{PLAIN}p"),
            secret("hashed", auth=f"sha:{SHA}\napr:{APR1}\n"),
            secret("authorities", **{"ca.crt": self.pair.chain.decode()}),
            secret("clients", **{"ca.crt": authority}),
            secret("clients-revoked", **{"ca.crt": authority, "ca.crl": _revoked(self.authority, self.clients["revoked"][0])}),
            secret("ann", **{"tls.crt": self.clients["ann"][0].decode(), "tls.key": self.clients["ann"][1].decode()}),
        ]  # fmt: skip

    def words(self, http: int, https: int) -> Mapping[str, str]:
        """What stands for `@name@` in what a table expects."""
        shown = quote(self.clients["ann"][0].decode(), safe="-._~")
        return {"@http@": str(http), "@https@": str(https), "@ann@": shown}

    def close(self) -> None:
        """End what is not a thread of its own."""
        self.stack.close()


OTHERS = {
    "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "others"},
    "spec": {"controller": "example.com/another"},
}  # fmt: skip
SHA = "{SHA}UWuXg/ylF+7L0dBk2i0WUxCxl1k="  # both of p
APR1 = "$apr1$abcdefgh$C5orPJWI8v4Qy8kOPQ1vA."


def _maps() -> list[dict[str, Any]]:
    """The ConfigMaps that Ingresses name."""
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}
        for name, data in {**fastcgi.MAPS, **headers.MAPS}.items()
    ]


def _tls(pair: Certificate) -> dict[str, str]:
    return {"tls.crt": pair.chain.decode(), "tls.key": pair.key.decode()}


def _with_words(document: dict[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    annotations = dict(document["metadata"]["annotations"])
    for name, text in annotations.items():
        for word, value in words.items():
            text = text.replace(word, value)  # noqa: PLW2901
        annotations[name] = text
    return {**document, "metadata": {**document["metadata"], "annotations": annotations}}

"""Backends that are no HTTP: each says who it is and what came, with the line of the PROXY protocol if there was one.

All on loopback; a thread for each.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from typing import Any

from attrs import field, frozen

__all__ = ["Talker", "say", "say_datagram", "talk"]

PATIENCE = 10.0


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        talker: Talker = self.server.talker  # type: ignore[attr-defined]
        before: str | None = None
        while line := self.rfile.readline():
            if line.startswith(b"PROXY "):
                before = line.decode().strip()
                continue
            self.wfile.write(json.dumps(talker.said(line.decode().strip(), before)).encode() + b"\n")


class _Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        talker: Talker = self.server.talker  # type: ignore[attr-defined]
        data, answering = self.request
        answering.sendto(json.dumps(talker.said(data.decode(), None)).encode(), self.client_address)


class _TCP6(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6


class _UDP6(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6


@frozen(eq=False)
class Talker:
    """A server at a port of its own that answers each line, or each datagram (`udp`)."""

    name: str
    host: str = "127.0.0.1"
    udp: bool = False
    server: Any = field(init=False)

    @server.default
    def _make(self) -> Any:
        kinds: dict[tuple[bool, bool], Any] = {
            (False, False): socketserver.ThreadingTCPServer, (True, False): socketserver.ThreadingUDPServer,
            (False, True): _TCP6, (True, True): _UDP6,
        }  # fmt: skip
        server = kinds[self.udp, ":" in self.host]((self.host, 0), _Datagram if self.udp else _Connection)
        server.daemon_threads = True
        server.talker = self
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        return server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_address[1])

    def said(self, text: str, before: str | None) -> dict[str, Any]:
        """What it answers."""
        return {"backend": self.name, "said": text, "proxy": before}

    def manifests(self, service: str, *, ready: bool = True, endpoints: bool = True) -> list[dict[str, Any]]:
        """A Service of this protocol (port 7, named `echo`) in namespace `data` that leads here."""
        protocol = "UDP" if self.udp else "TCP"
        meta = {"name": service, "namespace": "data"}
        spec = {"ports": [{"name": "echo", "port": 7, "protocol": protocol}]}
        made: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}]
        if endpoints:
            made.append(
                {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                 "addressType": "IPv6" if ":" in self.host else "IPv4",
                 "metadata": {"name": f"{service}-1", "namespace": "data",
                              "labels": {"kubernetes.io/service-name": service}},
                 "endpoints": [{"addresses": [self.host], "conditions": {"ready": ready}}],
                 "ports": [{"name": "echo", "port": self.port, "protocol": protocol}]}
            )  # fmt: skip
        return made


def talk(connection: socket.socket, text: str) -> dict[str, Any]:
    """One line, and the answer to it. Raises `OSError` where none comes."""
    connection.sendall(f"{text}\n".encode())
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            raise ConnectionResetError("it was closed without an answer")
        data += more
    return dict(json.loads(data))


def say(host: str, port: int, text: str, preface: str = "") -> dict[str, Any]:
    """The same on a connection of its own, with something before it."""
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        connection.sendall(preface.encode())
        return talk(connection, text)


def say_datagram(host: str, port: int, *texts: str) -> list[dict[str, Any]]:
    """Datagrams from one port, each answered before the next. Raises `OSError` where an answer does not come."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = []
    with socket.socket(family, socket.SOCK_DGRAM) as sending:
        sending.settimeout(PATIENCE)
        sending.connect((host, port))
        for text in texts:
            sending.send(text.encode())
            found.append(dict(json.loads(sending.recv(4096))))
    return found

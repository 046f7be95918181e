"""A FastCGI responder that says what it was asked (FastCGI Specification 1.0, sections 3 and 5.1)."""

from __future__ import annotations

import contextlib
import json
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

from attrs import field, frozen

__all__ = ["Script"]

BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6
HEAD = struct.Struct("!BBHHBx")  # version, type, request, length, padding


def _records(stream: Any) -> Iterator[tuple[int, int, bytes]]:
    """Type, request and content of each record, to the end of the connection."""
    while head := stream.read(HEAD.size):
        _, kind, request, length, padding = HEAD.unpack(head)
        content = stream.read(length)
        stream.read(padding)
        yield kind, request, content


def _length(data: bytes, place: int) -> tuple[int, int]:
    """The length that stands at a place, in one byte or four, and where it ends (section 3.4)."""
    if data[place] < 0x80:
        return data[place], place + 1
    return int(struct.unpack_from("!I", data, place)[0]) & 0x7FFFFFFF, place + 4


def _pairs(data: bytes) -> dict[str, str]:
    found, place = {}, 0
    while place < len(data):
        name, place = _length(data, place)
        value, place = _length(data, place)
        middle, end = place + name, place + name + value
        key = data[place:middle].decode()
        assert key not in found, key  # told twice, programs differ in which counts
        found[key], place = data[middle:end].decode(errors="replace"), end
    return found


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        params, body = b"", b""
        with contextlib.suppress(ConnectionError):
            for kind, request, content in _records(self.rfile):
                if kind == BEGIN:
                    params, body = b"", b""
                elif kind == PARAMS:
                    params += content
                elif kind == STDIN and content:
                    body += content
                elif kind == STDIN:
                    self._answer(request, _pairs(params), body)
                    return  # nginx does not ask for the connection to be kept

    def _answer(self, request: int, params: dict[str, str], body: bytes) -> None:
        time.sleep(float(params.get("HTTP_X_WANT_PAUSE", 0)))
        headers = {
            name[5:].lower().replace("_", "-"): value for name, value in params.items() if name.startswith("HTTP_")
        }
        said = {
            **params, "backend": self.server.script.name, "path": params.get("REQUEST_URI"), "headers": headers,  # type: ignore[attr-defined]
            "length": len(body),
        }  # fmt: skip
        more = "X-Long: " + "x" * int(params.get("HTTP_X_WANT_HEADER", 0))
        head = f"Status: {params.get('HTTP_X_WANT_STATUS', 200)}\r\nContent-Type: application/json\r\n{more}\r\n\r\n"
        data = head.encode() + json.dumps(said).encode()
        for start in range(0, len(data), 0xFFFF):
            self._send(STDOUT, request, data[start : start + 0xFFFF])
        self._send(STDOUT, request, b"")
        self._send(END, request, bytes(8))

    def _send(self, kind: int, request: int, content: bytes) -> None:
        self.wfile.write(HEAD.pack(1, kind, request, len(content), 0) + content)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


@frozen(eq=False)
class Script:
    """A responder that tells its parameters by their names, and of `HTTP_...` headers as a `Backend` does.

    A request may say what it wants, as of a `Backend`: X-Want-Status, -Pause (seconds), -Header (bytes of one).
    """

    name: str
    server: _Server = field(init=False)

    @server.default
    def _make(self) -> _Server:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.script = self  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        return server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_address[1])

"""HTTP/2 on both ends of a proxy: a backend that speaks gRPC's framing in the clear or by TLS, and a client.

`h2` has the protocol; here are the sockets. A message of gRPC is a zero, four bytes of length and the message; the
status comes in trailers (gRPC over HTTP/2, "Responses").
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping

import h2.config
import h2.connection
import h2.events
from attrs import define, field, frozen

from lbcore.ingress import Certificate

__all__ = ["GrpcBackend", "Reply", "call", "message"]

PATIENCE = 30.0


def message(text: bytes) -> bytes:
    """A message as gRPC puts it into DATA frames."""
    return b"\0" + len(text).to_bytes(4, "big") + text


@define
class Reply:
    """What came back: pseudo headers and headers, data, and trailers."""

    headers: dict[str, str] = field(factory=dict)
    data: bytes = b""
    trailers: dict[str, str] = field(factory=dict)

    @property
    def status(self) -> int:
        """Of HTTP."""
        return int(self.headers[":status"])


@define
class _Stream:
    headers: dict[str, str] = field(factory=dict)
    data: bytes = b""


def _texts(headers: object) -> dict[str, str]:
    pairs: list[tuple[bytes, bytes]] = list(headers)  # type: ignore[call-overload]
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


@frozen(eq=False)
class GrpcBackend:
    """Answers each call with its own message; says in headers who it is and what it was asked."""

    name: str
    pair: Certificate | None = None
    listener: socket.socket = field(init=False)

    @listener.default
    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def _accept(self, listener: socket.socket) -> None:
        context = _server_context(self.pair)
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=self._serve, args=(raw, context), daemon=True).start()

    def _serve(self, raw: socket.socket, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError):
            self._talk(raw if context is None else context.wrap_socket(raw, server_side=True))

    def _talk(self, link: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        link.sendall(connection.data_to_send())
        streams: dict[int, _Stream] = {}
        while data := link.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    streams[event.stream_id] = _Stream(_texts(event.headers))
                elif isinstance(event, h2.events.DataReceived):
                    streams[event.stream_id].data += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self._answer(connection, event.stream_id, streams.pop(event.stream_id))
            link.sendall(connection.data_to_send())

    def _answer(self, connection: h2.connection.H2Connection, number: int, stream: _Stream) -> None:
        seen = {f"seen-{name.lstrip(':')}": value for name, value in stream.headers.items()}
        head = {":status": "200", "content-type": "application/grpc", "backend": self.name, **seen}
        connection.send_headers(number, list(head.items()))
        connection.send_data(number, stream.data)
        connection.send_headers(number, [("grpc-status", "0"), ("grpc-message", "fine")], end_stream=True)


def _server_context(pair: Certificate | None) -> ssl.SSLContext | None:
    if pair is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair.chain + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def call(
    port: int, host: str, path: str, bodies: list[bytes], *, headers: Mapping[str, str] | None = None
) -> list[Reply]:
    """Calls of one method on one connection by TLS, a stream for each body, all at once; replies in their order."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname=host) as link,
    ):
        assert "h2" == link.selected_alpn_protocol()
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        replies: dict[int, Reply] = {}
        for body in bodies:
            number = connection.get_next_available_stream_id()
            replies[number] = Reply()
            head = {
                ":method": "POST", ":scheme": "https", ":authority": host, ":path": path,
                "content-type": "application/grpc", "te": "trailers", **(headers or {}),
            }  # fmt: skip
            connection.send_headers(number, list(head.items()))
            connection.send_data(number, body, end_stream=True)
        link.sendall(connection.data_to_send())
        _collect(link, connection, replies)
        return list(replies.values())


def _collect(link: ssl.SSLSocket, connection: h2.connection.H2Connection, replies: dict[int, Reply]) -> None:
    """Read until each stream has ended."""
    waiting = set(replies)
    while waiting:
        data = link.recv(65536)
        assert data, "the connection ended before its answers"
        for event in connection.receive_data(data):
            number = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.ResponseReceived):
                replies[number].headers = _texts(event.headers)
            elif isinstance(event, h2.events.TrailersReceived):
                replies[number].trailers = _texts(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                replies[number].data += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                waiting.discard(number)
        link.sendall(connection.data_to_send())

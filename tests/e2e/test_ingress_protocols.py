# ruff: noqa: E501 - a table is read in rows
"""More than a request and an answer: gRPC, WebSocket, HTTP/2, the PROXY protocol, and what a client sees of time."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any

import pytest

from gateway import PATIENCE, Backend, Gateway, config_map, ingress, secret
from http2 import GrpcBackend, call, message
from lbcore.adapters.certificates import make_fake

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

VARIANTS = [
    pytest.param(("--no-dynamic-upstreams",), id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]
PAIR = make_fake(datetime.now(UTC), "grpc.test")
A, B = Backend("a"), Backend("b")
GREETER, OTHER, SEALED = GrpcBackend("greeter"), GrpcBackend("other"), GrpcBackend("sealed", PAIR)


def of_grpc(*backends: GrpcBackend) -> list[dict[str, Any]]:
    """A Service and its endpoints, named after the first backend."""
    made = A.manifests(backends[0].name)[:1]
    for number, each in enumerate(backends):
        [_, slice_] = A.manifests(backends[0].name)
        slice_["metadata"]["name"] = f"{backends[0].name}-{number}"
        slice_["ports"] = [{"name": "http", "port": each.port}]
        made.append(slice_)
    return made


INGRESSES = (
    ingress("grpc", "grpc.test", "greeter", backend_protocol="GRPC"),
    ingress("grpc-lower", "grpc-lower.test", "greeter", backend_protocol="grpc"),
    ingress("grpcs", "grpcs.test", "sealed", backend_protocol="GRPCS"),
    ingress("grpcs-verified", "grpcs-verified.test", "sealed", backend_protocol="GRPCS", proxy_ssl_secret="default/authorities",
            proxy_ssl_verify="on", proxy_ssl_name="grpc.test", proxy_ssl_server_name="on"),
    ingress("grpcs-refused", "grpcs-refused.test", "sealed", backend_protocol="GRPCS", proxy_ssl_secret="default/authorities",
            proxy_ssl_verify="on", proxy_ssl_name="other.test"),
    ingress("grpc-path", "grpc-path.test", "greeter", "/shop.Greeter", backend_protocol="GRPC"),
    ingress("grpc-auth", "grpc-auth.test", "greeter", backend_protocol="GRPC", auth_type="basic", auth_secret="users"),
    ingress("grpc-canary-main", "grpc-canary.test", "greeter", backend_protocol="GRPC"),
    ingress("grpc-canary", "grpc-canary.test", "other", backend_protocol="GRPC", canary="true", canary_by_header="x-new"),
    ingress("plain", "plain.test"),
    ingress("socket-auth", "socket-auth.test", auth_type="basic", auth_secret="users"),
    ingress("body-memory", "body-memory.test", client_body_buffer_size="64k"),
    ingress("body-file", "body-file.test", client_body_buffer_size="8k"),
    ingress("one-at-a-time", "one-at-a-time.test", limit_connections="1"),
    ingress("others", "others.test", limit_connections="1"),
    ingress("answers-many", "answers-many.test", proxy_buffering="on", proxy_buffer_size="16k", proxy_buffers_number="512"),
    ingress("answers-few", "answers-few.test", proxy_buffering="on"),
    ingress("answers-no-file", "answers-no-file.test", proxy_buffering="on", proxy_max_temp_file_size="0"),
)  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    try:
        secrets = (secret("users", auth="u:{PLAIN}p\n"), secret("authorities", **{"ca.crt": PAIR.chain.decode()}))
        services = [*A.manifests(), *B.manifests(), *of_grpc(GREETER), *of_grpc(OTHER), *of_grpc(SEALED)]
        found.put("all", *services, *secrets, *INGRESSES)
        yield found
    finally:
        found.stop()


# gRPC.


@pytest.mark.parametrize("host", ["grpc.test", "grpc-lower.test", "grpcs.test", "grpcs-verified.test"])
def test_a_call_of_grpc_comes_back_with_its_trailers(gateway: Gateway, host: str) -> None:
    [reply] = call(gateway.https, host, "/shop.Greeter/Hello", [message(b"hello")])
    assert (200, message(b"hello")) == (reply.status, reply.data)
    assert {"grpc-status": "0", "grpc-message": "fine"} == reply.trailers
    assert ("sealed" if "grpcs" in host else "greeter") == reply.headers["backend"]
    assert ("POST", "/shop.Greeter/Hello") == (reply.headers["seen-method"], reply.headers["seen-path"])
    assert ("application/grpc", "trailers") == (reply.headers["seen-content-type"], reply.headers["seen-te"])


def test_a_backend_of_grpc_gets_the_headers_that_others_get(gateway: Gateway) -> None:
    [reply] = call(gateway.https, "grpc.test", "/x", [message(b"")], headers={"x-own": "1"})
    assert "grpc.test" == reply.headers["seen-host"]
    assert ("127.0.0.1", "https", "1") == tuple(
        reply.headers[f"seen-{name}"] for name in ("x-real-ip", "x-forwarded-proto", "x-own")
    )


def test_many_calls_of_grpc_share_a_connection(gateway: Gateway) -> None:
    bodies = [message(str(number).encode() * 1000) for number in range(20)]
    replies = call(gateway.https, "grpc.test", "/x", bodies)
    assert bodies == [each.data for each in replies]
    assert {"0"} == {each.trailers["grpc-status"] for each in replies}


def test_a_service_of_grpc_is_a_path(gateway: Gateway) -> None:
    [there] = call(gateway.https, "grpc-path.test", "/shop.Greeter/Hello", [message(b"")])
    [elsewhere] = call(gateway.https, "grpc-path.test", "/shop.Greeters/Hello", [message(b"")])
    assert (200, 404) == (there.status, elsewhere.status)


def test_a_call_of_grpc_needs_the_password_of_its_ingress(gateway: Gateway) -> None:
    [without] = call(gateway.https, "grpc-auth.test", "/x", [message(b"")])
    [with_it] = call(gateway.https, "grpc-auth.test", "/x", [message(b"")], headers={"authorization": "Basic dTpw"})
    assert (401, 200) == (without.status, with_it.status)
    assert "seen-authorization" not in with_it.headers


def test_a_certificate_for_another_name_ends_a_call_of_grpc(gateway: Gateway) -> None:
    [reply] = call(gateway.https, "grpcs-refused.test", "/x", [message(b"")])
    assert 502 == reply.status


def test_a_canary_takes_calls_of_grpc(gateway: Gateway) -> None:
    [main] = call(gateway.https, "grpc-canary.test", "/x", [message(b"")])
    [canary] = call(gateway.https, "grpc-canary.test", "/x", [message(b"")], headers={"x-new": "always"})
    assert ("greeter", "other") == (main.headers["backend"], canary.headers["backend"])


def test_http_2_of_a_client_reaches_a_backend_that_does_not_speak_it(gateway: Gateway) -> None:
    [reply] = call(gateway.https, "plain.test", "/x?y", [b"12345"], headers={"x-want-status": "201"})
    assert 201 == reply.status
    assert b'"version": "HTTP/1.1"' in reply.data
    assert "max-age=31536000; includeSubDomains" == reply.headers["strict-transport-security"]


# WebSocket.


def upgrade(gateway: Gateway, host: str, *, tls: bool, **headers: str) -> tuple[socket.socket, bytes]:
    """A handshake by RFC 6455, and what came back up to the empty line."""
    raw = socket.create_connection(("127.0.0.1", gateway.https if tls else gateway.http), timeout=PATIENCE)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = context.wrap_socket(raw, server_hostname=host)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    raw.sendall(
        f"GET /chat HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := raw.recv(1)):
        head += byte
    return raw, head


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "by TLS"])
def test_a_websocket_is_opened_and_carries_both_ways(gateway: Gateway, tls: bool) -> None:
    link, head = upgrade(gateway, "plain.test", tls=tls)
    with link:
        proof = base64.b64encode(sha1(b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        assert head.startswith(b"HTTP/1.1 101")
        assert proof in head
        for text in (b"\x81\x85abcdhello", b"x" * 3000):
            link.sendall(text)
            found = b""
            while len(found) < len(text) and (data := link.recv(4096)):
                found += data
            assert text == found


def test_a_websocket_needs_the_password_of_its_ingress(gateway: Gateway) -> None:
    for headers, status in (({}, b"401"), ({"Authorization": "Basic dTpw"}, b"101")):
        link, head = upgrade(gateway, "socket-auth.test", tls=False, **headers)
        link.close()
        assert status == head.split()[1]


def test_a_websocket_outlives_a_reload(gateway: Gateway) -> None:
    link, _ = upgrade(gateway, "plain.test", tls=False)
    with link:
        gateway.put("more", ingress("more", "more.test", "b"))
        link.sendall(b"still there")
        assert b"still there" == link.recv(100)


# What a client sees of time.


class Halves:
    """A backend that sends one half of its answer, and the other one when it is told to."""

    def __init__(self, stack: ExitStack) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        link, _ = self._listener.accept()
        with link:
            link.recv(65536)
            self.asked.set()
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst")
            self.go.wait(PATIENCE)
            link.sendall(b"other")


@pytest.mark.parametrize(("switch", "early"), [("off", True), ("on", False)])
def test_without_buffering_the_beginning_of_an_answer_goes_at_once(gateway: Gateway, switch: str, early: bool) -> None:
    with ExitStack() as stack:
        halves = Halves(stack)
        [service, slice_] = A.manifests(f"halves-{switch}")
        slice_["ports"] = [{"name": "http", "port": halves.port}]
        gateway.put(f"halves-{switch}", service, slice_,
                    ingress(f"halves-{switch}", f"halves-{switch}.test", f"halves-{switch}", proxy_buffering=switch))  # fmt: skip
        link = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.http), timeout=PATIENCE))
        link.sendall(f"GET / HTTP/1.1\r\nHost: halves-{switch}.test\r\nConnection: close\r\n\r\n".encode())
        assert halves.asked.wait(PATIENCE)
        link.settimeout(PATIENCE if early else 0.3)
        found = b""
        try:
            while b"first" not in found:
                found += link.recv(4096)
        except TimeoutError:
            assert not early
        assert early is (b"first" in found)
        halves.go.set()
        link.settimeout(PATIENCE)
        while data := link.recv(4096):
            found += data
        assert found.endswith(b"firstother")


@pytest.mark.parametrize(("host", "early"), [("body-unbuffered.test", True), ("body-buffered.test", False)])
def test_without_request_buffering_a_backend_is_asked_before_the_body_is_there(
    gateway: Gateway, host: str, early: bool
) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(PATIENCE if early else 0.3)
        name = host.partition(".")[0]
        [service, slice_] = A.manifests(name)
        slice_["ports"] = [{"name": "http", "port": listener.getsockname()[1]}]
        switch = "off" if early else "on"
        gateway.put(name, service, slice_, ingress(f"{name}-2", f"2.{host}", name, proxy_request_buffering=switch))
        link = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.http), timeout=PATIENCE))
        link.sendall(f"POST / HTTP/1.1\r\nHost: 2.{host}\r\nContent-Length: 10\r\n\r\nfirst".encode())
        try:
            stack.enter_context(listener.accept()[0])
            asked = True
        except TimeoutError:
            asked = False
        assert early is asked


def said_of(gateway: Gateway, host: str, what: str) -> bool:
    return any(what in line and f'host: "{host}"' in line for line in gateway.log.splitlines())


def test_a_body_up_to_its_buffer_is_not_written_to_a_file(gateway: Gateway) -> None:
    for host in ("body-memory.test", "body-file.test"):
        assert 200 == gateway.get(host, method="POST", body=b"x" * 20000).status
    buffered = "a client request body is buffered"
    assert (False, True) == tuple(said_of(gateway, host, buffered) for host in ("body-memory.test", "body-file.test"))


@pytest.mark.parametrize(
    ("host", "written"), [("answers-many.test", False), ("answers-few.test", True), ("answers-no-file.test", False)]
)
def test_an_answer_that_a_client_is_slow_to_read_goes_to_buffers_and_then_to_a_file(
    gateway: Gateway, host: str, written: bool
) -> None:
    size = 6_000_000
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(PATIENCE)
        link.connect(("127.0.0.1", gateway.http))
        link.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Want-Size: {size}\r\nConnection: close\r\n\r\n".encode())
        assert link.recv(100)
        if written:
            gateway.until(lambda: said_of(gateway, host, "an upstream response is buffered"), "a file")
        left = 0
        while data := link.recv(1 << 20):
            left += len(data)
    assert left >= size - 100
    assert written is said_of(gateway, host, "an upstream response is buffered")


def test_one_connection_at_a_time_is_one(gateway: Gateway) -> None:
    answers: list[int] = []

    def be_slow() -> None:
        # Until it is the one: the quick requests below may be there first.
        while 200 not in answers:
            answers[:] = [gateway.get("one-at-a-time.test", X_Want_Pause="1").status]

    slow = threading.Thread(target=be_slow, daemon=True)
    slow.start()
    deadline = time.monotonic() + PATIENCE
    while 503 != gateway.get("one-at-a-time.test").status:
        assert time.monotonic() < deadline
    assert 200 == gateway.get("others.test").status  # another Ingress's client has his own
    slow.join(PATIENCE)
    assert [200] == answers
    gateway.until(lambda: 200 == gateway.get("one-at-a-time.test").status, "the connection to be given back")


def test_a_body_that_a_backend_does_not_take_is_given_up_after_its_time(gateway: Gateway) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        [service, slice_] = A.manifests("stuck")
        slice_["ports"] = [{"name": "http", "port": listener.getsockname()[1]}]
        gateway.put("stuck", service, slice_,
                    ingress("stuck", "stuck.test", "stuck", proxy_send_timeout="1", proxy_body_size="0"))  # fmt: skip
        assert 504 == gateway.get("stuck.test", method="POST", body=b"x" * 12_000_000).status


# The PROXY protocol, by its text form (version 1): `PROXY TCP4 SOURCE DESTINATION SPORT DPORT`.


def test_the_proxy_protocol_says_who_the_client_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    gateway = Gateway(tmp_path_factory.mktemp("proxied")).start()
    first = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 80\r\n"
    sixth = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n"
    try:
        gateway.write("options", config_map(use_proxy_protocol="true"))
        gateway.write("all", *A.manifests(), ingress("proxied", "proxied.test"),
                      ingress("listed", "listed.test", allowlist_source_range="198.51.100.0/24,2001:db8::/64"))  # fmt: skip

        def is_up() -> bool:
            try:
                return gateway.get("proxied.test", preface=first).status == 200
            except OSError:
                return False

        gateway.until(is_up, "it to serve")
        assert "198.51.100.7" == gateway.get("proxied.test", preface=first).seen["headers"]["x-real-ip"]
        seen = gateway.get("proxied.test", tls=True, preface=sixth).seen["headers"]
        assert ("2001:db8::7", "2001:db8::7", "https") == (
            seen["x-real-ip"], seen["x-forwarded-for"], seen["x-forwarded-proto"],
        )  # fmt: skip
        assert 200 == gateway.get("listed.test", preface=first).status
        assert 200 == gateway.get("listed.test", tls=True, preface=sixth).status
        assert 403 == gateway.get("listed.test", preface=first.replace(b"198.51", b"192.0")).status
        with pytest.raises(OSError, match=r".*"):
            gateway.get("proxied.test")  # who does not say is not served
    finally:
        gateway.stop()

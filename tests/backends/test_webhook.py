"""The webhook's server on the loopback: HTTPS with the newest certificate, and clear about what it cannot do."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from certificates import make_pair, mount
from lbcore.backends.certificate import ServedCertificate
from lbcore.backends.http import PortTakenError
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.webhook import PATH, Webhook

T = TypeVar("T")
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u", "operation": "CREATE", "namespace": "metallb-system"},
}


class Server:
    """A webhook whose API server is a port where nobody listens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.certificate = ServedCertificate(folder / "certs", least=ssl.TLSVersion.TLSv1_3, say=self.said.append)
        self.port = 0

    def run(self, body: Callable[[Server], Awaitable[T]]) -> T:
        """What `body` returns, asked while it listens."""

        async def main() -> T:
            config = self.folder / "kubeconfig"
            config.write_text(json.dumps(KUBECONFIG), encoding="utf-8")
            client = Client(Access(kubeconfig=config), agent="test")
            webhook = Webhook(
                client, "metallb-system", self.certificate, on_refused=lambda _: None, say=self.said.append
            )
            try:
                async with asyncio.timeout(30), webhook.listening("::1", 0) as self.port:
                    return await body(self)
            finally:
                await client.close()

        return asyncio.run(main())

    async def post(self, data: bytes, *, trusted: bytes, path: str = PATH) -> tuple[int, str]:
        """Status and text of an answer to somebody who trusts one certificate."""
        context = ssl.create_default_context(cadata=trusted.decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"https://[::1]:{self.port}{path}", data=data, ssl=context) as response,
        ):
            return response.status, await response.text()

    async def served(self) -> bytes:
        """The certificate that a client gets, as PEM; raises `OSError` where there is none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("::1", self.port, ssl=context)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return ssl.DER_cert_to_PEM_cert(shown).encode()


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "x",
    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "x", "user": {"token": "x"}}],
}


def test_a_rotated_certificate_is_served_to_the_next_client(tmp_path: Path) -> None:
    one, two = make_pair("::1"), make_pair("::1")
    server = Server(tmp_path)
    mount(tmp_path / "certs", *one)

    async def rotate(server: Server) -> list[bytes]:
        shown = [await server.served()]
        mount(tmp_path / "certs", *two)
        return [*shown, await server.served()]

    assert [one[0], two[0]] == server.run(rotate)
    assert [] == server.said


def test_a_pair_that_does_not_fit_is_told_once_and_the_old_one_is_served_on(tmp_path: Path) -> None:
    one, two = make_pair("::1"), make_pair("::1")
    server = Server(tmp_path)
    mount(tmp_path / "certs", *one)

    async def break_it(server: Server) -> list[bytes]:
        shown = [await server.served()]
        mount(tmp_path / "certs", two[0], one[1])
        shown += [await server.served(), await server.served()]
        mount(tmp_path / "certs", *two)
        return [*shown, await server.served()]

    assert [one[0]] * 3 + [two[0]] == server.run(break_it)
    why = f"tls.crt and tls.key in {tmp_path}/certs do not belong together"
    assert [f"certificate: {why}; the old one is served on", "certificate: over"] == server.said


def test_without_a_certificate_nobody_can_connect_until_it_is_mounted(tmp_path: Path) -> None:
    server = Server(tmp_path)
    pair = make_pair("::1")
    assert "holds no tls.crt and tls.key" in str(server.certificate.missing())

    async def mount_later(server: Server) -> bytes:
        with pytest.raises(OSError):
            await server.served()
        mount(tmp_path / "certs", *pair)
        return await server.served()

    assert pair[0] == server.run(mount_later)
    assert server.certificate.missing() is None


@pytest.mark.parametrize("text", [b"", b"no pem", b"\xff\x00"])
def test_a_certificate_that_is_none_is_said_to_be_none(text: bytes, tmp_path: Path) -> None:
    server = Server(tmp_path)
    mount(tmp_path / "certs", text, make_pair("::1")[1])
    assert f"tls.crt and tls.key in {tmp_path}/certs are no PEM certificate and key" == server.certificate.missing()


def test_a_certificate_that_has_expired_is_missing(tmp_path: Path) -> None:
    server = Server(tmp_path)
    mount(tmp_path / "certs", *make_pair("::1", days=-1))
    assert f"the certificate in {tmp_path}/certs has expired" == server.certificate.missing()


def test_what_is_no_review_is_refused_in_one_line_and_what_is_too_long_too(tmp_path: Path) -> None:
    server = Server(tmp_path)
    certificate, key = make_pair("::1")
    mount(tmp_path / "certs", certificate, key)

    async def ask(server: Server) -> list[tuple[int, str]]:
        bodies = [b"{}", b" " * (9 << 20)]
        answers = [await server.post(body, trusted=certificate) for body in bodies]
        return [*answers, await server.post(b"{}", trusted=certificate, path="/other")]

    (status, text), (too_long, _), (elsewhere, _) = server.run(ask)
    assert (400, 413, 404) == (status, too_long, elsewhere)
    assert text.startswith("not an AdmissionReview: ")
    assert 1 == text.count("\n")


def test_where_the_api_server_does_not_answer_there_is_no_judgement_and_the_policy_decides(tmp_path: Path) -> None:
    server = Server(tmp_path)
    certificate, key = make_pair("::1")
    mount(tmp_path / "certs", certificate, key)

    async def ask(server: Server) -> tuple[int, str]:
        return await server.post(json.dumps(REVIEW).encode(), trusted=certificate)

    status, text = server.run(ask)
    assert (503, True) == (status, text.startswith("cannot list "))
    assert [f"cannot judge an object: {text.strip()}"] == server.said


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]

        async def listen() -> None:
            client = Client(Access(kubeconfig=tmp_path / "none"), agent="test")
            webhook = Webhook(client, "x", server.certificate, on_refused=lambda _: None, say=server.said.append)
            async with webhook.listening("::1", port):
                pass

        with pytest.raises(PortTakenError, match=f"cannot listen on ::1, port {port}: .*; see --webhook-port"):
            asyncio.run(listen())

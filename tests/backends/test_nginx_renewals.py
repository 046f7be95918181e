"""Pairs of certificate and key are renewed while handshakes are under way: none fails, and nothing is reloaded."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import define, evolve, field
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from lbcore.adapters.certificates import make_fake
from lbcore.adapters.nginx.render import Places
from lbcore.backends.leftovers import KEPT, Leftovers
from lbcore.backends.nginx import Nginx, NginxSettings, find_capabilities
from lbcore.backends.nginx_files import write_files
from lbcore.backends.worker_user import with_user
from lbcore.events import Applied
from lbcore.ingress import Certificate
from lbcore.intents import ServeRoutes
from lbcore.proxy import RoutingTable, Site
from machine import NEWER_NGINX

NAMES = ("a.pair", "b.pair")
PAIRS = (b"one", b"two", b"three")
PAUSES = (0.0, 1.0, 20.0, 59.0, 60.0, 61.0)

HOST = "shop.example"
SHAKES = 100
# More certificates than anybody has: to read them takes a while, and who looks for the file a second time after that is
# caught by a renewal. Without links 11 of the first 16 handshakes failed.
CHAIN = 20


@given(st.lists(st.tuples(st.sampled_from(PAUSES), st.sampled_from(NAMES), st.sampled_from(PAIRS)), min_size=1))
def test_a_pair_that_was_found_is_what_it_was_for_a_minute_and_who_looks_for_it_finds_the_last(
    renewals: list[tuple[float, str, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, now = Path(name).resolve(), 0.0
        leftovers, files = Leftovers(folder), dict.fromkeys(NAMES, PAIRS[0])
        found: dict[Path, tuple[bytes, float]] = {}  # what links led to, and when one did so last
        for later, renewed, pair in renewals:
            write_files(folder, files, "")
            leftovers.tidy(files.keys(), now)
            now += later
            found |= {(folder / each).resolve(): (data, now) for each, data in files.items()}
            files[renewed] = pair
            write_files(folder, files, "")
            leftovers.tidy(files.keys(), now)
            assert files == {each: (folder / each).read_bytes() for each in NAMES}
            assert all(data == path.read_bytes() for path, (data, at) in found.items() if now - at < KEPT)
        leftovers.tidy(files.keys(), now + KEPT)
        linked = {(folder / each).resolve().name for each in NAMES}
        assert {*NAMES, *linked, "tmp"} == {path.name for path in folder.iterdir()}
        assert all(0o600 == (folder / each).stat().st_mode & 0o777 for each in linked)


@define
class Clients:
    """Handshakes one after another, in threads of their own: whose certificates were shown, and what failed."""

    port: int
    shown: list[bytes] = field(factory=list)
    failed: list[str] = field(factory=list)
    enough: threading.Event = field(factory=threading.Event)

    @contextmanager
    def shaking(self, number: int = 2) -> Iterator[None]:
        threads = [threading.Thread(target=self._shake) for _ in range(number)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self.enough.set()
            for each in threads:
                each.join()

    def _shake(self) -> None:
        while not self.enough.is_set():
            try:
                self.shown.append(self.shake())
            except OSError as error:
                self.failed.append(str(error))
            if len(self.shown) >= SHAKES or len(self.failed) >= 10:
                self.enough.set()

    def shake(self) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=30) as raw,
            context.wrap_socket(raw, server_hostname=HOST) as sealed,
        ):
            return sealed.getpeercert(binary_form=True) or b""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that nginx's workers reach: pytest's are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="lbcore-renewals-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "run"


def long_pair() -> Certificate:
    """A new one."""
    pair, other = make_fake(datetime.now(UTC), HOST), make_fake(datetime.now(UTC))
    return evolve(pair, chain=pair.chain + CHAIN * other.chain)


@pytest.mark.slow
@pytest.mark.needs("nginx")
@pytest.mark.parametrize(
    ("program", "lua"),
    [
        pytest.param("nginx", False, id="plain"),
        pytest.param("nginx", True, id="lua", marks=pytest.mark.needs("nginx-lua")),
        pytest.param(str(NEWER_NGINX), False, id="newer", marks=pytest.mark.needs("nginx-newer")),
    ],
)
def test_no_handshake_fails_while_pairs_are_renewed_and_nothing_is_reloaded(
    program: str, lua: bool, folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [each.getsockname()[1] for each in (one, other)]
    places = Places(folder=str(folder), http_port=ports[0], https_port=ports[1], listen=("127.0.0.1",),
                    access_log="off")  # fmt: skip
    found = find_capabilities(program)
    capabilities = found if lua else evolve(found, lua=())
    settings, fake = NginxSettings(program=program, interval=0.0), make_fake(datetime.now(UTC))
    nginx = Nginx(settings, with_user(places), capabilities, fake, print)
    clients = Clients(ports[1])

    async def serve(pair: Certificate) -> None:
        intent = ServeRoutes(table=RoutingTable(sites=Map({HOST: Site(host=HOST, certificate=pair)})))
        assert Applied(intent) == await nginx.apply(intent)

    async def life() -> None:
        pairs = [long_pair(), long_pair()]
        try:
            await serve(pairs[0])
            with clients.shaking():
                turn = 0
                while not clients.enough.is_set():
                    turn += 1
                    await serve(pairs[turn % 2])
            last = await asyncio.to_thread(clients.shake)
        finally:
            await nginx.close()
        assert [] == clients.failed
        ders = [x509.load_pem_x509_certificate(each.chain).public_bytes(Encoding.DER) for each in pairs]
        assert (set(ders), ders[turn % 2]) == (set(clients.shown), last)
        assert 0 == nginx.reloads

    asyncio.run(life())

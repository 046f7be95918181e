# ruff: noqa: E501 - configurations and manifests are written in rows
"""Requests while everything changes: endpoints roll, Ingresses come and go, certificates are renewed, nginx reloads.

No new connection fails and no answer is cut short. On a connection that was kept, a proxy that ends it and a client that
asks meet now and then; those are counted apart, and nothing is ever asked twice.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from gateway import Gateway, free_port, ingress, secret
from lbcore.adapters.certificates import make_fake

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

RATE = 2000  # requests a second that are aimed at; two busy cores give less, and the test says how many
SECONDS = float(os.environ.get("LBCORE_LOAD_SECONDS", "8"))
KEPT, LONG = 20, 4
SIZE = 48 * 1024  # of a long answer, at 32 KiB/s: more than a second, so that reloads happen within it


@define
class Tally:
    """What came of it."""

    answered: int = 0
    fresh: int = 0
    long: int = 0
    races: int = 0  # a kept connection ended before the first byte of an answer
    wrong: list[str] = field(factory=list)


class Backends:
    """An nginx of its own behind the one that is tried: four ports, each quick, and slow where it is asked to be."""

    def __init__(self, folder: Path) -> None:
        self.ports = [free_port() for _ in range(4)]
        (folder / "long").write_bytes(b"x" * SIZE)
        folder.chmod(0o755)
        (folder / "long").chmod(0o644)
        servers = "".join(
            f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'quick'; }} "
            f"location /long {{ root {folder}; limit_rate 32k; }} }}"
            for port in self.ports
        )
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{ worker_connections 4096; }}"
            f"http {{ access_log off; keepalive_requests 1000000; {temporary} {servers} }}"
        )
        self._process = subprocess.Popen(["nginx", "-c", str(config)])

    def manifests(self, *which: int) -> list[dict[str, Any]]:
        meta = {"name": "web", "namespace": "default"}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }
        slices = [
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
             "metadata": {"name": f"web-{number}", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
             "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "http", "port": self.ports[number]}]}
            for number in which
        ]  # fmt: skip
        return [service, *slices]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    found = Backends(tmp_path_factory.mktemp("backends"))
    yield found
    found.stop()


VARIANTS = [
    pytest.param(("--no-dynamic-upstreams",), id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]


class Load:
    """Clients of one gateway, and what changes meanwhile."""

    def __init__(self, gateway: Gateway, backends: Backends) -> None:
        self._gateway = gateway
        self._backends = backends
        self.generations: set[frozenset[str]] = set()
        self._ends = 0.0
        self.tally = Tally()
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    async def run(self) -> None:
        self._ends = asyncio.get_running_loop().time() + SECONDS
        await asyncio.gather(
            *(self._kept(number) for number in range(KEPT)), *(self._long(number) for number in range(LONG)),
            self._fresh(tls=False), self._fresh(tls=True), self._change(),
        )  # fmt: skip

    @property
    def _goes_on(self) -> bool:
        return asyncio.get_running_loop().time() < self._ends

    async def _kept(self, number: int) -> None:
        """Requests on a connection that is kept as long as nginx keeps it, at a pace of its own."""
        loop = asyncio.get_running_loop()
        due = loop.time() + number / RATE
        while self._goes_on:
            reader, writer = await self._connect(tls=False)
            asked = 0
            while self._goes_on:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due = max(due + KEPT / RATE, loop.time() - 1)
                status = await self._ask(reader, writer, "/", reused=asked > 0)
                asked += 1
                if status != 200:
                    break
            writer.close()

    async def _fresh(self, *, tls: bool) -> None:
        """A connection for each request."""
        while self._goes_on:
            reader, writer = await self._connect(tls=tls)
            if await self._ask(reader, writer, "/", reused=False):
                self.tally.fresh += 1
            writer.close()
            await asyncio.sleep(0.02)

    async def _long(self, number: int) -> None:
        """An answer that takes more than a second."""
        await asyncio.sleep(number / LONG)
        while self._goes_on:
            reader, writer = await self._connect(tls=number % 2 == 0)
            if await self._ask(reader, writer, "/long", reused=False, size=SIZE):
                self.tally.long += 1
            writer.close()

    async def _connect(self, *, tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        more: dict[str, Any] = {"ssl": self._context, "server_hostname": "web.test"} if tls else {}
        port = self._gateway.https if tls else self._gateway.http
        return await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port, **more), 30)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, *, reused: bool, size: int = 5
    ) -> int:
        """200 where the connection may be used again, 1 where it may not, 0 where there was no answer."""
        head, body = b"", b""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: web.test\r\n\r\n".encode())
            async with asyncio.timeout(30):
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            partial = error.partial if isinstance(error, asyncio.IncompleteReadError) else b""
            if reused and not head and not partial and not isinstance(error, TimeoutError):
                self.tally.races += 1
            else:
                self.tally.wrong.append(f"{path} reused={reused}: {error!r} after {head[:60]!r}")
            return 0
        if not head.startswith(b"HTTP/1.1 200") or len(body) != size:
            self.tally.wrong.append(f"{path}: {head[:80]!r}")
            return 0
        self.tally.answered += 1
        return 1 if b"connection: close" in head.lower() else 200

    async def _change(self) -> None:
        """Everything that changes in a cluster, several times a second."""
        for turn in itertools.count():
            if not self._goes_on:
                return
            await asyncio.to_thread(self._turn, turn)
            await asyncio.sleep(0.3)

    def _turn(self, turn: int) -> None:
        gateway = self._gateway
        gateway.write("web", *self._backends.manifests(turn % 4, (turn + 1) % 4))
        if turn % 3 == 0:
            gateway.write(
                "more", *(ingress(f"more-{each}", f"more-{each}.test", "web") for each in range(turn % 2 * 5))
            )
        if turn % 4 == 0:
            gateway.write("pair", pair())
        with suppress(OSError):
            self.generations.add(gateway.workers)


def pair() -> dict[str, Any]:
    """A certificate that was not there before."""
    made = make_fake(datetime.now(UTC), "web.test")
    return secret("pair", **{"tls.crt": made.chain.decode(), "tls.key": made.key.decode()})


@pytest.mark.parametrize("arguments", VARIANTS)
def test_nothing_fails_while_everything_changes(
    arguments: tuple[str, ...], backends: Backends, tmp_path: Path, record_property: Any
) -> None:
    gateway = Gateway(tmp_path).start(*arguments)
    try:
        gateway.write("web", *backends.manifests(0, 1))
        gateway.write("pair", pair())
        gateway.put("all", ingress("web", "web.test", "web", tls="pair", ssl_redirect="false"))
        load = Load(gateway, backends)
        asyncio.run(load.run())
    finally:
        gateway.stop()
    tally = load.tally
    said = (
        f"{tally.answered / SECONDS:.0f} requests a second of {RATE}, {tally.fresh} on connections of their own, {tally.long} long "
        f"ones, {len(load.generations)} generations of workers, {tally.races} races on kept connections"
    )
    record_property("load", said)
    print(said)
    assert [] == tally.wrong[:10]
    assert len(load.generations) >= 2
    assert min(tally.fresh, tally.long, tally.answered // 20) >= 3

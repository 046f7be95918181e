"""How nginx begins: of the first configuration the start is the test, and what is promised of a test holds for it."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve
from immutables import Map

from gateway import Backend
from lbcore.adapters.certificates import make_fake
from lbcore.adapters.nginx.render import Places
from lbcore.backends.nginx import Nginx, NginxSettings, find_capabilities
from lbcore.events import Applied, Failed, RoutesRefused
from lbcore.ingress import ObjectKey
from lbcore.intents import ServeRoutes
from lbcore.proxy import Location, Match, Options, Peer, Policies, RoutingTable, Site, Source, Upstream

pytestmark = pytest.mark.needs("nginx")

WITH_LUA = [pytest.param(False, id="plain"), pytest.param(True, id="lua", marks=pytest.mark.needs("nginx-lua"))]
GOOD, BAD, WORSE = "good.example", "bad.example", "worse.example"
KEY = ObjectKey("default", "web")


class Begun:
    """A real nginx at [::1] that notes each of its calls, and a backend behind it."""

    def __init__(self, above: Path, *, lua: bool) -> None:
        self.folder, self._calls, program = above / "run", above / "calls", above / "nginx"
        program.write_text(f'#!/bin/sh\necho "$1" >> {self._calls}\nexec {shutil.which("nginx")} "$@"\n')
        program.chmod(0o755)
        self.port, other = (free_port() for _ in range(2))
        places = Places(folder=str(self.folder), http_port=self.port, https_port=other, listen=("[::1]",),
                        error_log=str(above / "log"), access_log="off",
                        user="root" if os.geteuid() == 0 else "")  # fmt: skip
        found = find_capabilities("nginx")
        capabilities = found if lua else evolve(found, lua=())
        fake = make_fake(datetime(2026, 1, 1, tzinfo=UTC))
        self.nginx = Nginx(NginxSettings(program=str(program), interval=0.0), places, capabilities, fake, print)
        self.backend = Backend("a")

    def table(self, *hosts: str, options: Options | None = None) -> RoutingTable:
        """Hosts with a backend; of two of them nginx takes nothing."""
        upstream = Upstream(id="u1", service=KEY, port="80", peers=(Peer("127.0.0.1", self.backend.port),))
        location = Location(
            path="/", match=Match.PREFIX, source=Source(ingress=KEY), policies=Policies(), upstream="u1"
        )
        ciphers = {BAD: "no:such", WORSE: "nor:such"}
        sites = {host: Site(host=host, locations=(location,), ciphers=ciphers.get(host)) for host in hosts}
        return RoutingTable(sites=Map(sites), upstreams=Map({"u1": upstream}), options=options or Options())

    async def serve(self, *hosts: str, options: Options | None = None) -> Applied | Failed:
        return await self.nginx.apply(ServeRoutes(table=self.table(*hosts, options=options)))

    @property
    def calls(self) -> list[str]:
        """The first word of each: `-t` of a test, `-c` of a start."""
        return self._calls.read_text().split()

    def status(self, host: str) -> int:
        connection = http.client.HTTPConnection("::1", self.port, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": host})
            return connection.getresponse().status
        finally:
            connection.close()

    def run(self, life: Callable[[], Awaitable[None]]) -> None:
        async def lived() -> None:
            try:
                await life()
            finally:
                await self.nginx.close()

        asyncio.run(lived())


def free_port() -> int:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("lua", WITH_LUA)
def test_the_first_configuration_is_read_once_and_later_ones_are_tested_first(tmp_path: Path, lua: bool) -> None:
    begun = Begun(tmp_path, lua=lua)

    async def life() -> None:
        assert isinstance(await begun.serve(GOOD), Applied)
        assert ["-c"] == begun.calls
        assert 200 == begun.status(GOOD)
        assert 1 == begun.nginx.told.taken
        assert isinstance(await begun.serve(GOOD, "more.example"), Applied)
        assert ["-c", "-t"] == begun.calls
        assert {"nginx.conf"} == {path.name for path in begun.folder.glob("nginx.conf*")}

    begun.run(life)


def test_an_nginx_that_has_ended_begins_again_with_what_it_had(tmp_path: Path) -> None:
    begun = Begun(tmp_path, lua=False)

    async def life() -> None:
        assert isinstance(await begun.serve(GOOD), Applied)
        os.kill(int((begun.folder / "nginx.pid").read_text()), signal.SIGTERM)
        async with asyncio.timeout(10.0):
            while begun.nginx.missing() is None:  # noqa: ASYNC110 - it says so to who asks, and to nobody else
                await asyncio.sleep(0.01)
        assert isinstance(await begun.serve(GOOD), Applied)
        assert ["-c", "-c"] == begun.calls
        assert 200 == begun.status(GOOD)

    begun.run(life)


@pytest.mark.parametrize("lua", WITH_LUA)
def test_hosts_that_nginx_refuses_at_the_start_are_found_and_all_others_are_served(tmp_path: Path, lua: bool) -> None:
    begun = Begun(tmp_path, lua=lua)

    async def life() -> None:
        assert isinstance(await begun.serve(GOOD, BAD, "more.example", WORSE), Applied)
        assert ["-c", "-t"] == begun.calls[:2]  # no less than all is tried by a start that serves
        assert "-c" == begun.calls[-1]
        assert 2 == begun.calls.count("-c")
        assert [200, 200, 503, 503] == [begun.status(host) for host in (GOOD, "more.example", BAD, WORSE)]
        events = begun.nginx.events()
        said = [await anext(events) for _ in range(2)]
        await events.aclose()
        refused = [each for each in said if isinstance(each, RoutesRefused)]
        assert [(BAD,), (WORSE,)] == [each.hosts for each in refused]
        assert all("no:such" in each.message for each in refused)

    begun.run(life)


def test_where_nginx_refuses_all_of_the_first_one_what_an_earlier_life_left_stays(tmp_path: Path) -> None:
    begun = Begun(tmp_path, lua=False)
    begun.folder.mkdir(mode=0o700)
    (begun.folder / "nginx.conf").write_text("# of an earlier life\n")

    async def life() -> None:
        failed = await begun.serve(GOOD, options=Options(ssl_ciphers="no:such"))
        assert isinstance(failed, Failed)
        assert failed.message.startswith("nginx refuses the configuration: ")
        assert "no:such" in failed.message
        assert "# of an earlier life\n" == (begun.folder / "nginx.conf").read_text()
        assert not (begun.folder / "nginx.conf.old").exists()
        assert "nothing is served yet" == begun.nginx.missing()
        assert isinstance(await begun.serve(GOOD), Applied)
        assert 200 == begun.status(GOOD)

    begun.run(life)


@pytest.mark.slow
def test_a_port_that_somebody_else_has_is_no_fault_of_a_host(tmp_path: Path) -> None:
    begun = Begun(tmp_path, lua=False)

    async def life() -> None:
        with socket.create_server(("::1", begun.port), family=socket.AF_INET6):
            failed = await begun.serve(GOOD)
        assert isinstance(failed, Failed)
        assert "nginx does not start; its own words are above" == failed.message
        assert ["-c", "-t", "-c"] == begun.calls
        assert isinstance(await begun.serve(GOOD), Applied)
        assert 200 == begun.status(GOOD)

    begun.run(life)

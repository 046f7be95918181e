"""Files that no configuration names any more: workers of earlier ones may read them for a while, and then they go."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from lbcore.adapters.certificates import make_fake
from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.render import Places
from lbcore.backends.leftovers import KEPT, Leftovers
from lbcore.backends.nginx import Nginx, NginxSettings, find_capabilities
from lbcore.events import Applied
from lbcore.intents import ServeRoutes
from lbcore.proxy import RoutingTable, Site

FILES = ("a.pair", "a.pem", "b.users", "c.ca", "d.crl", "e.dh", "f.ticket")
PAUSES = (0.0, 0.5, 1.0, 29.0, 30.0, 59.0, 60.0, 61.0)
OTHERS = {"nginx.conf", "nginx.pid", "peers.txt", "init.lua", ".pem"}


@given(st.lists(st.tuples(st.sampled_from(PAUSES), st.sets(st.sampled_from(FILES)))))
def test_a_file_goes_when_no_look_has_wanted_it_for_a_minute(looks: list[tuple[float, set[str]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, now = Path(name), 0.0
        for other in (*OTHERS, *FILES):
            (folder / other).touch()
        leftovers = Leftovers(folder)
        unwanted: dict[str, list[float]] = {each: [] for each in FILES}  # the looks since it was wanted last
        for later, wanted in looks:
            now += later
            for each in wanted:
                (folder / each).touch()  # what is wanted is written first
            leftovers.tidy(wanted, now)
            unwanted = {each: [] if each in wanted else [*times, now] for each, times in unwanted.items()}
            kept = {each for each, times in unwanted.items() if not times or now - times[0] < KEPT}
            assert kept | OTHERS == {path.name for path in folder.iterdir()}
            assert leftovers.waiting is any(each in kept for each, times in unwanted.items() if times)


def test_what_somebody_else_has_taken_away_is_waited_for_no_longer(tmp_path: Path) -> None:
    leftovers = Leftovers(tmp_path)
    (tmp_path / "a.pem").touch()
    leftovers.tidy(set(), 0.0)
    assert leftovers.waiting
    (tmp_path / "a.pem").unlink()
    leftovers.tidy(set(), 1.0)
    assert not leftovers.waiting


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its clock goes as always, and jumps when it is told to."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Served:
    """A real nginx with hosts that have certificates, without Lua, in a loop whose clock jumps."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            ports = [each.getsockname()[1] for each in (one, other)]
        places = Places(folder=str(folder), http_port=ports[0], https_port=ports[1], listen=("127.0.0.1",),
                        error_log=str(folder.parent / "log"), access_log="off")  # fmt: skip
        self.folder = folder
        self.fake = make_fake(datetime(2026, 1, 1, tzinfo=UTC))
        capabilities = evolve(find_capabilities("nginx"), lua=())
        self.nginx = Nginx(NginxSettings(interval=0.0), places, capabilities, self.fake, print)

    async def serve(self, *hosts: str, app_root: str = "/") -> None:
        sites = Map({host: Site(host=host, certificate=self.fake, app_root=app_root) for host in hosts})
        intent = ServeRoutes(table=RoutingTable(sites=sites))
        assert Applied(intent) == await self.nginx.apply(intent)

    @property
    def certificates(self) -> set[str]:
        return {path.name for path in self.folder.glob("c*.pair")}

    def run(self, life: Callable[[JumpingLoop], Awaitable[None]]) -> None:
        async def lived() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, JumpingLoop)
            try:
                await life(loop)
            finally:
                await self.nginx.close()

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(lived())


GONE, STAYS = (f"c{digest(host)}.pair" for host in ("gone.example", "stays.example"))


@pytest.mark.needs("nginx")
def test_a_certificate_stays_a_minute_after_its_host_has_gone_and_others_keep_theirs(tmp_path: Path) -> None:
    served = Served(tmp_path / "run")

    async def life(loop: JumpingLoop) -> None:
        await served.serve("gone.example", "stays.example")
        await served.serve("stays.example")
        assert {GONE, STAYS} == served.certificates
        loop.ahead += KEPT / 2
        await served.serve("stays.example", app_root="/a")
        assert {GONE, STAYS} == served.certificates
        loop.ahead += KEPT / 2
        await served.serve("stays.example", app_root="/b")
        assert {STAYS} == served.certificates

    served.run(life)


@pytest.mark.needs("nginx")
def test_it_goes_as_well_where_nothing_else_ever_changes(tmp_path: Path) -> None:
    served = Served(tmp_path / "run")

    async def life(loop: JumpingLoop) -> None:
        events = served.nginx.events()
        listening = asyncio.create_task(anext(events))
        await served.serve("gone.example", "stays.example")
        since = loop.time()
        await served.serve("stays.example")
        while GONE in served.certificates:
            assert loop.ahead < 3 * KEPT
            loop.ahead += KEPT / 4
            await asyncio.sleep(0.05)
        assert KEPT <= loop.time() - since
        assert {STAYS} == served.certificates
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await events.aclose()

    served.run(life)

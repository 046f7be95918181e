"""One nginx: started, given configurations, reloaded, and ended. The last good configuration stays in force.

Everything lies in one folder (0700): `nginx.conf`, the files with secrets (0600) and `nginx.pid`. A new
configuration is written aside and tested by nginx itself before it takes the place of the old one; of the first one
the start is the test. If nginx refuses it, the hosts and streams that are to blame are found by halving those that
changed; hosts answer 503 then, ports of streams are closed, and everybody else gets what is new.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from hashlib import blake2b
from pathlib import Path

import attrs
from attrs import frozen

from lbcore.adapters.nginx.capabilities import Capabilities, modules_of, read_capabilities, stream_module_of
from lbcore.adapters.nginx.lua import CONTROL
from lbcore.adapters.nginx.render import Places, Rendered, Renderer
from lbcore.backends import nginx_process
from lbcore.backends.figures import Figures, read_figures
from lbcore.backends.leftovers import KEPT, Leftovers
from lbcore.backends.nginx_files import write_files
from lbcore.backends.openings import unopenable
from lbcore.backends.peers import Peers
from lbcore.errors import LbcoreError, LocalProtocolError
from lbcore.events import Applied, Event, Failed, RoutesRefused
from lbcore.ingress import Certificate
from lbcore.intents import Intent, ServeRoutes
from lbcore.proxy import RoutingTable, Site, Stream

__all__ = ["Nginx", "NginxSettings", "Told", "find_capabilities", "most_files", "resolvers_of"]

_LOOK = 0.5  # seconds between two looks for an nginx to take care of, or two starts
_PORTS = 5.0  # seconds between two looks whether a port that somebody else had is free
_CONFIG, _NEW, _OLD = "nginx.conf", "nginx.conf.new", "nginx.conf.old"
_MOST_TESTS = 40  # of one table: finds 3 bad hosts among 1,000


@frozen(kw_only=True)
class NginxSettings:
    """`interval` is the least time between two reloads, in seconds: each leaves old workers behind for a while."""

    program: str = "nginx"
    interval: float = 1.0


@frozen(kw_only=True)
class Told:
    """How often nginx took a configuration or refused one; of the one in force a number, and when it was taken."""

    taken: int = 0
    refused: int = 0
    number: int = 0
    last_taken: bool = False
    last_taken_at: float = 0.0


def find_capabilities(program: str) -> Capabilities:
    """What the installed nginx can do. Raises `LbcoreError` where there is none."""
    path = shutil.which(program)
    if path is None:
        raise LbcoreError(f"there is no program {program}; install it (Debian: apt-get install nginx-light)")
    said = _ask(path, "-V").stderr
    package = _package_of(Path(path))
    found = read_capabilities(said, package)
    modules, stream = modules_of(said), stream_module_of(said)
    if modules and all(Path(each).is_file() for each in modules):
        found = attrs.evolve(found, lua=modules)
    return attrs.evolve(found, stream=True, stream_module=stream) if stream and Path(stream).is_file() else found


def _package_of(path: Path) -> str:
    """The version of Debian's package that a program came in; empty: in none, whatever else is installed."""
    if shutil.which("dpkg-query") is None:
        return ""
    owner, colon, _ = _ask("dpkg-query", "-S", str(path.resolve())).stdout.partition(":")
    return _ask("dpkg-query", "-W", "-f", "${Version}", owner).stdout if colon else ""


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def most_files() -> int:
    """How many files a process of ours may have open at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def resolvers_of(text: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf, as nginx writes them."""
    words = [line.split() for line in text.splitlines() if line.startswith("nameserver")]
    names = [parts[1].partition("%")[0] for parts in words if len(parts) > 1]
    return tuple(f"[{name}]" if ":" in name else name for name in names)


class Nginx:
    """Sink for `ServeRoutes`; a source of what nginx refused. `folder` is made if it is not there."""

    handles: tuple[type[Intent], ...] = (ServeRoutes,)

    def __init__(
        self,
        settings: NginxSettings,
        places: Places,
        capabilities: Capabilities,
        fake: Certificate,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._folder = Path(places.folder)
        self._renderer = Renderer(places=places, capabilities=capabilities, fake=fake)
        self._user = places.user
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._told: asyncio.Queue[Event] = asyncio.Queue()
        self._good: RoutingTable | None = None  # what nginx took last
        self._refused: frozenset[str] = frozenset()  # hosts and streams
        self._unopened: dict[str, str] = {}  # streams of them whose ports cannot be had, and why
        self._capabilities = capabilities
        self._places = places
        self._text = ""
        self._files: dict[str, bytes] = {}  # that the configuration in force names
        self._leftovers = Leftovers(self._folder)
        self._last_reload = 0.0
        self._peers = Peers(self._folder)
        self._busy = asyncio.Lock()
        self._closing = False
        self.reloads = 0
        self.told = Told()
        self._counted = bool(places.metrics and capabilities.lua)

    async def figures(self) -> Figures:
        """What nginx and its processes are doing now."""
        return await read_figures(self._folder, counted=self._counted)

    def missing(self) -> str | None:
        """What keeps it from serving; None where nothing does."""
        if self._good is None:
            return "nothing is served yet"
        if self._process is None or self._process.returncode is not None:
            return "nginx has ended"
        return None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Which hosts were refused, and why. As long as somebody listens, an nginx that ends by itself is restarted."""
        cares = (self._take_care(), self._look_at_ports(), self._tidy_now_and_then())
        care = [asyncio.create_task(each) for each in cares]
        try:
            while True:
                yield await self._told.get()
        finally:
            for each in care:
                each.cancel()
            await asyncio.gather(*care, return_exceptions=True)

    async def _take_care(self) -> None:
        while True:
            process = self._process
            if process is None:
                await asyncio.sleep(_LOOK)
                continue
            code = await process.wait()
            async with self._busy:
                if self._process is process and not self._closing:
                    self._say(f"nginx has ended by itself with status {code}, and is started again")
                    try:
                        await self._start_again()
                    except (OSError, LbcoreError) as error:
                        self._say(f"that was in vain: {error}")
            await asyncio.sleep(_LOOK)

    async def _start_again(self) -> None:
        """Without the ports that somebody else has taken meanwhile: with them it would not start."""
        if self._good is not None and (await self._unopenable(self._good)).keys() - self._refused:
            await self._serve(self._good)
        else:
            await self._reload()

    async def _look_at_ports(self) -> None:
        while True:
            await asyncio.sleep(_PORTS)
            async with self._busy:
                if self._good is None or self._closing or not self._unopened:
                    continue
                with contextlib.suppress(OSError, LbcoreError):
                    if (await self._unopenable(self._good)).keys() != self._unopened.keys():
                        await self._serve(self._good)

    async def _unopenable(self, table: RoutingTable) -> dict[str, str]:
        runs = self._process is not None and self._process.returncode is None
        held = {each.name for each in self._good.streams} - self._refused if self._good is not None and runs else set()
        return await asyncio.to_thread(unopenable, table.streams, frozenset(held), self._places, self._capabilities)

    async def _tidy_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(KEPT)
            async with self._busy:
                if self._leftovers.waiting:
                    with contextlib.suppress(OSError):
                        await self._tidy(self._files)

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Serve a table."""
        if not isinstance(intent, ServeRoutes):
            return Failed(intent=intent, message=f"nginx does not do {type(intent).__name__}", retry=False)
        loop = asyncio.get_running_loop()
        if self._process is not None:
            await self._peers.tell_known(intent.table.upstreams)
            await asyncio.sleep(max(0.0, self._last_reload + self._settings.interval - loop.time()))
        try:
            async with self._busy:
                await self._serve(intent.table)
        except (OSError, LbcoreError) as error:
            self.told = attrs.evolve(self.told, refused=self.told.refused + 1, last_taken=False)
            return Failed(intent=intent, message=str(error))
        return Applied(intent)

    async def close(self) -> None:
        """End nginx: requests under way are finished, for as long as `worker-shutdown-timeout` gives them."""
        self._closing = True
        patience = self._good.options.shutdown_timeout if self._good is not None else 0
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGQUIT)
        try:
            await asyncio.wait_for(process.wait(), patience + 10)
        except TimeoutError:
            process.terminate()
            await process.wait()

    async def _serve(self, table: RoutingTable) -> None:
        unopened = await self._unopenable(table)
        refused = (self._refused - self._unopened.keys()) & self._unchanged(table) if self._refused else self._refused
        rendered, refused, why = await self._acceptable(table, refused | unopened.keys())
        same = rendered.files is self._files  # nothing but peers has changed
        if not same:
            await asyncio.to_thread(self._write, rendered.files)
        peers = await asyncio.to_thread(self._peers.note, rendered.dynamic, all_of_them=True)
        if rendered.text == self._text and self._process is not None and self._process.returncode is None:
            await self._tell(peers)
        else:
            if rendered.text != self._text:  # else nginx has ended, and what it had is not written again
                (self._folder / _NEW).replace(self._folder / _CONFIG)
            await self._reload()
            self._note_taken(rendered)
        if not same:
            await self._tidy(rendered.files)
        for part in sorted(refused - self._refused):
            self._told.put_nowait(RoutesRefused((part,), unopened.get(part, why)))
        self._good, self._refused, self._unopened, self._files = table, refused, unopened, rendered.files

    def _note_taken(self, rendered: Rendered) -> None:
        self._text = rendered.text
        number = int.from_bytes(blake2b(rendered.text.encode(), digest_size=6).digest())
        taken = self.told.taken + 1
        self.told = attrs.evolve(self.told, taken=taken, number=number, last_taken=True, last_taken_at=time.time())

    async def _tidy(self, files: dict[str, bytes]) -> None:
        await asyncio.to_thread(self._leftovers.tidy, files.keys(), asyncio.get_running_loop().time())

    async def _tell(self, peers: str) -> None:
        try:
            await self._peers.tell(peers)
        except LbcoreError as error:
            self._say(f"{error}; it is reloaded instead")
            await self._reload()

    def _unchanged(self, table: RoutingTable) -> frozenset[str]:
        """The hosts and streams that are as nginx took them last."""
        before = _parts(self._good) if self._good is not None else {}
        return frozenset(name for name, part in _parts(table).items() if _is_same(part, before.get(name)))

    async def _acceptable(self, table: RoutingTable, refused: frozenset[str]) -> tuple[Rendered, frozenset[str], str]:
        """A configuration that nginx takes, what had to be left out for it, and what nginx said."""
        first, why = await self._try(table, refused, begins=self._process is None)
        if first is not None:
            return first, refused, ""
        unchanged = self._unchanged(table)
        everybody = sorted(_parts(table).keys() - refused)
        changed = [part for part in everybody if part not in unchanged]
        for suspects in (changed, everybody):
            bad = await self._to_blame(table, suspects, refused)
            found, _ = await self._try(table, refused | bad)
            if found is not None:
                return found, refused | bad, why
        raise LbcoreError(f"nginx refuses the configuration: {why}")

    async def _to_blame(self, table: RoutingTable, suspects: list[str], refused: frozenset[str]) -> frozenset[str]:
        """Those without which the others are taken: halves of the suspects, while there are tests left."""
        bad: frozenset[str] = frozenset()
        waiting, tests = [suspects], 0
        whole = frozenset(suspects)
        while waiting:
            part = waiting.pop()
            tests += 1
            found, _ = await self._try(table, refused | (whole - frozenset(part)))
            if found is not None:
                continue
            if len(part) <= 1 or tests > _MOST_TESTS:
                bad |= frozenset(part)
            else:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
        return bad

    async def _try(
        self, table: RoutingTable, without: frozenset[str], *, begins: bool = False
    ) -> tuple[Rendered | None, str]:
        """The configuration, if nginx takes it, or why not; with `begins` nginx is started with it first."""
        try:
            # Seconds for 10,000 hosts: others (who asks for health, and what is told meanwhile) have their turns.
            rendered = await asyncio.to_thread(self._renderer.render, table, without)
        except LocalProtocolError as error:
            return None, str(error)
        if rendered.text == self._text:
            return rendered, ""
        await asyncio.to_thread(self._write, rendered.files | {_NEW: rendered.text.encode()})
        if begins and await self._begin(rendered):
            return rendered, ""
        try:
            code, said = await nginx_process.test(self._settings.program, self._folder / _NEW)
        except TimeoutError:
            return None, "nginx took too long to test it"
        lines = [line for line in said.splitlines() if "[emerg]" in line]
        return (rendered, "") if code == 0 else (None, lines[0][:300] if lines else said[-300:])

    async def _begin(self, rendered: Rendered) -> bool:
        """Start nginx with what it has not tested; whether it did. Nothing is in force yet that could be harmed, and
        10,000 hosts are read once instead of twice. What an earlier life left is there again if nginx refuses.
        """
        self._last_reload = asyncio.get_running_loop().time()
        await asyncio.to_thread(self._peers.note, rendered.dynamic, all_of_them=True)
        config, new, old = (self._folder / name for name in (_CONFIG, _NEW, _OLD))
        old.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            old.hardlink_to(config)
        new.replace(config)
        if await self._start():
            old.unlink(missing_ok=True)
            self._note_taken(rendered)
            return True
        self._process = None
        config.replace(new)  # to be tested: a test says why
        with contextlib.suppress(FileNotFoundError):
            old.replace(config)
        return False

    async def _reload(self) -> None:
        self._last_reload = asyncio.get_running_loop().time()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)
            self.reloads += 1
            return
        if not await self._start():
            raise LbcoreError("nginx does not start; its own words are above")

    async def _start(self) -> bool:
        """Start nginx with `nginx.conf`; whether it has taken it, and has its ports."""
        pid = self._folder / "nginx.pid"
        pid.unlink(missing_ok=True)
        (self._folder / CONTROL).unlink(missing_ok=True)  # of one that was killed
        self._process = await nginx_process.spawn(self._settings.program, self._folder / _CONFIG)
        return await nginx_process.has_begun(self._process, pid)

    def _write(self, files: dict[str, bytes]) -> None:
        write_files(self._folder, files, self._user)


def _parts(table: RoutingTable) -> dict[str, Site | Stream]:
    """What may be left out of a table, by name: hosts, and streams, in whose names there is a slash."""
    return {**table.sites, **{each.name: each for each in table.streams}}


def _is_same(part: Site | Stream, before: Site | Stream | None) -> bool:
    """A site that has not changed is the same object; to compare two takes long."""
    return part is before or (isinstance(part, Stream) and part == before)

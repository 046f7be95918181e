"""What nginx says of itself, and what the kernel says of its processes: read when somebody asks.

nginx is asked at its socket in the folder that nobody else gets into; the processes are its master and whatever the
master has started (proc(5)).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from attrs import frozen

from lbcore.adapters.nginx.counts import Series, read_counts
from lbcore.adapters.nginx.lua import CONTROL
from lbcore.adapters.nginx.status import Connections, read_status
from lbcore.errors import LbcoreError

__all__ = ["Figures", "Processes", "read_figures"]

_PATIENCE = 5.0  # seconds
_MOST = 64 << 20  # bytes of an answer: 5,000 series of 16 workers are 30 MB
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@frozen(kw_only=True)
class Processes:
    """Sums over nginx's processes; `oldest` is in seconds since 1970."""

    number: int = 0
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    write_bytes: int = 0
    resident: int = 0
    virtual: int = 0
    oldest: float = 0.0


@frozen(kw_only=True)
class Figures:
    """`series` is None where nginx does not count requests."""

    connections: Connections | None = None
    processes: Processes = Processes()
    series: tuple[Series, ...] | None = None


async def read_figures(folder: Path, *, counted: bool) -> Figures:
    """Everything at this moment; what cannot be had is left out. `counted`: its workers count requests."""
    processes = await asyncio.to_thread(_processes, folder / "nginx.pid")
    try:
        connections = read_status(await _ask(folder, "/status"))
        series = read_counts(await _ask(folder, "/counts")) if counted else None
    except (OSError, TimeoutError, LbcoreError):
        return Figures(processes=processes)
    return Figures(connections=connections, processes=processes, series=series)


async def _ask(folder: Path, path: str) -> str:
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_unix_connection(str(folder / CONTROL), limit=_MOST)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: figures\r\n\r\n".encode())
            await writer.drain()
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise LbcoreError(f"nginx does not answer {path}")
    return body.decode("utf-8", "replace")


def _processes(pid_file: Path) -> Processes:
    try:
        master = int(pid_file.read_text())
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        boot = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    except (OSError, ValueError, StopIteration):
        return Processes()
    found = [each for each in (_process(pid, boot) for pid in (master, *map(int, children))) if each is not None]
    return Processes(
        number=len(found),
        cpu_seconds=sum(each.cpu_seconds for each in found),
        read_bytes=sum(each.read_bytes for each in found),
        write_bytes=sum(each.write_bytes for each in found),
        resident=sum(each.resident for each in found),
        virtual=sum(each.virtual for each in found),
        oldest=min((each.oldest for each in found), default=0.0),
    )


def _process(pid: int, boot: float) -> Processes | None:
    proc = Path(f"/proc/{pid}")
    try:
        # After the name, which may hold anything: state is field 3, utime 14, stime 15, starttime 22 (proc(5)).
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        virtual, resident = map(int, (proc / "statm").read_text().split()[:2])
    except (OSError, ValueError):
        return None
    try:
        io = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())
    except (OSError, ValueError):
        io = {}  # of another user, and we are not root
    return Processes(
        number=1,
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        read_bytes=int(io.get("rchar", 0)),
        write_bytes=int(io.get("wchar", 0)),
        resident=resident * _PAGE,
        virtual=virtual * _PAGE,
        oldest=boot + int(fields[19]) / _TICKS,
    )

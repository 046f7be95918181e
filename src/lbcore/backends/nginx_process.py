"""nginx as a child of ours: a test of a configuration, and a start. Of our environment it is told next to nothing."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

__all__ = ["READ_TIME", "has_begun", "spawn", "test"]

READ_TIME = 120.0  # seconds that it may take to read a configuration: 10,000 hosts with Lua took 12


async def test(program: str, config: Path) -> tuple[int, str]:
    """The exit status of `nginx -t`, and what it said. Raises `TimeoutError`."""
    process = await asyncio.create_subprocess_exec(
        program, "-t", "-q", "-c", str(config), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=_environment()
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), READ_TIME)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode(errors="replace")


async def spawn(program: str, config: Path) -> Process:
    """One that has yet to read its configuration."""
    return await asyncio.create_subprocess_exec(program, "-c", str(config), stdin=DEVNULL, env=_environment())


async def has_begun(process: Process, pid: Path) -> bool:
    """Whether it has taken its configuration and its ports, and written its number to `pid`; else it has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READ_TIME
    while not pid.exists():  # noqa: ASYNC240 - some us, in a folder of our own
        if process.returncode is not None:
            return False
        if loop.time() > deadline:
            process.kill()  # a signal to reload, too, ends one that reads
            await process.wait()
            return False
        await asyncio.sleep(0.02)
    return True


def _environment() -> dict[str, str]:
    """No token, no name of a proxy."""
    return {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "TZ": "UTC"}

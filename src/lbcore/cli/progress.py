"""What is said on a terminal while a cluster is read, where that takes longer than one likes to wait."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import click

__all__ = ["reading"]

T = TypeVar("T")

_PATIENCE = 2.0  # seconds before the first word, and between two

Tell = Callable[[str, int], None]


def reading(work: Callable[[Tell], Coroutine[Any, Any, T]], patience: float = _PATIENCE) -> T:
    """Run what reads, which tells which kind it reads and how many have come; what it raises is raised."""
    return asyncio.run(_watched(work, patience))


async def _watched(work: Callable[[Tell], Awaitable[T]], patience: float) -> T:
    said = "asking the API server"

    def tell(kind: str, count: int) -> None:
        nonlocal said
        said = f"reading {kind}" + (f", {count:,} so far" if count else "")

    task = asyncio.ensure_future(work(tell))
    try:
        while not (await asyncio.wait({task}, timeout=patience if sys.stderr.isatty() else None))[0]:
            click.echo(f"lbcore: {said}", err=True)
    finally:
        task.cancel()
    return task.result()

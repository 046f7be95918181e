"""Being told when something in a folder changes, also when the folder itself goes and returns.

watchfiles (inotify) tells most changes; what it cannot tell, a look at everything makes up for: a
queue of the kernel that ran over, a file system that tells nothing, a link to something outside.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from watchfiles import awatch

__all__ = ["FolderWatch"]

STEP_MS = 25  # quiet for so long, and a change counts as finished
DEBOUNCE_MS = 100  # in a folder that is never quiet, changes are told this often
ROOT_CHECK_MS = 1000  # how often a folder that tells nothing is asked whether it is still the same
RETRY = 0.2  # seconds between two tries to watch a folder that is not there
POLL = 2.0  # seconds between two looks where no watch can be had (fs.inotify.max_user_watches)
LOOK_AT_ALL = 10.0  # seconds; a walk over 10,000 files takes about 50 ms, so this costs half a percent


class FolderWatch:
    """Collects the paths that changed; `wait` hands them out. Use it as an async context manager.

    `every` so many seconds everything is to be looked at.
    """

    def __init__(self, root: Path, is_interesting: Callable[[str], bool], *, every: float = LOOK_AT_ALL) -> None:
        self._root = root
        self._every = every
        self._is_interesting = is_interesting
        self._changed: set[str] | None = set()  # None: anything may have changed
        self._bell = asyncio.Event()
        self._all_at = 0.0  # when everything is to be looked at, on the event loop's clock
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FolderWatch:
        self._task = asyncio.create_task(self._run(), name=f"watch {self._root}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def wait(self, at_most: float | None = None) -> Collection[str] | None:
        """The paths that changed since the last call, as soon as there are any; None: look at everything.

        After `at_most` seconds it returns None, and now and then in any case, also where something always changes.
        """
        clock = asyncio.get_running_loop().time
        limit = self._every if at_most is None else min(at_most, self._every)
        changed: set[str] | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, limit)):
                await self._bell.wait()
            self._bell.clear()
            changed, self._changed = self._changed, set()
        if changed is not None and clock() < self._all_at:
            return changed
        self._all_at = clock() + self._every
        return None

    def _ring(self, paths: Collection[str] | None) -> None:
        if paths is None or self._changed is None:
            self._changed = None
        else:
            self._changed |= set(paths)
        self._bell.set()

    async def _run(self) -> None:
        while True:
            pause = RETRY
            try:
                await self._follow(_identity(self._root))
            except FileNotFoundError:
                pass  # it may come back at any time
            except OSError:
                pause = POLL
            self._ring(None)
            await asyncio.sleep(pause)

    async def _follow(self, identity: tuple[int, int]) -> None:
        """Tell changes until the folder is no longer the one with this identity."""
        watch = awatch(
            self._root,
            watch_filter=lambda _, path: self._is_interesting(path),
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=ROOT_CHECK_MS,
            yield_on_timeout=True,
            stop_event=_Standing(asyncio.get_running_loop(), self._ring),
            ignore_permission_denied=True,
        )
        async with contextlib.aclosing(watch) as batches:
            async for batch in batches:
                if _identity(self._root) != identity:
                    return
                if batch:
                    self._ring({path for _, path in batch})


class _Standing(asyncio.Event):
    """Never set by us. watchfiles asks it as soon as the watch stands: what changed before that was
    not told, so then everything is looked at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[None], None]) -> None:
        super().__init__()
        self._loop = loop
        self._ring = ring
        self._rung = False

    def is_set(self) -> bool:
        if not self._rung:
            self._rung = True
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._ring, None)
        return super().is_set()


def _identity(root: Path) -> tuple[int, int]:
    status = root.stat()
    return (status.st_dev, status.st_ino)

"""The process that ends a lab's programs when their owner is gone, however it died, and removes their folder.

Run as a script (`python -I -S guard.py [FOLDER]`), so it imports the standard library only. Its standard
input is a pipe from the owner: `+PID` puts a process into its care, `-PID` takes it out, and end of file means
that the owner is gone. It is for programs outside of namespaces of their own; `anchor` clears those.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["main"]


def _opened(pid: int) -> int | None:
    """A handle of a process: a pid that is used again later is never hit."""
    try:
        return os.pidfd_open(pid)
    except OSError:  # it has ended already
        return None


def _watch(lines: Iterable[str]) -> dict[int, int]:
    """Follow the owner's words to the end; the handles of the processes that are in care then."""
    handles: dict[int, int] = {}
    for line in lines:
        pid = int(line[1:])
        old = handles.pop(pid, None)
        if old is not None:
            os.close(old)
        handle = _opened(pid) if line.startswith("+") else None
        if handle is not None:
            handles[pid] = handle
    return handles


def main(folder: str = "") -> None:
    """Wait for the owner's end, then leave nothing of its programs behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is for the owner
    for handle in _watch(sys.stdin).values():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    if folder and Path(folder).exists():
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

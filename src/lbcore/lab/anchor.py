"""The process that holds one network namespace of a lab, and clears it when the lab is gone.

Run as a script (`unshare --net --uts python -I -S anchor.py NAME [FOLDER]`), so it imports the
standard library only. Its standard input is a pipe that the lab never writes to: end of file means
that the lab is closed or dead, however it died, and then everything in this namespace is killed.
PR_SET_PDEATHSIG would not do: it reaches children only, not their children, and it fires when the
*thread* that started a child ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["namespace_of", "processes_in", "signal_processes"]

_LAB_CHECK = 1.0  # seconds; a forked copy of the lab may hold the pipe open, so its pid is looked at too
_SWEEPS = 200  # at 5 ms: a second for what is just starting or dying in the namespace
_PAUSE = 0.005


def namespace_of(pid: int | str) -> str:
    """The network namespace of a process as the kernel names it (`net:[4026531840]`); raises `OSError`."""
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def processes_in(namespace: str) -> Iterator[int]:
    """The pids of every other process in a network namespace, children of children too."""
    own = str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != own and _is_in(entry.name, namespace):
            yield int(entry.name)


def signal_processes(namespace: str, signum: int, spare: int = 0) -> int:
    """Send a signal to every other process in a namespace except the pid `spare`; how many got it."""
    sent = 0
    for pid in processes_in(namespace):
        if pid != spare:
            sent += _signal_one(pid, namespace, signum)
    return sent


def _is_in(pid: int | str, namespace: str) -> bool:
    try:
        return namespace_of(pid) == namespace
    except OSError:  # gone, a zombie, or not ours to see: then it is not one of the lab's either
        return False


def _signal_one(pid: int, namespace: str, signum: int) -> int:
    """Through a pidfd that is checked after it was opened, so that a re-used pid is never hit."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        if not _is_in(pid, namespace):
            return 0
        signal.pidfd_send_signal(handle, signum)
        return 1
    except ProcessLookupError:
        return 0
    finally:
        os.close(handle)


def _wait_for_the_end(lab: int) -> None:
    while os.getppid() == lab:
        readable, _, _ = select.select([0], [], [], _LAB_CHECK)
        if readable and not os.read(0, 1):
            return


def _clear(namespace: str) -> None:
    quiet = 0
    for _ in range(_SWEEPS):
        quiet = 0 if signal_processes(namespace, signal.SIGKILL) else quiet + 1
        if quiet == 2:  # twice: a program on its way in is seen by the second look
            return
        time.sleep(_PAUSE)


def _remove(folder: str) -> None:
    """Remove the lab's folder; programs in other namespaces may still be writing for a moment."""
    for _ in range(_SWEEPS):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(_PAUSE)


def main(name: str, folder: str = "") -> None:
    """Hold this process's namespace until standard input ends, then leave nothing behind."""
    lab = os.getppid()
    namespace = namespace_of("self")
    if namespace == namespace_of(lab) or _is_in(1, namespace):
        sys.exit("the anchor must have a network namespace of its own")  # or it would kill the lab's neighbours
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    socket.sethostname(name)
    os.write(1, b"ready\n")
    _wait_for_the_end(lab)
    _clear(namespace)
    if folder:
        _remove(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A network namespace as an object that leaves nothing behind, whatever happens to its owner.

It is held by one process (`lbcore.lab.anchor`) and named by /proc/PID/ns/net: nothing is written to
/run/netns. When the owner closes it, or dies, the anchor kills every process inside and goes too.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from lbcore.lab import anchor
from lbcore.lab.errors import LabError, LabUnavailable

__all__ = ["Namespace"]

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # sched.h
_PATIENCE = 5.0  # seconds for an anchor to start or to end; it takes some 20 ms
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network (and host name) namespace with the processes inside.

    Making it returns at once; the first use waits until it is there. `folder`, if given, is removed
    after the owner is gone.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name = name
        self._programs: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()  # programs are started from several threads
        self._id = ""
        argv = ["unshare", "--net", "--uts", "--", sys.executable, "-I", "-S", anchor.__file__, name]
        try:
            self._anchor = subprocess.Popen(
                [*argv, str(folder)] if folder else argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # an interrupt at the terminal is for the owner
            )
        except FileNotFoundError as error:
            raise LabUnavailable(f"a lab needs {error.filename}; install the package util-linux") from None

    @property
    def pid(self) -> int:
        """The process that holds the namespace; netlink and nsenter name a namespace by it."""
        self._ready()
        return self._anchor.pid

    @property
    def id(self) -> str:
        """The namespace as the kernel names it, `net:[4026531840]`."""
        self._ready()
        return self._id

    def _ready(self) -> None:
        if self._id:
            return
        assert self._anchor.stdout is not None and self._anchor.stderr is not None
        readable, _, _ = select.select([self._anchor.stdout], [], [], _PATIENCE)
        if not readable or self._anchor.stdout.readline() != b"ready\n":
            self._anchor.kill()
            said = self._anchor.stderr.read().decode(errors="replace").strip()
            raise LabUnavailable(
                f"no network namespace for {self.name}: {said or 'unshare gave no answer'}; "
                "run as root, or call lbcore.lab.ensure_privileges() first"
            )
        self._id = anchor.namespace_of(self._anchor.pid)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` in here, with nsenter in front."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", f"--uts=/proc/{self.pid}/ns/uts", "--", *argv]

    def spawn(self, argv: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
        """Start a program in here; `popen` goes to `subprocess.Popen`. It ends with the namespace at the latest.

        The returned process is the program itself, so signals reach it.
        """
        options: dict[str, Any] = {"start_new_session": True, "stdin": subprocess.DEVNULL, **popen}
        program: subprocess.Popen[bytes] = subprocess.Popen(self.command(argv), **options)
        with self._lock:
            self._programs = [each for each in self._programs if each.poll() is None] + [program]
        return program

    def run(
        self, argv: Sequence[str], *, text: str = "", timeout: float = 30.0, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in here to its end, with `text` as its input.

        With `check`, a failure raises `LabError` that carries what the program said.
        """
        done = subprocess.run(
            self.command(argv),
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise LabError(f"{argv[0]} failed on {self.name}: {(done.stderr or done.stdout).strip()}")
        return done

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a Python function in here: sockets that it opens belong to this namespace for ever.

        It runs in a thread of its own, since a namespace can be entered by one thread alone.
        """
        outcome: list[T] = []
        failure: list[BaseException] = []
        path = f"/proc/{self.pid}/ns/net"

        def body() -> None:
            try:
                _enter(path)
                outcome.append(function(*args, **kwargs))
            except BaseException as error:  # handed to the caller below
                failure.append(error)

        thread = threading.Thread(target=body, name=f"in {self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def signal_all(self, signum: int) -> int:
        """Send a signal to every process in here, children of children too; how many got it."""
        return anchor.signal_processes(self.id, signum, spare=self._anchor.pid)

    def reap(self) -> None:
        """Collect the programs that have ended, so that none stays a zombie."""
        with self._lock:
            self._programs = [each for each in self._programs if each.poll() is None]

    def release(self) -> None:
        """Let the anchor begin to clear the namespace; `close` waits for the end of that."""
        if self._anchor.stdin is not None:
            self._anchor.stdin.close()

    def close(self) -> None:
        """End every process in here and let the kernel drop the namespace; twice does no harm."""
        for stream in (self._anchor.stdin, self._anchor.stdout, self._anchor.stderr):
            if stream is not None:
                stream.close()
        try:
            self._anchor.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._anchor.kill()
            self._anchor.wait()
        for program in self._programs:
            program.kill()
            program.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _enter(path: str) -> None:
    """Move this thread to a network namespace (setns(2); Python has it from 3.12 on)."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {path}: {os.strerror(number)}")
    finally:
        os.close(handle)

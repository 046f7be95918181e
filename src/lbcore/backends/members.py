"""Where member records lie: a folder that all speakers share, one small file per node.

Here are only reading, writing and removing; who lives is decided by `lbcore.adapters.heartbeat`.
A record is replaced by rename, so that nobody ever reads half of one. The folder may be written by
others, by hand, or by accident: whatever in it is no small regular file under a node's name is
stepped over and counted. Nothing is synced to disk: a record that a crash swallows was stale.

A shared network file system must not cache attributes for as long as a record takes to expire
(NFS: `actimeo=0`).
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from lbcore.errors import LbcoreError

__all__ = [
    "MAX_RECORD",
    "MAX_RECORDS",
    "BackgroundRecords",
    "MemberFolder",
    "MemoryRecords",
    "NodeNameError",
    "Records",
    "check_node_name",
]

T = TypeVar("T")

CLOSING = 1.0  # seconds; removing a file takes microseconds, or for ever
MAX_RECORD = 1024  # bytes; a record takes about 100 and a node's name at most 253
MAX_RECORDS = 10_000  # files; Kubernetes itself is tested to 5,000 nodes

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NODE_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class NodeNameError(LbcoreError, ValueError):
    """A text that Kubernetes would not take as a node's name, and that is no safe file name either."""


def check_node_name(name: str) -> str:
    """The name, if it is a DNS subdomain (RFC 1123, at most 253 characters) as `Node.metadata.name` is.

    Raises `NodeNameError` otherwise. A name that passes cannot leave its folder: it has no slash
    and does not begin with a dot.
    """
    if not _is_node_name(name):
        raise NodeNameError(
            f"{name!r} is no node's name; a node's name is of lower-case letters, digits, '-' and '.', "
            "begins and ends with a letter or digit, and has at most 253 characters"
        )
    return name


def _is_node_name(name: str) -> bool:
    return len(name) <= 253 and _NODE_NAME.fullmatch(name) is not None


class Records(Protocol):
    """Where records of members are kept: by name, each a few bytes. Failures are `OSError`."""

    @property
    def ignored(self) -> int:
        """Entries stepped over at the last read."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put a record in place of the former one of that name."""
        ...

    def remove(self, name: str) -> None:
        """Take a record away; one that is not there is no error."""
        ...

    def read(self) -> Mapping[str, bytes] | None:
        """Every record there is, or None when nothing has been read since the last call."""
        ...

    def close(self) -> None:
        """Have done what was asked for, and end."""
        ...


class MemoryRecords:
    """Records in memory: for a speaker that is alone on its machine, and to join engines in tests."""

    def __init__(self) -> None:
        self.ignored = 0
        self._records: dict[str, bytes] = {}

    def write(self, name: str, data: bytes) -> None:
        """Put a record in place of the former one of that name."""
        self._records[name] = data

    def remove(self, name: str) -> None:
        """Take a record away; one that is not there is no error."""
        self._records.pop(name, None)

    def read(self) -> Mapping[str, bytes]:
        """Every record there is."""
        return dict(self._records)

    def close(self) -> None:
        """Nothing is left to do."""


class MemberFolder:
    """Records as files in one folder, which is made when it is not there. Raises `OSError` where the system does."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self.ignored = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Put a record in place of the former one of that name. Raises `NodeNameError` for an unsafe name."""
        path = self._path(name)
        try:
            self._replace(path, name, data)
        except FileNotFoundError:  # someone removed the folder: the others need a place to look
            Path(self._folder).mkdir(parents=True, exist_ok=True)
            self._replace(path, name, data)

    def remove(self, name: str) -> None:
        """Take a record away; one that is not there is no error."""
        Path(self._path(name)).unlink(missing_ok=True)

    def read(self) -> Mapping[str, bytes]:
        """Every record there is, at most `MAX_RECORDS`, by the name of the node it is filed under."""
        records: dict[str, bytes] = {}
        ignored = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):  # a record on its way in
                    continue
                data = _content(entry.path) if _is_node_name(entry.name) and len(records) < MAX_RECORDS else None
                if data is None:
                    ignored += 1
                else:
                    records[entry.name] = data
        self.ignored = ignored
        return records

    def close(self) -> None:
        """Nothing is left to do."""

    def _path(self, name: str) -> str:
        return f"{self._folder}/{check_node_name(name)}"

    def _replace(self, path: str, name: str, data: bytes) -> None:
        # The name of the new file is always the same, so that a killed writer leaves one at most.
        aside = f"{self._folder}/.{name}"
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)
        Path(aside).replace(path)


class BackgroundRecords:
    """Records kept by a thread, so that a folder that hangs (a network file system does) stops nothing else.

    No call waits, `close` aside: `write` and `remove` are carried out soon, the newest alone, and
    what they raised is raised by the next; `read` returns what was found since the last call, or
    None, and asks for more. The thread gives up the interpreter at each of its system calls, so
    that a folder of many records costs the caller microseconds.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._changed = threading.Condition()
        self._wish: tuple[str, bytes | None] | None = None
        self._to_read = True
        self._ending = False
        self._found: Mapping[str, bytes] | OSError | None = None
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._work, name="member records", daemon=True)
        self._thread.start()

    @property
    def ignored(self) -> int:
        """Entries stepped over at the last read."""
        return self._records.ignored

    def write(self, name: str, data: bytes) -> None:
        """Put a record in place of the former one, soon."""
        self._ask(name, data)

    def remove(self, name: str) -> None:
        """Take a record away, soon."""
        self._ask(name, None)

    def read(self) -> Mapping[str, bytes] | None:
        """What was found since the last call; None when the thread is not done yet."""
        with self._changed:
            found, self._found = self._found, None
            self._to_read = True
            self._changed.notify()
        if isinstance(found, OSError):
            raise found
        return found

    def close(self) -> None:
        """Wait for what was asked for, but no longer than `CLOSING` seconds for a folder that hangs."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(CLOSING)

    def _ask(self, name: str, data: bytes | None) -> None:
        with self._changed:
            self._wish = (name, data)
            failure, self._failure = self._failure, None
            self._changed.notify()
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wish or self._to_read or self._ending)
                wish, self._wish = self._wish, None
                to_read, self._to_read = self._to_read, False
                if self._ending and wish is None:
                    return
            failure = None if wish is None else _attempt(partial(self._keep, *wish))
            found = _attempt(self._records.read) if to_read else None
            with self._changed:
                self._failure = failure if isinstance(failure, OSError) else self._failure
                self._found = self._found if found is None else found

    def _keep(self, name: str, data: bytes | None) -> None:
        if data is None:
            self._records.remove(name)
        else:
            self._records.write(name, data)


def _attempt(action: Callable[[], T]) -> T | OSError:
    try:
        return action()
    except OSError as error:
        return error


def _content(path: str) -> bytes | None:
    """What a small regular file holds; None for anything else, and for one that vanished meanwhile."""
    try:
        # A planted pipe must not stop the reader, nor a link lead it elsewhere.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        data = os.read(handle, MAX_RECORD + 1)
    except OSError:
        return None
    finally:
        os.close(handle)
    return data if len(data) <= MAX_RECORD else None

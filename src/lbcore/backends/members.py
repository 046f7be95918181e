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
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lbcore.errors import LbcoreError

__all__ = ["MAX_RECORD", "MAX_RECORDS", "MemberFolder", "MemoryRecords", "NodeNameError", "Records", "check_node_name"]

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

    ignored: int  # entries stepped over at the last `read`

    def write(self, name: str, data: bytes) -> None:
        """Put a record in place of the former one of that name."""
        ...

    def remove(self, name: str) -> None:
        """Take a record away; one that is not there is no error."""
        ...

    def read(self) -> Mapping[str, bytes]:
        """Every record there is."""
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

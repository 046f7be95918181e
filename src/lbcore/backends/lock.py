"""One controller for one folder: an advisory lock that the kernel lets go of when its holder ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lbcore.errors import LbcoreError

__all__ = ["FolderBusyError", "lock_folder"]


class FolderBusyError(LbcoreError):
    """Another process holds the lock."""


def lock_folder(path: Path) -> int:
    """Lock a file for as long as this process lives; returns the descriptor that holds it.

    Raises `FolderBusyError` when another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FolderBusyError(f"another controller serves this folder (it holds {path}); stop it first") from None
    return handle

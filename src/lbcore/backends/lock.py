"""Who serves a folder now: advisory locks that the kernel lets go of when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lbcore.errors import LbcoreError

__all__ = ["FolderBusyError", "hold", "is_let_go", "lock_folder"]


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


def hold(path: Path) -> int:
    """Show that this process lives, for as long as it does, beside others that hold the same; returns the descriptor
    that shows it. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # waits for nobody but `is_let_go`, which has it for some microseconds
    except OSError:
        os.close(handle)
        raise
    return handle


def is_let_go(path: Path) -> bool:
    """Whether somebody held a file, and nobody does now. Where none ever did, or cannot be asked, that is not known."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # BlockingIOError: held; others: a file system without locks
        return False
    finally:
        os.close(handle)
    return True

"""The folder of one nginx: each of its files whole or not at all, and for nobody but us and nginx's workers.

A certificate and its key are one file, and nginx opens it twice in a handshake. If another pair took its place between
the two, they would not belong together, and the handshake would fail. So a file with a pair never changes: its name is
a hash of what it holds, and what the configuration names is a link to it, which nginx follows once in a handshake
(`adapters/nginx/server`). The pair before stays for those who have found it, until `Leftovers` takes it away.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from lbcore.adapters.nginx.names import PAIR, digest

__all__ = ["write_files"]


def write_files(folder: Path, files: Mapping[str, bytes], user: str) -> None:
    """Write what is other than it was; the folder is made. A name that ends in `PAIR` is that of a link. `user` is that
    of the workers, where we are root and they are not. Raises `OSError`, and `KeyError` for a user that there is not.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "tmp").mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(user).pw_uid if user and os.geteuid() == 0 else None
    for path in (folder, folder / "tmp"):
        if owner is not None:
            os.chown(path, owner, -1)
    for name, data in files.items():
        path = folder / name
        if _holds(path, data):
            continue
        if path.suffix != PAIR:
            _write(path, data, owner)
            continue
        pair = folder / f"{digest(repr(data))}.pem"
        if not _holds(pair, data):
            _write(pair, data, owner)
        _link(path, pair.name)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes, owner: int | None) -> None:
    aside = _aside(path)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, owner, -1)
        file.write(data)
    aside.replace(path)


def _link(path: Path, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        path.symlink_to(name)  # at a start, of all hosts
        return
    aside = _aside(path)
    aside.symlink_to(name)
    aside.replace(path)


def _aside(path: Path) -> Path:
    """Where nothing is, beside it."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.unlink(missing_ok=True)
    return aside

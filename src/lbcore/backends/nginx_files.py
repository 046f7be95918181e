"""The folder of one nginx: each of its files whole or not at all, and for nobody but us and nginx's workers."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_files"]


def write_files(folder: Path, files: Mapping[str, bytes], user: str) -> None:
    """Write what is other than it was; the folder is made. `user` is that of the workers, where we are root and they
    are not. Raises `OSError`, and `KeyError` for a user that there is not.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "tmp").mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(user).pw_uid if user and os.geteuid() == 0 else None
    for path in (folder, folder / "tmp"):
        if owner is not None:
            os.chown(path, owner, -1)
    for name, data in files.items():
        path = folder / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == data:
                continue
        aside = path.with_name(f".{name}.tmp")
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(descriptor, owner, -1)
            file.write(data)
        aside.replace(path)

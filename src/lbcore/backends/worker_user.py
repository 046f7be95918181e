"""As whom do nginx's workers run? As nobody who may read the token of the API server, where there is somebody else."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

import attrs

from lbcore.adapters.nginx.general import Places
from lbcore.errors import LbcoreError

__all__ = ["with_user"]


def with_user(places: Places) -> Places:
    """The places with the user that workers run as: Debian's www-data, where we are root.

    Raises `LbcoreError` where that user does not reach the folder: it reads certificates there.
    """
    if os.geteuid() != 0 or places.user:
        return places
    for name in ("www-data", "nginx", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            if not _is_mapped(found.pw_uid):
                break  # a user namespace with root alone: there is nobody else to be
            _require_reachable(Path(places.folder), found)
            return attrs.evolve(places, user=name)
    return attrs.evolve(places, user="root")


def _is_mapped(uid: int) -> bool:
    """Whether this user exists in our user namespace (user_namespaces(7), uid_map)."""
    try:
        lines = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    except OSError:
        return True
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in lines)


def _require_reachable(folder: Path, user: pwd.struct_passwd) -> None:
    for parent in folder.parents:
        with contextlib.suppress(FileNotFoundError):
            status = parent.stat()
            mine = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
            if not status.st_mode & mine:
                raise LbcoreError(
                    f"nginx's workers ({user.pw_name}) do not get through {parent}, and read certificates in {folder}; "
                    "name a folder that they reach with --runtime-dir"
                )

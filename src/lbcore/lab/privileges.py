"""May this process make network namespaces, and if not, how it gets to.

Root may. Everybody else may inside a user namespace, where the kernel allows one: the whole process
then runs again under `unshare --user`, as the root of a namespace that ends with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from lbcore.lab.errors import LabUnavailable

__all__ = ["ensure_privileges", "entering", "privileged"]

_MARK = "LBCORE_LAB_USER_NAMESPACE"
_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--")
_TOOLS = ("unshare", "nsenter", "nft")


def privileged(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` with the privileges a lab needs: itself, or wrapped by `unshare`.

    Raises `LabUnavailable` when neither way is open, or a tool is missing.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabUnavailable(
            f"a lab needs {', '.join(missing)} in PATH; install the packages util-linux, iproute2 and nftables"
        )
    plain = _refusal(("unshare", "--net", "--uts", "--"))
    if plain is None:
        return list(argv)
    wrapped = _refusal(_USER_NAMESPACE)
    if wrapped is None and _MARK not in os.environ:
        return [*_USER_NAMESPACE, *argv]
    raise LabUnavailable(
        f"this process may not make network namespaces ({plain}) nor user namespaces ({wrapped or 'tried already'}); "
        "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces>0; in a container: --privileged)"
    )


def ensure_privileges() -> None:
    """Return if a lab can be made; else start this program again where it can, or raise `LabUnavailable`.

    Call it first thing: what the process did before is done again.
    """
    own = [sys.executable, *sys.orig_argv[1:]]
    argv = privileged(own)
    if argv != own:
        sys.stdout.flush()
        os.execvpe(argv[0], argv, os.environ | {_MARK: "1"})  # noqa: S606 - an argument list, no shell


def entering(pid: int) -> list[str]:
    """The command in front of another that runs it in the network namespace which `pid` holds, from another
    terminal of the same user.
    """
    inside = ["--user", "--preserve-credentials"] if _MARK in os.environ else []
    return ["nsenter", "--target", str(pid), *inside, "--net", "--uts", "--"]


def _refusal(prefix: Sequence[str]) -> str | None:
    """Why a command cannot be run behind this prefix, or None if it can."""
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False, timeout=10)
    return None if done.returncode == 0 else (done.stderr.strip() or "unshare failed").removeprefix("unshare: ")

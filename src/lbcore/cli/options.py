"""Options that several commands share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lbcore.daemons.observe import LEVELS
from lbcore.errors import LbcoreError

__all__ = [
    "class_option",
    "cluster_option",
    "default_node",
    "default_runtime_dir",
    "log_options",
    "monitoring_options",
    "output_option",
    "require_folder",
]

F = TypeVar("F", bound=Callable[..., Any])


def cluster_option(command: F) -> F:
    """`--cluster FOLDER`."""
    return click.option(
        "--cluster",
        "folder",
        envvar="LBCORE_CLUSTER",
        required=True,
        show_envvar=True,
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of YAML or JSON manifests; status is written beside them, in FOLDER/.lbcore.",
    )(command)


def require_folder(folder: Path) -> None:
    """Raise `LbcoreError` where the folder of manifests is not there: it is never made by a mistyped name."""
    if not folder.is_dir():
        raise LbcoreError(f"there is no folder {folder}; make it and put your manifests there, or correct --cluster")


def class_option(command: F) -> F:
    """`--lb-class CLASS`."""
    return click.option(
        "--lb-class",
        "load_balancer_class",
        metavar="CLASS",
        help="Serve Services with this spec.loadBalancerClass only [default: those without a class].",
    )(command)


def log_options(command: F) -> F:
    """`--log-level` and `--log-format`."""
    level = click.option(
        "--log-level",
        type=click.Choice(list(LEVELS)),
        default="info",
        show_default=True,
        help="What to log on standard error. While it runs, signal USR1 logs everything, USR2 this again.",
    )
    form = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How: lines for people, or one JSON object a line.",
    )
    return level(form(command))


def monitoring_options(command: F) -> F:
    """`--metrics-port` and `--metrics-host`, also by MetalLB's names."""
    port = click.option(
        "--metrics-port",
        "--port",
        "metrics_port",
        envvar="LBCORE_METRICS_PORT",
        show_envvar=True,
        type=click.IntRange(0, 65535),
        default=0,
        show_default=True,
        metavar="PORT",
        help="Serve /metrics, /healthz and /readyz over HTTP at this port (7472 is usual); 0: not at all.",
    )
    host = click.option(
        "--metrics-host",
        "--host",
        "metrics_host",
        envvar=["LBCORE_METRICS_HOST", "METALLB_HOST"],
        show_envvar=True,
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="The address to serve them at. Whoever reaches it may read them.",
    )
    return port(host(command))


def output_option(command: F) -> F:
    """`-o table|wide|json|yaml`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "wide", "json", "yaml"]),
        default="table",
        show_default=True,
        help="table and wide are for people; json and yaml for scripts.",
    )(command)


def default_node() -> str:
    """The name of this machine, as a Node would be named."""
    return socket.gethostname().lower()


def default_runtime_dir() -> Path:
    """Where a process keeps its sockets: /run/lbcore for root, else the user's own runtime directory."""
    if os.geteuid() == 0:
        return Path("/run/lbcore")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "lbcore" if runtime else Path(f"/tmp/lbcore-{os.geteuid()}")  # noqa: S108 - made 0700

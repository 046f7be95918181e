"""Options that several commands share."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lbcore.backends.kubernetes import Access, default_namespace
from lbcore.daemons.assembly import Place
from lbcore.daemons.observe import LEVELS
from lbcore.errors import LbcoreError

__all__ = [
    "PLUGIN",
    "SWITCH",
    "class_option",
    "cluster_option",
    "default_node",
    "default_runtime_dir",
    "live_options",
    "log_options",
    "monitoring_options",
    "output_option",
    "place_options",
    "require_folder",
    "server_options",
]

F = TypeVar("F", bound=Callable[..., Any])

SWITCH: dict[str, Any] = {
    "is_flag": False,
    "flag_value": "true",
    "type": click.BOOL,
    "default": False,
    "metavar": "[=false]",
}
"""How a switch is declared that may be spelt `--switch=true`, too, as flags of Go programs may."""

PLUGIN = "kubectl lb"  # what the command line is called where kubectl runs it


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


def _access_options(namespace: str) -> tuple[Callable[[F], F], ...]:
    return (
        click.option(
            "--kubeconfig",
            metavar="PATH",
            type=click.Path(path_type=Path, dir_okay=False),
            help="How to reach the API server [default: the Pod's own account, else KUBECONFIG or ~/.kube/config].",
        ),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig [default: its current one]."),
        click.option(
            namespace,
            "system_namespace",
            envvar=["LBCORE_NAMESPACE", "METALLB_NAMESPACE", "POD_NAMESPACE"],
            show_envvar=True,
            metavar="NAME",
            help="Where pools, advertisements and Leases are [default: the Pod's own, else metallb-system].",
        ),
    )


def server_options(command: F) -> F:
    """`--kubeconfig`, `--context` and the namespace of lbcore's own objects.

    The command gets `live`: the API server, or None where none was named; as a plugin of kubectl it is always one.
    """

    @functools.wraps(command)
    def placed(
        *args: Any, kubeconfig: Path | None, context: str | None, system_namespace: str | None, **others: Any
    ) -> Any:
        is_plugin = click.get_current_context().find_root().info_name == PLUGIN
        live = None
        if is_plugin or kubeconfig is not None or context is not None:
            live = _place(None, kubeconfig, context, system_namespace)
        return command(*args, live=live, **others)

    decorated: Any = placed
    for option in reversed(_access_options("--system-namespace")):
        decorated = option(decorated)
    result: F = decorated
    return result


def live_options(command: F) -> F:
    """The same, and the namespace of manifests that name none."""
    return server_options(
        click.option(
            "-n",
            "--namespace",
            default="default",
            show_default=True,
            metavar="NAME",
            help="With an API server: where manifests belong that name no namespace.",
        )(command)
    )


def place_options(*, writes: bool) -> Callable[[F], F]:
    """`--cluster FOLDER`, or `--kubeconfig`, `--context` and the namespace of lbcore's own objects: given to the
    command as `place`. `writes`: for daemons, whose `--namespace` has MetalLB's meaning.
    """
    options = (
        click.option(
            "--cluster",
            "folder",
            envvar="LBCORE_CLUSTER",
            show_envvar=True,
            metavar="FOLDER",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of YAML or JSON manifests instead of an API server; status is in FOLDER/.lbcore.",
        ),
        *_access_options("--namespace" if writes else "--system-namespace"),
    )

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def placed(
            *args: Any,
            folder: Path | None,
            kubeconfig: Path | None,
            context: str | None,
            system_namespace: str | None,
            **others: Any,
        ) -> Any:
            return command(*args, place=_place(folder, kubeconfig, context, system_namespace), **others)

        decorated: Any = placed
        for option in reversed(options):
            decorated = option(decorated)
        result: F = decorated
        return result

    return decorate


def _place(folder: Path | None, kubeconfig: Path | None, context: str | None, namespace: str | None) -> Place:
    if folder is None:
        access = Access(kubeconfig=kubeconfig, context=context, namespace=namespace or default_namespace())
        if not access.is_known:
            raise click.UsageError(
                "which cluster? Name a folder of manifests (--cluster FOLDER) or an API server (--kubeconfig PATH)"
            )
        return access
    if kubeconfig is not None or context is not None:
        raise click.UsageError("--cluster names a folder, --kubeconfig and --context an API server: give one of them")
    return folder


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
    """`--metrics-port`, `--metrics-host` and `--health-probe-port`, also by MetalLB's names."""
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
    probes = click.option(
        "--health-probe-port",
        "probe_port",
        type=click.IntRange(0, 65535),
        default=0,
        show_default=True,
        metavar="PORT",
        help="Serve /healthz and /readyz at this port, too: a controller at every address, a speaker at 127.0.0.1.",
    )
    return port(host(probes(command)))


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

"""`lbcore ingress` serves Ingresses with nginx; `lbcore render` prints the configuration that it would."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import structlog
from attrs import evolve, frozen

import lbcore
from lbcore.adapters.kubernetes.served import ingress_resources
from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.render import Places, Renderer
from lbcore.backends.kubernetes import Election, IngressCluster
from lbcore.backends.nginx import Nginx, NginxSettings, find_capabilities, most_files, resolvers_of
from lbcore.backends.openings import NO_MODULE
from lbcore.backends.worker_user import with_user
from lbcore.cli.flags import IGNORED, OldFlags
from lbcore.cli.ingress_options import (
    election_options,
    health_options,
    nginx_options,
    publish_options,
    routing_options,
)
from lbcore.cli.options import default_runtime_dir, log_options, place_options, require_folder
from lbcore.cli.serve import serve_carrier
from lbcore.daemons import assembly
from lbcore.daemons.assembly import Place
from lbcore.daemons.controlled import Controlled
from lbcore.daemons.observe import Log, configure_logging
from lbcore.daemons.snapshot import list_routing
from lbcore.errors import LbcoreError
from lbcore.ingress import Certificate
from lbcore.intents import RecordEvent
from lbcore.publishing import PublishSettings
from lbcore.routing import RoutingSettings
from lbcore.streams import StreamSettings

__all__ = ["ingress_command", "render_command"]

_UPDATE = "none is needed for what is written here, as far as is known; update it: 1.30.7, Debian 12: 1.22.1-9+deb12u11"


@frozen(kw_only=True)
class _Listening:
    """Where health is answered, and how long it is said to be bad before the end begins and after nginx has ended."""

    host: str
    port: int
    path: str
    grace: float
    after: float


@click.command("ingress", cls=OldFlags, short_help="Serve Ingresses with nginx.")
@place_options(writes=True)
@routing_options
@publish_options
@election_options
@nginx_options
@health_options
@log_options
@click.version_option(lbcore.__version__, prog_name="lbcore ingress")
@click.pass_obj
def ingress_command(
    ignored: list[str],
    /,
    place: Place,
    http_port: int,
    https_port: int,
    program: str,
    runtime_dir: Path | None,
    listen: tuple[str, ...],
    reload_interval: float,
    allow_vulnerable_nginx: bool,
    dynamic_upstreams: bool,
    update_status: bool,
    publish: PublishSettings,
    election: Election | None,
    healthz_host: str,
    healthz_port: int,
    enable_metrics: bool,
    health_check_path: str,
    shutdown_grace_period: float,
    post_shutdown_grace_period: float,
    streams: StreamSettings,
    log_level: str,
    log_format: str,
    **settings: Any,
) -> None:
    """Serve Ingresses with nginx: those of a folder of manifests, or of an API server.

    Annotations, classes, options and flags are ingress-nginx's; nothing that a manifest holds becomes
    a directive. nginx runs as a child, with workers of a user of their own where this is started by
    root. A change is tested before it counts. Every instance serves; one of them writes statuses and
    Events.
    """
    threshold = configure_logging(json=log_format == "json", level=log_level)
    log = structlog.get_logger(component="ingress")
    for name in dict.fromkeys(ignored):
        log.info("flag without effect", flag=f"--{name}", why=IGNORED[name])
    if isinstance(place, Path):
        require_folder(place)
    capabilities = _checked(find_capabilities(program), allow_vulnerable_nginx)
    if not dynamic_upstreams:
        capabilities = evolve(capabilities, lua=())
    runtime = (runtime_dir or default_runtime_dir().with_name("lbcore-ingress")).absolute()
    metrics = enable_metrics and bool(healthz_port)  # nobody could ask for them
    places = with_user(evolve(_places(runtime, http_port, https_port, listen), metrics=metrics))
    if metrics and not capabilities.lua:
        log.info("requests are not counted", why="nginx's Lua module is not there, or not in use")
    version = ".".join(map(str, capabilities.version))
    log.info("started", version=lbcore.__version__, cluster=str(place), nginx=version, lua=bool(capabilities.lua))
    if not capabilities.recent:
        log.warning("nginx lacks the fixes of November 2026", why=_UPDATE)
    nginx = Nginx(NginxSettings(program=program, interval=reload_interval), places, capabilities, _fake(), log.warning)
    pod = os.environ.get("POD_NAME", "")
    elected = election is not None and not isinstance(place, Path)
    publish = evolve(publish if update_status else PublishSettings(), elected=elected, instance=pod)
    if not (publish.addresses or publish.service) and update_status:
        publish = evolve(publish, nodes=bool(pod) and not isinstance(place, Path))
    streams = _beside(streams, http_port, https_port, healthz_port)
    if streams.maps and not capabilities.stream:
        log.warning("no TCP and UDP services", why=NO_MODULE)
    wanted = RoutingSettings(publish=publish, streams=streams, **settings)
    cluster = _cluster(place, wanted, election, pod, log)
    carrier = assembly.ingress(cluster, wanted, nginx, log)
    listening = _Listening(
        host=healthz_host,
        port=healthz_port,
        path=health_check_path,
        grace=shutdown_grace_period,
        after=post_shutdown_grace_period,
    )
    controlled = Controlled(
        namespace=os.environ.get("POD_NAMESPACE", ""),
        pod=pod,
        controller_class=wanted.controller_class,
        election=election.name if elected and election is not None else "",
    )
    asyncio.run(_serve(carrier, cluster, nginx, listening, controlled, threshold))


def _beside(streams: StreamSettings, *ports: int) -> StreamSettings:
    """With the ports at which we listen ourselves; 0 is none."""
    return evolve(streams, listening=frozenset(ports) - {0})


def _checked(capabilities: Capabilities, allow_vulnerable: bool) -> Capabilities:
    if not capabilities.fixed and not allow_vulnerable:
        version = ".".join(map(str, capabilities.version))
        raise LbcoreError(
            f"nginx {version} has overflows that a tenant can reach (CVE-2026-42945, CVE-2026-9256, CVE-2026-42533); "
            "install 1.30.4, 1.31.3 or a distribution's fixed package, or say --allow-vulnerable-nginx"
        )
    return capabilities


def _cluster(
    place: Place, settings: RoutingSettings, election: Election | None, pod: str, log: Log
) -> assembly.IngressPlace:
    if isinstance(place, Path):
        return assembly.open_cluster(place, log)
    services = (settings.default_backend, settings.publish.service)
    resources = ingress_resources(
        namespace=settings.namespace,
        config_map=settings.config_map,
        maps=tuple(key for _, key in settings.streams.maps),
        services=tuple(each for each in services if each is not None),
        secrets=(settings.default_certificate,) if settings.default_certificate is not None else (),
    )
    return IngressCluster(place, resources, election=election, pod=pod, say=log.warning)


async def _serve(
    carrier: Any,
    cluster: assembly.IngressPlace,
    nginx: Nginx,
    listening: _Listening,
    controlled: Controlled,
    threshold: Any,
) -> None:
    log = structlog.get_logger(component="ingress")

    async def close() -> None:
        await nginx.close()
        await asyncio.sleep(listening.after)
        if isinstance(cluster, IngressCluster):
            await cluster.close()

    if isinstance(cluster, IngressCluster):
        url = await cluster.client.sign_in()
        log.info("API server", url=url, namespace=cluster.access.namespace)
    if not listening.port:
        await serve_carrier(carrier, threshold, close, grace=listening.grace)
        return
    from lbcore.daemons.monitoring import Monitoring  # noqa: PLC0415 - 2 MB, for those who ask for it

    monitoring = Monitoring()
    watched = monitoring.ingress(carrier, nginx, controlled)
    if isinstance(cluster, IngressCluster) and cluster.lease is not None:
        monitoring.health.add("ingress/lease", cluster.lease.missing)
    async with monitoring.listening(listening.host, listening.port, listening.path) as bound:
        log.info("metrics and health", host=listening.host, port=bound)
        await serve_carrier(watched, threshold, close, before=monitoring.stop, grace=listening.grace)


@click.command("render", short_help="Print the nginx.conf that `lbcore ingress` would run.")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
@routing_options
@click.option(
    "--nginx",
    "program",
    metavar="PROGRAM",
    help="As this nginx needs it [default: 1.22.1, which chooses peers without Lua].",
)
def render_command(
    folder: Path, http_port: int, https_port: int, program: str | None, streams: StreamSettings, **settings: Any
) -> None:
    """Print the nginx.conf that `lbcore ingress` would run for the manifests in FOLDER.

    What is wrong with an Ingress goes to standard error, a line each. No secret is printed: they are in files.
    """
    require_folder(folder)
    wanted = RoutingSettings(streams=_beside(streams, http_port, https_port), **settings)
    state, said, unread = asyncio.run(list_routing(folder, wanted))
    for problem in unread:
        click.echo(f"left out: {problem}", err=True)
    for each in said:
        if isinstance(each, RecordEvent):
            click.echo(f"{each.about}: {each.message}", err=True)
    places = _places(Path("/run/lbcore-ingress"), http_port, https_port, ())
    capabilities = Capabilities() if program is None else find_capabilities(program)
    if state.table.streams and not capabilities.stream:
        click.echo(f"TCP and UDP services are left out: {NO_MODULE}", err=True)
    renderer = Renderer(places=places, capabilities=capabilities, fake=_fake())
    click.echo(renderer.render(state.table).text, nl=False)


def _fake() -> Certificate:
    from lbcore.adapters.certificates import make_fake  # noqa: PLC0415 - cryptography, for this command only

    return make_fake(datetime.now(UTC))


def _places(runtime: Path, http_port: int, https_port: int, listen: tuple[str, ...]) -> Places:
    try:
        resolvers = resolvers_of(Path("/etc/resolv.conf").read_text())
    except OSError:
        resolvers = ()
    addresses = tuple(f"[{each}]" if ":" in each else each for each in listen) or ("", "[::]")
    return Places(
        folder=str(runtime),
        most_files=most_files(),
        http_port=http_port,
        https_port=https_port,
        listen=addresses,
        resolvers=resolvers,
    )

"""`lbcore ingress` serves Ingresses with nginx; `lbcore render` prints the configuration that it would."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog

import lbcore
from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.render import Places, Renderer
from lbcore.backends.nginx import Nginx, NginxSettings, find_capabilities, most_files, resolvers_of, with_user
from lbcore.cli.options import cluster_option, default_runtime_dir, log_options, require_folder
from lbcore.cli.serve import serve_carrier
from lbcore.daemons import assembly
from lbcore.daemons.observe import configure_logging
from lbcore.daemons.snapshot import list_routing
from lbcore.errors import LbcoreError
from lbcore.ingress import Certificate, ObjectKey
from lbcore.intents import RecordEvent
from lbcore.routing import RoutingSettings

__all__ = ["ingress_command", "render_command"]


def _key(_context: click.Context, _parameter: click.Parameter, text: str | None) -> ObjectKey | None:
    if not text:
        return None
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name:
        raise click.BadParameter("write NAMESPACE/NAME")
    return ObjectKey(namespace, name)


def _routing_options(command: click.decorators.FC) -> click.decorators.FC:
    options = (
        click.option("--controller-class", default="k8s.io/ingress-nginx", show_default=True, metavar="NAME",
                     help="Serve Ingresses whose IngressClass has this spec.controller."),
        click.option("--ingress-class", default="nginx", show_default=True, metavar="NAME",
                     help="Serve Ingresses with this annotation kubernetes.io/ingress.class."),
        click.option("--ingress-class-by-name", "by_name", is_flag=True, help="And the IngressClass of that name."),
        click.option("--watch-ingress-without-class", "without_class", is_flag=True,
                     help="Serve Ingresses that name no class, too."),
        click.option("--watch-namespace", "namespace", default="", metavar="NAMESPACE", help="Only of this namespace."),
        click.option("--configmap", "config_map", callback=_key, metavar="NAMESPACE/NAME",
                     help="The ConfigMap with options."),
        click.option("--default-backend-service", "default_backend", callback=_key, metavar="NAMESPACE/NAME",
                     help="Where requests go that nothing else matches [default: they get 404]."),
        click.option("--default-ssl-certificate", "default_certificate", callback=_key, metavar="NAMESPACE/NAME",
                     help="The Secret with the certificate of hosts that have none [default: one made up]."),
        click.option("--disable-catch-all", "no_catch_all", is_flag=True, help="No Ingress with a default backend."),
        click.option("--disable-svc-external-name", "no_external_name", is_flag=True, help="No ExternalName Services."),
        click.option("--http-port", type=click.IntRange(1, 65535), default=80, show_default=True, help="For HTTP."),
        click.option("--https-port", type=click.IntRange(1, 65535), default=443, show_default=True, help="For HTTPS."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _settings(given: dict[str, object]) -> RoutingSettings:
    return RoutingSettings(**given)  # type: ignore[arg-type]


@click.command("ingress", short_help="Serve Ingresses with nginx.")
@cluster_option
@_routing_options
@click.option("--nginx", "program", default="nginx", show_default=True, metavar="PROGRAM", help="The nginx to run.")
@click.option("--runtime-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Where nginx's configuration lies [default: /run/lbcore-ingress, or the user's own].")  # fmt: skip
@click.option(
    "--listen", multiple=True, metavar="ADDRESS", help="Listen at this address only; may be given several times."
)
@click.option("--reload-interval", type=click.FloatRange(0.1), default=1.0, show_default=True, metavar="SECONDS",
              help="Reload nginx at most this often.")  # fmt: skip
@click.option("--allow-vulnerable-nginx", is_flag=True, help="Run an nginx with the known overflows in rewrite.")
@log_options
def ingress_command(
    folder: Path,
    http_port: int,
    https_port: int,
    program: str,
    runtime_dir: Path | None,
    listen: tuple[str, ...],
    reload_interval: float,
    allow_vulnerable_nginx: bool,
    log_level: str,
    log_format: str,
    **settings: object,
) -> None:
    """Serve the Ingresses in FOLDER with nginx.

    Annotations, classes and options are ingress-nginx's; nothing that a manifest holds becomes a
    directive. nginx runs as a child, with workers of a user of their own where this is started by
    root. A change is tested before it counts.
    """
    threshold = configure_logging(json=log_format == "json", level=log_level)
    require_folder(folder)
    log = structlog.get_logger(component="ingress")
    capabilities = find_capabilities(program)
    if not capabilities.fixed and not allow_vulnerable_nginx:
        version = ".".join(map(str, capabilities.version))
        raise LbcoreError(
            f"nginx {version} has overflows that a tenant can reach (CVE-2026-42945, CVE-2026-9256); install 1.30.2, "
            "1.31.1 or a distribution's fixed package, or say --allow-vulnerable-nginx"
        )
    runtime = (runtime_dir or default_runtime_dir().with_name("lbcore-ingress")).absolute()
    places = with_user(_places(runtime, http_port, https_port, listen))
    log.info("started", version=lbcore.__version__, cluster=str(folder), nginx=".".join(map(str, capabilities.version)))
    fake = _fake()
    nginx = Nginx(NginxSettings(program=program, interval=reload_interval), places, capabilities, fake, log.warning)
    carrier = assembly.ingress(assembly.open_cluster(folder, log), _settings(settings), nginx, log)
    asyncio.run(serve_carrier(carrier, threshold, nginx.close))


@click.command("render", short_help="Print the nginx.conf that `lbcore ingress` would run.")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
@_routing_options
def render_command(folder: Path, http_port: int, https_port: int, **settings: object) -> None:
    """Print the nginx.conf that `lbcore ingress` would run for the manifests in FOLDER.

    What is wrong with an Ingress goes to standard error, a line each. No secret is printed: they are in files.
    """
    require_folder(folder)
    state, said = asyncio.run(list_routing(folder, _settings(settings)))
    for each in said:
        if isinstance(each, RecordEvent):
            click.echo(f"{each.about}: {each.message}", err=True)
    places = _places(Path("/run/lbcore-ingress"), http_port, https_port, ())
    renderer = Renderer(places=places, capabilities=Capabilities(), fake=_fake())
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

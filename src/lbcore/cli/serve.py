"""`lbcore controller`, `lbcore speaker`, `lbcore run`: the daemons."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

import click
import structlog
from attrs import evolve, frozen

import lbcore
from lbcore.announcement import AnnouncementSettings
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.gossip_settings import GossipSettings
from lbcore.backends.kubernetes import KubernetesCluster
from lbcore.backends.kubernetes.gossip_secret import GossipSecret
from lbcore.backends.link import require_packet_sockets
from lbcore.backends.lock import lock_folder
from lbcore.backends.members import check_node_name
from lbcore.backends.reflex import ReflexSettings
from lbcore.backends.statuses import STATUS_FOLDER
from lbcore.cli.membership import membership_options, secret_options
from lbcore.cli.metallb import metallb_options, say_ignored
from lbcore.cli.options import (
    SWITCH,
    class_option,
    default_node,
    default_runtime_dir,
    log_options,
    monitoring_options,
    place_options,
    require_folder,
)
from lbcore.cli.webhook import webhook_options
from lbcore.daemons import assembly
from lbcore.daemons.assembly import Cluster, Place, WebhookSettings
from lbcore.daemons.carrier import Carrier
from lbcore.daemons.observe import Threshold, configure_logging
from lbcore.daemons.snapshot import member_folder
from lbcore.links import DEFAULT_EXCLUSIONS, Exclusions

__all__ = ["controller_command", "run_command", "serve_carrier", "speaker_command"]


def _speaker_options(command: click.decorators.FC) -> click.decorators.FC:
    options = (
        click.option(
            "--node",
            "--node-name",
            "node",
            envvar=["LBCORE_NODE", "METALLB_NODE_NAME"],
            show_envvar=True,
            metavar="NAME",
            help="This node's name, as its Node object has it [default: the host name].",
        ),
        click.option(
            "--runtime-dir",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Where the socket of the answering process is [default: /run/lbcore, or the user's own].",
        ),
        click.option(
            "--exclude-interface",
            "exclude",
            multiple=True,
            metavar="REGEX",
            help="Never answer on interfaces whose name matches; may be given several times, and then replaces "
            "the default list (docker, veth, cni, ... and lo).",
        ),
        click.option(
            "--link-backend",
            type=click.Choice(["packet", "scapy"]),
            default="packet",
            show_default=True,
            help="How frames are sent and heard: the kernel's packet sockets, or scapy (portable, slow).",
        ),
        click.option(
            "--refresh",
            type=click.FloatRange(min=0),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="Announce every address again this often, for switches that forget; 0: never.",
        ),
        click.option(
            "--ignore-exclude-lb",
            **SWITCH,
            help="Announce from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers too.",
        ),
        click.option(
            "--hand-over",
            type=click.FloatRange(min=0, max=30),
            default=2.0,
            show_default=True,
            metavar="SECONDS",
            help="How long at most to go on answering for an address that another node takes over; 0: not at all.",
        ),
        click.option(
            "--restart-time",
            type=click.FloatRange(min=1, max=600),
            default=5.0,
            show_default=True,
            metavar="SECONDS",
            help="How long this node goes on answering when its speaker was killed, for the next one to take that up; "
            "then other nodes take over. A new speaker needs about 1 s, and more on a slow or busy machine.",
        ),
        click.option(
            "--drain-time",
            type=click.FloatRange(min=0, max=3600),
            default=10.0,
            show_default=True,
            metavar="SECONDS",
            help="How long a drained node goes on telling routers of its routes, as the last to be used.",
        ),
        click.option(
            "--ready-for",
            type=click.FloatRange(min=0, max=3600),
            default=2.0,
            show_default=True,
            metavar="SECONDS",
            help="With externalTrafficPolicy Local: how long endpoints must have been usable on this node before "
            "routers are told of it, while other nodes serve the Service; 0: tell them at once.",
        ),
        click.option(
            "--drain-cordoned",
            is_flag=True,
            help="Treat cordoned nodes (kubectl cordon, kubectl drain) as drained; the same on all speakers.",
        ),
        click.option(
            "--bgp-listen",
            type=click.IntRange(1, 65535),
            metavar="PORT",
            help="Let routers connect to this port, too (179 is BGP's) [default: the node connects].",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("controller")
@place_options(writes=True)
@class_option
@webhook_options
@secret_options
@monitoring_options
@log_options
@metallb_options("controller")
def controller_command(
    place: Place,
    load_balancer_class: str | None,
    webhook: WebhookSettings | None,
    secret_name: str,
    deployment: str,
    metrics_port: int,
    metrics_host: str,
    probe_port: int,
    log_level: str,
    log_format: str,
) -> None:
    """Give Services of type LoadBalancer their addresses.

    Reads Services, IPAddressPools and Namespaces (and MetalLB's old ConfigMap "config"), and writes
    each Service's addresses to its status; of a FOLDER, to FOLDER/.lbcore/services. Needs no
    privileges. One controller serves a folder; a second one refuses to start.
    """
    threshold = _begin(log_level, log_format)
    daemons = _Daemons() if webhook is not None and webhook.alone else _controller(place, load_balancer_class)
    if webhook is not None:
        daemons = evolve(daemons, webhook=_webhook(place, webhook))
    for cluster in daemons.clusters if secret_name else ():
        if isinstance(cluster, KubernetesCluster):
            daemons = evolve(daemons, secret=cluster.gossip_secret(secret_name, deployment))
    _run(daemons, threshold, _Ports(metrics_host, metrics_port, probe_port))


@click.command("speaker", short_help="Make addresses reachable from this node (ARP, NDP).")
@place_options(writes=True)
@_speaker_options
@membership_options
@class_option
@monitoring_options
@log_options
@metallb_options("speaker")
def speaker_command(
    place: Place,
    node: str | None,
    runtime_dir: Path | None,
    exclude: tuple[str, ...],
    link_backend: str,
    refresh: float,
    ignore_exclude_lb: bool,
    hand_over: float,
    restart_time: float,
    drain_time: float,
    ready_for: float,
    drain_cordoned: bool,
    bgp_listen: int | None,
    gossip: GossipSettings | None,
    load_balancer_class: str | None,
    metrics_port: int,
    metrics_host: str,
    probe_port: int,
    log_level: str,
    log_format: str,
) -> None:
    """Make addresses reachable from this node's Ethernet segments (ARP, NDP).

    Run one on every node, all on the same cluster. For each address one node answers; when it is
    gone, another takes over. Needs CAP_NET_RAW and nothing else. An L2Advertisement says which
    pools are announced.
    """
    threshold = _begin(log_level, log_format)
    settings = _announcement_settings(
        node, exclude, ignore_exclude_lb, hand_over, drain_time, ready_for, drain_cordoned, load_balancer_class
    )
    daemons = _speaker(
        place, settings, runtime_dir, link_backend, refresh, restart_time, log_format, gossip, bgp_listen
    )
    _run(daemons, threshold, _Ports(metrics_host, metrics_port, probe_port))


@click.command("run")
@place_options(writes=True)
@_speaker_options
@membership_options
@class_option
@monitoring_options
@log_options
@metallb_options("controller", "speaker")
def run_command(
    place: Place,
    node: str | None,
    runtime_dir: Path | None,
    exclude: tuple[str, ...],
    link_backend: str,
    refresh: float,
    ignore_exclude_lb: bool,
    hand_over: float,
    restart_time: float,
    drain_time: float,
    ready_for: float,
    drain_cordoned: bool,
    bgp_listen: int | None,
    gossip: GossipSettings | None,
    load_balancer_class: str | None,
    metrics_port: int,
    metrics_host: str,
    probe_port: int,
    log_level: str,
    log_format: str,
) -> None:
    """Controller and speaker in one, for a single machine."""
    threshold = _begin(log_level, log_format)
    settings = _announcement_settings(
        node, exclude, ignore_exclude_lb, hand_over, drain_time, ready_for, drain_cordoned, load_balancer_class
    )
    speaker = _speaker(
        place, settings, runtime_dir, link_backend, refresh, restart_time, log_format, gossip, bgp_listen
    )
    _run(
        _controller(place, load_balancer_class).and_(speaker), threshold, _Ports(metrics_host, metrics_port, probe_port)
    )


def _begin(log_level: str, log_format: str) -> Threshold:
    threshold = configure_logging(json=log_format == "json", level=log_level)
    say_ignored(structlog.get_logger().warning)
    return threshold


def _announcement_settings(
    node: str | None,
    exclude: tuple[str, ...],
    ignore_exclude_lb: bool,
    hand_over: float,
    drain_time: float,
    ready_for: float,
    drain_cordoned: bool,
    load_balancer_class: str | None,
) -> AnnouncementSettings:
    for pattern in exclude:
        try:
            re.compile(pattern)
        except re.error as error:
            raise click.BadParameter(
                f"{pattern!r} is no regular expression: {error}", param_hint="--exclude-interface"
            ) from None
    return AnnouncementSettings(
        node=check_node_name(node or default_node()),
        load_balancer_class=load_balancer_class,
        ignore_exclude_label=ignore_exclude_lb,
        hand_over=hand_over,
        drain_time=drain_time,
        ready_for=ready_for,
        drain_cordoned=drain_cordoned,
        exclusions=Exclusions(exclude or DEFAULT_EXCLUSIONS),
    )


def _controller(place: Place, load_balancer_class: str | None) -> _Daemons:
    log = structlog.get_logger(component="controller")
    if isinstance(place, Path):
        require_folder(place)
        lock_folder(place / STATUS_FOLDER / "controller.lock")
    log.info("started", version=lbcore.__version__, cluster=str(place))
    settings = AssignmentSettings(load_balancer_class=load_balancer_class)
    cluster = assembly.open_place(place, log, load_balancer_class=load_balancer_class)
    return _Daemons(controller=assembly.controller(cluster, settings, log), clusters=(cluster,))


def _webhook(place: Place, settings: WebhookSettings) -> assembly.WebhookParts:
    if isinstance(place, Path):
        raise click.UsageError("--webhook-mode is for a cluster with an API server, which asks; leave it out")
    return assembly.webhook(place, settings, structlog.get_logger(component="webhook"))


def _speaker(
    place: Place,
    settings: AnnouncementSettings,
    runtime_dir: Path | None,
    link_backend: str,
    refresh: float,
    restart_time: float,
    log_format: str,
    gossip: GossipSettings | None,
    bgp_port: int | None,
) -> _Daemons:
    if isinstance(place, Path):
        require_folder(place)
    require_packet_sockets("speaker")
    runtime = runtime_dir or default_runtime_dir()
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = structlog.get_logger(component="speaker", node=settings.node)
    log.info("started", version=lbcore.__version__, cluster=str(place))
    if isinstance(place, Path) and gossip is not None and gossip.labels:
        log.warning("--ml-labels (METALLB_ML_LABELS) has no effect: a folder has no Pods of speakers")
    reflex = ReflexSettings(
        socket=runtime / f"reflex-{settings.node}.sock",
        node=settings.node,
        members=member_folder(place.absolute()) if isinstance(place, Path) and gossip is None else None,
        tells_members=isinstance(place, Path) or gossip is not None,
        gossip=gossip,
        link_backend=link_backend,
        silence=restart_time,
        refresh=refresh,
        log_format=log_format,
    )
    cluster = assembly.open_place(place, log, node=settings.node)
    return _Daemons(speaker=assembly.speaker(cluster, settings, reflex, log, bgp_port=bgp_port), clusters=(cluster,))


@frozen(kw_only=True)
class _Daemons:
    """What this process is: a controller, a speaker, or both."""

    controller: Carrier[AssignmentState] | None = None
    speaker: assembly.SpeakerParts | None = None
    webhook: assembly.WebhookParts | None = None
    secret: GossipSecret | None = None
    clusters: tuple[Cluster, ...] = ()

    def and_(self, other: _Daemons) -> _Daemons:
        """Both in one process."""
        return _Daemons(controller=self.controller, speaker=other.speaker, clusters=(*self.clusters, *other.clusters))

    @property
    def carriers(self) -> tuple[Carrier[Any], ...]:
        """What is to be run."""
        parts = (self.controller, self.speaker.carrier if self.speaker is not None else None)
        return tuple(part for part in parts if part is not None)


@frozen
class _Ports:
    """Where one sees how the daemons are: all of it at `host` and `port`, and the probes alone at `probes`. 0: not."""

    host: str
    port: int
    probes: int


def _run(daemons: _Daemons, threshold: Threshold, ports: _Ports) -> None:
    watched = ports.port or ports.probes
    asyncio.run(_serve_watched(daemons, threshold, ports) if watched else _serve(daemons, threshold))


async def _serve_watched(daemons: _Daemons, threshold: Threshold, ports: _Ports) -> None:
    """The same with ports at which one sees how they are."""
    from lbcore.daemons.monitoring import Monitoring  # noqa: PLC0415 - 2 MB, for those who ask for it

    monitoring = Monitoring()
    watched = evolve(
        daemons,
        controller=monitoring.controller(daemons.controller) if daemons.controller is not None else None,
        speaker=monitoring.speaker(daemons.speaker) if daemons.speaker is not None else None,
    )
    for cluster in daemons.clusters:
        if isinstance(cluster, KubernetesCluster):
            who = "controller" if cluster.lease is not None else "speaker"
            monitoring.health.add(f"{who}/api", cluster.trouble)
            if cluster.lease is not None:
                monitoring.health.add("controller/lease", cluster.lease.missing)
    if daemons.webhook is not None:
        monitoring.health.add("controller/webhook", daemons.webhook.webhook.missing)
    log = structlog.get_logger()
    async with AsyncExitStack() as stack:
        if ports.port:
            bound = await stack.enter_async_context(monitoring.listening(ports.host, ports.port))
            log.info("metrics and health", host=ports.host, port=bound)
        if ports.probes:
            # As in MetalLB: a controller's for every address, a speaker's, on the node's network, for the node alone.
            host = "127.0.0.1" if daemons.speaker is not None else ""
            bound = await stack.enter_async_context(monitoring.probes(host, ports.probes))
            log.info("health", host=host or "every address", port=bound)
        await _serve(watched, threshold)


async def serve_carrier(
    carrier: Carrier[Any],
    threshold: Threshold,
    close: Callable[[], Awaitable[None]],
    *,
    before: Callable[[], None] = lambda: None,
    grace: float = 0.0,
) -> None:
    """Run one daemon until a signal, then `close` what it drives. The signal calls `before`, and the end begins
    `grace` seconds later.
    """
    try:
        await _until_stopped((carrier,), threshold, before, grace)
    finally:
        await close()
    structlog.get_logger().info("stopped")


async def _until_stopped(
    carriers: tuple[Carrier[Any], ...],
    threshold: Threshold,
    before: Callable[[], None] = lambda: None,
    grace: float = 0.0,
) -> None:
    log = structlog.get_logger()
    stopped = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        stopped.set()
        before()
        for carrier in carriers:
            asyncio.get_running_loop().call_later(grace, carrier.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, threshold.lower)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, threshold.reset)
    running: set[asyncio.Task[Any]] = {asyncio.create_task(carrier.run()) for carrier in carriers}
    running = running or {asyncio.create_task(stopped.wait())}
    finished, others = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in finished:
        task.result()


async def _serve(daemons: _Daemons, threshold: Threshold) -> None:
    """Run until a signal, then hand over; an error of one part ends all."""
    api = [cluster for cluster in daemons.clusters if isinstance(cluster, KubernetesCluster)]
    log = structlog.get_logger()
    making: asyncio.Task[None] | None = None
    try:
        for cluster in api:
            log.info("API server", url=await cluster.client.sign_in(), namespace=cluster.access.namespace)
        if daemons.secret is not None:
            making = asyncio.create_task(daemons.secret.ensure())
        async with daemons.webhook.answering() if daemons.webhook is not None else nullcontext():
            await _until_stopped(daemons.carriers, threshold)
    finally:
        if making is not None:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
        if daemons.speaker is not None:
            await daemons.speaker.close()
        for cluster in api:
            await cluster.close()
    log.info("stopped")

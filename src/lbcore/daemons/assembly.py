"""Which brain, which sources, which sinks: the whole of each daemon on one page.

A new announcer or a new kind of cluster is one line here. Time and dice are made here too, and
handed down.
"""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from lbcore import announcement, assignment, routing
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.base import Sink, Source
from lbcore.backends.bgp import BgpSpeaker
from lbcore.backends.files import FilesCluster, SessionSink
from lbcore.backends.gossip_settings import GossipSettings
from lbcore.backends.kubernetes import Access, GossipMembers, IngressCluster, KubernetesCluster, LeaseMembers
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.netlink import NetlinkLinks
from lbcore.backends.nginx import Nginx
from lbcore.backends.reflex import Reflex, ReflexSettings
from lbcore.backends.statuses import tell_gossip
from lbcore.daemons.carrier import Carrier, Outlet
from lbcore.daemons.loop import Loop
from lbcore.daemons.observe import Log, log_observer
from lbcore.events import Applied, Failed, Kind
from lbcore.intents import (
    Intent,
    PublishIngress,
    RecordEvent,
    ReportConfig,
    ReportPeer,
    ReportWithheld,
    SetAddresses,
    SetPoolUsage,
)
from lbcore.routing import RoutingSettings, RoutingState

Place = Path | Access
"""Where a cluster is: a folder of manifests, or an API server."""

Cluster = FilesCluster | KubernetesCluster
IngressPlace = FilesCluster | IngressCluster

if TYPE_CHECKING:
    from lbcore.adapters.kubernetes.reviews import Reviewed
    from lbcore.backends.kubernetes.webhook import Webhook

__all__ = [
    "Cluster",
    "IngressPlace",
    "Place",
    "SpeakerParts",
    "WebhookParts",
    "WebhookSettings",
    "controller",
    "ingress",
    "open_cluster",
    "open_place",
    "speaker",
    "webhook",
]

_SPEAKER_READS = frozenset({Kind.SERVICES, Kind.SLICES, Kind.NODES, Kind.CONFIG, Kind.SECRETS})


@frozen
class _Spoken:
    """Where intents go that only the log needs to hear: a speaker writes little into a folder of manifests."""

    handles: tuple[type[Intent], ...]

    async def apply(self, intent: Intent) -> Applied | Failed:
        """The observer has said it already."""
        return Applied(intent)


def open_cluster(folder: Path, log: Log) -> FilesCluster:
    """The cluster in a folder; documents that have no effect are named in the log, once."""
    return FilesCluster(
        folder, on_note=lambda ignored: log.info("manifest not read", object=ignored.about, why=ignored.note)
    )


def open_place(place: Place, log: Log, *, node: str | None = None, load_balancer_class: str | None = None) -> Cluster:
    """The cluster that is there: for the speaker of a node, or for a controller of a class, of which one writes."""
    if isinstance(place, Path):
        return open_cluster(place, log)
    say: Callable[[str], None] = log.warning
    return KubernetesCluster(place, node=node, elect=node is None, load_balancer_class=load_balancer_class, say=say)


def controller(cluster: Cluster, settings: AssignmentSettings, log: Log) -> Carrier[AssignmentState]:
    """The controller: everything that is decided about addresses, written back to the cluster."""
    sources: list[Source] = [cluster.source(assignment.NEEDS)]
    if isinstance(cluster, KubernetesCluster):
        if cluster.lease is not None:
            sources.append(cluster.lease)
        settings = evolve(settings, elected=cluster.lease is not None)
        # Statuses go out 16 at once; what nobody waits for has a way of its own.
        outlets: tuple[Outlet, ...] = (
            Outlet.to("statuses", cluster.sink, concurrency=16, only=(SetAddresses,)),
            Outlet.to(
                "notes", cluster.sink, concurrency=64, only=(RecordEvent, SetPoolUsage, ReportConfig), reports=False
            ),
        )
    else:
        outlets = (Outlet.to("cluster", cluster.sink, concurrency=8),)
    loop = Loop(
        assignment.step,
        AssignmentState(settings=settings),
        [outlet.lane for outlet in outlets],
        random.Random(),
    )
    return Carrier(
        loop=loop,
        sources=tuple(sources),
        outlets=outlets,
        is_stopped=lambda _: True,
        is_settled=lambda state: state.settled,
        observers=(log_observer(log),),
    )


def ingress(cluster: IngressPlace, settings: RoutingSettings, nginx: Nginx, log: Log) -> Carrier[RoutingState]:
    """The Ingress controller: hosts and their backends, served by nginx."""
    sources: list[Source] = [cluster.source(routing.needs(settings)), nginx]
    # One table at a time: what comes while nginx is busy takes the place of what waits, so changes come in batches.
    outlets = [Outlet.to("nginx", nginx, concurrency=1)]
    if isinstance(cluster, IngressCluster):
        instances = cluster.instances()
        sources += [each for each in (cluster.lease, instances) if each is not None]
        outlets += [
            Outlet.to("statuses", cluster.sink, concurrency=8, only=(PublishIngress,)),
            Outlet.to("notes", cluster.sink, concurrency=64, only=(RecordEvent,)),
        ]
    else:
        outlets += [
            Outlet.to("statuses", cluster.published, concurrency=8),
            Outlet.to("spoken", _Spoken((RecordEvent,)), concurrency=256),
        ]
    loop = Loop(routing.step, RoutingState(settings=settings), [outlet.lane for outlet in outlets], random.Random())
    return Carrier(
        loop=loop,
        sources=tuple(sources),
        outlets=tuple(outlets),
        is_stopped=lambda _: True,
        is_settled=lambda state: state.settled,
        observers=(log_observer(log),),
    )


@frozen(kw_only=True)
class WebhookSettings:
    """Where the webhook answers (no host: at every address) and by which certificate; `alone`: without a controller."""

    host: str | None
    port: int
    certificate: Path
    least_tls: ssl.TLSVersion
    alone: bool


@frozen(kw_only=True)
class WebhookParts:
    """The validating webhook, its way to the API server and its settings."""

    webhook: Webhook
    client: Client
    settings: WebhookSettings
    log: Log

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answer as long as the block lasts. Raises `AccessError`, `PortTakenError`."""
        try:
            await self.client.sign_in()
            async with self.webhook.listening(self.settings.host, self.settings.port) as port:
                self.log.info("webhook", port=port, certificate=str(self.settings.certificate))
                why = self.webhook.missing()
                if why is not None:
                    self.log.warning("the webhook cannot be asked", why=why)
                yield
        finally:
            await self.client.close()


def webhook(access: Access, settings: WebhookSettings, log: Log) -> WebhookParts:
    """The validating webhook. Its connections are its own: a question does not wait behind statuses."""
    from lbcore.backends.certificate import ServedCertificate  # noqa: PLC0415 - aiohttp's server, for those who ask
    from lbcore.backends.kubernetes.webhook import Webhook  # noqa: PLC0415

    def refused(review: Reviewed) -> None:
        log.warning("refused", object=review.about, operation=review.operation, user=review.user, why=review.refusal)

    say: Callable[[str], None] = log.warning
    client = Client(access, agent="lbcore-webhook", say=say)
    certificate = ServedCertificate(settings.certificate, least=settings.least_tls, say=say)
    asked = Webhook(client, access.namespace, certificate, on_refused=refused, say=say)
    return WebhookParts(webhook=asked, client=client, settings=settings, log=log)


@frozen
class SpeakerParts:
    """A speaker, and what is to be told when it ends: its routers first, then the reflex process."""

    carrier: Carrier[AnnouncementState]
    reflex: Reflex
    bgp: BgpSpeaker
    sessions: SessionSink | None

    async def close(self) -> None:
        """End the BGP sessions and leave membership."""
        await self.bgp.close()
        if self.sessions is not None and not self.reflex.replaced:  # else they are the other speaker's
            self.sessions.clear()
        await self.reflex.close(leave=True)


def _by_api_server(
    cluster: KubernetesCluster, node: str, reflex: Reflex, gossip: GossipSettings | None, say: Callable[[str], None]
) -> tuple[tuple[Source, ...], tuple[Outlet, ...]]:
    """What a speaker has besides where there is an API server: who lives is told by Leases, or by gossip and Leases."""
    client, namespace = cluster.client, cluster.access.namespace
    told: LeaseMembers | GossipMembers
    if gossip is None:
        told = LeaseMembers(client, namespace, node, is_able=lambda: reflex.pid is not None, say=say)
    else:
        told = GossipMembers(client, namespace, node, reflex, say=say)
    sources: tuple[Source, ...] = (told,)
    if gossip is not None and gossip.labels:
        sources = (cluster.speaker_pods(gossip.labels), told)
    others = tuple(each for each in reflex.handles if each not in told.handles)
    outlets: tuple[Outlet, ...] = (
        Outlet.to("reflex", reflex, concurrency=256, only=others),
        Outlet.to("members", told),
        Outlet.to("notes", cluster.sink, concurrency=64, only=(RecordEvent, ReportConfig)),
        Outlet.to("spoken", _Spoken((ReportPeer, ReportWithheld))),
    )
    if cluster.announced is not None:
        outlets = (*outlets, Outlet.to("announced", cluster.announced, concurrency=64))
    return sources, outlets


def speaker(
    cluster: Cluster,
    settings: AnnouncementSettings,
    reflex_settings: ReflexSettings,
    log: Log,
    *,
    bgp_port: int | None = None,
) -> SpeakerParts:
    """The speaker: what this node announces, carried out by its reflex process.

    `bgp_port`: where it waits for routers that want to be the ones who connect. Raises `LbcoreError` where it cannot.
    """
    say: Callable[[str], None] = log.warning
    reflex = Reflex(reflex_settings, say=say)
    settings = evolve(settings, stands_by=reflex_settings.tells_members)
    bgp = BgpSpeaker(settings.node, bgp_port)
    sessions: SessionSink | None = None
    sources: tuple[Source, ...] = (cluster.source(_SPEAKER_READS), NetlinkLinks(say=say), reflex, bgp)
    if isinstance(cluster, KubernetesCluster):
        more, outlets = _by_api_server(cluster, settings.node, reflex, reflex_settings.gossip, say)
        sources = (*sources, *more)
        settings = evolve(settings, tells=cluster.announced is not None)
    else:
        sessions = SessionSink(cluster.folder, settings.node)
        sessions.begin()
        tell_gossip(cluster.folder, gossips=reflex_settings.gossip is not None)
        spoken: Sink = _Spoken((ReportConfig,))
        outlets = (
            Outlet.to("reflex", reflex, concurrency=256),
            Outlet.to("sessions", sessions, concurrency=4),
            Outlet.to("spoken", spoken, concurrency=256),
        )
    outlets = (*outlets, Outlet.to("bgp", bgp, concurrency=256))
    loop = Loop(
        announcement.step,
        AnnouncementState(settings=settings),
        [outlet.lane for outlet in outlets],
        random.Random(),
    )
    carrier = Carrier(
        loop=loop,
        sources=sources,
        outlets=outlets,
        is_stopped=lambda state: state.stopped,
        is_settled=lambda state: state.settled,
        observers=(log_observer(log),),
    )
    return SpeakerParts(carrier, reflex, bgp, sessions)

"""One cluster behind one API server: the sources and the sink that daemons are assembled from."""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any

from lbcore.adapters.kubernetes.api import PEER_SECRETS, RESOURCES
from lbcore.adapters.kubernetes.changes import only_objects
from lbcore.adapters.kubernetes.notes import Backlog
from lbcore.backends.kubernetes.access import Access, own_pod
from lbcore.backends.kubernetes.announcers import AnnouncedKeeper
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.gossip_secret import GossipSecret
from lbcore.backends.kubernetes.leading import ControllerLease
from lbcore.backends.kubernetes.pods import SpeakerPodSource
from lbcore.backends.kubernetes.recorder import Recorder
from lbcore.backends.kubernetes.rivals import RivalSearch
from lbcore.backends.kubernetes.sink import Component, KubernetesSink
from lbcore.backends.kubernetes.source import KubernetesSource
from lbcore.events import Kind

__all__ = ["KubernetesCluster"]


def _say_nothing(_text: str) -> None:
    """Troubles that nobody wants to hear of."""


def _open() -> str | None:
    """A fence that is always open: of a writer that is alone."""
    return None


class KubernetesCluster:
    """A cluster as `access` reaches it. `node` makes it a speaker's, with a sink for what that node `announced`;
    `say` hears of troubles, once each.

    With `elect` there is a `lease` (a source of leadership), and nothing is written without it.
    """

    def __init__(
        self,
        access: Access,
        *,
        node: str | None = None,
        elect: bool = False,
        load_balancer_class: str | None = None,
        say: Callable[[str], None] = _say_nothing,
        concurrency: int = 16,
    ) -> None:
        component = Component(node)
        self.access = access
        self.client = Client(access, agent=component.reporter, concurrency=concurrency, say=say)
        self.announced: AnnouncedKeeper | None = None
        if node is not None:
            self.announced = AnnouncedKeeper(self.client, access.namespace, node, own_pod(), say)
        self.lease: ControllerLease | None = None
        if elect:
            identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
            rivals = RivalSearch(self.client, load_balancer_class)
            self.lease = ControllerLease(self.client, access.namespace, identity, say=say, rivals=rivals)
        fence = self.lease.fence if self.lease is not None else _open
        self._sources: list[KubernetesSource] = []
        self._say = say
        backlog = Backlog(reporter=component.reporter, instance=node or socket.gethostname(), rng=random.Random())
        self._recorder = Recorder(
            self.client,
            backlog,
            is_busy=lambda: self.sink.busy,
            may_write=lambda: fence() is None,
            say=say,
        )
        self.sink = KubernetesSink(
            self.client, access.namespace, component, self._recorder, newest=self._newest, fence=fence
        )

    def source(self, kinds: Iterable[Kind]) -> KubernetesSource:
        """A source of these kinds; a speaker's has no Secrets but the passwords of BGP sessions.

        Raises `ValueError` for kinds that are no objects (members, links).
        """
        mine = self.announced is not None
        where = [PEER_SECRETS if mine and each.kind is Kind.SECRETS else each for each in RESOURCES]
        source = KubernetesSource(self.client, self.access.namespace, only_objects(kinds), self._say, where)
        self._sources.append(source)
        return source

    def speaker_pods(self, labels: str) -> SpeakerPodSource:
        """The source of where the Pods of speakers are, by a label selector."""
        return SpeakerPodSource(self.client, self.access.namespace, labels, self._say)

    def gossip_secret(self, name: str, deployment: str) -> GossipSecret:
        """What sees to the Secret of speakers who gossip, while it is ours to write."""
        fence = self.lease.fence if self.lease is not None else _open
        return GossipSecret(
            self.client,
            self.access.namespace,
            name,
            deployment=deployment,
            may_write=lambda: fence() is None,
            say=self._say,
        )

    def trouble(self) -> str | None:
        """What cannot be read or written just now, with what the server says to it; None where all is well."""
        reading = [
            f"cannot read {each.resource.plural}: {each.trouble.message or each.trouble.status}"
            for source in self._sources
            for each in source.watchings
            if each.trouble is not None
        ]
        writing = [f"cannot write {what}: {why}" for what, why in sorted(self.sink.troubles.items())]
        return "; ".join([*reading, *writing]) or None

    async def close(self) -> None:
        """Say what is left to say, and hang up."""
        await self._recorder.close()
        if self.announced is not None:
            await self.announced.close()
        if self.lease is not None:
            await self.lease.release()
        await self.client.close()

    def _newest(self, kind: str, name: str) -> dict[str, Any] | None:
        for source in self._sources:
            document = source.newest(kind, name)
            if document is not None:
                return document
        return None

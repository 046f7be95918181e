"""What a daemon shows of itself over HTTP: `/healthz`, `/readyz`, `/metrics`, a speaker's `/members`; and what it adds
to each daemon for it.

Only loaded where a port is given: who wants no metrics does not carry their library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from attrs import evolve

from lbcore import announcement, assignment
from lbcore.adapters.views import view_document
from lbcore.assignment import AssignmentState
from lbcore.backends.http import HttpServer, Page
from lbcore.backends.nginx import Nginx
from lbcore.backends.reflex import Reflex
from lbcore.daemons.assembly import SpeakerParts
from lbcore.daemons.carrier import Carrier
from lbcore.daemons.controlled import Controlled
from lbcore.daemons.health import Health, check_configuration, check_lists
from lbcore.daemons.metrics import CONTENT_TYPE, Metrics
from lbcore.daemons.metrics_ingress import IngressCollector
from lbcore.routing import RoutingState

__all__ = ["Monitoring"]


class Monitoring:
    """Watches the daemons of this process. Give each of them to `controller` or `speaker`, and run what comes back.

    `health` takes further checks.
    """

    def __init__(self) -> None:
        self.health = Health()
        self.alive = Health()  # of what has to be there, ready or not: asked by /healthz
        self._metrics = Metrics()
        self._pages: dict[str, Callable[[], Awaitable[Page]]] = {}
        self._before: list[Callable[[], Awaitable[None]]] = []  # what is asked before the page is made

    def controller(self, carrier: Carrier[AssignmentState]) -> Carrier[AssignmentState]:
        """A controller that is watched."""
        loop = carrier.loop
        self.health.add("controller/lists", lambda: check_lists(loop.state, assignment.NEEDS))
        # A standby puts nothing in force; it is ready to.
        self.health.add(
            "controller/configuration", lambda: check_configuration(loop.state) if loop.state.leads else None
        )
        return self._metrics.controller(carrier)

    def speaker(self, parts: SpeakerParts) -> SpeakerParts:
        """A speaker that is watched."""
        loop, reflex = parts.carrier.loop, parts.reflex
        self.health.add("speaker/lists", lambda: check_lists(loop.state, announcement.NEEDS))
        self.health.add("speaker/configuration", lambda: check_configuration(loop.state))
        self.health.add("speaker/answering", lambda: None if reflex.pid is not None else "no answering process")
        self._pages["/members"] = lambda: _members(reflex)
        return evolve(parts, carrier=self._metrics.speaker(parts.carrier, reflex, parts.bgp))

    def ingress(self, carrier: Carrier[RoutingState], nginx: Nginx, controlled: Controlled) -> Carrier[RoutingState]:
        """An Ingress controller that is watched. As with ingress-nginx, it is healthy when something is served."""
        loop = carrier.loop
        collector = IngressCollector(controlled=controlled, nginx=nginx, state=lambda: loop.state)
        self._metrics.registry.register(collector)

        async def ask() -> None:
            collector.figures = await nginx.figures()

        self._before.append(ask)

        def lists() -> str | None:
            waited_for = sorted(kind.value for kind in loop.state.missing)
            return f"waiting for the first list of {', '.join(waited_for)}" if waited_for else None

        for health in (self.alive, self.health):
            health.add("ingress/lists", lists)
            health.add("ingress/nginx", nginx.missing)
        return carrier

    def stop(self) -> None:
        """We are about to end: not healthy any more, so that nobody sends new requests."""
        for health in (self.alive, self.health):
            health.add("stopping", lambda: "it is about to end")

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int, path: str = "/healthz") -> AsyncIterator[int]:
        """Serve the pages as long as the block lasts; it is given the port. `path` is that of health, `/healthz` is
        served as well. Raises `PortTakenError`.
        """
        server = HttpServer({**self._probes(), path: self._healthz, "/metrics": self._text, **self._pages})
        async with server.listening(host, port) as bound:
            yield bound

    @contextlib.asynccontextmanager
    async def probes(self, host: str, port: int) -> AsyncIterator[int]:
        """The same without `/metrics`; an empty host is every address."""
        async with HttpServer(self._probes()).listening(host, port) as bound:
            yield bound

    def _probes(self) -> dict[str, Callable[[], Awaitable[Page]]]:
        return {"/healthz": self._healthz, "/readyz": self._readyz}

    async def _healthz(self) -> Page:
        # An event loop that hangs gives no answer, and a daemon that fails ends: most have nothing else to ask.
        missing = [each for each in self.alive.ask() if each.missing is not None]
        if not missing:
            return Page(body=b"ok\n")
        text = "".join(f"{each.name}: {each.missing}\n" for each in missing)
        return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=text.encode())

    async def _readyz(self) -> Page:
        answers = self.health.ask()
        ready = all(each.missing is None for each in answers)
        lines = [f"{'ok  ' if each.missing is None else 'not '} {each.name}" for each in answers]
        whys = [f": {each.missing}" if each.missing is not None else "" for each in answers]
        text = "".join(f"{line}{why}\n" for line, why in zip(lines, whys, strict=True))
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status=status, body=f"{'ready' if ready else 'not ready'}\n{text}".encode())

    async def _text(self) -> Page:
        for ask in self._before:
            await ask()
        # In a thread: with 10,000 addresses the page takes longer than a failover may wait for.
        return Page(body=await asyncio.to_thread(self._metrics.text), content_type=CONTENT_TYPE)


async def _members(reflex: Reflex) -> Page:
    """What the speaker sees of the others, as `lbcore get members --ask` reads it."""
    view = reflex.view
    if view is None:
        text = b"this speaker does not gossip, or has just begun; there is nothing to be seen but names\n"
        return Page(status=HTTPStatus.NOT_FOUND, body=text)
    return Page(body=json.dumps(view_document(view)).encode(), content_type="application/json")

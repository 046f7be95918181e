"""The validating webhook: an HTTPS server that the API server asks before it stores an object of metallb.io.

What there is already is listed for each question, from the API server itself: what this process has heard by its watch
may be some milliseconds old, and two objects of one `kubectl apply` come closer together than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
from aiohttp import web

from lbcore.adapters.kubernetes.api import RESOURCES, ApiResource, Page
from lbcore.adapters.kubernetes.documents import read
from lbcore.adapters.kubernetes.reviews import Reviewed, decode, review
from lbcore.backends.certificate import ServedCertificate
from lbcore.backends.http import PortTakenError
from lbcore.backends.kubernetes.client import Client
from lbcore.config import ConfigDocument
from lbcore.errors import LbcoreError, ManifestError, RemoteProtocolError
from lbcore.events import ConfigSeen, Kind

__all__ = ["PATH", "Webhook"]

PATH: Final = "/validate"
# An API server takes requests of 3 MB, and an update shows what was and what shall be.
_LONGEST: Final = 8 << 20
_AT_ONCE: Final = 4  # reviews; more wait, so that no more than 32 MB are held
_PATIENCE: Final = 4.0  # seconds for one: less than the chart's `timeoutSeconds`, so that our reason is heard
_PAUSE: Final = 0.2  # seconds before a list that the server cannot give now is asked for again
_CONFIG = tuple(each for each in RESOURCES if each.kind is Kind.CONFIG)


class _UnansweredError(LbcoreError):
    """What there is cannot be listed; the message says why."""


class Webhook:
    """Judges reviews for the configuration in `namespace`. `on_refused` is told of each object that is refused."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        certificate: ServedCertificate,
        *,
        on_refused: Callable[[Reviewed], None],
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._certificate = certificate
        self._on_refused = on_refused
        self._say = say
        self._room = asyncio.Semaphore(_AT_ONCE)

    def missing(self) -> str | None:
        """What keeps it from being asked; None while it can be."""
        return self._certificate.missing()

    @contextlib.asynccontextmanager
    async def listening(self, host: str | None, port: int) -> AsyncIterator[int]:
        """Answer as long as the block lasts; it is given the port. No host is every address of this machine.

        Raises `PortTakenError`.
        """
        application = web.Application(client_max_size=_LONGEST)
        application.router.add_post(PATH, self._answer)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_PATIENCE)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=self._certificate.context)
            try:
                await site.start()
            except OSError as error:
                why = error.strerror or str(error)
                raise PortTakenError(
                    f"cannot listen on {host or 'any address'}, port {port}: {why}; see --webhook-port"
                ) from None
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_PATIENCE), self._room:
                reviewed = await self._review(await request.read())
        except RemoteProtocolError as error:
            return _plain(400, str(error))
        except TimeoutError:
            self._say(f"cannot judge an object: the API server did not list all there is within {_PATIENCE:g} s")
            return _plain(503, f"no judgement within {_PATIENCE:g} s")
        except _UnansweredError as error:
            self._say(f"cannot judge an object: {error}")
            return _plain(503, str(error))
        if reviewed.refusal:
            self._on_refused(reviewed)
        return web.Response(body=reviewed.answer, content_type="application/json")

    async def _review(self, body: bytes) -> Reviewed:
        # In threads: thousands of ranges take longer to read and compare than a Service should wait for its address.
        question = await asyncio.to_thread(decode, body)
        lists = await asyncio.gather(*(self._list(each) for each in _CONFIG))
        documents = {document.origin: document for each in lists for document in each}
        return await asyncio.to_thread(review, question, documents, self._namespace)

    async def _list(self, resource: ApiResource) -> list[ConfigDocument]:
        path = resource.path(self._namespace)
        answer = await self._client.request("GET", path, query=resource.selector, within=_PATIENCE)
        while answer.setback is not None and (answer.status == 429 or answer.status >= 500):
            await asyncio.sleep(_PAUSE)  # a definition that is new has no storage yet for a second
            answer = await self._client.request("GET", path, query=resource.selector, within=_PATIENCE)
        if answer.status == 404:
            return []  # a kind that this cluster does not have
        if answer.setback is not None:
            raise _UnansweredError(f"cannot list {resource.plural}: {answer.setback.message}")
        try:
            return list(_documents(resource, answer.body))
        except msgspec.MsgspecError as error:
            raise _UnansweredError(f"cannot read the list of {resource.plural}: {error}") from None


def _documents(resource: ApiResource, body: bytes) -> list[ConfigDocument]:
    found = []
    for raw in msgspec.json.decode(body, type=Page).items or ():
        with contextlib.suppress(ManifestError):
            seen = read(resource.decode(raw), "")
            if isinstance(seen, ConfigSeen):
                found.append(seen.document)
    return found


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")

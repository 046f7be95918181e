"""A small HTTP/1.1 server for probes and scrapers, in the daemon's own asyncio loop; h11 keeps the protocol.

GET and HEAD of a few fixed paths, no bodies, no TLS: what to answer is asked of a function. It is not
aiohttp.web, which the controller may load for the Kubernetes API, since a speaker would carry its
weight on every node for three pages of text.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import h11
from attrs import frozen

from lbcore.errors import LbcoreError

__all__ = ["HttpServer", "Page", "PortTakenError"]

_PATIENCE: Final = 10.0  # seconds for a request to arrive, or to begin after the last one
_CONNECTIONS: Final = 32  # at once; a scraper and a prober have one each
_LONGEST: Final = 16 << 10  # bytes of a request's head
_READ: Final = 4096


class PortTakenError(LbcoreError):
    """The address to listen at cannot be had; the message says which, and why."""


@frozen(kw_only=True)
class Page:
    """What is answered: a status, a text, and what kind of text it is."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


class HttpServer:
    """Serves `pages`: a function for each path, called at every request, in the event loop.

    `patience` is how many seconds a request may take to arrive, or to begin after the last one.
    """

    def __init__(self, pages: Mapping[str, Callable[[], Awaitable[Page]]], *, patience: float = _PATIENCE) -> None:
        self._pages = pages
        self._patience = patience
        self._open = 0

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve as long as the block lasts; it is given the port, which is a free one where `port` is 0.

        Raises `PortTakenError`.
        """
        try:
            server = await asyncio.start_server(self._serve, host, port, limit=_LONGEST)
        except OSError as error:
            why = error.strerror or str(error)
            where = f"{host or 'every address'}, port {port}"
            raise PortTakenError(f"cannot listen on {where}: {why}; see --metrics-port, --health-probe-port") from None
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                await self._converse(reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # whoever asked has gone, or speaks something else
        finally:
            self._open -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other, as long as the client keeps to HTTP and to the time."""
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST)
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    request = await _next_request(protocol, reader)
            except h11.RemoteProtocolError as error:
                if protocol.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    _send(protocol, writer, _refusal(HTTPStatus(error.error_status_hint)), close=True)
                    await writer.drain()
                return
            if request is None:
                return
            _send(protocol, writer, await self._page(request), head_only=request.method == b"HEAD")
            async with asyncio.timeout(self._patience):
                await writer.drain()
            if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
                return
            protocol.start_next_cycle()

    async def _page(self, request: h11.Request) -> Page:
        page = self._pages.get(request.target.decode("ascii", "replace").partition("?")[0])
        if page is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        if request.method not in (b"GET", b"HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        return await page()


async def _next_request(protocol: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """A request whose end has arrived too; None when the client hangs up between two."""
    request: h11.Request | None = None
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif not isinstance(event, h11.Data):  # a body is read and forgotten, within the time there is
            return None


def _refusal(status: HTTPStatus) -> Page:
    return Page(status=status, body=f"{status.phrase}\n".encode())


def _send(
    protocol: h11.Connection,
    writer: asyncio.StreamWriter,
    page: Page,
    *,
    close: bool = False,
    head_only: bool = False,
) -> None:
    headers = [("Content-Type", page.content_type), ("Content-Length", str(len(page.body)))]
    headers += [("Connection", "close")] if close else []
    if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    response = h11.Response(status_code=page.status, headers=headers, reason=page.status.phrase.encode())
    # To HEAD the length of what GET would bring, and no body, which h11 takes for an error (RFC 9110 section 9.3.2).
    body = () if head_only else (h11.Data(data=page.body),)
    for event in (response, *body, h11.EndOfMessage()):
        data = protocol.send(event)
        if data:
            writer.write(data)

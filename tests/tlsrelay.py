"""A relay before an API server that spoils what passes: cut in the middle of a line, delayed, or shut.

It shows the server's own certificate, so that what it counts and cuts is the plain text: a watch ends within a JSON
document, not merely within a TLS record.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lbcore.lab.controlplane import ApiServer

__all__ = ["Relay", "relayed"]

_PIECE = 16_384


class Relay:
    """One port of loopback, served by a thread of its own.

    `delay` is how many seconds each piece of an answer waits; `shut` refuses everybody; `silent` lets nothing pass in
    either direction, and ends no connection; `cuts` counts the watches that were cut.
    """

    def __init__(self, api: ApiServer) -> None:
        self.delay = 0.0
        self.shut = False
        self.silent = False
        self.cuts = 0
        self.url = ""
        self._cut_after: Callable[[], int | None] = lambda: None
        self._target = (api.address, api.port)
        self._trust = ssl.create_default_context(cafile=str(api.authority))
        self._shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._shown.load_cert_chain(api.authority, api.authority.with_suffix(".key"))
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(ready),), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def cut_watches(self, after: Callable[[], int | None]) -> None:
        """From now on each watch that begins ends after `after()` bytes of its answer, in the middle of a line."""
        self._cut_after = after

    def hang_up(self) -> None:
        """End every connection that is open."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _abort_all(self) -> None:
        for each in self._open:
            each.transport.abort()

    async def _run(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._shown)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await self._stop.wait()
        server.close()
        self._abort_all()
        await asyncio.sleep(0.1)  # what is left of the connections sees its end

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.shut:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(
                *self._target, ssl=self._trust, server_hostname=self._target[0]
            )
        except OSError:  # the server is down: then so is this
            writer.transport.abort()
            return
        pair = {writer, to_server}
        self._open |= pair
        left: list[int | None] = [None]  # bytes of the present answer until it is cut
        asking = asyncio.create_task(self._ask(reader, to_server, left))
        try:
            await self._answer(from_server, writer, left)
        finally:
            asking.cancel()
            self._open -= pair
            for each in pair:
                each.transport.abort()

    async def _unless_silent(self) -> None:
        while self.silent:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.02)

    async def _ask(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, left: list[int | None]) -> None:
        with suppress(OSError, ssl.SSLError):
            while piece := await reader.read(_PIECE):
                await self._unless_silent()
                head = piece.split(b"\r\n", 1)[0]
                if head.startswith(b"GET ") and b"watch=" in head:
                    left[0] = self._cut_after()
                to_server.write(piece)
                await to_server.drain()
        to_server.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int | None]) -> None:
        with suppress(OSError, ssl.SSLError):
            while piece := await reader.read(_PIECE):
                await self._unless_silent()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if left[0] is not None:
                    piece, left[0] = piece[: left[0]], left[0] - len(piece)
                writer.write(piece)
                await writer.drain()
                if left[0] is not None and left[0] <= 0:
                    self.cuts += 1
                    await asyncio.sleep(0.01)  # abort would throw away what was just written
                    return


@contextmanager
def relayed(api: ApiServer) -> Iterator[Relay]:
    """A relay that is gone afterwards."""
    relay = Relay(api)
    try:
        yield relay
    finally:
        relay.close()

"""Requests to the API server over HTTP/1.1 connections that stay: a few at once, each within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from attrs import frozen
from yarl import URL

from lbcore.adapters.kubernetes.watching import Setback
from lbcore.backends.kubernetes.access import Access, AccessError, Credentials

__all__ = ["JSON", "MERGE_PATCH", "SERVER_SIDE_APPLY", "Answer", "Client"]

MERGE_PATCH = "application/merge-patch+json"
SERVER_SIDE_APPLY = "application/apply-patch+yaml"
JSON = "application/json"
_ANSWER = 10.0  # seconds; the API server itself gives up on most requests after 60
_SILENCE = 150.0  # seconds; a watch brings a bookmark every minute
_CONNECT = 5.0
_BUFFER = 4 * 1024 * 1024  # bytes of a watch read at once

Query = Sequence[tuple[str, str]]


@frozen(kw_only=True)
class Answer:
    """What the server said; `setback` for a status that is no success, or for none at all. `date` is the time by its
    own clock, as HTTP has it.
    """

    status: int
    body: bytes = b""
    setback: Setback | None = None
    date: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON object in it; an empty one where there is none."""
        with suppress(msgspec.MsgspecError, UnicodeError):
            return msgspec.json.decode(self.body, type=dict)
        return {}


def _say_nothing(_text: str) -> None:
    """Nobody wants to hear of it."""


class Client:
    """A session with one API server. `concurrency` bounds the connections for requests; watches have their own.
    `say` hears when the server does not take our credentials, once, and when it does again.
    """

    def __init__(
        self, access: Access, *, agent: str, concurrency: int = 16, say: Callable[[str], None] = _say_nothing
    ) -> None:
        self._access = access
        self._say = say
        self._is_known = True
        self._credentials = Credentials(access)
        self._agent = agent
        self._concurrency = concurrency
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def sign_in(self) -> str:
        """Read the credentials; the server's URL. Raises `AccessError` where there are none to be had."""
        await self._credentials.header()
        return self._credentials.url

    async def close(self) -> None:
        """Give back the connections; twice does no harm."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        content_type: str = JSON,
        within: float = _ANSWER,
    ) -> Answer:
        """One request. Never raises for what a network or a server can do."""
        answer = await self._once(method, path, query, body, content_type, within, anew=False)
        if answer.status == 401:  # a token that has just run out
            answer = await self._once(method, path, query, body, content_type, within, anew=True)
        self._note(answer.status)
        return answer

    def _note(self, status: int) -> None:
        """Say whether the server knows us, when that changes: in one line, whatever was asked for how often."""
        known = status != 401
        if status and known != self._is_known:
            self._is_known = known
            cure = f"renew the token or certificate of {self._access}"
            refused = f"the API server does not take our credentials (401 Unauthorized): {cure}"
            self._say("the API server takes our credentials again" if known else refused)

    async def _once(
        self, method: str, path: str, query: Query, body: object, content_type: str, within: float, *, anew: bool
    ) -> Answer:
        try:
            async with asyncio.timeout(within):
                header = await self._credentials.header(anew=anew)
                data = None if body is None else msgspec.json.encode(body)
                if data is not None:
                    header["Content-Type"] = content_type
                async with self._session(watching=False).request(
                    method,
                    self._url(path, query),
                    data=data,
                    headers=header,
                    ssl=self._credentials.tls(),
                    server_hostname=self._credentials.server_name,
                    allow_redirects=False,
                ) as response:
                    content = await response.read()
                    return _answer(response, content)
        except TimeoutError:
            return Answer(status=0, setback=Setback(message=f"no answer within {within:g} s"))
        except (aiohttp.ClientError, AccessError, OSError, ValueError) as error:
            return Answer(status=0, setback=Setback(message=_said(error)))

    @asynccontextmanager
    async def watch(self, path: str, query: Query) -> AsyncIterator[AsyncIterator[bytes] | Setback]:
        """A watch as its bytes come; a `Setback` instead where it is refused. Raises `aiohttp.ClientError`,
        `OSError` and `TimeoutError` while it runs.
        """
        header = await self._credentials.header()
        async with self._session(watching=True).get(
            self._url(path, query),
            headers=header,
            ssl=self._credentials.tls(),
            server_hostname=self._credentials.server_name,
            allow_redirects=False,
        ) as response:
            if response.status == 200:
                self._note(200)
                yield response.content.iter_any()
                return
            if response.status == 401:
                await self._credentials.header(anew=True)
            answer = _answer(response, await response.read())
            yield answer.setback or Setback(status=response.status)

    def _url(self, path: str, query: Query) -> URL:
        # Paths are quoted where they are made (`object_path`): to parse and quote them once more takes 20 us.
        url = URL(self._credentials.url + path, encoded=True)
        return url.with_query(list(query)) if query else url

    def _session(self, *, watching: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(watching)
        if session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE if watching else None)
            connector = aiohttp.TCPConnector(limit=0 if watching else self._concurrency, keepalive_timeout=60)
            session = self._sessions[watching] = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers={"User-Agent": self._agent, "Accept": JSON, "Accept-Encoding": "identity"},
                read_bufsize=_BUFFER if watching else 2**18,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return session


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    if response.status < 300:
        return Answer(status=response.status, body=body, date=response.headers.get("Date", ""))
    said = Answer(status=response.status, body=body).document().get("message") or response.reason or ""
    setback = Setback(
        status=response.status,
        message=f"{response.status} {str(said)[:500]}",
        retry_after=_seconds(response.headers.get("Retry-After")),
    )
    return Answer(status=response.status, body=body, setback=setback)


def _seconds(text: str | None) -> float | None:
    """`Retry-After` (RFC 9110, 10.2.3): seconds, or a date. An hour at most."""
    if text is None:
        return None
    try:
        return min(max(0.0, float(int(text))), 3600.0)
    except ValueError:
        pass
    try:
        return min(max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()), 3600.0)
    except (ValueError, TypeError):
        return None


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__

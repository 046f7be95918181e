"""The Lease of this node's speaker: applied or taken away, the newest wish alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lbcore.adapters.kubernetes.api import LEASES, object_path
from lbcore.backends.kubernetes.client import SERVER_SIDE_APPLY, Client
from lbcore.backends.troubles import Troubles

__all__ = ["OwnLease"]

_REFUSALS = frozenset({400, 401, 403, 405, 422})


class OwnLease:
    """Writes the Lease called `name`. `run` carries it; `timeout` is what one request may take, in seconds.

    `refused` is whether the API server answered the last write, and will have none of the kind: a right is missing.
    """

    def __init__(
        self, client: Client, namespace: str, node: str, *, timeout: float, say: Callable[[str], None]
    ) -> None:
        self.name = f"lbcore-speaker-{node}"
        self.refused = False
        self._client = client
        self._path = object_path(LEASES, "leases", namespace, self.name)
        self._timeout = timeout
        self._troubles = Troubles(say)
        self._wish: dict[str, Any] | None = None
        self._remove = False
        self._removed = asyncio.Event()
        self._removed.set()
        self._wake = asyncio.Event()

    def keep(self, document: dict[str, Any]) -> None:
        """Have it so; a slow server gets no backlog."""
        self._wish, self._remove = document, False
        self._wake.set()

    def remove(self) -> None:
        """Have it gone."""
        self._wish, self._remove = None, True
        self._removed.clear()
        self._wake.set()

    async def gone(self) -> None:
        """Return when it is, or when that took too long: it runs out by itself, only later."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._removed.wait()

    async def run(self) -> None:
        """Write what is to be written, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._remove:
                answer = await self._client.request("DELETE", self._path, within=self._timeout)
                self._remove = False
                self._removed.set()
            elif self._wish is not None:
                body, self._wish = self._wish, None
                answer = await self._client.request(
                    "PATCH",
                    self._path,
                    query=(("fieldManager", "lbcore-speaker"), ("force", "true")),
                    body=body,
                    content_type=SERVER_SIDE_APPLY,
                    within=self._timeout,
                )
            else:
                continue
            setback = answer.setback
            self.refused = setback is not None and setback.status in _REFUSALS
            wrong = None if setback is None or setback.status == 404 else setback.message
            self._troubles.note("the Lease of this speaker cannot be kept", wrong)

"""The Secret that speakers share who gossip: made once, where nobody has made it. What is in it is never read here."""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
from collections.abc import Callable

from lbcore.adapters.kubernetes.api import object_path
from lbcore.adapters.kubernetes.watching import Setback, pause_after
from lbcore.backends.gossip_settings import SECRET_FILE
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.troubles import Troubles

__all__ = ["GossipSecret"]

_BYTES = 32  # MetalLB takes 16; its key, 32 characters of the secret, has room for 24
_LOOK = 0.5  # seconds between two looks at whether we lead
_APPS = "apps/v1"


class GossipSecret:
    """Sees to it that the Secret `name` is there. The Deployment of that name owns it, so that both go together;
    `may_write` is whether it is ours to write.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        *,
        deployment: str = "",
        may_write: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._deployment = deployment
        self._may_write = may_write
        self._troubles = Troubles(say)
        self._path = object_path("v1", "secrets", namespace, name)

    async def ensure(self) -> None:
        """Return when it is there, whoever made it."""
        rng = random.Random()
        attempt = 0
        while True:
            while not self._may_write():  # noqa: ASYNC110 - it is a look, no signal
                await asyncio.sleep(_LOOK)
            setback = await self._once()
            what = f"Secret {self._namespace}/{self._name}, which speakers need to gossip, cannot be made"
            self._troubles.note(what, setback.message if setback is not None else None)
            if setback is None:
                return
            await asyncio.sleep(pause_after(attempt, setback, rng))
            attempt += 1

    async def _once(self) -> Setback | None:
        there = await self._client.request("GET", self._path)
        if there.setback is None or there.status != 404:
            return there.setback
        metadata: dict[str, object] = {"name": self._name, "namespace": self._namespace}
        if self._deployment:
            found = await self._client.request(
                "GET", object_path(_APPS, "deployments", self._namespace, self._deployment)
            )
            if found.setback is not None and found.status != 404:
                return found.setback
            uid = (found.document().get("metadata") or {}).get("uid")
            if uid:
                owner = {"apiVersion": _APPS, "kind": "Deployment", "name": self._deployment, "uid": uid}
                metadata["ownerReferences"] = [owner]
        text = base64.b64encode(secrets.token_bytes(_BYTES)).decode().rstrip("=")
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {SECRET_FILE: text}}
        made = await self._client.request("POST", self._path.rpartition("/")[0], body=body)
        return None if made.status == 409 else made.setback  # 409: somebody was faster

"""Tells a running nginx which peers its upstreams have, by a socket in its folder: no reload, a few milliseconds.

The same lines lie in a file, which nginx reads when it starts and at each reload.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lbcore.adapters.nginx.lua import CONTROL, PEERS, gone_line, peers_line
from lbcore.errors import LbcoreError, LocalProtocolError
from lbcore.proxy import Upstream

__all__ = ["Peers"]

_PATIENCE = 5.0  # seconds; 10,000 upstreams take 0.1


class Peers:
    """What one nginx was told. `changes` counts how often it was told something without a reload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._told: dict[str, Upstream] = {}
        self._lines: dict[str, str] = {}
        self.changes = 0

    def note(self, dynamic: Mapping[str, Upstream], *, all_of_them: bool) -> str:
        """The lines for what has changed, written to the file as well; with `all_of_them` others are gone.

        Raises `LocalProtocolError` for peers that are no addresses, `OSError` where nothing can be written.
        """
        # Most are the very same: to compare two of them takes some 2 us, and there may be 10,000.
        told = self._told
        changed = [each for name, each in dynamic.items() if told.get(name) is not each and told.get(name) != each]
        gone = {name for name in told if name not in dynamic} if all_of_them else set()
        if not changed and not gone:
            return ""
        number = self._number + 1
        lines = {each.id: peers_line(each, number) for each in changed}
        kept = {name: line for name, line in (self._lines | lines).items() if name not in gone}
        self._write("".join(kept.values()))  # before anything is noted: what fails is tried again
        self._number, self._lines = number, kept
        self._told.update((each.id, each) for each in changed)
        for name in gone:
            del self._told[name]
        return "".join((*lines.values(), *(gone_line(name, number) for name in sorted(gone))))

    def _write(self, text: str) -> None:
        aside = self._folder / f".{PEERS}.tmp"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        aside.replace(self._folder / PEERS)

    async def tell_known(self, upstreams: Mapping[str, Upstream]) -> None:
        """What has changed of upstreams that nginx knows already: it need not wait for anything else."""
        known = {name: upstreams[name] for name in self._told if name in upstreams}
        with suppress(LocalProtocolError, OSError, LbcoreError):  # told again with all the others
            lines = await asyncio.to_thread(self.note, known, all_of_them=False)
            await self.tell(lines)

    async def tell(self, lines: str) -> None:
        """Tell lines. Raises `LbcoreError` where nginx does not take them."""
        if not lines:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                status = await self._post(lines.encode("ascii"))
        except (OSError, TimeoutError) as error:
            raise LbcoreError(f"nginx was not told its peers: {str(error) or 'no answer'}") from None
        if status != 200:
            raise LbcoreError(f"nginx was not told its peers: status {status}")
        self.changes += 1

    async def _post(self, body: bytes) -> int:
        reader, writer = await asyncio.open_unix_connection(str(self._folder / CONTROL))
        try:
            writer.write(b"POST /peers HTTP/1.0\r\nHost: peers\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            words = (await reader.readline()).split()
            return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        finally:
            writer.close()

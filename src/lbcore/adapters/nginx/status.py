"""What nginx's `stub_status` says -> numbers."""

from __future__ import annotations

import re

from attrs import frozen

from lbcore.errors import RemoteProtocolError

__all__ = ["Connections", "read_status"]

_PAGE = re.compile(
    r"Active connections: (\d+) *\nserver accepts handled requests\n (\d+) (\d+) (\d+) *\n"
    r"Reading: (\d+) Writing: (\d+) Waiting: (\d+)\s*"
)


@frozen(kw_only=True)
class Connections:
    """Connections of clients now, and how many there were, with their requests, since nginx started."""

    active: int
    reading: int
    writing: int
    waiting: int
    accepted: int
    handled: int
    requests: int


def read_status(text: str) -> Connections:
    """The page (ngx_http_stub_status_module). Raises `RemoteProtocolError` for anything else."""
    found = _PAGE.fullmatch(text)
    if found is None:
        raise RemoteProtocolError(f"{text[:60]!r} is no status of nginx")
    active, accepted, handled, requests, reading, writing, waiting = map(int, found.groups())
    return Connections(
        active=active, reading=reading, writing=writing, waiting=waiting, accepted=accepted, handled=handled,
        requests=requests,
    )  # fmt: skip

"""A running speaker asked over HTTP what it sees of the others: the page `/members` at its port for metrics."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request

from lbcore.adapters.views import View, read_view
from lbcore.errors import LbcoreError

__all__ = ["AskError", "ask_members"]

_PATIENCE = 5.0
_LONGEST = 4 << 20  # bytes; of a thousand members some 150,000
_CURE = "give HOST:PORT of a speaker's --metrics-port, such as 192.0.2.1:7472 or [2001:db8::1]:7472"

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a node is not asked by way of a proxy


class AskError(LbcoreError):
    """A speaker that gives no answer to read; the message says who, and why."""


def ask_members(where: str) -> View:
    """What the speaker at `HOST:PORT` sees. Raises `AskError`."""
    try:
        parts = urllib.parse.urlsplit(f"//{where}")
        known = bool(parts.hostname and parts.port) and parts.netloc == where and "@" not in where
    except ValueError:
        known = False
    if not known:
        raise AskError(f"{where!r} is no speaker; {_CURE}")
    try:
        with _DIRECTLY.open(f"http://{where}/members", timeout=_PATIENCE) as answer:
            return read_view(json.loads(answer.read(_LONGEST)))
    except urllib.error.HTTPError as error:
        said = str(error.read(200), "utf-8", "replace").strip() if error.code == 404 else error.reason
        raise AskError(f"speaker {where}: {said or error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise AskError(f"speaker {where} does not answer: {why}; {_CURE}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AskError(
            f"speaker {where}: its answer is not understood ({error!r}); is it a speaker of lbcore?"
        ) from None

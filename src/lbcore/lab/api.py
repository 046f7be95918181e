"""Requests to an API server from one thread, over one connection that is opened again when it was lost."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from attrs import frozen

from lbcore.lab.errors import LabError

__all__ = ["Answered", "Caller"]


@frozen
class Answered:
    """What the API server answered: the HTTP status and the document, a text where it was none."""

    status: int
    document: Any

    def wanted(self, what: str) -> Any:
        """The document; raises `LabError`, which names the request `what`, for a status of 400 and above."""
        if self.status >= 400:
            raise LabError(f"{what}: {self.status} {self.document}")
        return self.document


class Caller:
    """An API server as somebody with a bearer token speaks to it; nothing is sent before the first request."""

    def __init__(self, host: str, port: int, token: str, authority: Path) -> None:
        self._where = (host, port)
        self._token = token
        self._authority = authority
        self._connection: http.client.HTTPSConnection | None = None

    def request(
        self, method: str, path: str, body: object = None, *, kind: str = "", timeout: float = 30.0
    ) -> Answered:
        """One request with a JSON body of media type `kind` (PATCH: a JSON merge patch, if nothing else is said);
        any HTTP status is an answer. Raises `OSError` when there is none.
        """
        usual = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": kind or usual,
            "Accept": "application/json",
        }
        content = None if body is None else json.dumps(body).encode()
        lasting = self._connection is not None
        try:
            return self._send(method, path, content, headers, timeout)
        except (OSError, http.client.HTTPException):
            self.close()
            if not lasting:
                raise
        return self._send(method, path, content, headers, timeout)  # the server had closed an idle connection

    def ask(self, method: str, path: str, body: object = None, *, kind: str = "") -> Any:
        """The document that the server answers with; raises `LabError` for a status of 400 and above."""
        return self.request(method, path, body, kind=kind).wanted(f"{method} {path}")

    def _send(self, method: str, path: str, content: bytes | None, headers: dict[str, str], timeout: float) -> Answered:
        if self._connection is None:
            context = ssl.create_default_context(cafile=str(self._authority))
            self._connection = http.client.HTTPSConnection(*self._where, timeout=timeout, context=context)
        try:
            self._connection.request(method, path, content, headers)
            answer = self._connection.getresponse()
            return Answered(answer.status, _document(answer.read()))
        except http.client.HTTPException as error:
            raise OSError(f"the API server gave no whole answer: {error!r}") from error

    def close(self) -> None:
        """Hang up; the next request connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")

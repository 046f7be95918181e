"""What a table of requests is made of: Ingresses, requests to their hosts, and what is to come of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from gateway import Answer, Gateway, ingress

__all__ = ["HTTPS", "Ask", "Case", "ask", "case", "judge", "two"]


@frozen
class Ask:
    """One request, and what is to come, in a sentence that names the test.

    `backend` is who has to answer: with status 200, and unless something else is said, `a`; `-` is anybody. `sees` is
    the path that it saw, `receives` headers that came to it, `answers` headers that came back (None: there is none),
    `cookies` parts of a Set-Cookie. `after` such requests are sent before the one that counts. `certificate` names one
    of the harness's client certificates.
    """

    says: str
    path: str = "/"
    status: int = 200
    backend: str = ""
    sees: str | None = field(default=None, kw_only=True)
    method: str = field(default="GET", kw_only=True)
    host: str | None = field(default=None, kw_only=True)
    send: dict[str, str] = field(factory=dict, kw_only=True)
    answers: dict[str, str | None] = field(factory=dict, kw_only=True)
    receives: dict[str, str | None] = field(factory=dict, kw_only=True)
    shows: dict[str, object] = field(factory=dict, kw_only=True)  # what else the backend says of the request
    cookies: tuple[str, ...] = field(default=(), kw_only=True)
    no_cookie: bool = field(default=False, kw_only=True)
    tls: bool = field(default=False, kw_only=True)
    certificate: str | None = field(default=None, kw_only=True)
    body: bytes | None = field(default=None, kw_only=True)
    after: int = field(default=0, kw_only=True)
    at_least: float = field(default=0.0, kw_only=True)  # seconds that the answer may not be faster than

    @property
    def wanted_backend(self) -> str:
        """Who has to answer; empty: nobody is looked for."""
        found = self.backend or ("a" if self.status == 200 else "-")
        return "" if found == "-" else found


@frozen
class Case:
    """Ingresses, whose host is made of the case's name, and what they do. The name stands in the docs."""

    name: str
    ingresses: tuple[dict[str, Any], ...]
    asks: tuple[Ask, ...]

    @property
    def host(self) -> str:
        """The host of its first Ingress."""
        return str(self.ingresses[0]["spec"].get("rules", [{}])[0].get("host", ""))


HTTPS: dict[str, Any] = {"tls": True}


def case(name: str, *asks: Ask, also: tuple[dict[str, Any], ...] = (), **given: Any) -> Case:
    """One Ingress on the host NAME.test, with annotations (`_` for `-`), and others beside it."""
    host = given.pop("host", f"{name}.test")
    return Case(name, (ingress(name, host, **given), *also), asks)


def two(name: str, *asks: Ask, main: dict[str, Any] | None = None, **given: Any) -> Case:
    """A host with a canary to backend b."""
    canary = ingress(f"{name}-canary", f"{name}.test", given.pop("service", "b"), canary="true", **given)
    return Case(name, (ingress(name, f"{name}.test", **(main or {})), canary), asks)


def ask(gateway: Gateway, wanted: Ask, host: str = "", certificate: tuple[Path, Path] | None = None) -> Answer:
    """Send it, after those that go before; the answer."""
    send: dict[str, Any] = dict(wanted.send)
    answer: Answer | None = None
    for _ in range(wanted.after + 1):
        answer = gateway.get(
            wanted.host or host, wanted.path, method=wanted.method, tls=wanted.tls, body=wanted.body,
            certificate=certificate, **send,
        )  # fmt: skip
    assert answer is not None
    return answer


def judge(wanted: Ask, answer: Answer, words: Mapping[str, str]) -> None:
    """Assert that an answer is what was to come; `words` stand for others in what is expected."""

    def is_right(expected: object, found: object) -> bool:
        if not isinstance(expected, str):
            return expected == found
        for word, text in words.items():
            expected = expected.replace(word, text)
        if expected.startswith("~"):  # a pattern
            return isinstance(found, str) and re.search(expected[1:], found) is not None
        return expected == found

    assert wanted.status == answer.status, (wanted, answer)
    if wanted.wanted_backend:
        assert wanted.wanted_backend == answer.backend
    if wanted.sees is not None:
        assert wanted.sees == answer.seen["path"]
    for name, value in wanted.answers.items():
        assert is_right(value, answer.headers.get(name)), (name, value, answer)
    for name, value in wanted.receives.items():
        assert is_right(value, answer.seen["headers"].get(name)), (name, value, answer)
    for name, shown in wanted.shows.items():
        assert is_right(shown, answer.seen.get(name)), (name, shown, answer)
    for part in wanted.cookies:
        if part.startswith("~"):
            assert any(re.search(part[1:], cookie) for cookie in answer.cookies), (part, answer.cookies)
        else:
            assert any(part in cookie for cookie in answer.cookies), (part, answer.cookies)
    if wanted.no_cookie:
        assert () == answer.cookies

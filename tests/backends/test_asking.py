"""A speaker asked over HTTP what it sees of the others, by a real socket."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import pytest

from lbcore.adapters.views import Sight, SightState, View, view_document
from lbcore.backends.asking import AskError, ask_members
from lbcore.backends.http import HttpServer, Page

SEEN = View(
    node="n1",
    fast=True,
    why="all members are lbcore's",
    sights=(Sight(name="n2", state=SightState.DEAD, since=1.5, by=("n1", "n3"), release="lbcore/1"),),
)


def asked(page: Page, host: str = "::1", where: str = "[::1]:{}") -> View:
    async def answer() -> Page:
        return page

    async def lived() -> View:
        async with asyncio.timeout(20), HttpServer({"/members": answer}).listening(host, 0) as port:
            return await asyncio.to_thread(ask_members, where.format(port))

    return asyncio.run(lived())


def test_what_it_sees_is_read() -> None:
    page = Page(body=json.dumps(view_document(SEEN)).encode())
    assert SEEN == asked(page)
    assert SEEN == asked(page, "127.0.0.1", "127.0.0.1:{}")


@pytest.mark.parametrize(
    ("page", "phrase"),
    [
        (Page(status=HTTPStatus.NOT_FOUND, body=b"this speaker does not gossip\n"), "does not gossip"),
        (Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"x"), "Service Unavailable"),
        (Page(body=b"<html>"), "not understood"),
        (Page(body=b'{"detector": "other"}'), "not understood"),
    ],
)
def test_an_answer_that_is_none_is_said_in_one_line(page: Page, phrase: str) -> None:
    with pytest.raises(AskError, match=phrase) as caught:
        asked(page)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["", "nowhere", "n1:", "n1:x", "n1:70000", "http://n1:7472", "user@n1:80", "[::1:80"])
def test_what_is_no_speaker_is_refused_with_the_form_it_should_have(where: str) -> None:
    with pytest.raises(AskError, match="--metrics-port"):
        ask_members(where)


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(AskError, match=r"speaker \[::1\]:1 does not answer"):
        ask_members("[::1]:1")

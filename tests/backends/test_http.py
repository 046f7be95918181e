"""The pages' server over a real loopback socket: what a prober gets, and what a client gets that is none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lbcore.backends.http import HttpServer, Page, PortTakenError

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def page() -> Page:
    return Page(body=b"all is well\n")


async def sad() -> Page:
    return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"not ready\n")


def serving(story: Callable[[int], Awaitable[None]], *, host: str = "::1", patience: float = 10.0) -> None:
    """Live through a story that is given the port of a server."""

    async def lived() -> None:
        async with (
            asyncio.timeout(20),
            HttpServer({"/a": page, "/sad": sad}, patience=patience).listening(host, 0) as port,
        ):
            await story(port)

    asyncio.run(lived())


async def ask(port: int, request: bytes, host: str = "::1", *, hang_up: bool = False) -> bytes:
    """Everything that is answered until the server ends the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    if hang_up:
        writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def answers(request: bytes, *, host: str = "::1", hang_up: bool = False) -> tuple[bytes, bytes]:
    """Status line and body of the last answer to a request."""
    found: list[bytes] = []

    async def story(port: int) -> None:
        found.append(await ask(port, request, host, hang_up=hang_up))

    serving(story, host=host)
    head, _, body = found[0].partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_a_page_is_served_in_both_families(host: str) -> None:
    assert (b"HTTP/1.1 200 OK", b"all is well\n") == answers(LAST, host=host)


def test_a_page_says_its_own_status_and_a_query_changes_nothing() -> None:
    assert (b"HTTP/1.1 503 Service Unavailable", b"not ready\n") == answers(LAST.replace(b"/a", b"/sad?verbose"))


def test_what_is_not_there_is_404() -> None:
    assert (b"HTTP/1.1 404 Not Found", b"Not Found\n") == answers(LAST.replace(b"/a", b"/%2e%2e/etc/passwd"))


def test_http_1_0_gets_one_answer_and_the_end() -> None:
    assert (b"HTTP/1.1 200 OK", b"all is well\n") == answers(b"GET /a HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"BREW"])
def test_another_method_is_refused_with_those_there_are(method: bytes) -> None:
    async def story(port: int) -> None:
        answer = await ask(port, LAST.replace(b"GET", method))
        assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
        assert b"\r\nallow: get, head\r\n" in answer.lower()

    serving(story)


def test_head_brings_the_length_but_no_body_and_the_connection_lives() -> None:
    async def story(port: int) -> None:
        first, _, rest = (await ask(port, GET.replace(b"GET", b"HEAD") + LAST)).partition(b"\r\n\r\n")
        assert b"content-length: 12" in first.lower().split(b"\r\n")
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b"\r\n\r\nall is well\n")

    serving(story)


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def story(port: int) -> None:
        answer = await ask(port, GET + LAST.replace(b"/a", b"/nothing") + LAST)
        assert [b"200", b"404"] == [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]

    serving(story)


def test_a_body_is_read_and_forgotten() -> None:
    async def story(port: int) -> None:
        posted = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
        answer = await ask(port, posted + LAST)
        assert [b"405", b"200"] == [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]

    serving(story)


def test_a_head_of_more_than_16_kib_is_refused() -> None:
    status, _ = answers(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000)
    assert b"HTTP/1.1 431 Request Header Fields Too Large" == status


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"GET /a\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
    ],
    ids=["TLS", "no version", "no Host"],
)
def test_what_is_no_http_is_400_and_the_end(garbage: bytes) -> None:
    assert (b"HTTP/1.1 400 Bad Request", b"Bad Request\n") == answers(garbage + LAST)


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=200) | st.sampled_from([GET, LAST, GET[:20], b"\r\n", b"\0"]), max_size=5))
@example([LAST, GET])
def test_whatever_a_client_sends_the_next_one_is_served(pieces: list[bytes]) -> None:
    failures: list[dict[str, object]] = []

    async def story(port: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        await ask(port, b"".join(pieces), hang_up=True)
        assert (await ask(port, LAST)).endswith(b"all is well\n")

    serving(story)
    assert [] == failures


def test_a_client_that_says_nothing_or_too_little_is_left_and_keeps_nobody_waiting() -> None:
    async def story(port: int) -> None:
        slow = [await asyncio.open_connection("::1", port) for _ in range(2)]
        slow[1][1].write(GET[:-2])
        assert (await ask(port, LAST)).endswith(b"all is well\n")
        assert [b"", b""] == [await reader.read() for reader, _ in slow]
        for _, writer in slow:
            writer.close()

    serving(story, patience=0.05)


def test_of_more_than_32_connections_the_newest_is_closed_and_room_is_made_again() -> None:
    async def story(port: int) -> None:
        held = []
        for _ in range(32):
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(GET)
            await reader.readuntil(b"all is well\n")
            held.append((reader, writer))
        assert b"" == await ask(port, b"", hang_up=False)
        reader, writer = held.pop()
        writer.write(LAST)
        await reader.read()
        writer.close()
        assert (await ask(port, LAST)).endswith(b"all is well\n")
        for _, writer in held:
            writer.close()

    serving(story)


def test_a_port_that_is_taken_is_named_with_the_option_to_change() -> None:
    with socket.socket(socket.AF_INET6) as holder:
        holder.bind(("::1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        async def listen() -> None:
            async with HttpServer({}).listening("::1", port):
                pass

        with pytest.raises(PortTakenError, match=rf"::1, port {port}: .+; see --metrics-port"):
            asyncio.run(listen())


def test_the_port_is_free_again_after_the_block() -> None:
    ports: list[int] = []

    async def story(port: int) -> None:
        assert (await ask(port, LAST)).endswith(b"all is well\n")
        ports.append(port)

    serving(story)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", ports[0]), timeout=5)

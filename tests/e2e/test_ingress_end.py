"""How `lbcore ingress` ends, and what the nginx that it runs may know of us."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway import PATIENCE, Backend, Gateway, ingress
from lbcore.adapters.nginx.render import Places
from lbcore.backends.worker_user import with_user

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    found = Gateway(tmp_path, environment={"LBCORE_TEST_SECRET": "sesame"})
    yield found
    found.stop()


def held(port: int) -> list[dict[str, Any]]:
    """A Service whose only endpoint is this port."""
    service, slice_ = Backend("held").manifests()
    return [service, {**slice_, "ports": [{"name": "http", "port": port}]}]


def is_deaf(gateway: Gateway) -> bool:
    try:
        socket.create_connection(("127.0.0.1", gateway.http), timeout=PATIENCE).close()
    except OSError:
        return True
    return False


def test_a_request_that_is_under_way_at_the_end_is_answered_and_no_new_one_is_taken(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as clients:
        listener.settimeout(PATIENCE)
        gateway.start().put("all", *held(listener.getsockname()[1]), ingress("held", "held.test", "held"))
        asked = clients.submit(gateway.get, "held.test")
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            gateway.terminate()
            gateway.until(lambda: is_deaf(gateway), "it to take no new connections")
            connection.sendall(ANSWER)
        answer = asked.result(PATIENCE)
    assert (200, b"late") == (answer.status, answer.body)
    gateway.wait()


def test_it_stays_for_a_while_after_nginx_where_it_is_told_to(gateway: Gateway) -> None:
    gateway.start("--post-shutdown-grace-period", "2s").put("all", ingress("web", "web.test"))
    master = Path(f"/proc/{(gateway.runtime / 'nginx.pid').read_text().strip()}")
    gateway.terminate()
    gateway.until(lambda: not master.exists(), "nginx to end")
    assert gateway.running
    gateway.wait()


def test_workers_are_somebody_else_where_root_starts_them_and_nginx_is_told_nothing_of_us(gateway: Gateway) -> None:
    gateway.start().put("all", ingress("web", "web.test"))
    user = with_user(Places(folder=str(gateway.runtime))).user
    wanted = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    assert {wanted} == {Path(f"/proc/{pid}").stat().st_uid for pid in gateway.workers}
    master = (gateway.runtime / "nginx.pid").read_text().strip()
    told = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in (master, *gateway.workers))
    assert b"sesame" not in told

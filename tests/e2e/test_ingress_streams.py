# ruff: noqa: E501 - a table is read in rows
"""TCP and UDP services through the nginx that `lbcore ingress` runs, over both families, with real backends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Backend, Gateway, free_port, ingress
from machine import NEWER_NGINX
from talkers import Talker, say, say_datagram, talk

pytestmark = [pytest.mark.needs("nginx", "nginx-stream"), pytest.mark.slow]

V4, V6 = "127.0.0.1", "::1"
WEB = Backend("web")
ONE, SIX, DNS, DNS6 = Talker("one"), Talker("six", V6), Talker("dns", udp=True), Talker("dns6", V6, udp=True)
FROM = "PROXY TCP4 192.0.2.7 192.0.2.8 1000 2000\r\n"


def entries(transport: str = "tcp", /, **data: str) -> dict[str, Any]:
    """The ConfigMap of a protocol; a key that is a port begins with `p`."""
    metadata = {"name": transport, "namespace": "lb"}
    given = {name.removeprefix("p"): text for name, text in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": given}


def ports(number: int) -> list[int]:
    found: set[int] = set()
    while len(found) < number:
        found.add(free_port())
    return sorted(found)


VARIANTS = [
    pytest.param((), id="here"),
    pytest.param(
        ("--nginx", str(NEWER_NGINX)), id="newer", marks=pytest.mark.needs("nginx-newer", "nginx-newer-stream")
    ),
]


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("gateway"))
    maps = ("--tcp-services-configmap", "lb/tcp", "--udp-services-configmap", "lb/udp")
    found.start("--listen", V6, *maps, *request.param)
    try:
        services = [*ONE.manifests("one"), *SIX.manifests("six"), *DNS.manifests("dns"), *DNS6.manifests("dns6")]
        found.put("all", *services, *WEB.manifests(), ingress("web", "web.test", "web"))
        yield found
    finally:
        found.stop()


@pytest.fixture
def open_(gateway: Gateway) -> Iterator[Any]:
    """Writes both ConfigMaps, and waits until that is served; closes all ports in the end."""

    def write(tcp: dict[str, str] | None = None, udp: dict[str, str] | None = None) -> None:
        gateway.put("ports", entries(**(tcp or {})), entries("udp", **(udp or {})))

    yield write
    gateway.put("ports")


def closed(host: str, port: int) -> bool:
    try:
        say(host, port, "x")
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def answers(host: str, port: int) -> str:
    """Who does, or nobody."""
    try:
        return str(say(host, port, "x")["backend"])
    except OSError:
        return ""


def test_connections_of_both_families_come_to_endpoints_of_both(open_: Any) -> None:
    one, six = ports(2)
    open_({f"p{one}": "data/one:7", f"p{six}": "data/six:echo"})
    for host in (V6, V4):
        assert {"backend": "one", "said": "hello", "proxy": None} == say(host, one, "hello")
        assert {"backend": "six", "said": "hello", "proxy": None} == say(host, six, "hello")


def test_datagrams_of_both_families_come_to_endpoints_of_both(open_: Any) -> None:
    four, six = ports(2)
    open_(udp={f"p{four}": "data/dns:7", f"p{six}": "data/dns6:echo"})
    for host in (V6, V4):
        assert ["a", "b", "c"] == [each["said"] for each in say_datagram(host, four, "a", "b", "c")]
        assert {"backend": "dns6", "said": "a", "proxy": None} == say_datagram(host, six, "a")[0]


def test_one_number_is_a_port_of_tcp_and_of_udp(open_: Any) -> None:
    [port] = ports(1)
    open_({f"p{port}": "data/one:7"}, {f"p{port}": "data/dns:7"})
    assert ("one", "dns") == (answers(V6, port), say_datagram(V6, port, "a")[0]["backend"])


def test_the_proxy_protocol_is_taken_and_sent_and_the_client_s_address_goes_all_the_way(
    gateway: Gateway, open_: Any
) -> None:
    taken, sent, both = ports(3)
    open_({f"p{taken}": "data/one:7:PROXY", f"p{sent}": "data/one:7::PROXY", f"p{both}": "data/one:7:PROXY:PROXY"})
    for host in (V6, V4):
        assert {"backend": "one", "said": "x", "proxy": None} == say(host, taken, "x", FROM)
        family = "TCP6" if host == V6 else "TCP4"
        assert [family, host] == say(host, sent, "x")["proxy"].split()[1:3]
        assert ["TCP4", "192.0.2.7"] == say(host, both, "x", FROM)["proxy"].split()[1:3]
        with pytest.raises(OSError, match=r"closed|reset|[Bb]roken"):  # who does not begin so is not listened to
            say(host, taken, "x")
    gateway.until(
        lambda: "[192.0.2.7] [" in gateway.log and " TCP 200 " in gateway.log, "the client's address in the log"
    )


def test_a_port_without_endpoints_is_closed_until_there_are_some(gateway: Gateway, open_: Any) -> None:
    none, one = ports(2)
    gateway.put("late", *ONE.manifests("late", ready=False))
    open_({f"p{none}": "data/late:7", f"p{one}": "data/one:7"})
    assert ([True, True], "one") == ([closed(host, none) for host in (V6, V4)], answers(V6, one))
    gateway.put("late", *ONE.manifests("late"))
    gateway.until(lambda: answers(V6, none) == "one", "the endpoint")
    gateway.put("late", *ONE.manifests("late", endpoints=False))
    gateway.until(lambda: closed(V6, none) and closed(V4, none), "the port to be closed")
    assert "one" == answers(V4, one)
    gateway.put("late")


def test_a_broken_entry_is_named_and_leaves_the_others_served(gateway: Gateway, open_: Any) -> None:
    good, typo, missing = ports(3)
    open_({f"p{good}": "data/one:7", f"p{typo}": "data/one:7; }", f"p{missing}": "data/nobody:7", "p8181": "data/one:7",
           f"p{gateway.http}": "data/one:7", "x; listen 1;": "data/one:7"}, {f"p{good}": "data/one:7"})  # fmt: skip
    assert ("one", True, True) == (answers(V6, good), closed(V6, typo), closed(V6, missing))
    assert "web" == gateway.get("web.test").backend
    for said in (
        f"data.{typo}: 'data/one:7; }}' names no Service's port", f"data.{missing}: leads to Service data/nobody, which",
        "data.8181: is a port that ingress-nginx keeps", f"data.{gateway.http}: is a port at which the controller itself",
        "data['x; listen 1;']: is no port", f"data.{good}: leads to UDP port 7, which Service data/one does not have",
    ):  # fmt: skip
        gateway.until(lambda said=said: said in gateway.log, said)  # type: ignore[misc]


def test_a_change_of_endpoints_cuts_nobody_off(gateway: Gateway, open_: Any) -> None:
    [port] = ports(1)
    gateway.put("moving", *ONE.manifests("moving"))
    open_({f"p{port}": "data/moving:7"})
    with socket.create_connection((V6, port), timeout=10) as before:
        assert "one" == talk(before, "x")["backend"]
        gateway.put("moving", *SIX.manifests("moving"))
        gateway.until(lambda: answers(V6, port) == "six", "the other endpoint")
        assert "one" == talk(before, "x")["backend"]
    gateway.put("moving")


@contextlib.contextmanager
def holding(port: int) -> Iterator[None]:
    """Somebody else on this machine who has a port."""
    with socket.create_server((V6, port), family=socket.AF_INET6):
        yield


def test_a_port_that_somebody_else_has_costs_nobody_else_anything_and_is_opened_when_it_is_free(
    gateway: Gateway, open_: Any
) -> None:
    taken, good = ports(2)
    with holding(taken):
        open_({f"p{taken}": "data/one:7", f"p{good}": "data/one:7"})
        assert "one" == answers(V6, good)
        gateway.until(lambda: f"data.{taken}: [::1]:{taken} is in use" in gateway.log, "it to be said")
        # What comes afterwards is served as well, and not refused for the sake of that port.
        gateway.put("after", ingress("after", "after.test", "web"))
        assert "web" == gateway.get("after.test").backend
    gateway.until(lambda: answers(V6, taken) == "one", "the port to be opened")
    gateway.put("after")


def test_an_nginx_that_died_comes_back_though_somebody_has_taken_a_port_meanwhile(gateway: Gateway, open_: Any) -> None:
    taken, good = ports(2)
    open_({f"p{taken}": "data/one:7", f"p{good}": "data/one:7"})
    assert "one" == answers(V6, taken)
    with contextlib.ExitStack() as meanwhile:
        with gateway.standing_still():
            gateway.kill_nginx()
            gateway.until(lambda: closed(V6, taken), "nginx to be gone")
            meanwhile.enter_context(holding(taken))
        gateway.until(lambda: answers(V4, good) == "one", "nginx to be back")
        assert "web" == gateway.get("web.test").backend
    gateway.until(lambda: answers(V6, taken) == "one", "the port to be opened")

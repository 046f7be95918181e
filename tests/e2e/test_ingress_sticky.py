"""Sticky sessions over time: backends come, go and fail, and a canary takes a part; with Lua and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Backend, Gateway, free_port, ingress

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

A, B, C, D = (Backend(name) for name in "abcd")
VARIANTS = [
    pytest.param(("--no-dynamic-upstreams",), id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    found.put("all")
    yield found
    found.stop()


class Client:
    """A browser with one cookie."""

    def __init__(self, gateway: Gateway, host: str) -> None:
        self.gateway, self.host, self.cookie = gateway, host, ""

    def ask(self) -> str:
        """Who answered."""
        sent: dict[str, Any] = {"Cookie": self.cookie} if self.cookie else {}
        answer = self.gateway.get(self.host, **sent)
        for each in answer.cookies:
            self.cookie = each.partition(";")[0]
        assert 200 == answer.status
        return answer.backend


def ask_all(clients: list[Client]) -> list[str]:
    return [client.ask() for client in clients]


def until_only(gateway: Gateway, host: str, *names: str) -> None:
    """Wait until new clients come to these backends alone: what goes may be told after what comes."""
    gateway.until(lambda: {Client(gateway, host).ask() for _ in range(16)} <= set(names), f"{names} at {host}")


def test_a_persistent_client_stays_when_backends_come_and_is_given_another_when_its_own_goes(gateway: Gateway) -> None:
    sticky = ingress("stay", "stay.test", "stay", affinity="cookie", affinity_mode="persistent")
    gateway.put("stay", sticky, *A.manifests("stay", B))
    clients = [Client(gateway, "stay.test") for _ in range(12)]
    first = ask_all(clients)
    assert {"a", "b"} == set(first)
    cookies = [client.cookie for client in clients]
    gateway.put("stay", sticky, *A.manifests("stay", B, C, D))
    for _ in range(3):
        assert first == ask_all(clients)
    assert cookies == [client.cookie for client in clients]
    assert {"c", "d"} & {Client(gateway, "stay.test").ask() for _ in range(40)}
    gateway.put("stay", sticky, *B.manifests("stay", C, D))
    until_only(gateway, "stay.test", "b", "c", "d")
    second = ask_all(clients)
    assert ["b" for each in first if each == "b"] == [now for was, now in zip(first, second, strict=True) if was == "b"]
    assert "a" not in second
    assert second == ask_all(clients)
    gateway.put("stay", sticky, *B.manifests("stay"))
    until_only(gateway, "stay.test", "b")
    assert ["b"] * 12 == ask_all(clients) == ask_all(clients)
    gateway.put("stay", sticky, *B.manifests("stay", A))
    assert ["b"] * 12 == ask_all(clients)


@pytest.mark.parametrize("mode", ["balanced", "persistent"])
@pytest.mark.parametrize("changes", [True, False], ids=["changes", "stays"])
def test_a_client_whose_backend_fails_is_given_another_where_that_is_asked_for(
    gateway: Gateway, mode: str, changes: bool
) -> None:
    name = f"fail-{mode}-{'changes' if changes else 'stays'}"
    sticky = ingress(
        name, f"{name}.test", name, affinity="cookie", affinity_mode=mode,
        session_cookie_change_on_failure=str(changes).lower(), proxy_next_upstream="error http_503",
    )  # fmt: skip
    broken, well = Backend("broken", status_header="X-Broken"), Backend("well")
    gateway.put(name, sticky, *broken.manifests(name, well))
    clients = [Client(gateway, f"{name}.test") for _ in range(40)]
    was = ask_all(clients)
    assert {"broken", "well"} == set(was)
    moved = [client for client, who in zip(clients, was, strict=True) if who == "broken"]
    before = [client.cookie for client in moved]
    for client in moved:
        answers = [gateway.get(client.host, Cookie=client.cookie, X_Broken="503")]
        assert ["well"] == [each.backend for each in answers]
        assert changes is bool(answers[0].cookies)
        for each in answers[0].cookies:
            client.cookie = each.partition(";")[0]
    after = [client.cookie for client in moved]
    assert changes is (before != after)
    # Without Lua the new key is another draw; it may be of the same backend.
    found = ask_all(moved)
    assert ("well" in found) is changes


def test_many_backends_of_a_persistent_service_are_served(gateway: Gateway) -> None:
    ports = [A.port, *(free_port() for _ in range(69))]
    made = A.manifests("many")
    made[1]["endpoints"] = [{"addresses": ["127.0.0.1"]}]
    more = [
        {
            **made[1],
            "metadata": {**made[1]["metadata"], "name": f"many-{port}"},
            "ports": [{"name": "http", "port": port}],
        }
        for port in dict.fromkeys(ports[1:])
    ]
    sticky = ingress(
        "many", "many.test", "many", affinity="cookie", affinity_mode="persistent", proxy_next_upstream_tries="0"
    )
    gateway.put("many", sticky, *made, *more)
    client = Client(gateway, "many.test")
    assert ["a"] * 4 == [client.ask() for _ in range(4)]


@pytest.mark.parametrize("mode", ["balanced", "persistent"])
def test_a_client_stays_with_the_canary_or_without_it(gateway: Gateway, mode: str) -> None:
    main = ingress("two", "two.test", "two", affinity="cookie", affinity_mode=mode)
    canary = ingress("two-canary", "two.test", "two-next", canary="true", canary_weight="50")
    gateway.put("two", main, canary, *A.manifests("two", B), *C.manifests("two-next", D))
    clients = [Client(gateway, "two.test") for _ in range(40)]
    first = ask_all(clients)
    assert {"c", "d"} & set(first)
    assert {"a", "b"} & set(first)
    for _ in range(4):
        assert first == ask_all(clients)
    canary["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"] = "100"
    gateway.put("two", main, canary, *A.manifests("two", B), *C.manifests("two-next", D))
    assert first == ask_all(clients)
    gateway.put("two", main, *A.manifests("two", B))
    until_only(gateway, "two.test", "a", "b")
    assert {"a", "b"} >= set(ask_all(clients))


@pytest.mark.parametrize("where", ["main", "canary"])
def test_legacy_is_a_draw_for_each_request(gateway: Gateway, where: str) -> None:
    host, legacy = f"old-{where}.test", {"affinity_canary_behavior": "legacy"}
    main = ingress("old", host, "old", affinity="cookie", **(legacy if where == "main" else {}))
    more = legacy if where == "canary" else {}
    canary = ingress("old-canary", host, "old-next", canary="true", canary_weight="50", **more)
    gateway.put("old", main, canary, *A.manifests("old"), *B.manifests("old-next"))
    client = Client(gateway, host)
    assert {"a", "b"} == {client.ask() for _ in range(40)}

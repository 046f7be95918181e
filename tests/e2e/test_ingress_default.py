"""Who answers what no rule takes: an Ingress without rules, a rule without a host, and the command line's backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Backend, Gateway, ingress

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

A, B, PAGE, EMPTY = Backend("a"), Backend("b"), Backend("page"), "empty"
SERVICES = [*A.manifests(), *B.manifests(), *PAGE.manifests(), PAGE.manifests(EMPTY)[0]]
# Of the conformance tests: path, host and method.
ANYTHING = (
    ("/", "foo.com", "GET"),
    ("/sub", "bar.com", "POST"),
    ("/some/path", "www.foo.com", "PUT"),
    ("/x/y/z?a=b", "x.foo.test", "DELETE"),
    ("/", "sub.bar.test", "PATCH"),
    ("/%7Euser", "foo.com:8080", "OPTIONS"),
)


@pytest.fixture(
    params=[
        pytest.param(("--no-dynamic-upstreams",), id="plain"),
        pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
    ]
)
def arguments(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    found = Gateway(tmp_path)
    yield found
    found.stop()


def without_rules(name: str, service: str, created: str = "2026-01-01T00:00:00Z", **annotations: str) -> dict[str, Any]:
    made = ingress(name, "", service, created=created, **annotations)
    backend = made["spec"].pop("rules")[0]["http"]["paths"][0]["backend"]
    return {**made, "spec": {**made["spec"], "defaultBackend": backend}}


def test_an_ingress_without_rules_has_every_host_path_and_method(gateway: Gateway, arguments: tuple[str, ...]) -> None:
    younger = without_rules("younger", "b", created="2026-02-01T00:00:00Z")
    gateway.start(*arguments)
    gateway.put("all", *SERVICES, without_rules("all", "a"), younger, ingress("own", "own.test", "b", "/own"))
    for path, host, method in ANYTHING:
        answer = gateway.get(host, path, method=method)
        assert (200, "a", path, method) == (
            answer.status, answer.backend, answer.seen["path"], answer.seen["method"],
        )  # fmt: skip
        assert {"content-length", "content-type", "date", "server"} <= answer.headers.keys()
    assert "a" == gateway.get("foo.com", tls=True).backend
    # A host that somebody has is his, with all its paths.
    assert ("b", 404) == (gateway.get("own.test", "/own").backend, gateway.get("own.test", "/other").status)


def test_what_an_ingress_without_rules_asks_for_counts_there(gateway: Gateway) -> None:
    asks = {"allowlist_source_range": "192.0.2.0/24"}
    gateway.start().put("all", *SERVICES, without_rules("all", "a", **asks))
    assert 403 == gateway.get("anything.test").status


def test_a_rule_without_a_host_is_for_all_that_have_none_of_their_own(gateway: Gateway) -> None:
    gateway.start().put("all", *SERVICES, ingress("any", "", "a", "/any"), ingress("own", "own.test", "b", "/own"))
    assert ("a", 404) == (gateway.get("x.test", "/any/y").backend, gateway.get("x.test", "/").status)
    assert ("b", 404) == (gateway.get("own.test", "/own").backend, gateway.get("own.test", "/any").status)


def test_the_backend_of_the_command_line_answers_for_hosts_and_paths_that_nobody_has(
    gateway: Gateway, arguments: tuple[str, ...]
) -> None:
    gateway.start("--default-backend-service", "default/page", *arguments)
    gateway.put("all", *SERVICES, ingress("own", "own.test", "b", "/own"))
    assert ["page", "page", "b"] == [
        gateway.get(host, path).backend for host, path in (("x.test", "/"), ("own.test", "/x"), ("own.test", "/own"))
    ]
    assert "/x?y" == gateway.get("own.test", "/x?y").seen["path"]


def test_a_backend_of_the_command_line_without_endpoints_is_404(gateway: Gateway) -> None:
    gateway.start("--default-backend-service", f"default/{EMPTY}")
    gateway.put("all", *SERVICES, ingress("own", "own.test", "b", "/own"))
    assert (404, 200) == (gateway.get("x.test").status, gateway.get("own.test", "/own").status)


def test_without_catch_all_an_ingress_with_a_default_backend_is_nobodys(gateway: Gateway) -> None:
    both = ingress("both", "both.test", "b", "/own")
    both["spec"]["defaultBackend"] = without_rules("x", "a")["spec"]["defaultBackend"]
    gateway.start("--disable-catch-all").put(
        "all", *SERVICES, without_rules("all", "a"), both, ingress("own", "own.test")
    )
    assert [404, 404, 200] == [gateway.get(host, "/own").status for host in ("x.test", "both.test", "own.test")]


def test_annotations_may_begin_with_another_word(gateway: Gateway) -> None:
    old = ingress("old", "old.test", "a", allowlist_source_range="192.0.2.0/24")
    new = ingress("new", "new.test", "a")
    new["metadata"]["annotations"] = {"edge.example/allowlist-source-range": "192.0.2.0/24"}
    gateway.start("--annotations-prefix", "edge.example")
    marker = ingress("marker", "marker.test", "a")
    marker["metadata"]["annotations"] = {"edge.example/permanent-redirect": "http://x.test/"}
    gateway.write("all", *SERVICES, old, new, marker)
    gateway.until(lambda: _status(gateway, "marker.test") == 301, "the marker")
    assert [200, 403] == [gateway.get(host).status for host in ("old.test", "new.test")]


def _status(gateway: Gateway, host: str) -> int:
    try:
        return gateway.get(host).status
    except OSError:
        return 0

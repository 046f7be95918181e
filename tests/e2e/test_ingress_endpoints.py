"""Endpoints that come and go, with Lua that chooses peers and with nginx as it is: the same answers, fewer reloads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import Answer, Backend, Gateway, config_map, free_port, ingress

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

PLAIN = ("--no-dynamic-upstreams",)
BOTH = [pytest.param(PLAIN, id="plain"), pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua"))]
LUA = [BOTH[1]]


@pytest.fixture(scope="module", params=BOTH)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all tests in a way; each has hosts, Services and files of its own."""
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    try:
        found.put("all")
        yield found
    finally:
        found.stop()


def slices(service: str, *backends: Backend) -> list[dict[str, Any]]:
    """The Service and its endpoints; without backends it has none."""
    first = Backend("nobody") if not backends else backends[0]
    made = first.manifests(service, *backends[1:])
    return made if backends else made[:1]


def backends_of(gateway: Gateway, host: str, times: int = 12) -> list[str]:
    return [gateway.get(host).backend for _ in range(times)]


def served(gateway: Gateway, host: str) -> set[str]:
    answers: list[Answer] = [gateway.get(host) for _ in range(8)]
    return {each.backend for each in answers if each.status == 200}


def is_served_by(gateway: Gateway, host: str, names: set[str]) -> bool:
    return served(gateway, host) == names


@pytest.mark.parametrize("gateway", LUA, indirect=True)
def test_endpoints_roll_without_a_reload(gateway: Gateway) -> None:
    a, b, c = (Backend(name) for name in "abc")
    gateway.write("slices-roll", *slices("roll", a))
    gateway.put("roll", ingress("roll", "roll.test", "roll"))
    gateway.until(lambda: served(gateway, "roll.test") == {"a"}, "the first")
    workers, text = gateway.workers, gateway.text
    for now in ((a, b), (b,), (), (c,), (a, b, c)):
        gateway.write("slices-roll", *slices("roll", *now))
        names = {each.name for each in now}
        gateway.until(partial(is_served_by, gateway, "roll.test", names), f"{names} alone")
    assert workers == gateway.workers
    assert text == gateway.text


def test_a_path_is_rewritten_before_the_backend_that_was_chosen_sees_it(gateway: Gateway) -> None:
    rewritten = ingress("rewritten", "rewritten.test", "behind", "/api(/|$)(.*)", kind="ImplementationSpecific",
                        rewrite_target="/$2")  # fmt: skip
    gateway.put("rewritten", *Backend("behind").manifests(), rewritten)
    gateway.until(lambda: gateway.get("rewritten.test", "/api").status != 503, "the backend")
    assert "/x?q=1" == gateway.get("rewritten.test", "/api/x?q=1").seen["path"]


def test_without_an_endpoint_503_is_answered_before_anybody_is_asked_for_a_password(gateway: Gateway) -> None:
    gateway.write("slices-none", *slices("none"))
    gateway.put("none", ingress("none", "none.test", "none", auth_type="basic", auth_secret="nowhere"),
                ingress("none-plain", "none-plain.test", "none"))  # fmt: skip
    assert 503 == gateway.get("none.test").status
    assert 503 == gateway.get("none-plain.test").status


def test_an_endpoint_that_refuses_connections_costs_no_request(gateway: Gateway) -> None:
    alive = Backend("alive")
    made = alive.manifests("refuses")
    dead = {**made[1], "metadata": {**made[1]["metadata"], "name": "dead-refuses"},
            "ports": [{"name": "http", "port": free_port()}]}  # fmt: skip
    gateway.put("refuses", *made, dead, ingress("refuses", "refuses.test", "refuses"))
    assert {"alive"} == set(backends_of(gateway, "refuses.test"))
    assert gateway.get("refuses.test", method="POST", body=b"x").status == 200  # refused before anything was sent


def test_what_is_retried_is_what_the_annotation_says(gateway: Gateway) -> None:
    bad, good = Backend("bad", status=502), Backend("good")
    both = slices("retry", bad, good)
    retried = ingress("retry", "retry-again.test", "retry", proxy_next_upstream="error timeout http_502")
    gateway.put(
        "retry", *both, retried, ingress("retry-kept", "retry-kept.test", "retry", upstream_hash_by="$request_method")
    )
    assert {200} == {gateway.get("retry-again.test").status for _ in range(8)}
    assert {"good"} == set(backends_of(gateway, "retry-again.test"))
    assert 1 == len({gateway.get("retry-kept.test").status for _ in range(8)})


CHOICES: list[dict[str, Any]] = [
    {}, {"load_balance": "ewma"}, {"upstream_hash_by": "$request_uri"}, {"affinity": "cookie"},
    {"affinity": "cookie", "affinity_mode": "persistent"},
]  # fmt: skip


@pytest.mark.parametrize("gateway", LUA, indirect=True)
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(map(str, choice.values())) or "turns")
def test_nobody_is_tried_twice_for_one_request(gateway: Gateway, choice: dict[str, Any]) -> None:
    name = "tried-" + ("-".join(each.strip("$").replace("_", "-") for each in map(str, choice.values())) or "turns")
    bad = [Backend(f"bad-{number}", status=502) for number in range(3)]
    again: dict[str, Any] = {"proxy_next_upstream": "error timeout http_502", "proxy_next_upstream_tries": "0"}
    both = slices(name, *bad, Backend("good"))
    gateway.put(name, *both, ingress(name, f"{name}.test", name, **again, **choice))
    gateway.until(lambda: gateway.get(f"{name}.test").status == 200, "its endpoints")
    answers = [gateway.get(f"{name}.test", f"/{number}") for number in range(24)]
    assert {(200, "good")} == {(each.status, each.backend) for each in answers}


def test_a_cookie_keeps_its_backend_while_others_come_and_go(gateway: Gateway) -> None:
    a, b, c = (Backend(name) for name in "abc")
    gateway.write("slices-cookie", *slices("cookie", a, b))
    gateway.put("cookie", ingress("cookie", "cookie.test", "cookie", affinity="cookie"))
    cookies = {}
    for _ in range(20):
        answer = gateway.get("cookie.test")
        cookies[answer.cookies[0].partition(";")[0]] = answer.backend
    gateway.until(lambda: {"a", "b"} == set(cookies.values()), "both")
    gateway.write("slices-cookie", *slices("cookie", a, b, c))
    gateway.until(lambda: "c" in served(gateway, "cookie.test"), "the third")
    after = {cookie: gateway.get("cookie.test", cookie=cookie).backend for cookie in cookies}
    moved = [cookie for cookie in cookies if after[cookie] != cookies[cookie]]
    assert {"c"} >= {after[cookie] for cookie in moved}  # a newcomer takes some, and nobody else moves
    assert len(moved) < len(cookies)


def test_a_key_goes_where_it_went_when_another_backend_is_taken_away(gateway: Gateway) -> None:
    three = [Backend(name) for name in "abc"]
    gateway.write("slices-key", *slices("key", *three))
    gateway.put("key", ingress("key", "key.test", "key", upstream_hash_by="$request_uri"))
    before = {f"/{number}": gateway.get("key.test", f"/{number}").backend for number in range(30)}
    assert {"a", "b", "c"} == set(before.values())
    assert before == {path: gateway.get("key.test", path).backend for path in before}
    gateway.write("slices-key", *slices("key", *three[:2]))
    lost = next(path for path, name in before.items() if name == "c")
    gateway.until(lambda: gateway.get("key.test", lost).backend != "c", "the third to be gone")
    after = {path: gateway.get("key.test", path).backend for path in before}
    assert all(after[path] == name for path, name in before.items() if name != "c")


@pytest.mark.parametrize("gateway", LUA, indirect=True)
def test_the_faster_of_two_is_asked_more_often(gateway: Gateway) -> None:
    fast, slow = Backend("fast"), Backend("slow", pause=0.05)
    gateway.put(
        "faster", *slices("faster", fast, slow), ingress("faster", "faster.test", "faster", load_balance="ewma")
    )
    for _ in range(4 * len(gateway.workers)):
        gateway.get("faster.test")  # each worker learns by itself
    assert backends_of(gateway, "faster.test", 40).count("fast") > 24


def test_without_lua_the_one_with_fewer_requests_under_way_is_asked(tmp_path: Path) -> None:
    fast, slow = Backend("fast"), Backend("slow", pause=3.0)
    found = Gateway(tmp_path).start(*PLAIN)
    try:
        one = ingress("fewer", "fewer.test", "fewer", load_balance="ewma")
        found.put("all", config_map(worker_processes="1"), *slices("fewer", fast, slow), one)
        with ThreadPoolExecutor(1) as client:
            # Of two that have nothing to do either may be asked, until the slow one is.
            asked = next(
                each for _ in range(50) if not wait([each := client.submit(found.get, "fewer.test")], 0.5).done
            )
            assert {"fast"} == set(backends_of(found, "fewer.test", 8))
            assert "slow" == asked.result().backend
    finally:
        found.stop()


def test_a_canary_follows_its_endpoints(gateway: Gateway) -> None:
    main, first, second = (Backend(name) for name in ("main", "first", "second"))

    def goes_to(name: str) -> bool:
        answer = gateway.get("canary.test", X_New="always")
        return answer.status == 200 and answer.backend == name

    gateway.write("canary-slices", *slices("new", first))
    gateway.put("canary", *slices("canary", main), ingress("canary", "canary.test", "canary"),
                ingress("new", "canary.test", "new", canary="true", canary_by_header="X-New"))  # fmt: skip
    gateway.until(lambda: goes_to("first"), "the first")
    gateway.write("canary-slices", *slices("new", second))
    gateway.until(lambda: goes_to("second"), "the second")
    gateway.write("canary-slices", *slices("new"))
    gateway.until(lambda: goes_to("main"), "the main one again")


@pytest.mark.parametrize("gateway", LUA, indirect=True)
def test_nobody_but_us_reaches_the_socket_by_which_peers_are_told(gateway: Gateway) -> None:
    gateway.put("socket", *slices("socket", Backend("a")), ingress("socket", "socket.test", "socket"))
    assert 404 == gateway.get("peers", "/peers", method="POST", body=b"x 1 turns 127.0.0.1 1\n").status
    assert 0o700 == gateway.runtime.stat().st_mode & 0o777


def test_peers_outlive_a_reload_and_a_crash(gateway: Gateway) -> None:
    a, b = Backend("a"), Backend("b")
    gateway.write("slices-crash", *slices("crash", a))
    gateway.put("crash", ingress("crash", "crash.test", "crash"))
    gateway.write("slices-crash", *slices("crash", b))
    gateway.until(lambda: served(gateway, "crash.test") == {"b"}, "the change")
    gateway.put("crash", ingress("crash", "crash.test", "crash"), ingress("crash-more", "crash-more.test", "crash"))
    assert {"b"} == served(gateway, "crash.test") | served(gateway, "crash-more.test")
    gateway.kill_nginx()
    gateway.until(lambda: "has ended by itself" in gateway.log, "it to notice")

    def again() -> bool:
        try:
            return served(gateway, "crash.test") == {"b"}
        except OSError:
            return False

    gateway.until(again, "the same peers")

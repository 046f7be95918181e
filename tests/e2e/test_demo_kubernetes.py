"""`lbcore demo --kubernetes` as a user starts it: what it promises of Ingress, read off what it prints."""

from __future__ import annotations

import re

import pytest

from shown import LBCORE, curls, environment, run

PROGRAMS = ("envtest", "kubectl", "controllers", "helm", "openssl", "netns", "nft", "packet", "curl", "nginx")
pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]


@pytest.fixture(scope="module")
def shown() -> str:
    """All of it, shown once."""
    done = run(*LBCORE, "demo", "--kubernetes", env=environment())
    assert (0, "") == (done.returncode, done.stderr), done.stdout[-3000:]
    assert "✗" not in done.stdout
    return done.stdout


def test_the_first_steps_give_an_address_and_a_page(shown: str) -> None:
    assert re.search(r"^ +nginx-service +LoadBalancer +\S+ +192\.168\.20\.20 ", shown, re.MULTILINE)
    assert "<h1>Welcome to nginx!</h1>" in shown


def test_the_charts_daemon_set_is_on_every_node_behind_an_address_of_ours(shown: str) -> None:
    assert re.search(r"^ +daemonset\.apps/ingress-nginx-controller +3 +3 +3 ", shown, re.MULTILINE)
    given = re.search(r"^ +service/ingress-nginx-controller +LoadBalancer +\S+ +(\S+) +80:", shown, re.MULTILINE)
    assert given is not None
    rows = re.findall(r"^ +(\S+) +nginx +(\S+) +(\S+) +80(?:, 443)? ", shown, re.MULTILINE)
    address = given[1]
    assert {(name, host, address) for name, host in (
        ("blog", "www.example"), ("new-shop", "shop.example"), ("shop", "shop.example")
    )} == set(rows)  # fmt: skip


def test_hosts_tls_rewrite_and_default_backend_answer(shown: str) -> None:
    answers = curls(shown)
    assert "HTTP/1.1 308 Permanent Redirect" == answers["http://shop.example/"][0]
    secure = answers["https://shop.example/"]
    assert any(line.startswith("subject: ") and "CN=shop.example" in line for line in secure)
    assert any(re.match(r"HTTP/\S+ 200", line) for line in secure)
    status, served = answers["http://www.example/blog/"]
    assert "HTTP/1.1 200 OK" == status
    assert re.match(r"(?i)x-served-by: blog-\w+-\w+/n[123]$", served)
    assert re.match(r"(?i)x-served-by: ingress-nginx-defaultbackend-", answers["http://nobody.example/"][-1])


def test_a_canary_gets_its_part_of_the_requests(shown: str) -> None:
    counts = dict(re.findall(r"^ +((?:new-)?shop) +(\d+)$", shown, re.MULTILINE))
    assert ({"shop", "new-shop"}, 100) == (set(counts), sum(map(int, counts.values())))
    assert 5 < int(counts["new-shop"]) < 60  # 30 in the mean


@pytest.mark.needs("nginx-lua")
def test_a_pod_more_takes_no_reload(shown: str) -> None:
    rows = re.findall(r"^ +(n\d) {3,}(\d+(?: \d+)*) {3,}(\d+(?: \d+)*) {3,}(.+)$", shown, re.MULTILINE)
    assert [(f"n{number}", "0") for number in (1, 2, 3)] == [(node, reloads) for node, _, _, reloads in rows]

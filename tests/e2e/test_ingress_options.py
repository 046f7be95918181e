# ruff: noqa: E501 - a table is read in rows
"""What the controller's ConfigMap says for all Ingresses: each row is a ConfigMap, and what is asked while it is in force."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from asking.case import HTTPS, Ask, ask, judge
from gateway import Backend, Gateway, config_map, ingress, secret
from lbcore.adapters.certificates import make_fake

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

PAIR = make_fake(datetime.now(UTC), "tls.test")
IN = {"X-Door-Status": "200"}
A, B = Backend("a"), Backend("b")
DOOR = Backend("door", status=401, answers={"X-User": "ann", "Set-Cookie": "session=1"}, status_header="X-Door-Status")
GOOD, BAD = Backend("good"), Backend("bad", status=503)
GATE = f"http://127.0.0.1:{DOOR.port}/"
FORWARDED = {
    "X-Forwarded-For": "198.51.100.7, 203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "front.example",
}
JSON = {"Accept-Encoding": "gzip", "X-Want-Size": "2000"}

ROWS: tuple[tuple[str, dict[str, str], tuple[Ask, ...]], ...] = (
    ("ssl-redirect: false", {"ssl_redirect": "false"}, (Ask("", host="tls.test"),)),
    ("force-ssl-redirect", {"force_ssl_redirect": "true"}, (
        Ask("", "/", 308, host="plain.test"), Ask("", host="plain.test", **HTTPS), Ask("", host="not-forced.test"))),
    ("http-redirect-code", {"http_redirect_code": "301"}, (Ask("", "/x", 301, host="tls.test", answers={"location": "https://tls.test/x"}),)),
    ("a bad http-redirect-code", {"http_redirect_code": "200"}, (Ask("", "/x", 308, host="tls.test"),)),
    ("no-tls-redirect-locations", {"no_tls_redirect_locations": "/free,/other"}, (
        Ask("", "/", 308, host="tls.test"), Ask("", "/free", host="free.test"))),
    ("hsts: false", {"hsts": "false"}, (Ask("", host="tls.test", answers={"strict-transport-security": None}, **HTTPS),)),
    ("hsts with other words", {"hsts_max_age": "60", "hsts_include_subdomains": "false", "hsts_preload": "true"}, (
        Ask("", host="tls.test", answers={"strict-transport-security": "max-age=60; preload"}, **HTTPS),)),
    ("preserve-trailing-slash", {"preserve_trailing_slash": "true"}, (Ask("", "/", 308, host="tls.test", answers={"location": "https://tls.test/"}),)),
    ("use-forwarded-headers", {"use_forwarded_headers": "true", "proxy_real_ip_cidr": "127.0.0.0/8,203.0.113.0/24"}, (
        Ask("", host="plain.test", send=FORWARDED, receives={
            "x-real-ip": "198.51.100.7", "x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https", "x-forwarded-host": "front.example",
            "host": "front.example"}),
        Ask("", host="tls.test", send=FORWARDED, answers={"strict-transport-security": "max-age=31536000; includeSubDomains"}),
        Ask("", host="listed.test", send=FORWARDED), Ask("", "/", 403, host="listed.test"))),
    ("use-forwarded-headers of somebody else", {"use_forwarded_headers": "true", "proxy_real_ip_cidr": "192.0.2.0/24"}, (
        Ask("", "/", 403, host="listed.test", send=FORWARDED),)),
    ("compute-full-forwarded-for", {"use_forwarded_headers": "true", "compute_full_forwarded_for": "true", "proxy_real_ip_cidr": "192.0.2.0/24"}, (
        Ask("", host="plain.test", send=FORWARDED, receives={"x-forwarded-for": "198.51.100.7, 203.0.113.9, 127.0.0.1"}),)),
    ("custom-http-errors", {"custom_http_errors": "404,418"}, (
        Ask("", "/", 418, "b", host="pages.test", send={"X-Want-Status": "418"}, receives={"x-code": "418"}),
        Ask("", "/", 500, "a", host="pages.test", send={"X-Want-Status": "500"}))),
    ("proxy-body-size", {"proxy_body_size": "1k"}, (
        Ask("", "/", 413, host="plain.test", method="POST", body=b"x" * 1025), Ask("", host="big.test", method="POST", body=b"x" * 1025))),
    ("proxy-read-timeout", {"proxy_read_timeout": "1"}, (Ask("", "/", 504, host="plain.test", send={"X-Want-Pause": "2"}),)),
    ("proxy-buffer-size", {"proxy_buffer_size": "16k", "proxy_busy_buffers_size": "1k", "proxy_buffers_number": "2"}, (
        Ask("", host="plain.test", send={"X-Want-Header": "6000"}),)),
    ("proxy-next-upstream", {"proxy_next_upstream": "error http_503"}, (Ask("", "/", 200, "good", host="halves.test", after=5),)),
    ("whitelist-source-range", {"whitelist_source_range": "10.0.0.0/8"}, (
        Ask("", "/", 403, host="plain.test"), Ask("", host="home.test"))),
    ("a bad whitelist-source-range", {"whitelist_source_range": "10.0.0.0/99"}, (Ask("", host="plain.test"), Ask("", "/", 403, host="listed.test"))),
    ("denylist-source-range", {"denylist_source_range": "127.0.0.0/8"}, (Ask("", "/", 403, host="plain.test"),)),
    ("a bad denylist-source-range", {"denylist_source_range": "x"}, (Ask("", "/", 403, host="plain.test"),)),
    ("limit-req-status-code", {"limit_req_status_code": "429"}, (Ask("", "/", 429, host="limited.test", after=9),)),
    ("enable-underscores-in-headers", {"enable_underscores_in_headers": "true"}, (
        Ask("", host="plain.test", send={"X__Y": "1"}, receives={"x_y": "1"}),)),
    ("use-gzip", {"use_gzip": "true"}, (Ask("", "/", 200, "-", host="plain.test", send=JSON, answers={"content-encoding": "gzip"}),)),
    ("without use-gzip", {}, (Ask("", "/", 200, "-", host="plain.test", send=JSON, answers={"content-encoding": None}),)),
    ("load-balance", {"load_balance": "ewma"}, (Ask("", host="plain.test"),)),
    ("upstream-keepalive-connections: 0", {"upstream_keepalive_connections": "0"}, (Ask("", host="plain.test"),)),
    ("proxy-cookie-domain", {"proxy_cookie_domain": "a.example b.example", "proxy_cookie_path": "/a /b"}, (
        Ask("", host="plain.test", send={"X-Want-Cookie": "s=1; Domain=a.example; Path=/a"}, cookies=("s=1; Domain=b.example; Path=/b",)),)),
    ("server-tokens", {"server_tokens": "true"}, (Ask("", host="plain.test", answers={"server": "~^nginx/"}),)),
    ("keys that are none, and values that are none", {"no_such_key": "x; return 200", "keep_alive": "'; x", "ssl_protocols": "SSLv2;", "ssl_ciphers": "{"}, (
        Ask("", host="plain.test"),)),
    ("global-auth-url", {"global_auth_url": GATE, "global_auth_response_headers": "X-User"}, (
        Ask("", "/", 401, host="plain.test"), Ask("", host="plain.test", send=IN, receives={"x-user": "ann"}, no_cookie=False),
        Ask("", host="open.test"), Ask("", "/", 503, host="open-typo.test"),
        Ask("", "/.well-known/acme-challenge/x", host="solver.test", backend="b"), Ask("", "/", 401, host="own-door.test"))),
    ("global-auth-signin", {"global_auth_url": GATE, "global_auth_signin": "https://login.example/", "global_auth_signin_redirect_param": "back"}, (
        Ask("", "/x", 302, host="plain.test", answers={"location": "https://login.example/?back=http://plain.test/x"}),)),
    ("no-auth-locations", {"global_auth_url": GATE, "no_auth_locations": "/free"}, (
        Ask("", "/free", host="free.test", **HTTPS), Ask("", "/.well-known/acme-challenge/x", 401, host="solver.test"))),
    ("a bad global-auth-url", {"global_auth_url": "nonsense"}, (Ask("", "/", 503, host="plain.test"), Ask("", host="open.test"))),
    ("a bad companion of global-auth-url", {"global_auth_url": GATE, "global_auth_method": "EAT"}, (Ask("", "/", 503, host="plain.test"),)),
    ("lbcore-exact-in-regex-hosts", {"lbcore_exact_in_regex_hosts": "true"}, (
        Ask("", "/exactly", 200, "b", host="mixed.test"), Ask("", "/exactly-more", 404, host="mixed.test"))),
)  # fmt: skip

INGRESSES = (
    ingress("plain", "plain.test"),
    ingress("tls", "tls.test", tls="pair"),
    ingress("not-forced", "not-forced.test", force_ssl_redirect="false"),
    ingress("free", "free.test", path="/free", tls="pair"),
    ingress("listed", "listed.test", allowlist_source_range="198.51.100.0/24"),
    ingress("home", "home.test", allowlist_source_range="127.0.0.0/8"),
    ingress("pages", "pages.test", default_backend="b"),
    ingress("big", "big.test", proxy_body_size="8m"),
    ingress("halves", "halves.test", "halves"),
    ingress("limited", "limited.test", limit_rpm="1", limit_burst_multiplier="1"),
    ingress("open", "open.test", enable_global_auth="false"),
    ingress("open-typo", "open-typo.test", enable_global_auth="flase"),
    ingress("own-door", "own-door.test", auth_url=GATE),
    ingress("solver", "solver.test", "b", "/.well-known/acme-challenge/x"),
    ingress("mixed", "mixed.test", path="/id/[0-9]+", use_regex="true"),
    ingress("mixed-exact", "mixed.test", "b", "/exactly", kind="Exact"),
)  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("gateway")).start()
    services = [*A.manifests(), *B.manifests(), *BAD.manifests("halves", GOOD)]
    try:
        pair = secret("pair", **{"tls.crt": PAIR.chain.decode(), "tls.key": PAIR.key.decode()})
        found.put("all", *services, pair, *INGRESSES)
        yield found
    finally:
        found.stop()


@pytest.mark.parametrize(("data", "asks"), [pytest.param(data, asks, id=name) for name, data, asks in ROWS])
def test_the_config_map_counts_for_every_ingress(gateway: Gateway, data: dict[str, str], asks: tuple[Ask, ...]) -> None:
    gateway.put("options", config_map(**data))
    for wanted in asks:
        judge(wanted, ask(gateway, wanted), {})


def test_what_is_wrong_with_the_config_map_is_said(gateway: Gateway) -> None:
    gateway.put("options", config_map(no_such_key="1", hsts="perhaps", global_auth_url="nonsense"))
    for said in ("no-such-key has no effect", "hsts: write", "global-auth-url: write a URL", "nobody is let in"):
        gateway.until(lambda said=said: said in gateway.log, said)  # type: ignore[misc]

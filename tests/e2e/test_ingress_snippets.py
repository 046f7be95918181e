"""Snippets where the ConfigMap allows them: what is in the closed list holds, everything else does not exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway import Backend, Gateway, config_map, ingress

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

SNIPPETS = {
    "headers": """
        more_set_headers "X-Powered-By: nobody";
        add_header X-Frame-Options "SAMEORIGIN" always;
        proxy_set_header X-Asked "$host; $request_method";
        proxy_set_header X-Real-IP 192.0.2.7;
        proxy_hide_header X-Secret;
    """,
    "moved": "rewrite ^/old/(.*)$ https://new.test/$1 permanent; if ($arg_gone = yes) { return 410 'it is {gone}'; }",
    "hosts": 'if ($host = "hosts.test") { return 301 https://www.hosts.test$request_uri; }',
    "agents": "if ($http_user_agent !~* '^good') { return 403; }",
    "denied": "deny all;",
    "partly": "add_header X-A b; chunked_transfer_encoding off;",
    "evil": "add_header X-A \"b\\\"; } location / { return 200; } #\";",
}  # fmt: skip

SWITCHES = {
    "client_header_timeout": "30", "client_body_timeout": "31", "client_header_buffer_size": "2k",
    "large_client_header_buffers": "8 16k", "http2_max_concurrent_streams": "64", "ignore_invalid_headers": "false",
    "default_type": "text/plain", "ssl_session_cache_size": "5m", "ssl_session_timeout": "1h",
    "ssl_session_tickets": "true", "ssl_buffer_size": "8k", "ssl_ecdh_curve": "X25519:prime256v1",
    "ssl_early_data": "true", "use_gzip": "true", "gzip_level": "6", "gzip_min_length": "100",
    "gzip_types": "text/css application/json",
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("snippets")).start()
    backend = Backend("a", answers={"X-Powered-By": "php", "X-Secret": "1"})
    given = [ingress(name, f"{name}.test", configuration_snippet=text) for name, text in SNIPPETS.items()]
    found.put("all", *backend.manifests(), *given, config_map(allow_snippet_annotations="true", **SWITCHES))
    yield found
    found.stop()


def test_nginx_takes_the_options_that_are_one_directive_each(gateway: Gateway) -> None:
    lines = {line.strip() for line in gateway.text.splitlines()}
    wanted = {"client_header_timeout 30s;", "large_client_header_buffers 8 16k;", "ignore_invalid_headers off;",
              "ssl_session_cache shared:lbcore:5m;", "ssl_session_tickets on;", "ssl_ecdh_curve X25519:prime256v1;",
              "gzip_comp_level 6;", "gzip_types text/css application/json;", "default_type text/plain;"}  # fmt: skip
    assert set() == wanted - lines
    answer = gateway.get("headers.test", Accept_Encoding="gzip")
    assert ("gzip", 200) == (answer.headers.get("content-encoding"), answer.status)


def test_headers_are_set_and_taken_away(gateway: Gateway) -> None:
    answer = gateway.get("headers.test")
    assert ("nobody", "SAMEORIGIN", None) == tuple(
        answer.headers.get(name) for name in ("x-powered-by", "x-frame-options", "x-secret")
    )
    received = answer.seen["headers"]
    assert ("headers.test; GET", "192.0.2.7") == (received["x-asked"], received["x-real-ip"])


def test_requests_are_ended_early(gateway: Gateway) -> None:
    moved = gateway.get("moved.test", "/old/a?b=c")
    assert (301, "https://new.test/a?b=c") == (moved.status, moved.headers["location"])
    gone = gateway.get("moved.test", "/x?gone=yes")
    assert (410, b"it is {gone}") == (gone.status, gone.body)
    assert 200 == gateway.get("moved.test", "/x?gone=no").status
    www = gateway.get("hosts.test", "/a?b")
    assert (301, "https://www.hosts.test/a?b") == (www.status, www.headers["location"])
    assert 403 == gateway.get("agents.test", User_Agent="bad good").status
    assert 200 == gateway.get("agents.test", User_Agent="GOOD one").status


def test_what_may_have_kept_somebody_out_denies_and_the_rest_is_only_left_out(gateway: Gateway) -> None:
    assert 503 == gateway.get("denied.test").status
    assert "b" == gateway.get("partly.test").headers["x-a"]
    assert "chunked" not in gateway.text
    assert 'b"; } location / { return 200; } #' == gateway.get("evil.test").headers["x-a"]


def test_nothing_of_it_is_left_when_the_option_is_taken_back(gateway: Gateway) -> None:
    backend = Backend("a", answers={"X-Powered-By": "php"})
    given = [ingress(name, f"{name}.test", configuration_snippet=text) for name, text in SNIPPETS.items()]
    gateway.put("all", *backend.manifests(), *given, config_map(allow_snippet_annotations="false"))
    assert "php" == gateway.get("headers.test").headers["x-powered-by"]
    assert 200 == gateway.get("denied.test").status

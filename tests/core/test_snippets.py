"""Snippets: a closed list with typed arguments is taken, if anything is at all; nothing else ever is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.annotations.rules import State
from lbcore.annotations.snippets import LISTED, keeps_out, read_snippet
from lbcore.annotations.table import PREFIX, SERVER, SNIPPET, read
from lbcore.proxy import Comparison, Return, Reworded, Snippet, Step, Variable

WORDS = st.sampled_from(
    [*LISTED, "deny", "all", "X-A", "always", "on", "301", "403", "https://x.example$request_uri", "$uri", "(", ")",
     "=",     "($host", "~", "^/a(b)$", "/$1", "permanent", ";", "{", "}", "#", "\n", '"', "'", "\\",
     "content_by_lua_block",     "$document_root", "\0", "\ud800", "X-B: c"]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40)


def snippet_of(text: str) -> Snippet:
    found = read_snippet(text)
    assert () == found.refused
    return found.snippet


@given(TEXTS)
def test_whatever_stands_there_is_taken_or_refused_by_name(text: str) -> None:
    found = read_snippet(text)
    assert set(found.taken) <= set(LISTED)
    assert (found.snippet == Snippet()) or found.taken


@given(TEXTS)
def test_without_the_switch_nothing_of_it_is_taken(text: str) -> None:
    policies, [finding] = read({f"{PREFIX}/{SNIPPET}": text}, "ns")
    assert (Snippet(), "", State.REFUSED) == (policies.snippet, policies.denied, finding.state)


def test_headers_of_answers_and_requests() -> None:
    text = """
    # security
    add_header X-Frame-Options "SAMEORIGIN" always;
    more_set_headers "X-Served: by $host" 'X-Other: \\'quoted\\'';
    proxy_set_header X-Request-Start "t=${msec}"; proxy_hide_header X-Powered-By;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    proxy_cookie_path / "/; Secure"; gzip on;
    """
    assert (
        Snippet(
            answered=(
                ("X-Frame-Options", ("SAMEORIGIN",), True),
                ("X-Served", ("by ", Variable("host")), True),
                ("X-Other", ("'quoted'",), True),
            ),
            hidden=("X-Served", "X-Other", "X-Powered-By"),
            sent=(("X-Request-Start", ("t=", Variable("msec"))),),
            cookie_path=("/", "/; Secure"),
            gzip=True,
        )
        == snippet_of(text)
    )  # fmt: skip


def test_what_ends_a_request_early_keeps_its_order() -> None:
    text = """
    if ($host = "www.shop.example") { return 301 https://shop.example$request_uri; }
    if ($http_user_agent !~* "curl|wget") { return 403; }
    rewrite ^/old/(.*)$ /new/$1 permanent;
    rewrite ^(/dashboard)$ $1/ redirect;
    return 410 "gone; {for} good";
    """
    assert (
        Step(
            what=Return(code=301, text=("https://shop.example", Variable("request_uri"))),
            when=Comparison(variable="host", equals="www.shop.example"),
        ),
        Step(
            what=Return(code=403),
            when=Comparison(variable="http_user_agent", matches="(?i)curl|wget", negated=True),
        ),
        Step(what=Reworded(pattern="^/old/(.*)$", to=("/new/", Variable("1")), permanent=True)),
        Step(what=Reworded(pattern="^(/dashboard)$", to=(Variable("1"), "/"), permanent=False)),
        Step(what=Return(code=410, text=("gone; {for} good",))),
    ) == snippet_of(text).steps


@pytest.mark.parametrize(
    "text",
    [
        "return 200 $document_root;",
        "return 301 https://x.example$uri;",  # decoded: a line end in it would end the header
        "return 302 javascript:alert(1);",
        "return 301 //evil.example;",
        "return 101;",
        "rewrite ^/((a)(b)) /$1$2 permanent;",  # overlapping captures, CVE-2026-9256
        "rewrite ^/a(b) /$2 permanent;",
        "rewrite ^/a(b) $1/ permanent;",
        "rewrite ^(?:/a)(b) $1/ permanent;",
        "rewrite ^(/?)(.*)$ $1$2 permanent;",
        "rewrite ^/a /b?c permanent;",
        "rewrite (a+)+$ /b permanent;",
        "rewrite ^/a /b last;",
        "if ($document_root) { return 403; }",
        "if (-f /etc/passwd) { return 403; }",
        "if ($host = a) { proxy_pass http://b; }",
        "if ($host = a) { return 403; return 404; }",
        "deny all;",
        "access_by_lua_block { ngx.exit(403) }",
        "auth_request /x;",
        "limit_req zone=x;",
        "location /metrics { deny all; }",
        'add_header X "a',
        "add_header X a; }",
        "}",
        "return 403",
    ],
)
def test_what_may_have_kept_somebody_out_and_is_not_taken_denies(text: str) -> None:
    policies, [finding] = read({f"{PREFIX}/{SNIPPET}": text}, "ns", snippets=True)
    assert State.DENIED is finding.state
    assert policies.denied.startswith(SNIPPET)


@pytest.mark.parametrize(
    "text",
    [
        "add_header Content-Length 5;",
        "add_header X $uri;",
        "add_header X a b;",
        "add_header 'X\tY' a;",
        "more_set_headers -s 404 'X: y';",
        "more_set_headers 'Server: x';",
        "proxy_set_header Transfer-Encoding chunked;",
        "proxy_set_header X-User $remote_user;",
        "proxy_pass http://169.254.169.254;",
        "alias /etc;",
        "content_type x { add_header A b; }",
        "add_header A b { return 200; }",
        "gzip maybe;",
        'proxy_cookie_path / "/$host";',
    ],
)
def test_what_is_not_in_the_list_is_named_and_nothing_of_it_is_there(text: str) -> None:
    policies, [finding] = read({f"{PREFIX}/{SNIPPET}": text + "add_header X-Good yes;"}, "ns", snippets=True)
    assert (State.PARTIAL, "") == (finding.state, policies.denied)
    assert "never: " in finding.message
    assert Snippet(answered=(("X-Good", ("yes",), False),)) == policies.snippet


@given(TEXTS)
def test_a_server_snippet_denies_where_it_was_taken_and_may_have_kept_somebody_out(text: str) -> None:
    name = f"{PREFIX}/{SERVER}"
    assert isinstance(keeps_out(text), bool)
    for allowed in (False, True):
        policies, [finding] = read({name: text}, "ns", snippets=allowed)
        wanted = State.DENIED if allowed and keeps_out(text.strip()) else State.REFUSED
        assert (wanted, wanted is State.DENIED) == (finding.state, bool(policies.denied))


@pytest.mark.parametrize(
    "text",
    [
        "location /metrics { deny all; }",
        "location ~* /actuator { return 403; }",
        "if ($http_user_agent ~* bot) { return 444; }",
        "if ($a) { rewrite ^ /nothing last; }",
        "location /x { location /x/y { auth_basic on; } }",
        "ssl_verify_client on;",
        "rewrite_by_lua_block { ngx.exit(403) }",
        "return 401;",
        "if ($cookie_in = '') { return 302 /login; }",
        "if ($request_method !~ ^(GET|HEAD)$) { return 405; }",
        "location /a {",
    ],
)
def test_what_keeps_somebody_out_of_a_server_is_seen_wherever_it_stands(text: str) -> None:
    assert keeps_out(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "location = /.well-known/carddav { return 301 $scheme://$host/remote.php/dav; }",
        "if ($host = www.shop.example) { return 301 https://shop.example$request_uri; }",
        "rewrite ^/old/(.*)$ /new/$1 permanent;",
        "client_max_body_size 8m; gzip on; location /a { proxy_read_timeout 5; }",
        "return https://shop.example/;",
        "if ($request_method = OPTIONS) { add_header Access-Control-Max-Age 5; return 204; }",
    ],
)
def test_a_redirect_or_a_size_keeps_nobody_out_of_a_server(text: str) -> None:
    assert not keeps_out(text)

"""What an annotation's parser takes, nginx takes: each value alone, on a host of its own, and knobs in any company."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore.annotations.log_lines import LOG_VARIABLES, STREAM_VARIABLES
from lbcore.annotations.passing import TUNING
from lbcore.annotations.rules import State
from lbcore.annotations.table import PREFIX, RULES, read
from lbcore.backends.nginx import find_capabilities
from machine import NEWER_NGINX
from nginx_text import refusal
from rendering import BASE, OPTIONS, STREAMS, ingress, render

pytestmark = [pytest.mark.slow, pytest.mark.needs("nginx")]

NUMBERS = [
    str(number) for number in (0, 1, 2, 3, 7, 10, 20, 64, 100, 101, 200, 300, 307, 308, 404, 500, 599, 1000, 1024)
]
NUMBERS += ["86400", "1000000", "1073741824", "2147483647", "9999999999", "00", "007", "-1", "1.5"]
SIZES = [
    f"{number}{unit}"
    for number in (0, 1, 2, 4, 63, 64, 1023, 1024, 65536, 999999999)
    for unit in ("", "k", "K", "m", "g")
]
WORDS = [
    "true",
    "false",
    "1",
    "t",
    "on",
    "off",
    "optional",
    "optional_no_ca",
    "basic",
    "auth-map",
    "cookie",
    "balanced",
    "persistent",
]
WORDS += [
    "None",
    "Lax",
    "Strict",
    "HTTP",
    "https",
    "GRPC",
    "grpcs",
    "AUTO_HTTP",
    "FCGI",
    "index.php",
    "asks",
    "answers",
    "200 10m",
    "legacy",
    "any 5s, 401 202 0s",
    "params",
    "1.0",
    "1.1",
    "ewma",
    "round_robin",
    "any",
    "all",
]
WORDS += [
    "GET",
    "HEAD",
    "GET, POST",
    "TLSv1.2",
    "TLSv1.2 TLSv1.3",
    "error timeout",
    "error,http_502",
    "off",
    "non_idempotent",
    "close",
]
WORDS += ["error error", "off error", "invalid_header http_500 http_502 http_503 http_504 http_403 http_404 http_429"]
NETWORKS = [
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "127.0.0.1",
    "10.0.0.1,10.0.0.1",
    "2001:db8::/32, 192.0.2.7/24",
    "::ffff:10.0.0.1/104",
]
URLS = [
    "https://x.example/",
    "http://x.example:8080/a?b=c&d",
    "https://[2001:db8::1]/x",
    "https://x.example$request_uri",
]
URLS += [
    "$scheme://$host$uri",
    "https://$host/oauth2/auth",
    "http://127.0.0.1/;{}#'",
    "https://x.example/%41%zz",
    "http://x.example/$http_x_a$arg_b$cookie_c",
]
NAMES = [
    "https://x.example",
    "*",
    "x.example",
    "*.x.example",
    "X-A, X-B",
    "X-A",
    "users",
    "shop/users",
    "web",
    "a b",
    "/a /b",
    "CN=x",
    "CN=(a|b)[0-9]+$",
    "a.b",
]
NAMES += [
    "/",
    "/x",
    "/x/$1",
    "/$2-$1",
    "$request_uri",
    "${http_x}-$remote_addr",
    "default",
    "http://a.example/",
    "404,503",
    "400,599",
]
NAMES += [
    "HIGH:!aNULL",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "DEFAULT",
    "HIGH:!MD5:!RC4",
    "^v[0-9]+$",
    "[a-z]{2,3}",
    "(?:x|y)*",
]
POOL = tuple(dict.fromkeys([*NUMBERS, *SIZES, *WORDS, *NETWORKS, *URLS, *NAMES]))
# What an annotation needs beside it, so that it comes to anything.
COMPANY: dict[str, dict[str, str]] = {
    "auth": {"auth-type": "basic", "auth-secret": "users"},
    "auth-url": {"auth-url": "http://x.example/"},
    "proxy-ssl": {"proxy-ssl-secret": "shop/users", "backend-protocol": "HTTPS"},
    "auth-tls": {"auth-tls-secret": "shop/users"},
    "cors": {"enable-cors": "true"},
    "session": {"affinity": "cookie"},
    "affinity": {"affinity": "cookie"},
    "limit": {"limit-rps": "1"},
    "custom": {"default-backend": "web"},
    "proxy-redirect": {"proxy-redirect-from": "http://a.example/", "proxy-redirect-to": "/"},
    "x-forwarded": {"rewrite-target": "/x"},
    "permanent-redirect-code": {"permanent-redirect": "https://x.example/"},
    "temporal-redirect-code": {"temporal-redirect": "https://x.example/"},
    "auth-signin": {"auth-url": "http://x.example/", "auth-signin": "https://x.example/"},
    "auth-response": {"auth-url": "http://x.example/"},
    "auth-method": {"auth-url": "http://x.example/"},
    "auth-request": {"auth-url": "http://x.example/"},
    "auth-proxy": {"auth-url": "http://x.example/"},
    "auth-cache": {"auth-url": "http://x.example/", "auth-cache-key": "$host"},
    "fastcgi": {"backend-protocol": "FCGI"},
    "auth-always": {"auth-url": "http://x.example/"},
}


@frozen
class Taken:
    """Values that a parser takes."""

    name: str
    texts: tuple[str, ...]


def taken(name: str) -> Taken:
    def is_taken(text: str) -> bool:
        given_ = {**company(name), name: text}
        _, findings = read({f"{PREFIX}/{each}": value for each, value in given_.items()}, "shop")
        return all(each.state is State.SUPPORTED for each in findings if each.annotation == name)

    return Taken(name, tuple(filter(is_taken, POOL)))


def company(name: str) -> dict[str, str]:
    found = [others for prefix, others in COMPANY.items() if name.startswith(prefix)]
    return {key: text for others in found for key, text in others.items() if key != name}


@pytest.mark.parametrize(
    "program", ["nginx", pytest.param(str(NEWER_NGINX), id="newer", marks=pytest.mark.needs("nginx-newer"))]
)
def test_each_value_that_is_taken_is_taken_by_nginx(program: str, tmp_path: Path) -> None:
    made: list[dict[str, Any]] = []
    for index, name in enumerate(sorted(RULES)):
        for number, text in enumerate(taken(name).texts):
            host = f"h{index}-{number}.example"
            more = {**company(name), name: text}
            made.append(ingress(host, "/x/(a)/(b)" if "$2" in text else "/x", f"i{index}-{number}", annotations=more))
    assert len(made) > 900
    rendered = render([*BASE, *made], str(tmp_path), find_capabilities(program))
    assert "" == refusal(rendered, tmp_path, program)


def test_every_annotation_takes_some_value_of_the_pool() -> None:
    assert [] == [name for name in RULES if not taken(name).texts]


KNOBS = {name: taken(name).texts for name, *_ in TUNING}


@given(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(KNOBS)), st.integers(0, 10000), min_size=2, max_size=8),
        min_size=40, max_size=40,
    )
)  # fmt: skip
@settings(max_examples=15)
def test_knobs_in_any_company_are_taken_by_nginx(drawn: list[dict[str, int]]) -> None:
    made = [
        ingress(f"h{index}.example", "/x", f"i{index}", annotations={
            "backend-protocol": ("HTTP", "GRPC", "HTTPS", "FCGI")[index % 4],
            **{name: KNOBS[name][number % len(KNOBS[name])] for name, number in each.items()},
        })
        for index, each in enumerate(drawn)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        assert "" == refusal(render([*BASE, *made], folder), Path(folder))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_each_variable_of_a_line_of_the_log_is_one_of_nginx_or_ours(part: int, tmp_path: Path) -> None:
    names = [f"${each}" for each in sorted(LOG_VARIABLES)][part::3]  # in one line they would be too long
    data = {"log-format-upstream": " ".join(names), "log-format-stream": " ".join(f"${e}" for e in STREAM_VARIABLES)}
    assert STREAMS.tcp is not None
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "data": each,
         "metadata": {"name": key.name, "namespace": key.namespace}}
        for key, each in ((OPTIONS, data), (STREAMS.tcp, {"5432": "shop/web:80"}))
    ]  # fmt: skip
    rendered = render([*BASE, *maps, ingress("log.example")], str(tmp_path), find_capabilities("nginx"))
    (line,) = [each for each in rendered.text.splitlines() if "log_format upstreaminfo" in each]
    assert len(names) == line.count("${")
    assert "" == refusal(rendered, tmp_path)

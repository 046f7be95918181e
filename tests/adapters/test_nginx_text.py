# ruff: noqa: E501 - a table is read in rows
"""nginx's text, read back by a parser of another maker: what was meant stands in it, and nothing that a manifest smuggles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import PLACES, Way, moved, shop
from lbcore.adapters.nginx.tree import Condition, Directive, Entry, Name, Plain, Value, Word, serialize
from lbcore.annotations.options import NAMES as OPTION_NAMES
from lbcore.annotations.scalars import REQUEST_VARIABLES
from lbcore.annotations.table import NOT_SUPPORTED, RULES
from lbcore.proxy import Variable
from nginx_text import HARMLESS, HOSTILE, MAPS, Parsed, parse, refusal, walk
from rendering import BASE, OPTIONS, SHARED, config_map, ingress, render

GOOD = {
    "auth-type": "basic", "auth-secret": "users", "auth-url": "https://auth.example/x", "auth-method": "GET",
    "auth-signin": "https://auth.example/in", "auth-response-headers": "X-User", "auth-tls-secret": "shop/users",
    "allowlist-source-range": "2001:db8::/32", "denylist-source-range": "192.0.2.0/24", "satisfy": "any",
    "limit-rps": "3", "limit-rpm": "30", "limit-connections": "3", "limit-allowlist": "10.0.0.0/8",
    "enable-cors": "true", "cors-allow-origin": "https://x.example", "cors-allow-credentials": "true",
    "cors-expose-headers": "X-A", "affinity": "cookie", "upstream-hash-by": "$request_uri", "load-balance": "ewma",
    "custom-http-errors": "404", "default-backend": "web", "server-alias": "alias.example", "app-root": "/app",
    "permanent-redirect": "https://x.example/", "rewrite-target": "/x", "x-forwarded-prefix": "/p",
    "force-ssl-redirect": "true", "from-to-www-redirect": "true", "relative-redirects": "true",
    "backend-protocol": "GRPCS", "proxy-ssl-secret": "shop/users", "proxy-ssl-verify": "on", "proxy-ssl-name": "x.example",
    "proxy-ssl-server-name": "on", "proxy-ssl-protocols": "TLSv1.3", "ssl-prefer-server-ciphers": "true",
    "proxy-buffer-size": "8k", "proxy-cookie-path": "/a /b", "proxy-cookie-domain": "a b", "limit-rate": "3",
    "limit-rate-after": "3", "enable-access-log": "false", "proxy-busy-buffers-size": "16k", "proxy-http-version": "1.0",
    "client-body-buffer-size": "8k", "proxy-max-temp-file-size": "0", "proxy-next-upstream": "error",
    "proxy-next-upstream-timeout": "3", "proxy-next-upstream-tries": "3", "upstream-vhost": "inner.example",
    "fastcgi-index": "index.php", "fastcgi-params-configmap": "params", "custom-headers": "answers",
    "auth-proxy-set-headers": "asks", "auth-cache-key": "$host", "auth-cache-duration": "200 10m",
}  # fmt: skip


def meant(each: Directive | Entry) -> Parsed:
    """What a parser ought to find for a directive."""
    if isinstance(each, Entry):
        return argument(each.key), (argument(each.value),), None
    block = None if each.block is None else tuple(map(meant, each.block))
    return each.name, tuple(map(argument, each.arguments)), block


def argument(given_: Word | Plain | Value | Name | Condition) -> str:
    match given_:
        case Word(text) | Plain(text):
            return text
        case Name(name) | Condition(name):
            return f"${name}"
        case Value(parts):
            return "".join(map(_part, parts))


def _part(part: str | Variable) -> str:
    if isinstance(part, str):
        return part.replace("$", "${lbcore_dollar}")
    return f"${part.name}" if part.name.isdigit() else f"${{{part.name}}}"


# Anybody's text but what is refused before: control characters, halves of characters, tokens that are too long.
_PRINTED = [each for each in HOSTILE if len(each) < 3000 and not re.search("[\0-\x1f\ud800]", each)]
TEXTS = st.sampled_from(_PRINTED) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]), max_size=12
)
PLAIN = st.builds(Plain, TEXTS)
VALUES = st.builds(Value, st.lists(TEXTS | st.sampled_from([Variable("host"), Variable("1")]), max_size=4).map(tuple))
ARGUMENTS = st.lists(
    PLAIN | VALUES | st.builds(Name, st.just("lbcore_x")) | st.just(Word("zone=r1:5m")), max_size=4
).map(tuple)
NAMES = st.sampled_from(["server", "location", "proxy_pass", "map", "return"])
ENTRIES = st.lists(st.builds(Entry, PLAIN, PLAIN | VALUES), max_size=3).map(tuple)
TREES = st.recursive(
    st.builds(Directive, NAMES, ARGUMENTS, st.none() | ENTRIES)
    | st.just(Directive("if", (Condition("lbcore_x"),), (Directive("return", (Word("403"),)),))),
    lambda inner: st.builds(Directive, NAMES, ARGUMENTS, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=8,
)


@given(st.lists(TREES, max_size=4))
@settings(max_examples=100)
def test_another_parser_reads_the_tree_that_was_written(tree: list[Directive]) -> None:
    assert tuple(map(meant, tree)) == parse(serialize(tree))


def variables(tree: Iterable[Parsed]) -> set[str]:
    """What nginx would expand: not in a location's path, a server's name, a pattern or a key of a map."""
    found: set[str] = set()
    for name, arguments, block in walk(tree):
        expanded = () if name in {"location", "server_name"} else arguments[1:] if name == "rewrite" else arguments
        if name in MAPS:
            expanded = (*arguments, *(entry[1][0] for entry in block or () if name != "geo"))
        for text in expanded:
            texts = re.findall(r"\$(?:\{(\w*)\}?|(\w*))", text, re.ASCII)
            found |= {one or other for one, other in texts}
    return found


def servers(text: str, host: str) -> list[str]:
    blocks = re.findall(r"^  server \{\n.*?^  \}\n", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if f"server_name {host};" in block]


def _harmless() -> tuple[set[str], set[str]]:
    """The directives and variables of Ingresses that mean no harm: each annotation alone, and what needs company."""
    together = (
        {"auth-type", "auth-secret"}, {"enable-cors", "cors-allow-origin", "cors-allow-credentials", "cors-expose-headers"},
        {"auth-url", "auth-signin", "auth-method"}, {"auth-url", "auth-proxy-set-headers", "auth-cache-key"}, {"limit-rps", "limit-allowlist"}, {"custom-http-errors", "default-backend"},
        {"proxy-ssl-secret", "proxy-ssl-verify", "proxy-ssl-name", "proxy-ssl-server-name", "proxy-ssl-protocols"},
        {"rewrite-target", "x-forwarded-prefix"}, {"auth-tls-secret"},
    )  # fmt: skip
    groups = [{name} for name in GOOD] + [set(each) for each in together]
    groups += [{*group, "backend-protocol"} for group in groups]
    documents = list(BASE)
    for index, group in enumerate(groups):
        for protocol in ("HTTPS", "GRPCS", "FCGI"):
            annotations = {name: protocol if name == "backend-protocol" else GOOD[name] for name in group}
            name = f"h{index}-{protocol.lower()}"
            documents.append(ingress(f"{name}.example", "/x", name, annotations=annotations))
    documents += shop("n", "h.n.example")
    tree = parse(render(documents).text)
    return {name for name, _, _ in walk(tree)}, variables(tree)


DIRECTIVES, VARIABLES = _harmless()
ALONE = render(BASE).text
_OURS = re.compile(r"lbcore_[a-z0-9_]+|c[0-9a-f]{16}|(?:http|arg|cookie|upstream_http)_[a-z0-9_]+|[1-9]", re.ASCII)


def check(text: str) -> None:
    """Nothing in it that harmless Ingresses do not have, and the neighbour's host as if it were alone."""
    tree = parse(text)
    assert set() == {name for name, _, _ in walk(tree)} - DIRECTIVES
    assert set() == {each for each in variables(tree) - VARIABLES - REQUEST_VARIABLES if not _OURS.fullmatch(each)}
    assert servers(ALONE, "neighbour.example") == servers(text, "neighbour.example")


STRINGS = st.sampled_from(HOSTILE) | st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join) | st.text(max_size=10)
ANNOTATIONS = st.dictionaries(
    st.sampled_from([*RULES, *NOT_SUPPORTED]), STRINGS | st.sampled_from(sorted(GOOD.values())), max_size=6
) | st.fixed_dictionaries({}, optional={name: st.just(text) | STRINGS for name, text in GOOD.items()})


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, Any]:
    """An Ingress with anything in any of its texts, more often than not in only one."""

    def text(usual: str, *prefixes: str) -> str:
        if draw(st.integers(0, 2)):
            return usual
        return draw(st.sampled_from(["", *prefixes])) + draw(STRINGS)

    host = text("a.example", "x.")
    return ingress(
        host if host != SHARED else "a.example", text("/a", "/"), text("web2", "w"), text("shop", "s"),
        service=text("web"), secret=text("users", "../"), annotations=draw(ANNOTATIONS),
        kind=text("Prefix") if draw(st.booleans()) else "ImplementationSpecific",
    )  # fmt: skip


@given(st.lists(hostile(), min_size=1, max_size=3))
@settings(max_examples=60)
def test_no_manifest_adds_a_directive_or_a_variable_or_touches_another_host(given_: list[dict[str, Any]]) -> None:
    check(render([*BASE, *given_]).text)


def everywhere(text: str) -> list[dict[str, Any]]:
    """A text as each annotation's value, each on a host of its own, and in the other fields."""
    made = [
        ingress(f"a{index}.example", "/x", f"a{index}", annotations={name: text})
        for index, name in enumerate(sorted({*RULES, *NOT_SUPPORTED}))
    ]
    regex = {"use-regex": "true", "rewrite-target": "/$1"}
    made += [ingress("b1.example", text, "b1"), ingress("b2.example", "/" + text, "b2", kind="Exact")]
    made += [
        ingress("b3.example", text, "b3", annotations=regex),
        ingress("b4.example", "/" + text, "b4", annotations=regex),
    ]
    made += [
        ingress(text if text != SHARED else "c1.example", "/x", "c1"),
        ingress("c2.example", name=text),
        ingress("c3.example", namespace=text),
    ]
    maps = [config_map("value", SCRIPT_FILENAME=text), config_map("key", **{text: "x"})]
    for index, each in enumerate(maps):
        named = {"backend-protocol": "FCGI", "fastcgi-params-configmap": each["metadata"]["name"]}
        made += [each, ingress(f"d{index}.example", name=f"d{index}", annotations=named)]
    made.append(config_map("header", **{"X-A": text}))
    for index, named in enumerate(
        ({"custom-headers": "header"}, {"auth-url": "http://x.example/", "auth-proxy-set-headers": "header"})
    ):
        made.append(ingress(f"e{index}.example", name=f"e{index}", annotations=named))
    made += [ingress("c4.example", name="c4", secret=text), ingress("c5.example", name="c5", service=text)]
    # Of all places a third for each text, for time's sake; the next test draws from all.
    some = PLACES[HOSTILE.index(text) % 3 :: 3]
    made += [each for number, place in enumerate(some) for each in moved(number, place, text)]
    return [*BASE, *made]


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(PLACES), STRINGS), min_size=1, max_size=4))
@settings(max_examples=60)
def test_no_text_of_any_object_adds_a_directive_or_a_variable_or_touches_another_host(
    given_: list[tuple[tuple[int, Way], str]],
) -> None:
    check(render([*BASE, *(each for n, (place, text) in enumerate(given_) for each in moved(n, place, text))]).text)


def options(data: dict[str, str]) -> list[dict[str, Any]]:
    """The controller's own ConfigMap, and hosts that what it says counts for."""
    metadata = {"namespace": OPTIONS.namespace, "name": OPTIONS.name}
    made = [ingress(f"o{index}.example", "/x", f"o{index}", secret="users") for index in range(2)]
    return [*BASE, *made, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}]


@pytest.mark.slow
def test_no_text_of_an_option_adds_a_directive_or_a_variable() -> None:
    found = [parse(render(options(dict.fromkeys(OPTION_NAMES, text))).text) for text in HARMLESS]
    directives = {name for tree in found for name, _, _ in walk(tree)} | DIRECTIVES
    known = {name for tree in found for name in variables(tree)} | VARIABLES | REQUEST_VARIABLES
    for text in HOSTILE:
        for data in (dict.fromkeys(OPTION_NAMES, text), {text: "1"}):
            tree = parse(render(options(data)).text)
            assert set() == {name for name, _, _ in walk(tree)} - directives, text
            assert set() == {each for each in variables(tree) - known if not _OURS.fullmatch(each)}, text


@pytest.mark.slow
@pytest.mark.needs("nginx")
def test_nginx_takes_what_comes_of_a_hostile_option(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    names = OPTION_NAMES - {each for each in OPTION_NAMES if each.endswith("access-log-path")}  # nginx makes the file
    for text in (*HOSTILE, *HARMLESS):
        rendered = render(options(dict.fromkeys(names, text)), str(tmp_path))
        assert "" == refusal(rendered, tmp_path), text
        named = options(dict.fromkeys(("proxy-set-headers", "add-headers"), "shop/header"))
        header = config_map("header", **{"X-A": text, text: "x"})
        assert "" == refusal(render([*named, header], str(tmp_path)), tmp_path), text


@pytest.mark.slow
@pytest.mark.needs("nginx")
@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_nginx_takes_what_comes_of_a_hostile_text(index: int, tmp_path: Path) -> None:
    rendered = render(everywhere(HOSTILE[index]), str(tmp_path))
    check(rendered.text.replace(str(tmp_path), "/run/lbcore-ingress"))
    (tmp_path / "tmp").mkdir()
    assert "" == refusal(rendered, tmp_path)


MIXED = [
    *BASE,
    *(
        ingress(f"h{index % 3}.example", f"/p{index % 4}", f"i{index}", annotations={name: GOOD[name]})
        for index, name in enumerate(
            ["auth-url", "affinity", "limit-rps", "server-alias", "enable-cors", "rewrite-target"] * 2
        )
    ),
]


@given(st.permutations(MIXED))
@settings(max_examples=20)
def test_the_same_objects_in_any_order_give_the_same_text(documents: list[dict[str, Any]]) -> None:
    assert render(MIXED) == render(documents)


def test_an_alias_takes_no_name_that_another_host_has() -> None:
    first = ingress("a.example", annotations={"server-alias": f"{SHARED},b.example,b.example"})
    second = ingress("c.example", name="c", annotations={"server-alias": "b.example,d.example"})
    names = re.findall(r"server_name (.*);", render([*BASE, first, second]).text)
    assert ["a.example b.example", "c.example d.example", SHARED, "_"] == names


def test_a_backend_that_is_no_name_costs_its_own_path_only() -> None:
    bad = ingress("a.example", "/bad", service="web\n")
    text = render([*BASE, bad, ingress("a.example", "/good", "good")]).text
    assert (False, True) == ("/bad" in text, "/good" in text)


def test_only_servers_with_a_tls_of_their_own_and_the_default_one_say_a_certificate() -> None:
    own = {
        "ciphers": {"ssl-ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
        "order": {"ssl-prefer-server-ciphers": "true"},
        "clients": {"auth-tls-secret": "shop/users"},
    }
    documents = [
        ingress(f"{name}.example", name=name, annotations=own.get(name, {}), secret="users") for name in ("plain", *own)
    ]
    saying = {"_", *(f"{name}.example" for name in own)}
    assert saying == saying_a_certificate([*BASE, *documents])
    assert saying == saying_a_certificate([*BASE, *documents, ingress("", name="all")])
    for each in own.values():  # others are not to have what is meant for the default server
        assert "http" in saying_a_certificate([*BASE, *documents, ingress("", name="all", annotations=each)])


def saying_a_certificate(documents: list[dict[str, Any]]) -> set[str]:
    """The names of the servers that do, and `http` where all inherit it."""
    (http,) = (block for name, _, block in parse(render(documents).text) if name == "http")
    assert http is not None
    servers = [block for name, _, block in http if name == "server" and block is not None]
    return {"http" for name, _, _ in http if name == "ssl_certificate"} | {
        names[0] for block in servers
        for name, names, _ in block if name == "server_name" and any("ssl_certificate" == each[0] for each in block)
    }  # fmt: skip

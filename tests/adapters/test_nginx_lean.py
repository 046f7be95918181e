"""What a configuration leaves out: variables that only repeat nginx's own, and those that nobody asks for."""

from __future__ import annotations

import re

import pytest

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.general import Places, http_level, said_by_locations
from lbcore.adapters.nginx.logs import name_route
from lbcore.adapters.nginx.passing import sent_to_all
from lbcore.adapters.nginx.tree import serialize
from lbcore.ingress import ObjectKey
from lbcore.proxy import AccessLog, Options, RoutingTable, Source, Template, Variable

SOURCE = Source(ingress=ObjectKey("shop", "web"), service="web", port="80")
LUA = Capabilities(lua=("/usr/lib/nginx/modules/ngx_http_lua_module.so",))


def ours(headers: tuple[tuple[str, Template], ...]) -> set[str]:
    """The variables in there that are no variables of nginx's own."""
    used = {part.name for _, value in headers for part in value if isinstance(part, Variable)}
    return {name for name in used if name.startswith("lbcore_")}


@pytest.mark.parametrize(
    ("options", "port", "expected"),
    [
        (Options(), 443, set()),
        (Options(), 8443, {"lbcore_port"}),
        (Options(forwarded_headers=True), 443, {"lbcore_scheme", "lbcore_host"}),
        (Options(forwarded_headers=True, full_forwarded_for=True), 443, {"lbcore_scheme", "lbcore_host"}),
    ],
)
def test_only_what_is_more_than_nginx_s_own_is_a_variable_of_ours(
    options: Options, port: int, expected: set[str]
) -> None:
    assert expected | {"lbcore_connection", "lbcore_request_id"} == ours(sent_to_all(options, port))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
def test_whose_addresses_are_passed_on_depends_on_who_is_trusted(trusted: bool, full: bool) -> None:
    headers = dict(sent_to_all(Options(forwarded_headers=trusted, full_forwarded_for=full), 443))
    expected = "proxy_add_x_forwarded_for" if trusted and full else "remote_addr"
    assert (Variable(expected),) == headers["X-Forwarded-For"]


BY_DEFAULT = {"lbcore_upstream_name"}
ROUTE = {"lbcore_route"}


@pytest.mark.parametrize(
    ("log", "usual", "metrics", "capabilities", "expected"),
    [
        (AccessLog(), "/dev/stdout", False, LUA, BY_DEFAULT),
        (AccessLog(), "/dev/stdout", True, LUA, BY_DEFAULT | ROUTE),
        (AccessLog(), "/dev/stdout", True, Capabilities(), BY_DEFAULT),
        (AccessLog(), "off", False, LUA, set()),
        (AccessLog(off=True), "/dev/stdout", True, LUA, ROUTE),
        (AccessLog(off=True, form=(Variable("namespace"),)), "/dev/stdout", False, LUA, set()),
        (AccessLog(form=("x ", Variable("namespace"))), "/dev/stdout", False, LUA, ROUTE),
        (AccessLog(form=(Variable("location_path"),)), "/dev/stdout", False, Capabilities(), ROUTE),
        (AccessLog(form=(Variable("status"),)), "/dev/stdout", False, LUA, set()),
    ],
)
def test_a_location_says_what_a_log_or_the_metrics_ask_for(
    log: AccessLog, usual: str, metrics: bool, capabilities: Capabilities, expected: set[str]
) -> None:
    options = Options(log=log)
    places = Places(folder="/run/x", access_log=usual, metrics=metrics)
    said = said_by_locations(options, places, capabilities)
    assert expected == said
    in_location = serialize(name_route(SOURCE, "/x", said))
    assert expected == set(re.findall(r"set \$(\w+)", in_location))
    general = serialize(http_level(RoutingTable(options=options), places, capabilities))
    defined = set(re.findall(r"(?:map .*|geo|<|set) ?\$?\b(lbcore_\w+)", general + in_location))
    assert set() == set(re.findall(r"\$\{(lbcore_\w+)\}", general)) - defined - {"lbcore_certificate"}


def test_an_upstream_s_name_in_the_log_is_that_of_its_service() -> None:
    said = serialize(name_route(SOURCE, "/x", frozenset(BY_DEFAULT)))
    without = serialize(name_route(Source(ingress=ObjectKey("shop", "web")), "/x", frozenset(BY_DEFAULT)))
    expected = ("set $lbcore_upstream_name shop-web-80;\n", "set $lbcore_upstream_name -;\n")
    assert expected == (said, without)

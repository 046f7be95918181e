"""Who may: rates, lists of addresses, passwords, and the service that is asked."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.shared import Shared
from lbcore.adapters.nginx.tree import Directive, Entry, Name, Plain, Value, Word, directive, map_of
from lbcore.proxy import ExternalAuth, Location, Options, RateLimit, Template, Variable

__all__ = ["access", "asking_locations", "limits"]


def limits(location: Location, shared: Shared) -> Iterator[Directive]:
    """How often a client may ask; all paths of an Ingress count together."""
    limit = location.policies.rate_limit
    if limit is None:
        return
    name = digest(str(location.source.ingress), *limit.exempt)
    key = _limit_key(limit, shared)
    for kind, rate, unit in (("s", limit.rps, "r/s"), ("m", limit.rpm, "r/m")):
        if rate:
            zone = f"l{kind}{name}"
            shared.http[zone] = directive("limit_req_zone", key, f"zone={zone}:5m", f"rate={rate}{unit}")
            yield directive("limit_req", f"zone={zone}", f"burst={rate * limit.burst}", "nodelay")
    if limit.connections:
        zone = f"lc{name}"
        shared.http[zone] = directive("limit_conn_zone", key, f"zone={zone}:5m")
        yield directive("limit_conn", zone, limit.connections)


def _limit_key(limit: RateLimit, shared: Shared) -> Value:
    if not limit.exempt:
        return Value((Variable("binary_remote_addr"),))
    name = f"lbcore_x{digest(*limit.exempt)}"
    lines = [Entry(Plain(cidr), Word("1")) for cidr in limit.exempt]
    zero = Directive("default", (Word("0"),))
    shared.http[f"g{name}"] = directive("geo", Name(f"{name}e"), block=(zero, *lines))
    counted = Entry(Plain("0"), Value((Variable("binary_remote_addr"),)))
    shared.http[f"m{name}"] = map_of(Value((Variable(f"{name}e"),)), name, Value(()), (counted,))
    return Value((Variable(name),))


def access(location: Location, options: Options, shared: Shared, name: str) -> Iterator[Directive]:
    """Whose requests are let through; `name` is that of the location's internal ones."""
    policies = location.policies
    lists = policies.access
    allow = lists.allow or options.access.allow
    if lists.any_is_enough:
        yield directive("satisfy", "any")
    for cidr in lists.deny or options.access.deny:
        yield directive("deny", Plain(cidr))
    for cidr in allow:
        yield directive("allow", Plain(cidr))
    if allow:
        yield directive("deny", "all")
    basic = policies.basic_auth
    if basic is not None:
        yield directive("auth_basic", Value((basic.realm,)))
        yield directive("auth_basic_user_file", shared.file("users", basic.users))
    if policies.external_auth is not None:
        yield from _external(policies.external_auth, name)


def _external(auth: ExternalAuth, name: str) -> Iterator[Directive]:
    yield directive("auth_request", f"/_lbcore_auth_{name}")
    for index, header in enumerate(auth.response_headers):
        variable = f"upstream_http_{header.lower().replace('-', '_')}"
        yield directive("auth_request_set", Name(f"lbcore_auth{index}"), Value((Variable(variable),)))
    yield directive("auth_request_set", Name("lbcore_cookie"), Value((Variable("upstream_http_set_cookie"),)))
    if auth.signin is not None:
        yield directive("error_page", 401, "=", f"@lbcore_signin_{name}")


def _auth_location(auth: ExternalAuth, name: str, shared: Shared) -> Directive:
    url = auth.url
    port = f":{url.port}" if url.port else ""
    target: Template = (f"{url.scheme}://", url.host, port)
    slash = () if url.path and isinstance(url.path[0], str) and url.path[0].startswith("/") else ("/",)
    path: Template = (*slash, *url.path)
    headers: list[tuple[str, Template]] = [
        ("Host", (url.host,)),
        ("X-Original-URL", (Variable("scheme"), "://", Variable("http_host"), Variable("request_uri"))),
        ("X-Original-Method", (Variable("request_method"),)),
        ("X-Original-URI", (Variable("request_uri"),)),
        ("X-Real-IP", (Variable("remote_addr"),)),
        ("X-Forwarded-For", (Variable("lbcore_forwarded_for"),)),
        ("X-Sent-From", ("nginx-ingress-controller",)),
        ("X-Auth-Request-Redirect", auth.request_redirect or (Variable("request_uri"),)),
        ("X-Request-ID", (Variable("lbcore_request_id"),)),
        ("X-Forwarded-Proto", ()),
        ("Content-Length", ()),
    ]
    given = {name.lower() for name, _ in auth.headers}
    headers = [each for each in headers if each[0].lower() not in given] + [*auth.headers]
    block = [
        directive("internal"),
        directive("access_log", "off"),
        directive("proxy_pass_request_body", "off"),
        directive("proxy_intercept_errors", "off"),
        *([directive("proxy_method", auth.method)] if auth.method else []),
        *(directive("proxy_set_header", Plain(name), Value(value)) for name, value in headers),
        *([directive("proxy_ssl_server_name", "on")] if url.scheme == "https" else []),
        *_remembered(auth, name, shared),
        # By a variable: a name that cannot be resolved costs this request, not everybody's configuration.
        directive("set", Name("lbcore_to"), Value(target)),
        directive("proxy_pass", Value((Variable("lbcore_to"), *path))),
    ]
    return directive("location", "=", f"/_lbcore_auth_{name}", block=block)


def _remembered(auth: ExternalAuth, name: str, shared: Shared) -> Iterator[Directive]:
    """What the service said holds for the same key, of this location alone: another asks something else."""
    if auth.cache_key is None:
        return
    path = Word(f"{shared.folder}/tmp/auth")  # noqa: S108 - below our own folder
    shared.http["auth_cache"] = directive(
        "proxy_cache_path", path, "levels=1:2", "keys_zone=lbcore_auth:10m", "max_size=128m", "inactive=30m",
        "use_temp_path=off",
    )  # fmt: skip
    yield directive("proxy_buffering", "on")  # what is not is not kept, either
    yield directive("proxy_cache", "lbcore_auth")
    # Of a wildcard each host has a service of its own.
    whose: Template = (auth.url.host, " ") if isinstance(auth.url.host, Variable) else ()
    yield directive("proxy_cache_key", Value((f"{name}{digest(auth.url)} ", *whose, *auth.cache_key)))
    for words in auth.cache_times or (("200", "202", "401", "5m"),):
        yield directive("proxy_cache_valid", *words)


def _signin(auth: ExternalAuth, name: str) -> Directive:
    to = auth.signin or ()
    if not _has_parameter(to, auth.signin_parameter):
        separator = "&" if auth.signin_has_query else "?"
        back: Template = (Variable("scheme"), "://", Variable("http_host"), Variable("escaped_request_uri"))
        to = (*to, f"{separator}{auth.signin_parameter}=", *back)
    block = (directive("internal"), directive("return", 302, Value(to)))
    return directive("location", f"@lbcore_signin_{name}", block=block)


def _has_parameter(url: Template, name: str) -> bool:
    return any(isinstance(each, str) and (f"?{name}=" in each or f"&{name}=" in each) for each in url)


def asking_locations(location: Location, name: str, shared: Shared) -> list[Directive]:
    """The internal locations by which the authentication service is asked, and clients are sent to sign in."""
    auth = location.policies.external_auth
    if auth is None or location.policies.denied:
        return []
    made = [_auth_location(auth, name, shared)]
    if auth.signin is not None:
        made.append(_signin(auth, name))
    return made

"""What the client is told besides the backend's answer: cookies, CORS, and other pages for errors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.passing import Headers, kind_of
from lbcore.adapters.nginx.shared import Shared, literal
from lbcore.adapters.nginx.snippets import answered
from lbcore.adapters.nginx.targets import Targets
from lbcore.adapters.nginx.tree import Condition, Directive, Entry, Plain, Value, directive
from lbcore.proxy import Cors, Location, Options, Source, Template, Variable

__all__ = ["answer_headers", "asked_of_default", "error_locations", "errors", "for_all", "hidden", "preflight"]


def answer_headers(location: Location, options: Options, targets: Targets) -> Iterator[Directive]:
    """`add_header` in a location cancels what the http block adds, so that is repeated."""
    policies = location.policies
    made: list[Directive] = []
    if policies.cors is not None:
        made += _cors_headers(policies.cors, targets.shared)
    if policies.affinity is not None and targets.upstreams[location.upstream or ""].affinity is not None:
        made.append(targets.sticky(location, policies.affinity).header())
    if policies.external_auth is not None:
        always = ("always",) if policies.external_auth.always_set_cookie else ()
        made.append(directive("add_header", "Set-Cookie", Value((Variable("lbcore_cookie"),)), *always))
    made += answered(policies.snippet)
    if policies.snippet.gzip is not None:
        yield directive("gzip", policies.snippet.gzip)
    made += [directive("add_header", Plain(name), Value((text,)), "always") for name, text in policies.answered]
    replaced = (*policies.snippet.hidden, *(name for name, _ in policies.answered))
    if replaced:
        yield from hidden(kind_of(policies.protocol), options, replaced)
    if made:
        given = {name.lower() for name, _ in policies.answered}
        yield from (*made, *for_all(options, given))


def hidden(kind: str, options: Options, more: Iterable[str] = ()) -> Iterator[Directive]:
    """Headers of backends that clients do not see: one of ours takes the place of theirs."""
    for name in dict.fromkeys((*options.hidden, *(name for name, _ in options.added), *more)):
        yield directive(f"{kind}_hide_header", Plain(name))


def for_all(options: Options, but: Collection[str] = ()) -> Iterator[Directive]:
    """The headers that every answer gets, but for those that are given here (lower case)."""
    if options.hsts and "strict-transport-security" not in but:
        yield directive("add_header", "Strict-Transport-Security", Value((Variable("lbcore_hsts"),)), "always")
    for name, text in options.added:
        if name.lower() not in but:
            yield directive("add_header", Plain(name), Value((text,)), "always")


def _cors_origin(cors: Cors, shared: Shared) -> Template:
    if cors.origins is None:
        return ("*",)
    name = f"lbcore_o{digest(*cors.origins)}"
    asked = Variable("http_origin")
    lines = [Entry(Plain(f"~^{_origin_pattern(origin)}$"), Value((asked,))) for origin in cors.origins]
    return shared.map(name, asked, Value(()), tuple(lines)).parts


def _cors_headers(cors: Cors, shared: Shared) -> list[Directive]:
    headers: list[tuple[str, Template]] = [("Access-Control-Allow-Origin", _cors_origin(cors, shared))]
    if cors.origins is not None:
        headers.append(("Vary", ("Origin",)))
    if cors.credentials:
        headers.append(("Access-Control-Allow-Credentials", ("true",)))
    headers += [
        ("Access-Control-Allow-Methods", (", ".join(cors.methods),)),
        ("Access-Control-Allow-Headers", (",".join(cors.headers),)),
        ("Access-Control-Max-Age", (str(cors.max_age),)),
    ]
    if cors.expose:
        headers.append(("Access-Control-Expose-Headers", (",".join(cors.expose),)))
    return [directive("add_header", name, Value(value), "always") for name, value in headers]


def preflight(cors: Cors, options: Options, shared: Shared) -> Iterator[Directive]:
    """The answer to a browser that asks whether it may ask; neither a password nor the backend is asked for it."""
    block = (*_cors_headers(cors, shared), *for_all(options), directive("return", 204))
    yield directive("if", Condition("lbcore_preflight"), block=block)


def errors(location: Location, targets: Targets, name: str) -> Iterator[Directive]:
    """Which answers are replaced, and from where; `name` is that of the location's internal ones."""
    if location.errors_to is None or not targets.has_peers(location.errors_to):
        return
    yield directive(f"{kind_of(location.policies.protocol)}_intercept_errors", "on")
    for code in location.policies.errors.codes:
        yield directive("error_page", code, "=", f"@lbcore_error_{name}_{code}")


def error_locations(location: Location, targets: Targets, name: str) -> list[Directive]:
    """The internal locations from which the pages of errors come."""
    if location.errors_to is None or not targets.has_peers(location.errors_to):
        return []
    made = []
    for code in location.policies.errors.codes:
        headers: Headers = (
            *asked_of_default(location.source, code),
            ("X-Request-ID", (Variable("lbcore_request_id"),)),
            ("Host", (Variable("lbcore_host"),)),
        )
        block = (
            directive("internal"),
            directive("proxy_intercept_errors", "off"),
            *(directive("proxy_set_header", name, Value(value)) for name, value in headers),
            directive("rewrite", Plain("(.*)"), "/", "break"),
            directive("proxy_pass", Value(("http://", targets.target(location.errors_to)))),
        )
        made.append(directive("location", f"@lbcore_error_{name}_{code}", block=block))
    return made


def asked_of_default(source: Source, code: int) -> Headers:
    """The headers by which a default backend hears what it is to answer for whom: ingress-nginx's."""
    return (
        ("X-Code", (str(code),)),
        ("X-Format", (Variable("http_accept"),)),
        ("X-Original-URI", (Variable("request_uri"),)),
        ("X-Namespace", (source.ingress.namespace,)),
        ("X-Ingress-Name", (source.ingress.name,)),
        ("X-Service-Name", (source.service,)),
        ("X-Service-Port", (source.port,)),
    )


def _origin_pattern(origin: str) -> str:
    scheme, _, host = origin.partition("://")
    label = "[A-Za-z0-9-]+" if host.startswith("*") else ""
    return f"(?i){scheme}://{label}" + literal(host.removeprefix("*"))

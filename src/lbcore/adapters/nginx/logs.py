"""The access log, and the names that ingress-nginx gives to what a request belongs to.

One variable is set in a location, the route; everything else is read out of it by maps, when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.tree import Directive, Entry, Name, Plain, Value, Word, directive
from lbcore.proxy import AccessLog, Source, Template, Variable

__all__ = ["access_log", "log_variables", "route_of"]

_NO_ROUTE = "-"
# ingress-nginx's names of variables, and what they are here.
_NAMES = {
    "namespace": "lbcore_namespace",
    "ingress_name": "lbcore_ingress",
    "service_name": "lbcore_service",
    "service_port": "lbcore_service_port",
    "location_path": "lbcore_path",
    "proxy_upstream_name": "lbcore_upstream_name",
    "proxy_alternative_upstream_name": "lbcore_alternative",
    "req_id": "lbcore_request_id",
    "the_real_ip": "remote_addr",
    "best_http_host": "lbcore_host",
    "pass_access_scheme": "lbcore_scheme",
    "pass_server_port": "server_port",
    "pass_port": "lbcore_port",
}
_FORM: Template = (
    Variable("remote_addr"), " - ", Variable("remote_user"), " [", Variable("time_local"), '] "', Variable("request"),
    '" ', Variable("status"), " ", Variable("body_bytes_sent"), ' "', Variable("http_referer"), '" "',
    Variable("http_user_agent"), '" ', Variable("request_length"), " ", Variable("request_time"), " [",
    Variable("proxy_upstream_name"), "] [", Variable("proxy_alternative_upstream_name"), "] ",
    Variable("upstream_addr"), " ", Variable("upstream_response_length"), " ", Variable("upstream_response_time"), " ",
    Variable("upstream_status"), " ", Variable("req_id"),
)  # fmt: skip
_PARTS = ("lbcore_namespace", "lbcore_ingress", "lbcore_service", "lbcore_service_port")


def route_of(source: Source, path: str) -> str:
    """What a location sets: namespace, Ingress, Service, port and path, of which only the last may hold a slash."""
    return f"{source.ingress.namespace}/{source.ingress.name}/{source.service}/{source.port}{path}"


def access_log(log: AccessLog, usual: str) -> Iterator[Directive]:
    """Where requests are logged and how; `usual` is the place by default, or `off`."""
    form = tuple(_ours(each) for each in log.form or _FORM)
    escape = () if log.escape == "default" else (f"escape={log.escape}",)
    yield directive("log_format", "upstreaminfo", *escape, Value(form))
    if log.off or usual == "off":
        yield directive("access_log", "off")
        return
    skipped: tuple[Value, ...] = ()
    if log.skipped:
        lines = (Entry(Plain(f"\\{url}"), Word("0")) for url in dict.fromkeys(log.skipped))
        block: tuple[Directive | Entry, ...] = (directive("default", 1), *lines)
        yield directive("map", Value((Variable("request_uri"),)), Name("lbcore_logged"), block=block)
        skipped = (Value(("if=", Variable("lbcore_logged"))),)
    yield directive("access_log", log.path or usual, "upstreaminfo", *log.parameters, *skipped)


def log_variables() -> Iterator[Directive]:
    """What is read out of the route."""
    for index, name in enumerate(_PARTS):
        yield _part(name, f"~^{'[^/]*/' * index}(?<lbcore_r{index}>[^/]*)/", f"lbcore_r{index}")
    yield _part("lbcore_path", "~^[^/]*/[^/]*/[^/]*/[^/]*(?<lbcore_r4>/.*)", "lbcore_r4")
    # Locations with a canary set it; here it is known, and empty.
    yield directive(
        "map", Value((Variable("lbcore_route"),)), Name("lbcore_alternative"), block=(directive("default", Value(())),)
    )
    whole = (Variable("lbcore_r5"), "-", Variable("lbcore_r6"), "-", Variable("lbcore_r7"))
    pattern = "~^(?<lbcore_r5>[^/]+)/[^/]*/(?<lbcore_r6>[^/]+)/(?<lbcore_r7>[^/]*)/"
    lines = (directive("default", Value((_NO_ROUTE,))), Entry(Plain(pattern), Value(whole)))
    yield directive("map", Value((Variable("lbcore_route"),)), Name("lbcore_upstream_name"), block=lines)


def _part(name: str, pattern: str, capture: str) -> Directive:
    lines = (directive("default", Value(())), Entry(Plain(pattern), Value((Variable(capture),))))
    return directive("map", Value((Variable("lbcore_route"),)), Name(name), block=lines)


def _ours(part: str | Variable) -> str | Variable:
    return part if isinstance(part, str) else Variable(_NAMES.get(part.name, part.name))

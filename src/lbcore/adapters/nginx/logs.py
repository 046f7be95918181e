"""The access log, and the names that ingress-nginx gives to what a request belongs to.

A location sets the name of its upstream, where the log has it; and where more is asked for, in logs or for metrics,
the route, out of which maps read the rest. To read the name out of the route costs a request some 4,000 instructions,
of 35,000, and to set it some 200.
"""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.tree import Directive, Entry, Name, Plain, Value, Word, directive, map_of
from lbcore.proxy import AccessLog, Source, Template, Variable

__all__ = ["access_log", "log_variables", "name_route", "named_by"]

_NO_ROUTE = "-"
_ROUTE, _UPSTREAM = "lbcore_route", "lbcore_upstream_name"
# ingress-nginx's names of variables, and what they are here.
_NAMES = {
    "namespace": "lbcore_namespace",
    "ingress_name": "lbcore_ingress",
    "service_name": "lbcore_service",
    "service_port": "lbcore_service_port",
    "location_path": "lbcore_path",
    "proxy_upstream_name": _UPSTREAM,
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
_PATH = "lbcore_path"
_PARTS = ("lbcore_namespace", "lbcore_ingress", "lbcore_service", "lbcore_service_port")


def named_by(log: AccessLog, usual: str, *, counted: bool) -> frozenset[str]:
    """The variables in which locations say what they are, for a log and for metrics (`counted`)."""
    asked = {each.name for each in _form(log) if isinstance(each, Variable)} if _is_on(log, usual) else set()
    named = asked & {_UPSTREAM}
    return frozenset(named | {_ROUTE} if counted or asked & {*_PARTS, _PATH} else named)


def name_route(source: Source, path: str, named: frozenset[str]) -> Iterator[Directive]:
    """What a location sets: its upstream's name; and namespace, Ingress, Service, port and path, of which only the
    last may hold a slash.
    """
    ingress = source.ingress
    if _UPSTREAM in named:
        known = ingress.namespace and source.service
        name = f"{ingress.namespace}-{source.service}-{source.port}" if known else _NO_ROUTE
        yield directive("set", Name(_UPSTREAM), Value((name,)))
    if _ROUTE in named:
        route = f"{ingress.namespace}/{ingress.name}/{source.service}/{source.port}{path}"
        yield directive("set", Name(_ROUTE), Value((route,)))


def access_log(log: AccessLog, usual: str) -> Iterator[Directive]:
    """Where requests are logged and how; `usual` is the place by default, or `off`."""
    if not _is_on(log, usual):
        yield directive("access_log", "off")
        return
    escape = () if log.escape == "default" else (f"escape={log.escape}",)
    yield directive("log_format", "upstreaminfo", *escape, Value(_form(log)))
    skipped: tuple[Value, ...] = ()
    if log.skipped:
        lines = (Entry(Plain(f"\\{url}"), Word("0")) for url in dict.fromkeys(log.skipped))
        yield map_of(Value((Variable("request_uri"),)), "lbcore_logged", Word("1"), lines)
        skipped = (Value(("if=", Variable("lbcore_logged"))),)
    yield directive("access_log", log.path or usual, "upstreaminfo", *log.parameters, *skipped)


def log_variables(named: frozenset[str]) -> Iterator[Directive]:
    """What locations set where they have it, and what is read out of the route."""
    yield _constant("lbcore_alternative", ())  # locations with a canary set it
    yield _constant(_UPSTREAM, (_NO_ROUTE,))
    if _ROUTE not in named:
        return
    for index, name in enumerate(_PARTS):
        yield _part(name, f"~^{'[^/]*/' * index}(?<lbcore_r{index}>[^/]*)/", f"lbcore_r{index}")
    yield _part(_PATH, "~^[^/]*/[^/]*/[^/]*/[^/]*(?<lbcore_r4>/.*)", "lbcore_r4")


def _constant(name: str, value: Template) -> Directive:
    """A variable that is there, and the same wherever it is not set."""
    return map_of(Value(()), name, Value(value))


def _part(name: str, pattern: str, capture: str) -> Directive:
    line = Entry(Plain(pattern), Value((Variable(capture),)))
    return map_of(Value((Variable(_ROUTE),)), name, Value(()), (line,))


def _is_on(log: AccessLog, usual: str) -> bool:
    return not log.off and usual != "off"


def _form(log: AccessLog) -> Template:
    return tuple(_ours(each) for each in log.form or _FORM)


def _ours(part: str | Variable) -> str | Variable:
    return part if isinstance(part, str) else Variable(_NAMES.get(part.name, part.name))

"""How a request is passed to a backend: sizes and times, headers, TLS towards it."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, fields

from lbcore.adapters.nginx.shared import Shared
from lbcore.adapters.nginx.tree import Directive, Plain, Value, Word, directive
from lbcore.proxy import Options, Policies, Protocol, Size, Template, Tuning, Variable

__all__ = ["Headers", "headers", "kind_of", "sent_to_all", "tuning", "upstream_tls"]

Headers = tuple[tuple[str, Template], ...]

_HEADERS: Headers = (
    ("Host", (Variable("lbcore_host"),)),
    ("Upgrade", (Variable("http_upgrade"),)),
    ("Connection", (Variable("lbcore_connection"),)),
    ("X-Request-ID", (Variable("lbcore_request_id"),)),
    ("X-Real-IP", (Variable("remote_addr"),)),
    ("X-Forwarded-For", (Variable("lbcore_forwarded_for"),)),
    ("X-Forwarded-Host", (Variable("lbcore_host"),)),
    ("X-Forwarded-Port", (Variable("lbcore_port"),)),
    ("X-Forwarded-Proto", (Variable("lbcore_scheme"),)),
    ("X-Forwarded-Scheme", (Variable("lbcore_scheme"),)),
    ("X-Scheme", (Variable("lbcore_scheme"),)),
    ("X-Original-Forwarded-For", (Variable("http_x_forwarded_for"),)),
    ("X-Original-Forwarded-Host", (Variable("http_x_forwarded_host"),)),
    ("Proxy", ()),
)

_KINDS = {Protocol.GRPC: "grpc", Protocol.GRPCS: "grpc", Protocol.FCGI: "fastcgi"}


def kind_of(protocol: Protocol) -> str:
    """What nginx's directives begin with for a protocol."""
    return _KINDS.get(protocol, "proxy")


_TUNING = {
    "body_size": "client_max_body_size",
    "body_buffer": "client_body_buffer_size",
    "connect_timeout": "{}_connect_timeout",
    "send_timeout": "{}_send_timeout",
    "read_timeout": "{}_read_timeout",
    "buffering": "proxy_buffering",
    "buffer_size": "{}_buffer_size",
    "busy_buffers": "proxy_busy_buffers_size",
    "temp_file": "proxy_max_temp_file_size",
    "request_buffering": "proxy_request_buffering",
    "http_version": "proxy_http_version",
    "next_upstream": "{}_next_upstream",
    "next_timeout": "{}_next_upstream_timeout",
    "next_tries": "{}_next_upstream_tries",
}
_SECONDS = {"connect_timeout", "send_timeout", "read_timeout", "next_timeout"}
_FOR_GRPC = {name for name, text in _TUNING.items() if text.startswith("{}")} | {"body_size", "body_buffer"}


def tuning(given: Tuning, defaults: Tuning | None, protocol: str) -> Iterator[Directive]:
    """The directives of what differs from the defaults; `protocol` is `proxy`, `grpc` or `fastcgi`."""
    if protocol == "fastcgi":
        given = _for_fastcgi(given, defaults)
    given = _going_together(given, defaults)
    for name, text in _TUNING.items():
        value = getattr(given, name)
        if value is None or (defaults is not None and value == getattr(defaults, name) and protocol == "proxy"):
            continue
        if (protocol == "grpc" and name not in _FOR_GRPC) or (protocol == "fastcgi" and name == "http_version"):
            continue
        words = value if isinstance(value, tuple) else (f"{value}s" if name in _SECONDS else value,)
        yield directive(text.format(protocol).replace("proxy_", f"{protocol}_"), *words)
    size = given.buffer_size or (defaults.buffer_size if defaults else None)
    if protocol != "grpc" and (given.buffers or given.buffer_size) and size is not None:
        number = given.buffers or (defaults.buffers if defaults else None) or 4
        yield directive(f"{protocol}_buffers", number, str(size))
    for name, off in (("cookie_domain", "proxy_cookie_domain"), ("cookie_path", "proxy_cookie_path")):
        pair = getattr(given, name)
        if pair is not None and protocol == "proxy":
            yield directive(off, *(("off",) if pair[0] == "off" else tuple(Value((part,)) for part in pair)))
    if given.redirect_from is not None and protocol == "proxy":
        pair = (
            () if given.redirect_from == "off" else (Value((given.redirect_from,)), Value((given.redirect_to or "",)))
        )
        yield directive("proxy_redirect", *(pair or ("off",)))
    if given.access_log is False:
        yield directive("access_log", "off")
    if given.rate:
        yield directive("limit_rate", f"{given.rate}k")
    if given.rate_after:
        yield directive("limit_rate_after", f"{given.rate_after}k")


assert {each.name for each in fields(Tuning)} >= set(_TUNING)


def _for_fastcgi(given: Tuning, defaults: Tuning | None) -> Tuning:
    """What is given, with all sizes where one is: beside each other nginx's own would not do. And the errors that
    nginx knows of FastCGI.
    """
    if given.next_upstream is not None:
        words = tuple(each for each in given.next_upstream if each not in {"http_502", "http_504"})
        given = evolve(given, next_upstream=words or ("off",))
    size = given.buffer_size or (defaults.buffer_size if defaults else None)
    if given.buffers or given.buffer_size or given.busy_buffers or given.temp_file:
        given = evolve(given, buffer_size=size)
    return given


def _going_together(given: Tuning, defaults: Tuning | None) -> Tuning:
    """Sizes that nginx takes beside each other, or it would refuse everybody's configuration: what is busy holds one
    buffer and leaves one free, and a file is no smaller than a buffer (ngx_http_proxy_merge_loc_conf).
    """
    size = given.buffer_size or (defaults.buffer_size if defaults else None)
    if size is None:
        return given
    file = given.temp_file or (defaults.temp_file if defaults else None)
    if file is not None and 0 < file.bytes < size.bytes:
        given = evolve(given, temp_file=size)
    if not (given.buffers or given.buffer_size or given.busy_buffers):
        return given
    number = given.buffers or (defaults.buffers if defaults else None) or 4
    busy = given.busy_buffers or (defaults.busy_buffers if defaults else None) or Size(2 * size.number, size.unit)
    if busy.bytes < size.bytes:
        busy = size
    if busy.bytes > (number - 1) * size.bytes:
        busy = Size((number - 1) * size.number, size.unit)
    return evolve(given, busy_buffers=busy)


def sent_to_all(options: Options, https_port: int) -> Headers:
    """What is sent to a backend, at the http level and again in each location that sends something more.

    Where a variable of ours would only repeat one of nginx's, that one stands: each of these maps costs a request some
    500 instructions, of 35,000.
    """
    full = options.forwarded_headers and options.full_forwarded_for
    same = {"lbcore_forwarded_for": "proxy_add_x_forwarded_for" if full else "remote_addr"}
    if not options.forwarded_headers:
        same |= {"lbcore_scheme": "scheme", "lbcore_host": "http_host"}
    if https_port == 443:
        same["lbcore_port"] = "server_port"

    def leaner(part: str | Variable) -> str | Variable:
        return part if isinstance(part, str) else Variable(same.get(part.name, part.name))

    given = {name.lower(): (name, value) for name, value in options.sent}
    usual = tuple(given.pop(name.lower(), (name, tuple(map(leaner, value)))) for name, value in _HEADERS)
    return (*usual, *given.values())


def headers(kind: str, common: Headers, changed: dict[str, Template], more: Headers) -> Iterator[Directive]:
    """All headers, some with another value, and more: those of the http level hold no more where one is given."""
    own = {name.lower() for name, _ in more}
    sent = [(name, changed.get(name, value)) for name, value in common if name.lower() not in own]
    if kind != "proxy":
        sent = [(name, value) for name, value in sent if name not in {"Upgrade", "Connection"}]
    for name, value in (*sent, *more):
        if kind == "fastcgi":
            parameter = f"HTTP_{name.upper().replace('-', '_')}"
            yield directive("fastcgi_param", Word(parameter), Value(value), "if_not_empty")
        else:
            yield directive(f"{kind}_set_header", Plain(name), Value(value))


def upstream_tls(policies: Policies, kind: str, shared: Shared) -> Iterator[Directive]:
    """How we show ourselves to a backend that speaks TLS, and whether we believe it."""
    tls = policies.upstream_tls
    if tls is None or policies.protocol in {Protocol.HTTP, Protocol.GRPC, Protocol.FCGI}:
        return
    if tls.certificate is not None:
        pair = shared.file("pem", tls.certificate.chain + tls.certificate.key)
        yield directive(f"{kind}_ssl_certificate", pair)
        yield directive(f"{kind}_ssl_certificate_key", pair)
    if tls.authorities:
        yield directive(f"{kind}_ssl_trusted_certificate", shared.file("ca", tls.authorities))
        yield directive(f"{kind}_ssl_verify", "on" if tls.verify else "off")
        yield directive(f"{kind}_ssl_verify_depth", tls.depth)
    if tls.name:
        yield directive(f"{kind}_ssl_name", Value(tls.name))
    if tls.server_name:
        yield directive(f"{kind}_ssl_server_name", "on")
    if tls.protocols:
        yield directive(f"{kind}_ssl_protocols", *tls.protocols)
    if tls.ciphers:
        yield directive(f"{kind}_ssl_ciphers", Plain(tls.ciphers))

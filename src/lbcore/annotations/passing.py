"""How requests are passed to a backend: timeouts, sizes, buffers, retries, protocol, balancing, TLS towards it."""

from __future__ import annotations

import re
from typing import cast

from attrs import evolve

from lbcore.annotations.rules import Bad, Group, Rule, Values
from lbcore.annotations.scalars import (
    REQUEST_VARIABLES,
    choice,
    ciphers,
    flag,
    host_name,
    integer,
    object_key,
    on_off,
    size,
    template,
    words,
)
from lbcore.ingress import ObjectKey
from lbcore.proxy import Balance, FastCgi, Policies, Protocol, Size, Template, Tuning, UpstreamTLS

__all__ = ["PASSING", "TUNING"]

_SECONDS = integer(0, 86400 * 365)
_RETRIES = words(
    "error", "timeout", "invalid_header", "http_500", "http_502", "http_503", "http_504", "http_403", "http_404",
    "http_429", "non_idempotent", "off",
)  # fmt: skip
_PROTOCOLS = choice(*(protocol.value for protocol in Protocol), fold=True)


def _buffer(text: str) -> Size:
    """What a worker holds in memory for a request: every client may ask for one."""
    found = size(text)
    if not 1024 <= found.bytes <= 64 << 20:
        raise ValueError("write a size from 1k to 64m")
    return found


def _location(text: str) -> str:
    """`off`, or the beginning of a URL; nginx's `default` is about names of ours, which no backend knows."""
    if text in {"off", "default"}:
        return "off"
    if not re.fullmatch(r"(?:https?:/)?/[A-Za-z0-9._~/:,?&=@-]{0,500}", text):
        raise ValueError("write off, or what a Location begins with, such as http://inner.example/")
    return text


def _pair(text: str) -> tuple[str, str]:
    """`off`, or two words without anything that means more than itself."""
    parts = tuple(text.split())
    plain = template((), r"A-Za-z0-9._~/:;,=@ -")
    for part in parts:
        plain(part)
    if parts == ("off",):
        return ("off", "")
    if len(parts) != 2:
        raise ValueError("write off, or what to replace and by what")
    return (parts[0], parts[1])


def _file_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", text):
        raise ValueError("write a file's name, such as index.php")
    return text


# annotation, parser, tier, field of Tuning
TUNING = (
    ("proxy-body-size", size, "1A", "body_size"),
    ("client-body-buffer-size", _buffer, "1A", "body_buffer"),
    ("proxy-connect-timeout", integer(1, 86400), "1A", "connect_timeout"),
    ("proxy-send-timeout", integer(1, 86400 * 365), "1A", "send_timeout"),
    ("proxy-read-timeout", integer(1, 86400 * 365), "1A", "read_timeout"),
    ("proxy-buffering", on_off, "1A", "buffering"),
    ("proxy-buffers-number", integer(2, 1024), "1B", "buffers"),
    ("proxy-buffer-size", _buffer, "1A", "buffer_size"),
    ("proxy-busy-buffers-size", _buffer, "2", "busy_buffers"),
    ("proxy-max-temp-file-size", size, "2", "temp_file"),
    ("proxy-request-buffering", on_off, "1A", "request_buffering"),
    ("proxy-http-version", choice("1.0", "1.1"), "1A", "http_version"),
    ("proxy-next-upstream", _RETRIES, "1B", "next_upstream"),
    ("proxy-next-upstream-timeout", _SECONDS, "2", "next_timeout"),
    ("proxy-next-upstream-tries", integer(0, 1000), "2", "next_tries"),
    ("proxy-cookie-domain", _pair, "2", "cookie_domain"),
    ("proxy-cookie-path", _pair, "2", "cookie_path"),
    ("proxy-redirect-from", _location, "2", "redirect_from"),
    ("proxy-redirect-to", _location, "2", "redirect_to"),
    ("enable-access-log", flag, "2", "access_log"),
    ("limit-rate", integer(0, 1 << 30), "2", "rate"),
    ("limit-rate-after", integer(0, 1 << 30), "2", "rate_after"),
)

RULES = (
    *(Rule(name=name, parse=parse, tier=tier) for name, parse, tier, _ in TUNING),
    Rule(name="backend-protocol", parse=_PROTOCOLS, tier="1A", bad=Bad.DENIED),
    Rule(name="upstream-vhost", parse=host_name, tier="1A"),
    Rule(name="connection-proxy-header", parse=choice("close", "keep-alive"), tier="2"),
    Rule(name="service-upstream", parse=flag, tier="1B"),
    Rule(name="load-balance", parse=choice("round_robin", "ewma"), tier="2"),
    Rule(
        name="upstream-hash-by",
        parse=template(REQUEST_VARIABLES, r"A-Za-z0-9._~/:-", of_request=True),
        tier="1B",
    ),
    Rule(name="proxy-ssl-secret", parse=object_key(None), tier="1B", bad=Bad.DENIED),
    Rule(name="proxy-ssl-verify", parse=on_off, tier="1B", bad=Bad.DENIED),
    Rule(name="proxy-ssl-verify-depth", parse=integer(1, 20), tier="2"),
    Rule(name="proxy-ssl-name", parse=lambda text: (host_name(text),), tier="1B", bad=Bad.DENIED),
    Rule(name="proxy-ssl-server-name", parse=on_off, tier="1B"),
    Rule(name="proxy-ssl-ciphers", parse=ciphers, tier="2"),
    Rule(name="proxy-ssl-protocols", parse=words("TLSv1.2", "TLSv1.3"), tier="2"),
    Rule(name="fastcgi-index", parse=_file_name, tier="3"),
    Rule(name="fastcgi-params-configmap", parse=object_key(""), tier="3", bad=Bad.DENIED),
)


def _apply(values: Values, policies: Policies) -> Policies:
    tuning = cast(Tuning, values.into(policies.tuning, **{field: name for name, _, _, field in TUNING}))
    if tuning.redirect_from is None or "off" in {tuning.redirect_from, tuning.redirect_to or "off"}:
        off = "off" if tuning.redirect_from == "off" else None
        tuning = evolve(tuning, redirect_from=off, redirect_to=None)  # the one is nothing without the other
    protocol, balance = values.get("backend-protocol"), values.get("load-balance")
    return evolve(
        policies,
        tuning=tuning,
        protocol=Protocol(protocol) if protocol is not None else policies.protocol,
        balance=Balance(balance) if balance is not None else None,
        host_header=cast("str | None", values.get("upstream-vhost")),
        connection_header=cast("str | None", values.get("connection-proxy-header")),
        service_upstream=cast("bool | None", values.get("service-upstream")),
        hash_by=cast("Template | None", values.get("upstream-hash-by")),
        upstream_tls=_tls(values),
        fastcgi=_fastcgi(values),
    )


def _tls(values: Values) -> UpstreamTLS | None:
    """All of `proxy-ssl-*` hangs on `proxy-ssl-secret`, as in ingress-nginx."""
    secret = values.get("proxy-ssl-secret")
    if secret is None:
        return None
    tls = values.into(
        UpstreamTLS(secret=cast(ObjectKey, secret)),
        verify="proxy-ssl-verify",
        depth="proxy-ssl-verify-depth",
        name="proxy-ssl-name",
        server_name="proxy-ssl-server-name",
        protocols="proxy-ssl-protocols",
        ciphers="proxy-ssl-ciphers",
    )
    return cast(UpstreamTLS, tls)


def _fastcgi(values: Values) -> FastCgi:
    key = cast("ObjectKey | None", values.get("fastcgi-params-configmap"))
    if key is not None:
        key = ObjectKey(key.namespace or values.namespace, key.name)
    return FastCgi(index=cast("str | None", values.get("fastcgi-index")), config_map=key)


PASSING = Group(RULES, _apply)

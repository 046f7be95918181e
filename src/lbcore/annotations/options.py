"""The controller's own ConfigMap -> `Options`. One bad value costs its own key, which keeps its default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from lbcore.annotations.passing import TUNING
from lbcore.annotations.scalars import choice, cidrs, codes, flag, header_name, integer, listed, words
from lbcore.proxy import Balance, Options

__all__ = ["OPTIONS", "read_options"]

_PREFIXES = listed(lambda text: text if text.startswith("/") else _not_a_path())


def _not_a_path() -> str:
    raise ValueError("write paths that begin with /")


def _ciphers(text: str) -> str:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:+!@_-=.")
    if not text or set(text) - allowed or len(text) > 2000:
        raise ValueError("write OpenSSL's names of ciphers with : between them")
    return text


OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "ssl-redirect": ("ssl_redirect", flag),
    "force-ssl-redirect": ("force_ssl_redirect", flag),
    "preserve-trailing-slash": ("preserve_trailing_slash", flag),
    "relative-redirects": ("relative_redirects", flag),
    "http-redirect-code": ("redirect_code", lambda text: int(choice("301", "302", "307", "308")(text))),
    "no-tls-redirect-locations": ("no_tls_redirect", _PREFIXES),
    "hsts": ("hsts", flag),
    "hsts-max-age": ("hsts_max_age", integer(0, 1 << 31)),
    "hsts-include-subdomains": ("hsts_subdomains", flag),
    "hsts-preload": ("hsts_preload", flag),
    "use-http2": ("http2", flag),
    "use-forwarded-headers": ("forwarded_headers", flag),
    "compute-full-forwarded-for": ("full_forwarded_for", flag),
    "enable-real-ip": ("real_ip", flag),
    "proxy-real-ip-cidr": ("trusted", cidrs),
    "use-proxy-protocol": ("proxy_protocol", flag),
    "service-upstream": ("service_upstream", flag),
    "load-balance": ("balance", lambda text: Balance(choice("round_robin", "ewma")(text))),
    "upstream-keepalive-connections": ("keepalive", integer(0, 100000)),
    "upstream-keepalive-timeout": ("keepalive_timeout", integer(1, 86400)),
    "upstream-keepalive-requests": ("keepalive_requests", integer(1, 1 << 30)),
    "keep-alive": ("client_keepalive", integer(0, 86400)),
    "keep-alive-requests": ("client_requests", integer(1, 1 << 30)),
    "limit-req-status-code": ("limit_code", integer(400, 599)),
    "limit-conn-status-code": ("connections_code", integer(400, 599)),
    "custom-http-errors": ("custom_errors", codes(300, 599)),
    "ssl-protocols": ("ssl_protocols", words("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")),
    "ssl-ciphers": ("ssl_ciphers", _ciphers),
    "ssl-reject-handshake": ("reject_handshake", flag),
    "server-tokens": ("server_tokens", flag),
    "use-gzip": ("gzip", flag),
    "enable-underscores-in-headers": ("underscores", flag),
    "worker-processes": ("workers", lambda text: 0 if text == "auto" else integer(1, 1024)(text)),
    "max-worker-connections": ("connections", integer(64, 1 << 20)),
    "worker-shutdown-timeout": ("shutdown_timeout", lambda text: integer(0, 86400)(text.removesuffix("s"))),
    "allow-cross-namespace-resources": ("cross_namespace", flag),
    "lbcore-exact-in-regex-hosts": ("exact_in_regex_hosts", flag),
    "global-allowed-response-headers": ("allowed_response_headers", lambda text: frozenset(listed(header_name)(text))),
}
_LISTS = ("whitelist-source-range", "denylist-source-range")
_TUNING_OPTIONS = {name: (field, parse) for name, parse, _, field in TUNING if not name.startswith("enable")}


def read_options(data: Mapping[str, str]) -> tuple[Options, tuple[str, ...]]:
    """The options, and a sentence for each value that is not understood or has no effect; sorted."""
    options, problems = Options(), []
    found: dict[str, Any] = {}
    tuning: dict[str, Any] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name, text in sorted(data.items()):
        target, (field, parse) = (
            (found, OPTIONS[name]) if name in OPTIONS else (tuning, _TUNING_OPTIONS.get(name, ("", None)))
        )
        if name in _LISTS:
            try:
                lists[name] = cidrs(text)
            except ValueError as error:
                # Whom to let in cannot be read: nobody but this machine, rather than everybody.
                lists[name] = ("127.0.0.1/32",) if name.startswith("white") else ("0.0.0.0/0", "::/0")
                problems.append(f"{name}: {error}; everybody is kept out")
            continue
        if parse is None:
            problems.append(f"{name[:80]} has no effect in lbcore")
            continue
        try:
            target[field] = parse(text.strip())
        except ValueError as error:
            problems.append(f"{name[:80]}: {error}")
    for name, field in (("whitelist-source-range", "allow"), ("denylist-source-range", "deny")):
        if name in lists:
            found["access"] = evolve(found.get("access", options.access), **{field: lists[name]})
    return evolve(options, **found, tuning=evolve(options.tuning, **tuning)), tuple(dict.fromkeys(problems))

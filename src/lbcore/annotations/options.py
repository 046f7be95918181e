"""The controller's own ConfigMap -> `Options`. One bad value costs its own key, which keeps its default."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from lbcore.annotations.access import ACCESS, external_auth
from lbcore.annotations.log_lines import log_form, log_parameters, log_path, stream_form
from lbcore.annotations.passing import TUNING
from lbcore.annotations.rules import Values
from lbcore.annotations.scalars import (
    absolute_path,
    choice,
    cidrs,
    ciphers,
    codes,
    flag,
    header_name,
    integer,
    listed,
    object_key,
    pattern,
    size,
    words,
)
from lbcore.proxy import AccessLog, Balance, Blocked, ExternalAuth, Options, StreamOptions

__all__ = ["NAMES", "OPTIONS", "read_options"]

_PREFIXES = listed(lambda text: text if text.startswith("/") else _not_a_path())


def _not_a_path() -> str:
    raise ValueError("write paths that begin with /")


def _time(text: str) -> int:
    """Seconds, as `600s`, `10m`, `1h` or a number."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd]?)", text)
    seconds = int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0
    if not 0 < seconds <= 1 << 30:
        raise ValueError("write a time such as 600s, 10m or 1h")
    return seconds


def _access_log(given: dict[str, Any], default: AccessLog) -> AccessLog:
    escape = "none" if given.pop("none", False) else "default"
    escape = "json" if given.pop("json", False) else escape
    off = [bool(given.pop(name, False)) for name in ("off", "http_off")]
    if "http_path" in given:
        given["path"] = given.pop("http_path")
    return evolve(default, **given, escape=escape, off=any(off))


def _streams(given: dict[str, Any], log: dict[str, Any], http: dict[str, Any]) -> StreamOptions:
    """What counts for both logs counts for that of streams, too."""
    off = bool(log.pop("stream_off", False)) or bool(http.get("off", False))
    shared = {name: http[name] for name in ("path", "parameters") if name in http}
    return StreamOptions(**given, log=AccessLog(**shared | log, off=off))


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"write {what}")
        return text

    return read


_media_type = _matching(r"[A-Za-z0-9.+-]{1,60}/[A-Za-z0-9.+-]{1,90}|\*", "types such as text/html")


def _seconds(text: str) -> tuple[str, ...]:
    return (f"{integer(1, 86400)(text)}s",)


def _bytes(text: str, least: int = 1, most: int = 1 << 30) -> tuple[str, ...]:
    found = size(text)
    if not least <= found.bytes <= most:
        raise ValueError(f"write a size such as 64k, from {least} to {most} bytes")
    return (str(found),)


def _cache(text: str) -> str:
    return f"shared:lbcore:{_bytes(text, 1 << 16)[0]}"  # nginx takes eight pages and more


def _buffers(text: str) -> tuple[str, ...]:
    number, _, each = text.partition(" ")
    return (str(integer(1, 1024)(number)), *_bytes(each.strip(), 512))  # a connection's own memory, at least


def _ciphers(text: str) -> str:
    """As the annotation of that name has it, and with what only an operator may say of OpenSSL's security level."""
    ciphers(re.sub(r":?@(?:STRENGTH|SECLEVEL=[0-5])(?=:|$)", "", text))
    return text


# nginx refuses everything where OpenSSL does not know one of them.
_CURVE = "X25519|X448|P-256|P-384|P-521|prime256v1|secp384r1|secp521r1"


def _ticket_key(text: str) -> bytes:
    """What is wrong with it is said without it: it is a secret."""
    try:
        found = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        found = b""
    if len(found) not in {48, 80}:
        raise ValueError("write 48 or 80 bytes in base64")
    return found


def _client_text(text: str) -> str:
    """What a client says of itself, or a pattern of it after `~` (letters' case counts) or `~*`."""
    if len(text) > 500 or not re.fullmatch(r"[ -~]+", text):
        raise ValueError(f"{text[:60]!r} is no text; write printable ASCII, up to 500 characters")
    if text.startswith("~"):
        mark = "~*" if text.startswith("~*") else "~"
        return mark + pattern(text.removeprefix(mark)).text
    return text


def _client_texts(text: str) -> tuple[str, ...]:
    """Each once: nginx compares them without letters' case, but for patterns."""
    found = listed(_client_text, 1000)(text)
    return tuple({each if each.startswith("~") else each.lower(): each for each in found}.values())


def _as_named(
    parsers: Mapping[str, Callable[[str], tuple[str, ...]]],
) -> Mapping[str, tuple[str, Callable[[str], tuple[str, ...]]]]:
    """The same with each key as its field: nginx has a directive of that name."""
    return {name: (name, parse) for name, parse in parsers.items()}


OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "ssl-redirect": ("ssl_redirect", flag),
    "force-ssl-redirect": ("force_ssl_redirect", flag),
    "preserve-trailing-slash": ("preserve_trailing_slash", flag),
    "relative-redirects": ("relative_redirects", flag),
    "http-redirect-code": ("redirect_code", lambda text: int(choice("301", "302", "307", "308")(text))),
    "no-tls-redirect-locations": ("no_tls_redirect", _PREFIXES),
    "no-auth-locations": ("no_auth", _PREFIXES),
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
    "error-log-level": ("error_level", choice("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")),
    "worker-processes": ("workers", lambda text: 0 if text == "auto" else integer(1, 1024)(text)),
    "max-worker-connections": ("connections", integer(64, 1 << 20)),
    "worker-shutdown-timeout": ("shutdown_timeout", lambda text: integer(0, 86400)(text.removesuffix("s"))),
    "proxy-set-headers": ("sent_from", object_key(None)),
    "add-headers": ("added_from", object_key(None)),
    "hide-headers": ("hidden", listed(header_name)),
    "ssl-dh-param": ("dh_param_from", object_key(None)),
    "ssl-session-ticket-key": ("ticket_key", _ticket_key),
    "allow-cross-namespace-resources": ("cross_namespace", flag),
    "allow-snippet-annotations": ("snippets", flag),
    "lbcore-exact-in-regex-hosts": ("exact_in_regex_hosts", flag),
    "global-allowed-response-headers": ("allowed_response_headers", lambda text: frozenset(listed(header_name)(text))),
}
_LOG: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "log-format-upstream": ("form", log_form),
    "log-format-escape-json": ("json", flag),
    "log-format-escape-none": ("none", flag),
    "access-log-path": ("path", log_path),
    "http-access-log-path": ("http_path", log_path),
    "access-log-params": ("parameters", log_parameters),
    "disable-access-log": ("off", flag),
    "disable-http-access-log": ("http_off", flag),
    "enable-access-log-for-default-backend": ("of_default_backend", flag),
    "skip-access-log-urls": ("skipped", listed(absolute_path, 200)),
}
_STREAMS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "proxy-stream-timeout": ("timeout", _time),
    "proxy-stream-responses": ("responses", integer(0, 1000)),
    "proxy-stream-next-upstream": ("next_upstream", flag),
    "proxy-stream-next-upstream-timeout": ("next_timeout", _time),
    "proxy-stream-next-upstream-tries": ("next_tries", integer(0, 1000)),
}
_STREAM_LOG: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "log-format-stream": ("form", stream_form),
    "stream-access-log-path": ("path", log_path),
    "disable-stream-access-log": ("stream_off", flag),
}
_SWITCHES: Mapping[str, tuple[str, Callable[[str], tuple[str, ...]]]] = _as_named(
    {
        "client-header-timeout": _seconds,
        "client-body-timeout": _seconds,
        "client-header-buffer-size": _bytes,
        "large-client-header-buffers": _buffers,
        "http2-max-concurrent-streams": lambda text: (str(integer(1, 1 << 16)(text)),),
        "ignore-invalid-headers": lambda text: ("on" if flag(text) else "off",),
        "default-type": lambda text: (_media_type(text),),
        "ssl-session-cache-size": lambda text: (_cache(text),),
        "ssl-session-timeout": lambda text: (_matching(r"[0-9]{1,6}[smhd]?", "a time such as 10m")(text),),
        "ssl-session-tickets": lambda text: ("on" if flag(text) else "off",),
        "ssl-buffer-size": _bytes,
        "ssl-ecdh-curve": lambda text: (
            _matching(rf"auto|(?:{_CURVE})(?::(?:{_CURVE}))*", "auto, or curves such as X25519:P-256")(text),
        ),
        "ssl-early-data": lambda text: ("on" if flag(text) else "off",),
        "gzip-level": lambda text: (str(integer(1, 9)(text)),),
        "gzip-min-length": lambda text: (str(integer(0, 1 << 30)(text)),),
        "gzip-types": lambda text: tuple(dict.fromkeys(map(_media_type, text.split()))),
    }
)
_BLOCKED: Mapping[str, tuple[str, Callable[[str], tuple[str, ...]]]] = {
    "block-cidrs": ("cidrs", cidrs),
    "block-user-agents": ("agents", _client_texts),
    "block-referers": ("referers", _client_texts),
}
_LISTS = {
    "whitelist-source-range": ("allow", ("127.0.0.1/32",)),
    "denylist-source-range": ("deny", ("0.0.0.0/0", "::/0")),
}
_TUNING_OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    name: (field, parse) for name, parse, _, field in TUNING if not name.startswith(("enable", "proxy-redirect"))
}
_GLOBAL = {f"global-{rule.name}": rule for rule in ACCESS.rules if rule.name in {
    "auth-url", "auth-method", "auth-signin", "auth-signin-redirect-param", "auth-response-headers",
    "auth-request-redirect", "auth-always-set-cookie", "auth-cache-key", "auth-cache-duration",
}}  # fmt: skip

# What else is lost with what has no effect.
_LOST = {
    **dict.fromkeys(
        ("http-snippet", "server-snippet", "location-snippet"),
        ": text in nginx's own language is never taken; if this keeps somebody out, nothing does now",
    ),
    **dict.fromkeys(("main-snippet", "stream-snippet"), ": text in nginx's own language is never taken"),
    **dict.fromkeys(
        ("enable-modsecurity", "enable-owasp-modsecurity-crs", "modsecurity-snippet"),
        ": there is no such firewall here; whom it keeps out is let in",
    ),
}
# Every key that means something.
NAMES = frozenset(
    {*OPTIONS, *_LOG, *_STREAMS, *_STREAM_LOG, *_SWITCHES, *_LISTS, *_BLOCKED, *_TUNING_OPTIONS, *_GLOBAL}
)


def _global_auth(data: Mapping[str, str]) -> tuple[ExternalAuth | None, str]:
    """The service that is asked for all requests, and why it cannot be: then nobody is let in."""
    parsed: dict[str, object] = {}
    for name, text in sorted(data.items()):
        if name not in _GLOBAL or not text.strip():
            continue
        try:
            parsed[_GLOBAL[name].name] = _GLOBAL[name].parse(text.strip())
        except ValueError as error:
            return None, f"{name}: {error}"
    return external_auth(Values("", parsed)), ""


def _blocked(data: Mapping[str, str]) -> tuple[Blocked, list[str]]:
    """Whom nobody serves: everybody, if that cannot be read."""
    found: dict[str, Any] = {}
    problems = []
    for name, (field, read) in _BLOCKED.items():
        if not data.get(name, "").strip():
            continue
        try:
            found[field] = read(data[name])
        except ValueError as error:
            found["everybody"] = True
            problems.append(f"{name}: {error}; everybody is kept out")
    return Blocked(**found), problems


def _lists(data: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Whom `access` lets in and keeps out: nobody but this machine, and everybody, if that cannot be read."""
    found: dict[str, Any] = {}
    problems = []
    for name, (field, otherwise) in _LISTS.items():
        if name not in data:
            continue
        try:
            found[field] = cidrs(data[name])
        except ValueError as error:
            found[field] = otherwise
            problems.append(f"{name}: {error}; everybody is kept out")
    return found, problems


def _values(
    data: Mapping[str, str], table: Mapping[str, tuple[str, Callable[[str], object]]]
) -> tuple[dict[str, Any], list[str]]:
    """What a table's keys hold, by its fields."""
    found: dict[str, Any] = {}
    problems = []
    for name in sorted(set(data) & set(table)):
        field, parse = table[name]
        try:
            found[field] = parse(data[name].strip())
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return found, problems


def read_options(data: Mapping[str, str]) -> tuple[Options, tuple[str, ...]]:
    """The options, and a sentence for each value that is not understood or has no effect; sorted."""
    options = Options()
    service, denied = _global_auth(data)
    (blocked, problems), (lists, bad) = _blocked(data), _lists(data)
    problems += bad
    problems += [f"{denied}; nobody is let in"] if denied else []
    problems += [f"{name[:80]} has no effect in lbcore{_LOST.get(name, '')}" for name in set(data) - NAMES]
    read = [_values(data, table) for table in (OPTIONS, _TUNING_OPTIONS, _LOG, _STREAMS, _STREAM_LOG)]
    (found, tuning, log, streams, stream_log), said = zip(*read, strict=True)
    switches, bad = _values(data, _SWITCHES)
    problems += [*bad, *(each for some in said for each in some)]
    if lists:
        found["access"] = evolve(options.access, **lists)
    if switches:
        found["switches"] = tuple(switches.items())
    if streams or stream_log or log:
        found["streams"] = _streams(streams, stream_log, log)
    if log:
        found["log"] = _access_log(log, options.log)
    made = evolve(
        options,
        **found,
        tuning=evolve(options.tuning, **tuning),
        blocked=blocked,
        global_auth=service,
        global_denied=denied,
    )
    return made, tuple(sorted(set(problems)))

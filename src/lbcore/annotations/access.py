"""Who may: passwords, an authentication service, client certificates, address lists, rates, other origins.

Every bad value here denies: a list that cannot be read is not an open door.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from attrs import evolve

from lbcore.annotations.rules import Bad, Group, Rule, Values
from lbcore.annotations.scalars import (
    REFLECTED_VARIABLES,
    URL_CHARACTERS,
    choice,
    cidrs,
    flag,
    header_name,
    host_name,
    integer,
    listed,
    object_key,
    pattern,
    redirect_target,
    template,
    token,
    url,
)
from lbcore.ingress import ObjectKey
from lbcore.proxy import (
    AccessLists,
    BasicAuth,
    ClientCertificates,
    Cors,
    ExternalAuth,
    Policies,
    RateLimit,
    Template,
    Url,
    Variable,
    Verify,
)

__all__ = ["ACCESS", "external_auth"]

_MOST_CONNECTIONS = 65535  # nginx refuses to count further
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")
# RFC 4918, RFC 3253, RFC 3744, RFC 4791, RFC 5323.
_WEBDAV = ("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "ACL", "MKCALENDAR", "SEARCH")


def _realm(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9 ._~/:-]{0,200}", text):
        raise ValueError("write letters, digits, spaces and -._~/:")
    return text


def _subject(text: str) -> str:
    """`CN=` and a pattern, that is looked for in a subject's name."""
    if not text.startswith("CN="):
        raise ValueError("write CN= and a pattern")
    return pattern(text).text


def _origin(text: str) -> str:
    found = re.fullmatch(r"([a-z][a-z0-9+.-]{0,20})://((?:\*\.)?)([^:/]+)(?::([0-9]{1,5}))?", text)
    if not found or (found[4] and not 0 < int(found[4]) < 65536):
        raise ValueError(f"{text[:60]!r} is no origin; write https://shop.example or https://*.shop.example")
    host_name(found[3])
    return text.lower()


def _origins(text: str) -> tuple[str, ...] | None:
    """None is everybody."""
    found = listed(lambda part: part if part == "*" else _origin(part), 200)(text)
    return None if "*" in found else found


def _or_usual(one: Callable[[str], str], usual: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A list, of which `*` is what is usual: with credentials, which are allowed by default, browsers take it for a
    name (Fetch, 3.2.2).
    """
    return lambda text: usual if text == "*" else listed(one)(text)


def _cache_key(text: str) -> Template:
    found = template(REFLECTED_VARIABLES, r" !#-~", of_request=True)(text)
    if not any(isinstance(part, Variable) for part in found):
        raise ValueError("write what tells clients apart, such as $remote_addr$http_authorization")
    return found


def _cache_times(text: str) -> tuple[tuple[str, ...], ...]:
    """Codes and a time each, with commas: `200 202 10m, 401 1m`."""

    def one(part: str) -> tuple[str, ...]:
        *codes, time = part.split()
        if not all(re.fullmatch(r"[1-5][0-9]{2}|any", code) for code in codes) or not re.fullmatch(
            r"[0-9]{1,6}[smhdw]?", time
        ):
            raise ValueError(f"{part[:60]!r} is no codes and a time, such as 200 202 10m")
        return (*codes, time)

    return listed(one, 20)(text)


def _deny(name: str, parse: object, tier: str, *aliases: str) -> Rule:
    return Rule(name=name, parse=parse, tier=tier, bad=Bad.DENIED, aliases=aliases)  # type: ignore[arg-type]


RULES = (
    _deny("auth-type", choice("basic"), "1A"),
    _deny("auth-secret", object_key(""), "1A"),
    _deny("auth-secret-type", choice("auth-file", "auth-map"), "1B"),
    _deny("auth-realm", _realm, "1A"),
    _deny("auth-url", url, "1A"),
    _deny("auth-method", choice(*_METHODS), "1B"),
    _deny("auth-signin", redirect_target, "1A"),
    _deny("auth-signin-redirect-param", token, "1B"),
    _deny("auth-response-headers", listed(header_name), "1A"),
    _deny("auth-request-redirect", template(REFLECTED_VARIABLES, URL_CHARACTERS, of_request=True), "2"),
    _deny("auth-always-set-cookie", flag, "2"),
    _deny("auth-proxy-set-headers", object_key(""), "2"),
    _deny("auth-cache-key", _cache_key, "2"),
    _deny("auth-cache-duration", _cache_times, "2"),
    _deny("enable-global-auth", flag, "2"),
    _deny("auth-tls-secret", object_key(None), "1A"),
    _deny("auth-tls-verify-client", choice(*(each.value for each in Verify)), "1B"),
    _deny("auth-tls-verify-depth", integer(1, 20), "1B"),
    _deny("auth-tls-pass-certificate-to-upstream", flag, "1B"),
    _deny("auth-tls-match-cn", _subject, "2"),
    _deny("auth-tls-error-page", redirect_target, "2"),
    _deny("allowlist-source-range", cidrs, "1A", "whitelist-source-range"),
    _deny("denylist-source-range", cidrs, "1B"),
    _deny("satisfy", choice("any", "all"), "2"),
    _deny("limit-rps", integer(0, 1_000_000), "1A"),
    _deny("limit-rpm", integer(0, 1_000_000), "1A"),
    _deny("limit-connections", lambda text: min(integer(0, 1_000_000)(text), _MOST_CONNECTIONS), "1A"),
    _deny("limit-burst-multiplier", integer(1, 1000), "1B"),
    _deny("limit-allowlist", cidrs, "2", "limit-whitelist"),
    _deny("enable-cors", flag, "1A"),
    _deny("cors-allow-origin", _origins, "1A"),
    _deny("cors-allow-methods", _or_usual(choice(*_METHODS, *_WEBDAV, fold=True), Cors().methods), "1A"),
    _deny("cors-allow-headers", _or_usual(header_name, Cors().headers), "1A"),
    _deny("cors-expose-headers", listed(lambda part: part if part == "*" else header_name(part)), "1B"),
    _deny("cors-allow-credentials", flag, "1A"),
    Rule(name="cors-max-age", parse=integer(0, 1 << 30), tier="1B"),
)


def _apply(values: Values, policies: Policies) -> Policies:
    access = values.into(policies.access, allow="allowlist-source-range", deny="denylist-source-range")
    return evolve(
        policies,
        access=evolve(cast(AccessLists, access), any_is_enough=values.get("satisfy") == "any"),
        basic_auth=_basic(values),
        external_auth=external_auth(values),
        no_global_auth=values.get("enable-global-auth") is False,
        client_certificates=_certificates(values),
        rate_limit=_rate(values),
        cors=_cors(values),
    )


def _basic(values: Values) -> BasicAuth | None:
    if values.get("auth-type") is None:
        return None
    secret = cast("ObjectKey | None", values.get("auth-secret"))
    if secret is None:
        raise ValueError("auth-type needs auth-secret: name the Secret that holds the passwords")
    return BasicAuth(
        secret=ObjectKey(secret.namespace or values.namespace, secret.name),
        by_user=values.get("auth-secret-type") == "auth-map",
        realm=cast("str | None", values.get("auth-realm")) or "",
    )


def external_auth(values: Values) -> ExternalAuth | None:
    """The authentication service, if there is one."""
    asked = values.get("auth-url")
    if asked is None:
        return None
    auth = values.into(
        ExternalAuth(url=cast(Url, asked)),
        method="auth-method",
        signin="auth-signin",
        signin_parameter="auth-signin-redirect-param",
        response_headers="auth-response-headers",
        request_redirect="auth-request-redirect",
        always_set_cookie="auth-always-set-cookie",
        cache_key="auth-cache-key",
        cache_times="auth-cache-duration",
    )
    headers = cast("ObjectKey | None", values.get("auth-proxy-set-headers"))
    if headers is not None:
        headers = ObjectKey(headers.namespace or values.namespace, headers.name)
    signin = cast("Template | None", values.get("auth-signin")) or ()
    return evolve(
        cast(ExternalAuth, auth),
        signin_has_query=any(isinstance(each, str) and "?" in each for each in signin),
        headers_from=headers,
    )


def _certificates(values: Values) -> ClientCertificates | None:
    secret = cast("ObjectKey | None", values.get("auth-tls-secret"))
    if secret is None:
        if "auth-tls-match-cn" in values:
            raise ValueError("auth-tls-match-cn needs auth-tls-secret: name the Secret with the authorities")
        return None
    verify = cast("str | None", values.get("auth-tls-verify-client"))
    found = values.into(
        ClientCertificates(secret=secret, verify=Verify(verify or "on")),
        depth="auth-tls-verify-depth",
        pass_on="auth-tls-pass-certificate-to-upstream",  # noqa: S106 - an annotation's name
        match="auth-tls-match-cn",
        error_page="auth-tls-error-page",
    )
    return cast(ClientCertificates, found)


def _rate(values: Values) -> RateLimit | None:
    limit = values.into(
        RateLimit(),
        rps="limit-rps",
        rpm="limit-rpm",
        connections="limit-connections",
        burst="limit-burst-multiplier",
        exempt="limit-allowlist",
    )
    found = cast(RateLimit, limit)
    return found if found.rps or found.rpm or found.connections else None


def _cors(values: Values) -> Cors | None:
    if values.get("enable-cors") is not True:
        return None
    cors = values.into(
        Cors(),
        origins="cors-allow-origin",
        methods="cors-allow-methods",
        headers="cors-allow-headers",
        expose="cors-expose-headers",
        credentials="cors-allow-credentials",
        max_age="cors-max-age",
    )
    return cast(Cors, cors)


ACCESS = Group(RULES, _apply)

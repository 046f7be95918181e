"""Sticky sessions, canaries, error pages, aliases, and what concerns a whole host."""

from __future__ import annotations

import re
from typing import cast

from attrs import evolve

from lbcore.annotations.rules import Bad, Group, Rule, Values
from lbcore.annotations.scalars import (
    absolute_path,
    choice,
    ciphers,
    codes,
    flag,
    header_name,
    header_value,
    host_name,
    integer,
    listed,
    object_key,
    pattern,
    token,
)
from lbcore.ingress import ObjectKey
from lbcore.patterns import Pattern
from lbcore.proxy import Affinity, CanaryRule, CustomErrors, Policies

__all__ = ["SESSIONS"]

_SERVICE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def _service(text: str) -> str:
    if not _SERVICE.fullmatch(text):
        raise ValueError("write the name of a Service in the same namespace")
    return text


def _alias(text: str) -> str:
    return "*." + host_name(text[2:]) if text.startswith("*.") else host_name(text)


def _header_pattern(text: str) -> Pattern:
    return pattern(text)


RULES = (
    Rule(name="affinity", parse=choice("cookie"), tier="1A"),
    Rule(name="affinity-mode", parse=choice("balanced", "persistent"), tier="1B"),
    Rule(name="session-cookie-name", parse=header_name, tier="1A"),
    Rule(name="session-cookie-expires", parse=integer(0, 1 << 31), tier="1A"),
    Rule(name="session-cookie-max-age", parse=integer(0, 1 << 31), tier="1A"),
    Rule(name="session-cookie-path", parse=lambda text: absolute_path(text).partition(";")[0], tier="1B"),
    Rule(name="session-cookie-domain", parse=host_name, tier="2"),
    Rule(name="session-cookie-samesite", parse=choice("None", "Lax", "Strict"), tier="1B"),
    Rule(name="session-cookie-secure", parse=flag, tier="1B"),
    Rule(name="session-cookie-change-on-failure", parse=flag, tier="2"),
    Rule(name="session-cookie-conditional-samesite-none", parse=flag, tier="3"),
    Rule(name="affinity-canary-behavior", parse=choice("sticky", "legacy"), tier="2"),
    Rule(name="canary", parse=flag, tier="1A", bad=Bad.DENIED),
    Rule(name="canary-weight", parse=integer(0, 1_000_000), tier="1A"),
    Rule(name="canary-weight-total", parse=integer(1, 1_000_000), tier="1B"),
    Rule(name="canary-by-header", parse=header_name, tier="1A"),
    Rule(name="canary-by-header-value", parse=header_value, tier="1A"),
    Rule(name="canary-by-header-pattern", parse=_header_pattern, tier="2"),
    Rule(name="canary-by-cookie", parse=token, tier="1B"),
    Rule(name="custom-http-errors", parse=codes(400, 599), tier="1A"),
    Rule(name="default-backend", parse=_service, tier="1A"),
    Rule(name="custom-headers", parse=object_key(""), tier="2", bad=Bad.DENIED),
    Rule(name="server-alias", parse=listed(_alias, 100), tier="1A"),
    Rule(name="ssl-ciphers", parse=ciphers, tier="2"),
    Rule(name="ssl-prefer-server-ciphers", parse=flag, tier="2"),
)


def _apply(values: Values, policies: Policies) -> Policies:
    headers = cast("ObjectKey | None", values.get("custom-headers"))
    errors = values.into(CustomErrors(), codes="custom-http-errors", service="default-backend")
    return evolve(
        policies,
        affinity=_affinity(values),
        canary=_canary(values),
        errors=cast(CustomErrors, errors),
        aliases=cast("tuple[str, ...]", values.get("server-alias") or ()),
        response_headers=ObjectKey(headers.namespace or values.namespace, headers.name) if headers else None,
        ciphers=cast("str | None", values.get("ssl-ciphers")),
        prefer_server_ciphers=cast("bool | None", values.get("ssl-prefer-server-ciphers")),
    )


def _affinity(values: Values) -> Affinity | None:
    if values.get("affinity") is None:
        return None
    affinity = values.into(
        Affinity(
            persistent=values.get("affinity-mode") == "persistent",
            with_canary=values.get("affinity-canary-behavior") != "legacy",
        ),
        name="session-cookie-name",
        expires="session-cookie-expires",
        max_age="session-cookie-max-age",
        path="session-cookie-path",
        domain="session-cookie-domain",
        same_site="session-cookie-samesite",
        secure="session-cookie-secure",
        change_on_failure="session-cookie-change-on-failure",
        old_browsers="session-cookie-conditional-samesite-none",
    )
    return cast(Affinity, affinity)


def _canary(values: Values) -> CanaryRule | None:
    if values.get("canary") is not True:
        return None
    rule = values.into(
        CanaryRule(),
        weight="canary-weight",
        header="canary-by-header",
        header_value="canary-by-header-value",
        cookie="canary-by-cookie",
    )
    pattern_ = cast("Pattern | None", values.get("canary-by-header-pattern"))
    total = cast("int | None", values.get("canary-weight-total")) or 100
    return evolve(
        cast(CanaryRule, rule),
        total=max(100, total),
        header_pattern=pattern_.text if pattern_ is not None else None,
        sticky=values.get("affinity-canary-behavior") != "legacy",
    )


SESSIONS = Group(RULES, _apply)

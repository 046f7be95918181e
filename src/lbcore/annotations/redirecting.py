"""Rewrites and redirects: `rewrite-target`, `use-regex`, `app-root`, `ssl-redirect` and their like."""

from __future__ import annotations

from typing import cast

from attrs import evolve

from lbcore.annotations.rules import Bad, Group, Rule, Values
from lbcore.annotations.scalars import CAPTURES, absolute_path, flag, integer, redirect_target, template
from lbcore.proxy import Policies, Redirect, Redirects, Rewrite, Template

__all__ = ["REDIRECTING"]

# A rewrite with a question mark is the shape of CVE-2026-42945, so the characters are ingress-nginx's.
_TARGET = template(CAPTURES, r"A-Za-z0-9._~/:-")


def _code(default: int, highest: int) -> Rule:
    name = "permanent-redirect-code" if default == 301 else "temporal-redirect-code"
    return Rule(name=name, parse=integer(300, highest), tier="1B")


RULES = (
    Rule(name="rewrite-target", parse=_TARGET, tier="1A", bad=Bad.DENIED),
    Rule(name="use-regex", parse=flag, tier="1A"),
    Rule(name="app-root", parse=absolute_path, tier="1A"),
    Rule(name="x-forwarded-prefix", parse=_TARGET, tier="1B"),
    Rule(name="ssl-redirect", parse=flag, tier="1A"),
    Rule(name="force-ssl-redirect", parse=flag, tier="1A"),
    Rule(name="preserve-trailing-slash", parse=flag, tier="2"),
    Rule(name="permanent-redirect", parse=redirect_target, tier="1A", bad=Bad.DENIED),
    _code(301, 308),
    Rule(name="temporal-redirect", parse=redirect_target, tier="1B", bad=Bad.DENIED),
    _code(302, 307),
    Rule(name="from-to-www-redirect", parse=flag, tier="1A"),
    Rule(name="relative-redirects", parse=flag, tier="2"),
)


def _apply(values: Values, policies: Policies) -> Policies:
    rewrite = values.into(
        policies.rewrite,
        target="rewrite-target",
        use_regex="use-regex",
        app_root="app-root",
        forwarded_prefix="x-forwarded-prefix",
    )
    redirects = values.into(
        evolve(policies.redirects, fixed=_fixed(values)),
        ssl="ssl-redirect",
        force_ssl="force-ssl-redirect",
        preserve_slash="preserve-trailing-slash",
        www="from-to-www-redirect",
        relative="relative-redirects",
    )
    return evolve(policies, rewrite=cast(Rewrite, rewrite), redirects=cast(Redirects, redirects))


def _fixed(values: Values) -> Redirect | None:
    """The temporal redirect wins over the permanent one."""
    for kind, default in (("temporal", 302), ("permanent", 301)):
        to = values.get(f"{kind}-redirect")
        if to is not None:
            code = values.get(f"{kind}-redirect-code")
            return Redirect(to=cast(Template, to), code=code if isinstance(code, int) else default)
    return None


REDIRECTING = Group(RULES, _apply)

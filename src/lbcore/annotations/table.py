"""All annotations: those that are supported, and a word about each that is not. One Ingress's texts -> its `Policies`.

Nothing is ignored silently: whatever has the prefix and no effect becomes a `Finding`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import evolve

from lbcore.annotations.access import ACCESS
from lbcore.annotations.passing import PASSING
from lbcore.annotations.redirecting import REDIRECTING
from lbcore.annotations.rules import Bad, Finding, Rule, State, Values
from lbcore.annotations.sessions import SESSIONS
from lbcore.annotations.snippets import LISTED, keeps_out, read_snippet
from lbcore.proxy import Policies

__all__ = ["NOT_SUPPORTED", "OBSOLETE", "PARTS", "PREFIX", "RULES", "SERVER", "SNIPPET", "SWITCH", "read"]

PREFIX = "nginx.ingress.kubernetes.io"

GROUPS = (REDIRECTING, PASSING, ACCESS, SESSIONS)
RULES: Mapping[str, Rule] = {rule.name: rule for group in GROUPS for rule in group.rules}
_BY_ALIAS = {alias: rule for rule in RULES.values() for alias in rule.aliases}

SNIPPET, SERVER, SWITCH = "configuration-snippet", "server-snippet", "allow-snippet-annotations"
_SNIPPET = "text in nginx's own language is never taken"
_LISTED = f"never taken but for {', '.join(LISTED)}, and these where the ConfigMap says {SWITCH}"
_CLOSED = "not yet: an access control, so the Ingress is not served without it"
REFUSED = {
    SNIPPET: _LISTED,
    **dict.fromkeys((SERVER, "stream-snippet", "auth-snippet", "modsecurity-snippet"), _SNIPPET),
}
# What protects and is not there may not be passed over: these deny, as a bad value does.
PROTECTING = dict.fromkeys(("enable-modsecurity", "enable-owasp-core-rules"), _CLOSED)
NOT_SUPPORTED: Mapping[str, str] = {
    **REFUSED,
    **PROTECTING,
    **dict.fromkeys(
        ("auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout", "auth-keepalive-share-vars"),
        "each question to the authentication service has a connection of its own",
    ),
    **dict.fromkeys(("mirror-target", "mirror-host", "mirror-request-body"), "requests are not mirrored"),
    **dict.fromkeys(
        ("enable-opentelemetry", "opentelemetry-trust-incoming-span", "opentelemetry-operation-name",
         "modsecurity-transaction-id"),
        "needs a module that Debian's nginx does not have",
    ),
    **dict.fromkeys(("upstream-hash-by-subset", "upstream-hash-by-subset-size"), "all peers are used"),
    **dict.fromkeys(
        ("use-port-in-redirects", "enable-rewrite-log",
         "disable-proxy-intercept-errors"),
        "not yet",
    ),
    "ssl-passthrough": "not yet: TLS ends here, and the backend is asked as backend-protocol says",
    "http2-push-preload": "nginx no longer pushes",
}  # fmt: skip
# What is supported and does not mean quite the same.
PARTS: Mapping[str, str] = {
    "upstream-hash-by": "by another hash: a key may have another backend than with ingress-nginx",
}
_AFTER_COMMA = re.compile(r",[ \t]*\r?\n[ \t]*")  # where a list may go on in the next line, as YAML's | makes it
OBSOLETE = frozenset(
    {"secure-backends", "add-base-url", "grpc-backend", "session-cookie-hash", "secure-verify-ca-secret", "mirror-uri",
     "enable-influxdb", "enable-opentracing"}
)  # fmt: skip
# Where ingress-nginx has taken it, which it does where the ConfigMap says so.
_BARRED = Finding(
    annotation=SERVER,
    state=State.DENIED,
    message=f"{_SNIPPET}, and this may have kept somebody out; close the path by an Ingress of its own with "
    "denylist-source-range 0.0.0.0/0,::/0, and take the snippet out",
)


def read(
    annotations: Mapping[str, str], namespace: str, prefix: str = PREFIX, *, snippets: bool = False
) -> tuple[Policies, tuple[Finding, ...]]:
    """The policies that the annotations of an Ingress in a namespace ask for, and what became of each annotation.

    Findings are sorted by name. With one bad value of an access control `Policies.denied` says which. `snippets`:
    what is in the closed list of a snippet is taken.
    """
    ours = {
        name[len(prefix) + 1 :]: text.strip() for name, text in annotations.items() if name.startswith(prefix + "/")
    }
    parsed: dict[str, object] = {}
    findings = [
        _snippet(text, snippets) if name == SNIPPET
        else _BARRED if name == SERVER and snippets and keeps_out(text)
        else _finding(name, text, ours, parsed)
        for name, text in sorted(ours.items())
    ]  # fmt: skip
    denied = next((f"{each.annotation} {each.message}" for each in findings if each.state is State.DENIED), "")
    policies = Policies()
    if snippets and SNIPPET in ours:
        policies = evolve(policies, snippet=read_snippet(ours[SNIPPET]).snippet)
    values = Values(namespace, parsed)
    for group in GROUPS:
        try:
            policies = group.apply(values, policies)
        except ValueError as error:
            denied = denied or str(error)
            findings.append(Finding(annotation=str(error).partition(" ")[0], state=State.DENIED, message=str(error)))
    return evolve(policies, denied=denied), tuple(findings)


def _finding(name: str, text: str, ours: Mapping[str, str], parsed: dict[str, object]) -> Finding:
    rule = RULES.get(name) or _BY_ALIAS.get(name)
    if rule is None:
        return _unknown(name)
    if name != rule.name and ours.get(rule.name):
        return Finding(annotation=name, state=State.DROPPED, message=f"{rule.name} is there, too, and counts")
    text = _AFTER_COMMA.sub(", ", text)
    try:
        if not text.isprintable():
            raise ValueError("holds a character that cannot be printed")
        parsed[rule.name] = rule.parse(text)
    except ValueError as error:
        state = State.DENIED if rule.bad is Bad.DENIED else State.DROPPED
        return Finding(annotation=name, state=state, message=str(error))
    return Finding(annotation=name)


def _snippet(text: str, allowed: bool) -> Finding:
    found = read_snippet(text)
    taken, refused = ", ".join(found.taken) or "nothing", ", ".join(found.refused)
    never = f"; never: {refused}" if refused else ""
    if not allowed:
        message = f"the ConfigMap does not say {SWITCH}, by which this would be taken: {taken}{never}"
        return Finding(annotation=SNIPPET, state=State.REFUSED, message=message)
    if not refused:
        return Finding(annotation=SNIPPET)
    message = f"taken: {taken}{never}"
    if found.protects:  # what is left out may have kept somebody out
        return Finding(annotation=SNIPPET, state=State.DENIED, message=message)
    return Finding(annotation=SNIPPET, state=State.PARTIAL if found.taken else State.REFUSED, message=message)


def _unknown(name: str) -> Finding:
    shown = name[:80]
    if name in PROTECTING:
        return Finding(annotation=shown, state=State.DENIED, message=PROTECTING[name])
    if name in REFUSED:
        return Finding(annotation=shown, state=State.REFUSED, message=REFUSED[name])
    if name in NOT_SUPPORTED:
        return Finding(annotation=shown, state=State.UNSUPPORTED, message=NOT_SUPPORTED[name])
    if name in OBSOLETE:
        return Finding(annotation=shown, state=State.OBSOLETE, message="ingress-nginx took it away long ago")
    return Finding(annotation=shown, state=State.UNKNOWN, message="is no annotation of ingress-nginx")

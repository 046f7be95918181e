"""MetalLB's flags and environment variables, one by one: which the daemons take, and what is said of the others.

A flag that has no effect is taken, so that a manifest needs no edit, and named in the log with the reason. One whose
neglect would leave something less safe than its owner believes is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum
from functools import wraps
from typing import Any

import click
from attrs import frozen

__all__ = ["FLAGS", "Flag", "Use", "metallb_options", "note_ignored", "say_ignored"]

_IGNORED = "lbcore.metallb"  # in click's context


class Use(Enum):
    """What becomes of a flag."""

    SAME = "same"
    NEEDLESS = "always so"
    DIFFERENT = "taken, but"
    IGNORED = "no effect"
    REFUSED = "refused"


@frozen(kw_only=True)
class Flag:
    """A flag or a variable of MetalLB's programs (`on`: which). `note`: what differs, or why it is not taken."""

    name: str
    on: tuple[str, ...] = ("controller", "speaker")
    variable: str = ""
    use: Use = Use.SAME
    note: str = ""
    harmless: tuple[str, ...] = ("", "false")  # values of one that is not taken, of which nothing is said
    switch: bool = False


_ONE, _OTHER = ("controller",), ("speaker",)
_GO = "a profiler of Go programs"
_FRR = "lbcore speaks BGP itself, without FRR"
_NO_ROTATION = "certificates come from helm, cert-manager or you, and are read from --cert-dir"
_SUITES = "which ciphers and curves are spoken is left to OpenSSL: TLS 1.3 has safe ones only"

FLAGS: tuple[Flag, ...] = (
    Flag(
        name="--port",
        use=Use.DIFFERENT,
        note="HTTP without a password, at 127.0.0.1 unless --metrics-host names another address; not at all by default",
    ),
    Flag(name="--health-probe-port", note="not at all by default"),
    Flag(name="--namespace", variable="METALLB_NAMESPACE"),
    Flag(name="--kubeconfig"),
    Flag(name="--lb-class"),
    Flag(name="--log-level"),
    Flag(name="--ignore-exclude-lb", on=_OTHER, switch=True),
    Flag(name="--node-name", on=_OTHER, variable="METALLB_NODE_NAME", note="the host name where it is not given"),
    Flag(
        name="--host",
        on=_OTHER,
        variable="METALLB_HOST",
        use=Use.DIFFERENT,
        note="where /metrics is served, as in MetalLB before 0.16, which has ignored it since",
    ),
    Flag(name="--ml-bindaddr", on=_OTHER, variable="METALLB_ML_BIND_ADDR", note="speakers gossip where it is given"),
    Flag(name="--ml-bindport", on=_OTHER, variable="METALLB_ML_BIND_PORT", note="for gossip"),
    Flag(
        name="--ml-secret-key-path",
        on=_OTHER,
        variable="METALLB_ML_SECRET_KEY_PATH",
        note="for gossip",
    ),
    Flag(name="--ml-wan-config", on=_OTHER, note="for gossip", switch=True),
    Flag(name="--webhook-mode", on=_ONE, use=Use.DIFFERENT, note="disabled by default"),
    Flag(name="--cert-dir", on=_ONE, note="with a webhook"),
    Flag(name="--tls-min-version", on=_ONE, note="of the webhook"),
    Flag(name="--disable-cert-rotation", on=_ONE, use=Use.NEEDLESS, note="there is none", switch=True),
    Flag(
        name="--ml-labels",
        on=_OTHER,
        variable="METALLB_ML_LABELS",
        note="for gossip: where the others are, beside the addresses of Nodes",
    ),
    Flag(name="--ml-secret-name", on=_ONE, variable="METALLB_ML_SECRET_NAME", note="made where it is missing"),
    Flag(name="--deployment", on=_ONE, variable="METALLB_DEPLOYMENT", note="owns that Secret"),
    Flag(name="", variable="METALLB_POD_NAME", note="may be left out"),
    Flag(name="--pod-name", use=Use.IGNORED, note="the variable METALLB_POD_NAME says it"),
    Flag(name="--pprof-bind-address", use=Use.IGNORED, note=_GO),
    Flag(name="--cert-service-name", on=_ONE, use=Use.IGNORED, note=_NO_ROTATION),
    Flag(name="--webhook-secret", on=_ONE, use=Use.IGNORED, note=_NO_ROTATION),
    Flag(name="--webhook-http2", on=_ONE, use=Use.IGNORED, note="the webhook speaks HTTP/1.1", switch=True),
    Flag(name="--frrk8s-namespace", on=_OTHER, variable="FRRK8S_NAMESPACE", use=Use.IGNORED, note=_FRR),
    Flag(name="--frrk8s-secret-passthrough", on=_OTHER, use=Use.IGNORED, note=_FRR, switch=True),
    Flag(name="--bgp-debounce-timeout", on=_OTHER, variable="METALLB_BGP_DEBOUNCE_TIMEOUT", use=Use.IGNORED, note=_FRR),
    Flag(name="", variable="METALLB_BGP_TYPE", use=Use.IGNORED, note=_FRR, harmless=("", "native")),
    Flag(
        name="--metrics-cert-dir",
        use=Use.REFUSED,
        note="/metrics is served without TLS; leave it out, or put a proxy before it",
    ),
    Flag(name="--tls-min-version", on=_OTHER, use=Use.REFUSED, note="a speaker serves nothing by TLS; leave it out"),
    Flag(name="--tls-cipher-suites", use=Use.REFUSED, note=f"{_SUITES}; leave it out"),
    Flag(name="--tls-curve-preferences", use=Use.REFUSED, note=f"{_SUITES}; leave it out"),
)
"""Every flag of MetalLB's controller and speaker, and every variable that they read."""


def metallb_options(*programs: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Lets a command take the flags that it has no use for; `say_ignored` names them."""
    strange = [each for each in FLAGS if each.use in (Use.IGNORED, Use.REFUSED) and set(each.on) & set(programs)]
    silent = [each for each in FLAGS if each.use is Use.NEEDLESS and set(each.on) & set(programs)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def inner(**values: Any) -> Any:
            given = {each.name: values.pop(_parameter(each), None) for each in (*strange, *silent) if each.name}
            for line in _without_effect(strange, given, os.environ):
                note_ignored(line)
            return command(**values)

        decorated: Callable[..., Any] = inner
        for each in (*strange, *silent):
            if each.name:
                decorated = _option(each)(decorated)
        return decorated

    return decorate


def _parameter(flag: Flag) -> str:
    return "metallb_" + flag.name.lstrip("-").replace("-", "_")


def _option(flag: Flag) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    about = f"MetalLB's; {flag.use.value}: {flag.note}."
    if flag.switch:
        return click.option(flag.name, _parameter(flag), is_flag=False, flag_value="true", hidden=True, help=about)
    return click.option(flag.name, _parameter(flag), hidden=True, help=about)


def _without_effect(flags: list[Flag], given: Mapping[str, str | None], environment: Mapping[str, str]) -> list[str]:
    """A line for each that is given. Raises `click.UsageError` for one that is refused."""
    lines = []
    for flag in flags:
        value = given.get(flag.name)
        if value is not None and value not in flag.harmless:
            if flag.use is Use.REFUSED:
                raise click.UsageError(f"{flag.name} of MetalLB is not taken: {flag.note}")
            lines.append(f"{flag.name} of MetalLB has no effect: {flag.note}")
        elif flag.variable and environment.get(flag.variable, "") not in flag.harmless:
            lines.append(f"{flag.variable} of MetalLB has no effect: {flag.note}")
    return lines


def note_ignored(line: str) -> None:
    """Have a line about something without effect said by the running command, once it can."""
    click.get_current_context().meta.setdefault(_IGNORED, []).append(line)


def say_ignored(say: Callable[[str], None]) -> None:
    """Tell of the flags and variables that were given to the running command and have no effect, a line each."""
    for line in click.get_current_context().meta.get(_IGNORED, ()):
        say(line)

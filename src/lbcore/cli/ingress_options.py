"""The options of `lbcore ingress`, by ingress-nginx's names: what is served, what shows, who writes, how it runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from lbcore.backends.kubernetes import Election
from lbcore.ingress import ObjectKey
from lbcore.model import LabelRequirement, LabelSelector, Operator
from lbcore.publishing import PublishSettings
from lbcore.streams import StreamSettings

__all__ = [
    "chosen_options",
    "election_options",
    "health_options",
    "nginx_options",
    "publish_options",
    "routing_options",
    "stream_options",
]

F = TypeVar("F", bound=Callable[..., Any])

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_IN = re.compile(r"([^\s!=]+)\s+(in|notin)\s+\(([^)]*)\)")
_LEAST_LEASE = 6.0  # seconds: nothing is written in the last two of the two thirds in which it is believed
_NAME = re.compile(r"[A-Za-z0-9./_-]+")


def _key(_context: click.Context, _parameter: click.Parameter, text: str | None) -> ObjectKey | None:
    if not text:
        return None
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name:
        raise click.BadParameter("write NAMESPACE/NAME")
    return ObjectKey(namespace, name)


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    """Seconds, as a number or in Go's way: `30s`, `1m30s`."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise click.BadParameter(f"{text!r} is no time; write seconds, or 1m30s")
    hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _selector(_context: click.Context, _parameter: click.Parameter, text: str) -> LabelSelector | None:
    """A label selector as kubectl takes it: `a=b,c!=d,e in (f,g),h notin (i),j,!k`."""
    if not text.strip():
        return None
    return LabelSelector(tuple(_requirement(each.strip()) for each in re.split(r",(?![^(]*\))", text)))


def _requirement(text: str) -> LabelRequirement:
    listed = _IN.fullmatch(text)
    if listed is not None:
        values = tuple(sorted(each.strip() for each in listed[3].split(",")))
        return LabelRequirement(listed[1], Operator.IN if listed[2] == "in" else Operator.NOT_IN, values)
    key, operator, value = text.partition("=")
    if operator:
        negated = key.endswith("!")
        key, value = key.rstrip("! "), value.lstrip("=").strip()
        if _NAME.fullmatch(key):
            return LabelRequirement(key, Operator.NOT_IN if negated else Operator.IN, (value,))
    elif _NAME.fullmatch(text.removeprefix("!")):
        return LabelRequirement(
            text.removeprefix("!"), Operator.DOES_NOT_EXIST if text.startswith("!") else Operator.EXISTS
        )
    raise click.BadParameter(f"{text!r} is no label selector; write name=value")


def _all(options: Sequence[Callable[[F], F]], command: F) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def routing_options(command: F) -> F:
    """Which Ingresses are served, and by what defaults: the fields of `RoutingSettings`, and two ports."""
    options = (
        click.option("--http-port", type=click.IntRange(1, 65535), default=80, show_default=True, help="For HTTP."),
        click.option("--https-port", type=click.IntRange(1, 65535), default=443, show_default=True, help="For HTTPS."),
    )
    return chosen_options(_all(options, command))


def chosen_options(command: F) -> F:
    """Which Ingresses are served, and by what defaults: the fields of `RoutingSettings`."""
    options = (
        click.option("--controller-class", default="k8s.io/ingress-nginx", show_default=True, metavar="NAME",
                     help="Serve Ingresses whose IngressClass has this spec.controller."),
        click.option("--ingress-class", default="nginx", show_default=True, metavar="NAME",
                     help="Serve Ingresses with this annotation kubernetes.io/ingress.class."),
        click.option("--ingress-class-by-name", "by_name", is_flag=True, help="And the IngressClass of that name."),
        click.option("--watch-ingress-without-class", "without_class", is_flag=True,
                     help="Serve Ingresses that name no class, too."),
        click.option("--watch-namespace", "namespace", default="", metavar="NAMESPACE", help="Only of this namespace."),
        click.option("--watch-namespace-selector", "namespace_selector", default="", callback=_selector,
                     metavar="SELECTOR", help="Only of namespaces with these labels, as `team=a,stage!=test`."),
        click.option("--configmap", "config_map", callback=_key, metavar="NAMESPACE/NAME",
                     help="The ConfigMap with options."),
        click.option("--default-backend-service", "default_backend", callback=_key, metavar="NAMESPACE/NAME",
                     help="Where requests go that nothing else matches [default: they get 404]."),
        click.option("--default-ssl-certificate", "default_certificate", callback=_key, metavar="NAMESPACE/NAME",
                     help="The Secret with the certificate of hosts that have none [default: one made up]."),
        click.option("--annotations-prefix", default="nginx.ingress.kubernetes.io", show_default=True, metavar="PREFIX",
                     help="What annotations begin with."),
        click.option("--disable-catch-all", "no_catch_all", is_flag=True, help="No Ingress with a default backend."),
        click.option("--disable-svc-external-name", "no_external_name", is_flag=True, help="No ExternalName Services."),
    )  # fmt: skip
    return stream_options(_all(options, command))


def stream_options(command: F) -> F:
    """Which ports are open besides those of HTTP: `streams`."""
    options = (
        click.option("--tcp-services-configmap", "tcp_services", callback=_key, metavar="NAMESPACE/NAME",
                     help="The ConfigMap with ports for TCP, such as 5432: data/postgres:5432."),
        click.option("--udp-services-configmap", "udp_services", callback=_key, metavar="NAMESPACE/NAME",
                     help="The same for UDP."),
    )  # fmt: skip

    @functools.wraps(command)
    def with_streams(*args: Any, tcp_services: ObjectKey | None, udp_services: ObjectKey | None, **others: Any) -> Any:
        return command(*args, streams=StreamSettings(tcp=tcp_services, udp=udp_services), **others)

    made: Any = with_streams
    result: F = _all(options, made)
    return result


def publish_options(command: F) -> F:
    """Which addresses Ingresses show: `update_status`, and `publish` as far as options say it."""
    options = (
        click.option("--update-status/--no-update-status", default=True, show_default=True,
                     help="Write addresses to the status of Ingresses."),
        click.option("--publish-service", callback=_key, metavar="NAMESPACE/NAME",
                     help="Those of this Service: of type LoadBalancer, what its controller gave it."),
        click.option("--publish-status-address", "addresses", default="", metavar="ADDRESS,...",
                     help="These addresses or host names [default: those of the nodes where instances run]."),
        click.option("--report-node-internal-ip-address", "internal", is_flag=True,
                     help="Of nodes, the address in the cluster even if there is one outside."),
        click.option("--status-update-interval", "interval", type=click.FloatRange(5), default=60.0, show_default=True,
                     metavar="SECONDS", help="Look this often whether somebody else has changed them."),
        click.option("--update-status-on-shutdown/--no-update-status-on-shutdown", "clear", default=True,
                     show_default=True, help="The last instance that ends takes its addresses away."),
    )  # fmt: skip

    @functools.wraps(command)
    def with_settings(
        *args: Any,
        publish_service: ObjectKey | None,
        addresses: str,
        internal: bool,
        interval: float,
        clear: bool,
        **others: Any,
    ) -> Any:
        given = tuple(each.strip() for each in addresses.split(",") if each.strip())
        if given and publish_service is not None:
            raise click.UsageError("--publish-service and --publish-status-address: give one of them")
        wanted = PublishSettings(
            service=publish_service, addresses=given, internal=internal, interval=interval, clear=clear
        )
        return command(*args, publish=wanted, **others)

    made: Any = with_settings
    result: F = _all(options, made)
    return result


def election_options(command: F) -> F:
    """Who writes: `election`, None where everybody may."""
    options = (
        click.option("--election-id", default="ingress-controller-leader", show_default=True, metavar="NAME",
                     help="The Lease by which one of several instances is chosen to write."),
        click.option("--election-ttl", default="30s", callback=_seconds, show_default=True, metavar="TIME",
                     help="How long it lasts without being renewed."),
        click.option("--disable-leader-election", is_flag=True, help="Write without a Lease: for a single instance."),
    )  # fmt: skip

    @functools.wraps(command)
    def with_election(
        *args: Any, election_id: str, election_ttl: float, disable_leader_election: bool, **others: Any
    ) -> Any:
        if election_ttl < _LEAST_LEASE:
            raise click.BadParameter(f"a Lease has to last {_LEAST_LEASE:g} s", param_hint="--election-ttl")
        election = None if disable_leader_election else Election(name=election_id, seconds=election_ttl)
        return command(*args, election=election, **others)

    made: Any = with_election
    result: F = _all(options, made)
    return result


def nginx_options(command: F) -> F:
    """Which nginx runs, where, and how often it is reloaded."""
    options = (
        click.option("--nginx", "program", default="nginx", show_default=True, metavar="PROGRAM",
                     help="The nginx to run."),
        click.option("--runtime-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                     help="Where nginx's configuration lies [default: /run/lbcore-ingress, or the user's own]."),
        click.option("--listen", multiple=True, metavar="ADDRESS",
                     help="Listen at this address only; may be given several times."),
        click.option("--reload-interval", type=click.FloatRange(0.1), default=1.0, show_default=True,
                     metavar="SECONDS", help="Reload nginx at most this often."),
        click.option("--dynamic-upstreams/--no-dynamic-upstreams", default=True, show_default=True,
                     help="Change peers without a reload, where nginx's Lua module is installed."),
        click.option("--allow-vulnerable-nginx", is_flag=True,
                     help="Run an nginx with the known overflows in rewrite."),
        click.option("--shutdown-grace-period", default="0", callback=_seconds, show_default=True, metavar="TIME",
                     help="Say that we end this long before we do, so that nobody sends new requests."),
        click.option("--post-shutdown-grace-period", default="0", callback=_seconds, show_default=True, metavar="TIME",
                     help="And wait this long when nginx has ended [ingress-nginx: 10]."),
    )  # fmt: skip
    return _all(options, command)


def health_options(command: F) -> F:
    """Where health and metrics are told."""
    options = (
        click.option("--healthz-port", type=click.IntRange(0, 65535), default=0, show_default=True, metavar="PORT",
                     help="Serve /healthz, /readyz and /metrics at this port (10254 is usual); 0: not at all."),
        click.option("--healthz-host", default="", metavar="ADDRESS",
                     help="The address to serve them at [default: every one]."),
        click.option("--enable-metrics", is_flag=True,
                     help="Count requests, for /metrics (where nginx's Lua module is installed)."),
        click.option("--health-check-path", default="/healthz", show_default=True, metavar="PATH",
                     help="Where health is answered."),
    )  # fmt: skip
    return _all(options, command)

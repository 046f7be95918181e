"""The Ingress controller as Prometheus reads it, with ingress-nginx's names, so that its dashboards go on working.

Requests are counted by nginx's workers, where its Lua module is there; without it nginx tells its connections only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from attrs import define, field
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import lbcore
from lbcore.adapters.nginx.counts import HISTOGRAMS, Series
from lbcore.backends.figures import Figures
from lbcore.backends.nginx import Nginx
from lbcore.daemons.controlled import Controlled
from lbcore.daemons.reporting import orphans
from lbcore.proxy import RoutingTable
from lbcore.routing import RoutingState

__all__ = ["IngressCollector"]

_PREFIX = "nginx_ingress_controller_"


@define(eq=False)
class IngressCollector(Collector):
    """`figures` are those read last; the state is looked at when somebody asks."""

    controlled: Controlled
    nginx: Nginx
    state: Callable[[], RoutingState]
    figures: Figures = field(factory=Figures)

    def describe(self) -> Iterator[Metric]:
        """No names before there is anything to say."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        own = self.controlled.labels
        yield from self._reloads(own)
        yield from _processes(self.figures, own)
        if self.figures.series is not None:
            yield from _requests(self.figures.series, own)
        state = self.state()
        yield from _certificates(state.table, own)
        yield from _orphans(state, own)
        if self.controlled.election:
            name = {"name": self.controlled.election}
            leads = float(state.publishing.leads)
            yield _gauge("leader_election_status", "1 if this instance writes statuses and Events", own | name, leads)
        build = {"release": lbcore.__version__, "build": "lbcore", "repository": "lbcore"}
        yield _gauge("build_info", "What runs", own | build, 1.0)

    def _reloads(self, own: dict[str, str]) -> Iterator[Metric]:
        told = self.nginx.told
        yield _counter("success", "Configurations that nginx took", own, told.taken)
        yield _counter("errors", "Configurations that nginx refused", own, told.refused)
        yield _gauge("config_hash", "A number for the configuration in force", own, float(told.number))
        yield _gauge("config_last_reload_successful", "1 if nginx took the newest one", own, float(told.last_taken))
        yield _gauge(
            "config_last_reload_successful_timestamp_seconds", "When nginx last took one", own, told.last_taken_at
        )


def _gauge(name: str, about: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, about, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, about: str, labels: dict[str, str], value: float) -> Metric:
    """ingress-nginx's counters do not all end in `_total`, so they are told without a type."""
    family = Metric(_PREFIX + name, about, "unknown")
    family.add_sample(family.name, labels, value)
    return family


def _processes(figures: Figures, own: dict[str, str]) -> Iterator[Metric]:
    found, connections = figures.processes, figures.connections
    prefix = "nginx_process_"
    yield _gauge(f"{prefix}num_procs", "Processes of nginx", own, found.number)
    yield _gauge(f"{prefix}cpu_seconds_total", "Processor time of those that run", own, found.cpu_seconds)
    yield _gauge(f"{prefix}read_bytes_total", "Bytes that they read", own, found.read_bytes)
    yield _gauge(f"{prefix}write_bytes_total", "Bytes that they wrote", own, found.write_bytes)
    yield _gauge(f"{prefix}resident_memory_bytes", "Memory in use", own, found.resident)
    yield _gauge(f"{prefix}virtual_memory_bytes", "Memory addressed", own, found.virtual)
    yield _gauge(f"{prefix}oldest_start_time_seconds", "When the oldest was started", own, found.oldest)
    if connections is None:
        return
    now = GaugeMetricFamily(f"{_PREFIX}{prefix}connections", "Connections of clients", labels=[*own, "state"])
    for state in ("active", "reading", "writing", "waiting"):
        now.add_metric([*own.values(), state], getattr(connections, state))
    yield now
    ever = Metric(f"{_PREFIX}{prefix}connections_total", "Connections since nginx started", "unknown")
    for state in ("accepted", "handled"):
        ever.add_sample(ever.name, own | {"state": state}, getattr(connections, state))
    yield ever
    yield _counter(f"{prefix}requests_total", "Requests since nginx started", own, connections.requests)


def _requests(found: tuple[Series, ...], own: dict[str, str]) -> Iterator[Metric]:
    names = ("status", "method", "path", "namespace", "ingress", "service", "canary", "host")
    labels = [{name: str(getattr(each, name)) for name in names} for each in found]
    requests = Metric(f"{_PREFIX}requests", "Requests", "unknown")
    for each, its in zip(found, labels, strict=True):
        requests.add_sample(requests.name, own | its, each.requests)
    yield requests
    for index, (name, about, bounds) in enumerate(HISTOGRAMS):
        family = HistogramMetricFamily(_PREFIX + name, about, labels=[*own, *names])
        for each, its in zip(found, labels, strict=True):
            histogram, below, buckets = each.histograms[index], 0, []
            for bound, number in zip((*map(str, bounds), "+Inf"), histogram.buckets, strict=True):
                below += number
                buckets.append((bound, float(below)))
            family.add_metric([*own.values(), *its.values()], buckets, histogram.sum)
        yield family


def _certificates(table: RoutingTable, own: dict[str, str]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        f"{_PREFIX}ssl_expire_time_seconds", "When a host's certificate expires", labels=[*own, "host"]
    )
    for host, site in sorted(table.sites.items()):
        if site.certificate is not None and site.certificate.expires:
            expires = datetime.fromisoformat(site.certificate.expires).timestamp()
            family.add_metric([*own.values(), host], expires)
    yield family


def _orphans(state: RoutingState, own: dict[str, str]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        f"{_PREFIX}orphan_ingress",
        "1 for an Ingress with a backend that is not there",
        labels=[*own, "namespace", "ingress", "type"],
    )
    found = {
        (each.ingress.namespace, each.ingress.name, "no-endpoint" if each.is_there else "no-service")
        for each in orphans(state)
    }
    for each in sorted(found):
        family.add_metric([*own.values(), *each], 1.0)
    yield family

"""Metrics with ingress-nginx's names: of requests by nginx's workers, of nginx, its configuration and certificates."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import Backend, Gateway, config_map, free_port, ingress, secret
from lbcore.adapters.certificates import make_fake

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

PREFIX = "nginx_ingress_controller_"
PAIR = make_fake(datetime.now(UTC), "tls.test")
VARIANTS = [
    pytest.param(("--no-dynamic-upstreams",), id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]
LUA = [VARIANTS[1]]


class Measured:
    """A gateway whose metrics are asked for."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port = gateway, port

    def page(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    def sum(self, name: str, **labels: str) -> float:
        """Of all series with these labels."""
        families = text_string_to_metric_families(self.page())
        samples = [each for family in families for each in family.samples if each.name == PREFIX + name]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())


@pytest.fixture(scope="module", params=VARIANTS)
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    found, port = Gateway(tmp_path_factory.mktemp("metrics")), free_port()
    found.start("--healthz-port", str(port), "--healthz-host", "127.0.0.1", "--enable-metrics", *request.param)
    backend, other = Backend("a", pause=0.03), Backend("b")
    pair = secret("pair", **{"tls.crt": PAIR.chain.decode(), "tls.key": PAIR.key.decode()})
    options = config_map(
        log_format_upstream='{"path": "$location_path", "up": "$proxy_upstream_name"}', log_format_escape_json="true"
    )
    found.put(
        "all", *backend.manifests(), *other.manifests(), pair, options,
        ingress("web", "web.test", path="/shop"), ingress("tls", "tls.test", tls="pair"),
        ingress("wild", "*.wild.test"), ingress("lost", "lost.test", "nobody"),
        ingress("quiet", "quiet.test", enable_access_log="false"),
        ingress("canary", "web.test", "b", path="/shop", canary="true", canary_by_header="X-New"),
    )  # fmt: skip
    yield Measured(found, port)
    found.stop()


@pytest.mark.parametrize("measured", LUA, indirect=True)
def test_requests_are_counted_by_ingress_status_and_canary_across_reloads(measured: Measured) -> None:
    gateway = measured.gateway
    labels = {"ingress": "web", "namespace": "default", "service": "a", "path": "/shop/", "host": "web.test",
              "method": "GET", "controller_class": "k8s.io/ingress-nginx"}  # fmt: skip
    for _ in range(3):
        assert 200 == gateway.get("web.test", "/shop/x").status
    gateway.get("web.test", "/shop/x", X_Want_Status="404")
    gateway.get("web.test", "/shop/x", X_New="always")
    gateway.get("web.test", "/shop/x", method="BREW")
    gateway.until(lambda: 6 == measured.sum("requests", ingress="web"), "six requests")
    assert 3 == measured.sum("requests", status="200", canary="", **labels)
    assert 1 == measured.sum("requests", status="404", **labels)
    assert 1 == measured.sum("requests", canary="default-b-80", **labels)
    assert 1 == measured.sum("requests", ingress="web", method="OTHER")
    assert 0 == measured.sum("request_duration_seconds_bucket", le="0.025", status="200", canary="", **labels)
    assert 3 == measured.sum("request_duration_seconds_count", status="200", canary="", **labels)
    assert 0.09 <= measured.sum("response_duration_seconds_sum", status="200", canary="", **labels) < 9
    assert 3 == measured.sum("bytes_sent_bucket", le="10000.0", status="200", canary="", **labels)
    gateway.put("more", ingress("another", "another.test"))  # a reload
    gateway.get("web.test", "/shop/x")
    gateway.until(
        lambda: 4 == measured.sum("requests", status="200", canary="", **labels), "the workers before to count"
    )


@pytest.mark.parametrize("measured", LUA, indirect=True)
def test_series_are_no_more_than_the_configuration_has_whatever_clients_send(measured: Measured) -> None:
    gateway = measured.gateway
    for number in range(40):
        gateway.get(f"h{number}.wild.test", f"/{number}", method="M" + "X" * number)
        gateway.get(f"h{number}.nowhere.test", f"/{number}")
    gateway.until(lambda: 40 == measured.sum("requests", ingress="wild"), "forty requests")
    found = {
        line for line in measured.page().splitlines() if line.startswith(PREFIX + "requests{") and '"wild"' in line
    }
    assert 1 == len(found), found
    assert 40 == measured.sum("requests", host="*.wild.test", path="/", method="OTHER")
    assert "nowhere" not in measured.page()


def test_nginx_its_processes_its_configuration_and_its_certificates(measured: Measured) -> None:
    gateway = measured.gateway
    gateway.get("web.test", "/shop/x")
    assert 1 <= measured.sum("nginx_process_connections", state="active")
    assert 2 <= measured.sum("nginx_process_connections_total", state="accepted")
    assert 2 <= measured.sum("nginx_process_requests_total")
    assert 2 <= measured.sum("nginx_process_num_procs")
    assert 1e6 < measured.sum("nginx_process_resident_memory_bytes")
    assert abs(datetime.now(UTC).timestamp() - measured.sum("nginx_process_oldest_start_time_seconds")) < 900
    assert (1, 0) == (measured.sum("config_last_reload_successful"), measured.sum("errors"))
    assert 1 <= measured.sum("success")
    assert 900 > datetime.now(UTC).timestamp() - measured.sum("config_last_reload_successful_timestamp_seconds")
    expires = datetime.fromisoformat(PAIR.expires).timestamp()
    assert expires == measured.sum("ssl_expire_time_seconds", host="tls.test")
    assert 1 == measured.sum("orphan_ingress", ingress="lost", type="no-service")
    assert 0 == measured.sum("orphan_ingress", ingress="web")


def test_the_log_has_the_form_that_the_option_says(measured: Measured) -> None:
    gateway = measured.gateway
    gateway.get("web.test", "/shop/logged")
    gateway.get("quiet.test", "/")
    wanted = re.compile(r'^\{"path": "/shop/", "up": "default-a-80"\}$', re.MULTILINE)
    gateway.until(lambda: wanted.search(gateway.log), "a line of the log")


@pytest.mark.parametrize("measured", VARIANTS[:1], indirect=True)
def test_without_the_module_requests_are_not_counted_and_it_is_said(measured: Measured) -> None:
    assert PREFIX + "requests{" not in measured.page()
    assert "requests are not counted" in measured.gateway.log

"""The command line of ingress-nginx's own Deployment, given to `lbcore ingress`."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

import lbcore
from lbcore.backends.kubernetes import Election
from lbcore.cli.flags import IGNORED, OldFlags
from lbcore.cli.ingress_options import (
    election_options,
    health_options,
    nginx_options,
    publish_options,
    routing_options,
)
from lbcore.cli.main import cli
from lbcore.ingress import ObjectKey
from lbcore.model import LabelSelector
from lbcore.publishing import PublishSettings
from lbcore.streams import StreamSettings


def given(*arguments: str) -> tuple[dict[str, Any], list[str]]:
    """What the options come to, and which flags have no effect."""
    found: dict[str, Any] = {}

    @click.command(cls=OldFlags)
    @routing_options
    @publish_options
    @election_options
    @nginx_options
    @health_options
    @click.pass_obj
    def command(ignored: list[str], /, **options: Any) -> None:
        found.update(options, ignored=ignored)

    done = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    return found, found["ignored"]


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["ingress", "--cluster", "/nowhere", *arguments])
    assert 2 == done.exit_code, done.output
    return done.output


def test_what_the_chart_of_ingress_nginx_passes_is_taken() -> None:
    found, ignored = given(
        "--publish-service=ingress-nginx/ingress-nginx-controller",
        "--election-id=ingress-nginx-leader",
        "--controller-class=k8s.io/ingress-nginx",
        "--ingress-class=nginx",
        "--configmap=ingress-nginx/ingress-nginx-controller",
        "--default-backend-service=ingress-nginx/ingress-nginx-defaultbackend",
        "--validating-webhook=:8443",
        "--validating-webhook-certificate=/usr/local/certificates/cert",
        "--validating-webhook-key=/usr/local/certificates/key",
        "--watch-ingress-without-class=true",
        "--enable-ssl-chain-completion=false",
        "--sync-rate-limit",
        "0.3",
        "--profiling",
        "--enable-metrics=true",
        "--report-node-internal-ip-address",
        "--v=2",
    )
    assert ObjectKey("ingress-nginx", "ingress-nginx-controller") == found["config_map"]
    assert ObjectKey("ingress-nginx", "ingress-nginx-defaultbackend") == found["default_backend"]
    wanted = PublishSettings(service=ObjectKey("ingress-nginx", "ingress-nginx-controller"), internal=True)
    assert wanted == found["publish"]
    assert Election(name="ingress-nginx-leader") == found["election"]
    assert found["without_class"]
    assert found["enable_metrics"]
    assert ["validating-webhook", "validating-webhook-certificate", "validating-webhook-key",
            "enable-ssl-chain-completion", "sync-rate-limit", "profiling",
            "v"] == ignored  # fmt: skip


# All that ingress-nginx 1.15 has, and its log library's, besides those of the line above.
FLAGS = """
--annotations-prefix=nginx.ingress.kubernetes.io --apiserver-host=https://x --bucket-factor=1.1
--deep-inspect=true --certificate-authority=/ca --default-server-port=8181 --default-ssl-certificate=a/b
--disable-catch-all=false --disable-full-test --disable-leader-election=false --disable-svc-external-name
--disable-sync-events --dynamic-configuration-retries=15 --election-ttl=30s --enable-annotation-validation
--enable-ssl-passthrough=false --enable-topology-aware-routing=false --exclude-socket-metrics=x
--health-check-path=/healthz --health-check-timeout=10 --healthz-host=::1 --healthz-port=10254 --http-port=80
--https-port=443 --ingress-class-by-name --internal-logger-address=127.0.0.1:11514 --length-buckets=10
--max-buckets=100 --maxmind-edition-ids=x --maxmind-license-key=x --maxmind-mirror=x --maxmind-retries-count=1
--maxmind-retries-timeout=1s --metrics-per-host --metrics-per-undefined-host=false
--monitor-max-batch-size=10000 --post-shutdown-grace-period=10 --profiler-address=127.0.0.1
--profiler-port=10245 --publish-status-address=2001:db8::1 --report-status-classes=false
--shutdown-grace-period=0 --size-buckets=10 --ssl-passthrough-proxy-port=442 --status-port=10246
--status-update-interval=60 --stream-port=10247 --sync-period=10h --tcp-services-configmap=a/tcp
--time-buckets=1 --udp-services-configmap=a/udp --update-status=true --update-status-on-shutdown=true
--watch-namespace=a --watch-namespace-selector=a=b --add_dir_header --alsologtostderr --log_backtrace_at=x:1
--log_dir=/x --log_file=/x --log_file_max_size=1 --logtostderr=true --one_output --skip_headers
--skip_log_headers --stderrthreshold=2 --vmodule=x=1
"""


def test_every_flag_of_ingress_nginx_is_taken() -> None:
    found, _ = given(*FLAGS.split())
    assert (10.0, 0.0) == (found["post_shutdown_grace_period"], found["shutdown_grace_period"])
    done = CliRunner().invoke(cli, ["ingress", "--version"])
    assert (0, True) == (done.exit_code, lbcore.__version__ in done.output)


def test_the_config_maps_of_tcp_and_udp_services_are_named_as_in_ingress_nginx() -> None:
    found, ignored = given("--tcp-services-configmap=a/tcp", "--udp-services-configmap", "a/udp", "--stream-port=10247")
    wanted = StreamSettings(tcp=ObjectKey("a", "tcp"), udp=ObjectKey("a", "udp"))
    assert (wanted, ["stream-port"]) == (found["streams"], ignored)
    assert StreamSettings() == given()[0]["streams"]
    assert "NAMESPACE/NAME" in refused("--tcp-services-configmap", "tcp")


def test_booleans_may_have_a_value_as_in_go() -> None:
    assert given("--update-status=false")[0]["update_status"] is False
    assert given("--update-status=T")[0]["update_status"] is True
    assert given("--ingress-class-by-name=0")[0]["by_name"] is False
    assert "neither true nor false" in refused("--disable-catch-all=maybe")


def test_times_are_seconds_or_written_as_in_go() -> None:
    assert Election(name="x", seconds=90.0) == given("--election-id=x", "--election-ttl=1m30s")[0]["election"]
    assert 5.0 == given("--shutdown-grace-period", "5")[0]["shutdown_grace_period"]
    assert "no time" in refused("--election-ttl", "soon")
    assert "6 s" in refused("--election-ttl", "3s")
    assert given("--disable-leader-election")[0]["election"] is None


@pytest.mark.parametrize(
    ("text", "labels", "wanted"),
    [
        ("team=a", {"team": "a"}, True),
        ("team==a,stage!=test", {"team": "a", "stage": "live"}, True),
        ("team=a,stage!=test", {"team": "a", "stage": "test"}, False),
        ("team in (a, b),!old", {"team": "b"}, True),
        ("team notin (a,b)", {"team": "b"}, False),
        ("example.com/team", {"example.com/team": ""}, True),
    ],
)
def test_namespaces_are_chosen_as_with_kubectl(text: str, labels: dict[str, str], wanted: bool) -> None:
    selector = given("--watch-namespace-selector", text)[0]["namespace_selector"]
    assert isinstance(selector, LabelSelector)
    assert wanted is selector.matches(labels)


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    assert "no label selector" in refused("--watch-namespace-selector", "a b")
    assert "NAMESPACE/NAME" in refused("--configmap", "nameless")
    assert "give one of them" in refused("--publish-service", "a/b", "--publish-status-address", "192.0.2.1")
    assert "No such option" in refused("--enable-everything")


def test_no_flag_without_effect_is_an_option() -> None:
    options = {name.lstrip("-") for each in cli.commands["ingress"].params for name in each.opts}
    assert set() == options & IGNORED.keys()

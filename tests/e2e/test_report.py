"""`lbcore report ingress` on a folder: a table for people, and the whole of it for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from gateway import CLASS, config_map, ingress
from lbcore.cli.main import cli


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", "ingress", *map(str, arguments)], catch_exceptions=False)


def written(folder: Path, *documents: dict[str, Any]) -> Path:
    (folder / "all.yaml").write_text(yaml.safe_dump_all([CLASS, *documents]), encoding="utf-8")
    return folder


def test_the_table_says_of_each_ingress_what_holds_and_why_the_rest_does_not(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        ingress("good", "a.example", proxy_body_size="8m"),
        ingress("bad", "b.example", configuration_snippet="deny all;\nadd_header X-A b;", mirror_target="http://x"),
        {**ingress("other", "c.example"), "spec": {"ingressClassName": "traefik"}},
    )
    result = report(folder)
    assert (0, "") == (result.exit_code, result.stderr)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["INGRESS", "VERDICT", "SUPPORTED", "PARTIAL", "IGNORED", "DANGEROUS"] == rows[0]
    assert ["default/bad", "dangerous", "0", "0", "1", "1"] in rows
    assert ["default/good", "supported", "1", "0", "0", "0"] in rows
    assert "add_header; never: deny" in result.stdout
    assert "there is no IngressClass traefik" in result.stdout
    assert "3 Ingresses: 1 supported, 0 partial, 1 ignored, 1 dangerous" == result.stdout.splitlines()[-1]
    assert "proxy-body-size" not in result.stdout
    assert "proxy-body-size" in report(folder, "-o", "wide").stdout


def test_json_has_every_annotation(tmp_path: Path) -> None:
    options = config_map(allow_snippet_annotations="true", no_such="x")
    folder = written(tmp_path, options, ingress("one", "a.example", configuration_snippet="gzip on;"))
    result = report(folder, "-o", "json", "--configmap", "default/options")
    assert "ConfigMap default/options: no-such has no effect in lbcore\n" == result.stderr
    whole = json.loads(result.stdout)
    assert {"supported": 1, "partial": 0, "ignored": 0, "dangerous": 0} == whole["summary"]
    (found,) = whole["ingresses"]
    assert ("default", "one", "supported", []) == (
        found["namespace"], found["name"], found["verdict"], found["problems"]
    )  # fmt: skip
    assert [{"name": "configuration-snippet", "verdict": "supported", "how": ""}] == found["annotations"]


def test_what_cannot_be_read_is_named_and_not_passed_over(tmp_path: Path) -> None:
    old = {"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "old"}, "spec": {}}
    wrong = ingress("wrong", "b.example")
    wrong["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "Prfix"
    result = report(written(tmp_path, ingress("good", "a.example"), old, wrong))
    first, second = result.stderr.splitlines()
    assert first.startswith("not in the report: ")
    assert "Ingress default/old: apiVersion: must be networking.k8s.io/v1" in first
    assert "did you mean Prefix?" in second
    assert "1 Ingress: 1 supported, 0 partial, 0 ignored, 0 dangerous" == result.stdout.splitlines()[-1]


def test_a_backend_that_nobody_answers_for_is_noted_and_counts_for_nothing(tmp_path: Path) -> None:
    meta = {"name": "idle", "namespace": "default"}
    idle = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}
    folder = written(tmp_path, ingress("one", "a.example", "idle"), ingress("two", "b.example", "gone"), idle)
    result = report(folder, "-o", "json")
    found = {each["name"]: (each["verdict"], *each["notes"]) for each in json.loads(result.stdout)["ingresses"]}
    said = "nobody answers at the moment: port 80 of Service default"
    assert {
        "one": ("supported", f"{said}/idle has no endpoint that is ready"),
        "two": ("supported", f"{said}/gone is not there"),
    } == found
    assert f"{said}/gone is not there" in report(folder).stdout


def test_neither_or_both_of_folder_and_server_is_a_mistake(tmp_path: Path) -> None:
    assert 2 == report().exit_code
    assert 2 == report(tmp_path, "--context", "x").exit_code


def test_ports_of_tcp_and_udp_services_are_reported_each_with_where_it_leads(tmp_path: Path) -> None:
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("tcp", "udp")]
    meta = {"name": "dns", "namespace": "data"}
    folder = written(
        tmp_path,
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
         "metadata": {**meta, "labels": {"kubernetes.io/service-name": "dns"}},
         "endpoints": [{"addresses": ["2001:db8::1"]}], "ports": [{"name": "udp", "port": 53, "protocol": "UDP"}]},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp", "namespace": "lb"},
         "data": {"53": "data/dns:53", "80": "data/dns:53"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "udp", "namespace": "lb"},
         "data": {"53": "data/dns:53", "54": "data/dns:53:PROXY"}},
    )  # fmt: skip
    options = ("--tcp-services-configmap", "lb/tcp", "--udp-services-configmap", "lb/udp")
    result = report(folder, "-o", "json", *options)
    assert "" == result.stderr
    found = [
        (each["configMap"], each["field"], each["verdict"], each["how"]) for each in json.loads(result.stdout)["ports"]
    ]
    assert [
        ("tcp", "data.53", "partial", "is closed: Service data/dns has no endpoint that is ready"),
        ("tcp", "data.80", "ignored", "is a port at which the controller itself listens; take another one"),
        ("udp", "data.53", "supported", "UDP to data/dns:53"),
        ("udp", "data.54", "partial", "the PROXY protocol is TCP's, and left out for UDP"),
    ] == found
    assert "UDP to data/dns:53" in report(folder, *options).stdout
    assert "CONFIGMAP" not in report(folder).stdout

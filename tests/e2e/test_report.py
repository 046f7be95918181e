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


def test_neither_or_both_of_folder_and_server_is_a_mistake(tmp_path: Path) -> None:
    assert 2 == report().exit_code
    assert 2 == report(tmp_path, "--context", "x").exit_code

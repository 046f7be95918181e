"""`lbcore drain`: what is written, what is refused, and what `get nodes` and `plan` make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet import advertisement, pool, service
from lbcore.cli.main import cli
from lbcore.lab.controlplane import ApiServer

NODES = "".join(f"---\n{{kind: Node, apiVersion: v1, metadata: {{name: {name}}}}}\n" for name in ("n1", "n2"))
ENDPOINTS = """---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints: [{addresses: ["fd00::9"], nodeName: n1}, {addresses: ["fd00::8"], nodeName: n2}]
"""
STATE = pool("home", "2001:db8::/126") + advertisement() + service("web", ipFamilies=["IPv6"]) + ENDPOINTS + NODES


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "all.yaml").write_text(STATE, encoding="utf-8")
    return tmp_path


def announcers(*arguments: str | Path) -> list[str]:
    (found,) = json.loads(run("plan", *arguments, "-o", "json").stdout)["services"]
    return [name for each in found["announcers"].values() for name in each["l2"]]


def test_a_node_of_a_folder_is_drained_by_a_file_beside_the_manifests(folder: Path) -> None:
    (announcer,) = announcers(folder)
    other = {"n1": "n2", "n2": "n1"}[announcer]
    assert [other] == announcers(folder, "--drained", announcer)
    assert f"node/{announcer} drained\n" == run("drain", announcer, "--cluster", folder).stdout
    assert f"node/{announcer} is drained already\n" == run("drain", announcer, "--cluster", folder).stdout
    assert [other] == announcers(folder)
    shown = json.loads(run("get", "nodes", "--cluster", folder, "-o", "json").stdout)["nodes"]
    assert [{"name": name, "drained": name == announcer} for name in ("n1", "n2")] == [
        {key: each[key] for key in ("name", "drained")} for each in shown
    ]
    table = run("get", "nodes", "--cluster", folder).stdout.splitlines()
    assert ["NAME", "SPEAKER", "DRAINED", "LAYER2", "BGP"] == table[0].split()
    assert f"node/{announcer} undrained\n" == run("undrain", announcer, "--cluster", folder).stdout
    assert f"node/{announcer} is undrained already\n" == run("undrain", announcer, "--cluster", folder).stdout
    assert [announcer] == announcers(folder)
    assert STATE == (folder / "all.yaml").read_text(encoding="utf-8")


def test_a_node_that_is_not_there_or_is_drained_elsewhere_is_said_in_one_line(folder: Path) -> None:
    unknown = run("drain", "n9", "--cluster", folder)
    assert f"there is no Node n9 in {folder}; Nodes: n1, n2" in str(unknown.exception)
    marked = NODES.replace("{name: n1}", "{name: n1, annotations: {lbcore.io/drain: yes please}}")
    (folder / "all.yaml").write_text(STATE.replace(NODES, marked), encoding="utf-8")
    assert ["n2"] == announcers(folder)
    assert "Node n1 has the annotation lbcore.io/drain in its manifest" in str(
        run("undrain", "n1", "--cluster", folder).exception
    )
    assert "there is no Node n9" in run("plan", folder, "--drained", "n9").stderr
    for name in ("../n1", "", "-x"):
        assert 0 != run("drain", "--cluster", folder, "--", name).exit_code


@pytest.mark.slow
@pytest.mark.needs("envtest", "openssl", "kubectl")
def test_a_node_of_an_api_server_is_drained_by_an_annotation(api: ApiServer, tmp_path: Path) -> None:
    api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drained-here"}})
    config = ["--kubeconfig", str(api.kubeconfig)]
    told = [run(verb, "drained-here", *config).stdout for verb in ("drain", "drain", "undrain", "undrain")]
    assert [
        "node/drained-here drained\n",
        "node/drained-here is drained already\n",
        "node/drained-here undrained\n",
        "node/drained-here is undrained already\n",
    ] == told
    assert "there is no Node strange" in str(run("drain", "strange", *config).exception)

"""Manifests as values: what `load` makes of a folder, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import find

from lbcore.addresses import Address
from lbcore.config import Pool
from lbcore.errors import ManifestError
from lbcore.model import Namespace, ServiceKey
from lbcore.testing import UnsoundManifestsError, check_history, documents, histories, load

POOL = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: first, namespace: metallb-system}
spec: {addresses: ["2001:db8::/126"]}
"""
REST = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {type: LoadBalancer, ipFamilies: [IPv6], ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: "2001:db8::2"}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: prod, labels: {tier: gold}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: prod, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints: [{addresses: ["fd00::9"]}]
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}
"""


def test_a_folder_and_a_file_are_one_cluster(tmp_path: Path) -> None:
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "first.yaml").write_text(POOL, "utf-8")
    (tmp_path / "rest").write_text(REST, "utf-8")
    found = load(tmp_path / "pools", str(tmp_path / "rest"))

    assert (Pool.parse("first", "2001:db8::/126"),) == found.config.pools
    assert [(ServiceKey("prod", "web"), (Address.parse("2001:db8::2"),))] == [(s.key, s.held) for s in found.services]
    labels = {"kubernetes.io/metadata.name": "prod", "tier": "gold"}
    assert (Namespace(name="prod", labels=labels),) == found.namespaces
    assert (["n1"], ["web-1"]) == ([node.name for node in found.nodes], [each.key.name for each in found.slices])


def test_what_check_refuses_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POOL.replace("/126", "/200"), "utf-8")
    (tmp_path / "b.yaml").write_text(REST.replace("ipFamilies: [IPv6]", "loadBalancerIP: here"), "utf-8")
    with pytest.raises(UnsoundManifestsError, match=r"a\.yaml") as caught:
        load(tmp_path)
    assert ["spec.addresses[0]", "spec.loadBalancerIP"] == [problem.field for problem in caught.value.problems]


def test_a_file_that_is_no_text_and_a_path_that_is_not_there_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00\xff")
    with pytest.raises(ManifestError):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "b.yaml")


def test_a_service_of_the_manifests_keeps_in_a_history_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(f"{POOL}---\n{REST}", "utf-8")
    found = load(tmp_path)
    drawn = histories(found.config, existing=found.services, namespaces=found.namespaces)
    moment = check_history(find(drawn, lambda _: True)[:1])
    assert {Address.parse("2001:db8::2"): (ServiceKey("prod", "web"),)} == moment.held
    assert len(documents(found.config)) == 1

"""The daemons with the rights that the chart gives them, and no others: nothing they ask for is forbidden."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lbcore.lab.controlplane import ApiServer
from lbcore.lab.namespaces import Namespace
from planes import NODE, as_one_node

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl", "netns", "packet")]

ROOT = Path(__file__).parent.parent.parent
SYSTEM = "metallb-system"

# What a good day does not need.
SELDOM = {
    ("get", "services"),  # after a conflict
    ("create", "events"),  # the speaker: about a configuration that it refuses
    ("patch", "events"),  # one that happens again is counted
    ("create", "leases"),  # in the audit log it is the patch that makes one
    ("get", "leases"),  # of controllers: who leads
    ("update", "leases"),
    ("patch", "servicel2statuses"),  # what a Pod before this one wrote
    ("patch", "servicebgpstatuses"),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """One node, an API server on it, and the plain manifests applied."""
    with Namespace("n1") as space:
        space.call(as_one_node)
        flags = ["--disable-admission-plugins=ServiceAccount"]
        with ApiServer.start(space=space, address=NODE, audit=True, flags=flags) as api:
            api.kubectl("apply", "-f", str(ROOT / "deploy/manifests/lbcore.yaml"))
            path = "/apis/metallb.io/v1beta1/ipaddresspools"
            api.wait(lambda: api.request("GET", path).status == 200, "the resources to be served")
            api.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
            yield api


def daemon(api: ApiServer, account: str, *argv: str) -> Any:
    kubeconfig = api.kubeconfig_of(SYSTEM, f"lbcore-{account}")
    flags = [account, "--kubeconfig", str(kubeconfig), "--namespace", SYSTEM, *argv]
    return api.daemon(f"lbcore-{account}", flags, program=Path(sys.executable).parent / "lbcore").start()


def asked(api: ApiServer, account: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What an account asked for (verb and resource), and what of it was forbidden."""
    all_, forbidden = set(), set()
    for each in api.requests():
        about = each.get("objectRef") or {}
        if each["user"]["username"] != f"system:serviceaccount:{SYSTEM}:lbcore-{account}" or "resource" not in about:
            continue
        resource = "/".join(part for part in (about["resource"], about.get("subresource", "")) if part)
        all_.add((each["verb"], resource))
        if each.get("responseStatus", {}).get("code") == 403:
            forbidden.add((each["verb"], resource))
    return all_, forbidden


def granted(api: ApiServer, account: str) -> set[tuple[str, str]]:
    """What the chart's roles give it."""
    found = set()
    for kind, where in (("clusterroles", ""), ("roles", f"namespaces/{SYSTEM}/")):
        path = f"/apis/rbac.authorization.k8s.io/v1/{where}{kind}/lbcore-{account}"
        for rule in api.ask("GET", path)["rules"]:
            found |= {(verb, resource) for verb in rule["verbs"] for resource in rule["resources"]}
    return found


def _is_served(api: ApiServer, path: str) -> bool:
    return api.request("GET", path).status == 200


def test_nothing_is_forbidden_and_nothing_is_granted_in_vain(cluster: ApiServer, tmp_path: Path) -> None:
    meta = {"name": "pool", "namespace": SYSTEM}
    pool = {"spec": {"addresses": ["192.168.20.20-192.168.20.29", "fd00:20::20-fd00:20::29"]}}
    cluster.apply({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": meta} | pool)
    cluster.apply({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": meta})
    cluster.apply({"apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement", "metadata": meta})
    router = {"myASN": 64512, "peerASN": 64513, "peerAddress": "fd00:20::ffff"}  # nobody is there
    router |= {"passwordSecret": {"name": "tor"}}
    cluster.apply({"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": meta, "spec": router})
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "ipFamilyPolicy": "RequireDualStack"}
    cluster.ask("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "web"}, "spec": spec})
    endpoints = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "n1", "conditions": {"ready": True}}],
        "ports": [{"name": "", "port": 80}],
    }
    cluster.ask("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoints)
    # As the manifests have it in the Pods' environment: speakers gossip.
    controller = daemon(cluster, "controller", "--ml-secret-name", "memberlist", "--deployment", "lbcore-controller")
    secret = f"/api/v1/namespaces/{SYSTEM}/secrets/memberlist"
    cluster.wait(lambda: cluster.request("GET", secret).status == 200, f"the Secret: {controller.said()}", 60)
    (tmp_path / "secretkey").write_bytes(base64.b64decode(cluster.ask("GET", secret)["data"]["secretkey"]))
    gossip = ("--bind-address", NODE, "--secret", str(tmp_path), "--ml-labels", "app.kubernetes.io/component=speaker")
    speaker = daemon(cluster, "speaker", "--node", "n1", "--runtime-dir", str(tmp_path), *gossip)

    def addresses() -> list[str]:
        status = cluster.ask("GET", "/api/v1/namespaces/default/services/web")["status"]
        return [each["ip"] for each in status["loadBalancer"].get("ingress", [])]

    cluster.wait(lambda: len(addresses()) == 2, f"two addresses: {controller.said()}", 60)
    states = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/configurationstates"

    def reported() -> bool:
        items = cluster.ask("GET", states)["items"]
        return len(items) == 2 and all(each.get("status", {}).get("result") == "Valid" for each in items)

    cluster.wait(reported, f"both verdicts: {speaker.said()}", 60)
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lbcore-speaker-n1"
    cluster.wait(lambda: cluster.request("GET", lease).status == 200, f"its Lease: {speaker.said()}", 60)
    announced = [f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/service{each}statuses" for each in ("l2", "bgp")]

    for path in announced:  # 429 as long as it sets up its storage of a new kind
        cluster.wait(partial(_is_served, cluster, path), f"{path} to be served")

    def rows() -> list[dict[str, Any]]:
        return [each for path in announced for each in cluster.ask("GET", path)["items"] if each.get("status")]

    cluster.wait(lambda: len(rows()) == 2, f"both statuses: {speaker.said()}", 60)
    assert {("n1", "web")} == {(each["status"]["node"], each["status"]["serviceName"]) for each in rows()}
    assert "web" in cluster.kubectl("get", "servicel2statuses", "-n", SYSTEM)
    speaker.stop()
    controller.stop()
    assert [] == rows()
    for account in ("controller", "speaker"):
        used, forbidden = asked(cluster, account)
        assert set() == forbidden
        assert set() == granted(cluster, account) - used - SELDOM

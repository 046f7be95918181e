"""MetalLB's own controller and speaker, unchanged, on our definitions of the custom resources."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbcore.adapters.kubernetes.crds import KINDS, definitions
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.lab.controlplane import ApiServer, Daemon
from lbcore.lab.namespaces import Namespace
from planes import NODE, as_one_node

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl", "peers", "netns")]

SYSTEM = "/api/v1/namespaces/metallb-system"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """One node, an API server on it with our definitions, and what MetalLB's programs look for."""
    with Namespace("n1") as space:
        space.call(as_one_node)
        options: dict[str, Any] = {"flags": ["--disable-admission-plugins=ServiceAccount"]}
        with ApiServer.start(space=space, address=NODE, **options) as api:
            api.kubectl("apply", "--server-side", "-f", "-", text=documents_text(definitions()))
            paths = [f"/apis/metallb.io/{kind.versions[-1].name}/{kind.plural}" for kind in KINDS]
            api.wait(lambda: all(api.request("GET", path).status == 200 for path in paths), "the resources")
            _prepare(api)
            yield api


def _prepare(api: ApiServer) -> None:
    api.kubectl("create", "namespace", "metallb-system")
    api.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    ready = {
        "addresses": [{"type": "InternalIP", "address": NODE}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": ""}],
    }
    api.ask("PATCH", "/api/v1/nodes/n1/status", {"status": ready})
    for name, component in (("controller-0", "controller"), ("speaker-1", "speaker")):
        labels = {"app": "metallb", "component": component}
        spec = {"nodeName": "n1", "hostNetwork": True, "containers": [{"name": "x", "image": "x"}]}
        api.ask("POST", f"{SYSTEM}/pods", {"metadata": {"name": name, "labels": labels}, "spec": spec})
        running = {"phase": "Running", "podIP": NODE, "podIPs": [{"ip": NODE}]}
        api.ask("PATCH", f"{SYSTEM}/pods/{name}/status", {"status": running})
    selector, template = {"matchLabels": {"a": "b"}}, {"metadata": {"labels": {"a": "b"}}}
    pods = template | {"spec": {"containers": [{"name": "x", "image": "x"}]}}
    deployment = {"metadata": {"name": "controller"}, "spec": {"replicas": 0, "selector": selector, "template": pods}}
    api.ask("POST", "/apis/apps/v1/namespaces/metallb-system/deployments", deployment)


def metallb(api: ApiServer, name: str, environment: dict[str, str], *flags: str) -> Daemon:
    program = Path(os.environ["LBCORE_PEERS"]) / f"metallb-{name}"
    common = ["--kubeconfig", str(api.kubeconfig), "--namespace", "metallb-system", "--port", "0"]
    environment = {"METALLB_BGP_TYPE": "native", **environment}
    return api.daemon(f"metallb-{name}", [*common, *flags], program=program, environment=environment).start()


def test_a_service_gets_an_address_and_a_speaker_on_our_definitions(cluster: ApiServer) -> None:
    controller = metallb(
        cluster,
        "controller",
        {"METALLB_ML_SECRET_NAME": "memberlist", "METALLB_DEPLOYMENT": "controller"},
        *("--pod-name", "controller-0", "--webhook-mode", "disabled"),
        *("--health-probe-port", "17472", "--cert-dir", str(cluster.folder / "webhook")),
    )
    pool = {"spec": {"addresses": ["192.168.20.20-192.168.20.29", "fd00:20::20-fd00:20::29"]}}
    meta = {"name": "pool", "namespace": "metallb-system"}
    cluster.apply({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": meta} | pool)
    cluster.apply({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": meta})
    families = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], **families}
    web = cluster.ask("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "web"}, "spec": spec})
    endpoints = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "n1", "conditions": {"ready": True}}],
        "ports": [{"name": "", "port": 80}],
    }
    cluster.ask("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoints)

    def addresses() -> list[str]:
        status = cluster.ask("GET", "/api/v1/namespaces/default/services/web")["status"]
        return [each["ip"] for each in status["loadBalancer"].get("ingress", [])]

    cluster.wait(addresses, f"an address (MetalLB said {controller.said()})", 30)
    assert {"192.168.20.20", "fd00:20::20"} == set(addresses())
    cluster.wait(lambda: cluster.request("GET", f"{SYSTEM}/secrets/memberlist").status == 200, "the Secret", 30)

    folder = cluster.folder / "memberlist"
    folder.mkdir()
    secret = cluster.ask("GET", f"{SYSTEM}/secrets/memberlist")["data"]["secretkey"]
    (folder / "secretkey").write_bytes(base64.b64decode(secret))
    speaker = metallb(
        cluster,
        "speaker",
        {
            "METALLB_NODE_NAME": "n1",
            "METALLB_HOST": NODE,
            "METALLB_POD_NAME": "speaker-1",
            "METALLB_ML_BIND_ADDR": NODE,
            "METALLB_ML_LABELS": "app=metallb,component=speaker",
            "METALLB_ML_SECRET_KEY_PATH": str(folder),
        },
        *("--health-probe-port", "17473"),
    )
    listed = "/apis/metallb.io/v1beta1/namespaces/metallb-system/{}"

    def told() -> list[dict[str, Any]]:
        items = cluster.ask("GET", listed.format("servicel2statuses"))["items"]
        return [each["status"] for each in items if each.get("status")]

    cluster.wait(told, f"a ServiceL2Status (MetalLB said {speaker.said()})", 60)
    assert ("n1", web["metadata"]["name"]) == (told()[0]["node"], told()[0]["serviceName"])

    def states() -> dict[str, str]:
        items = cluster.ask("GET", listed.format("configurationstates"))["items"]
        return {each["metadata"]["name"]: each.get("status", {}).get("result", "") for each in items}

    cluster.wait(lambda: states() == {"controller": "Valid", "speaker-n1": "Valid"}, "the verdicts", 30)
    assert "Valid" in cluster.kubectl("get", "configurationstates", "-n", "metallb-system")

    def full() -> bool:
        status = cluster.ask("GET", listed.format("ipaddresspools") + "/pool").get("status", {})
        return bool(status == {"assignedIPv4": 1, "assignedIPv6": 1, "availableIPv4": 9, "availableIPv6": 9})

    cluster.wait(full, "the pool's counts", 30)

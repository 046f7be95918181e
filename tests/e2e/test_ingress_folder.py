"""A folder of manifests: what an Ingress shows lies beside it, as the status of a Service does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway import Backend, Gateway, ingress

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]


def test_addresses_are_written_beside_the_manifests_and_go_with_their_ingress(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    statuses = gateway.cluster / ".lbcore" / "ingresses" / "default"
    statuses.mkdir(parents=True)
    (statuses / "left-over.json").write_text("{}")
    gateway.start("--publish-status-address", "2001:db8::7,192.0.2.7")
    try:
        backend = Backend("a")
        gateway.put("all", *backend.manifests(), ingress("web", "web.test"), ingress("other", "other.test"))
        gateway.until((statuses / "other.json").exists, "the second status")
        assert {"ingress": "default/web", "uid": "", "addresses": ["192.0.2.7", "2001:db8::7"]} == json.loads(
            (statuses / "web.json").read_text()
        )
        assert not (statuses / "left-over.json").exists()
        gateway.put("all", *backend.manifests(), ingress("web", "web.test"))
        gateway.until(lambda: not (statuses / "other.json").exists(), "the status to be taken away")
        assert (statuses / "web.json").exists()
    finally:
        gateway.stop()


def test_the_address_that_our_controller_gave_a_service_is_shown(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    services = gateway.cluster / ".lbcore" / "services" / "default"
    services.mkdir(parents=True)
    given = {"service": "default/front", "uid": "", "addresses": ["2001:db8::9"], "pool": "first"}
    (services / "front.json").write_text(json.dumps(given))
    front = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": "default"},
             "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}  # fmt: skip
    gateway.start("--publish-service", "default/front")
    try:
        gateway.put("all", front, *Backend("a").manifests(), ingress("web", "web.test"))
        status = gateway.cluster / ".lbcore" / "ingresses" / "default" / "web.json"
        gateway.until(status.exists, "a status")
        assert ["2001:db8::9"] == json.loads(status.read_text())["addresses"]
        assert (services / "front.json").exists()
    finally:
        gateway.stop()

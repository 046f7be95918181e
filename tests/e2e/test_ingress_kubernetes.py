"""Ingress on a real control plane, in the layout that users of bare metal have: a DaemonSet with a default backend.

The chart's own DaemonSet, account and rights; behind a Service of type LoadBalancer to which our own controller gives
its address, and which our own speakers announce. kubectl and curl are the only clients.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import PATIENCE, deployment
from gateway import ingress, secret
from kubefleet import BASE, KubeFleet, install_crds
from lbcore.adapters.certificates import make_fake
from lbcore.addresses import Address
from lbcore.lab.controlplane import assets
from lbcore.lab.ingress import start_ingress
from lbcore.lab.kubernetes import KubernetesLab

PROGRAMS = ("envtest", "kubectl", "controllers", "helm", "openssl", "netns", "nft", "packet", "curl", "nginx")
pytestmark = [pytest.mark.slow, pytest.mark.needs(*PROGRAMS)]

CHART = Path(__file__).parent.parent.parent / "deploy/ingress-chart"
SYSTEM = "ingress-nginx"
NAME = "ingress-nginx-lbcore-ingress"
# As a values file for ingress-nginx has it.
VALUES = {
    "controller": {
        "kind": "DaemonSet",
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"},
        "ingressClassResource": {"name": "nginx", "default": True},
        "config": {"hsts-max-age": "60"},
        "admissionWebhooks": {"enabled": False},
        "extraArgs": {"v": "2", "sync-rate-limit": "0.3", "reload-interval": "0.2"},
    },
    "defaultBackend": {"enabled": True},
    "tcp": {"7000": "default/shop:80"},
}
SELDOM = {
    ("patch", "events"),  # one that happens again is counted
    ("update", "leases"),  # after a third of its life
}


def chart(folder: Path, values: dict[str, Any] = VALUES) -> list[dict[str, Any]]:
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    argv = [
        str(assets("helm") / "helm"),
        "template",
        SYSTEM,
        str(CHART),
        "-n",
        SYSTEM,
        "-f",
        str(folder / "values.yaml"),
    ]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=True)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeFleet]:
    with KubernetesLab(nodes=2) as lab:
        install_crds(lab.api)
        running = KubeFleet(lab).start()
        running.apply(BASE + deployment("shop", replicas=2))
        lab.kubectl("create", "namespace", SYSTEM)
        lab.api.apply(*chart(tmp_path_factory.mktemp("chart")))
        lab.kubectl("expose", "deployment", "shop", "--port=80")
        start_ingress(lab, SYSTEM, f"{NAME}-controller", lab.api.kubeconfig_of(SYSTEM, NAME))
        yield running


def ask(fleet: KubeFleet, host: str, path: str = "/", scheme: str = "http") -> tuple[int, dict[str, str], str]:
    """Status, headers and body, by the Service's address."""
    address = fleet.wait_for_addresses(f"{NAME}-controller", SYSTEM)[0]
    port = 443 if scheme == "https" else 80
    argv = ["curl", "-sSki", "--noproxy", "*", "--max-time", "3", "--resolve", f"{host}:{port}:{address}"]
    done = fleet.lab.client.namespace.run([*argv, f"{scheme}://{host}{path}"], timeout=20)
    if done.returncode:
        return 0, {}, done.stderr
    head, _, body = done.stdout.partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


def until(fleet: KubeFleet, status: int, host: str, path: str = "/", scheme: str = "http") -> dict[str, str]:
    seen: list[Any] = [None]

    def look() -> bool:
        seen[0] = ask(fleet, host, path, scheme)
        return bool(seen[0][0] == status)

    fleet.lab.wait_until(look, f"{status} from {host}{path}", PATIENCE)
    return dict(seen[0][1])


def until_served(fleet: KubeFleet, host: str, by: str) -> str:
    """The Pod that answers, once one of these does: until then it is the default backend."""

    def look() -> str:
        who = ask(fleet, host)[1].get("x-served-by", "")
        return who if who.startswith(f"{by}-") else ""

    return fleet.lab.wait_until(look, f"{by} at {host}", PATIENCE)


def shown(fleet: KubeFleet, name: str) -> tuple[str, ...]:
    status = fleet.get("ingress", name)["status"]["loadBalancer"]
    return tuple(each.get("ip") or each["hostname"] for each in status.get("ingress", ()))


def test_an_ingress_is_served_at_the_address_that_our_controller_gave_and_shows_it(fleet: KubeFleet) -> None:
    given = [str(each) for each in fleet.wait_for_addresses(f"{NAME}-controller", SYSTEM)]
    fleet.lab.api.apply(ingress("shop", "shop.example", "shop"))
    until_served(fleet, "shop.example", "shop")
    assert given == list(fleet.wait(lambda: shown(fleet, "shop"), "an address in the Ingress's status"))
    assert str(given[0]) in fleet.lab.kubectl("get", "ingress", "shop")
    assert fleet.lab.announcer(Address.parse(given[0])) in fleet.lab.nodes


def test_what_nobody_serves_is_answered_by_the_default_backend(fleet: KubeFleet) -> None:
    assert until(fleet, 200, "nobody.example")["x-served-by"].startswith(f"{NAME}-defaultbackend")


@pytest.mark.needs("nginx-stream")
def test_a_port_of_the_values_leads_to_the_service_that_they_name(fleet: KubeFleet) -> None:
    address = fleet.wait_for_addresses(f"{NAME}-controller", SYSTEM)[0]
    argv = ["curl", "-sSi", "--noproxy", "*", "--max-time", "3", "--resolve", f"tcp.example:7000:{address}"]

    def look() -> bool:
        done = fleet.lab.client.namespace.run([*argv, "http://tcp.example:7000/"], timeout=20)
        return "x-served-by: shop-" in done.stdout.lower()

    fleet.lab.wait_until(look, "an answer at port 7000", PATIENCE)


def test_a_certificate_that_comes_after_its_ingress_is_shown(fleet: KubeFleet) -> None:
    pair = make_fake(datetime.now(UTC), "sealed.example")
    fleet.lab.api.apply(ingress("sealed", "sealed.example", "shop", tls="sealed"))
    until(fleet, 308, "sealed.example")
    fleet.lab.api.apply(secret("sealed", **{"tls.crt": pair.chain.decode(), "tls.key": pair.key.decode()}))
    address = fleet.wait_for_addresses(f"{NAME}-controller", SYSTEM)[0]
    argv = ["openssl", "s_client", "-connect", f"{address}:443", "-servername", "sealed.example"]

    def is_shown() -> bool:
        said = fleet.lab.client.namespace.run(argv, timeout=20).stdout
        return pair.chain.decode().strip() in said

    fleet.wait(is_shown, "the Secret's certificate")
    headers = until(fleet, 200, "sealed.example", scheme="https")
    assert "max-age=60; includeSubDomains" == headers["strict-transport-security"]  # the chart's `config`


def test_what_is_refused_is_told_in_an_event_of_the_ingress_by_one_of_the_instances(fleet: KubeFleet) -> None:
    fleet.lab.api.apply(ingress("wrong", "wrong.example", "shop", allowlist_source_range="nonsense"))
    until(fleet, 503, "wrong.example")
    text = fleet.wait(
        lambda: "Rejected" in (said := fleet.lab.kubectl("describe", "ingress", "wrong")) and said, "an Event"
    )
    assert "allowlist-source-range" in str(text)
    events = json.loads(fleet.lab.kubectl("get", "events", "-o", "json"))["items"]
    assert 1 == len([each for each in events if each["reason"] == "Rejected"])


def test_an_ingress_of_another_class_is_nobodys_and_its_status_stays_empty(fleet: KubeFleet) -> None:
    other = ingress("other", "other.example", "shop")
    other["spec"]["ingressClassName"] = "someone-elses"
    fleet.lab.api.apply(other, ingress("after", "after.example", "shop"))
    until_served(fleet, "after.example", "shop")
    fleet.wait(lambda: shown(fleet, "after"), "the status of a later one")
    assert () == shown(fleet, "other")
    assert until(fleet, 200, "other.example")["x-served-by"].startswith(f"{NAME}-defaultbackend")


def test_without_its_class_an_ingress_is_nobodys_until_the_class_is_back(fleet: KubeFleet) -> None:
    """As when `helm uninstall ingress-nginx` takes the class away: docs/migrate-from-ingress-nginx.md, step 4."""
    fleet.lab.api.apply(ingress("classy", "classy.example", "shop"))
    until_served(fleet, "classy.example", "shop")
    found = fleet.get("ingressclass", "nginx")
    fleet.lab.kubectl("delete", "ingressclass", "nginx")
    until_served(fleet, "classy.example", "ingress-nginx-lbcore-ingress-defaultbackend")
    fleet.lab.api.apply({**found, "metadata": {"name": "nginx", "annotations": found["metadata"]["annotations"]}})
    until_served(fleet, "classy.example", "shop")


def test_endpoints_that_go_and_come_are_followed(fleet: KubeFleet) -> None:
    fleet.apply(deployment("roll", replicas=1))
    fleet.lab.kubectl("expose", "deployment", "roll", "--port=80")
    fleet.lab.api.apply(ingress("roll", "roll.example", "roll"))
    first = until_served(fleet, "roll.example", "roll")
    fleet.lab.kubectl("delete", "pod", first.partition("/")[0], "--wait=false")
    fleet.wait(
        lambda: ask(fleet, "roll.example")[1].get("x-served-by", first) != first, "a page from the Pod that came after"
    )
    fleet.lab.kubectl("scale", "deployment", "roll", "--replicas=0")
    until(fleet, 503, "roll.example")


def test_nothing_was_forbidden_nothing_granted_in_vain_and_no_status_written_twice(fleet: KubeFleet) -> None:
    api, user = fleet.lab.api, f"system:serviceaccount:{SYSTEM}:{NAME}"
    used, statuses = set(), []
    for each in api.requests():
        about = each.get("objectRef") or {}
        if each["user"]["username"] != user or "resource" not in about:
            continue
        what = "/".join(part for part in (about["resource"], about.get("subresource", "")) if part)
        assert each.get("responseStatus", {}).get("code") != 403, (each["verb"], what)
        used.add((each["verb"], what))
        if what == "ingresses/status":
            statuses.append(about["name"])
    granted = set()
    for path in (f"clusterroles/{NAME}", f"namespaces/{SYSTEM}/roles/{NAME}"):
        for rule in api.ask("GET", f"/apis/rbac.authorization.k8s.io/v1/{path}")["rules"]:
            granted |= {(verb, resource) for verb in rule["verbs"] for resource in rule["resources"]}
    assert set() == granted - used - SELDOM
    assert sorted(set(statuses)) == sorted(statuses)


LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {
        "controller": {"kind": "DaemonSet", "hostPort": {"enabled": True}, "service": {"enabled": False}},
        "tcp": {"53": "a/b:53"},
    },
    {
        "controller": {
            "replicaCount": 3,
            "reportNodeInternalIp": True,
            "publishService": {"enabled": False},
            "scope": {"enabled": True, "namespace": "default", "namespaceSelector": "a=b"},
            "ingressClassResource": {"aliases": ["second"]},
            "extraArgs": {"default-ssl-certificate": "a/b", "enable-ssl-passthrough": ""},
            "resources": {"requests": {"cpu": "100m"}},
            "tolerations": [{"operator": "Exists"}],
            "service": {"type": "NodePort", "nodePorts": {"http": 30080}, "externalIPs": ["192.0.2.1"]},
            "autoscaling": {"enabled": True},
        },
        "tcp": {"5432": "data/postgres:5432:PROXY", "53": "a/b:53"},
        "udp": {"53": "a/b:53"},
        "portNamePrefix": "x",
        "imagePullSecrets": [{"name": "x"}],
        "rbac": {"scope": True},
    },
)


@pytest.mark.parametrize("values", LAYOUTS, ids=["plain", "ports", "scoped"])
def test_the_server_takes_every_layout_of_the_chart(fleet: KubeFleet, values: dict[str, Any], tmp_path: Path) -> None:
    texts = [yaml.safe_dump(each) for each in chart(tmp_path, values)]
    fleet.lab.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-",
                      text="\n---\n".join(texts))  # fmt: skip


def test_headers_of_the_values_become_config_maps_that_the_options_name(tmp_path: Path) -> None:
    headers = {"proxySetHeaders": {"X-A": "$host: a"}, "addHeaders": {"X-B": "1"}, "config": {"hsts": "false"}}
    found = chart(tmp_path, {"controller": headers, "dhParam": "eA=="})
    maps = {each["metadata"]["name"]: each["data"] for each in found if each["kind"] == "ConfigMap"}
    assert {
        f"{NAME}-controller": {
            "hsts": "false", "proxy-set-headers": f"{SYSTEM}/{NAME}-proxy-set-headers",
            "add-headers": f"{SYSTEM}/{NAME}-add-headers", "ssl-dh-param": f"{SYSTEM}/{NAME}-dh-param",
        },
        f"{NAME}-proxy-set-headers": {"X-A": "$host: a"},
        f"{NAME}-add-headers": {"X-B": "1"},
    } == maps  # fmt: skip
    [secret_] = [each for each in found if each["kind"] == "Secret"]
    assert (f"{NAME}-dh-param", {"dhparam.pem": "eA=="}) == (secret_["metadata"]["name"], secret_["data"])

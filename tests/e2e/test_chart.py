"""The chart and the plain manifests on a real API server: accepted, really installed, as safe as they say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbcore.adapters.kubernetes.text import parse, split
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.lab.controlplane import ApiServer, assets

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl", "helm")]

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy/chart"
OPERATOR = "monitoring.coreos.com"  # of the Prometheus operator, whose definitions are not there

EVERYTHING = (
    "prometheus.serviceMonitor.enabled=true",
    "prometheus.serviceMonitor.interval=30s",
    "prometheus.serviceMonitor.additionalLabels.release=prometheus",
    "prometheus.prometheusRule.enabled=true",
    "prometheus.scrapeAnnotations=true",
    "networkPolicies.enabled=true",
    "controller.podDisruptionBudget.enabled=true",
    "controller.replicas=3",
    "controller.logLevel=debug",
    "controller.resources.limits.memory=200Mi",
    "controller.nodeSelector.disk=ssd",
    "controller.tolerations[0].operator=Exists",
    "controller.serviceAccount.annotations.a=b",
    "controller.podAnnotations.a=b",
    "controller.labels.a=b",
    "speaker.tolerations[0].operator=Exists",
    "speaker.ignoreExcludeLB=true",
    "speaker.memberlist.mlBindPort=7947",
    "speaker.excludeInterfaces[0]=^docker.*",
    "speaker.image.repository=registry.example/lbcore",
    "imagePullSecrets[0].name=pull",
    "loadBalancerClass=lbcore.io/layer2",
    "webhook.enabled=true",
    "webhook.failurePolicy=Fail",
)
NOTHING = ("crds.enabled=false", "rbac.create=false", "controller.enabled=false", "speaker.enabled=false")
OLD_WAYS = (
    "fullnameOverride=metallb",
    "controller.serviceAccount.create=false",
    "controller.serviceAccount.name=mine",
    "speaker.tolerateMaster=false",
    "speaker.memberlist.enabled=false",
    "controller.priorityClassName=",
    "speaker.priorityClassName=",
)


def helm(*argv: str, check: bool = True) -> str:
    done = subprocess.run([assets("helm") / "helm", *argv], capture_output=True, encoding="utf-8", check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def documents(text: str) -> list[dict[str, Any]]:
    return [each for chunk in split(text) for each in parse(chunk) if isinstance(each, dict)]


def template(*values: str) -> list[dict[str, Any]]:
    return documents(helm("template", "lbcore", str(CHART), "-n", "metallb-system", *_set(values)))


def _set(values: tuple[str, ...]) -> Iterator[str]:
    for value in values:
        yield from ("--set", value)


def one(found: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (match,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    return match


@pytest.fixture(scope="module", autouse=True)
def _namespace(api: ApiServer) -> None:
    api.kubectl("create", "namespace", "metallb-system")


@pytest.mark.parametrize("values", [(), EVERYTHING, NOTHING, OLD_WAYS], ids=["default", "all", "none", "others"])
def test_with_every_toggle_the_server_takes_what_the_chart_makes(api: ApiServer, values: tuple[str, ...]) -> None:
    assert "0 chart(s) failed" in helm("lint", str(CHART), "--strict", *_set(values))
    ours = [each for each in template(*values) if not each["apiVersion"].startswith(OPERATOR)]
    assert bool(ours) == (values != NOTHING)
    if ours:
        api.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", text=documents_text(ours))


def test_what_was_switched_on_is_there() -> None:
    found = template(*EVERYTHING)
    kinds = {each["kind"] for each in found}
    assert {"NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule", "Service"} <= kinds
    alerts = one(found, "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert "pool {{ $labels.pool }} is more than 95 % in use" == alerts[-1]["annotations"]["summary"]
    arguments = one(found, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--lb-class=lbcore.io/layer2", "--exclude-interface=^docker.*", "--ignore-exclude-lb"} <= set(arguments)


@pytest.mark.parametrize(("port", "more"), [(0, []), (179, ["NET_BIND_SERVICE"]), (1790, [])])
def test_routers_may_connect_where_a_port_is_given_and_a_low_one_needs_a_capability(port: int, more: list[str]) -> None:
    (speaker,) = one(template(f"speaker.bgp.listenPort={port}"), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert [f"--bgp-listen={port}"] * bool(port) == [each for each in speaker["args"] if "bgp" in each]
    assert ["NET_RAW", *more] == speaker["securityContext"]["capabilities"]["add"]


@pytest.mark.parametrize("seconds", ["0", "2", "3600"])
def test_how_long_routers_are_not_told_of_a_new_endpoint_is_a_value(seconds: str) -> None:
    (speaker,) = one(template(f"speaker.bgp.readyFor={seconds}"), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert [f"--ready-for={seconds}"] == [each for each in speaker["args"] if "ready-for" in each]


def test_with_gossip_the_controller_may_make_one_secret_and_read_no_other() -> None:
    found, without = template(), template("speaker.memberlist.enabled=false")
    rules = one(found, "Role", "-controller")["rules"]
    about = [each for each in rules if "secrets" in each["resources"]]
    assert [(["get"], ["memberlist"]), (["create"], None)] == [
        (each["verbs"], each.get("resourceNames")) for each in about
    ]
    assert not [each for each in without if each["kind"] == "Role" and "memberlist" in str(each)]
    assert "memberlist" not in str(one(without, "DaemonSet"))
    assert ["pods"] == [
        name for each in one(found, "Role", "-speaker")["rules"] for name in each["resources"] if name == "pods"
    ]
    assert "pods" not in str(one(without, "Role", "-speaker")["rules"])
    pod = one(found, "DaemonSet")["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert ("7946", "/etc/ml_secret_key") == (
        environment["METALLB_ML_BIND_PORT"],
        environment["METALLB_ML_SECRET_KEY_PATH"],
    )
    assert "METALLB_ML_BIND_ADDR" in environment
    chosen = one(found, "DaemonSet")["spec"]["selector"]["matchLabels"]
    assert chosen == dict(each.split("=") for each in environment["METALLB_ML_LABELS"].split(","))
    ports = {(each["containerPort"], each["protocol"]) for each in pod["containers"][0]["ports"] if "protocol" in each}
    assert ({(7946, "TCP"), (7946, "UDP")}, True) == (ports, pod["hostNetwork"])
    assert "cpu" in pod["containers"][0]["resources"]["requests"]  # else it is the last to run on a busy node
    assert {"name": "memberlist", "secret": {"secretName": "memberlist"}} in pod["volumes"]


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        ("controller.logLevel=loud", "logLevel"),
        ("prometheus.metricsPort=70000", "metricsPort"),
        ("speaker.frr.enabled=true", "frr"),
        ("speker.enabled=true", "speker"),
        ("loadBalancerClass=not a class", "loadBalancerClass"),
        ("controller.replicas=two", "replicas"),
        ("webhook.failurePolicy=Maybe", "failurePolicy"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("speaker.bgp.listenPort=70000", "listenPort"),
        ("speaker.bgp.readyFor=-1", "readyFor"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(value: str, phrase: str) -> None:
    said = helm("template", "lbcore", str(CHART), "--set", value, check=False)
    assert "don't meet the specifications" in said
    assert phrase in said


def test_the_webhooks_certificate_is_made_by_cert_manager_or_given_where_that_is_asked_for() -> None:
    on = "webhook.enabled=true"
    made = template(on, "webhook.certificate.certManager.enabled=true")
    assert ["lbcore-webhook.metallb-system.svc"] == one(made, "Certificate")["spec"]["dnsNames"]
    assert {"kind": "Issuer", "name": "lbcore-webhook"} == one(made, "Certificate")["spec"]["issuerRef"]
    assert "metallb-system/lbcore-webhook" in str(
        one(made, "ValidatingWebhookConfiguration")["metadata"]["annotations"]
    )
    theirs = template(
        on, "webhook.certificate.certManager.enabled=true", "webhook.certificate.certManager.issuerRef.name=x"
    )
    assert {"name": "x"} == one(theirs, "Certificate")["spec"]["issuerRef"]
    assert [] == [each for each in theirs if each["kind"] in ("Issuer", "Secret")]
    given = template(on, "webhook.certificate.secretName=mine", "webhook.certificate.caBundle=QUJD")
    assert [] == [each for each in given if each["kind"] == "Secret"]
    volumes = one(given, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "webhook", "secret": {"secretName": "mine"}} in volumes
    assert "QUJD" == one(given, "ValidatingWebhookConfiguration")["webhooks"][0]["clientConfig"]["caBundle"]
    said = helm("template", "x", str(CHART), *_set((on, "webhook.certificate.secretName=mine")), check=False)
    assert "webhook.certificate.secretName needs webhook.certificate.caBundle" in said


def test_it_is_installed_upgraded_and_uninstalled_and_the_pools_outlive_it(own_api: ApiServer) -> None:
    where = ("-n", "metallb-system", "--kubeconfig", str(own_api.kubeconfig))
    helm("install", "lbcore", str(CHART), "--create-namespace", *where)
    assert "lbcore-controller" in own_api.kubectl("get", "deployments", "-n", "metallb-system")
    assert "lbcore-speaker" in own_api.kubectl("get", "daemonsets", "-n", "metallb-system")
    own_api.kubectl("wait", "--for=condition=Established", "crd/ipaddresspools.metallb.io", "--timeout=30s")
    helm("upgrade", "lbcore", str(CHART), "--set", "controller.replicas=2", *where)
    assert "0/2" in own_api.kubectl("get", "deployment", "lbcore-controller", "-n", "metallb-system")
    helm("uninstall", "lbcore", *where)
    assert "" == own_api.kubectl("get", "deployments,daemonsets,roles", "-n", "metallb-system", "-o", "name")
    assert "ipaddresspools.metallb.io" in own_api.kubectl("get", "crds")


def test_the_plain_manifests_are_those_of_the_chart_and_are_really_applied(own_api: ApiServer, tmp_path: Path) -> None:
    subprocess.run([ROOT / "tools/manifests", tmp_path], check=True)
    kept = ROOT / "deploy/manifests/lbcore.yaml"
    assert (tmp_path / "manifests/lbcore.yaml").read_text("utf-8") == kept.read_text("utf-8"), "run `make manifests`"
    own_api.kubectl("apply", "-f", str(kept))  # as a user does it: in one go, and on the client's side
    assert " created" not in own_api.kubectl("apply", "-f", str(kept))


def pod_of(owner: dict[str, Any], namespace: str) -> dict[str, Any]:
    made = owner["spec"]["template"]
    metadata = {"generateName": "x-", "namespace": namespace, "labels": made["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}


def admitted(api: ApiServer, level: str, owner: dict[str, Any]) -> tuple[int, str]:
    name = f"level-{level}"
    labels = {"pod-security.kubernetes.io/enforce": level}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    answered = api.request("POST", f"/api/v1/namespaces/{name}/pods?dryRun=All", pod_of(owner, name))
    return answered.status, answered.document.get("message", "")


def test_the_controller_is_admitted_at_the_level_restricted(api: ApiServer) -> None:
    assert (201, "") == admitted(api, "restricted", one(template(), "Deployment"))


def test_the_speaker_asks_for_the_nodes_network_and_raw_frames_and_for_nothing_else(api: ApiServer) -> None:
    speaker = one(template(), "DaemonSet")
    assert (201, "") == admitted(api, "privileged", speaker)
    status, said = admitted(api, "baseline", speaker)
    assert 403 == status
    assert "host namespaces (hostNetwork=true)" in said
    container = speaker["spec"]["template"]["spec"]["containers"][0]
    assert {"drop": ["ALL"], "add": ["NET_RAW"]} == container["securityContext"]["capabilities"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "privileged" not in container["securityContext"]


def test_no_component_has_rights_on_everything() -> None:
    for role in [each for each in template() if each["kind"] in {"Role", "ClusterRole"}]:
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            cluster_wide = role["kind"] == "ClusterRole"
            assert not (cluster_wide and {"secrets", "configmaps", "leases"} & {*rule["resources"]})
            if cluster_wide and "pods" in rule["resources"]:  # other controllers may run in any namespace
                assert ["list"] == rule["verbs"]

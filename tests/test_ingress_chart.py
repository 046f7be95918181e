"""The Ingress controller's chart with the values of ingress-nginx's: what they come to, and what is in vain."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbcore.lab.controlplane import assets

pytestmark = pytest.mark.needs("helm")

CHART = Path(__file__).parent.parent / "deploy/ingress-chart"
# Every value that is usual on bare metal, and a few that only ingress-nginx's own chart has.
VALUES: dict[str, Any] = {
    "controller": {
        "kind": "Deployment",
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "hostPort": {"enabled": True, "ports": {"http": 8080, "https": 8443}},
        "service": {
            "enabled": True,
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["2001:db8::/32"],
            "labels": {"team": "edge"},
            "enableHttp": False,
            "internal": {"enabled": False},
        },
        "publishService": {"enabled": False},
        "reportNodeInternalIp": True,
        "extraArgs": {
            "publish-status-address": "2001:db8::80",
            "default-ssl-certificate": "web/sealed",
            "enable-ssl-passthrough": "",
        },
        "ingressClassResource": {
            "name": "edge", "default": True, "controllerValue": "k8s.io/edge", "enabled": True, "aliases": ["old"],
        },
        "ingressClass": "edge",
        "watchIngressWithoutClass": True,
        "ingressClassByName": True,
        "config": {"use-forwarded-headers": "true", "worker-processes": 2},
        "allowSnippetAnnotations": True,
        "admissionWebhooks": {"enabled": True, "failurePolicy": "Ignore", "port": 8443},
        "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}},
        "nodeSelector": {"edge": "true"},
        "tolerations": [{"operator": "Exists"}],
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "terminationGracePeriodSeconds": 200,
        "lifecycle": {"preStop": {"exec": {"command": ["/wait-shutdown"]}}},
        "resources": {"requests": {"cpu": "100m", "memory": "90Mi"}},
        "replicaCount": 2,
        "minAvailable": 1,
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 4},
        "image": {"runAsUser": 101, "chroot": False},
        "enableMimalloc": True,
        "scope": {"enabled": False, "namespaceSelector": "team=edge"},
    },
    "defaultBackend": {"enabled": True, "replicaCount": 2},
    "rbac": {"create": True, "scope": False},
    "portNamePrefix": "",
    "tcp": {}, "udp": {},
}  # fmt: skip
IN_VAIN = [
    "controller.admissionWebhooks", "controller.enableMimalloc", "controller.image.chroot",
    "controller.image.runAsUser", "controller.lifecycle", "controller.service.internal",
]  # fmt: skip


def helm(*arguments: str, values: dict[str, Any], folder: Path) -> str:
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    command = [str(assets("helm") / "helm"), *arguments, "-f", str(folder / "values.yaml")]
    environment = {"KUBECONFIG": "/dev/null", "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment).stdout


def made(values: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Objects by kind; of several of a kind the controller's own, and of classes the first."""
    text = helm("template", "x", str(CHART), values=values, folder=folder)
    found: dict[str, dict[str, Any]] = {}
    for each in filter(None, yaml.safe_load_all(text)):
        if not each["metadata"]["name"].endswith("-defaultbackend"):
            found.setdefault(each["kind"], each)
    return found


def in_vain(values: dict[str, Any], folder: Path) -> list[str]:
    """What is named after an installation."""
    said = helm("install", "x", str(CHART), "--dry-run=client", values=values, folder=folder)
    return sorted(line.removeprefix("Without effect: ") for line in said.splitlines() if "Without effect: " in line)


def test_the_values_of_ingress_nginx_count(tmp_path: Path) -> None:
    found = made(VALUES, tmp_path)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    wanted = {
        "--publish-status-address=2001:db8::80", "--default-ssl-certificate=web/sealed", "--enable-ssl-passthrough",
        "--controller-class=k8s.io/edge", "--ingress-class=edge", "--watch-ingress-without-class", "--enable-metrics",
        "--ingress-class-by-name", "--report-node-internal-ip-address", "--watch-namespace-selector=team=edge",
        "--configmap=$(POD_NAMESPACE)/x-lbcore-ingress-controller",
        "--default-backend-service=$(POD_NAMESPACE)/x-lbcore-ingress-defaultbackend",
    }  # fmt: skip
    assert set() == wanted - set(container["args"])
    assert [] == [each for each in container["args"] if each.startswith("--publish-service")]
    assert [8080, 8443] == [each["hostPort"] for each in container["ports"] if "hostPort" in each]
    assert (True, "ClusterFirstWithHostNet", 200, "true", [{"operator": "Exists"}]) == (
        pod["hostNetwork"], pod["dnsPolicy"], pod["terminationGracePeriodSeconds"], pod["nodeSelector"]["edge"],
        pod["tolerations"],
    )  # fmt: skip
    options = {"allow-snippet-annotations": "true", "use-forwarded-headers": "true", "worker-processes": "2"}
    assert options == found["ConfigMap"]["data"]
    service = found["Service"]
    assert ("Local", ["2001:db8::/32"], ["https"], "edge") == (
        service["spec"]["externalTrafficPolicy"], service["spec"]["loadBalancerSourceRanges"],
        [each["name"] for each in service["spec"]["ports"]], service["metadata"]["labels"]["team"],
    )  # fmt: skip
    assert ("edge", "k8s.io/edge") == (
        found["IngressClass"]["metadata"]["name"], found["IngressClass"]["spec"]["controller"],
    )  # fmt: skip
    scale = found["HorizontalPodAutoscaler"]["spec"]
    assert ("replicas" not in found["Deployment"]["spec"], 2, 4) == (True, scale["minReplicas"], scale["maxReplicas"])
    assert 1 == found["PodDisruptionBudget"]["spec"]["minAvailable"]
    assert "PodMonitor" in found


STREAMS: dict[str, Any] = {
    "tcp": {5432: "data/postgres:5432", "9000": "{{ .Release.Namespace }}/echo:7:PROXY"},
    "udp": {53: "kube-system/kube-dns:53"},
    "portNamePrefix": "x",
    "controller": {
        "hostPort": {"enabled": True},
        "service": {"nodePorts": {"tcp": {5432: 30432}}},
        "tcp": {"annotations": {"team": "edge"}},
        "udp": {"configMapNamespace": "elsewhere"},
    },
}


def test_ports_of_tcp_and_udp_are_those_of_a_config_map_of_the_pod_and_of_the_service(tmp_path: Path) -> None:
    text = helm("template", "x", str(CHART), "-n", "edge", values=STREAMS, folder=tmp_path)
    objects = [each for each in yaml.safe_load_all(text) if each]
    maps = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ConfigMap"}
    tcp, udp = maps["x-lbcore-ingress-tcp"], maps["x-lbcore-ingress-udp"]
    assert {"5432": "data/postgres:5432", "9000": "edge/echo:7:PROXY"} == tcp["data"]
    assert ({"team": "edge"}, {"53": "kube-system/kube-dns:53"}) == (tcp["metadata"]["annotations"], udp["data"])
    found = {each["kind"]: each for each in objects}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {
        "--tcp-services-configmap=$(POD_NAMESPACE)/x-lbcore-ingress-tcp",
        "--udp-services-configmap=elsewhere/x-lbcore-ingress-udp",
    } == {each for each in container["args"] if "-services-configmap=" in each}
    wanted = {("x-5432-tcp", 5432, "TCP"), ("x-9000-tcp", 9000, "TCP"), ("x-53-udp", 53, "UDP")}
    assert wanted <= {(each["name"], each.get("hostPort"), each.get("protocol")) for each in container["ports"]}
    ports = {each["name"]: each for each in found["Service"]["spec"]["ports"]}
    assert {
        "x-5432-tcp": (5432, "TCP", "x-5432-tcp", 30432), "x-9000-tcp": (9000, "TCP", "x-9000-tcp", None),
        "x-53-udp": (53, "UDP", "x-53-udp", None),
    } == {
        name: (each["port"], each["protocol"], each["targetPort"], each.get("nodePort"))
        for name, each in ports.items() if "-" in name
    }  # fmt: skip
    assert [] == in_vain(STREAMS, tmp_path)


def test_without_them_there_is_nothing_of_streams(tmp_path: Path) -> None:
    text = helm("template", "x", str(CHART), values={}, folder=tmp_path)
    assert [] == [line for line in text.splitlines() if "services-configmap" in line or "protocol: UDP" in line]


def test_a_daemon_set_is_neither_counted_nor_scaled(tmp_path: Path) -> None:
    found = made({"controller": {"kind": "DaemonSet", "autoscaling": {"enabled": True, "minReplicas": 2}}}, tmp_path)
    assert "replicas" not in found["DaemonSet"]["spec"]
    assert set() == {"HorizontalPodAutoscaler", "PodDisruptionBudget", "Deployment"} & found.keys()


def test_workers_are_kept_from_the_token_of_the_api_server(tmp_path: Path) -> None:
    """The kubelet gives a token to its Pod's user alone (0600) where every container says who that is: root here, and
    nginx's workers are somebody else.
    """
    pod = made({}, tmp_path)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (0, False) == (
        container["securityContext"]["runAsUser"], container["securityContext"]["allowPrivilegeEscalation"],
    )  # fmt: skip
    assert "fsGroup" not in pod["securityContext"]  # with one, its members could read the token


def test_what_the_config_map_says_itself_goes_before_a_value_of_the_same_meaning(tmp_path: Path) -> None:
    controller = {"allowSnippetAnnotations": True, "config": {"allow-snippet-annotations": "false"}}
    assert {"allow-snippet-annotations": "false"} == made({"controller": controller}, tmp_path)["ConfigMap"]["data"]


def test_ports_of_the_pod_and_where_those_of_the_service_lead_may_be_others(tmp_path: Path) -> None:
    values = {
        "controller": {"containerPort": {"http": 8080, "https": 8443}, "service": {"targetPorts": {"https": "http"}}}
    }
    found = made(values, tmp_path)
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"--http-port=8080", "--https-port=8443"} <= set(container["args"])
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert (8080, 8443) == (ports["http"], ports["https"])
    assert {("http", 80, "http"), ("https", 443, "http")} == {
        (each["name"], each["port"], each["targetPort"]) for each in found["Service"]["spec"]["ports"]
    }
    assert [] == in_vain(values, tmp_path)


def test_values_without_effect_are_named_and_no_others(tmp_path: Path) -> None:
    assert (IN_VAIN, []) == (in_vain(VALUES, tmp_path), in_vain({}, tmp_path))

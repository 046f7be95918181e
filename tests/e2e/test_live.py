"""`kubectl lb get`, `explain`, `check` and `plan` against a real API server, by somebody who may only read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import frozen
from click.testing import CliRunner

from fleet import advertisement, manifest, pool, service
from kubefleet import install_crds, roles
from lbcore.cli.main import cli
from lbcore.cli.options import PLUGIN
from lbcore.errors import LbcoreError
from lbcore.lab.controlplane import ApiServer, assets

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]

BIN = Path(sys.executable).parent
SYSTEM = "metallb-system"
ENDPOINTS = {
    "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "n1", "conditions": {"ready": True}}],
    "ports": [{"name": "", "port": 80}],
}
LEASE: dict[str, Any] = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "lbcore-speaker-n1", "namespace": SYSTEM, "labels": {"lbcore.io/speaker": "true"}},
    "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 3600},
}


@frozen
class Done:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str


def run(*argv: str, kubeconfig: Path, name: str = "lbcore", text: str = "") -> Done:
    """The command line in this process, which has its libraries in memory already; as a user types it once, below."""
    done = CliRunner().invoke(cli, argv, prog_name=name, input=text, env={"KUBECONFIG": str(kubeconfig)})
    if isinstance(done.exception, LbcoreError):  # as `main` has it
        return Done(1, done.stdout, f"lbcore: {done.exception}\n")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@frozen
class Cluster:
    """An API server without our daemons, and somebody with the rights of the chart's viewer."""

    api: ApiServer
    viewer: Path

    def lb(self, *argv: str | Path, text: str = "") -> Done:
        """`kubectl lb ...` of somebody who may read."""
        return run(*map(str, argv), kubeconfig=self.viewer, name=PLUGIN, text=text)

    def hold(self, name: str, *addresses: str) -> None:
        """Let a Service have addresses, as a controller would."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": each} for each in addresses]}}}
        self.api.ask("PATCH", f"/api/v1/namespaces/default/services/{name}/status", status)


def viewer_of(api: ApiServer) -> Path:
    """A ServiceAccount that holds the viewer's roles and nothing else, as docs/install.md has it."""
    api.apply(*roles("lbcore-viewer"))
    api.kubectl("create", "serviceaccount", "viewer", "-n", "default")
    who = "--serviceaccount=default:viewer"
    api.kubectl("create", "clusterrolebinding", "viewer", "--clusterrole=lbcore-viewer", who)
    api.kubectl("create", "rolebinding", "viewer", "-n", SYSTEM, "--role=lbcore-viewer", who)
    return api.kubeconfig_of("default", "viewer")


@pytest.fixture(scope="module")
def cluster(api: ApiServer) -> Iterator[Cluster]:
    install_crds(api)
    running = Cluster(api, viewer_of(api))
    for name in ("n1", "n2"):
        api.ask("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    api.apply(pool("first", "192.168.20.20-192.168.20.29", "2001:db8::/126") + advertisement())
    api.apply(service("web"), service("six", ipFamilies=["IPv6"]), LEASE)
    api.ask("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", ENDPOINTS)
    running.hold("web", "192.168.20.25")
    running.hold("six", "2001:db8::1")
    yield running


def test_kubectl_shows_services_as_they_are(cluster: Cluster) -> None:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "KUBECONFIG": str(cluster.viewer)}
    command = [str(assets("kubectl") / "kubectl"), "lb", "get", "services", "-n", "default"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (0, "") == (shown.returncode, shown.stderr)
    rows = {line.split()[1]: line.split() for line in shown.stdout.splitlines()}
    assert "192.168.20.25" in rows["web"]
    assert "2001:db8::1" in rows["six"]


def test_pools_are_shown_with_what_is_in_use(cluster: Cluster) -> None:
    pools = json.loads(cluster.lb("get", "pools", "-o", "json").stdout)["pools"]
    assert [("first", 1, 1)] == [(each["name"], each["assignedIPv4"], each["assignedIPv6"]) for each in pools]


def test_explain_knows_by_the_leases_which_node_is_to_announce_and_by_the_statuses_which_says_so(
    cluster: Cluster,
) -> None:
    explained = json.loads(cluster.lb("explain", "web", "-o", "json").stdout)
    verdicts = {each["node"]: each["reason"] for each in explained["announcers"]["192.168.20.25"]}
    assert {"n1": "OK", "n2": "NotAMember"} == verdicts
    assert [] == explained["announcedBy"]
    said = {"node": "n1", "serviceName": "web", "serviceNamespace": "default"}
    for kind, more in (("L2", {"interfaces": [{"name": "eth0"}]}), ("BGP", {"peers": ["tor-b", "tor-a"]})):
        path = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/service{kind.lower()}statuses"
        meta = {"name": f"{kind.lower()}-web"}
        made = {"apiVersion": "metallb.io/v1beta1", "kind": f"Service{kind}Status", "metadata": meta, "spec": {}}
        cluster.api.ask("POST", path, made)
        cluster.api.ask("PATCH", f"{path}/{meta['name']}/status", {"status": said | more})
    explained = json.loads(cluster.lb("explain", "web", "-o", "json").stdout)
    assert [
        {"node": "n1", "protocol": "layer2", "interfaces": ["eth0"], "peers": []},
        {"node": "n1", "protocol": "bgp", "interfaces": [], "peers": ["tor-a", "tor-b"]},
    ] == explained["announcedBy"]
    shown = cluster.lb("explain", "default/web").stdout
    assert "tor-a,tor-b" in shown
    assert "n1" in cluster.lb("get", "services", "-o", "wide").stdout.splitlines()[-1]


def test_an_address_is_explained(cluster: Cluster) -> None:
    assert "2001:db8::1 is in pool first, held by default/six" in cluster.lb("explain", "2001:db8::1").stdout


def test_a_speaker_whose_lease_has_run_out_is_no_candidate(cluster: Cluster) -> None:
    lease = {**LEASE, "metadata": {**LEASE["metadata"], "name": "lbcore-speaker-n2"}}
    cluster.api.apply(lease | {"spec": {"holderIdentity": "n2", "leaseDurationSeconds": 3600}})

    def verdict() -> object:
        explained = json.loads(cluster.lb("explain", "web", "-o", "json").stdout)
        return next(each["reason"] for each in explained["announcers"]["192.168.20.25"] if each["node"] == "n2")

    assert verdict() != "NotAMember"
    cluster.api.apply(lease | {"spec": {"holderIdentity": "n2", "leaseDurationSeconds": 1}})
    cluster.api.wait(lambda: verdict() == "NotAMember", "the Lease to run out")


def test_a_plan_says_what_applying_a_manifest_would_bring_and_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster.api.ask("GET", "/api/v1/namespaces/default/services/web")
    edited = tmp_path / "pool.yaml"
    edited.write_text(pool("first", "192.168.20.20-192.168.20.24", "2001:db8::/126"), encoding="utf-8")
    planned = cluster.lb("plan", edited, "-o", "json")
    found = {each["name"]: (each["change"], each["addresses"]) for each in json.loads(planned.stdout)["services"]}
    assert (1, ("move", ["192.168.20.20"]), ("keep", ["2001:db8::1"])) == (
        planned.code,
        found["web"],
        found["six"],
    )
    assert before == cluster.api.ask("GET", "/api/v1/namespaces/default/services/web")
    assert 0 == cluster.lb("plan").code
    harmless = tmp_path / "more"
    harmless.mkdir()
    (harmless / "new.yaml").write_text(service("new", ipFamilies=["IPv6"]), encoding="utf-8")
    planned = cluster.lb("plan", harmless, "-o", "json")
    found = {each["name"]: (each["change"], each["addresses"]) for each in json.loads(planned.stdout)["services"]}
    assert (0, ("gain", ["2001:db8::"])) == (planned.code, found["new"])


def test_a_plan_agrees_with_what_kubectl_apply_really_makes_of_a_manifest(cluster: Cluster, tmp_path: Path) -> None:
    """A second apply that no longer asks for an address, and says nothing of what the server filled in."""
    first = tmp_path / "first.yaml"
    first.write_text(service("three", loadBalancerIP="192.168.20.27", ipFamilies=["IPv4"]), encoding="utf-8")
    cluster.api.kubectl("apply", "-f", str(first))
    cluster.hold("three", "192.168.20.27")
    again = tmp_path / "again.yaml"
    again.write_text(service("three", loadBalancerIP="2001:db8::2", ipFamilies=["IPv4"]), encoding="utf-8")
    planned = json.loads(cluster.lb("plan", again, "-o", "json").stdout)["services"]
    refused = next(each for each in planned if each["name"] == "three")
    assert ("keep", ["192.168.20.27"]) == (refused["change"], refused["addresses"])
    assert refused["reason"]
    again.write_text(service("three", ipFamilies=["IPv4"]), encoding="utf-8")
    planned = json.loads(cluster.lb("plan", again, "-o", "json").stdout)["services"]
    kept = next(each for each in planned if each["name"] == "three")
    assert ("keep", ["192.168.20.27"], None) == (kept["change"], kept["addresses"], kept["reason"])


def test_manifests_are_checked_together_with_what_the_cluster_has(cluster: Cluster) -> None:
    assert (0, "") == (cluster.lb("check").code, cluster.lb("check").stdout)
    overlap = pool("second", "192.168.20.28-192.168.20.40")
    checked = cluster.lb("check", "-", text=overlap)
    assert 1 == checked.code
    assert "192.168.20.28" in checked.stdout
    assert "first" in checked.stdout
    outside = manifest("metallb.io/v1beta1", "IPAddressPool", "lost", "default", {"addresses": ["10.0.0.0/30"]})
    checked = cluster.lb("check", "-", text=outside)
    assert (0, True) == (checked.code, f"only what is in namespace {SYSTEM} has an effect" in checked.stderr)


def test_the_report_on_ingresses_needs_no_secret(cluster: Cluster) -> None:
    ingress_class = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "nginx"},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    }
    prefix = "nginx.ingress.kubernetes.io/"
    annotations = {f"{prefix}auth-type": "basic", f"{prefix}auth-secret": "users", f"{prefix}mirror-target": "http://x"}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": "shop.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "shop", "namespace": "default", "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [rule]},
    }
    cluster.api.apply(ingress_class, ingress)
    (found,) = json.loads(cluster.lb("report", "ingress", "-o", "json").stdout)["ingresses"]
    assert ("shop", "partial", []) == (found["name"], found["verdict"], found["problems"])
    verdicts = {each["name"]: each["verdict"] for each in found["annotations"]}
    assert {"auth-type": "supported", "auth-secret": "supported", "mirror-target": "ignored"} == verdicts


def test_reading_is_all_that_is_done_and_every_right_of_the_viewer_is_needed(cluster: Cluster, tmp_path: Path) -> None:
    asked = (["get", "services", "-o", "wide"], ["get", "pools"], ["explain", "web"], ["check"], ["plan"])
    for argv in asked:
        assert "" == cluster.lb(*argv).stderr, argv
    assert 0 == cluster.lb("report", "ingress").code
    used: set[tuple[str, str]] = set()
    for each in cluster.api.requests():
        about = each.get("objectRef") or {}
        if each["user"]["username"] == "system:serviceaccount:default:viewer" and "resource" in about:
            assert 200 == each["responseStatus"]["code"]
            used.add((each["verb"], about["resource"]))
    rules = [rule for each in roles("lbcore-viewer") for rule in each["rules"]]
    assert used == {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}


def line_of(*argv: str, kubeconfig: Path) -> str:
    """The one line that a command ends with."""
    done = run(*argv, "--kubeconfig", str(kubeconfig), kubeconfig=kubeconfig)
    assert (1, "") == (done.code, done.stdout)
    (line,) = done.stderr.splitlines()
    return line


def test_what_cannot_be_read_is_one_line_that_says_why_and_what_to_do(own_api: ApiServer, tmp_path: Path) -> None:
    own_api.kubectl("create", "serviceaccount", "poor", "-n", "default")
    poor = own_api.kubeconfig_of("default", "poor")
    line = line_of("get", "services", kubeconfig=poor)
    assert line.startswith("lbcore: may not list namespaces: namespaces is forbidden: User ")
    assert line.endswith("; ClusterRole and Role lbcore-viewer of the chart hold what is needed")
    line = line_of("plan", kubeconfig=own_api.kubeconfig)
    assert line.startswith("lbcore: the API server has no ipaddresspools.metallb.io (v1beta1); install the definitions")
    strange = own_api.kubeconfig_for("strange", "not-a-token")
    assert "the API server does not know us" in line_of("check", kubeconfig=strange)
    nobody = own_api.kubeconfig_for("nobody", "token", server="https://127.0.0.1:9")
    assert "the API server does not answer" in line_of("explain", "web", kubeconfig=nobody)
    assert "there is no file" in line_of("explain", "web", kubeconfig=tmp_path / "absent")
    document = yaml.safe_load(own_api.kubeconfig.read_text(encoding="utf-8"))
    document["current-context"] = "elsewhere"
    (tmp_path / "odd").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "elsewhere" in line_of("get", "pools", kubeconfig=tmp_path / "odd")


def test_a_kind_that_is_not_there_but_need_not_be_is_none(own_api: ApiServer) -> None:
    """The definitions of a MetalLB that knew no BGP statuses, say."""
    install_crds(own_api)
    for plural in ("servicebgpstatuses", "servicel2statuses", "bgppeers"):
        own_api.kubectl("delete", "crd", f"{plural}.metallb.io")
    own_api.apply(service("web"))

    def explained() -> Done:
        return run("explain", "web", "-o", "json", kubeconfig=own_api.kubeconfig)

    own_api.wait(lambda: explained().code == 0, "the definitions to be gone")
    assert "no speaker keeps a Lease" in explained().stderr
    assert [] == json.loads(explained().stdout)["announcedBy"]

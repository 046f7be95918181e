"""The chart's validating webhook at a real API server: what spans several objects is refused as it is written.

The API server reaches the controller by the chart's Service and certificate; for want of Pods the endpoints are ours.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import make_pair, mount
from lbcore.adapters.kubernetes.text import parse, split
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.daemons.checking import check, entries_of
from lbcore.lab.controlplane import ApiServer, Daemon, assets
from lbcore.lab.namespaces import Namespace
from planes import NODE, as_one_node

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl", "helm", "netns")]

ROOT = Path(__file__).parent.parent.parent
DATA = Path(__file__).parent.parent / "data"
SYSTEM = "metallb-system"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """An API server on a node of its own, with the chart installed and its webhook switched on."""
    with Namespace("n1") as space:
        space.call(as_one_node)
        flags = ["--disable-admission-plugins=ServiceAccount", "--enable-aggregator-routing=true"]
        with ApiServer.start(space=space, address=NODE, flags=flags) as api:
            helm(api, "install", "--create-namespace", "--set=webhook.enabled=true")
            path = "/apis/metallb.io/v1beta1/ipaddresspools"
            api.wait(lambda: api.request("GET", path).status == 200, "the resources to be served")
            endpoints = {
                "metadata": {"name": "webhook-1", "labels": {"kubernetes.io/service-name": "lbcore-webhook"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}],
                "ports": [{"name": "webhook", "port": 9443, "protocol": "TCP"}],
            }
            api.ask("POST", f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices", endpoints)
            yield api


def helm(api: ApiServer, action: str, *flags: str) -> None:
    chart = [str(assets("helm") / "helm"), action, "lbcore", str(ROOT / "deploy/chart"), "-n", SYSTEM]
    argv = [*chart, "--kubeconfig", str(api.kubeconfig), *flags]
    assert api.space is not None
    done = subprocess.run(api.space.command(argv), capture_output=True, encoding="utf-8", check=False)
    assert 0 == done.returncode, done.stderr


@pytest.fixture(scope="module")
def controller(cluster: ApiServer) -> Daemon:
    """The controller as the chart's Deployment starts it, with its rights and its certificate."""
    secret = cluster.ask("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/lbcore-webhook")["data"]
    folder = cluster.folder / "mounted"
    mount(folder, *(base64.b64decode(secret[name]) for name in ("tls.crt", "tls.key")))
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/lbcore-controller"
    (container,) = cluster.ask("GET", path)["spec"]["template"]["spec"]["containers"]
    (mounted,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "webhook"]
    argv = [each.replace(mounted, str(folder)) for each in container["args"]]
    argv += ["--namespace", SYSTEM, "--kubeconfig", str(cluster.kubeconfig_of(SYSTEM, "lbcore-controller"))]
    return start(cluster, argv)


def start(api: ApiServer, argv: list[str]) -> Daemon:
    daemon = api.daemon("controller", argv, program=Path(sys.executable).parent / "lbcore").start()
    elsewhere = wish("IPAddressPool", "probe", "default", addresses=["2001:db8::/64"])
    ask = "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools?dryRun=All"
    api.wait(lambda: api.request("POST", ask, elsewhere).status == 422, f"the webhook: {daemon.said()}", 60)
    return daemon


@pytest.fixture(autouse=True)
def _clean(cluster: ApiServer) -> Iterator[None]:
    """Nothing is left for the next test; peers and advertisements go before what they name."""
    yield
    for kind in ("bgppeers", "bgpadvertisements", "ipaddresspools", "bfdprofiles", "communities"):
        cluster.ask("DELETE", f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/{kind}")


def documents(file: Path) -> list[dict[str, Any]]:
    found = [each for chunk in split(file.read_text("utf-8")) for each in parse(chunk) if isinstance(each, dict)]
    return [each | {"metadata": each["metadata"] | {"namespace": SYSTEM}} for each in found]


def apply(api: ApiServer, *given: dict[str, Any]) -> str:
    """All that a user sees of `kubectl apply`, whether it succeeds or not."""
    return kubectl(api, "apply", "-f", "-", text=documents_text(given))


def kubectl(api: ApiServer, *argv: str, text: str = "") -> str:
    assert api.space is not None
    command = [str(api.program("kubectl")), f"--kubeconfig={api.kubeconfig}", "-n", SYSTEM, *argv]
    done = api.space.run(command, text=text)
    return done.stdout + done.stderr


def wish(kind: str, name: str, namespace: str = SYSTEM, **spec: object) -> dict[str, Any]:
    version = "v1beta2" if kind == "BGPPeer" else "v1beta1"
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def pool(name: str, *addresses: str) -> dict[str, Any]:
    return wish("IPAddressPool", name, addresses=list(addresses))


SPINE: dict[str, Any] = {"myASN": 64500, "peerASN": 64501, "peerAddress": "2001:db8::1"}
TOGETHER = sorted((DATA / "together").glob("*.yaml"))
FOR_LATER = {"peer-unknown-profile.yaml", "advert-unknown-community.yaml"}  # what they name may come yet


@pytest.mark.parametrize("file", TOGETHER, ids=lambda file: file.stem)
def test_what_does_not_go_together_is_refused_as_lbcore_check_says_it(
    cluster: ApiServer, controller: Daemon, file: Path
) -> None:
    said = apply(cluster, *documents(file))
    (problem,) = check(entries_of(file.read_text("utf-8"), file.name))
    assert re.sub(f" in {file.name}#[0-9]", "", problem.message) in said  # an API server is no file
    assert problem.field in said
    denied = 'admission webhook "configuration.lbcore.io" denied the request: '
    assert (file.name not in FOR_LATER) == (denied in said)
    assert (file.name in FOR_LATER) == ("Warning: " in said)
    assert controller.running


def test_good_objects_pass_without_a_word(cluster: ApiServer, controller: Daemon) -> None:
    profile, peer = wish("BFDProfile", "quick"), wish("BGPPeer", "spine", **SPINE, bfdProfile="quick")
    said = apply(cluster, pool("six", "2001:db8:1::/64"), profile, peer)
    assert (3, 3) == (said.count(" created"), len(said.splitlines())), said
    assert "configured" in apply(cluster, pool("six", "2001:db8:1::/63"))
    assert controller.running


def test_an_edit_and_the_old_version_are_judged_and_a_profile_in_use_stays(
    cluster: ApiServer, controller: Daemon
) -> None:
    apply(cluster, pool("one", "2001:db8:1::/64"), pool("two", "2001:db8:2::/64"))
    assert "2001:db8:1::/64 overlaps 2001:db8:1::/65 of pool 'two'" in apply(cluster, pool("two", "2001:db8:1::/65"))
    apply(cluster, wish("BFDProfile", "quick"), wish("BGPPeer", "spine", **SPINE, bfdProfile="quick"))
    again = wish("BGPPeer", "top", **SPINE) | {"apiVersion": "metallb.io/v1beta1"}
    assert "is BGPPeer 'spine' already, on the same nodes" in apply(cluster, again)
    said = kubectl(cluster, "delete", "bfdprofile", "quick")
    assert "BGPPeer metallb-system/spine: spec.bfdProfile: there is no BFDProfile 'quick'" in said
    assert "deleted" in kubectl(cluster, "delete", "bgppeer", "spine")
    assert "deleted" in kubectl(cluster, "delete", "bfdprofile", "quick")
    assert '"operation": "DELETE", "user": "admin"' in controller.said(9000)


def test_what_rules_cannot_compare_is_refused(cluster: ApiServer, controller: Daemon) -> None:
    assert "ends before it starts" in apply(cluster, pool("backward", "2001:db8::9-2001:db8::1"))
    kept = pool("kept", "2001:db8::/64")
    kept["metadata"]["annotations"] = {"lbcore.io/keep-for": "ten minutes"}
    assert "lbcore.io/keep-for" in apply(cluster, kept)
    assert controller.running


def test_two_objects_of_one_apply_are_judged_together(cluster: ApiServer, controller: Daemon) -> None:
    """They come closer together than a watch tells of the first."""
    pools = [pool(f"p{number}", f"2001:db8:{number}::/64") for number in range(20)]
    said = apply(
        cluster,
        *(each for one in pools for each in (one, pool(f"x{one['metadata']['name']}", *one["spec"]["addresses"]))),
    )
    assert (20, 20) == (said.count(" created"), said.count("denied the request"))
    assert controller.running


def test_a_rotated_certificate_is_taken_up(cluster: ApiServer, controller: Daemon) -> None:
    certificate, key = make_pair(f"lbcore-webhook.{SYSTEM}.svc")
    mount(cluster.folder / "mounted", certificate, key)
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/lbcore-webhook"
    (webhook,) = cluster.ask("GET", path)["webhooks"]
    webhook["clientConfig"]["caBundle"] = base64.b64encode(certificate).decode()
    webhook["failurePolicy"] = "Fail"
    cluster.ask("PATCH", path, {"webhooks": [webhook]})
    bad = pool("bad", "2001:db8::9-2001:db8::1")

    def judged() -> bool:
        said = apply(cluster, bad)
        return "ends before it starts" in said

    cluster.wait(judged, f"the new authority to be trusted: {controller.said()}")
    assert " created" in apply(cluster, pool("good", "2001:db8::/64"))


def test_without_a_controller_the_policy_decides(cluster: ApiServer, controller: Daemon) -> None:
    before = cluster.ask("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/lbcore-webhook")["data"]
    helm(cluster, "upgrade", "--set=webhook.enabled=true", "--force-conflicts")
    assert before == cluster.ask("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/lbcore-webhook")["data"], "helm keeps it"
    controller.stop()
    bad = pool("backward", "2001:db8::9-2001:db8::1")
    assert " created" in apply(cluster, bad), "an outage of ours blocks nobody"
    helm(cluster, "upgrade", "--set=webhook.enabled=true", "--set=webhook.failurePolicy=Fail")
    cluster.wait(lambda: "failed calling webhook" in apply(cluster, pool("more", "2001:db8:9::/64")), "the policy Fail")
    helm(cluster, "upgrade", "--set=webhook.enabled=false")
    cluster.wait(lambda: " created" in apply(cluster, pool("last", "2001:db8:10::/64")), "the webhook to be gone")

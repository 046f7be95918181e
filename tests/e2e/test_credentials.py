"""Who we are to a real API server: certificates, tokens that are replaced, programs that print them, and bad ones.

Besides: whether k3s ServiceLB is seen by what it leaves in a cluster.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from certificates import make_client_pair, make_pair
from lbcore.adapters.kubernetes.crds import definitions
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.client import Answer, Client
from lbcore.backends.kubernetes.rivals import RivalSearch
from lbcore.lab.controlplane import ApiServer, Daemon

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]

SYSTEM = "metallb-system"
SERVICES = "/api/v1/namespaces/default/services"
Document = dict[str, Any]
AUTHORITY = make_pair("authority")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("authority")
    (folder / "ca.crt").write_bytes(AUTHORITY[0])
    flags = ("--disable-admission-plugins=ServiceAccount", f"--client-ca-file={folder / 'ca.crt'}")
    with ApiServer.start(flags=flags) as api:
        api.apply(*definitions())
        api.kubectl("create", "namespace", SYSTEM)
        api.kubectl("create", "serviceaccount", "lb", "-n", SYSTEM)
        binding = ("clusterrolebinding", "lb", "--clusterrole=cluster-admin", f"--serviceaccount={SYSTEM}:lb")
        api.kubectl("create", *binding)
        path = "/apis/metallb.io/v1beta1/ipaddresspools"
        api.wait(lambda: api.request("GET", path).status == 200, "the resources to be served")
        pool = {"addresses": ["203.0.113.0/28"]}
        api.apply({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": named("p"), "spec": pool})
        yield api


def named(name: str, namespace: str = SYSTEM) -> Document:
    return {"name": name, "namespace": namespace}


def kubeconfig(api: ApiServer, path: Path, user: Document) -> Path:
    cluster = {"server": api.url, "certificate-authority": str(api.authority)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": user}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def token(api: ApiServer, secret: str) -> str:
    """A token of TokenRequest that dies with a Secret."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": named(secret)}
    uid = api.ask("POST", f"/api/v1/namespaces/{SYSTEM}/secrets", body)["metadata"]["uid"]
    bound = {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": uid}
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600, "boundObjectRef": bound},  # the API server gives none for less
    }
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/lb/token"
    return str(api.ask("POST", path, request)["status"]["token"])


def revoke(api: ApiServer, secret: str, dead: str) -> None:
    """Let a token die; the API server remembers for 10 s whom it has let in."""
    api.ask("DELETE", f"/api/v1/namespaces/{SYSTEM}/secrets/{secret}")
    api.wait(lambda: api.request("GET", SERVICES, token=dead).status == 401, "the token to be refused")


def ask(path: Path, *times: str) -> list[Answer]:
    """The Services, as one client is answered time after time."""

    async def main() -> list[Answer]:
        client = Client(Access(kubeconfig=path), agent="test")
        try:
            return [await client.request("GET", SERVICES) for _ in times]
        finally:
            await client.close()

    return asyncio.run(main())


def test_a_client_certificate_in_files_or_in_the_kubeconfig_is_one(cluster: ApiServer, tmp_path: Path) -> None:
    certificate, key = make_client_pair(AUTHORITY, "operator", "system:masters")
    (tmp_path / "c").write_bytes(certificate)
    (tmp_path / "k").write_bytes(key)
    filed = {"client-certificate": str(tmp_path / "c"), "client-key": str(tmp_path / "k")}
    held = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    for user in (filed, held):
        (answer,) = ask(kubeconfig(cluster, tmp_path / "config", user), "once")
        assert 200 == answer.status


def test_a_certificate_of_somebody_without_rights_is_told_so(cluster: ApiServer, tmp_path: Path) -> None:
    certificate, key = make_client_pair(AUTHORITY, "nobody", "none")
    user = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    (answer,) = ask(kubeconfig(cluster, tmp_path / "config", user), "once")
    assert answer.setback is not None
    assert (403, True) == (answer.status, 'User "nobody" cannot list resource "services"' in answer.setback.message)


def test_a_program_is_asked_again_when_its_token_is_no_longer_taken(cluster: ApiServer, tmp_path: Path) -> None:
    dead, alive = token(cluster, "program-1"), token(cluster, "program-2")
    revoke(cluster, "program-1", dead)
    for number, each in enumerate((dead, alive)):
        said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": each}}
        (tmp_path / f"said-{number}").write_text(json.dumps(said), encoding="utf-8")
    # What it says changes a second after it was first asked.
    script = tmp_path / "program"
    script.write_text(
        f"""#!{sys.executable}
import pathlib, time
first = pathlib.Path({str(tmp_path / "first")!r})
first.touch(exist_ok=True)
fresh = time.time() - first.stat().st_mtime < 1 and not first.read_text()
print(open({str(tmp_path)!r} + ("/said-0" if fresh else "/said-1")).read())
first.write_text("asked")
""",
        encoding="utf-8",
    )
    script.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    user = {"exec": {"apiVersion": version, "command": str(script), "interactiveMode": "Never"}}
    path = kubeconfig(cluster, tmp_path / "config", user)

    async def main() -> list[int]:
        client = Client(Access(kubeconfig=path), agent="test")
        try:
            first = (await client.request("GET", SERVICES)).status
            await asyncio.sleep(1.2)  # not asked twice within a second
            return [first, (await client.request("GET", SERVICES)).status]
        finally:
            await client.close()

    assert [401, 200] == asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "phrase"),
    [("import sys; sys.exit('no login: run `cloud login`')", "exec"), ("print('no json')", "exec")],
    ids=["fails", "babbles"],
)
def test_a_program_that_fails_is_named(cluster: ApiServer, tmp_path: Path, script: str, phrase: str) -> None:
    version = "client.authentication.k8s.io/v1"
    command = {"command": sys.executable, "args": ["-c", script], "interactiveMode": "Never"}
    path = kubeconfig(cluster, tmp_path / "config", {"exec": {"apiVersion": version, **command}})
    (answer,) = ask(path, "once")
    assert answer.setback is not None
    assert phrase in answer.setback.message
    assert "\n" not in answer.setback.message.strip()


def create(api: ApiServer, name: str) -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    api.ask("POST", SERVICES, {"metadata": {"name": name}, "spec": spec})


def served(api: ApiServer, name: str) -> bool:
    return bool(api.ask("GET", f"{SERVICES}/{name}")["status"]["loadBalancer"].get("ingress"))


@pytest.mark.needs("netns")
def test_a_pods_token_is_replaced_while_the_controller_runs(cluster: ApiServer, tmp_path: Path) -> None:
    """The old one dies; the controller reads the file again and goes on, its watches too."""
    home = tmp_path / "secrets" / "kubernetes.io" / "serviceaccount"
    home.mkdir(parents=True)
    first, second = token(cluster, "pod-1"), token(cluster, "pod-2")
    (home / "token").write_text(first, encoding="utf-8")
    (home / "ca.crt").write_bytes(cluster.authority.read_bytes())
    (home / "namespace").write_text(SYSTEM, encoding="utf-8")
    # In a mount namespace of its own it finds them where a kubelet puts them: /var/run is /run.
    inside = f"mount --bind {tmp_path} /run && exec {sys.executable} -m lbcore.cli.main controller"
    _, _, port = cluster.url.rpartition(":")
    environment = {**os.environ, "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    argv = ["--mount", "sh", "-c", inside]
    daemon = cluster.daemon("in-a-pod", argv, program="unshare", environment=environment).start()
    create(cluster, "before")
    cluster.wait(lambda: served(cluster, "before"), f"an address: {daemon.said()}", 40)
    fresh = home / "..token"
    fresh.write_text(second, encoding="utf-8")
    fresh.rename(home / "token")
    revoke(cluster, "pod-1", first)
    create(cluster, "after")
    cluster.wait(lambda: served(cluster, "after"), f"an address after it: {daemon.said()}", 40)
    daemon.stop()


def test_a_token_that_nobody_takes_is_said_in_one_line_and_so_is_that_a_new_one_is(
    cluster: ApiServer, tmp_path: Path
) -> None:
    filed = tmp_path / "token"
    filed.write_text("expired-or-wrong", encoding="utf-8")
    path = kubeconfig(cluster, tmp_path / "config", {"tokenFile": str(filed)})
    daemon = start(cluster, path)
    refused = "the API server does not take our credentials (401 Unauthorized): renew "
    refused += f"the token or certificate of {path}"
    cluster.wait(lambda: refused in daemon.said(), "the refusal")
    create(cluster, "later")
    filed.write_text(cluster.token, encoding="utf-8")
    cluster.wait(lambda: served(cluster, "later"), f"an address: {daemon.said()}", 60)
    daemon.stop()
    said = daemon.said(100_000)
    assert (1, 1) == (said.count("401"), said.count("takes our credentials again"))
    assert "expired-or-wrong" not in said
    assert "Traceback" not in said


def start(api: ApiServer, path: Path) -> Daemon:
    argv = ["-m", "lbcore.cli.main", "controller", "--kubeconfig", str(path)]
    return api.daemon("controller", argv, program=Path(sys.executable)).start()


# What k3s v1.30 makes for a Service `traefik` in kube-system.
LABELS = {"svccontroller.k3s.cattle.io/svcname": "traefik", "svccontroller.k3s.cattle.io/svcnamespace": "kube-system"}
CONTAINER = {
    "name": "lb-tcp-80",
    "image": "rancher/klipper-lb:v0.4.7",
    "ports": [{"name": "lb-tcp-80", "containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
    "env": [{"name": "SRC_PORT", "value": "80"}, {"name": "DEST_PROTO", "value": "TCP"}],
    "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}},
}


def test_k3s_servicelb_is_found_by_the_pods_that_it_starts(cluster: ApiServer) -> None:
    name = "svclb-traefik-5e6b7a9c"
    pods = "/api/v1/namespaces/kube-system/pods"
    cluster.kubectl("create", "namespace", "kube-system", check=False)

    def look(load_balancer_class: str | None = None) -> str | None:
        async def main() -> str | None:
            client = Client(Access(kubeconfig=cluster.kubeconfig), agent="test")
            try:
                return await RivalSearch(client, load_balancer_class)()
            finally:
                await client.close()

        return asyncio.run(main())

    assert None is look()
    template: Document = {
        "metadata": {"labels": {"app": name, **LABELS}},
        "spec": {"containers": [CONTAINER], "automountServiceAccountToken": False},
    }
    daemon_set = {
        "metadata": {"name": name, "labels": {"svccontroller.k3s.cattle.io/nodeselector": "false", **LABELS}},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }
    cluster.ask("POST", "/apis/apps/v1/namespaces/kube-system/daemonsets", daemon_set)
    assert None is look(), "a DaemonSet without Pods serves nobody"
    cluster.ask("POST", pods, {**template, "metadata": {"name": f"{name}-x2x4z", **template["metadata"]}})
    found = f"k3s ServiceLB runs Pod kube-system/{name}-x2x4z; start k3s with --disable=servicelb"
    assert found == look()
    assert None is look("example.org/ours"), "it serves Services without a class"
    cluster.ask("DELETE", f"{pods}/{name}-x2x4z?gracePeriodSeconds=0")
    assert None is look()

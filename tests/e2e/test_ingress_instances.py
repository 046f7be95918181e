"""Several instances of `lbcore ingress` at one API server: all serve, one writes, and the next takes over."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import CLASS, Gateway, free_port, ingress
from lbcore.lab.controlplane import ApiServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl", "nginx")]

T = TypeVar("T")


class Instances:
    """Starts instances; `stack` ends them."""

    def __init__(self, api: ApiServer, folder: Path, stack: ExitStack) -> None:
        self.api = api
        self._folder = folder
        self._stack = stack

    def start(self, name: str, *arguments: str, **environment: str) -> Gateway:
        folder = self._folder / name
        folder.mkdir()
        found = Gateway(folder, kubeconfig=self.api.kubeconfig, environment=environment)
        self._stack.callback(found.stop)
        return found.start("--namespace", "default", "--election-ttl", "6s", *arguments)

    def shown(self, name: str, namespace: str = "default") -> list[str]:
        document = json.loads(self.api.kubectl("get", "ingress", name, "-n", namespace, "-o", "json"))
        return [each.get("ip") or each["hostname"] for each in document["status"]["loadBalancer"].get("ingress", [])]


@pytest.fixture
def instances(api: ApiServer, tmp_path: Path) -> Iterator[Instances]:
    with ExitStack() as stack:
        api.apply(CLASS)
        yield Instances(api, tmp_path, stack)


def redirect(name: str, host: str) -> dict[str, Any]:
    """An Ingress that needs no backend."""
    return ingress(name, host, permanent_redirect=f"http://{host}.elsewhere/")


def serves(gateway: Gateway, host: str) -> bool:
    try:
        return gateway.get(host).status == 301
    except OSError:
        return False


def page(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)


def wait(api: ApiServer, condition: Callable[[], T], what: str, *logs: Gateway) -> T:
    found: list[T] = []

    def look() -> bool:
        found[:] = [condition()]
        return bool(found[0])

    try:
        api.wait(look, what, 40)
    except Exception as error:
        raise AssertionError(f"{error}: {found}\n" + "\n".join(each.log[-2000:] for each in logs)) from None
    return found[0]


def test_both_serve_one_writes_and_the_other_takes_over_when_it_is_gone(api: ApiServer, instances: Instances) -> None:
    one = instances.start("one", "--publish-status-address", "192.0.2.1,gate.example")
    two = instances.start("two", "--publish-status-address=192.0.2.1,gate.example")
    api.apply(redirect("web", "web.test"))
    wait(api, lambda: serves(one, "web.test") and serves(two, "web.test"), "both to serve", one, two)
    wait(api, lambda: instances.shown("web") == ["192.0.2.1", "gate.example"], "the status", one, two)
    leader, standby = (one, two) if "leading: the Lease is ours" in one.log else (two, one)
    assert "ingress addresses" not in standby.log
    leader.stop()
    api.apply(redirect("late", "late.test"))
    wait(api, lambda: instances.shown("late"), "the status by the other", one, two)
    wait(api, lambda: serves(standby, "late.test"), "the other to serve it", standby)
    patches = [
        each["objectRef"]["name"]
        for each in api.requests()
        if each["verb"] == "patch" and each.get("objectRef", {}).get("subresource") == "status"
    ]
    assert ["late", "web"] == sorted(each for each in patches if each in {"web", "late"})


def test_the_nodes_of_its_pods_are_shown_where_no_service_is_named_and_cleared_by_the_last(
    api: ApiServer, instances: Instances
) -> None:
    known = {"n1": {"InternalIP": "10.0.0.1", "ExternalIP": "198.51.100.1"}, "n2": {"InternalIP": "10.0.0.2"}}
    for name, addresses in known.items():
        api.ask("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        status = {"addresses": [{"type": kind, "address": text} for kind, text in addresses.items()]}
        api.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
    for name, node, revision in (("pod-1", "n1", "old"), ("pod-2", "n2", "new")):
        labels = {"app": "gate", "pod-template-hash": revision}
        spec = {"nodeName": node, "containers": [{"name": "x", "image": "x"}]}
        api.ask("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": name, "labels": labels}, "spec": spec})
    api.apply(redirect("noded", "noded.test"))
    # Another class, so that instances of other tests do not write its status.
    running = instances.start("node", "--election-id", "noded", POD_NAME="pod-1")
    wait(api, lambda: serves(running, "noded.test"), "it to serve", running)
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    for name in ("pod-1", "pod-2"):
        api.ask("PATCH", f"/api/v1/namespaces/default/pods/{name}/status", ready)
    wait(api, lambda: instances.shown("noded") == ["10.0.0.2", "198.51.100.1"], "the nodes' addresses", running)
    # By what it writes it is seen to know that the other is gone.
    api.ask("DELETE", "/api/v1/namespaces/default/pods/pod-2", {"gracePeriodSeconds": 0})
    wait(api, lambda: instances.shown("noded") == ["198.51.100.1"], "the address of its own node", running)
    running.stop()
    wait(api, lambda: instances.shown("noded") == [], "no address any more", running)


def test_health_is_told_and_what_ends_says_so_before_it_does(api: ApiServer, instances: Instances) -> None:
    port = free_port()
    flags = ("--healthz-port", str(port), "--healthz-host", "127.0.0.1", "--shutdown-grace-period", "5")
    running = instances.start("health", *flags, "--publish-status-address", "192.0.2.1")
    api.apply(redirect("health", "health.test"))
    wait(api, lambda: page(port, "/readyz")[0] == 200, "it to be ready", running)
    assert (200, "ok\n") == page(port, "/healthz")
    wait(api, lambda: serves(running, "health.test"), "it to serve", running)
    running.terminate()
    wait(api, lambda: page(port, "/healthz")[0] == 503, "it to say that it ends", running)
    assert "about to end" in page(port, "/readyz")[1]
    assert serves(running, "health.test")
    running.wait()


def test_an_nginx_that_ends_by_itself_is_started_again(api: ApiServer, instances: Instances) -> None:
    running = instances.start("killed", "--publish-status-address", "192.0.2.1")
    api.apply(redirect("killed", "killed.test"))
    wait(api, lambda: serves(running, "killed.test"), "it to serve", running)
    running.kill_nginx()
    wait(api, lambda: "has ended by itself" in running.log, "it to notice", running)
    wait(api, lambda: serves(running, "killed.test"), "it to serve again", running)


def test_one_namespace_is_served_and_what_the_command_line_names_elsewhere_is_read_by_name(
    api: ApiServer, instances: Instances
) -> None:
    for name in ("mine", "other"):
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"for": name}}})
        document = redirect(f"in-{name}", f"{name}.test")
        document["metadata"]["namespace"] = name
        api.apply(document)
    flags = ("--publish-service", "other/gate", "--default-ssl-certificate", "other/sealed")
    running = instances.start("scoped", "--watch-namespace", "mine", "--election-id", "scoped", *flags)
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    api.ask("POST", "/api/v1/namespaces/other/services", {"metadata": {"name": "gate"}, "spec": spec})
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "fd00::7"}]}}}
    api.ask("PATCH", "/api/v1/namespaces/other/services/gate/status", status)
    wait(api, lambda: serves(running, "mine.test"), "it to serve", running)
    wait(api, lambda: instances.shown("in-mine", "mine") == ["fd00::7"], "the Service's address", running)
    assert 404 == running.get("other.test").status
    chosen = instances.start("chosen", "--watch-namespace-selector", "for in (other, x)", "--disable-leader-election")
    wait(api, lambda: serves(chosen, "other.test"), "it to serve", chosen)
    assert 404 == chosen.get("mine.test").status


@pytest.mark.needs("nginx-stream")
def test_the_config_map_of_tcp_services_may_be_elsewhere_and_leads_to_the_namespace_that_is_served(
    api: ApiServer, instances: Instances
) -> None:
    for name in ("mine", "other"):
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"for": name}}})
    meta = {"name": "echo", "namespace": "mine"}
    # Nobody is at that address: that it is tried is enough to know that the port is open.
    api.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"name": "echo", "port": 7}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
         "metadata": {**meta, "labels": {"kubernetes.io/service-name": "echo"}},
         "endpoints": [{"addresses": ["2001:db8::1"]}], "ports": [{"name": "echo", "port": 7}]},
    )  # fmt: skip
    ours, theirs = free_port(), free_port()
    flags = ("--watch-namespace", "mine", "--election-id", "streams", "--tcp-services-configmap", "other/tcp")
    running = instances.start("streams", *flags)
    data = {str(ours): "mine/echo:7", str(theirs): "other/echo:7"}
    api.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp", "namespace": "other"}, "data": data}
    )
    wait(api, lambda: is_open(ours), "the port to be open", running)
    assert not is_open(theirs)
    about = f"data.{theirs}: leads to namespace other, and only mine is served"
    wait(api, lambda: about in running.log, "it to be said", running)
    wait(api, lambda: about in api.kubectl("get", "events", "-n", "other"), "an Event of the ConfigMap", running)
    api.kubectl("delete", "configmap", "tcp", "-n", "other")
    wait(api, lambda: not is_open(ours), "the port to be closed", running)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True

"""`lbcore doctor` and `kubectl lb` against a real API server, and its probes on a real segment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from lbcore.adapters.kubernetes.crds import definitions
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.lab.controlplane import ApiServer, assets
from lbcore.lab.namespaces import Namespace

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SYSTEM = "metallb-system"


def kubectl_lb(api: ApiServer, *argv: str) -> tuple[int, str, str]:
    """As a user types it: kubectl finds `kubectl-lb` on PATH."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "KUBECONFIG": str(api.kubeconfig)}
    command = [str(assets("kubectl") / "kubectl"), "lb", *argv]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.needs("envtest", "openssl", "kubectl")
def test_the_doctor_finds_what_is_wrong_in_a_cluster_and_says_how_to_mend_it(api: ApiServer) -> None:
    api.kubectl("create", "namespace", SYSTEM)
    code, said, errors = kubectl_lb(api, "doctor")  # before there are definitions: nothing to read is no error
    assert (0, "") == (code, errors)
    assert "note: kube-proxy" in said

    api.kubectl("apply", "--server-side", "-f", "-", text=documents_text(definitions()))
    path = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools"
    api.wait(lambda: api.request("GET", path).status == 200, "the resources to be served")
    proxy = {"config.conf": "mode: ipvs\nipvs:\n  strictARP: false\n"}
    meta: dict[str, Any] = {"name": "kube-proxy", "namespace": "kube-system"}
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": proxy})
    label = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    api.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n1", "labels": label}})
    addresses = {"addresses": [{"type": "InternalIP", "address": "127.0.0.77"}]}
    api.ask("PATCH", "/api/v1/nodes/n1/status", {"status": addresses})
    meta = {"name": "pool", "namespace": SYSTEM}
    spec = {"addresses": ["2001:db8::/120", "127.0.0.64/27"]}
    api.apply({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": meta, "spec": spec})
    code, said, errors = kubectl_lb(api, "doctor", "-o", "json")
    found = [each["message"] for each in json.loads(said)["findings"]]
    assert 1 == code
    assert "IPAddressPool metallb-system/pool: spec.addresses[1]" in errors  # what is not in force is said, too
    assert [each for each in found if "without strict ARP" in each]
    assert [each for each in found if "none announces" in each]


@pytest.mark.needs("envtest", "openssl", "kubectl")
def test_who_may_read_nothing_is_told_so_and_the_doctor_goes_on(api: ApiServer, namespace: str) -> None:
    api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "poor"}})
    poor = api.kubeconfig_of(namespace, "poor")
    command = [str(BIN / "lbcore"), "doctor", "--kubeconfig", str(poor)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert "cannot read /api/v1/nodes" in done.stderr
    assert "Traceback" not in done.stderr
    assert "note: kube-proxy" in done.stdout


@pytest.mark.needs("envtest", "openssl", "kubectl")
def test_kubectl_lb_is_the_same_command_line(api: ApiServer) -> None:
    code, said, _ = kubectl_lb(api, "--help")
    assert 0 == code
    assert said.startswith("Usage: kubectl lb [OPTIONS] COMMAND")


def _ends(name: str, *addresses: tuple[str, int]) -> None:
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=name)[0]
        ip.link("set", index=index, state="up")
        for address, length in addresses:
            options = {"flags": 0x02} if ":" in address else {}  # no duplicate detection
            ip.addr("add", index=index, address=address, prefixlen=length, **options)


def _cable(pid: int) -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "eth0", "net_ns_pid": pid})


_ASK = """
import asyncio
from lbcore.addresses import Address
from lbcore.backends.netlink import local_networks
from lbcore.backends.probing import answering, probe_ports
each = [Address.parse(text) for text in ("192.168.20.2", "192.168.20.3", "fd00:20::2", "fd00:20::3")]
print(sorted(str(found) for found in answering("eth0", each)))
print([str(network) for network in local_networks()])
ports = asyncio.run(probe_ports([("near", each[0], 7946), ("far", each[1], 7946)]))
print(sorted((name, state.value) for (name, _), state in ports.items()))
"""


@pytest.mark.needs("netns", "packet")
def test_who_answers_on_a_real_segment_is_heard_by_arp_and_by_ndp() -> None:
    with Namespace("near") as near, Namespace("far") as far:
        near.call(_cable, far.pid)
        far.call(_ends, "eth0", ("192.168.20.2", 24), ("fd00:20::2", 64))
        near.call(_ends, "eth0", ("192.168.20.1", 24), ("fd00:20::1", 64))
        done = near.run([sys.executable, "-c", _ASK], check=True)
        assert [
            "['192.168.20.2', 'fd00:20::2']",
            "['192.168.20.0/24', 'fd00:20::/64']",
            "[('far', 'silent'), ('near', 'closed')]",
        ] == done.stdout.splitlines()

"""The lab's API server: its users, its faults, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lbcore.lab import LabError, LabUnavailable
from lbcore.lab.controlplane import ASSETS, ApiServer, assets, free_ports

pytestmark = pytest.mark.slow
needs_server = pytest.mark.needs("envtest", "openssl", "kubectl")


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
    except FileNotFoundError:
        return False


@needs_server
def test_a_service_account_has_its_own_rights_and_its_requests_stand_in_the_audit_log(
    api: ApiServer, namespace: str
) -> None:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api.ask("POST", accounts, {"metadata": {"name": "poor"}})
    poor = api.kubeconfig_of(namespace, "poor")
    assert "forbidden" in api.kubectl("get", "services", "-n", namespace, check=False, kubeconfig=poor)
    assert "" == api.kubectl("get", "services", "-n", namespace, check=False)
    told = [
        (each["verb"], each["objectRef"]["resource"], each["responseStatus"]["code"])
        for each in api.requests()
        if each["user"]["username"] == f"system:serviceaccount:{namespace}:poor" and "objectRef" in each
    ]
    assert [("list", "services", 403)] == told


@needs_server
def test_what_was_written_survives_the_death_of_server_and_store(own_api: ApiServer) -> None:
    own_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}})
    own_api.server.kill()
    own_api.etcd.kill()
    own_api.etcd.start()
    own_api.restart()
    assert own_api.request("GET", "/api/v1/namespaces/kept").status == 200


@needs_server
def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(LabError, match=r"kube-apiserver has ended.*no-such-flag"):
        ApiServer.start(flags=["--no-such-flag"])


_OWNER = """
import sys, time
from lbcore.lab.controlplane import ApiServer
api = ApiServer.start()
print(api.etcd.pid, api.server.pid, api.folder, flush=True)
time.sleep(600)
"""


@needs_server
def test_nothing_is_left_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    store, server, folder = owner.stdout.readline().split()
    assert alive(int(store))
    assert alive(int(server))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 10
    while alive(int(store)) or alive(int(server)) or Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_the_variable_one_line_says_what_it_is_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ASSETS, raising=False)
    with pytest.raises(LabUnavailable, match=r"KUBEBUILDER_ASSETS is not set.*setup-envtest"):
        assets("etcd")


def test_a_folder_that_lacks_a_program_is_named_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ASSETS, os.fspath(tmp_path))
    with pytest.raises(LabUnavailable, match=r"has no etcd"):
        assets("etcd")


def test_free_ports_are_different_ones() -> None:
    assert 20 == len(set(free_ports(20)))

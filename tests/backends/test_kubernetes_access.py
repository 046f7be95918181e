"""Credentials as kubernetes_asyncio reads them, for our own client; without the rest of that library."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lbcore.backends.kubernetes.access import Access, AccessError, Credentials

_ALONE = """\
import asyncio, sys
from pathlib import Path
from lbcore.backends.kubernetes.access import Access, Credentials
credentials = Credentials(Access(kubeconfig=Path(sys.argv[1])))
print(asyncio.run(credentials.header())["Authorization"], credentials.url)
print(sum(name.startswith("kubernetes_asyncio") for name in sys.modules))
from kubernetes_asyncio.client import ApiClient, CoreV1Api
print(ApiClient.__module__, CoreV1Api.__name__)
"""


def kubeconfig(folder: Path, user: dict[str, object], **cluster: object) -> Path:
    path = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def signed_in(path: Path) -> tuple[dict[str, str], str]:
    credentials = Credentials(Access(kubeconfig=path))
    return asyncio.run(credentials.header()), credentials.url


def test_only_the_reader_of_credentials_is_loaded_and_the_client_is_whole_for_others(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"token": "abc"}, server="http://[2001:db8::1]:6443")
    done = subprocess.run([sys.executable, "-c", _ALONE, str(path)], capture_output=True, text=True, check=True)
    assert ["Bearer abc http://[2001:db8::1]:6443", "0", "kubernetes_asyncio.client.api_client CoreV1Api"] == (
        done.stdout.splitlines()
    )


def test_a_program_that_prints_credentials_is_asked(tmp_path: Path) -> None:
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "made"}}
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({json.dumps(json.dumps(said))})"],
        "interactiveMode": "Never",
    }
    path = kubeconfig(tmp_path, {"exec": program}, server="http://127.0.0.1:6443")
    assert ({"Authorization": "Bearer made"}, "http://127.0.0.1:6443") == signed_in(path)


def test_a_token_in_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("filed\n")
    path = kubeconfig(tmp_path, {"tokenFile": str(tmp_path / "token")}, server="http://127.0.0.1:6443")
    assert {"Authorization": "Bearer filed"} == signed_in(path)[0]


def test_a_cluster_without_a_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"config: its cluster has no field server"):
        signed_in(kubeconfig(tmp_path, {"token": "abc"}, **{"insecure-skip-tls-verify": True}))


def test_a_name_for_the_certificate_and_no_check_of_it_are_obeyed(tmp_path: Path) -> None:
    path = kubeconfig(
        tmp_path,
        {"token": "abc"},
        server="https://127.0.0.1:6443",
        **{"insecure-skip-tls-verify": True, "tls-server-name": "api.example"},
    )
    credentials = Credentials(Access(kubeconfig=path))
    asyncio.run(credentials.header())
    context = credentials.tls()
    assert "api.example" == credentials.server_name
    assert not isinstance(context, bool)
    assert not context.check_hostname

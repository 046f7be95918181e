"""MetalLB's speaker as a sender of routes: an API server with so many Services on the node, and the program itself.

The Services have their addresses and endpoints before a speaker starts, so that no controller is measured. There is no
way to the router until the speaker has all routes ready; then it gets through when it tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.apiload import connected
from benchmarks.bgpsender import prefixes
from benchmarks.report import progress
from benchmarks.wire import ASKER4, SERVER4, Wire
from lbcore.adapters.kubernetes.crds import definitions
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.addresses import Address
from lbcore.lab.controlplane import ApiServer

__all__ = ["is_there", "metallb"]

Sender = Callable[[Wire, Path, int, int], contextlib.AbstractContextManager[subprocess.Popen[bytes]]]

PATIENCE = 600.0  # seconds until the speaker has its routes (10,000: more than 150), and until its next try to connect
_SYSTEM, _NODE, _POD = "metallb-system", "n1", "speaker-n1"
_METRICS = 7472


def is_there() -> bool:
    """Whether the programs are."""
    return bool(os.environ.get("LBCORE_PEERS") and os.environ.get("KUBEBUILDER_ASSETS"))


@contextlib.contextmanager
def metallb(wire: Wire, count: int) -> Iterator[Sender]:
    """A sender of so many IPv4 routes, to be used as often as one likes."""
    progress(f"an API server with {count} Services for MetalLB")
    options: dict[str, Any] = {"flags": ["--disable-admission-plugins=ServiceAccount"]}
    with ApiServer.start(space=wire.server, address=str(SERVER4), **options) as api:
        api.kubectl("apply", "--server-side", "-f", "-", text=documents_text(definitions()))
        api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        _prepare(api)
        wire.server.call(lambda: asyncio.run(_fill(api, count)))
        yield lambda wire, _folder, _version, count: _speaking(api, wire, count)


def _prepare(api: ApiServer) -> None:
    for name in (_SYSTEM, "shop"):
        api.kubectl("create", "namespace", name)
    api.ask("POST", "/api/v1/nodes", {"metadata": {"name": _NODE}})
    labels = {"app": "metallb", "component": "speaker"}
    pod = {"nodeName": _NODE, "hostNetwork": True, "containers": [{"name": "speaker", "image": "speaker"}]}
    api.ask("POST", f"/api/v1/namespaces/{_SYSTEM}/pods", {"metadata": {"name": _POD, "labels": labels}, "spec": pod})
    first = Address(4, prefixes(4, 1)[0].value)
    peer = {"myASN": 64513, "peerASN": 64512, "peerAddress": str(ASKER4), "holdTime": "90s"}
    for kind, version, spec in (
        ("BGPPeer", "v1beta2", peer),
        ("IPAddressPool", "v1beta1", {"addresses": [f"{first}/16"]}),
        ("BGPAdvertisement", "v1beta1", {}),
    ):
        metadata = {"name": "all", "namespace": _SYSTEM}
        api.apply({"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec})


async def _fill(api: ApiServer, count: int) -> None:
    addresses = [str(Address(4, prefix.value)) for prefix in prefixes(4, count)]
    async with connected(api) as load:

        async def serve(name: str, number: int) -> None:
            await load.patch_address(name, addresses[number])
            await load.create_endpoints(name, _NODE)

        await load.create_all([f"s{number}" for number in range(count)], serve)


@contextlib.contextmanager
def _speaking(api: ApiServer, wire: Wire, count: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(Path(os.environ["LBCORE_PEERS"]) / "metallb-speaker"), "--kubeconfig", str(api.kubeconfig)]
    command += ["--namespace", _SYSTEM, "--host", "127.0.0.1", "--port", str(_METRICS), "--log-level", "error"]
    names = {"BGP_TYPE": "native", "NODE_NAME": _NODE, "HOST": str(SERVER4), "POD_NAME": _POD}
    environment = os.environ | {f"METALLB_{name}": value for name, value in names.items()}
    barred = ["unreachable", f"{ASKER4}/32"]
    wire.server.run(["ip", "route", "add", *barred], check=True)
    program = wire.server.spawn(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: wire.server.call(_told, "pending_prefixes_total", api.token) >= count, program, "get its routes")
        wire.server.run(["ip", "route", "delete", *barred], check=True)
        _wait(lambda: wire.server.call(_told, "session_up", api.token) == 1, program, "reach the router")
        yield program
    finally:
        wire.server.run(["ip", "route", "delete", *barred])
        program.kill()
        program.wait()


def _wait(condition: Callable[[], bool], program: subprocess.Popen[bytes], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if program.poll() is not None or time.monotonic() > end:
            raise TimeoutError(f"MetalLB's speaker does not {what}")
        time.sleep(0.5)  # seldom: its answers cost processor time


def _told(name: str, token: str) -> float:
    """One of its metrics of BGP; its page is for those whom the API server lets see it."""
    anybody = ssl._create_unverified_context()  # it signs its certificate itself
    headers = {"Authorization": f"Bearer {token}"}
    asked = urllib.request.Request(f"https://127.0.0.1:{_METRICS}/metrics", headers=headers)
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(asked, timeout=5, context=anybody) as page:
            found = re.search(rf"^metallb_bgp_{name}\{{[^}}]*\}} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0
    return 0.0

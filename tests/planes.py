"""Real API servers for tests: one for all tests of a module, which keep apart by a namespace each.

A module that uses `api` or `own_api` carries `pytest.mark.needs("envtest", "openssl")`, and "kubectl" where it calls
that. Cluster-wide objects (pools, CRDs) stay until the module's end. No controller runs beside the server: a
namespace that is deleted keeps its objects, and Pods are made without the admission of ServiceAccounts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from lbcore.lab.controlplane import ApiServer

__all__ = ["NODE", "api", "as_one_node", "namespace", "own_api"]

NODE = "192.168.20.1"  # of the node that `as_one_node` makes

_WITHOUT_CONTROLLERS = ("--disable-admission-plugins=ServiceAccount",)
_numbers = itertools.count(1)


def as_one_node() -> None:
    """To be called in a namespace, which is a node then: loopback, and one link with addresses of both families."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "wire"})
        for name in ("eth0", "wire"):
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
        eth0 = ip.link_lookup(ifname="eth0")[0]
        ip.addr("add", index=eth0, address=NODE, prefixlen=24)
        ip.addr("add", index=eth0, address="fd00:20::1", prefixlen=64, flags=0x02)  # no duplicate detection


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """An API server with an audit log, for all tests of a file."""
    with ApiServer.start(audit=True, flags=_WITHOUT_CONTROLLERS) as running:
        yield running


@pytest.fixture
def own_api() -> Iterator[ApiServer]:
    """The same for one test alone, which may break it."""
    with ApiServer.start(audit=True, flags=_WITHOUT_CONTROLLERS) as running:
        yield running


@pytest.fixture
def namespace(api: ApiServer) -> str:
    """A namespace that no other test uses."""
    name = f"test-{next(_numbers)}"
    api.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name

"""Rights that are taken away and given back, and definitions that are missing, while a controller runs.

What it may not do is named once, in the log and at /readyz; the rest goes on; when the right is back nothing has to be
started anew. Afterwards the judge of `test_kubernetes_faults.py` looks at every write.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from fleet import advertisement, pool
from kubefleet import CRDS, SYSTEM, accounts
from lbcore.lab.controlplane import Daemon, free_ports
from tlsrelay import Relay, relayed
from trouble import Troubled, troubled

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "kubectl", "openssl")]

_ROLES = (
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/lbcore-controller",
    f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SYSTEM}/roles/lbcore-controller",
)


@pytest.fixture
def cluster() -> Iterator[Troubled]:
    with troubled() as running:
        yield running


class Watched:
    """A controller with the chart's rights behind a relay, and what it says of itself."""

    def __init__(self, cluster: Troubled, relay: Relay) -> None:
        self.cluster = cluster
        self.relay = relay
        (self._port,) = free_ports(1)
        kubeconfig = cluster.api.kubeconfig_of(SYSTEM, "lbcore-controller", relay.url)
        self.daemon: Daemon = cluster.controller("--metrics-port", str(self._port), kubeconfig=kubeconfig)

    def readiness(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as answer:
                return str(answer.read(), "utf-8")
        except urllib.error.HTTPError as error:
            return str(error.read(), "utf-8")
        except OSError:
            return ""

    def wait_until_ready(self) -> None:
        self.cluster.wait(lambda: self.readiness().startswith("ready"), "it to be ready")

    def lines(self, words: str, since: int = 0) -> list[str]:
        return [line for line in self.daemon.said(10**7)[since:].splitlines() if words in line]

    @contextmanager
    def forbidden(self, resources: Sequence[str], *verbs: str) -> Iterator[int]:
        """Without these rights while the block lasts; how much had been said when they were taken."""
        api = self.cluster.api
        roles = {path: api.ask("GET", path) for path in _ROLES}
        since = len(self.daemon.said(10**7))
        for path, role in roles.items():
            rules = [rule for rule in _without(role["rules"], resources, verbs) if rule["resources"]]
            api.ask("PATCH", path, {"rules": rules})
        try:
            yield since
        finally:
            for path, role in roles.items():
                api.ask("PATCH", path, {"rules": role["rules"]})


def _without(
    rules: Sequence[dict[str, Any]], resources: Sequence[str], verbs: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for rule in rules:
        stay = [each for each in rule["resources"] if each not in resources]
        less = [verb for verb in rule["verbs"] if verb not in verbs]
        yield {**rule, "resources": stay}
        yield {
            **rule,
            "resources": [each for each in rule["resources"] if each in resources] if less else [],
            "verbs": less,
        }


def test_what_it_may_not_do_is_named_once_and_done_when_it_may_again(cluster: Troubled) -> None:
    cluster.api.apply(*accounts())
    with relayed(cluster.api) as relay:
        watched = Watched(cluster, relay)
        cluster.wait_for_served(cluster.create(5))
        watched.wait_until_ready()

        reads = ("services", "namespaces", "ipaddresspools", "l2advertisements", "configmaps", "bgppeers")
        with watched.forbidden(reads, "list", "watch") as since:
            relay.hang_up()
            for kind in reads[:4]:
                cluster.wait(lambda kind=kind: f"cannot read {kind}" in watched.readiness(), kind)  # type: ignore[misc]
            (unseen,) = cluster.create(1)
        cluster.wait_for_served()
        watched.wait_until_ready()
        for kind in reads:
            expected = 1 if kind in reads[:4] else 0  # the others need not be there
            assert expected == len(watched.lines(f"cannot read {kind}", since)), kind
        assert cluster.addresses()[unseen]

        with watched.forbidden(["services/status"], "patch") as since:
            pending = cluster.create(20)
            cluster.wait(lambda: "cannot write services/status" in watched.readiness(), "that to be named")
            cluster.wait(lambda: watched.lines("not carried out", since), "a line about it")
            assert not any(cluster.addresses()[name] for name in pending)
        cluster.wait_for_served()
        cluster.wait(lambda: watched.lines("carried out, with all that waited", since), "the end of it")
        assert 1 == len(watched.lines("not carried out", since))
        watched.wait_until_ready()

        # Nobody is kept waiting for an address by what else may not be written.
        others = ["ipaddresspools/status", "configurationstates/status", "configurationstates", "events"]
        with watched.forbidden(others, "patch", "create", "get") as since:
            cluster.api.apply(pool("overlaps", "172.16.0.0/24"))
            cluster.wait_for_served(cluster.create(5))
            cluster.wait(lambda: "cannot write ipaddresspools/status" in watched.readiness(), "that to be named")
            cluster.wait(lambda: watched.lines("cannot write Events", since), "a line about Events")
            cluster.wait(lambda: len(watched.lines("not carried out", since)) == 2, "a line about each")
        cluster.api.ask("DELETE", f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/overlaps")
        cluster.wait_for_served(cluster.create(5))
        watched.wait_until_ready()
        assert 1 == len(watched.lines("cannot write Events", since))
        assert 2 == len(watched.lines("not carried out", since))

        with watched.forbidden(["leases"], "get", "create", "update") as since:
            cluster.wait(lambda: watched.lines("not leading", since), "it to lead no more")
            cluster.create(5)
        cluster.wait_for_served()
        assert 1 == len(watched.lines("the Lease: ", since))
        cluster.require_order()


def test_definitions_that_are_missing_or_come_again_are_waited_for(cluster: Troubled) -> None:
    definitions = {
        each["spec"]["names"]["plural"]: each for each in yaml.safe_load_all(CRDS.read_text("utf-8")) if each
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    gone = ("ipaddresspools", "bgppeers")

    def forget() -> None:
        for plural in gone:
            cluster.api.ask("DELETE", f"{path}/{plural}.metallb.io")
        while not all(_status(cluster, plural) == 404 for plural in gone):
            time.sleep(0.05)

    def define() -> None:
        cluster.api.apply(*(definitions[plural] for plural in gone))
        cluster.api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        cluster.api.apply(pool("first", "172.16.0.0/20"), advertisement())

    forget()
    controller = cluster.controller()
    cluster.wait(lambda: "cannot read ipaddresspools: 404" in controller.said(10**6), "a line about the pools")
    cluster.create(5)
    assert 0 == cluster.served()
    define()
    cluster.wait_for_served()

    # The definition takes the pools with it, and these the addresses: that is what their owner has asked for.
    forget()
    cluster.wait(lambda: cluster.served() == 0, "the addresses to be given back")
    cluster.create(5)
    define()
    cluster.require_order()
    # Twice it was away; a server that makes a definition ready says 429 for a while, before or after.
    assert 1 <= controller.said(10**7).count("cannot read ipaddresspools: ") <= 4, controller.said()
    assert "cannot read bgppeers: 404" not in controller.said(10**7)


def _status(cluster: Troubled, plural: str) -> int:
    return cluster.api.request("GET", f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/{plural}").status

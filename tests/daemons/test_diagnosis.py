"""What `lbcore doctor` finds in facts: each fault with its cure, and nothing where all is well."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange
from lbcore.backends.probing import Port
from lbcore.bgp import BGPPeer
from lbcore.config import Config, L2Advertisement, Pool
from lbcore.daemons.diagnosis import EXCLUDE, Facts, Level, diagnose


def proxy(mode: str, strict: bool = False) -> dict[str, Any]:
    text = f'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nipvs:\n  strictARP: {str(strict).lower()}\nmode: "{mode}"\n'
    return {"metadata": {"name": "kube-proxy", "namespace": "kube-system"}, "data": {"config.conf": text}}


def node(name: str, *addresses: str, **labels: str) -> dict[str, Any]:
    listed = [{"type": "InternalIP", "address": each} for each in addresses]
    return {"metadata": {"name": name, "labels": labels}, "status": {"addresses": listed}}


def workload(name: str, *args: str, **labels: str) -> dict[str, Any]:
    containers = [{"name": "x", "args": list(args)}]
    metadata = {"name": name, "namespace": "there", "labels": labels}
    return {"metadata": metadata, "spec": {"replicas": 1, "template": {"spec": {"containers": containers}}}}


POOL = Pool.parse("pool", "2001:db8:1::/112", "192.0.2.16/28")
WELL = Facts(
    config=Config(pools=(POOL,), l2_advertisements=(L2Advertisement(name="all"),)),
    nodes=(node("n1", "2001:db8:1::1:1", "192.0.2.1"), node("n2", "192.0.2.2")),
    config_maps=(proxy("ipvs", strict=True),),
    ports={("n1", 7946): Port.OPEN, ("n2", 7946): Port.CLOSED},
    networks=(AddressRange.parse("2001:db8:1::/64"), AddressRange.parse("192.0.2.0/24")),
    deployments=(workload("lbcore-controller", **{"app.kubernetes.io/name": "lbcore"}),),
)
PEER = BGPPeer(name="spine", my_asn=64500, peer_asn=64501, address=Address.parse("2001:db8::1"))


def test_where_all_is_well_nothing_is_found() -> None:
    assert () == diagnose(WELL)
    assert () == diagnose(Facts(config_maps=(proxy(""),)))


@pytest.mark.parametrize(
    ("changes", "level", "message", "cure"),
    [
        ({"config_maps": (proxy("ipvs"),)}, Level.ERROR, "without strict ARP", "ipvs.strictARP"),
        ({"config_maps": (proxy("userspace"),)}, Level.WARNING, "mode 'userspace'", "use nftables"),
        ({"config_maps": ()}, Level.NOTE, "mode is not known", "strictARP"),
        ({"ports": {("n1", 7946): Port.SILENT}}, Level.WARNING, "TCP port 7946", "firewall"),
        ({"nodes": (node("n1", "2001:db8:1::7"),)}, Level.ERROR, "an address of node n1", "take it out"),
        ({"nodes": (node("n1", **{EXCLUDE: ""}),)}, Level.ERROR, "so that none announces", "kubectl label nodes"),
        ({"answering": {Address.parse("2001:db8:1::9"): "02:00:00:00:00:01"}}, Level.ERROR, "02:00", "DHCP"),
        ({"networks": (AddressRange.parse("2001:db8:2::/64"),)}, Level.WARNING, "in no subnet of a node", "route"),
        ({"deployments": (workload("controller", app="metallb"),)}, Level.ERROR, "both would write", "--lb-class"),
        ({"daemon_sets": (workload("kube-vip-ds"),)}, Level.ERROR, "both would write", "stop one of them"),
    ],
)  # fmt: skip
def test_each_fault_is_found_once_with_its_cure(changes: dict[str, Any], level: Level, message: str, cure: str) -> None:
    (found,) = diagnose(attrs.evolve(WELL, **changes))
    assert level is found.level
    assert message in found.message
    assert cure in found.cure


def test_a_cni_that_speaks_bgp_matters_where_there_are_peers() -> None:
    calico = workload("calico-node")
    assert () == diagnose(attrs.evolve(WELL, daemon_sets=(calico,)))
    with_peers = attrs.evolve(WELL, config=Config(bgp_peers=(PEER,)), daemon_sets=(calico,))
    (found,) = diagnose(with_peers)
    assert "DaemonSet there/calico-node" == found.about
    cilium = {"metadata": {"name": "cilium-config"}, "data": {"enable-bgp-control-plane": "true"}}
    (found,) = diagnose(attrs.evolve(with_peers, daemon_sets=(), config_maps=(proxy("nftables"), cilium)))
    assert "Cilium's BGP control plane" == found.about


def test_another_controller_of_another_class_or_with_no_replicas_is_let_be() -> None:
    theirs = workload("controller", "--lb-class=metallb.io/theirs", app="metallb")
    assert () == diagnose(attrs.evolve(WELL, deployments=(theirs,)))
    stopped = workload("controller", app="metallb")
    stopped["spec"]["replicas"] = 0
    assert () == diagnose(attrs.evolve(WELL, deployments=(stopped,)))
    same = attrs.evolve(WELL, deployments=(theirs,), load_balancer_class="metallb.io/theirs")
    assert 1 == len(diagnose(same))


def test_one_node_without_the_label_is_enough() -> None:
    assert () == diagnose(attrs.evolve(WELL, nodes=(node("n1", **{EXCLUDE: ""}), node("n2"))))


def test_a_pool_without_a_layer_2_advertisement_may_lie_anywhere() -> None:
    elsewhere = (AddressRange.parse("2001:db8:2::/64"), AddressRange.parse("10.0.0.0/8"))
    assert () == diagnose(attrs.evolve(WELL, networks=elsewhere, config=Config(pools=(POOL,))))


jsonish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["metadata", "name", "labels", "data", "spec", "status", "addresses"]), inner)
    ),
    max_leaves=10,
)
objects = st.lists(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "data"]), jsonish), max_size=3)


@given(objects, objects, objects, objects)
def test_strange_objects_never_break_it(nodes: Any, maps: Any, sets: Any, deployments: Any) -> None:
    workloads: dict[str, Any] = {"daemon_sets": tuple(sets), "deployments": tuple(deployments)}
    diagnose(attrs.evolve(WELL, nodes=tuple(nodes), config_maps=tuple(maps), **workloads))

"""What in a cluster keeps load balancing from working, and what to do: facts in, findings out.

Nothing is asked here. Objects are the API server's JSON as it stands, for most of what matters is in objects
that lbcore never reads otherwise; whatever is missing or strange in them gives no finding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

from lbcore.addresses import Address, AddressRange
from lbcore.backends.probing import Port
from lbcore.config import Config, Pool
from lbcore.errors import AddressError

__all__ = ["Facts", "Finding", "Level", "diagnose"]

EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"

Object = Mapping[str, Any]


class Level(Enum):
    """How bad: ERROR keeps addresses from working, WARNING may, NOTE is for your information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@frozen(kw_only=True)
class Finding:
    """One thing found: what it is about, what is so, and the cure."""

    level: Level
    about: str
    message: str
    cure: str


@frozen(kw_only=True)
class Facts:
    """What is known. `ports`: by node and number. `answering`: addresses of pools that no Service has, and who
    answers for them. `networks`: subnets of nodes, empty when unknown.
    """

    config: Config = field(factory=Config)
    nodes: tuple[Object, ...] = ()
    config_maps: tuple[Object, ...] = ()  # of kube-system
    daemon_sets: tuple[Object, ...] = ()
    deployments: tuple[Object, ...] = ()
    ports: Mapping[tuple[str, int], Port] = field(factory=dict)
    answering: Mapping[Address, str] = field(factory=dict)
    networks: tuple[AddressRange, ...] = ()
    load_balancer_class: str | None = None


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Everything found, the worst first."""
    found = [finding for rule in _RULES for finding in rule(facts)]
    return tuple(sorted(found, key=lambda finding: list(Level).index(finding.level)))


def _at(value: object, *path: str) -> Any:
    """What stands at a path of mappings; None where there is nothing."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _name(found: Object) -> str:
    return str(_at(found, "metadata", "name") or "")


def _where(found: Object) -> str:
    return f"{_at(found, 'metadata', 'namespace') or 'default'}/{_name(found)}"


def _labels(found: Object) -> Mapping[str, object]:
    labels = _at(found, "metadata", "labels")
    return labels if isinstance(labels, Mapping) else {}


def _proxy(facts: Facts) -> Iterator[Finding]:
    """How kube-proxy is set up: kubeadm and others keep that in a ConfigMap."""
    found = next((each for each in facts.config_maps if _name(each) == "kube-proxy"), None)
    text = _at(found, "data", "config.conf")
    if not isinstance(text, str):
        yield Finding(
            level=Level.NOTE,
            about="kube-proxy",
            message="its configuration is not in the ConfigMap kube-system/kube-proxy, so its mode is not known",
            cure="in IPVS mode see that strictARP is on; if something else takes its place, see that it serves "
            "addresses of status.loadBalancer",
        )
        return
    mode, strict = _setting(text, "mode") or "iptables", _setting(text, "strictARP") == "true"
    if mode == "ipvs" and not strict:
        yield Finding(
            level=Level.ERROR,
            about="kube-proxy",
            message="is in IPVS mode without strict ARP: every node answers for every address",
            cure="set ipvs.strictARP to true in the ConfigMap kube-system/kube-proxy, and restart kube-proxy "
            "(kubectl rollout restart -n kube-system daemonset/kube-proxy)",
        )
    elif mode not in ("ipvs", "iptables", "nftables"):
        yield Finding(
            level=Level.WARNING,
            about="kube-proxy",
            message=f"is in mode {mode[:40]!r}, which lbcore has not been tried with",
            cure="use nftables, iptables, or ipvs with strictARP",
        )


def _setting(text: str, name: str) -> str:
    found = re.search(rf"^\s*{name}:[ \t]*([^\s#]*)", text, re.MULTILINE)
    return found[1].strip("\"'") if found else ""


def _ports(facts: Facts) -> Iterator[Finding]:
    for (node, number), state in sorted(facts.ports.items()):
        if state is Port.SILENT:
            yield Finding(
                level=Level.WARNING,
                about=f"Node {node}",
                message=f"does not answer at TCP port {number}, not even that it is closed",
                cure=f"let the nodes reach each other at port {number}, TCP and UDP, in every firewall between them",
            )


def _bgp_of_others(facts: Facts) -> Iterator[Finding]:
    """A CNI that speaks BGP itself: most routers keep one session with a node, and drop the other."""
    if not facts.config.bgp_peers:
        return
    speakers = [
        f"DaemonSet {_where(each)}"
        for each in facts.daemon_sets
        if _name(each) == "kube-router" or (_name(each) == "calico-node" and _calico_backend(each) == "bird")
    ]
    if any(
        _name(each) == "cilium-config" and _at(each, "data", "enable-bgp-control-plane") == "true"
        for each in facts.config_maps
    ):
        speakers.append("Cilium's BGP control plane")
    for speaker in speakers:
        yield Finding(
            level=Level.WARNING,
            about=speaker,
            message="speaks BGP on the nodes too, and may hold port 179 and the session with your routers",
            cure="give lbcore routers of its own, or let the CNI announce (Calico: serviceLoadBalancerIPs)",
        )


def _calico_backend(daemon_set: Object) -> str:
    containers = _at(daemon_set, "spec", "template", "spec", "containers")
    for container in containers if isinstance(containers, list) else ():
        variables = _at(container, "env")
        for each in variables if isinstance(variables, list) else ():
            if _at(each, "name") == "CALICO_NETWORKING_BACKEND":
                return str(_at(each, "value") or "bird")
    return "bird"


def _addresses_of_nodes(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        listed = _at(node, "status", "addresses")
        for each in listed if isinstance(listed, list) else ():
            address = _parsed(_at(each, "address"))
            pool = _pool_of(facts, address) if address is not None else None
            if address is not None and pool is not None:
                yield Finding(
                    level=Level.ERROR,
                    about=f"IPAddressPool {pool.name}",
                    message=f"holds {address}, which is an address of node {_name(node)}",
                    cure="take it out of the pool's addresses; a Service that got it would cut the node off",
                )


def _parsed(text: object) -> Address | None:
    try:
        return Address.parse(text) if isinstance(text, str) else None
    except AddressError:
        return None


def _pool_of(facts: Facts, address: Address) -> Pool | None:
    return next((pool for pool in facts.config.pools if address in pool), None)


def _rivals_on_the_segment(facts: Facts) -> Iterator[Finding]:
    for address, who in sorted(facts.answering.items()):
        pool = _pool_of(facts, address)
        yield Finding(
            level=Level.ERROR,
            about=f"IPAddressPool {pool.name}" if pool is not None else str(address),
            message=f"{address} is no Service's, and {who} answers for it already",
            cure="take it out of the pool, or off that machine; see whether a DHCP server gives it away",
        )


def _outside(facts: Facts) -> Iterator[Finding]:
    for pool in facts.config.pools:
        if not any(advert.selects_pool(pool) for advert in facts.config.l2_advertisements):
            continue
        for each in pool.ranges:
            same = [network for network in facts.networks if network.version == each.version]
            if same and not any(network.overlaps(each) for network in same):
                yield Finding(
                    level=Level.WARNING,
                    about=f"IPAddressPool {pool.name}",
                    message=f"{each} is in no subnet of a node ({', '.join(str(network) for network in same[:4])}), so "
                    "nobody asks for it by ARP or NDP",
                    cure="take addresses of the nodes' subnet, or route these to the nodes' segment",
                )


def _excluded(facts: Facts) -> Iterator[Finding]:
    if facts.nodes and all(EXCLUDE in _labels(node) for node in facts.nodes):
        yield Finding(
            level=Level.ERROR,
            about="every Node",
            message=f"has the label {EXCLUDE}, so that none announces (kubeadm gives it to control plane nodes)",
            cure=f"kubectl label nodes --all {EXCLUDE}- , or start the speakers with --ignore-exclude-lb",
        )


_OTHERS: tuple[tuple[str, Callable[[Object], bool]], ...] = (
    ("MetalLB", lambda found: _at(_labels(found), "app") == "metallb" or _chart(found) == "metallb"),
    ("OpenELB", lambda found: _name(found).startswith("openelb")),
    ("kube-vip", lambda found: _name(found).startswith("kube-vip")),
    ("k3s ServiceLB", lambda found: "svccontroller.k3s.cattle.io/svcname" in _labels(found)),
    ("PureLB", lambda found: _name(found) in ("allocator", "lbnodeagent")),
)


def _chart(found: Object) -> object:
    return _labels(found).get("app.kubernetes.io/name")


def _other_controllers(facts: Facts) -> Iterator[Finding]:
    seen = set()
    for found in (*facts.deployments, *facts.daemon_sets):
        for name, matches in _OTHERS:
            if name not in seen and matches(found) and _runs(found) and not _serves_another_class(facts, found):
                seen.add(name)
                yield Finding(
                    level=Level.ERROR,
                    about=name,
                    message=f"is there too ({_where(found)}), for the same Services: both would write their status",
                    cure="stop one of them, or give each a loadBalancerClass of its own (--lb-class)",
                )


def _runs(found: Object) -> bool:
    return bool(_at(found, "spec", "replicas") != 0)


def _serves_another_class(facts: Facts, found: Object) -> bool:
    text = json.dumps(_at(found, "spec", "template", "spec", "containers") or [])
    theirs = re.search(r"--?lb-class[= \",]+([^\"\s,]+)", text)
    return bool((theirs[1] if theirs else None) != facts.load_balancer_class)


_RULES: Iterable[Callable[[Facts], Iterator[Finding]]] = (
    _proxy,
    _ports,
    _bgp_of_others,
    _addresses_of_nodes,
    _rivals_on_the_segment,
    _outside,
    _excluded,
    _other_controllers,
)

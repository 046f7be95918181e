"""What kube-proxy does with a Service's load balancer addresses on one node, as an nftables ruleset.

The text is made from typed values only and replaces the node's whole ruleset in one transaction.
The address is never put on an interface: packets for it are rewritten when they arrive, so the
kernel does not answer ARP or NDP for it, and nothing answers a ping.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import field, frozen

from lbcore.addresses import Address
from lbcore.lab.errors import LabError
from lbcore.lab.namespaces import Namespace
from lbcore.model import Port, TrafficPolicy

__all__ = ["Forwarding", "Target", "install", "render"]

_TABLE = "lbcore_proxy"
_FAMILIES = {4: "ip", 6: "ip6"}
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
# The mark of "rewrite the source, too", the bit that kube-proxy uses (masquerade-bit 14).
_MASQUERADE = 0x4000


@frozen(order=True)
class Target:
    """One endpoint: a pod's address and port, and the node that it runs on (empty where unknown)."""

    address: Address
    port: int
    node: str = ""


def _sorted(targets: Iterable[Target]) -> tuple[Target, ...]:
    return tuple(sorted(targets))


@frozen(kw_only=True, order=True)
class Forwarding:
    """Connections to `address` and `port` go to one of `targets`, which are of the address's family."""

    address: Address
    port: Port = field()
    targets: tuple[Target, ...] = field(converter=_sorted)
    policy: TrafficPolicy = field(default=TrafficPolicy.CLUSTER, order=False)

    @port.validator
    def _known_protocol(self, _attribute: object, port: Port) -> None:
        if port.protocol not in _PROTOCOLS:
            raise LabError(f"protocol {port.protocol!r} cannot be forwarded; use TCP, UDP or SCTP")

    @targets.validator
    def _one_family(self, _attribute: object, targets: tuple[Target, ...]) -> None:
        if any(target.address.version != self.address.version for target in targets):
            raise LabError(f"targets of {self.address} must be {self.address.family.value}, as it is")

    def targets_on(self, node: str) -> tuple[Target, ...]:
        """Where connections from outside may go that arrive at this node."""
        if self.policy is TrafficPolicy.CLUSTER:
            return self.targets
        return tuple(target for target in self.targets if target.node == node)

    def match(self) -> str:
        """The nftables expression for packets to it."""
        family, protocol = _FAMILIES[self.address.version], _PROTOCOLS[self.port.protocol]
        return f"{family} daddr {self.address} {protocol} dport {self.port.number:d}"


def render(forwardings: Iterable[Forwarding], node: str) -> str:
    """The ruleset of a node as input for `nft -f -`: it replaces the one before, all or nothing."""
    ordered = sorted(forwardings)
    lines: list[str] = []
    for version, family in _FAMILIES.items():
        ours = [each for each in ordered if each.address.version == version]
        # Adding first makes the deletion of a table that may not exist yet succeed.
        lines += [f"table {family} {_TABLE} {{ }}", f"delete table {family} {_TABLE}", f"table {family} {_TABLE} {{"]
        lines += _chain("refuse", "filter hook forward priority -110", _refusals(ours, node))
        lines += _chain("refuse_own", "filter hook output priority -110", _own_refusals(ours))
        lines += _chain("from_outside", "nat hook prerouting priority -100", _rewrites(ours, node))
        lines += _chain("from_here", "nat hook output priority -100", _own_rewrites(ours))
        lines += _chain(
            "rewrite_source", "nat hook postrouting priority 100", [f"meta mark & {_MASQUERADE} != 0 masquerade"]
        )
        lines.append("}")
    return "\n".join(lines) + "\n"


def install(ruleset: str, node: Namespace) -> None:
    """Put a ruleset made by `render` into force; raises `LabError`, and the old one stays, if nft refuses."""
    node.run(["nft", "-f", "-"], text=ruleset, check=True)


def _chain(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return [f"  chain {name} {{", f"    type {hook};", *(f"    {rule}" for rule in rules), "  }"]


def _refusals(forwardings: Iterable[Forwarding], node: str) -> Iterator[str]:
    """As kube-proxy: without any endpoint refuse at once, without one here (Local) drop, so that it is retried."""
    for each in forwardings:
        if not each.targets:
            yield _refusal(each)
        elif not each.targets_on(node):
            yield f"{each.match()} drop"


def _own_refusals(forwardings: Iterable[Forwarding]) -> Iterator[str]:
    return (_refusal(each) for each in forwardings if not each.targets)


def _refusal(forwarding: Forwarding) -> str:
    # kube-proxy refuses TCP by ICMP, too. That is limited to a few a second, and a client that is only a veth
    # pair away misses it while it is still inside connect(2); a reset always arrives.
    return f"{forwarding.match()} reject" + (" with tcp reset" if forwarding.port.protocol == "TCP" else "")


def _rewrites(forwardings: Iterable[Forwarding], node: str) -> Iterator[str]:
    for each in forwardings:
        targets = each.targets_on(node)
        if not targets:
            continue
        # Under Cluster the answer must come back through this node; under Local the client's address is kept.
        mark = f"meta mark set meta mark | {_MASQUERADE} " if each.policy is TrafficPolicy.CLUSTER else ""
        yield f"{each.match()} {mark}{_choice(each.address, targets)}"


def _own_rewrites(forwardings: Iterable[Forwarding]) -> Iterator[str]:
    """Connections of the node's own programs may go to any endpoint, whatever the policy."""
    for each in forwardings:
        if each.targets:
            mark = f"meta mark set meta mark | {_MASQUERADE}"
            yield f"{each.match()} {mark} {_choice(each.address, each.targets)}"


def _choice(address: Address, targets: tuple[Target, ...]) -> str:
    family = _FAMILIES[address.version]
    entries = ", ".join(f"{index} : {each.address} . {each.port:d}" for index, each in enumerate(targets))
    return f"dnat {family} to numgen random mod {len(targets)} map {{ {entries} }}"

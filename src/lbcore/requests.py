"""Is this request sound, and what does it ask for? A Service's wishes, read and judged.

Sources: Service `spec.loadBalancerIP`, `spec.clusterIPs`, `spec.ipFamilies`, `spec.ipFamilyPolicy`;
MetalLB's annotations `loadBalancerIPs`, `address-pool`, `allow-shared-ip`, under their new prefix
`metallb.io/` and their old one; the new one wins whenever it is there, even when it is empty.
"""

from __future__ import annotations

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address, Family
from lbcore.errors import AddressError
from lbcore.model import IPFamilyPolicy, Labels, Port, Service, ServiceKey
from lbcore.sharing import Sharing, sharing_of
from lbcore.verdicts import Reason, Refusal

__all__ = ["PREFIX", "PREFIX_OLD", "Request", "annotation", "read_request"]

PREFIX = "metallb.io/"
PREFIX_OLD = "metallb.universe.tf/"


@frozen(kw_only=True)
class Request:
    """What one Service asks for, in values that are sound in themselves.

    `families` are those it wants an address of, the first one most; with `all_families` it takes
    all of them or nothing. `addresses` asks for exactly those, sorted; `pool` for one pool by name.
    """

    key: ServiceKey
    families: tuple[Family, ...] = (Family.IPV4,)
    all_families: bool = True
    addresses: tuple[Address, ...] = ()
    pool: str | None = None
    ports: tuple[Port, ...] = ()
    sharing: Sharing | None = None
    labels: Labels = field(factory=Map)


def annotation(service: Service, name: str) -> str | None:
    """The value of one of MetalLB's annotations, or None where it is absent under both prefixes."""
    new = service.annotations.get(PREFIX + name)
    return new if new is not None else service.annotations.get(PREFIX_OLD + name)


def read_request(service: Service) -> Request | Refusal:
    """What a Service asks for, or the refusal of a request that no pool could ever satisfy.

    Refusals: `NO_CLUSTER_IP`, `NOT_DUAL_STACK`, `CONFLICTING_REQUEST`, `BAD_REQUEST`,
    `FAMILY_MISMATCH`.
    """
    families = _families(service)
    if isinstance(families, Refusal):
        return families
    addresses = _addresses(service)
    if isinstance(addresses, Refusal):
        return addresses
    if addresses and {address.family for address in addresses} != set(families):
        return _family_mismatch(service, addresses, families)
    return Request(
        key=service.key,
        families=families,
        all_families=service.ip_family_policy is not IPFamilyPolicy.PREFER_DUAL_STACK,
        addresses=addresses,
        pool=annotation(service, "address-pool") or None,
        ports=tuple(sorted(set(service.ports))),
        sharing=sharing_of(service, annotation(service, "allow-shared-ip") or ""),
        labels=service.labels,
    )


def _refuse(service: Service, reason: Reason, path: str, detail: str) -> Refusal:
    return Refusal(key=service.key, reason=reason, detail=detail, path=path)


def _families(service: Service) -> tuple[Family, ...] | Refusal:
    """The families wanted, the primary one first.

    The API server fills in `clusterIPs`, and then they decide. A manifest that never met one has
    none: then `ipFamilies` and the policy decide, as the API server of a dual-stack cluster would.
    """
    if service.cluster_ips:
        return _families_of_cluster_ips(service)
    families = tuple(dict.fromkeys(service.ip_families)) or (Family.IPV4,)
    if service.ip_family_policy is not IPFamilyPolicy.SINGLE_STACK and len(families) == 1:
        return (families[0], families[0].other)
    return families


def _families_of_cluster_ips(service: Service) -> tuple[Family, ...] | Refusal:
    if "None" in service.cluster_ips:
        text = "a headless Service (clusterIP: None) cannot have an address; remove spec.clusterIP"
        return _refuse(service, Reason.NO_CLUSTER_IP, "spec.clusterIP", text)
    try:
        families = tuple(Address.parse(text).family for text in service.cluster_ips)
    except AddressError as error:
        return _refuse(service, Reason.BAD_REQUEST, "spec.clusterIPs", f"spec.clusterIPs: {error}")
    if len(set(families)) != len(families):
        given = ", ".join(service.cluster_ips)
        text = f"spec.clusterIPs {given} are not one address of each family; give one of each, or leave the field out"
        return _refuse(service, Reason.BAD_REQUEST, "spec.clusterIPs", text)
    if service.ip_family_policy is IPFamilyPolicy.REQUIRE_DUAL_STACK and len(families) < 2:
        text = (
            f"ipFamilyPolicy is RequireDualStack, but the cluster gave only {service.cluster_ips[0]} "
            f"({families[0].value}); set PreferDualStack, or give the cluster both families"
        )
        return _refuse(service, Reason.NOT_DUAL_STACK, "spec.ipFamilyPolicy", text)
    return families


def _addresses(service: Service) -> tuple[Address, ...] | Refusal:
    listed = annotation(service, "loadBalancerIPs") or ""
    if listed and service.load_balancer_ip:
        text = "both spec.loadBalancerIP and the annotation loadBalancerIPs ask for an address; keep one of them"
        return _refuse(service, Reason.CONFLICTING_REQUEST, "spec.loadBalancerIP", text)
    where = "annotation loadBalancerIPs" if listed else "spec.loadBalancerIP"
    texts = (listed or service.load_balancer_ip).split(",") if listed or service.load_balancer_ip else []
    try:
        addresses = tuple(sorted(Address.parse(text) for text in texts))
    except AddressError as error:
        return _refuse(service, Reason.BAD_REQUEST, _path_of_addresses(service), f"{where}: {error}")
    if len({address.family for address in addresses}) != len(addresses):
        text = f"{where} asks for {len(addresses)} addresses; ask for one, or for one of each family"
        return _refuse(service, Reason.BAD_REQUEST, _path_of_addresses(service), text)
    return addresses


def _path_of_addresses(service: Service) -> str:
    """Where a Service asks for addresses."""
    if not annotation(service, "loadBalancerIPs"):
        return "spec.loadBalancerIP"
    prefix = PREFIX if PREFIX + "loadBalancerIPs" in service.annotations else PREFIX_OLD
    return f"metadata.annotations['{prefix}loadBalancerIPs']"


def _family_mismatch(service: Service, addresses: tuple[Address, ...], families: tuple[Family, ...]) -> Refusal:
    asked = " and ".join(str(address) for address in addresses)
    wanted = " and ".join(family.value for family in families)
    cure = (
        "ask for one address of each family, or set ipFamilyPolicy: SingleStack"
        if len(families) > 1
        else f"ask for an {wanted} address, or set ipFamilies"
    )
    text = f"{asked} was asked for, but the Service is {wanted}; {cure}"
    return _refuse(service, Reason.FAMILY_MISMATCH, _path_of_addresses(service), text)

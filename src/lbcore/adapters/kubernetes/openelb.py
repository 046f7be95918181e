"""OpenELB 0.6 (Eip, BgpConf, BgpPeer of network.kubesphere.io/v1alpha2, its Services) -> our resources.

Every address that an Eip's status says is in use is asked for by its Service afterwards; a Layer 2
address stays on its node, for both elect by the same hash. What has no counterpart is one note each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, field

from lbcore.adapters.kubernetes.conversion import Converted, object_name
from lbcore.adapters.kubernetes.fields import Faults, Fields
from lbcore.adapters.kubernetes.manifests import Manifest, manifest
from lbcore.adapters.kubernetes.openelb_peers import Conf, peer_manifests, read_conf
from lbcore.adapters.kubernetes.text import TextError, parse, parse_json, split
from lbcore.addresses import Address, AddressRange
from lbcore.errors import AddressError, Problem
from lbcore.resources import Origin

__all__ = ["convert_openelb"]

GROUP = "network.kubesphere.io"
VERSION = f"{GROUP}/v1alpha2"
KINDS = ("Eip", "BgpConf", "BgpPeer")

OPT_IN = "lb.kubesphere.io/v1alpha1"
EIP_NAME = "eip.openelb.kubesphere.io/v1alpha2"
EIP_ADDRESS = "eip.openelb.kubesphere.io/v1alpha1"
IS_DEFAULT = "eip.openelb.kubesphere.io/is-default-eip"
CNI = "openelb.kubesphere.io/cni"
FINALIZER = "finalizer.lb.kubesphere.io/v1alpha1"
_THEIRS = (OPT_IN, EIP_NAME, EIP_ADDRESS, "protocol.openelb.kubesphere.io/v1alpha1")
_NODE_PROXY = "node-proxy.openelb.kubesphere.io/"


@define
class _State:
    """What has been gathered so far."""

    namespace: str
    manifests: list[Manifest] = field(factory=list)
    notes: list[Problem] = field(factory=list)
    faults: list[Problem] = field(factory=list)
    bgp_pools: list[str] = field(factory=list)
    layer2_pools: dict[str, list[str]] = field(factory=dict)  # by interface; "" is every one
    used: dict[str, tuple[str, str]] = field(factory=dict)  # Service -> address and pool
    shared: set[str] = field(factory=set)  # addresses with more than one Service


def convert_openelb(texts: Iterable[tuple[str, str]], namespace: str) -> Converted:
    """The resources that do what OpenELB's objects did, as far as there are such. `texts`: files' names, and texts."""
    state = _State(namespace)
    objects = [_open(document, source, state) for source, document in _documents(texts, state)]
    found = [each for each in objects if each is not None]
    by_kind = {kind: [each for each in found if each[0].raw("kind") == kind] for kind in (*KINDS, "Service")}
    if not any(by_kind[kind] for kind in KINDS) and not state.faults:
        state.faults.append(
            Problem(source="", object="", field="", message=f"there is no Eip, BgpConf or BgpPeer of {VERSION}")
        )
    for document, origin in by_kind["Eip"]:
        _eip(document, origin, state)
    _advertise(state)
    conf = Conf()
    for document, origin in by_kind["BgpConf"]:
        conf = read_conf(document, origin, state.notes) or conf
    for document, origin in by_kind["BgpPeer"]:
        state.manifests += peer_manifests(document, origin, conf, namespace, state.notes)
    _services(by_kind["Service"], state)
    if state.faults:
        return Converted(problems=tuple(state.faults))
    return Converted(tuple(state.manifests), tuple(state.notes))


def _documents(texts: Iterable[tuple[str, str]], state: _State) -> Iterator[tuple[str, dict[str, object]]]:
    for name, text in texts:
        try:
            read = (
                [parse_json(text)]
                if name.endswith(".json")
                else [each for chunk in split(text) for each in parse(chunk)]
            )
        except TextError as error:
            state.faults.append(Problem(source=name, object="", field="", message=str(error)))
            continue
        for document in read:
            items = document.get("items") if isinstance(document, dict) else None
            for each in items if isinstance(items, list) else [document]:
                if isinstance(each, dict):
                    yield name, each


def _open(document: dict[str, object], source: str, state: _State) -> tuple[Fields, Origin] | None:
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind not in (*KINDS, "Service"):
        return None
    metadata = document.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    name, namespace = named.get("name"), named.get("namespace")
    origin = Origin(
        kind=str(kind),
        namespace=str(namespace) if namespace and kind == "Service" else "",
        name=name if isinstance(name, str) else "(nameless)",
        source=source,
    )
    faults = Faults(origin, state.faults)
    if not isinstance(name, str) or not name:
        faults.add("metadata.name", "is missing; give the object a name")
    if kind != "Service" and version != VERSION:
        faults.add("apiVersion", f"must be {VERSION}, not {str(version)[:80]!r}")
    return Fields(document, "", faults), origin


def _eip(document: Fields, origin: Origin, state: _State) -> None:
    spec, metadata = document.child("spec"), document.child("metadata")
    annotations, labels = metadata.child("annotations"), metadata.child("labels")

    def note(path: str, message: str) -> None:
        state.notes.append(origin.problem(path, message))

    pool: Manifest = {"addresses": [_addresses(spec)]}
    namespaces = list(spec.unique_texts("namespaces"))
    selector = dict(spec.labels("namespaceSelector"))
    bound = bool(namespaces or selector)
    is_default = annotations.text(IS_DEFAULT) == "true"
    if spec.flag("disable", default=False):
        note(
            "spec.disable",
            "autoAssign is false now; unlike before, Services may still ask for an address of it by name",
        )
    if not (is_default or bound) or spec.flag("disable", default=False):
        pool["autoAssign"] = False
    priority = spec.integer("priority", default=0, lowest=0, highest=2**31 - 2)
    if bound:
        allocation: Manifest = {"priority": priority + 1}  # 0 would be last
        allocation |= {"namespaces": namespaces} if namespaces else {}
        allocation |= {"namespaceSelectors": [{"matchLabels": selector}]} if selector else {}
        pool["serviceAllocation"] = allocation
        path = "spec.namespaces" if namespaces else "spec.namespaceSelector"
        note(path, "when it is full, Services of these namespaces get addresses of pools that are for everybody")
        if spec.has("priority"):
            note(
                "spec.priority",
                f"is {priority + 1} now, for 0 means last; a pool that is in use no longer goes after others",
            )
    elif spec.has("priority"):
        note("spec.priority", "has no effect on a pool that is not bound to namespaces")
    state.manifests.append(manifest("IPAddressPool", origin.name, state.namespace, pool))
    _protocol(spec, labels, origin, state)
    _in_use(document.child("status"), origin, state)


def _addresses(spec: Fields) -> str:
    """`spec.address`: an address, a CIDR, a range, or an address with a mask in dots."""
    text = spec.required_text("address", "write an address, a CIDR or a range").strip()
    if not text:
        return ""
    base, slash, mask = text.partition("/")
    try:
        if slash and "." in mask:
            ones = Address.parse(mask).value
            zeros = (ones ^ 0xFFFFFFFF) + 1
            if zeros & (zeros - 1):
                raise AddressError(f"{mask!r} is no mask")
            text = f"{base}/{33 - zeros.bit_length()}"
        if not slash and "-" not in text:
            single = Address.parse(text)
            text = f"{single}/{single.family.bits}"
        return str(AddressRange.parse(text))
    except AddressError as error:
        spec.fault("address", str(error))
        return ""


def _protocol(spec: Fields, labels: Fields, origin: Origin, state: _State) -> None:
    def note(path: str, message: str) -> None:
        state.notes.append(origin.problem(path, message))

    protocol, interface = spec.text("protocol") or "bgp", spec.text("interface")
    if protocol not in ("bgp", "layer2", "vip"):
        spec.fault("protocol", f"must be bgp, layer2 or vip, not {protocol[:40]!r}")
    if labels.has(CNI):
        return  # whoever makes the pods' network announces it, then as now
    if protocol == "bgp":
        text = "each node announces itself only: every node that is to receive traffic needs a session with the router"
        note("spec.protocol", text)
        state.bgp_pools.append(origin.name)
        return
    if protocol == "vip":
        note(
            "spec.protocol", "VRRP becomes ARP and NDP: the virtual router's identifier, its MAC and nopreempt are gone"
        )
    if interface.startswith("can_reach:"):
        text = "there is no can_reach: it is announced on every interface; write an L2Advertisement that names them"
        note("spec.interface", text)
        interface = ""
    state.layer2_pools.setdefault(interface, []).append(origin.name)


def _in_use(status: Fields, origin: Origin, state: _State) -> None:
    used = status.child("used")
    for address in used:
        services = [each for each in used.text(address).split(";") if each]
        if len(services) > 1:
            state.shared.add(address)
            text = "share by metallb.io/allow-shared-ip; that wants different ports, and externalTrafficPolicy: Cluster"
            state.notes.append(origin.problem(used.at(address), f"{', '.join(services)} {text}"))
        for service in services:
            state.used[service] = address, origin.name


def _advertise(state: _State) -> None:
    for interface, pools in sorted(state.layer2_pools.items()):
        spec: Manifest = {"ipAddressPools": sorted(pools)} | ({"interfaces": [interface]} if interface else {})
        name = object_name(f"layer2-{interface}" if interface else "layer2")
        state.manifests.append(manifest("L2Advertisement", name, state.namespace, spec))
    if state.bgp_pools:
        spec = {"ipAddressPools": sorted(state.bgp_pools)}
        state.manifests.append(manifest("BGPAdvertisement", "bgp", state.namespace, spec))


def _services(services: list[tuple[Fields, Origin]], state: _State) -> None:
    """Services that have, or ask for, an address of OpenELB: with our annotations, and without its own."""
    given = set()
    for document, origin in services:
        key = f"{origin.namespace or 'default'}/{origin.name}"
        given.add(key)
        annotations = dict(document.child("metadata").labels("annotations"))
        if document.child("spec").text("type") == "LoadBalancer" and annotations.get(OPT_IN) != "openelb":
            if key not in state.used:
                text = "did not ask for an address of OpenELB, and will get one now; give it another loadBalancerClass"
                state.notes.append(origin.problem(f"metadata.annotations['{OPT_IN}']", text))
            continue
        if annotations.get(OPT_IN) == "openelb" or key in state.used:
            state.manifests.append(_service(document, origin, annotations, state.used.get(key), state))
    for key in sorted(state.used.keys() - given):
        address, _ = state.used[key]
        namespace, _, name = key.partition("/")
        command = f"kubectl annotate service -n {namespace} {name} metallb.io/loadBalancerIPs={address}"
        text = f"is not among the files; it keeps {address} if you run: {command}"
        state.notes.append(Problem(source="", object=f"Service {key}", field="", message=text))


def _service(
    document: Fields, origin: Origin, theirs: dict[str, str], used: tuple[str, str] | None, state: _State
) -> Manifest:
    ours = {name: value for name, value in theirs.items() if name not in _THEIRS and not name.startswith(_NODE_PROXY)}
    ours.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    for name in sorted(theirs):
        if name.startswith(_NODE_PROXY):
            text = "there is no such proxy; the Service gets an address of a pool instead of those of nodes"
            state.notes.append(origin.problem(f"metadata.annotations['{name}']", text))
    if EIP_NAME in theirs:
        ours["metallb.io/address-pool"] = theirs[EIP_NAME]
    address = used[0] if used else theirs.get(EIP_ADDRESS, "")
    spec: dict[str, Any] = document.child("spec").values
    if address:
        ours["metallb.io/loadBalancerIPs"] = address
        spec.pop("loadBalancerIP", None)  # both together are refused, and theirs counted less
    if address in state.shared:
        ours["metallb.io/allow-shared-ip"] = f"openelb-{object_name(address.replace(':', '-'))}"
    metadata = document.child("metadata")
    labels = {name: value for name, value in metadata.labels("labels").items() if name != EIP_NAME}
    kept = [each for _, each in metadata.texts("finalizers") if each != FINALIZER]
    made = {"name": origin.name, "namespace": origin.namespace or "default"}
    details = {"labels": labels, "annotations": ours, "finalizers": kept}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": made | {name: value for name, value in details.items() if value},
        "spec": spec,
    }

"""The definitions of MetalLB's custom resources: which kinds, versions, fields, defaults and columns there are.

Names and meanings are those of `metallb.io`, so that manifests and programs for MetalLB work on
them; bounds are those of the readers beside this file (a test holds the two together). What one
object can know of itself is refused by the API server, by schema or by rules in CEL; what needs
other objects is not (`lbcore.soundness`). The files in `deploy` are made from this one.

BGPPeer has two versions and no conversion between them (`strategy: None`): the API server changes
nothing but `apiVersion`. See `docs/decisions/0007-two-versions-of-bgppeer.md` for what that means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lbcore.adapters.kubernetes.crds_bgp import bfd_profile, bgp_advertisement, bgp_peer, community
from lbcore.adapters.kubernetes.kinds import MOST_NAMES, NO_STATUS, Column, Kind, Version, choice_columns, pool_choice
from lbcore.adapters.kubernetes.schema import (
    Schema,
    flag,
    label_selector,
    label_selectors,
    list_of,
    mapping,
    names,
    number,
    rule,
    text,
    with_rules,
)

__all__ = ["KINDS", "Kind", "Version", "definitions"]

GROUP = "metallb.io"

MOST_ADDRESSES = 2048  # entries of a pool, each up to a whole network; 4096 is about what rules can cost
_INT32 = 2**31 - 1


def _address_entry() -> Schema:
    """An item of a pool's addresses. The ends of a range are cut out by `substring`: the API server reckons that
    `split` gives as many pieces as the text has characters, and allows a fifth of the entries then.
    Ends of IPv6 are not compared: as numbers they do not fit, and as texts the reckoned cost is 100 times the limit.
    """
    first, last = "self.substring(0, self.indexOf('-')).trim()", "self.substring(self.indexOf('-') + 1).trim()"
    number_of = "int(octets[0]) * 16777216 + int(octets[1]) * 65536 + int(octets[2]) * 256 + int(octets[3])"
    in_four = f"[{first}.split('.'), {last}.split('.')].map(octets, {number_of})"
    return with_rules(
        text("A CIDR, or a range `first-last`.", longest=84, shortest=1),
        rule(
            f"self.contains('-') ? isIP({first}) && isIP({last}) : isCIDR(self.trim())",
            "must be a CIDR (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9); for one address write 192.0.2.1/32",
        ),
        rule(
            "!self.contains('-') || self.matches('^[^:]*-[^:]*$') || self.matches('^[^-]*:[^-]*-[^-]*:')",
            "the range mixes IPv4 and IPv6; give each its own",
        ),
        rule(
            f"!self.matches('^[0-9. ]+-[0-9. ]+$') || [{in_four}].all(ends, ends[0] <= ends[1])",
            "the range ends before it starts; swap the two addresses",
        ),
    )


def _ip_address_pool() -> Kind:
    allocation = mapping(
        "Whom the pool is for; without it, for every Service that names no pool.",
        {
            "priority": number("Pools with a lower number are tried first; 0 is last.", -_INT32 - 1, _INT32),
            "namespaces": names("Services in these namespaces.", "a namespace", most=MOST_NAMES),
            "namespaceSelectors": label_selectors("Services in namespaces with such labels."),
            "serviceSelectors": label_selectors("Services with such labels."),
        },
    )
    spec = mapping(
        "What the pool holds, and for whom.",
        {
            "addresses": list_of(
                _address_entry(),
                "The addresses, as CIDRs and ranges, in the order in which they are given out.",
                most=MOST_ADDRESSES,
                least=1,
            ),
            "autoAssign": flag("Whether a Service gets an address of it without asking for it.", default=True),
            "avoidBuggyIPs": flag("Whether IPv4 addresses that end in .0 or .255 are left out.", default=False),
            "serviceAllocation": allocation,
        },
        required=("addresses",),
    )
    counts = {
        f"{what}{family}": number(f"How many addresses of {family} are {meaning}.", 0)
        for what, meaning in (("assigned", "in use"), ("available", "free"))
        for family in ("IPv4", "IPv6")
    }
    return Kind(
        name="IPAddressPool",
        plural="ipaddresspools",
        description="Addresses that Services of type LoadBalancer may get.",
        columns=(
            Column("Auto Assign", ".spec.autoAssign", "boolean"),
            Column("Avoid Buggy IPs", ".spec.avoidBuggyIPs", "boolean"),
            Column("Addresses", ".spec.addresses"),
        ),
        versions=(
            Version(
                "v1beta1",
                {"spec": spec, "status": mapping("How full the pool is.", counts, required=tuple(counts))},
                required=("spec",),
            ),
        ),
    )


def _l2_advertisement() -> Kind:
    preferred = mapping(
        "Nodes that are preferred, and how much.",
        {
            "weight": number("What a node that matches gains; the highest sum wins.", 1, 100),
            "preference": label_selector("The nodes."),
        },
        required=("weight", "preference"),
    )
    spec = mapping(
        "Which addresses are announced, by which nodes.",
        {
            **pool_choice(),
            "interfaces": list_of(
                text("The name of a network interface.", longest=64, shortest=1),
                "The interfaces to announce on; empty: all.",
                most=MOST_NAMES,
            ),
            "preferredNodeSelectors": list_of(preferred, "Nodes that should rather announce than others.", most=64),
        },
    )
    return Kind(
        name="L2Advertisement",
        plural="l2advertisements",
        description="Announces addresses of pools by ARP and NDP, each from one node at a time.",
        columns=choice_columns("Interfaces", ".spec.interfaces"),
        versions=(Version("v1beta1", {"spec": spec, "status": NO_STATUS}),),
    )


def _service_status(name: str, plural: str, description: str, node_column: str, besides: dict[str, Schema]) -> Kind:
    """A status about one Service on one node, written by speakers: whom it is about never changes."""

    def fixed(meaning: str) -> Schema:
        return with_rules(text(meaning, longest=MOST_NAMES), rule("self == oldSelf", "cannot be changed"))

    status = mapping(
        "What is announced.",
        {
            "node": fixed("The node that announces."),
            "serviceName": fixed("The Service whose addresses are announced."),
            "serviceNamespace": fixed("The namespace of the Service."),
            **besides,
        },
    )
    return Kind(
        name=name,
        plural=plural,
        description=description,
        columns=(
            Column(node_column, ".status.node"),
            Column("Service Name", ".status.serviceName"),
            Column("Service Namespace", ".status.serviceNamespace"),
        ),
        versions=(Version("v1beta1", {"spec": mapping("Empty.", {}), "status": status}),),
    )


def _service_l2_status() -> Kind:
    interface = mapping("An interface.", {"name": text("Its name.", longest=64)})
    interfaces = list_of(interface, "The interfaces it is announced on; empty: all.", most=MOST_NAMES)
    text_ = "Which node announces a Service on Layer 2."
    return _service_status("ServiceL2Status", "servicel2statuses", text_, "Allocated Node", {"interfaces": interfaces})


def _service_bgp_status() -> Kind:
    peers = list_of(text("A BGPPeer.", longest=253), "The BGPPeers that the node tells of the Service.", most=1024)
    text_ = "Whom a node tells of a Service over BGP."
    return _service_status("ServiceBGPStatus", "servicebgpstatuses", text_, "Node", {"peers": peers})


def _configuration_state() -> Kind:
    condition = mapping(
        "What one part of a program says.",
        {
            "type": text("What it is about.", longest=316),
            "status": text("Whether it is so.", longest=8, choices=("True", "False", "Unknown")),
            "reason": text("Why, as one word.", longest=1024),
            "message": text("Why, in words.", longest=32768),
            "lastTransitionTime": {"description": "Since when.", "type": "string", "format": "date-time"},
            "observedGeneration": number("Of which generation.", 0),
        },
        required=("type", "status", "reason", "message", "lastTransitionTime"),
    )
    status = mapping(
        "Whether the configuration is in force.",
        {
            "result": text("The verdict.", longest=8, choices=("Valid", "Invalid", "Unknown")),
            "errorSummary": text("All that is wrong, a line each.", longest=65536),
            "conditions": list_of(condition, "What the parts of the program say.", most=32, key="type"),
        },
    )
    return Kind(
        name="ConfigurationState",
        plural="configurationstates",
        description="Whether the controller, or the speaker of a node, has the configuration in force.",
        columns=(
            Column("Result", ".status.result"),
            Column("ErrorSummary", ".status.errorSummary"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        versions=(Version("v1beta1", {"status": status}),),
    )


KINDS: tuple[Kind, ...] = (
    _ip_address_pool(),
    _l2_advertisement(),
    bgp_advertisement(),
    bgp_peer(),
    bfd_profile(),
    community(),
    _service_l2_status(),
    _service_bgp_status(),
    _configuration_state(),
)


def definitions(kinds: Iterable[Kind] = KINDS) -> Iterator[Schema]:
    """A CustomResourceDefinition (`apiextensions.k8s.io/v1`) for each kind."""
    for kind in kinds:
        yield {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{kind.plural}.{GROUP}",
                "labels": {"app.kubernetes.io/name": "lbcore"},
                # Whoever uninstalls the chart does not mean to lose every pool; see docs/install.md.
                "annotations": {"helm.sh/resource-policy": "keep"},
            },
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": kind.name,
                    "listKind": f"{kind.name}List",
                    "plural": kind.plural,
                    "singular": kind.singular,
                },
                "scope": "Namespaced",
                "conversion": {"strategy": "None"},
                "versions": [_version(kind, version) for version in kind.versions],
            },
        }


def _version(kind: Kind, version: Version) -> Schema:
    top: Schema = {
        "description": kind.description,
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **version.fields,
        },
    }
    if version.required:
        top["required"] = list(version.required)
    made: Schema = {"name": version.name, "served": True, "storage": version.is_stored}
    if version.deprecation:
        made |= {"deprecated": True, "deprecationWarning": version.deprecation}
    made |= {"subresources": {"status": {}}, "schema": {"openAPIV3Schema": top}}
    if kind.columns:
        made["additionalPrinterColumns"] = [_column(each) for each in kind.columns]
    return made


def _column(column: Column) -> Schema:
    made: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return made | ({"priority": column.priority} if column.priority else {})

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

from attrs import field, frozen

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
MOST_NAMES = 256
MOST_ASN = 2**32 - 1  # RFC 6793
_UINT32 = 2**32 - 1
_INT32 = 2**31 - 1

# As Go reads it, and `duration()` of CEL with it.
_PART = r"([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = f"^({_PART})+$|^0$"


@frozen
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0  # above 0: with `-o wide` only


@frozen
class Version:
    """One version of a kind: its schema without apiVersion, kind and metadata."""

    name: str
    fields: dict[str, Schema]
    required: tuple[str, ...] = ()
    is_stored: bool = True
    deprecation: str = ""


@frozen(kw_only=True)
class Kind:
    """A kind of metallb.io."""

    name: str
    plural: str
    description: str
    columns: tuple[Column, ...] = ()
    versions: tuple[Version, ...] = field()

    @property
    def singular(self) -> str:
        """The name as it is typed."""
        return self.name.lower()


_NO_STATUS = mapping("Nothing is said about it.", {})


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


def _pool_choice() -> dict[str, Schema]:
    return {
        "ipAddressPools": names("The pools it is for; with no selectors either: all.", "a pool", most=MOST_NAMES),
        "ipAddressPoolSelectors": label_selectors("Pools with such labels, besides those that are named."),
        "nodeSelectors": label_selectors("The nodes that announce; empty: all."),
        "serviceSelectors": label_selectors("The Services whose addresses are announced; empty: all."),
    }


def _choice_columns(third: str, path: str) -> tuple[Column, ...]:
    return (
        Column("IPAddressPools", ".spec.ipAddressPools"),
        Column("IPAddressPool Selectors", ".spec.ipAddressPoolSelectors"),
        Column(third, path),
        Column("Node Selectors", ".spec.nodeSelectors", priority=10),
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
            **_pool_choice(),
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
        columns=_choice_columns("Interfaces", ".spec.interfaces"),
        versions=(Version("v1beta1", {"spec": spec, "status": _NO_STATUS}),),
    )


def _bgp_advertisement() -> Kind:
    spec = with_rules(
        mapping(
            "Which addresses are announced to which peers, and how.",
            {
                **_pool_choice(),
                "aggregationLength": number("The prefix length that IPv4 is announced in.", 1, 32, default=32),
                "aggregationLengthV6": number("The prefix length that IPv6 is announced in.", 1, 128, default=128),
                "localPref": number("LOCAL_PREF, for peers of the same AS; the higher wins.", 0, _UINT32),
                "communities": list_of(
                    text("65000:100, large:65000:1:2, or a name of a Community object.", longest=128, shortest=1),
                    "The communities that routes carry.",
                    most=64,
                    unique=True,
                ),
                "peers": names("The BGPPeers that are told; empty: all.", "a BGPPeer", most=MOST_NAMES),
            },
        ),
        rule(
            "!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || "
            "((!has(self.aggregationLength) || self.aggregationLength == 32) && "
            "(!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",
            "cannot go together with aggregation; leave aggregationLength and aggregationLengthV6 out",
            field=".serviceSelectors",
        ),
    )
    return Kind(
        name="BGPAdvertisement",
        plural="bgpadvertisements",
        description="Announces addresses of pools to BGP peers.",
        columns=_choice_columns("Peers", ".spec.peers"),
        versions=(Version("v1beta1", {"spec": spec, "status": _NO_STATUS}),),
    )


def _address(description: str, *, shortest: int = 0) -> Schema:
    return with_rules(
        text(description, longest=64, shortest=shortest),
        rule("self == '' || isIP(self)", "is not an IP address; write 192.0.2.1 or 2001:db8::1"),
    )


def _duration(description: str, *rules: tuple[str, str]) -> Schema:
    """A duration; of each rule the CEL and the message, for what is a duration."""
    is_one = f"self.matches('{_DURATION}')"
    return with_rules(
        text(description, longest=64),
        rule(f"self == '' || {is_one}", "is not a duration; write for example 90s, 1m30s or 2h"),
        *(rule(f"!{is_one} || {expression}", message) for expression, message in rules),
    )


def _seconds(description: str, *rules: tuple[str, str]) -> Schema:
    most = ("duration(self).getSeconds() <= 65535", "must not be longer than 65535s (RFC 4271 section 4.2)")
    return _duration(description, most, *rules)


def _old_peer_fields() -> dict[str, Schema]:
    """What both versions have."""
    address = with_rules(
        _address("The address of the router."),
        rule(
            "self == '' || !isIP(self) || !(ip(self).isUnspecified() || "
            "self.matches('^(22[4-9]|2[3-5][0-9])[.]') || self.matches('^[fF]{2}[0-9a-fA-F]{2}:'))",
            "is the address of no host; write the address of the router",
        ),
    )
    router_id = with_rules(
        _address("Which router this side is; without it, the node's IPv4 address."),
        rule(
            "self == '' || !isIP(self) || (ip(self).family() == 4 && !ip(self).isUnspecified())",
            "cannot identify a router; write an IPv4 address, or leave it out",
        ),
    )
    hold = _seconds(
        "After how long without a word the session ends; 0s: never.",
        ("!(duration(self).getSeconds() in [1, 2])", "must be 0s, or 3s and more (RFC 4271 section 4.2)"),
    )
    return {
        "myASN": number("The AS number of this side.", 1, MOST_ASN),
        "peerASN": number("The AS number of the router.", 0, MOST_ASN),
        "peerAddress": address,
        "sourceAddress": _address("The address of this side."),
        "peerPort": number("The TCP port of the router.", 0, 16384),
        "holdTime": hold,
        "keepaliveTime": _seconds("How often a word is sent; without it, a third of the hold time."),
        "routerID": router_id,
        "nodeSelectors": label_selectors("The nodes that have the session; empty: all."),
        "password": text("The password of TCP MD5 (RFC 2385); a Secret keeps it better.", longest=80),
        "bfdProfile": text("The name of a BFDProfile that watches the session.", longest=253),
        "ebgpMultiHop": flag("Whether the router may be more than one hop away."),
    }


_PEER_RULES = (
    rule(
        "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN) || self.peerASN != self.myASN",
        "is for external peers, but both AS numbers are the same; set it to false",
        field=".ebgpMultiHop",
    ),
    rule(
        "!has(self.holdTime) || !has(self.keepaliveTime) || "
        f"![self.holdTime, self.keepaliveTime].all(each, each.matches('{_DURATION}')) || "
        "duration(self.keepaliveTime).getSeconds() <= duration(self.holdTime).getSeconds()",
        "must not be longer than the hold time; a third of it is usual",
        field=".keepaliveTime",
    ),
    rule(
        "!has(self.peerAddress) || !has(self.sourceAddress) || !isIP(self.peerAddress) || "
        "!isIP(self.sourceAddress) || ip(self.peerAddress).family() == ip(self.sourceAddress).family()",
        "and peerAddress are of different families; use addresses of one family",
        field=".sourceAddress",
    ),
)


# Without it, such a peer could be written back in the old version without what makes it one: the server does not
# judge again what was missing before, unless the rule is about a change.
_NOT_FOR_NEWER = rule(
    "has(oldSelf.peerAddress) && oldSelf.peerAddress != '' && has(oldSelf.peerASN) && oldSelf.peerASN != 0",
    "the peer has fields that v1beta1 does not know; write it as metallb.io/v1beta2",
)


def _bgp_peer() -> Kind:
    old = _old_peer_fields()
    old["peerASN"] |= {"minimum": 1}
    old["peerAddress"] |= {"minLength": 1}
    v1beta1 = mapping("The session.", old, required=("myASN", "peerASN", "peerAddress"))
    return Kind(
        name="BGPPeer",
        plural="bgppeers",
        description="A router that nodes hold a BGP session with.",
        columns=(
            Column("Address", ".spec.peerAddress"),
            Column("ASN", ".spec.peerASN"),
            Column("BFD Profile", ".spec.bfdProfile"),
            Column("Multi Hops", ".spec.ebgpMultiHop"),
        ),
        versions=(
            Version(
                "v1beta1",
                {"spec": with_rules(v1beta1, *_PEER_RULES, _NOT_FOR_NEWER), "status": _NO_STATUS},
                required=("spec",),
                is_stored=False,
                deprecation="metallb.io/v1beta1 BGPPeer is deprecated; write metallb.io/v1beta2",
            ),
            Version("v1beta2", {"spec": _new_peer(), "status": _NO_STATUS}, required=("spec",)),
        ),
    )


def _new_peer() -> Schema:
    fields = _old_peer_fields()
    fields["peerPort"] = number("The TCP port of the router.", 1, 16384, default=179)
    fields |= {
        "dynamicASN": text(
            "Take the router's AS number from its OPEN: ours, or any other.",
            longest=16,
            choices=("internal", "external"),
        ),
        "localASN": number("The AS number that this peer is told instead of myASN.", 1, MOST_ASN),
        "interface": text("The interface of an unnumbered session, instead of peerAddress.", longest=64),
        "connectTime": _duration(
            "How long to wait before another attempt.",
            (
                "(!self.matches('[nuµμ]s|[.][0-9]{4}') && duration(self).getMilliseconds() % 1000 == 0 && "
                "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535)",
                "must be whole seconds from 1s to 65535s",
            ),
        ),
        "passwordSecret": mapping(
            "A Secret of type kubernetes.io/basic-auth in the same namespace, whose key `password` counts.",
            {
                "name": text("Its name.", longest=253),
                "namespace": text("Its namespace.", longest=63),
            },
        )
        | {"x-kubernetes-map-type": "atomic"},
        "enableGracefulRestart": with_rules(
            flag("Whether routes outlive a restart of this side (RFC 4724)."),
            rule("self == oldSelf", "cannot be changed; delete the peer and create it again"),
        ),
        "vrf": text("The VRF that the router is in.", longest=64),
        "disableMP": flag("Without effect.", default=False),
        "dualStackAddressFamily": flag("Whether both families go over this session.", default=False),
    }
    return with_rules(
        mapping("The session.", fields, required=("myASN",)),
        rule(
            "(has(self.peerASN) && self.peerASN != 0) || has(self.dynamicASN)",
            "is missing; write the AS number of the router, or dynamicASN",
            field=".peerASN",
        ),
        rule(
            "!(has(self.peerASN) && self.peerASN != 0 && has(self.dynamicASN))",
            "is given together with peerASN; keep one of them",
            field=".dynamicASN",
        ),
        rule(
            "(has(self.peerAddress) && self.peerAddress != '') || (has(self.interface) && self.interface != '')",
            "is missing; write the address of the router, or the interface of an unnumbered session",
            field=".peerAddress",
        ),
        rule(
            "!(has(self.peerAddress) && self.peerAddress != '' && has(self.interface) && self.interface != '')",
            "is given together with peerAddress; keep one of them",
            field=".interface",
        ),
        rule(
            "!(has(self.password) && self.password != '' && has(self.passwordSecret) && "
            "has(self.passwordSecret.name) && self.passwordSecret.name != '')",
            "is given together with a password; keep one of them",
            field=".passwordSecret",
        ),
        *_PEER_RULES,
    )


def _bfd_profile() -> Kind:
    interval = "in milliseconds"
    spec = mapping(
        "How a session is watched (RFC 5880); what is left out is the default.",
        {
            "receiveInterval": number(
                f"The shortest time between packets that can be taken in, {interval}.", 10, 60000
            ),
            "transmitInterval": number(f"The time between packets that are sent, {interval}.", 10, 60000),
            "echoInterval": number(f"The time between echoes, {interval}.", 10, 60000),
            "detectMultiplier": number("How many packets may be lost.", 2, 255),
            "minimumTtl": number("The lowest TTL of packets from a router several hops away.", 1, 254),
            "echoMode": flag("Whether echoes are sent."),
            "passiveMode": flag("Whether to wait until the router speaks."),
        },
    )
    return Kind(
        name="BFDProfile",
        plural="bfdprofiles",
        description="How a BGP session is watched by BFD.",
        columns=(
            Column("Passive Mode", ".spec.passiveMode", "boolean"),
            Column("Transmit Interval", ".spec.transmitInterval", "integer"),
            Column("Receive Interval", ".spec.receiveInterval", "integer"),
            Column("Multiplier", ".spec.detectMultiplier", "integer"),
        ),
        versions=(Version("v1beta1", {"spec": spec, "status": _NO_STATUS}),),
    )


def _community() -> Kind:
    is_large, is_standard = "self.matches('^large(:[0-9]{1,20}){3}$')", "self.matches('^[0-9]{1,20}:[0-9]{1,20}$')"
    value = with_rules(
        text("65000:100, or large:65000:1:2.", longest=72),
        rule(f"{is_large} || {is_standard}", "is not a community; write 65000:100 or large:65000:1:2"),
        rule(
            f"!{is_standard} || self.split(':').all(each, each.matches('^0*[0-9]{{1,5}}$') && int(each) <= 65535)",
            "is not a community: both numbers must be from 0 to 65535 (RFC 1997)",
        ),
        rule(
            f"!{is_large} || self.substring(6).split(':').all(each, each.matches('^0*[0-9]{{1,10}}$') && "
            "int(each) <= 4294967295)",
            "is not a community: all three numbers must be from 0 to 4294967295 (RFC 8092)",
        ),
    )
    alias = mapping(
        "A name for a community.",
        {
            "name": text("What BGPAdvertisements call it.", longest=128, shortest=1),
            "value": value,
        },
        required=("name", "value"),
    )
    spec = mapping("The names.", {"communities": list_of(alias, "Names for communities.", most=MOST_NAMES, key="name")})
    return Kind(
        name="Community",
        plural="communities",
        description="Names for BGP communities.",
        versions=(Version("v1beta1", {"spec": spec, "status": _NO_STATUS}),),
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
    _bgp_advertisement(),
    _bgp_peer(),
    _bfd_profile(),
    _community(),
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

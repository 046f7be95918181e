"""The definitions of the custom resources for BGP; see `crds` for the others, and for what they all have in common."""

from __future__ import annotations

from lbcore.adapters.kubernetes.kinds import MOST_NAMES, NO_STATUS, Column, Kind, Version, choice_columns, pool_choice
from lbcore.adapters.kubernetes.schema import (
    Schema,
    flag,
    label_selectors,
    list_of,
    mapping,
    names,
    number,
    rule,
    text,
    with_rules,
)

__all__ = ["bfd_profile", "bgp_advertisement", "bgp_peer", "community"]

MOST_ASN = 2**32 - 1  # RFC 6793
_UINT32 = 2**32 - 1

# As Go reads it, and `duration()` of CEL with it.
_PART = r"([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = f"^({_PART})+$|^0$"


def bgp_advertisement() -> Kind:
    """Which addresses are told to whom."""
    spec = with_rules(
        mapping(
            "Which addresses are announced to which peers, and how.",
            {
                **pool_choice(),
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
        columns=choice_columns("Peers", ".spec.peers"),
        versions=(Version("v1beta1", {"spec": spec, "status": NO_STATUS}),),
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


def bgp_peer() -> Kind:
    """A router, in two versions."""
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
                {"spec": with_rules(v1beta1, *_PEER_RULES, _NOT_FOR_NEWER), "status": NO_STATUS},
                required=("spec",),
                is_stored=False,
                deprecation="metallb.io/v1beta1 BGPPeer is deprecated; write metallb.io/v1beta2",
            ),
            Version("v1beta2", {"spec": _new_peer(), "status": NO_STATUS}, required=("spec",)),
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


def bfd_profile() -> Kind:
    """A way of watching a session."""
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
        versions=(Version("v1beta1", {"spec": spec, "status": NO_STATUS}),),
    )


def community() -> Kind:
    """Names for communities."""
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
        versions=(Version("v1beta1", {"spec": spec, "status": NO_STATUS}),),
    )

"""BGPPeer, BGPAdvertisement, BFDProfile, Community (metallb.io) -> values, with everything that is wrong with them.

Bounds are those of MetalLB's CRDs and of its parser in FRR mode, and beyond them what no router
could act on. Names of other objects are looked up in `lbcore.config.build`. Each reader takes the
mapping that holds an object's fields, so that the old ConfigMap goes the same way.
"""

from __future__ import annotations

from attrs import evolve

from lbcore.adapters.kubernetes.durations import SECOND
from lbcore.adapters.kubernetes.fields import Fields
from lbcore.adapters.kubernetes.pools import PREFIX
from lbcore.adapters.kubernetes.selectors import read_selectors
from lbcore.addresses import Address, AddressRange
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, CommunityAlias, DynamicASN, SecretRef, parse_community
from lbcore.errors import AddressError, CommunityError
from lbcore.resources import Origin

__all__ = [
    "BGP_PEER_VERSIONS",
    "MOST_ASN",
    "TTL_SECURITY",
    "read_bfd_profile",
    "read_bgp_advertisement",
    "read_bgp_peer",
    "read_communities",
    "read_community",
    "read_peer",
]

BGP_PEER_VERSIONS = ("metallb.io/v1beta2", "metallb.io/v1beta1")

TTL_SECURITY = "lbcore.io/ttl-security-hops"  # over how many routers a peer's packets may have come: GTSM, RFC 5082
MOST_HOPS = 254
MOST_ASN = 2**32 - 1  # RFC 6793
MOST_PORT = 16384  # what MetalLB's CRD allows
MOST_SECONDS = 65535  # the hold time has 16 bits (RFC 4271 section 4.2)
MOST_PASSWORD = 80  # bytes: TCP_MD5SIG_MAXKEYLEN of Linux

_OLD_FIELDS = (
    "myASN",
    "peerASN",
    "peerAddress",
    "sourceAddress",
    "peerPort",
    "holdTime",
    "keepaliveTime",
    "routerID",
    "nodeSelectors",
    "password",
    "bfdProfile",
    "ebgpMultiHop",
)
_NEW_FIELDS = (
    "localASN",
    "dynamicASN",
    "interface",
    "connectTime",
    "passwordSecret",
    "enableGracefulRestart",
    "vrf",
    "disableMP",
    "dualStackAddressFamily",
)
_NO_HOST = tuple(AddressRange.parse(text) for text in ("0.0.0.0/32", "224.0.0.0/3", "::/128", "ff00::/8"))


def read_bgp_peer(document: Fields, origin: Origin) -> tuple[BGPPeer, ...]:
    """The peer in a document of either version; none when it has no spec."""
    if not document.has("spec"):
        document.fault("spec", "is missing; a peer needs myASN, peerASN and peerAddress")
        return ()
    is_old = document.raw("apiVersion") == BGP_PEER_VERSIONS[1]
    hops = _ttl_security(document.child("metadata").child("annotations"))
    return (evolve(read_peer(document.child("spec"), origin.name, origin, is_old=is_old), ttl_security_hops=hops),)


def _ttl_security(annotations: Fields) -> int | None:
    """The annotation `lbcore.io/ttl-security-hops`; MetalLB's CRD has no field for it."""
    for name in annotations:
        if name.startswith(PREFIX) and name != TTL_SECURITY:
            annotations.fault(name, f"is not an annotation that lbcore knows on a peer; known: {TTL_SECURITY}")
    text = annotations.text(TTL_SECURITY)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST_HOPS):
        annotations.fault(TTL_SECURITY, f"must be a number from 1 to {MOST_HOPS}, as a text, not {text[:20]!r}")
        return None
    return int(text)


def read_peer(spec: Fields, name: str, origin: Origin, *, is_old: bool = False) -> BGPPeer:
    """A peer from its fields. `is_old`: of version `v1beta1`, which knows fewer of them.

    Times that are left out are the default; MetalLB's conversion from `v1beta1` makes them 0.
    """
    spec.only(*_OLD_FIELDS, *(() if is_old else _NEW_FIELDS))
    spec.flag("disableMP", default=False)  # deprecated, and without effect in MetalLB too
    hold, keepalive = _times(spec)
    my_asn, peer_asn, dynamic_asn = _asns(spec)
    multihop = spec.flag("ebgpMultiHop", default=False)
    if multihop and my_asn and my_asn == peer_asn:
        spec.fault("ebgpMultiHop", "is for external peers, but both AS numbers are the same; set it to false")
    address, interface, source = _router(spec)
    return BGPPeer(
        name=name,
        my_asn=my_asn,
        peer_asn=peer_asn,
        dynamic_asn=dynamic_asn,
        local_asn=_optional(spec, "localASN", 1, MOST_ASN),
        address=address,
        interface=interface,
        source_address=source,
        # 0 is the default: v1beta1 may say so, and what was written as v1beta1 is read as v1beta2.
        port=179 if spec.raw("peerPort") == 0 else spec.integer("peerPort", default=179, lowest=1, highest=MOST_PORT),
        hold_time=hold,
        keepalive_time=keepalive,
        connect_time=_connect_time(spec),
        router_id=_router_id(spec),
        node_selectors=read_selectors(spec, "nodeSelectors"),
        password=_password(spec),
        password_secret=_secret(spec),
        bfd_profile=spec.text("bfdProfile"),
        graceful_restart=spec.flag("enableGracefulRestart", default=False),
        ebgp_multihop=multihop,
        vrf=spec.text("vrf"),
        dual_stack=spec.flag("dualStackAddressFamily", default=False),
        origin=origin,
        path=spec.path,
    )


def _optional(fields: Fields, key: str, lowest: int, highest: int) -> int | None:
    return fields.integer(key, default=lowest, lowest=lowest, highest=highest) if fields.has(key) else None


def _asns(spec: Fields) -> tuple[int, int | None, DynamicASN | None]:
    if not spec.has("myASN"):
        spec.fault("myASN", "is missing; write the AS number of this side")
    mine = spec.integer("myASN", default=0, lowest=1, highest=MOST_ASN)
    theirs = spec.integer("peerASN", default=0, lowest=0, highest=MOST_ASN) or None
    is_dynamic = bool(spec.raw("dynamicASN"))
    if not is_dynamic and spec.raw("peerASN") in (None, 0):
        spec.fault("peerASN", "is missing; write the AS number of the router")
    if is_dynamic and theirs is not None:
        spec.fault("dynamicASN", "is given together with peerASN; keep one of them")
    return mine, theirs, spec.choice("dynamicASN", DynamicASN.EXTERNAL) if is_dynamic else None


def _router(spec: Fields) -> tuple[Address | None, str, Address | None]:
    address, source = _address(spec, "peerAddress"), _address(spec, "sourceAddress")
    interface = spec.text("interface")
    if not spec.raw("peerAddress") and not spec.raw("interface"):
        spec.fault("peerAddress", "is missing; write the address of the router")
    if spec.raw("peerAddress") and interface:
        spec.fault("interface", "is given together with peerAddress; keep one of them")
    if address is not None and any(address in each for each in _NO_HOST):
        spec.fault("peerAddress", f"{address} is the address of no host; write the address of the router")
    if address is not None and source is not None and address.version != source.version:
        text = f"{source} cannot reach {address}: one is {source.family.value}, the other {address.family.value}"
        spec.fault("sourceAddress", f"{text}; use addresses of one family")
    return address, interface, source


def _address(spec: Fields, key: str) -> Address | None:
    text = spec.text(key)
    if not text:
        return None
    try:
        return Address.parse(text)
    except AddressError as error:
        spec.fault(key, str(error))
        return None


def _router_id(spec: Fields) -> Address | None:
    found = _address(spec, "routerID")
    # RFC 6286 section 2.1: a BGP Identifier is 4 bytes, and not all of them zero.
    if found is not None and (found.version != 4 or found.value == 0):
        spec.fault("routerID", f"{found} cannot identify a router; write an IPv4 address, or leave it out")
    return found


def _times(spec: Fields) -> tuple[int | None, int | None]:
    """Hold time and keepalive interval in whole seconds, each from the other where only one is given."""
    hold, keepalive = _seconds(spec, "holdTime"), _seconds(spec, "keepaliveTime")
    if hold in (1, 2):
        spec.fault("holdTime", f"must be 0s, or 3s and more, not {hold}s")
    if hold is None:
        return (None, None) if keepalive is None else (min(3 * keepalive, MOST_SECONDS), keepalive)
    # Without keepalives the peer would end a session that has a hold time: then 0 can only mean "not said".
    if not keepalive:
        return hold, hold // 3
    if keepalive > hold:
        spec.fault("keepaliveTime", f"must not be longer than the hold time of {hold}s; a third of it is usual")
    return hold, keepalive


def _seconds(spec: Fields, key: str) -> int | None:
    nanoseconds = spec.duration(key)
    if nanoseconds is None:
        return None
    seconds = nanoseconds // SECOND
    if seconds > MOST_SECONDS:
        spec.fault(key, f"must not be longer than {MOST_SECONDS}s, not {seconds}s")
    return seconds


def _connect_time(spec: Fields) -> int | None:
    nanoseconds = spec.duration("connectTime")
    if nanoseconds is None:
        return None
    if nanoseconds % SECOND or not 1 <= nanoseconds // SECOND <= MOST_SECONDS:
        spec.fault("connectTime", f"must be whole seconds from 1s to {MOST_SECONDS}s")
    return nanoseconds // SECOND


def _password(spec: Fields) -> str:
    password = spec.text("password")
    if len(password.encode("utf-8", "surrogatepass")) > MOST_PASSWORD:
        spec.fault("password", f"is longer than {MOST_PASSWORD} bytes, which is all that TCP MD5 takes; shorten it")
    return password


def _secret(spec: Fields) -> SecretRef | None:
    secret = spec.child("passwordSecret")
    secret.only("name", "namespace")
    name, namespace = secret.text("name"), secret.text("namespace")
    if name and spec.raw("password"):
        secret.fault("name", "is given together with a password; keep one of them")
    return SecretRef(name, namespace) if name else None


def read_bgp_advertisement(spec: Fields, name: str, origin: Origin) -> BGPAdvertisement:
    """An advertisement; all fields may be left out: every pool to every peer from every node."""
    spec.only(
        "aggregationLength",
        "aggregationLengthV6",
        "localPref",
        "communities",
        "ipAddressPools",
        "ipAddressPoolSelectors",
        "nodeSelectors",
        "serviceSelectors",
        "peers",
    )
    length = spec.integer("aggregationLength", default=32, lowest=1, highest=32)
    length_v6 = spec.integer("aggregationLengthV6", default=128, lowest=1, highest=128)
    service_selectors = read_selectors(spec, "serviceSelectors")
    if service_selectors and (length, length_v6) != (32, 128):
        # An aggregate would announce the addresses of Services that were not selected.
        text = "cannot go together with aggregation; leave aggregationLength and aggregationLengthV6 out"
        spec.fault("serviceSelectors", text)
    return BGPAdvertisement(
        name=name,
        pools=spec.unique_texts("ipAddressPools"),
        pool_selectors=read_selectors(spec, "ipAddressPoolSelectors"),
        node_selectors=read_selectors(spec, "nodeSelectors"),
        service_selectors=service_selectors,
        peers=spec.unique_texts("peers"),
        aggregation_length=length,
        aggregation_length_v6=length_v6,
        local_pref=spec.integer("localPref", default=0, lowest=0, highest=2**32 - 1),
        community_texts=spec.unique_texts("communities"),
        origin=origin,
        path=spec.path,
    )


def read_bfd_profile(spec: Fields, name: str, origin: Origin) -> BFDProfile:
    """A profile; what is left out is the default."""
    spec.only(
        "receiveInterval",
        "transmitInterval",
        "echoInterval",
        "detectMultiplier",
        "minimumTtl",
        "echoMode",
        "passiveMode",
    )
    return BFDProfile(
        name=name,
        receive_interval=_optional(spec, "receiveInterval", 10, 60_000),
        transmit_interval=_optional(spec, "transmitInterval", 10, 60_000),
        echo_interval=_optional(spec, "echoInterval", 10, 60_000),
        detect_multiplier=_optional(spec, "detectMultiplier", 2, 255),
        minimum_ttl=_optional(spec, "minimumTtl", 1, 254),
        echo_mode=spec.flag("echoMode", default=False),
        passive_mode=spec.flag("passiveMode", default=False),
        origin=origin,
        path=spec.path,
    )


def read_communities(spec: Fields, origin: Origin) -> tuple[CommunityAlias, ...]:
    """The names that a Community object gives to communities. A name twice shows when all are together."""
    spec.only("communities")
    found = []
    for each in spec.children("communities"):
        each.only("name", "value")
        name = each.required_text("name", "write the name that advertisements use")
        each.required_text("value", "write 65000:100 or large:65000:1:2")
        alias = read_community(each, "value", name, origin)
        if alias is not None:
            found.append(alias)
    return tuple(found)


def read_community(parent: Fields, key: str, name: str, origin: Origin) -> CommunityAlias | None:
    """The community that stands at a field, under a name; None when there is none."""
    text = parent.text(key)
    if not text:
        return None
    try:
        community = parse_community(text)
    except CommunityError as error:
        parent.fault(key, str(error))
        return None
    path = parent.at("name" if key == "value" else key)
    return CommunityAlias(name=name, community=community, origin=origin, path=path)

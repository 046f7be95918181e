"""The operator's wishes for BGP as values: peers, advertisements, BFD profiles, communities.

One object of the cluster each, sound in itself; whether they make sense together is asked in
`lbcore.soundness`. Sources: the CRDs `BGPPeer`, `BGPAdvertisement`, `BFDProfile` and `Community` of
`metallb.io`; RFC 4271 (BGP), RFC 5880 (BFD), RFC 1997 and RFC 8092 (communities).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

from attrs import field, frozen

from lbcore.addresses import Address, Family
from lbcore.errors import CommunityError
from lbcore.model import LabelSelector, Node, Service, matches_any
from lbcore.resources import Origin, Pool, selects_pool

__all__ = [
    "BFDProfile",
    "BGPAdvertisement",
    "BGPPeer",
    "Community",
    "CommunityAlias",
    "DynamicASN",
    "SecretRef",
    "local_prefs_agree",
    "parse_community",
]


@frozen
class Community:
    """A BGP community: `65000:100` (two 16-bit fields, RFC 1997) or `large:65000:1:2` (three 32-bit fields, RFC 8092).

    Sorts as numbers, a standard community as if it were `value:0:0`.
    """

    fields: tuple[int, ...]

    @property
    def is_large(self) -> bool:
        """Whether it is a large community (RFC 8092)."""
        return len(self.fields) == 3

    def __lt__(self, other: Community) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[int, int, int, bool]:
        if self.is_large:
            first, second, third = self.fields
            return first, second, third, True
        return self.fields[0] << 16 | self.fields[1], 0, 0, False

    def __str__(self) -> str:
        return ("large:" if self.is_large else "") + ":".join(str(each) for each in self.fields)


def parse_community(text: str) -> Community:
    """Read `65000:100` or `large:65000:1:2`. Raises `CommunityError` for anything else."""
    parts = text.split(":")
    if len(parts) == 4 and parts[0] == "large":
        return Community(tuple(_number(text, part, 32) for part in parts[1:]))
    if len(parts) == 2:
        return Community(tuple(_number(text, part, 16) for part in parts))
    raise CommunityError(f"{text[:80]!r} is not a community; write 65000:100 or large:65000:1:2")


def _number(text: str, part: str, bits: int) -> int:
    readable = part.isascii() and part.isdigit() and len(part) <= 20
    if not readable or int(part) >= 1 << bits:
        most = (1 << bits) - 1
        raise CommunityError(f"{text[:80]!r} is not a community: write a number from 0 to {most}, not {part[:20]!r}")
    return int(part)


@frozen(kw_only=True)
class CommunityAlias:
    """One entry of a Community object's `spec.communities`: a name for a community; `path` is where it stands."""

    name: str
    community: Community
    origin: Origin | None = field(default=None, eq=False)
    path: str = field(default="spec.communities[0]", eq=False)


@frozen(kw_only=True)
class BFDProfile:
    """A BFDProfile: how a session watches its peer (RFC 5880). Intervals in milliseconds; None is the default.

    The defaults are FRR's: 300 ms to send and to receive, 50 ms for echoes, 3 lost packets.
    """

    name: str
    receive_interval: int | None = None
    transmit_interval: int | None = None
    echo_interval: int | None = None
    detect_multiplier: int | None = None
    minimum_ttl: int | None = None
    echo_mode: bool = False
    passive_mode: bool = False
    origin: Origin | None = field(default=None, eq=False)
    path: str = field(default="spec", eq=False)


class DynamicASN(Enum):
    """`BGPPeer.spec.dynamicASN`: take the peer's AS number from its OPEN, ours or any other than ours."""

    INTERNAL = "internal"
    EXTERNAL = "external"


@frozen
class SecretRef:
    """`BGPPeer.spec.passwordSecret`: a Secret of type kubernetes.io/basic-auth, whose key `password` counts."""

    name: str
    namespace: str = ""


@frozen(kw_only=True)
class BGPPeer:
    """A BGPPeer: a router that nodes hold a session with.

    Exactly one of `address` and `interface` (unnumbered) is set, and exactly one of `peer_asn` and
    `dynamic_asn`. Times in whole seconds: `hold_time` and `keepalive_time` are both None (the
    default) or both set, and 0 switches them off; `connect_time` is how long to wait before another
    attempt. `node_selectors`: the nodes that have the session, empty for all. `ttl_security_hops`: what comes
    over more routers is dropped (GTSM, RFC 5082), 1 for a router on the same link; None is no such bound.
    """

    name: str
    my_asn: int
    peer_asn: int | None = None
    dynamic_asn: DynamicASN | None = None
    local_asn: int | None = None
    address: Address | None = None
    interface: str = ""
    source_address: Address | None = None
    port: int = 179
    hold_time: int | None = None
    keepalive_time: int | None = None
    connect_time: int | None = None
    router_id: Address | None = None
    node_selectors: tuple[LabelSelector, ...] = ()
    password: str = field(default="", repr=False)
    password_secret: SecretRef | None = None
    bfd_profile: str = ""
    graceful_restart: bool = False
    ebgp_multihop: bool = False
    vrf: str = ""
    dual_stack: bool = False
    ttl_security_hops: int | None = None
    origin: Origin | None = field(default=None, eq=False)
    path: str = field(default="spec", eq=False)

    def runs_on(self, node: Node | None) -> bool:
        """Whether a node has this session; None is a node that nothing is known of."""
        return _selects_node(self.node_selectors, node)

    def carries(self, family: Family) -> bool:
        """Whether routes of a family go over this session: the one it runs over, or both where it is told so."""
        return self.dual_stack or self.address is None or self.address.family is family

    @property
    def router(self) -> str:
        """Who the peer is: its address or interface, with the VRF if it is in one."""
        where = str(self.address) if self.address is not None else self.interface
        return f"{where} in VRF {self.vrf}" if self.vrf else where


@frozen(kw_only=True)
class BGPAdvertisement:
    """A BGPAdvertisement: which pools are announced to which peers, by which nodes, with which attributes.

    `pools`, `pool_selectors`, `node_selectors` and `service_selectors` as in `L2Advertisement`.
    `peers` are names of BGPPeers, empty for all; names of peers that do not exist are passed over.
    Aggregation lengths are the prefix lengths announced. `local_pref` 0 is "not set". The
    communities are names and literals as written (`community_texts`); in a configuration that is
    whole they are also values (`communities`), sorted, none twice.
    """

    name: str
    pools: tuple[str, ...] = ()
    pool_selectors: tuple[LabelSelector, ...] = ()
    node_selectors: tuple[LabelSelector, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()
    peers: tuple[str, ...] = ()
    aggregation_length: int = 32
    aggregation_length_v6: int = 128
    local_pref: int = 0
    community_texts: tuple[str, ...] = ()
    communities: tuple[Community, ...] = ()
    origin: Origin | None = field(default=None, eq=False)
    path: str = field(default="spec", eq=False)

    def selects_pool(self, pool: Pool) -> bool:
        """Whether this advertisement announces addresses of that pool."""
        return selects_pool(self.pools, self.pool_selectors, pool)

    def selects_node(self, node: Node | None) -> bool:
        """Whether a node announces it; None is a node that nothing is known of."""
        return _selects_node(self.node_selectors, node)

    def selects_service(self, service: Service) -> bool:
        """Whether it announces this Service's addresses."""
        return not self.service_selectors or matches_any(self.service_selectors, service.labels)

    def reaches(self, peer: BGPPeer) -> bool:
        """Whether it is announced to a peer."""
        return not self.peers or peer.name in self.peers

    def length(self, family: Family) -> int:
        """The prefix length that it announces addresses of a family with."""
        return self.aggregation_length if family is Family.IPV4 else self.aggregation_length_v6


def _selects_node(selectors: tuple[LabelSelector, ...], node: Node | None) -> bool:
    labels: Mapping[str, str] = node.labels if node is not None else {}
    return not selectors or matches_any(selectors, labels)


def local_prefs_agree(one: BGPAdvertisement, other: BGPAdvertisement, families: Collection[Family]) -> bool:
    """Whether two advertisements of one pool on one node can stand beside each other.

    A route has one LOCAL_PREF (RFC 4271 section 5.1.5). Two differ in vain only if a peer gets both
    for the same prefix: not when they share no peer, nor when each family is announced in prefixes
    of different lengths.
    """
    if one.local_pref == other.local_pref:
        return True
    if one.peers and other.peers and not set(one.peers) & set(other.peers):
        return True
    return all(one.length(family) != other.length(family) for family in families)

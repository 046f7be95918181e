"""Which nodes announce an address over BGP? Every one that may: there is no election, routers share the load.

The rules are those of MetalLB's speaker, with two questions more, because without a session or a
living speaker nobody hears of the address. A node's own facts, the advertisements and peers decide;
what other nodes do does not matter, with two exceptions of ours: a drained node announces only what no other can,
and a Service may ask for a few nodes instead of all (`lbcore.io/announcing-nodes`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from attrs import field, frozen

from lbcore.addresses import Address, Family
from lbcore.bgp import BGPAdvertisement, BGPPeer, local_prefs_agree
from lbcore.election import EXCLUDE_LABEL, rank
from lbcore.endpoints import Reach
from lbcore.model import Node, Service, TrafficPolicy
from lbcore.resources import Pool
from lbcore.routes import Path, Prefix
from lbcore.verdicts import NODE_TEXTS, NodeVerdict, Reason

ANNOUNCING_NODES = "lbcore.io/announcing-nodes"  # of a Service: from how many nodes at most, a number from 1 on

__all__ = [
    "ANNOUNCING_NODES",
    "Case",
    "PeerVerdict",
    "Speakers",
    "bgp_verdict",
    "bgp_verdicts",
    "every_peer_verdict",
    "peer_verdicts",
]


@frozen(kw_only=True)
class Speakers:
    """The nodes that are known, and those with a living speaker. A cluster that lists no Nodes has its members.

    `waiting` live, too, and as they were held for dead a short time ago nobody counts them in but they themselves:
    a router that sees one takes its routes, and whoever stands in for it goes on.
    """

    nodes: Mapping[str, Node]
    members: frozenset[str]
    waiting: frozenset[str] = frozenset()
    ignore_exclude_label: bool = False
    drained: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """Every node that there is anything to say about, sorted."""
        return sorted({*self.nodes, *self.members, *self.waiting})


@frozen(kw_only=True, cache_hash=True)
class Case:
    """What of an address decides who announces it: whatever nodes and peers there are, those of one case fare alike.

    A cluster has few cases, however many Services it has, so that who asks for all of them looks at each case once.
    `adverts` are those of its pool for its Service, `families` its pool's. `reach` is where its endpoints are, as far
    as that matters: unless it is `local` (externalTrafficPolicy), only whether there are any. Of a Service that asks
    for a few nodes, `few` is how it does, and `first` its first address, which they are ranked by.
    """

    family: Family
    families: frozenset[Family]
    adverts: tuple[BGPAdvertisement, ...]
    local: bool
    reach: Reach
    few: str | None = None
    first: Address | None = None

    @classmethod
    def of(
        cls, service: Service, family: Family, pool: Pool, adverts: Iterable[BGPAdvertisement], reach: Reach
    ) -> Case:
        """That of a Service's address of a family and pool, where `adverts` are all that are configured."""
        few = service.annotations.get(ANNOUNCING_NODES)
        local = service.external_traffic_policy is TrafficPolicy.LOCAL
        return cls(
            family=family,
            families=pool.families,
            adverts=tuple(ad for ad in adverts if ad.selects_pool(pool) and ad.selects_service(service)),
            local=local,
            reach=reach if local else Reach(reach.anywhere),
            few=few,
            first=service.held[0] if few is not None and service.held else None,
        )

    @property
    def most(self) -> int | None:
        """From how many nodes it is to be announced at most; None is from all, and so is what is no number."""
        text = (self.few or "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) else None


def bgp_verdicts(case: Case, peers: Iterable[BGPPeer], speakers: Speakers) -> Iterator[NodeVerdict]:
    """Every node with what keeps it from announcing an address, sorted by name.

    `Reason.OK` are the nodes that announce it, each to the peers that its advertisements reach. `peers` are all that
    are configured.
    """
    fitting = _fitting(case, peers)
    able = [_able(name, case, fitting, speakers) for name in speakers.names]
    chosen = _chosen(case, able, speakers)
    for verdict in able:
        alone = verdict.node in speakers.waiting
        by_itself = _chosen(case, able, speakers, verdict.node) if alone else chosen
        yield _narrowed(verdict, case, by_itself, speakers)


def bgp_verdict(name: str, case: Case, peers: Iterable[BGPPeer], speakers: Speakers) -> NodeVerdict:
    """The same for one node."""
    fitting = _fitting(case, peers)
    verdict = _able(name, case, fitting, speakers)
    if verdict.reason is not Reason.OK or not (name in speakers.drained or case.few is not None):
        return verdict  # what other nodes do does not matter
    able = [_able(each, case, fitting, speakers) for each in speakers.names]
    return _narrowed(verdict, case, _chosen(case, able, speakers, name), speakers)


def _fitting(case: Case, peers: Iterable[BGPPeer]) -> list[BGPPeer]:
    return [peer for peer in peers if peer.carries(case.family)]


def _chosen(case: Case, able: Iterable[NodeVerdict], speakers: Speakers, by: str = "") -> frozenset[str]:
    """Of the nodes that are able the ones that announce: those not drained, if there are any, and the first so many.
    Of those that wait none but the one `by` whose reckoning it is.

    The order is that of the Layer 2 election (rendezvous hashing): a node that goes is replaced by the next one, and
    all others stay; one that comes back has its place again.
    """
    names = frozenset(verdict.node for verdict in able if verdict.reason is Reason.OK)
    names -= speakers.waiting - {by}
    fresh = names - speakers.drained or names
    most, first = case.most, case.first
    return fresh if most is None or first is None or len(fresh) <= most else frozenset(rank(fresh, first)[:most])


def _narrowed(verdict: NodeVerdict, case: Case, chosen: frozenset[str], speakers: Speakers) -> NodeVerdict:
    """The verdict on a node that is able, when others have been looked at."""
    name = verdict.node
    if verdict.reason is not Reason.OK:
        return verdict
    if name in chosen:
        if case.few is not None and case.most is None:
            detail = f"announces it, like all nodes: {ANNOUNCING_NODES} {case.few[:20]!r} is no number from 1 on"
        else:
            detail = "announces it though drained: no other node can" if name in speakers.drained else verdict.detail
        return NodeVerdict(node=name, reason=Reason.OK, detail=detail)
    if name in speakers.drained:
        return NodeVerdict(node=name, reason=Reason.NODE_DRAINED, detail=NODE_TEXTS[Reason.NODE_DRAINED])
    detail = f"the Service asks for {case.most} nodes ({ANNOUNCING_NODES}): {', '.join(sorted(chosen))}"
    return NodeVerdict(node=name, reason=Reason.NODE_NOT_CHOSEN, detail=detail)


def _able(name: str, case: Case, fitting: Sequence[BGPPeer], speakers: Speakers) -> NodeVerdict:
    """Whether a node could announce it, whatever others do; `fitting` are the peers that take its family."""
    node = speakers.nodes.get(name)
    here = [advert for advert in case.adverts if advert.selects_node(node)]
    refusal = _judge_node(name, node, speakers) or _judge_advertisements(case.adverts, here, case.families)
    refusal = refusal or _judge_endpoints(name, case) or _judge_peers(node, here, fitting, case.family)
    reason, detail = refusal or (Reason.OK, "announces it")
    return NodeVerdict(node=name, reason=reason, detail=detail)


@frozen(kw_only=True)
class PeerVerdict:
    """A prefix that a node tells a peer, and with which path, or why it does not; `peer` None is all of them."""

    node: str
    prefix: Prefix
    reason: Reason
    detail: str = ""
    peer: BGPPeer | None = None
    path: Path = field(factory=Path)


def peer_verdicts(
    name: str, address: Address, case: Case, peers: Iterable[BGPPeer], speakers: Speakers
) -> Iterator[PeerVerdict]:
    """What a node tells of an address to each peer, in the peers' order: a prefix for each advertisement, or why none.

    Of a node that announces it to nobody, whoever that were, one verdict without a peer.
    """
    peers = tuple(peers)
    yield from _told(bgp_verdict(name, case, peers, speakers), address, case, peers, speakers)


def every_peer_verdict(
    address: Address, case: Case, peers: Iterable[BGPPeer], speakers: Speakers
) -> Iterator[PeerVerdict]:
    """The same for every node, sorted by name. Which of them are chosen is worked out once, and not for each node."""
    peers = tuple(peers)
    for whole in bgp_verdicts(case, peers, speakers):
        yield from _told(whole, address, case, peers, speakers)


def _told(
    whole: NodeVerdict, address: Address, case: Case, peers: Sequence[BGPPeer], speakers: Speakers
) -> Iterator[PeerVerdict]:
    """What a node tells each peer, where `whole` is what it does at all."""
    name, family, plain = whole.node, case.family, Prefix.of(address)
    if whole.reason not in (Reason.OK, Reason.NO_PEER) or not peers:
        yield PeerVerdict(node=name, prefix=plain, reason=whole.reason, detail=whole.detail)
        return
    node = speakers.nodes.get(name)
    here = [advert for advert in case.adverts if advert.selects_node(node)]
    ways = [
        (
            advert,
            Prefix.of(address, advert.length(family)),
            Path(local_pref=advert.local_pref, communities=advert.communities),
        )
        for advert in here
    ]
    for peer in peers:
        refusal = _judge_peer(peer, node, here, family)
        if refusal is not None:
            reason, detail = refusal
            yield PeerVerdict(node=name, prefix=plain, reason=reason, detail=detail, peer=peer)
            continue
        for advert, prefix, path in ways:
            if advert.reaches(peer):
                detail = f"by BGPAdvertisement {advert.name}"
                yield PeerVerdict(node=name, prefix=prefix, reason=Reason.OK, detail=detail, peer=peer, path=path)


def _judge_peer(peer: BGPPeer, node: Node | None, here: Sequence[BGPAdvertisement], family: Family) -> _Why | None:
    if not peer.runs_on(node):
        return (
            Reason.NO_PEER,
            "the node has no session with it: its nodeSelectors do not match; label it, or widen them",
        )
    if not peer.carries(family):
        text = (
            f"its session carries no {family.value} routes; set dualStackAddressFamily, or add a peer by {family.value}"
        )
        return Reason.NO_PEER, text
    if not any(advert.reaches(peer) for advert in here):
        names = ", ".join(advert.name for advert in here)
        return Reason.NO_PEER, f"BGPAdvertisement {names} names other peers; add it to spec.peers"
    return None


_Why = tuple[Reason, str]


def _plainly(reason: Reason) -> _Why:
    return reason, NODE_TEXTS[reason]


def _judge_node(name: str, node: Node | None, speakers: Speakers) -> _Why | None:
    if node is None and speakers.nodes:
        return _plainly(Reason.NODE_UNKNOWN)
    if name not in speakers.members and name not in speakers.waiting:
        return _plainly(Reason.NOT_A_MEMBER)
    if node is not None and node.network_unavailable:
        return _plainly(Reason.NODE_NETWORK_UNAVAILABLE)
    if node is not None and EXCLUDE_LABEL in node.labels and not speakers.ignore_exclude_label:
        return Reason.NODE_EXCLUDED, f"the node has the label {EXCLUDE_LABEL}; remove it"
    return None


def _judge_advertisements(
    matching: Sequence[BGPAdvertisement], here: Sequence[BGPAdvertisement], families: Collection[Family]
) -> _Why | None:
    """`matching` are the advertisements of the address, `here` those that this node is in."""
    if not matching:
        return Reason.NO_ADVERTISEMENT, "no BGPAdvertisement announces this pool for this Service; create one"
    if not here:
        text = "the node matches the nodeSelectors of no BGPAdvertisement of this address; label it, or widen them"
        return Reason.NODE_NOT_SELECTED, text
    for one, other in combinations(here, 2):
        if not local_prefs_agree(one, other, families):
            text = (
                f"BGPAdvertisements {one.name} and {other.name} give it localPref {one.local_pref} and "
                f"{other.local_pref} on this node; use one value, or other peers, selectors or aggregation lengths"
            )
            return Reason.CONFLICTING_ADVERTISEMENTS, text
    return None


def _judge_endpoints(name: str, case: Case) -> _Why | None:
    if not case.reach.anywhere:
        return Reason.NO_ENDPOINTS, "the Service has no usable endpoint; look whether its Pods are ready"
    if case.local and name not in case.reach.nodes:
        return _plainly(Reason.NO_LOCAL_ENDPOINTS)
    if name in case.reach.too_new:
        return _plainly(Reason.ENDPOINTS_TOO_NEW)
    return None


def _judge_peers(
    node: Node | None, here: Sequence[BGPAdvertisement], peers: Sequence[BGPPeer], family: Family
) -> _Why | None:
    if any(advert.reaches(peer) for peer in peers if peer.runs_on(node) for advert in here):
        return None
    named = sorted({name for advert in here for name in advert.peers}) if all(advert.peers for advert in here) else []
    which = f"none of {', '.join(named)}" if named else "no BGPPeer"
    text = f"the node has {which} that takes {family.value} routes; look at the BGPPeers' names and nodeSelectors"
    return Reason.NO_PEER, text

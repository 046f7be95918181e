"""Who announces an address on Layer 2: the same answer on every node, from the same facts alone.

The ranking is MetalLB's, byte for byte, so that both can run in one cluster while one replaces the
other: SHA-256 over `<node>#<address>`, the lowest digest first, nodes with a higher preference
before all others. No state, no messages: nodes that know the same members agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.config import L2Advertisement
from lbcore.model import Labels, Node, Service, TrafficPolicy, matches_any
from lbcore.verdicts import NODE_TEXTS, NodeVerdict, Reason

__all__ = [
    "EXCLUDE_LABEL",
    "Election",
    "Electorate",
    "elect",
    "electorate",
    "is_next",
    "judge_node",
    "rank",
    "re_elect",
    "restrict_to_endpoints",
]

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
_LAST = 1 << 40  # above every sum of preferences, whose weights are 100 at most: this much less, and a node is last

Rank = tuple[int, bytes]  # (minus the preference, digest): the lowest wins


@frozen
class Electorate:
    """The nodes that may be elected, and the preference score of those that have one.

    A drained node has a score below all others: it is elected where nobody else may be, and only there.
    """

    candidates: frozenset[str] = frozenset()
    scores: Map[str, int] = field(factory=Map)


@frozen
class Election:
    """The winner for one address, with its rank, among which candidates."""

    winner: str
    rank: Rank
    among: Electorate


def judge_node(
    name: str,
    adverts: Iterable[L2Advertisement],
    nodes: Mapping[str, Node],
    members: frozenset[str],
    *,
    ignore_exclude_label: bool = False,
) -> NodeVerdict:
    """May this node be elected for addresses that these advertisements announce?

    It must have a living speaker, be known, not carry the label
    `node.kubernetes.io/exclude-from-external-load-balancers` (any value), not have the condition
    `NetworkUnavailable`, and match the node selectors of at least one advertisement. Readiness,
    cordons and taints do not matter. A cluster that lists no Nodes at all has its members as nodes.
    """
    node = nodes.get(name)
    if node is None and nodes:
        return _plainly(name, Reason.NODE_UNKNOWN)
    if name not in members:
        return _plainly(name, Reason.NOT_A_MEMBER)
    if node is not None and EXCLUDE_LABEL in node.labels and not ignore_exclude_label:
        return NodeVerdict(
            node=name, reason=Reason.NODE_EXCLUDED, detail=f"the node has the label {EXCLUDE_LABEL}; remove it"
        )
    if node is not None and node.network_unavailable:
        return _plainly(name, Reason.NODE_NETWORK_UNAVAILABLE)
    if not any(_selects(advert, node) for advert in adverts):
        text = "the node matches the nodeSelectors of no L2Advertisement of this address; label it, or widen them"
        return NodeVerdict(node=name, reason=Reason.NODE_NOT_SELECTED, detail=text)
    return NodeVerdict(node=name, reason=Reason.OK)


def _plainly(name: str, reason: Reason) -> NodeVerdict:
    return NodeVerdict(node=name, reason=reason, detail=NODE_TEXTS[reason])


def _selects(advert: L2Advertisement, node: Node | None) -> bool:
    labels: Labels = node.labels if node is not None else Map()
    return not advert.node_selectors or matches_any(advert.node_selectors, labels)


def electorate(
    adverts: tuple[L2Advertisement, ...],
    nodes: Mapping[str, Node],
    members: frozenset[str],
    *,
    drained: frozenset[str] = frozenset(),
    ignore_exclude_label: bool = False,
) -> Electorate:
    """Every node that `judge_node` lets in, with the sum of the weights of the preferences it meets.

    A preference counts only in an advertisement whose node selectors let the node in. `drained` nodes come last.
    """
    candidates = frozenset(
        name
        for name in members
        if judge_node(name, adverts, nodes, members, ignore_exclude_label=ignore_exclude_label).reason is Reason.OK
    )
    leaving = candidates & drained
    if not leaving and not any(advert.preferred_nodes for advert in adverts):
        return Electorate(candidates)
    scores = {name: sum(_score(advert, nodes.get(name)) for advert in adverts) for name in candidates}
    for name in leaving:
        scores[name] -= _LAST
    return Electorate(candidates, Map({name: score for name, score in scores.items() if score}))


def _score(advert: L2Advertisement, node: Node | None) -> int:
    labels: Labels = node.labels if node is not None else Map()
    if not _selects(advert, node):
        return 0
    return sum(preferred.weight for preferred in advert.preferred_nodes if preferred.preference.matches(labels))


def restrict_to_endpoints(among: Electorate, service: Service, endpoint_nodes: frozenset[str]) -> Electorate:
    """With `externalTrafficPolicy: Local`, only nodes that have a usable endpoint themselves."""
    if service.external_traffic_policy is TrafficPolicy.CLUSTER:
        return among
    return Electorate(among.candidates & endpoint_nodes, among.scores)


def _rank(name: str, suffix: bytes, scores: Mapping[str, int]) -> Rank:
    return -scores.get(name, 0), sha256(name.encode() + suffix).digest()


def rank(candidates: Iterable[str], address: Address, scores: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Candidates in the order in which they would take over an address, the winner first."""
    suffix = f"#{address}".encode()
    return tuple(sorted(set(candidates), key=lambda name: _rank(name, suffix, scores or {})))


def elect(candidates: Iterable[str], address: Address, scores: Mapping[str, int] | None = None) -> str | None:
    """The node that announces an address: the first of `rank`, or None without candidates.

    `address` is the first of the Service's `status.loadBalancer.ingress`, for all of its addresses,
    so that both addresses of a dual-stack Service are on one node.
    """
    election = _full(Electorate(frozenset(candidates), Map(scores or {})), address)
    return election.winner if election else None


def re_elect(before: Election | None, among: Electorate, address: Address) -> Election | None:
    """The election among changed candidates, at the cost of what changed.

    Equals an election from nothing: if the old winner is still there, only newcomers can beat it.
    """
    if before is None or before.among.scores != among.scores or before.winner not in among.candidates:
        return _full(among, address)
    newcomers = among.candidates - before.among.candidates
    if not newcomers:
        return before if before.among is among else Election(before.winner, before.rank, among)
    suffix = f"#{address}".encode()
    best, winner = min((_rank(name, suffix, among.scores), name) for name in newcomers)
    if best < before.rank:
        return Election(winner, best, among)
    return Election(before.winner, before.rank, among)


def is_next(name: str, election: Election, address: Address) -> bool:
    """Whether a candidate would be elected if the winner went, and nothing else changed."""
    if name == election.winner or name not in election.among.candidates:
        return False
    suffix, scores = f"#{address}".encode(), election.among.scores
    own = _rank(name, suffix, scores)
    # Somebody who ranks before it is found after a few, if there is anybody.
    others = (each for each in election.among.candidates if each not in (name, election.winner))
    return all(_rank(each, suffix, scores) > own for each in others)


def _full(among: Electorate, address: Address) -> Election | None:
    if not among.candidates:
        return None
    suffix = f"#{address}".encode()
    if among.scores:
        best, winner = min((_rank(name, suffix, among.scores), name) for name in among.candidates)
        return Election(winner, best, among)
    # The common case in one tight loop: 200 candidates are 200 hashes.
    digest, winner = min((sha256(name.encode() + suffix).digest(), name) for name in among.candidates)
    return Election(winner, (0, digest), among)

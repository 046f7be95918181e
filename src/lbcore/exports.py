"""What does this node tell which router? Services' addresses as routes, joined where they share a prefix.

Several Services may lie in one aggregate, and several BGPAdvertisements may announce one address: the
routes are counted by what each contributes, so that a change costs as much as the Service has addresses,
however many others are in its aggregate. Communities of one prefix add up, as in MetalLB; of two
localPrefs, which a configuration avoids, the higher one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.advertising import Case, Speakers, peer_verdicts
from lbcore.bgp import BGPAdvertisement, BGPPeer, Community
from lbcore.endpoints import Reach
from lbcore.intents import AdvertiseRoute, WithdrawRoute
from lbcore.model import Service, ServiceKey
from lbcore.resources import Pool
from lbcore.routes import Offer, Path, Prefix
from lbcore.verdicts import Reason

__all__ = ["Contribution", "Exports", "contributions", "joined", "merged"]

Contribution = tuple[Prefix, Offer]


def contributions(
    service: Service,
    held: Iterable[tuple[Address, Pool]],
    adverts: Iterable[BGPAdvertisement],
    peers: Iterable[BGPPeer],
    node: str,
    speakers: Speakers,
    reach: Reach,
) -> tuple[Contribution, ...]:
    """What a Service gives to a node's routes: a prefix and a path for each address, advertisement and peer.

    `held` are its addresses, each with its pool. None for an address that the node does not announce.
    """
    adverts, peers = tuple(adverts), tuple(peers)
    found: dict[Contribution, None] = {}
    for address, pool in held:
        case = Case.of(service, address.family, pool, adverts, reach)
        for verdict in peer_verdicts(node, address, case, peers, speakers):
            if verdict.reason is Reason.OK and verdict.peer is not None:
                found[verdict.prefix, Offer(verdict.peer.name, verdict.path)] = None
    return tuple(found)


@frozen(kw_only=True)
class Exports:
    """The routes of this node: what each Service gives, how often each offer of a prefix is given, what is told."""

    given: Map[ServiceKey, tuple[Contribution, ...]] = field(factory=Map)
    counts: Map[Prefix, Map[Offer, int]] = field(factory=Map)
    told: Map[Prefix, tuple[Offer, ...]] = field(factory=Map)

    def put(
        self, key: ServiceKey, given: tuple[Contribution, ...]
    ) -> tuple[Exports, tuple[AdvertiseRoute | WithdrawRoute, ...]]:
        """A Service gives this now, and no longer what it gave; what that changes for the routers."""
        before = self.given.get(key, ())
        if before == given:
            return self, ()
        counts = self.counts
        touched: dict[Prefix, None] = {}
        for pairs, by in ((before, -1), (given, 1)):
            for prefix, offer in pairs:
                touched[prefix] = None
                offers = counts.get(prefix, Map[Offer, int]())
                count = offers.get(offer, 0) + by
                offers = offers.set(offer, count) if count else offers.delete(offer)
                counts = counts.set(prefix, offers) if offers else counts.delete(prefix)
        told = self.told
        intents: list[AdvertiseRoute | WithdrawRoute] = []
        for prefix in touched:
            wanted = joined(counts.get(prefix, ()))
            if told.get(prefix, ()) == wanted:
                continue
            if wanted:
                told = told.set(prefix, wanted)
                intents.append(AdvertiseRoute(prefix=prefix, offers=wanted))
            else:
                told = told.delete(prefix)
                intents.append(WithdrawRoute(prefix))
        all_given = self.given.set(key, given) if given else self.given.delete(key)
        return Exports(given=all_given, counts=counts, told=told), tuple(intents)


def joined(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """What is told of a prefix of which all this is given: one offer for each peer, sorted by its name."""
    by_peer: dict[str, list[Path]] = {}
    for offer in offers:
        by_peer.setdefault(offer.peer, []).append(offer.path)
    return tuple(Offer(peer, merged(by_peer[peer])) for peer in sorted(by_peer))


def merged(paths: Sequence[Path]) -> Path:
    """What goes with a prefix that one router is told with all these paths; in any order, and however often each."""
    if len(paths) == 1:
        return paths[0]
    communities: set[Community] = {each for path in paths for each in path.communities}
    return Path(
        local_pref=max(path.local_pref for path in paths),
        communities=tuple(sorted(communities)),
    )

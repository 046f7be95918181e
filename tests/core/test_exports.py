"""What routers are told: worked out change by change it is what one would work out anew, whatever came before."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from lbcore.addresses import Address, Family
from lbcore.advertising import Speakers
from lbcore.bgp import BGPAdvertisement, BGPPeer, Community, SecretRef
from lbcore.config import Origin, Pool
from lbcore.endpoints import Reach
from lbcore.exports import Contribution, Exports, contributions
from lbcore.ingress import ObjectKey, Secret
from lbcore.intents import AdvertiseRoute, WithdrawRoute
from lbcore.model import LabelSelector, Node, Service, ServiceKey
from lbcore.peering import about, peers_of, session_event
from lbcore.routes import Offer, Path, PeerState, PeerStatus, Prefix

PREFIXES = [Prefix.of(Address.parse("2001:db8::"), 64), Prefix.of(Address.parse("192.0.2.0"), 24)]
PATHS = [Path(), Path(local_pref=5), Path(communities=(Community((1, 2)),)), Path(communities=(Community((3, 4)),))]
offers = st.builds(Offer, st.sampled_from(["a", "b"]), st.sampled_from(PATHS))
given_by_one = st.lists(st.tuples(st.sampled_from(PREFIXES), offers), max_size=4, unique=True).map(tuple)
KEYS = [ServiceKey("default", name) for name in "xyz"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), given_by_one), max_size=20))
def test_routers_know_the_sum_of_what_services_give(
    changes: list[tuple[ServiceKey, tuple[Contribution, ...]]],
) -> None:
    exports, now, routers = Exports(), dict[ServiceKey, tuple[Contribution, ...]](), dict[Prefix, tuple[Offer, ...]]()
    for key, gives in changes:
        exports, intents = exports.put(key, gives)
        assert ((), exports) == (exports.put(key, gives)[1], exports.put(key, gives)[0])  # twice is nothing
        now[key] = gives
        for intent in intents:
            if isinstance(intent, AdvertiseRoute):
                assert intent.offers != routers.get(intent.prefix)
                routers[intent.prefix] = intent.offers
            else:
                assert isinstance(intent, WithdrawRoute)
                del routers[intent.prefix]
    wanted: dict[Prefix, dict[str, set[Path]]] = {}
    for gives in now.values():
        for prefix, offer in gives:
            wanted.setdefault(prefix, {}).setdefault(offer.peer, set()).add(offer.path)
    assert wanted.keys() == routers.keys()
    for prefix, told in routers.items():
        assert sorted(wanted[prefix]) == [offer.peer for offer in told]
        for offer in told:
            paths = wanted[prefix][offer.peer]
            assert max(path.local_pref for path in paths) == offer.path.local_pref
            assert {each for path in paths for each in path.communities} == set(offer.path.communities)


POOL = Pool.parse("p", "192.0.2.0/24", "2001:db8::/64")
SERVICE = Service(key=KEYS[0], type="LoadBalancer")
FOUR, SIX = Address.parse("192.0.2.77"), Address.parse("2001:db8::77")
TOR4 = BGPPeer(name="tor4", my_asn=64513, peer_asn=64512, address=Address.parse("10.0.0.1"))
TOR6 = BGPPeer(name="tor6", my_asn=64513, peer_asn=64512, address=Address.parse("fd00::1"))
BOTH = BGPPeer(name="both", my_asn=64513, peer_asn=64512, address=Address.parse("fd00::2"), dual_stack=True)
SPEAKERS = Speakers(nodes={"n1": Node(name="n1", labels={"rack": "1"})}, members=frozenset({"n1"}))
ENDPOINT_HERE = Reach(nodes=frozenset({"n1"}), anywhere=True)


def routes(*adverts: BGPAdvertisement, peers: tuple[BGPPeer, ...] = (TOR4, TOR6, BOTH)) -> set[tuple[str, str]]:
    found = contributions(SERVICE, [(FOUR, POOL), (SIX, POOL)], adverts, peers, "n1", SPEAKERS, ENDPOINT_HERE)
    return {(str(prefix), offer.peer) for prefix, offer in found}


def test_each_family_goes_to_the_peers_that_carry_it() -> None:
    wanted = {("192.0.2.77/32", "tor4"), ("192.0.2.77/32", "both")}
    assert wanted | {("2001:db8::77/128", "tor6"), ("2001:db8::77/128", "both")} == routes(BGPAdvertisement(name="a"))


def test_addresses_are_aggregated_and_peers_are_chosen() -> None:
    wide = BGPAdvertisement(name="a", aggregation_length=24, aggregation_length_v6=64, peers=("both",))
    narrow = BGPAdvertisement(name="b", peers=("tor6",))
    wanted = {("192.0.2.0/24", "both"), ("2001:db8::/64", "both"), ("2001:db8::77/128", "tor6")}
    assert wanted == routes(wide, narrow)


def test_a_node_that_is_not_selected_tells_nobody() -> None:
    elsewhere = (LabelSelector.of(rack="2"),)
    assert set() == routes(BGPAdvertisement(name="a", node_selectors=elsewhere))
    far = BGPPeer(name="far", my_asn=1, peer_asn=2, address=TOR4.address, node_selectors=elsewhere)
    assert set() == routes(BGPAdvertisement(name="a"), peers=(far,))


def test_a_password_is_taken_from_its_secret_and_waited_for() -> None:
    wants = BGPPeer(
        name="tor", my_asn=1, peer_asn=2, address=TOR6.address, password_secret=SecretRef("s", "metallb-system")
    )
    peers, said = peers_of([wants, TOR4], SPEAKERS.nodes["n1"], {})
    assert ((TOR4,), ["passwordMissing"]) == (peers, [each.reason for each in said])
    key = ObjectKey("metallb-system", "s")
    peers, said = peers_of([wants], SPEAKERS.nodes["n1"], {key: Secret(key=key, data=Map(password=b"s3cret"))})
    assert (["s3cret"], []) == ([peer.password for peer in peers], said)
    peers, said = peers_of([wants], SPEAKERS.nodes["n1"], {key: Secret(key=key)})
    assert () == peers
    assert "has no key 'password'" in said[0].message


def test_only_news_of_a_session_is_an_event() -> None:
    up = PeerStatus(state=PeerState.ESTABLISHED, since=1)
    down = PeerStatus(state=PeerState.ACTIVE, since=2, error="hold timer expired")

    def reason(before: PeerStatus | None, after: PeerStatus | None) -> str | None:
        event = session_event("n1", "tor", before, after)
        return event.reason if event is not None else None

    assert ["sessionUp", "sessionDown", "sessionProblem", "sessionClosed"] == [
        reason(None, up),
        reason(up, down),
        reason(None, down),
        reason(up, None),
    ]
    more = PeerStatus(state=PeerState.ESTABLISHED, since=1, advertised=7)
    assert [None, None, None] == [reason(up, more), reason(down, down), reason(down, None)]
    assert Family.IPV6 is PREFIXES[0].family


def test_what_is_told_of_a_peer_goes_to_the_object_it_stands_in() -> None:
    own = Origin(kind="BGPPeer", namespace="metallb-system", name="tor")
    found = [about(evolve(TOR6, origin=each)) for each in (own, evolve(own, kind="ConfigMap", name="config"), None)]
    assert ["BGPPeer metallb-system/tor", "ConfigMap metallb-system/config", "BGPPeer tor6"] == found

"""What people do to a cluster with routers, beside all else: peers, advertisements, BFD profiles, drains."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from attrs import frozen

from lbcore.simulation.users import SYSTEM, Users
from lbcore.simulation.world import ApiServer, Document

__all__ = ["NODE_ASN", "PeerWish", "RoutedUsers"]

NODE_ASN = 64513
_COMMUNITIES = ("64513:100", "64513:7", "gold", "large:64513:1:2")
_LENGTHS = {"sums": (31, 127)}  # of advertisements by name; those of others are of single addresses
_ADVERTS = ("hosts", "more", "sums")
_HOLD_TIMES = (None, None, "90s", "30s", "30s", "15s", "9s")
_DRAIN = "lbcore.io/drain"


@frozen(kw_only=True)
class PeerWish:
    """A session that may be wanted: with a router at an address."""

    name: str
    address: str
    asn: int
    password: str


class RoutedUsers(Users):
    """Users of a cluster with routers. Of `wishes` each is a BGPPeer, there or not."""

    def __init__(
        self,
        server: ApiServer,
        rng: random.Random,
        counts: Counter[str],
        nodes: tuple[str, ...],
        wishes: Sequence[PeerWish],
        dice: random.Random,
    ) -> None:
        super().__init__(server, rng, counts, nodes)
        self._wanted = {wish.name: wish for wish in wishes}
        self._dice = dice
        # One value for each length: routes of one length have one LOCAL_PREF (`lbcore.soundness`).
        self._preferences = {length: dice.choice((0, 50, 200)) for length in ((32, 128), (31, 127))}
        self._add_acts(
            (5, self._change_bgp_advert),
            (5, self._change_peer),
            (2, self._toggle_peer),
            (2, self._change_profile),
            (6, self._drain_or_return),
        )

    def begin(self) -> None:
        """The cluster as lbcore finds it."""
        super().begin()
        self._put_system("communities", "ours", {"communities": [{"name": "gold", "value": "64513:9"}]})
        self._put_system("bfdprofiles", "watchful", {"receiveInterval": 300, "transmitInterval": 300})
        for wish in self._wanted.values():
            self._put_peer(wish)
        self._put_system("bgpadvertisements", "hosts", self._advert("hosts", plain=True))

    def _put_system(self, resource: str, name: str, spec: Document) -> None:
        self._server.put(resource, {"namespace": SYSTEM, "name": name}, spec=spec)

    # Peers

    def _put_peer(self, wish: PeerWish) -> None:
        dice = self._dice
        spec: Document = {"myASN": NODE_ASN, "peerASN": wish.asn, "peerAddress": wish.address}
        if wish.password:
            spec["password"] = wish.password
        hold = dice.choice(_HOLD_TIMES)
        if hold is not None:
            spec["holdTime"] = hold
        if dice.random() < 0.4:
            spec["bfdProfile"] = "watchful"
        if dice.random() < 0.4:
            spec["enableGracefulRestart"] = True
        if dice.random() < 0.3:
            spec["dualStackAddressFamily"] = True
        if dice.random() < 0.15:
            spec["connectTime"] = f"{dice.randint(1, 5)}s"
        if dice.random() < 0.2:
            spec["nodeSelectors"] = [_in_zones(dice.sample("abc", 2))]
        self._put_system("bgppeers", wish.name, spec)

    def _change_peer(self) -> None:
        """Another session with the same router, or one that cannot come up."""
        wish = self._dice.choice(list(self._wanted.values()))
        if self._server.get("bgppeers", f"{SYSTEM}/{wish.name}") is None:
            return
        self._put_peer(wish)
        mishap = self._dice.random()
        spec = dict((self._server.get("bgppeers", f"{SYSTEM}/{wish.name}") or {})["spec"])
        if mishap < 0.15:
            self._put_system("bgppeers", wish.name, {**spec, "password": "not this one"})
        elif mishap < 0.3:
            self._put_system("bgppeers", wish.name, {**spec, "peerASN": 64999})

    def _toggle_peer(self) -> None:
        wish = self._dice.choice(list(self._wanted.values()))
        if self._server.get("bgppeers", f"{SYSTEM}/{wish.name}") is None:
            self._put_peer(wish)
        else:
            self._server.delete("bgppeers", f"{SYSTEM}/{wish.name}")

    def _change_profile(self) -> None:
        interval = self._dice.choice((100, 300, 500))
        spec = {"receiveInterval": interval, "transmitInterval": interval, "detectMultiplier": self._dice.randint(2, 5)}
        self._put_system("bfdprofiles", "watchful", spec)

    # Advertisements

    def _change_bgp_advert(self) -> None:
        name = self._dice.choice(_ADVERTS)
        if self._dice.random() < 0.3 and self._server.get("bgpadvertisements", f"{SYSTEM}/{name}") is not None:
            self._server.delete("bgpadvertisements", f"{SYSTEM}/{name}")
        else:
            self._put_system("bgpadvertisements", name, self._advert(name, plain=False))

    def _advert(self, name: str, *, plain: bool) -> Document:
        dice = self._dice
        lengths = _LENGTHS.get(name, (32, 128))
        spec: Document = {"aggregationLength": lengths[0], "aggregationLengthV6": lengths[1]}
        spec["localPref"] = self._preferences[lengths]
        spec["communities"] = dice.sample(_COMMUNITIES, dice.randint(0, 2))
        if plain:
            return spec
        if dice.random() < 0.2:
            spec["ipAddressPools"] = dice.sample(("amber", "birch", "cedar", "delta", "nowhere"), 3)
        if dice.random() < 0.15:
            spec["ipAddressPoolSelectors"] = [{"matchLabels": {"layer": dice.choice(("front", "back"))}}]
        if dice.random() < 0.3:
            spec["nodeSelectors"] = [_in_zones(dice.sample("abc", 2))]
        if dice.random() < 0.15 and name not in _LENGTHS:
            spec["serviceSelectors"] = [{"matchLabels": {"tier": "gold"}}]
        if dice.random() < 0.25:
            spec["peers"] = dice.sample(sorted(self._wanted), dice.randint(1, len(self._wanted)))
        return spec

    # Nodes and Services

    def _drain_or_return(self) -> None:
        node = self._any("nodes")
        if node is None:
            return
        metadata = node["metadata"]
        drained = _DRAIN in metadata.get("annotations", {})
        self._counts["nodes returned" if drained else "nodes drained"] += 1
        annotations = {} if drained else {_DRAIN: "true"}
        identity = {"name": metadata["name"], "labels": metadata["labels"], "annotations": annotations}
        self._server.put("nodes", identity, status=node["status"])

    def _put_node(self, name: str) -> None:
        """A node that gets other labels stays drained; one that is created anew is not."""
        before = self._server.get("nodes", name)
        super()._put_node(name)
        after = self._server.get("nodes", name)
        marks = before["metadata"].get("annotations", {}) if before is not None else {}
        if marks and after is not None:
            identity = {"name": name, "labels": after["metadata"]["labels"], "annotations": marks}
            self._server.put("nodes", identity, status=after["status"])

    def _wishes(self) -> tuple[Document, Document]:
        metadata, spec = super()._wishes()
        if self._dice.random() < 0.15:
            few = str(self._dice.randint(1, 2))
            metadata["annotations"] = {**metadata["annotations"], "lbcore.io/announcing-nodes": few}
        return metadata, spec


def _in_zones(zones: list[str]) -> Document:
    return {"matchExpressions": [{"key": "zone", "operator": "In", "values": zones}]}

"""OpenELB's BgpConf and BgpPeer -> BGPPeers: who the routers are. See `openelb` for the rest."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from lbcore.adapters.kubernetes.bgp import MOST_ASN
from lbcore.adapters.kubernetes.conversion import object_name
from lbcore.adapters.kubernetes.fields import Fields
from lbcore.adapters.kubernetes.manifests import Manifest, manifest
from lbcore.errors import Problem
from lbcore.resources import Origin

__all__ = ["Conf", "peer_manifests", "read_conf"]

RACK = "openelb.kubesphere.io/rack"

# What has no counterpart, and why. In BgpConf:
_CONF = {
    "routerId": "one identifier for all nodes is an error in BGP; each node uses its own address now",
    "listenPort": "nobody listens for routers: the nodes call them",
    "listenAddresses": "nobody listens for routers: the nodes call them",
    "families": "families follow from the pools; dualStackAddressFamily lets a session carry both",
    "useMultiplePaths": "nothing is learnt from routers",
    "policy": "policies are not converted; see communities and localPref of BGPAdvertisement",
}
# In BgpPeer, by block:
_PEER = {
    "conf": {
        "description": "a peer has none; put it into an annotation",
        "peerGroup": "there are no groups; the fields stand in each peer",
        "peerType": "follows from the AS numbers",
        "removePrivateAs": "nothing is passed on",
        "routeFlapDamping": "nothing is learnt from routers",
        "sendCommunity": "communities are always sent",
        "allowOwnAs": "nothing is learnt from routers",
        "replacePeerAs": "nothing is passed on",
    },
    "timers.config": {"minimumAdvertisementInterval": "changes are told at once"},
    "transport": {
        "remoteAddress": "conf.neighborAddress is used",
        "passiveMode": "nobody listens for routers: the nodes call them",
        "tcpMss": "the kernel finds it out",
        "mtuDiscovery": "the kernel's setting counts",
    },
    "ebgpMultihop": {"multihopTtl": "cannot be set"},
}


@frozen
class Conf:
    """What the BgpConf named `default` says for all peers."""

    asn: int = 0
    racks: dict[str, int] = field(factory=dict)
    graceful_restart: bool = False


def read_conf(document: Fields, origin: Origin, notes: list[Problem]) -> Conf | None:
    """What a BgpConf says; None for one that OpenELB itself does not look at."""
    spec = document.child("spec")
    if origin.name != "default":
        notes.append(origin.problem("metadata.name", "only the BgpConf `default` has an effect; this one is left out"))
        return None
    for name, why in _CONF.items():
        if spec.has(name):
            notes.append(origin.problem(f"spec.{name}", why))
    racks = spec.child("asPerRack")
    restart = spec.child("gracefulRestart")
    if more := sorted(set(restart) - {"enabled"}):
        notes.append(
            origin.problem("spec.gracefulRestart", f"only whether it is enabled is kept, not {', '.join(more)}")
        )
    return Conf(
        asn=spec.integer("as", default=0, lowest=0, highest=MOST_ASN),
        racks={rack: racks.integer(rack, default=1, lowest=1, highest=MOST_ASN) for rack in sorted(racks)},
        graceful_restart=restart.flag("enabled", default=False),
    )


def peer_manifests(
    document: Fields, origin: Origin, conf: Conf, namespace: str, notes: list[Problem]
) -> Iterator[Manifest]:
    """A BGPPeer, or one for each rack; and the Secret with its password, where it has one."""
    spec = document.child("spec")
    theirs = spec.child("conf")
    _note_lost(spec, origin, notes)
    if theirs.flag("adminDown", default=False):
        notes.append(origin.problem("spec.conf.adminDown", "the peer is switched off, and left out"))
        return
    made: Manifest = {"peerASN": theirs.integer("peerAs", default=0, lowest=1, highest=MOST_ASN)}
    if not theirs.has("peerAs"):
        theirs.fault("peerAs", "is missing; write the AS number of the router")
    address, interface = theirs.text("neighborAddress"), theirs.text("neighborInterface")
    if not address and not interface:
        theirs.fault("neighborAddress", "is missing; write the address of the router")
    made |= {"peerAddress": address} if address else {"interface": interface}
    made |= {"vrf": vrf} if (vrf := theirs.text("vrf")) else {}
    made |= _times(spec.child("timers").child("config"))
    if spec.child("transport").has("remotePort"):
        made["peerPort"] = spec.child("transport").integer("remotePort", default=179, lowest=1, highest=16384)
    made |= {"ebgpMultiHop": True} if spec.child("ebgpMultihop").flag("enabled", default=False) else {}
    if conf.graceful_restart or spec.child("gracefulRestart").flag("enabled", default=False):
        made["enableGracefulRestart"] = True
    if password := theirs.text("authPassword"):
        secret = object_name(f"{origin.name}-password")
        made["passwordSecret"] = {"name": secret}
        yield {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret, "namespace": namespace},
            "type": "kubernetes.io/basic-auth",
            "stringData": {"password": password},
        }
    own = theirs.integer("localAs", default=0, lowest=0, highest=MOST_ASN)
    selector = spec.raw("nodeSelector")
    chosen = dict(selector) if isinstance(selector, dict) else {}
    if not conf.racks:
        if not own and not conf.asn:
            theirs.fault("localAs", "is missing, and there is no BgpConf `default` with `as`; write our AS number")
        made["myASN"] = own or conf.asn
        made |= {"nodeSelectors": [chosen]} if chosen else {}
        yield manifest("BGPPeer", origin.name, namespace, made, version="v1beta2")
        return
    for rack, asn in conf.racks.items():
        labels = chosen.get("matchLabels")
        here = {**chosen, "matchLabels": {**(labels if isinstance(labels, dict) else {}), RACK: rack}}
        name = object_name(f"{origin.name}-{rack}")
        yield manifest(
            "BGPPeer", name, namespace, made | {"myASN": own or asn, "nodeSelectors": [here]}, version="v1beta2"
        )


def _times(config: Fields) -> Manifest:
    """Their times are texts of seconds."""
    made: Manifest = {}
    for theirs, ours in (
        ("holdTime", "holdTime"),
        ("keepaliveInterval", "keepaliveTime"),
        ("connectRetry", "connectTime"),
    ):
        text = config.text(theirs)
        if text and not (text.isascii() and text.isdigit() and int(text[:9]) <= 65535):
            config.fault(theirs, f"{text[:40]!r} is no number of seconds up to 65535")
        elif text:
            made[ours] = f"{int(text)}s"
    return made


def _note_lost(spec: Fields, origin: Origin, notes: list[Problem]) -> None:
    for block, lost in _PEER.items():
        fields = spec
        for step in block.split("."):
            fields = fields.child(step)
        for name, why in lost.items():
            if fields.has(name):
                notes.append(origin.problem(f"spec.{block}.{name}", why))
    if more := sorted(set(spec.child("gracefulRestart")) - {"enabled"}):
        notes.append(
            origin.problem("spec.gracefulRestart", f"only whether it is enabled is kept, not {', '.join(more)}")
        )
    for family in spec.children("afiSafis"):
        text = "which families a session carries follows from its address; dualStackAddressFamily lets it carry both"
        notes.append(origin.problem(family.path, text))

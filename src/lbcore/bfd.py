"""BFD as values: whom a node watches and how, and what it sees (RFC 5880, 5881 for one hop, 5883 for several).

A `Watch` is made of a BGPPeer and its BFDProfile; the session that it asks for lives in the reflex process,
where nothing keeps its packets waiting.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from lbcore.addresses import Address
from lbcore.bgp import BFDProfile, BGPPeer, DynamicASN

__all__ = ["BfdDiagnostic", "BfdState", "Watch", "WatchStatus", "watch_of"]

# FRR's, which MetalLB's users have where a profile leaves them out.
_INTERVAL = 300  # ms
_MULTIPLIER = 3
_MINIMUM_TTL = 254


class BfdState(Enum):
    """The state of a session (RFC 5880 section 4.1); the value is the one on the wire."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3

    @property
    def word(self) -> str:
        """As routers print it."""
        return ("AdminDown", "Down", "Init", "Up")[self.value]


class BfdDiagnostic(Enum):
    """Why a session last left Up (RFC 5880 section 4.1); the value is the one on the wire."""

    NONE = 0
    DETECTION_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_DOWN = 3
    FORWARDING_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8

    @property
    def text(self) -> str:
        """In words, without an end; '' for none."""
        return {
            BfdDiagnostic.NONE: "",
            BfdDiagnostic.DETECTION_EXPIRED: "nothing was heard for the detection time",
            BfdDiagnostic.NEIGHBOR_DOWN: "the peer says that it hears nothing of us",
            BfdDiagnostic.ADMINISTRATIVELY_DOWN: "switched off",
        }.get(self, self.name.lower().replace("_", " "))


_SINGLE_HOP_TTL = 255  # RFC 5881 section 5: what has passed a router has less


@frozen(kw_only=True)
class Watch:
    """A BFD session that is wanted with a BGPPeer, by name.

    `address` None is the neighbor on the link `interface`, known when it is heard. `interface` may be empty where
    the address says enough. `source` None is what the kernel takes. `multihop` None is whichever of the two the
    peer takes. Intervals in milliseconds, as in the BFDProfile; `minimum_ttl` counts over several hops alone
    (RFC 5883 section 5), where one hop has 255.
    """

    peer: str
    address: Address | None = None
    interface: str = ""
    source: Address | None = None
    multihop: bool | None = False
    transmit_interval: int = _INTERVAL
    receive_interval: int = _INTERVAL
    detect_multiplier: int = _MULTIPLIER
    minimum_ttl: int = _MINIMUM_TTL
    passive: bool = False

    def least_ttl(self, *, multihop: bool) -> int:
        """The TTL that a packet of the peer must have left, to be heard on the port for one hop or several."""
        return self.minimum_ttl if multihop else _SINGLE_HOP_TTL


@frozen(kw_only=True)
class WatchStatus:
    """What a node sees of a peer by BFD. `remote` is what the peer says of itself, `detection` the milliseconds
    of silence after which it is down; counters are since the session was asked for.

    `failed`: the session was Up and the path to the peer is lost; not so for a peer that switched BFD off
    (RFC 5882 section 4.2), nor for one that has never been Up. `refused_ttl`: packets of the peer come, with this
    TTL, which is too small for them to be heard; 0 for none since it was Up.
    """

    state: BfdState
    diagnostic: BfdDiagnostic = BfdDiagnostic.NONE
    remote: BfdState = BfdState.DOWN
    failed: bool = False
    refused_ttl: int = 0
    detection: int = 0
    ups: int = 0
    downs: int = 0
    received: int = 0
    sent: int = 0


def watch_of(peer: BGPPeer, profile: BFDProfile) -> Watch:
    """The session that watches a peer.

    Over several hops with ebgpMultiHop. In iBGP, which may go over several as well, routers differ in what they
    take a neighbor of their own network for; there it is for the router to choose.
    """
    internal = peer.dynamic_asn is DynamicASN.INTERNAL or peer.peer_asn == (peer.local_asn or peer.my_asn)
    return Watch(
        peer=peer.name,
        address=peer.address,
        interface=peer.interface or peer.vrf,
        source=peer.source_address,
        multihop=None if internal and peer.address is not None else peer.ebgp_multihop,
        transmit_interval=_or(profile.transmit_interval, _INTERVAL),
        receive_interval=_or(profile.receive_interval, _INTERVAL),
        detect_multiplier=_or(profile.detect_multiplier, _MULTIPLIER),
        minimum_ttl=_or(profile.minimum_ttl, _MINIMUM_TTL),
        passive=profile.passive_mode,
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value

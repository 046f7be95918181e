"""Sessions that BFD watches, for end-to-end tests: what is written for them, and what the nodes say of them.

The hold time is 90 s unless told otherwise: what happens sooner is BFD's doing.
"""

from __future__ import annotations

from typing import Any

from fleet import Fleet, deployment, manifest, pool, wait_for
from lbcore.lab import Lab

__all__ = ["ADVERT", "BASE", "BIRD_BFD", "DUAL", "V4", "V6", "nodes", "peer", "profile", "sessions", "wait_until_up"]

BIRD_BFD = 'protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; multihop { interval 100 ms; }; }'
V4, V6 = "203.0.113.0/24", "2001:db8:77::/112"
ADVERT = manifest("metallb.io/v1beta1", "BGPAdvertisement", "bgp", "metallb-system", {})
BASE = pool("public", V4, V6) + deployment() + ADVERT
DUAL: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}


def profile(**spec: Any) -> str:
    """The BFDProfile `fast`: three packets of 100 ms."""
    fields = {"receiveInterval": 100, "transmitInterval": 100, "detectMultiplier": 3, **spec}
    return manifest("metallb.io/v1beta1", "BFDProfile", "fast", "metallb-system", fields)


def peer(name: str, address: object, **spec: Any) -> str:
    """A BGPPeer in AS 64512 with that profile."""
    fields = {"myASN": 64513, "peerASN": 64512, "peerAddress": str(address), "connectTime": "1s", "holdTime": "90s"}
    fields |= {"bfdProfile": "fast", **spec}
    return manifest("metallb.io/v1beta2", "BGPPeer", name, "metallb-system", fields)


def nodes(lab: Lab, *versions: int) -> dict[str, int]:
    """The addresses of a lab's nodes, each with their AS."""
    return {str(each.address(version)): 64513 for version in versions or (4, 6) for each in lab.nodes.values()}


def sessions(fleet: Fleet) -> list[dict[str, Any]]:
    """What `lbcore get peers` says."""
    found: list[dict[str, Any]] = fleet.json("get", "peers")["peers"]
    return found


def wait_until_up(fleet: Fleet, count: int) -> None:
    """Until so many sessions are established and watched, and there is no other."""

    def up() -> bool:
        found = sessions(fleet)
        return len(found) == count and all((each["state"], each["bfd"]) == ("Established", "Up") for each in found)

    wait_for(up, f"{count} sessions watched by BFD", 60)

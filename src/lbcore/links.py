"""On which network interfaces may this node answer? The rules of MetalLB's speaker, and a carrier.

An interface is passed over when it is down, without a cable, owned by a bridge or bond (which
speaks for it), or excluded by name. Whether it can carry ARP (a broadcast link with ARP on) or
NDP (a link-local address) decides the family it is good for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from lbcore.model import Link

__all__ = ["DEFAULT_EXCLUSIONS", "Exclusions", "refusal_of_link", "usable_links"]

DEFAULT_EXCLUSIONS = (
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
)
"""Names of virtual interfaces that lead to this node's own containers, not to a segment."""


@frozen
class Exclusions:
    """Interface names never to answer on: regular expressions, any of which excludes."""

    patterns: tuple[str, ...] = DEFAULT_EXCLUSIONS

    def matching(self, name: str) -> str | None:
        """The first pattern that excludes a name, or None."""
        return next((pattern for pattern in self.patterns if re.search(pattern, name)), None)


def refusal_of_link(link: Link, exclusions: Exclusions) -> str | None:
    """Why a link is not answered on, or None if it is."""
    pattern = exclusions.matching(link.name)
    if pattern is not None:
        return f"its name is excluded by {pattern}"
    if link.loopback:
        return "it is a loopback"
    if link.enslaved:
        return "a bridge, bond or VRF owns it"
    if not link.up:
        return "it is down"
    if not link.carrier:
        return "it has no carrier"
    if not (link.broadcast and link.arp) and link.link_local is None:
        return "it can carry neither ARP nor NDP"
    return None


def usable_links(links: Iterable[Link], exclusions: Exclusions) -> tuple[Link, ...]:
    """The links to answer on, sorted by index."""
    usable = (link for link in links if refusal_of_link(link, exclusions) is None)
    return tuple(sorted(usable, key=lambda link: link.index))

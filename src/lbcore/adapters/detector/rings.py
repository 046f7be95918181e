"""Who listens to whom: the same on every node that knows the same members, and as many whatever their number.

Every node has two neighbours on each of two rings, in which the members stand by two halves of one hash of
their names. Two such rings make an expander: no part of the cluster is joined to the rest by a few nodes only, so
that what is said to neighbours and passed on by them is everywhere within a few steps (Rapid, ATC 2018, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

__all__ = ["MOST", "neighbours"]

_RINGS = 2
MOST = 2 * _RINGS  # neighbours of one node


@lru_cache(maxsize=1 << 14)
def _places(name: str) -> tuple[bytes, ...]:
    digest = sha256(name.encode()).digest()
    return digest[:16], digest[16:]


def neighbours(name: str, members: Iterable[str]) -> frozenset[str]:
    """Those of the members that listen to a node, and that it listens to; up to five members all do. O(n)."""
    others = [each for each in members if each != name]
    if len(others) <= MOST:
        return frozenset(others)
    own = _places(name)
    chosen = set()
    for ring in range(_RINGS):
        here = own[ring]
        places = {_places(each)[ring]: each for each in others}
        after = [place for place in places if place > here]
        before = [place for place in places if place < here]
        chosen.add(places[min(after or places)])
        chosen.add(places[max(before or places)])
    return frozenset(chosen)

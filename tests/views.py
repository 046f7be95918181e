"""Strategies for what members that gossip see of each other."""

from __future__ import annotations

from hypothesis import strategies as st

from lbcore.adapters.views import Sight, SightState, View

__all__ = ["sights", "some_views"]

_texts = st.text(max_size=8)

# Times as they are told: in thousandths of a second.
sights = st.builds(
    Sight,
    name=_texts,
    state=st.sampled_from(SightState),
    since=st.integers(0, 4 * 10**12).map(lambda each: round(each / 1000, 3)),
    by=st.lists(_texts, max_size=3).map(tuple),
    release=_texts,
)
some_views = st.builds(
    View,
    node=_texts,
    fast=st.booleans(),
    why=_texts,
    cut_off=st.booleans(),
    sights=st.lists(sights, max_size=3).map(tuple),
)

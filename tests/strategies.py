"""Hypothesis strategies for the vocabulary, shared by all tests: those of `lbcore.testing`, and what only we need."""

from __future__ import annotations

from hypothesis import strategies as st

from lbcore import testing
from lbcore.config import Pool
from lbcore.model import Service, ServiceKey
from lbcore.sharing import Sharing
from lbcore.testing import AWKWARD_PLACES, addresses, awkward_values, clumped_ranges, families, pools, ranges, versions

__all__ = [
    "AWKWARD_PLACES",
    "BITS",
    "addresses",
    "awkward_values",
    "clumped_ranges",
    "families",
    "keys",
    "label_selectors",
    "labels",
    "pools",
    "ports",
    "ranges",
    "requirements",
    "services",
    "sharings",
    "versions",
]

BITS = {4: 32, 6: 128}

keys = testing.service_keys()
ports = testing.ports()
labels = testing.labels()
requirements = testing.label_requirements()
label_selectors = testing.label_selectors()
sharings = st.sampled_from([None, *(Sharing(key, backend) for key in "kl" for backend in ("", "app=web"))])

SOME_POOLS: tuple[Pool | str, ...] = ("pool-a", "pool-b", "no-such")


def services(key: ServiceKey | None = None) -> st.SearchStrategy[Service]:
    """A Service that could exist, and may ask for a pool that may not."""
    return testing.services(keys=st.just(key) if key is not None else None, pools=SOME_POOLS)

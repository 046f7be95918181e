"""L2Advertisement (metallb.io/v1beta1) -> `L2Advertisement`, with everything that is wrong with it."""

from __future__ import annotations

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.adapters.kubernetes.selectors import read_selector, read_selectors
from lbcore.config import L2Advertisement, Origin, PreferredNodes

__all__ = ["read_l2_advertisement"]


def read_l2_advertisement(document: Fields, origin: Origin) -> L2Advertisement:
    """The advertisement in a document; `spec` may be empty: every pool, node and interface."""
    spec = document.child("spec")
    spec.only(
        "ipAddressPools",
        "ipAddressPoolSelectors",
        "nodeSelectors",
        "serviceSelectors",
        "interfaces",
        "preferredNodeSelectors",
    )
    return L2Advertisement(
        name=origin.name,
        pools=spec.unique_texts("ipAddressPools"),
        pool_selectors=read_selectors(spec, "ipAddressPoolSelectors"),
        node_selectors=read_selectors(spec, "nodeSelectors"),
        service_selectors=read_selectors(spec, "serviceSelectors"),
        # An interface given twice is harmless, and MetalLB takes it.
        interfaces=tuple(dict.fromkeys(text for _, text in spec.texts("interfaces"))),
        preferred_nodes=tuple(_preferred(each) for each in spec.children("preferredNodeSelectors")),
        origin=origin,
    )


def _preferred(each: Fields) -> PreferredNodes:
    each.only("weight", "preference")
    if not each.has("weight"):
        each.fault("weight", "is missing; write a number from 1 to 100, the highest sum wins")
    if not each.has("preference"):
        each.fault("preference", "is missing; write a label selector for the nodes preferred")
    weight = each.integer("weight", default=1, lowest=1, highest=100)
    return PreferredNodes(weight=weight, preference=read_selector(each.child("preference")))

"""Can a Service take traffic, and on which nodes? What EndpointSlices say, added up."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from lbcore.model import EndpointSlice

__all__ = ["Reach", "reach_of"]


@frozen
class Reach:
    """Where a Service's usable endpoints are. `anywhere` counts endpoints that name no node too.

    `too_new` are the nodes among them that have had any for too short a time to be told to routers.
    """

    anywhere: bool = False
    nodes: frozenset[str] = frozenset()
    too_new: frozenset[str] = frozenset()


def reach_of(slices: Iterable[EndpointSlice]) -> Reach:
    """All slices of one Service, of both families, added up; see `Endpoint.usable`."""
    usable = [endpoint for each in slices for endpoint in each.endpoints if endpoint.usable and endpoint.addresses]
    return Reach(bool(usable), frozenset(endpoint.node for endpoint in usable if endpoint.node is not None))

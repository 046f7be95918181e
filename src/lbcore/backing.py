"""What stands behind each upstream now? Services, their EndpointSlices, and the targets that hosts have.

A change of endpoints renews the upstreams of its Service and nothing else, however many hosts share them.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.ingress import ObjectKey
from lbcore.model import EndpointSlice, Service, SliceKey
from lbcore.proxy import Upstream
from lbcore.upstreams import Target, served

__all__ = ["Backing"]

_NOTHING: Map[str, None] = Map()
_NO_SLICES: Map[SliceKey, EndpointSlice] = Map()


@frozen(kw_only=True)
class Backing:
    """`upstreams` are the targets in use, by id, each with the peers of this moment.

    `uses` counts who uses a target. `no_external_name`: a Service of that type counts as none.
    """

    no_external_name: bool = False
    services: Map[ObjectKey, Service] = field(factory=Map)
    slices_of: Map[ObjectKey, Map[SliceKey, EndpointSlice]] = field(factory=Map)  # by their Service
    owners: Map[SliceKey, ObjectKey] = field(factory=Map)
    targets: Map[str, Target] = field(factory=Map)
    uses: Map[str, int] = field(factory=Map)
    of_service: Map[ObjectKey, Map[str, None]] = field(factory=Map)
    upstreams: Map[str, Upstream] = field(factory=Map)

    def service(self, key: ObjectKey) -> Service | None:
        """A Service, where it is there and may be used."""
        found = self.services.get(key)
        return None if found is not None and found.type == "ExternalName" and self.no_external_name else found

    def slices(self, key: ObjectKey) -> Iterable[EndpointSlice]:
        """The slices of a Service, in no order that means anything."""
        return self.slices_of.get(key, _NO_SLICES).values()

    def same(self, other: Backing, key: ObjectKey) -> bool:
        """Whether nothing of a Service is other than it is there."""
        return self.services.get(key) is other.services.get(key) and self.slices_of.get(key) is other.slices_of.get(key)

    def served(self, target: Target) -> Upstream:
        """A target with the peers that it has now."""
        return served(target, self.service(target.service), self.slices(target.service))

    def with_service(self, service: Service) -> Backing:
        """After a Service was seen."""
        return evolve(self, services=self.services.set(service.key, service))._renewed(service.key)

    def without_service(self, key: ObjectKey) -> Backing:
        """After a Service is gone."""
        if key not in self.services:
            return self
        return evolve(self, services=self.services.delete(key))._renewed(key)

    def with_slice(self, found: EndpointSlice) -> Backing:
        """After a slice was seen; its Service may be another than before."""
        owner, before = found.service_key, self.owners.get(found.key)
        rest = self if before is None or before == owner else self.without_slice(found.key)
        of_owner = rest.slices_of.get(owner, Map()).set(found.key, found)
        owners = rest.owners.set(found.key, owner)
        return evolve(rest, slices_of=rest.slices_of.set(owner, of_owner), owners=owners)._renewed(owner)

    def without_slice(self, key: SliceKey) -> Backing:
        """After a slice is gone."""
        owner = self.owners.get(key)
        if owner is None:
            return self
        left = self.slices_of[owner].delete(key)
        slices = self.slices_of.set(owner, left) if left else self.slices_of.delete(owner)
        return evolve(self, slices_of=slices, owners=self.owners.delete(key))._renewed(owner)

    def exchanged(self, old: Iterable[Target], new: Iterable[Target]) -> Backing:
        """After one user has other targets than before."""
        uses, targets, upstreams, of_service = self.uses, self.targets, self.upstreams, self.of_service
        for each in new:
            uses = uses.set(each.id, uses.get(each.id, 0) + 1)
            if targets.get(each.id) != each:  # new to all, or of other options than before
                targets, upstreams = targets.set(each.id, each), upstreams.set(each.id, self.served(each))
                its = of_service.get(each.service, _NOTHING).set(each.id, None)
                of_service = of_service.set(each.service, its)
        for each in old:
            if uses[each.id] > 1:
                uses = uses.set(each.id, uses[each.id] - 1)
                continue
            uses, targets, upstreams = uses.delete(each.id), targets.delete(each.id), upstreams.delete(each.id)
            left = of_service[each.service].delete(each.id)
            of_service = of_service.set(each.service, left) if left else of_service.delete(each.service)
        return evolve(self, uses=uses, targets=targets, upstreams=upstreams, of_service=of_service)

    def _renewed(self, key: ObjectKey) -> Backing:
        """With the peers that the targets of a Service have now; an upstream that has the same is the same object."""
        upstreams = self.upstreams
        for name in self.of_service.get(key, _NOTHING):
            fresh = self.served(self.targets[name])
            if fresh != upstreams[name]:
                upstreams = upstreams.set(name, fresh)
        return self if upstreams is self.upstreams else evolve(self, upstreams=upstreams)

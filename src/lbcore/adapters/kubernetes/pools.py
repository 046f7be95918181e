"""IPAddressPool (metallb.io/v1beta1) -> `Pool`, with everything that is wrong with it.

Overlaps and names given twice show only when all pools are together: see `lbcore.config.build`.
"""

from __future__ import annotations

from lbcore.adapters.kubernetes.durations import SECOND
from lbcore.adapters.kubernetes.fields import Fields
from lbcore.adapters.kubernetes.selectors import read_selectors
from lbcore.addresses import AddressRange
from lbcore.config import Origin, Pool, ServiceAllocation
from lbcore.errors import AddressError

__all__ = ["read_pool", "read_ranges"]

PREFIX = "lbcore.io/"
KEEP_FOR = "lbcore.io/keep-for"  # how long an address stays reserved for a Service that was deleted: 10m

_INT32 = 2**31


def read_pool(document: Fields, origin: Origin) -> Pool:
    """The pool in a document; unknown fields of `spec` are problems, for a typo would go unseen."""
    if not document.has("spec"):
        document.fault("spec", "is missing; a pool needs spec.addresses")
        return Pool(name=origin.name, ranges=())
    spec = document.child("spec")
    spec.only("addresses", "autoAssign", "avoidBuggyIPs", "serviceAllocation")
    return Pool(
        name=origin.name,
        ranges=read_ranges(spec, "addresses"),
        auto_assign=spec.flag("autoAssign", default=True),
        avoid_buggy_ips=spec.flag("avoidBuggyIPs", default=False),
        labels=document.child("metadata").labels("labels"),
        allocation=_allocation(spec),
        keep_for=_keep_for(document.child("metadata").child("annotations")),
        origin=origin,
    )


def _keep_for(annotations: Fields) -> float:
    """The annotation `lbcore.io/keep-for` in seconds; MetalLB's CRD has no field for it."""
    own = [name for name in annotations if name.startswith(PREFIX)]
    for name in own:
        if name != KEEP_FOR:
            annotations.fault(name, f"is not an annotation that lbcore knows on a pool; known: {KEEP_FOR}")
    return (annotations.duration(KEEP_FOR) or 0) / SECOND


def read_ranges(parent: Fields, key: str) -> tuple[AddressRange, ...]:
    """A list of CIDRs and `a-b` ranges, at least one."""
    if parent.raw(key) in (None, []):
        parent.fault(key, "is empty; give at least one CIDR (192.0.2.0/24) or range (192.0.2.1-192.0.2.9)")
    found = []
    for path, text in parent.texts(key):
        try:
            found.append(AddressRange.parse(text))
        except AddressError as error:
            parent.fault_at(path, str(error))
    return tuple(found)


def _allocation(spec: Fields) -> ServiceAllocation | None:
    if not spec.has("serviceAllocation"):
        return None
    given = spec.child("serviceAllocation")
    given.only("priority", "namespaces", "namespaceSelectors", "serviceSelectors")
    return ServiceAllocation(
        priority=given.integer("priority", default=0, lowest=-_INT32, highest=_INT32 - 1),
        namespaces=given.unique_texts("namespaces"),
        namespace_selectors=read_selectors(given, "namespaceSelectors"),
        service_selectors=read_selectors(given, "serviceSelectors"),
    )

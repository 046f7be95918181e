"""May these Services share one address? MetalLB's rule: same key, same backends, no port twice."""

from __future__ import annotations

from attrs import frozen

from lbcore.model import Service, TrafficPolicy

__all__ = ["Sharing", "sharing_of"]


@frozen
class Sharing:
    """On which terms a Service shares its address.

    `key` is the annotation `metallb.io/allow-shared-ip`. `backend` keeps apart Services whose
    traffic may not mix on one address: with `externalTrafficPolicy: Local` a node takes an
    address's traffic only for its own Pods, so all sharers must select the same Pods.
    """

    key: str
    backend: str = ""


def sharing_of(service: Service, key: str) -> Sharing | None:
    """The terms of a Service with that sharing key; None for an empty key: it does not share."""
    if not key:
        return None
    if service.external_traffic_policy is TrafficPolicy.CLUSTER:
        return Sharing(key)
    return Sharing(key, ",".join(f"{name}={value}" for name, value in sorted(service.selector.items())))

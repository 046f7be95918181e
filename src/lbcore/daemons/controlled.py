"""Whose figures: what stands in every series of an Ingress controller, by ingress-nginx's names."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Controlled"]


@frozen(kw_only=True)
class Controlled:
    """Whose figures: what stands in each series. `election` is the Lease's name; empty where there is none."""

    namespace: str = ""
    pod: str = ""
    controller_class: str = ""
    election: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """As ingress-nginx labels every series."""
        return {
            "controller_namespace": self.namespace,
            "controller_class": self.controller_class,
            "controller_pod": self.pod,
        }

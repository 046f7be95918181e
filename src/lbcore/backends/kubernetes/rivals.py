"""Other controllers that give addresses to the same Services: MetalLB's own, and the ServiceLB of k3s.

Two that both write one status would take turns for ever. They are known by the labels of their Pods.
"""

from __future__ import annotations

import re
from typing import Any

from lbcore.backends.kubernetes.client import Client

__all__ = ["RivalSearch"]

# MetalLB's manifests, its chart, and what k3s calls the Pods that it starts for each Service that it serves.
_METALLB = ("app=metallb,component=controller", "app.kubernetes.io/name=metallb,app.kubernetes.io/component=controller")
_SERVICE_LB = "svccontroller.k3s.cattle.io/svcname"
_CLASS = re.compile(r"--?lb-class[= ](\S+)")
_OVER = ("Succeeded", "Failed")


class RivalSearch:
    """Looks for Pods of other controllers that serve `load_balancer_class` (None: Services without a class)."""

    def __init__(self, client: Client, load_balancer_class: str | None) -> None:
        self._client = client
        self._class = load_balancer_class
        self._known: str | None = None

    async def __call__(self) -> str | None:
        """Who it is, with what to do about it; None where there is nobody. Unanswered, it is as it was."""
        for selector in _METALLB:
            pods = await self._pods(selector)
            if pods is None:
                return self._known
            for pod in pods:
                if _lives(pod) and _class_of(pod) == self._class:
                    return self._found(f"MetalLB's controller runs as {_name(pod)}; scale its Deployment to 0")
        if self._class is None:
            pods = await self._pods(_SERVICE_LB)
            for pod in pods or ():
                if _lives(pod):
                    return self._found(f"k3s ServiceLB runs {_name(pod)}; start k3s with --disable=servicelb")
        return self._found(None)

    def _found(self, what: str | None) -> str | None:
        self._known = what
        return what

    async def _pods(self, selector: str) -> list[dict[str, Any]] | None:
        answer = await self._client.request(
            "GET", "/api/v1/pods", query=(("labelSelector", selector), ("limit", "20"), ("resourceVersion", "0"))
        )
        if answer.status == 403:
            return []  # who may not look must not be kept from working
        if answer.setback is not None:
            return None
        items = answer.document().get("items")
        return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


def _lives(pod: dict[str, Any]) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase not in _OVER and not (pod.get("metadata") or {}).get("deletionTimestamp")


def _name(pod: dict[str, Any]) -> str:
    metadata = pod.get("metadata") or {}
    return f"Pod {metadata.get('namespace')}/{metadata.get('name')}"


def _class_of(pod: dict[str, Any]) -> str | None:
    """The class that a MetalLB controller was told to serve."""
    for container in (pod.get("spec") or {}).get("containers") or ():
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        found = _CLASS.search(" ".join(str(word) for word in words))
        if found:
            return found[1].strip("\"'") or None
    return None

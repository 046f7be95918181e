"""Pods (core/v1) that are speakers, found by their labels -> where those who gossip may be found.

MetalLB finds its speakers so (`METALLB_ML_LABELS`); it lists them at its start and every five minutes, we follow them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypedDict

from lbcore.adapters.kubernetes.api import ApiResource
from lbcore.adapters.kubernetes.watching import Gathering
from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.events import Kind, SpeakerPodsSeen

__all__ = ["SpeakerPods", "speaker_pods"]


class _Metadata(TypedDict, total=False):
    name: Any
    namespace: Any
    resourceVersion: Any


class _Status(TypedDict, total=False):
    phase: Any
    podIP: Any
    podIPs: Any


class _Pod(TypedDict, total=False):
    metadata: _Metadata
    status: _Status


def speaker_pods(labels: str) -> ApiResource:
    """The Pods of the system's namespace that a label selector (`app=metallb,component=speaker`) matches."""
    return ApiResource(
        kind=Kind.MEMBERS,
        group="",
        version="v1",
        name="Pod",
        plural="pods",
        in_namespace=True,
        selector=(("labelSelector", labels),),
        shape=_Pod,
    )


class SpeakerPods(Gathering):
    """Follows Pods, and tells the addresses (`status.podIPs`) of those that have not ended, whenever they change."""

    def _gist(self) -> SpeakerPodsSeen:
        found = {address for document in self.latest.values() for address in _addresses(document.get("status"))}
        return SpeakerPodsSeen(tuple(sorted(found)))


def _addresses(status: object) -> set[Address]:
    """What a kubelet wrote; one that is none is passed over, as with Nodes."""
    if not isinstance(status, dict) or status.get("phase") in ("Succeeded", "Failed"):
        return set()
    several = status.get("podIPs")
    texts = [each.get("ip") for each in several if isinstance(each, dict)] if isinstance(several, list) else []
    found = set()
    for text in [status.get("podIP"), *texts]:
        with suppress(AddressError):
            if isinstance(text, str):
                found.add(Address.parse(text))
    return found

"""Where the Pods of speakers are, followed at the API server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable

from lbcore.adapters.kubernetes.pods import SpeakerPods, speaker_pods
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.source import follow
from lbcore.events import Event

__all__ = ["SpeakerPodSource"]


class SpeakerPodSource:
    """Source of `SpeakerPodsSeen`. Nobody waits for it: Nodes and a list may tell as much."""

    def __init__(self, client: Client, namespace: str, labels: str, say: Callable[[str], None]) -> None:
        self._client = client
        self._namespace = namespace
        self._labels = labels
        self._say = say

    def events(self) -> AsyncIterator[Event]:
        """The addresses, whenever they change."""
        watching = SpeakerPods(speaker_pods(self._labels), rng=random.Random())
        return follow(self._client, self._namespace, watching, self._say)

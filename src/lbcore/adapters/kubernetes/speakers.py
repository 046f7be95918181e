"""What the Leases of speakers say, and who lives by them.

A speaker that knows the others by Leases renews its own every second with a record (`lbcore.adapters.heartbeat`). One
that gossips keeps a Lease as well, with what it sees of the others (`VIEW`): for people, seldom renewed, and without a
record unless somebody is there who lives by records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from attrs import frozen

from lbcore.adapters.kubernetes.api import LEASES, SPEAKER_LABEL
from lbcore.adapters.views import View, read_view, view_document

__all__ = ["RECORD", "VIEW", "SpeakerLease", "lease_document", "living", "read_lease", "views"]

RECORD = "lbcore.io/record"  # the annotation that holds the heartbeat's record
VIEW = "lbcore.io/members"  # the one that holds what a speaker that gossips sees
_SLACK = 2.0  # seconds: the times that are compared are whole ones, and a renewal is on its way for a moment


@frozen(kw_only=True)
class SpeakerLease:
    """`sees` is the text of what a speaker that gossips sees; `written` is when, by the API server's clock."""

    node: str
    record: bytes | None = None
    sees: str | None = None
    lasts: float = 0.0
    written: datetime | None = None

    @property
    def gossips(self) -> bool:
        """Whether its speaker does."""
        return self.sees is not None

    @property
    def view(self) -> View | None:
        """What it sees; None where it does not gossip, or says what we do not understand."""
        try:
            return read_view(json.loads(self.sees)) if self.sees is not None else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def lives(self, now: datetime) -> bool:
        """Whether it was renewed in time, as the API server sees it."""
        return self.written is not None and (now - self.written).total_seconds() <= self.lasts + _SLACK


def read_lease(document: dict[str, Any]) -> SpeakerLease | None:
    """The speaker's Lease in a document; None for another's."""
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    node, lasts = spec.get("holderIdentity"), spec.get("leaseDurationSeconds")
    if not isinstance(node, str) or not node or SPEAKER_LABEL not in labels:
        return None
    record, view = annotations.get(RECORD), annotations.get(VIEW)
    written = [each.get("time") for each in metadata.get("managedFields") or () if isinstance(each, dict)]
    times = [_time(each) for each in (written or [spec.get("renewTime")])]
    return SpeakerLease(
        node=node,
        record=record.encode() if isinstance(record, str) else None,
        sees=view if isinstance(view, str) else None,
        lasts=float(lasts) if isinstance(lasts, int) else 0.0,
        written=max((each for each in times if each is not None), default=None),
    )


def lease_document(
    name: str, namespace: str, node: str, *, lasts: int, renewed: str, record: bytes | None, view: View | None
) -> dict[str, Any]:
    """A speaker's Lease to be applied; without a `view` it is one of a speaker that lives by Leases."""
    annotations = {}
    if record is not None:
        annotations[RECORD] = record.decode().strip()
    if view is not None:
        annotations[VIEW] = json.dumps(view_document(view), separators=(",", ":"))
    return {
        "apiVersion": LEASES,
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {SPEAKER_LABEL: "true"},
            "annotations": annotations,
        },
        "spec": {"holderIdentity": node, "leaseDurationSeconds": lasts, "renewTime": renewed},
    }


def living(leases: Iterable[SpeakerLease], now: datetime) -> frozenset[str]:
    """The nodes whose speakers live: by their Lease, and of those that gossip, as at least half of the others see it.

    The Lease of one that gossips is good for a minute: it is the others who know sooner.
    """
    good = [each for each in leases if each.lives(now)]
    seeing = {view.node: view.members for view in views(good, now)}
    seen = {name for members in seeing.values() for name in members}
    found = {each.node for each in good if not each.gossips}
    for name in seen | {each.node for each in good}:
        others = [members for node, members in seeing.items() if node != name]
        seen_by = sum(name in members for members in others)
        if 2 * seen_by >= len(others) if others else name in seeing:
            found.add(name)
    return frozenset(found)


def views(leases: Iterable[SpeakerLease], now: datetime) -> tuple[View, ...]:
    """What living speakers see, by their names."""
    found = (each.view for each in leases if each.lives(now))
    return tuple(sorted((view for view in found if view is not None), key=lambda view: view.node))


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None

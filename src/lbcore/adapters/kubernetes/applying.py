"""What an object would look like after `kubectl apply`: the manifest laid over what the API server has.

What the manifest says counts, what it no longer says and the last `apply` did say is taken out, and everything else
stays: that is kubectl's three-way merge. Lists are taken as a whole, as for custom resources; of a Service's ports
only such are lost that somebody else added. A status is the server's, whatever a manifest says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

__all__ = ["LAST_APPLIED", "ObjectName", "applied", "name_of"]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_CLUSTER_WIDE = ("Node", "Namespace", "IngressClass")
_OURS = ("uid", "resourceVersion", "creationTimestamp")  # of the metadata: the server's to give

Document = dict[str, Any]


class ObjectName(NamedTuple):
    """One object of an API server, whatever the version it is written in."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def name_of(document: object, namespace: str = "default") -> ObjectName | None:
    """Which object a document is; `namespace` for one that names none. None where it does not say."""
    if not isinstance(document, dict):
        return None
    metadata, kind, api_version = document.get("metadata"), document.get("kind"), document.get("apiVersion")
    if not isinstance(metadata, dict) or not isinstance(kind, str) or not isinstance(api_version, str):
        return None
    name, given = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        return None
    inside = given if isinstance(given, str) and given else namespace
    return ObjectName(api_version.rpartition("/")[0], kind, "" if kind in _CLUSTER_WIDE else inside, name)


def applied(document: object, there: Callable[[ObjectName], Document | None], namespace: str = "default") -> object:
    """A document as the API server would have it after `kubectl apply -n NAMESPACE`, the items of a List likewise.

    `there` gives the object as it is now, or None. What is no object comes back as it is: its reader says what is
    wrong with it.
    """
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        items = [applied(each, there, namespace) for each in document["items"]]
        return {**document, "items": items}
    name = name_of(document, namespace)
    if name is None or not isinstance(document, dict):
        return document
    placed = _in_namespace(document, name)
    now = there(name)
    if now is None:
        return {key: value for key, value in placed.items() if key != "status"}
    if now.get("apiVersion") != document["apiVersion"]:
        return placed  # the same object in another version, whose fields may mean something else
    result: Document = _merged(_without_gone(now, placed), placed)
    kept = {key: value for key, value in now.get("metadata", {}).items() if key in _OURS}
    result["metadata"] = {**result["metadata"], **kept}
    result.pop("status", None)
    return {**result, "status": now["status"]} if "status" in now else result


def _in_namespace(document: Document, name: ObjectName) -> Document:
    if not name.namespace:
        return document
    return {**document, "metadata": {**document["metadata"], "namespace": name.namespace}}


def _without_gone(now: Document, manifest: Document) -> Document:
    """What is there, without what was applied last time and is no longer wanted."""
    annotations = now.get("metadata", {}).get("annotations")
    text = annotations.get(LAST_APPLIED) if isinstance(annotations, Mapping) else None
    if not isinstance(text, str):
        return now
    try:
        last = msgspec.json.decode(text, type=dict)
    except (msgspec.MsgspecError, UnicodeError):
        return now
    return _pruned(now, last, manifest)


def _pruned(now: Any, last: Any, manifest: Any) -> Document:
    result = {}
    for key, value in now.items():
        if key in last and key not in manifest and key not in _OURS:
            continue
        before, wanted = last.get(key), manifest.get(key)
        is_inside = isinstance(value, dict) and isinstance(before, dict) and isinstance(wanted, dict)
        result[key] = _pruned(value, before, wanted) if is_inside else value
    return result


def _merged(now: Document, manifest: Mapping[str, Any]) -> Document:
    """A JSON merge patch (RFC 7396), whose `null` takes a field out."""
    result = dict(now)
    for key, value in manifest.items():
        known = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merged(known if isinstance(known, dict) else {}, value)
        else:
            result[key] = value
    return result

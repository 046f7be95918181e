"""The mark of a drained node, on its Node object: put there and taken away by whoever may change Nodes."""

from __future__ import annotations

from typing import Any

from lbcore.adapters.kubernetes.api import object_path
from lbcore.backends.kubernetes.client import MERGE_PATCH, Answer, Client
from lbcore.errors import LbcoreError
from lbcore.model import DRAIN_ANNOTATION

__all__ = ["mark_node"]


async def mark_node(client: Client, node: str, mark: str | None) -> bool:
    """Give a Node the annotation with this text, or take it away (None); whether that was a change.

    A node that is marked already keeps the text it has. Raises `LbcoreError` with what the server says.
    """
    path = object_path("v1", "nodes", "", node)
    answer = await client.request("GET", path)
    if answer.status == 404:
        raise LbcoreError(f"there is no Node {node}; `kubectl get nodes` lists those that are")
    _require(answer, f"read Node {node}")
    there = _annotations(answer.document()).get(DRAIN_ANNOTATION)
    if (there is not None) == (mark is not None):
        return False
    patch = {"metadata": {"annotations": {DRAIN_ANNOTATION: mark}}}
    _require(await client.request("PATCH", path, body=patch, content_type=MERGE_PATCH), f"change Node {node}")
    return True


def _require(answer: Answer, what: str) -> None:
    if answer.setback is not None:
        raise LbcoreError(f"the API server did not let us {what}: {answer.setback.message}")


def _annotations(document: dict[str, Any]) -> dict[str, Any]:
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}

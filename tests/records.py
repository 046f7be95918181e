"""What a real API server wrote, write by write, from its etcd, and what the simulation's judge says of it.

etcd keeps every revision (nothing is compacted unless a test does so), whatever happened to the API server or to a
watch meanwhile, so that no history is lost with them. It must keep JSON: `FLAGS` are for `ApiServer.start`.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from attrs import frozen

from lbcore.lab.controlplane import ApiServer
from lbcore.simulation.checker import Checker, Violation

__all__ = ["FLAGS", "Written", "compact", "history", "judge", "put"]

FLAGS = ("--storage-media-type=application/json", "--etcd-compaction-interval=0")

Document = Mapping[str, Any]

_PREFIX = "/registry/"
_RESOURCES = {
    "services/specs": "services",
    "namespaces": "namespaces",
    "metallb.io/ipaddresspools": "ipaddresspools",
    "metallb.io/l2advertisements": "l2advertisements",
}
_OURS = "metallb.io/ip-allocated-from-pool"


@frozen
class Written:
    """One write: its revision, the resource and etcd's key, the object before and after; None is "there is none"."""

    revision: int
    resource: str
    key: str
    before: Document | None
    after: Document | None

    @property
    def by_controller(self) -> bool:
        """Whether it changed nothing but what a controller writes."""
        return self.before is not None and self.after is not None and _wishes(self.before) == _wishes(self.after)


def _wishes(document: Document) -> object:
    """What users write of an object."""
    metadata = document["metadata"]
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != _OURS}
    return document.get("spec"), metadata.get("labels"), annotations, metadata.get("deletionTimestamp")


def _ask(api: ApiServer, path: str, body: object) -> Any:
    request = urllib.request.Request(api.etcd_url + path, json.dumps(body).encode(), method="POST")
    return urllib.request.urlopen(request, timeout=60)


def _text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def put(api: ApiServer, key: str, document: object) -> int:
    """Write a document where the API server will find it, past everything that it checks; the revision."""
    body = {"key": _text(_PREFIX + key), "value": _text(json.dumps(document))}
    with closing(_ask(api, "/v3/kv/put", body)) as answer:
        return int(json.load(answer)["header"]["revision"])


def compact(api: ApiServer, revision: int) -> None:
    """Let etcd forget what was before a revision: to follow from there is 410 Gone then."""
    with closing(_ask(api, "/v3/kv/compaction", {"revision": revision, "physical": True})) as answer:
        answer.read()


def history(api: ApiServer, known: Sequence[Written] = ()) -> list[Written]:
    """Every write of Services, Namespaces, pools and advertisements, in order; after those that are `known`, which
    etcd may have forgotten.
    """
    end = put(api, "lbcore-end-of-history", {})
    found = list(known)
    last = {each.key: each.after for each in known}
    objects = {key: after for key, after in last.items() if after is not None}
    for event in _events(api, known[-1].revision + 1 if known else 1):
        revision = int(event["kv"]["mod_revision"])
        if revision >= end:
            break
        key = base64.b64decode(event["kv"]["key"]).decode().removeprefix(_PREFIX)
        resource = next((each for folder, each in _RESOURCES.items() if key.startswith(folder + "/")), None)
        if resource is None:
            continue
        before = objects.pop(key, None)
        after = None
        if event.get("type") != "DELETE":
            after = objects[key] = json.loads(base64.b64decode(event["kv"]["value"]))
        found.append(Written(revision, resource, key, before, after))
    return found


def _events(api: ApiServer, start: int) -> Iterator[Any]:
    wanted = {"key": _text(_PREFIX), "range_end": _text(_PREFIX[:-1] + "0"), "start_revision": start}
    with closing(_ask(api, "/v3/watch", {"create_request": wanted})) as answer:
        for line in answer:
            result = json.loads(line)["result"]
            assert not result.get("canceled"), result
            yield from result.get("events", ())


class _NoSpeakers:
    """Nobody announces anything where only controllers run."""

    unchanged_since = lossy_at = 0.0
    members: tuple[str, ...] = ()

    def healthy_since(self, node: str) -> float | None:
        return None


def judge(written: list[Written]) -> list[Violation]:
    """What the judge has against a history that ends settled. Its moments are revisions."""
    now = 0
    checker = Checker(lambda: now, lambda _: [], _NoSpeakers(), "eth0")
    for each in written:
        now = each.revision
        who = "controller" if each.by_controller else "user"
        checker.changed(each.resource, _complete(each.before), _complete(each.after), who)
    checker.settled()
    return checker.violations


def _complete(document: Document | None) -> dict[str, Any] | None:
    """An object with a spec, which an advertisement of everything lacks."""
    return None if document is None else {"spec": {}, **document}

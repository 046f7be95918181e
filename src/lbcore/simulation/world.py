"""The pretend API server: objects as JSON would give them, their versions, and a log of every change.

It does what a Kubernetes API server does for lbcore, and decides nothing: `uid`,
`creationTimestamp` and `resourceVersion` are its own, a user's write keeps the status and a status
write keeps the rest. Documents are never changed in place, so that whoever holds one may keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from attrs import define, frozen

from lbcore.intents import RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.simulation.clock import Clock, Trace

__all__ = ["RESOURCES", "ROUTED_RESOURCES", "ApiServer", "Change", "Document", "WriteResult", "name_of"]

Document = dict[str, Any]

# Resource -> apiVersion and kind: each is listed and watched on its own, as in Kubernetes.
RESOURCES = {
    "namespaces": ("v1", "Namespace"),
    "nodes": ("v1", "Node"),
    "ipaddresspools": ("metallb.io/v1beta1", "IPAddressPool"),
    "l2advertisements": ("metallb.io/v1beta1", "L2Advertisement"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "services": ("v1", "Service"),
}
ROUTED_RESOURCES = {  # what clusters with routers have beside these
    "bgppeers": ("metallb.io/v1beta2", "BGPPeer"),
    "bgpadvertisements": ("metallb.io/v1beta1", "BGPAdvertisement"),
    "bfdprofiles": ("metallb.io/v1beta1", "BFDProfile"),
    "communities": ("metallb.io/v1beta1", "Community"),
}
_BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
_POOL_ANNOTATION = "metallb.io/ip-allocated-from-pool"


class WriteResult(Enum):
    """How the server answers a write."""

    DONE = "200"
    GONE = "404"  # or re-created under its name: the uid is another


@frozen
class Change:
    """One entry of a resource's log: the object afterwards, or None when it was deleted."""

    name: str
    document: Document | None


@define
class _Table:
    objects: dict[str, Document]
    log: list[Change]
    first: int  # the number of the log's first entry; older ones are forgotten


def name_of(document: Document) -> str:
    """`namespace/name`, or `name` of what has no namespace."""
    metadata = document["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])


class ApiServer:
    """Objects by resource and name. `watchers` are called after each change with its resource;
    `judges` with resource, the document before and after, and who did it. `routed`: with the kinds of BGP.
    """

    def __init__(self, clock: Clock, trace: Trace, *, routed: bool = False) -> None:
        self._clock = clock
        self._trace = trace
        self.resources = {**RESOURCES, **ROUTED_RESOURCES} if routed else RESOURCES
        self._tables = {resource: _Table({}, [], 0) for resource in self.resources}
        self._versions = 0
        self._uids = 0
        self.writes = 0  # by the controller, that were carried out
        self.vain_writes = 0  # that give a Service what it has
        self.watchers: list[Callable[[str], None]] = []
        self.judges: list[Callable[[str, Document | None, Document | None, str], None]] = []

    # What users, kubelets and controllers of other kinds do.

    def get(self, resource: str, name: str) -> Document | None:
        """One object as it is now."""
        return self._tables[resource].objects.get(name)

    def all(self, resource: str) -> Iterator[Document]:
        """Every object of a resource, in the order of creation."""
        return iter(self._tables[resource].objects.values())

    def names(self, resource: str) -> list[str]:
        """Every name of a resource, in the order of creation."""
        return list(self._tables[resource].objects)

    def put(self, resource: str, metadata: Document, **parts: Any) -> Document:
        """Create an object, or replace all of it but its identity and status."""
        api_version, kind = self.resources[resource]
        document: Document = {"apiVersion": api_version, "kind": kind, "metadata": dict(metadata), **parts}
        name = name_of(document)
        before = self._tables[resource].objects.get(name)
        own = document["metadata"]
        if before is None:
            self._uids += 1
            own["uid"] = f"uid-{self._uids}"
            own["creationTimestamp"] = self._moment()
        else:
            own["uid"] = before["metadata"]["uid"]
            own["creationTimestamp"] = before["metadata"]["creationTimestamp"]
            if "status" in before and "status" not in parts:
                document["status"] = before["status"]
            _keep_annotation(before, document)
        self._commit(resource, name, before, document, "user")
        return document

    def delete(self, resource: str, name: str) -> None:
        """Remove an object, if it is there."""
        before = self._tables[resource].objects.get(name)
        if before is not None:
            self._commit(resource, name, before, None, "user")

    # What the controller writes.

    def write(self, intent: SetAddresses | SetPoolUsage | RecordEvent | ReportConfig) -> WriteResult:
        """Carry out one write of the controller."""
        match intent:
            case SetAddresses():
                return self._set_addresses(intent)
            case SetPoolUsage():
                return self._set_usage(intent)
            case RecordEvent():
                self._trace.add("api", f"event {intent.about} {intent.reason}: {intent.message}")
            case ReportConfig():
                self._trace.add("api", f"config {intent.config is not None} {len(intent.problems)} problems")
        self.writes += 1
        return WriteResult.DONE

    def _set_addresses(self, intent: SetAddresses) -> WriteResult:
        name = str(intent.key)
        before = self._tables["services"].objects.get(name)
        if before is None or (intent.uid and before["metadata"]["uid"] != intent.uid):
            return WriteResult.GONE
        metadata = dict(before["metadata"])
        annotations = {key: text for key, text in metadata.get("annotations", {}).items() if key != _POOL_ANNOTATION}
        if intent.pool is not None:
            annotations[_POOL_ANNOTATION] = intent.pool
        metadata["annotations"] = annotations
        ingress = [{"ip": str(address)} for address in intent.addresses]
        reason = intent.refusal.reason.value if intent.refusal is not None else None
        status = {"loadBalancer": {"ingress": ingress}, "reason": reason}
        after = {**before, "metadata": metadata, "status": status}
        self.writes += 1
        if ingress and reason is None and _same(before, after):
            self.vain_writes += 1
        self._commit("services", name, before, after, "controller")
        return WriteResult.DONE

    def _set_usage(self, intent: SetPoolUsage) -> WriteResult:
        for name, before in self._tables["ipaddresspools"].objects.items():
            if before["metadata"]["name"] == intent.pool:
                status = {
                    "assignedIPv4": intent.assigned_ipv4,
                    "assignedIPv6": intent.assigned_ipv6,
                    "availableIPv4": intent.available_ipv4,
                    "availableIPv6": intent.available_ipv6,
                }
                self.writes += 1
                self._commit("ipaddresspools", name, before, {**before, "status": status}, "controller")
                return WriteResult.DONE
        return WriteResult.GONE

    # Lists and watches.

    def listing(self, resource: str) -> tuple[list[Document], int]:
        """Every object now, and the number of the log's next entry."""
        table = self._tables[resource]
        return list(table.objects.values()), table.first + len(table.log)

    def changes(self, resource: str, since: int) -> list[Change] | None:
        """What has happened from a log's entry on; None when that is no longer known (410 Gone)."""
        table = self._tables[resource]
        return table.log[since - table.first :] if since >= table.first else None

    def position(self, resource: str) -> int:
        """The number of the log's next entry."""
        table = self._tables[resource]
        return table.first + len(table.log)

    def compact(self, keep: int = 50) -> None:
        """Forget old changes, as etcd does every few minutes."""
        for table in self._tables.values():
            cut = max(0, len(table.log) - keep)
            del table.log[:cut]
            table.first += cut

    def _commit(self, resource: str, name: str, before: Document | None, after: Document | None, who: str) -> None:
        if before is not None and after is not None and _same(before, after):
            return
        table = self._tables[resource]
        if after is None:
            del table.objects[name]
        else:
            self._versions += 1
            after["metadata"] = {**after["metadata"], "resourceVersion": str(self._versions)}
            table.objects[name] = after
        table.log.append(Change(name, after))
        self._trace.add(who, f"{resource} {name} {_text(after)}")
        for judge in self.judges:
            judge(resource, before, after, who)
        for watcher in self.watchers:
            watcher(resource)

    def _moment(self) -> str:
        return (_BEGINNING + timedelta(seconds=int(self._clock.now))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _keep_annotation(before: Document, after: Document) -> None:
    pool = before["metadata"].get("annotations", {}).get(_POOL_ANNOTATION)
    if pool is not None:
        after["metadata"]["annotations"] = {**after["metadata"].get("annotations", {}), _POOL_ANNOTATION: pool}


def _same(before: Document, after: Document) -> bool:
    """Whether a write changes nothing: the API server then makes no new version."""
    if before.get("spec") != after.get("spec") or before.get("status") != after.get("status"):
        return False
    if before.get("endpoints") != after.get("endpoints"):
        return False
    old, new = before["metadata"], after["metadata"]
    return all(old.get(key) == new.get(key) for key in ("labels", "annotations", "uid"))


def _text(document: Document | None) -> str:
    """An object in one line; dictionaries keep the order in which they were written, on every machine."""
    if document is None:
        return "deleted"
    parts = [f"{key}={value}" for key, value in document.items() if key not in ("apiVersion", "kind")]
    return " ".join(parts)

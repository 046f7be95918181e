"""The status that lies beside a folder's manifests: `FOLDER/.lbcore/`, read and written.

    services/NAMESPACE/NAME.json   the addresses of a Service, or why it has none
    ingresses/NAMESPACE/NAME.json  the addresses that an Ingress shows
    pools/NAME.json                how much of a pool is in use
    peers/NODE/NAME.json           how a node's session with a BGPPeer is
    speakers/NODE                  a file that a node's speaker has locked for as long as it lives
    withheld/NODE/NAMESPACE/NAME   a Service of which a node tells routers later, while the file is there
    config.json                    the configuration in force, and what is wrong with a newer one
    events.jsonl                   what happened to which object, the newest last
    drained/NODE                   a node that is drained, for as long as the file is there
    gossip                         there while speakers gossip: then nothing here tells which of them live

The users' own files are never written. Every file is written aside and renamed, so a reader sees
the old or the new one, whole. Nothing is synced to the disk: a status lost with the power is worked
out again from the manifests, and a sync for each of 10,000 Services would take minutes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from sys import intern
from typing import NotRequired, TypedDict

import attrs
import msgspec

from lbcore.adapters.kubernetes.status import (
    ServiceStatus,
    config_status,
    event_line,
    ingress_status,
    peer_status,
    pool_status,
    read_service_status,
    service_status,
)
from lbcore.backends.lock import is_let_go
from lbcore.backends.manifests import signature_of
from lbcore.errors import ManifestError
from lbcore.events import ManifestRefused
from lbcore.ingress import ObjectKey
from lbcore.intents import (
    PublishIngress,
    RecordEvent,
    ReportConfig,
    ReportPeer,
    ReportWithheld,
    SetAddresses,
    SetPoolUsage,
)
from lbcore.model import Service, ServiceKey

__all__ = [
    "DRAINED",
    "STATUS_FOLDER",
    "PeerDocument",
    "StatusReader",
    "StatusWriter",
    "UnsafeNameError",
    "life_path",
    "read_drained",
    "read_gossip",
    "read_peers",
    "read_withheld",
    "tell_gossip",
]

STATUS_FOLDER = ".lbcore"
DRAINED = "drained"
WITHHELD = "withheld"
_GOSSIP = "gossip"
MOST_EVENT_BYTES = 1 << 20  # then events.jsonl becomes events.jsonl.1: some 5,000 events are kept at least
MOST_STATUS_BYTES = 1 << 20  # of one Service; what we write has a few hundred
BREATH = 200  # statuses between two chances for the caller to do something else: about 5 ms

_SIGNATURE = struct.Struct("=qQQ")  # a `Signature` in 57 bytes instead of 180
_SAFE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,252}")


class UnsafeNameError(ValueError):
    """A name that may not become part of a path."""


def status_path(root: Path, key: ServiceKey) -> Path:
    """Where a Service's status lies. Raises `UnsafeNameError` for a name that could lead elsewhere."""
    return root / STATUS_FOLDER / "services" / _safe(key.namespace) / f"{_safe(key.name)}.json"


def ingress_status_path(root: Path, key: ObjectKey) -> Path:
    """Where an Ingress's status lies. Raises `UnsafeNameError` for a name that could lead elsewhere."""
    return root / STATUS_FOLDER / "ingresses" / _safe(key.namespace) / f"{_safe(key.name)}.json"


def life_path(root: Path, node: str) -> Path:
    """What a node's speaker holds while it lives. Raises `UnsafeNameError` for a name that could lead elsewhere."""
    return root / STATUS_FOLDER / "speakers" / _safe(node)


def _safe(name: str) -> str:
    if not _SAFE.fullmatch(name):
        raise UnsafeNameError(f"{name[:80]!r} cannot be the name of a file")
    return name


class StatusReader:
    """The statuses of Services as they were at the last look."""

    def __init__(self, root: Path) -> None:
        self._folder = str(root / STATUS_FOLDER / "services")
        self._known: dict[str, tuple[bytes, ServiceStatus | None]] = {}

    @property
    def names(self) -> Collection[str]:
        """The Services (`namespace/name`) that have a status."""
        return self._known.keys()

    def covers(self, path: str) -> bool:
        """Whether a path lies among the statuses of Services."""
        return path.startswith(self._folder + os.sep)

    def look(self, changed: Collection[str] | None) -> Iterator[str | ManifestRefused | None]:
        """The Services whose status changed, in all the folder or in the files named.

        A file that is no status counts as none, and is told. Yields None where the caller may
        stop to do something else.
        """
        if changed is None:
            present = set(self._walk())
            names = present | self._known.keys()
        else:
            names = {name for path in changed if self.covers(path) and (name := self._name_of(path))}
        for index, name in enumerate(sorted(names)):
            yield from self._look_at(name, again=changed is not None)
            if index % BREATH == BREATH - 1:
                yield None

    def held_by(self, service: Service) -> Service:
        """The Service with what its status says, if it has one of this incarnation."""
        entry = self._known.get(str(service.key))
        if entry is None or (status := entry[1]) is None:
            return service
        if service.uid and status.uid and service.uid != status.uid:
            return service
        pending = (status.reason, status.message or "") if status.reason is not None else None
        return attrs.evolve(service, held=status.addresses, pending=pending)

    def _look_at(self, name: str, *, again: bool) -> Iterator[str | ManifestRefused]:
        path = f"{self._folder}/{name}.json"
        found = signature_of(path)
        known = self._known.get(name)
        if found is None:
            if self._known.pop(name, None) is not None:
                yield name
            return
        signature = _SIGNATURE.pack(*found)
        if known is not None and known[0] == signature and not again:
            return
        try:
            status = read_service_status(_bytes_of(path), f"{STATUS_FOLDER}/services/{name}.json")
        except ManifestError as error:
            status = None
            yield ManifestRefused(error.problem)
        except OSError:
            return  # gone or replaced since it was looked for: a notification is on its way
        self._known[name] = (signature, status)
        if known is None or known[1] != status:
            yield name

    def _walk(self) -> Iterator[str]:
        for namespace in _entries(self._folder):
            for entry in _entries(namespace.path):
                if name := self._name_of(entry.path):
                    yield name

    def _name_of(self, path: str) -> str | None:
        namespace, _, file = path[len(self._folder) + 1 :].partition(os.sep)
        name = file.removesuffix(".json")
        sound = name != file and _SAFE.fullmatch(namespace) and _SAFE.fullmatch(name)
        return intern(f"{namespace}/{name}") if sound else None  # the reader of manifests has it, too


def _bytes_of(path: str) -> bytes:
    """The bytes of a small file. Path.read_bytes takes three times as long, mostly to make the Path."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, MOST_STATUS_BYTES)
    finally:
        os.close(descriptor)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


class StatusWriter:
    """Writes statuses; may be called from several threads at once, for one subject from one at a time.

    Everything raises `OSError` when the disk does, and `UnsafeNameError`. What is there already is
    not written again.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / STATUS_FOLDER
        self._events = threading.Lock()

    def set_addresses(self, intent: SetAddresses) -> None:
        """The status of a Service."""
        self._write(status_path(self._root, intent.key), service_status(intent))

    def publish_ingress(self, intent: PublishIngress) -> None:
        """The status of an Ingress; none where it shows no address."""
        if intent.addresses:
            self._write(ingress_status_path(self._root, intent.key), ingress_status(intent))
        else:
            self.remove_ingress(intent.key)

    def remove_ingress(self, key: ObjectKey) -> None:
        """Take away the status of an Ingress."""
        ingress_status_path(self._root, key).unlink(missing_ok=True)

    def published(self) -> list[ObjectKey]:
        """The Ingresses that have a status."""
        folders = _entries(str(self._folder / "ingresses"))
        names = [(each.name, entry.name.removesuffix(".json")) for each in folders for entry in _entries(each.path)]
        return [ObjectKey(*each) for each in sorted(names) if all(map(_SAFE.fullmatch, each))]

    def set_pool_usage(self, intent: SetPoolUsage) -> None:
        """The status of a pool."""
        self._write(self._folder / "pools" / f"{_safe(intent.pool)}.json", pool_status(intent))

    def report_config(self, intent: ReportConfig) -> None:
        """The configuration in force; statuses of pools that it has not are removed."""
        self._write(self._folder / "config.json", config_status(intent))
        if intent.config is None:
            return
        names = {f"{pool.name}.json" for pool in intent.config.pools}
        for entry in _entries(str(self._folder / "pools")):
            if entry.name not in names:
                Path(entry.path).unlink(missing_ok=True)

    def record_event(self, intent: RecordEvent) -> None:
        """One more line of `events.jsonl`."""
        line = event_line(intent, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        path = self._folder / "events.jsonl"
        with self._events:
            self._folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size + len(line) > MOST_EVENT_BYTES:
                path.replace(path.with_name("events.jsonl.1"))
            with path.open("ab") as file:
                file.write(line)

    def report_peer(self, intent: ReportPeer) -> None:
        """How a node's session with a peer is; nothing stays of one that is no more."""
        path = self._folder / "peers" / _safe(intent.node) / f"{_safe(intent.peer)}.json"
        if intent.status is None:
            path.unlink(missing_ok=True)
        else:
            self._write(path, peer_status(intent))

    def remove_peers(self, node: str) -> None:
        """Take away what is told of a node's sessions."""
        for entry in _entries(str(self._folder / "peers" / _safe(node))):
            Path(entry.path).unlink(missing_ok=True)

    def report_withheld(self, intent: ReportWithheld) -> None:
        """That a node tells routers of a Service later, for as long as it is so."""
        key = intent.key
        path = self._folder / WITHHELD / _safe(intent.node) / _safe(key.namespace) / _safe(key.name)
        if intent.after is None:
            path.unlink(missing_ok=True)
        else:
            self._write(path, f"{intent.after:g} s\n".encode())

    def remove_withheld(self, node: str) -> None:
        """Take away what is told of a node's Services."""
        for namespace in _entries(str(self._folder / WITHHELD / _safe(node))):
            for entry in _entries(namespace.path):
                Path(entry.path).unlink(missing_ok=True)

    def drain(self, node: str) -> bool:
        """Mark a node as drained; whether that is news."""
        path = self._folder / DRAINED / _safe(node)
        if path.exists():
            return False
        self._write(path, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()).encode())
        return True

    def undrain(self, node: str) -> bool:
        """Take the mark away; whether there was one."""
        try:
            (self._folder / DRAINED / _safe(node)).unlink()
        except FileNotFoundError:
            return False
        return True

    def remove(self, key: ServiceKey) -> None:
        """Take away the status of a Service that is gone."""
        status_path(self._root, key).unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            if path.read_bytes() == data:
                return
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        # Always the same name, so that what a killed writer leaves is overwritten by the next one.
        aside = path.with_name(f".{path.name}.tmp")
        try:
            aside.write_bytes(data)
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise


def read_drained(root: Path) -> frozenset[str]:
    """The nodes that are marked as drained."""
    names = (entry.name for entry in _entries(str(root / STATUS_FOLDER / DRAINED)))
    return frozenset(name for name in names if _SAFE.fullmatch(name))


def tell_gossip(root: Path, *, gossips: bool) -> None:
    """Leave word whether speakers gossip, for who asks which live; a folder that is read only has none."""
    path = root / STATUS_FOLDER / _GOSSIP
    with contextlib.suppress(OSError):
        if gossips:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.unlink(missing_ok=True)


def read_gossip(root: Path) -> bool:
    """Whether the last speaker that was started here gossips."""
    return (root / STATUS_FOLDER / _GOSSIP).exists()


UNKNOWN = "Unknown"  # in place of the state of a session whose speaker is gone


class PeerDocument(TypedDict):
    """What is written of one session."""

    node: str
    peer: str
    router: str
    state: str
    since: str
    prefixesAdvertised: int
    prefixesReceived: int
    sessionsLost: int
    error: str
    bfd: NotRequired[str]  # '' where the peer is not watched; not told by older speakers


def read_peers(root: Path) -> list[PeerDocument]:
    """How every node's sessions are, by node and peer; a file that is none is passed over.

    Of a speaker that was killed it stands there what it told last, until another begins: then the state is `UNKNOWN`.
    """
    decoder = msgspec.json.Decoder(PeerDocument)
    found: list[PeerDocument] = []
    for node in _entries(str(root / STATUS_FOLDER / "peers")):
        is_gone = _SAFE.fullmatch(node.name) is not None and is_let_go(life_path(root, node.name))
        for entry in _entries(node.path):
            if entry.name.startswith(".") or not entry.name.endswith(".json"):
                continue
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                told = decoder.decode(_bytes_of(entry.path))
                found.append(_of_one_gone(told) if is_gone else told)
    return sorted(found, key=lambda each: (each["node"], each["peer"]))


def _of_one_gone(told: PeerDocument) -> PeerDocument:
    why = f"its speaker is gone, without a word; the last was {told['state']}"
    gone = told.copy()
    gone["state"] = UNKNOWN
    gone["error"] = f"{why} ({told['error']})" if told["error"] else why
    if told.get("bfd"):
        gone["bfd"] = UNKNOWN
    return gone


def read_withheld(root: Path, key: ServiceKey) -> frozenset[str]:
    """The nodes that tell routers of a Service later."""
    nodes = _entries(str(root / STATUS_FOLDER / WITHHELD))
    return frozenset(each.name for each in nodes if (Path(each.path) / key.namespace / key.name).is_file())


def is_lasting(error: OSError) -> bool:
    """Whether doing it again cannot help."""
    return error.errno == errno.ENAMETOOLONG

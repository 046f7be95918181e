"""The lab's own look at a folder of manifests: plain documents, re-read when their files change.

It knows the folder's layout, and what the lab's control plane reads of a Deployment and a Service;
lbcore's daemons read the same folder with their own, full reader.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import yaml
from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.errors import AddressError, ManifestError, Problem
from lbcore.lab.pods import NamedPort
from lbcore.model import Labels, Port, ServiceKey, TrafficPolicy

__all__ = ["Document", "Folder", "ObjectKey", "ServicePort", "ServiceWish", "Workload", "dig", "split_documents"]

Document = Mapping[str, Any]
T = TypeVar("T")

_CLUSTER_WIDE = frozenset({"IngressClass", "Namespace", "Node"})
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)  # YAML 1.2, 9.1.2: at the start of a line it is always a marker
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@frozen(order=True)
class ObjectKey:
    """What names an object: `kind`, `metadata.namespace` (empty for a cluster-wide kind), `metadata.name`."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, document: Document, source: str = "") -> ObjectKey:
        """The key of a document; raises `ManifestError` where it has none."""
        kind = dig(document, "kind", str, "", source)
        name = dig(document, "metadata.name", str, "", source)
        if not kind or not name:
            path = "metadata.name" if kind else "kind"
            raise ManifestError(
                Problem(source=source, object=kind, field=path, message="is missing; every object has one")
            )
        return cls.named(kind, dig(document, "metadata.namespace", str, "default", source), name)

    @classmethod
    def named(cls, kind: str, namespace: str, name: str) -> ObjectKey:
        """The key of an object that is known by name; a cluster-wide kind loses its namespace."""
        return cls(kind, "" if kind in _CLUSTER_WIDE else namespace, name)

    @property
    def file_name(self) -> str:
        """Its file in the folder: no name can leave the folder or meet another's file ('_' is in no name)."""
        parts = (self.kind.lower(), self.namespace, self.name)
        return "_".join(quote(part, safe="").replace("_", "%5F") for part in parts if part) + ".yaml"

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def dig(document: Document, path: str, kind: type[T], default: T, source: str = "") -> T:
    """The value at a dotted path, or `default` where it is absent or null.

    Raises `ManifestError` that names the path where something else than a `kind` stands there.
    """
    value: Any = document
    walked: list[str] = []
    for key in path.split("."):
        if not isinstance(value, Mapping):
            raise _wrong(document, ".".join(walked), "must be a mapping", source)
        walked.append(key)
        value = value.get(key)
        if value is None:
            return default
    if not isinstance(value, kind):
        raise _wrong(document, path, f"must be of the type {kind.__name__}, not {value!r}", source)
    return value


def _wrong(document: Document, path: str, message: str, source: str) -> ManifestError:
    metadata = document.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
    about = f"{document.get('kind', '')} {name}".strip()
    return ManifestError(Problem(source=source, object=about, field=path, message=message))


def _labels(document: Document, path: str, source: str) -> Labels:
    found = dig(document, path, dict, {}, source)
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise _wrong(document, f"{path}.{key}", f"must be a string, not {value!r}; put it in quotes", source)
    return Map(found)


def split_documents(text: str, source: str = "") -> Iterator[tuple[str, Document]]:
    """The documents of a manifest, each with its own text; the items of a List are documents, too.

    Raises `ManifestError` for what is no YAML or no mapping.
    """
    for number, part in enumerate(_SEPARATOR.split(text), start=1):
        where = f"{source} document {number}".strip()
        try:
            document = yaml.load(part, _Loader)  # noqa: S506 - a safe loader, in C where there is one
        except yaml.YAMLError as error:
            message = f"is no YAML: {' '.join(str(error).split())}"
            raise ManifestError(Problem(source=where, object="", field="", message=message)) from None
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ManifestError(
                Problem(source=where, object="", field="", message="is no object; it must be a mapping")
            )
        if document.get("kind") == "List":
            items = dig(document, "items", list, [], where)
            yield from ((yaml.safe_dump(item, sort_keys=False), item) for item in items)
        else:
            yield part.strip("\n") + "\n", document


@frozen(kw_only=True, order=True)
class Workload:
    """What the lab reads of a Deployment: `spec.replicas` and `spec.template`."""

    namespace: str
    name: str
    replicas: int
    labels: Labels = field(order=False)
    ports: tuple[NamedPort, ...] = ()

    @classmethod
    def read(cls, document: Document, source: str = "") -> Workload:
        """A Deployment as a value; raises `ManifestError`, also where the API server would refuse it."""
        key = ObjectKey.of(document, source)
        labels = _labels(document, "spec.template.metadata.labels", source)
        for name, value in _labels(document, "spec.selector.matchLabels", source).items():
            if labels.get(name) != value:
                raise _wrong(
                    document, "spec.selector.matchLabels", "does not match spec.template.metadata.labels", source
                )
        containers = dig(document, "spec.template.spec.containers", list, [], source)
        if not containers or not isinstance(containers[0], dict):
            raise _wrong(document, "spec.template.spec.containers", "must have at least one container", source)
        ports = tuple(
            NamedPort(dig(port, "name", str, "", source), _port(document, port, "containerPort", source))
            for port in dig(containers[0], "ports", list, [], source)
        )
        return cls(
            namespace=key.namespace,
            name=key.name,
            replicas=dig(document, "spec.replicas", int, 1, source),
            labels=labels,
            ports=ports or (NamedPort("", Port("TCP", 80)),),
        )


@frozen(order=True)
class ServicePort:
    """One of `Service.spec.ports`: `target` is a number, or the name of a container's port."""

    name: str
    port: Port
    target: int | str


@frozen(kw_only=True)
class ServiceWish:
    """What the lab reads of a Service: whom it selects and which ports it forwards."""

    key: ServiceKey
    selector: Labels
    ports: tuple[ServicePort, ...]
    policy: TrafficPolicy
    is_load_balancer: bool

    @classmethod
    def read(cls, document: Document, source: str = "") -> ServiceWish:
        """A Service as a value; raises `ManifestError`."""
        key = ObjectKey.of(document, source)
        ports = []
        for port in dig(document, "spec.ports", list, [], source):
            read = _port(document, port, "port", source)
            target = port.get("targetPort", read.number)
            ports.append(ServicePort(dig(port, "name", str, "", source), read, target))
        policy = dig(document, "spec.externalTrafficPolicy", str, "Cluster", source)
        if policy not in {each.value for each in TrafficPolicy}:
            raise _wrong(document, "spec.externalTrafficPolicy", f"is {policy!r}; write Cluster or Local", source)
        return cls(
            key=ServiceKey(key.namespace, key.name),
            selector=_labels(document, "spec.selector", source),
            ports=tuple(ports),
            policy=TrafficPolicy(policy),
            is_load_balancer=dig(document, "spec.type", str, "ClusterIP", source) == "LoadBalancer",
        )


def _port(document: Document, port: Any, key: str, source: str) -> Port:
    number = port.get(key) if isinstance(port, dict) else None
    if not isinstance(number, int) or not 0 < number < 65536:
        raise _wrong(document, f"ports[].{key}", f"must be a port number from 1 to 65535, not {number!r}", source)
    return Port(dig(port, "protocol", str, "TCP", source), number)


@frozen
class _Stamp:
    """What changes when a file is replaced or written to."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, entry: os.DirEntry[str]) -> _Stamp:
        status = entry.stat()
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Folder:
    """A cluster's folder: manifests in it, lbcore's status of them in `.lbcore`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, tuple[_Stamp, list[Document]]] = {}
        self._status: dict[ServiceKey, tuple[_Stamp, tuple[Address, ...]]] = {}
        self.problems: dict[str, Problem] = {}  # by file

    def write(self, key: ObjectKey, text: str) -> str:
        """Write an object's manifest, all or nothing; says `created`, `configured` or `unchanged` as kubectl does."""
        target = self.path / key.file_name
        with contextlib.suppress(FileNotFoundError):
            if target.read_text(encoding="utf-8") == text:
                return "unchanged"
        verb = "configured" if target.exists() else "created"
        aside = target.with_name(f".{target.name}.new")
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
        return verb

    def remove(self, key: ObjectKey) -> bool:
        """Remove an object's manifest; False if there was none."""
        try:
            (self.path / key.file_name).unlink()
        except FileNotFoundError:
            return False
        return True

    def objects(self) -> dict[ObjectKey, Document]:
        """Every object in the folder's files now; what is broken is left out and stands in `problems`."""
        entries = {entry.name: entry for entry in self._entries(self.path) if _is_manifest(entry.name)}
        for gone in self._files.keys() - entries.keys():
            del self._files[gone]
            self.problems.pop(gone, None)
        for name, entry in entries.items():
            with contextlib.suppress(FileNotFoundError):
                self._refresh(name, entry)
        found: dict[ObjectKey, Document] = {}
        for name in sorted(self._files):
            for document in self._files[name][1]:
                found[ObjectKey.of(document, name)] = document
        return found

    def _refresh(self, name: str, entry: os.DirEntry[str]) -> None:
        stamp = _Stamp.of(entry)
        if name in self._files and self._files[name][0] == stamp:
            return
        self.problems.pop(name, None)
        documents: list[Document] = []
        try:
            for _, document in split_documents(Path(entry.path).read_text(encoding="utf-8"), name):
                ObjectKey.of(document, name)
                documents.append(document)
        except ManifestError as error:
            self.problems[name] = error.problem
        except UnicodeDecodeError:
            self.problems[name] = Problem(source=name, object="", field="", message="is no UTF-8 text")
        self._files[name] = (stamp, documents)

    def addresses(self) -> dict[ServiceKey, tuple[Address, ...]]:
        """What lbcore's controller has given to each Service, from `.lbcore/services/NAMESPACE/NAME.json`."""
        seen: set[ServiceKey] = set()
        for space in self._entries(self.path / ".lbcore" / "services"):
            for entry in self._entries(Path(space.path)):
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    key = ServiceKey(space.name, entry.name.removesuffix(".json"))
                    seen.add(key)
                    with contextlib.suppress(FileNotFoundError, ValueError):  # half written: the next look reads it
                        self._refresh_status(key, entry)
        for gone in self._status.keys() - seen:
            del self._status[gone]
        return {key: addresses for key, (_, addresses) in self._status.items()}

    def _refresh_status(self, key: ServiceKey, entry: os.DirEntry[str]) -> None:
        stamp = _Stamp.of(entry)
        if key in self._status and self._status[key][0] == stamp:
            return
        status = json.loads(Path(entry.path).read_bytes())
        with contextlib.suppress(AddressError):
            addresses = tuple(Address.parse(text) for text in dig(status, "addresses", list, []))
            self._status[key] = (stamp, addresses)

    @staticmethod
    def _entries(path: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(path) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []


def _is_manifest(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix in _SUFFIXES

"""A Kubernetes object, as JSON or YAML gives it -> the event that tells it to a brain.

The table `_READERS` says which kinds are read; the other files of this package each read one noun.
Everything is total: whatever stands in a document, the outcome is an event, an `Ignored`, or a
problem with a source, an object and a field, never another exception.

A broken Service, EndpointSlice, Node or Namespace concerns itself only and raises `ManifestError`.
A broken piece of configuration concerns every address there is, so its problems travel inside its
`ConfigDocument`, all of them, and hold back the whole configuration (the last good one stays).
MetalLB honours its objects in its own namespace only; a folder of manifests has no such place, so
here every namespace counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches

import attrs
from attrs import frozen

from lbcore.adapters.kubernetes.advertisements import read_l2_advertisement
from lbcore.adapters.kubernetes.bgp import (
    BGP_PEER_VERSIONS,
    read_bfd_profile,
    read_bgp_advertisement,
    read_bgp_peer,
    read_communities,
)
from lbcore.adapters.kubernetes.endpoints import SERVICE_NAME, read_slice
from lbcore.adapters.kubernetes.fields import Faults, Fields, show
from lbcore.adapters.kubernetes.ingresses import read_ingress, read_ingress_class
from lbcore.adapters.kubernetes.legacy import is_legacy_config, read_legacy_config
from lbcore.adapters.kubernetes.nodes import read_namespace, read_node
from lbcore.adapters.kubernetes.pools import read_pool
from lbcore.adapters.kubernetes.secrets import read_config_map, read_secret
from lbcore.adapters.kubernetes.services import read_service
from lbcore.adapters.kubernetes.text import Chunk, TextError, parse, parse_json, split
from lbcore.config import ConfigDocument, Origin, Resource
from lbcore.errors import ManifestError, Problem
from lbcore.events import (
    ConfigMapSeen,
    ConfigSeen,
    IngressClassSeen,
    IngressSeen,
    ManifestRefused,
    NamespaceSeen,
    NodeSeen,
    SecretSeen,
    ServiceSeen,
    SliceSeen,
)
from lbcore.ingress import ObjectKey
from lbcore.model import ServiceKey, SliceKey

__all__ = ["Decoded", "Ignored", "Refused", "Seen", "read", "read_all", "read_chunk", "read_text", "unusable"]

Seen = (
    ServiceSeen
    | SliceSeen
    | NodeSeen
    | NamespaceSeen
    | ConfigSeen
    | IngressSeen
    | IngressClassSeen
    | SecretSeen
    | ConfigMapSeen
)


@frozen
class Ignored:
    """An object, or a part of one, that has no effect on lbcore; `note` says why, for people.

    `subject` is that of an object that may have had an effect before (an EndpointSlice whose
    Service label was taken off): whoever told of it then, tells now that it is gone.
    """

    about: str
    note: str
    subject: tuple[str, str] | None = None


Decoded = Seen | Ignored


@frozen
class Refused:
    """A document that cannot be used, as an event to tell.

    `subject` is the one it would have told of, whose last good form stays; None when the document
    does not even say that: then it may have been any of those that its file told before.
    """

    event: ManifestRefused | ConfigSeen
    subject: tuple[str, str] | None = None


METALLB = "metallb.io"
DISCOVERY = "discovery.k8s.io"
NETWORKING = "networking.k8s.io"
_API_VERSIONS = {"": "v1", DISCOVERY: f"{DISCOVERY}/v1", NETWORKING: f"{NETWORKING}/v1", METALLB: f"{METALLB}/v1beta1"}

_NO_PODS = "lbcore runs no Pods; where a Service's traffic goes is read from EndpointSlices"
_NOTES = {
    **dict.fromkeys(("ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"), "MetalLB's status, not a wish"),
    **dict.fromkeys(("Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"), _NO_PODS),
    "Endpoints": "endpoints are read from EndpointSlices (discovery.k8s.io/v1)",
}
_WISHES = ("IPAddressPool", "L2Advertisement", "BGPPeer", "BGPAdvertisement", "BFDProfile", "Community")
_METALLB_KINDS = (*_WISHES, "ServiceL2Status", "ServiceBGPStatus", "ConfigurationState")

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def read(document: object, source: str) -> Decoded:
    """One object, not a List, as the event that tells it.

    `source` (a file with the document's number, or an API server) goes into problems and origins.
    Raises `ManifestError` for an object that is broken and is not configuration.
    """
    if not isinstance(document, dict):
        raise ManifestError(Problem(source=source, object="", field="", message=_no_object(document)))
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(kind, str) or not kind or not isinstance(api_version, str) or not api_version:
        return _nameless(document, source)
    group, _, _ = api_version.rpartition("/")
    reader = _READERS.get((group, kind))
    if reader is not None:
        return _read_known(document, source, reader, kind, api_version, group)
    if (group, kind) == ("extensions", "Ingress"):  # gone since Kubernetes 1.22, and still in manifests
        return _read_known(document, source, _READERS[NETWORKING, kind], kind, api_version, NETWORKING)
    if group == METALLB and kind not in _METALLB_KINDS:
        return _unknown_metallb_kind(document, source, kind)
    if kind in _WISHES and group != METALLB:
        origin = _identify(document, source, kind)
        message = f"{kind} belongs to {_API_VERSIONS[METALLB]}, not to {api_version[:80]!r}"
        return _broken_config(origin, "apiVersion", message)
    return Ignored(str(_identify(document, source, kind)), _NOTES.get(kind, "not a kind that lbcore reads"))


def read_all(document: object, source: str) -> Iterator[Decoded | Refused]:
    """Every object of a document: a `kind: List` (or `ServiceList` and the like) is unfolded.

    Raises nothing: what cannot be used comes as `Refused`.
    """
    if not _is_list(document):
        yield from _read_one(document, source)
        return
    assert isinstance(document, dict)
    kind, items = document["kind"], document.get("items")
    if items is not None and not isinstance(items, list):
        problem = Problem(source=source, object=kind, field="items", message=f"must be a list, not {show(items)}")
        yield unusable(problem)
        return
    for index, item in enumerate(items or ()):
        where = f"{source} items[{index}]"
        if _is_list(item):
            yield unusable(Problem(source=where, object=kind, field="", message="a List inside a List; unfold it"))
            continue
        # The items of a typed list (ServiceList) do not repeat their kind.
        if isinstance(item, dict) and kind != "List" and "kind" not in item:
            kind_of_items = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
            yield from _read_one(kind_of_items | item, where)
        else:
            yield from _read_one(item, where)


def read_text(text: str, name: str) -> Iterator[Decoded | Refused]:
    """Every object of a text; `name` is its file's, and ends in `.json` where it is JSON."""
    if name.endswith(".json"):
        yield from read_chunk(Chunk(1, 1, text), name, parse_json_chunk)
        return
    chunks = list(split(text))
    for chunk in chunks:
        yield from read_chunk(chunk, name if len(chunks) == 1 else f"{name}#{chunk.number}", parse)


def parse_json_chunk(chunk: Chunk) -> list[object]:
    """The document of a chunk of JSON; the same shape as `parse`."""
    return [parse_json(chunk.text)] if chunk.text.strip() else []


def read_chunk(chunk: Chunk, source: str, parser: Callable[[Chunk], list[object]]) -> Iterator[Decoded | Refused]:
    """Every object of one document's text."""
    try:
        documents = parser(chunk)
    except TextError as error:
        yield _unparsable(chunk, source, error)
        return
    for document in documents:
        yield from read_all(document, source)


def unusable(problem: Problem, subject: tuple[str, str] | None = None) -> Refused:
    """Text that may have held anything, configuration too: so it holds the configuration back."""
    origin = Origin(kind=problem.object or "Document", namespace="", name=problem.source, source=problem.source)
    return Refused(ConfigSeen(ConfigDocument(origin=origin, problems=(problem,))), subject)


def _read_one(document: object, source: str) -> Iterator[Decoded | Refused]:
    try:
        decoded = read(document, source)
    except ManifestError as error:
        yield Refused(ManifestRefused(error.problem), _subject_of(document, source))
        return
    yield decoded


def _is_list(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    kind = document.get("kind")
    return isinstance(kind, str) and kind.endswith("List") and "items" in document


@frozen
class _Reader:
    """How to read one kind, and what its names look like."""

    namespaced: bool
    event: Callable[[Fields, Origin, Faults], Decoded]
    name: re.Pattern[str] = _SUBDOMAIN
    subject: str = "config"
    versions: tuple[str, ...] = ()  # other than the one that its group has

    @property
    def is_config(self) -> bool:
        return self.subject == "config"

    def subject_of(self, origin: Origin) -> tuple[str, str]:
        """The subject of the events about an object of this kind."""
        if self.is_config:
            return (self.subject, str(origin))
        return (self.subject, f"{origin.namespace}/{origin.name}" if self.namespaced else origin.name)


def _service(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    return ServiceSeen(read_service(document, ServiceKey(origin.namespace, origin.name)))


def _slice(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    found = read_slice(document, SliceKey(origin.namespace, origin.name))
    return (
        SliceSeen(found) if found else Ignored(str(origin), f"belongs to no Service: it lacks the label {SERVICE_NAME}")
    )


def _node(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    return NodeSeen(read_node(document, origin.name))


def _namespace(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    return NamespaceSeen(read_namespace(document, origin.name))


def _ingress(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    return IngressSeen(read_ingress(document, ObjectKey(origin.namespace, origin.name)))


def _ingress_class(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    return IngressClassSeen(read_ingress_class(document, origin.name))


def _secret(document: Fields, origin: Origin, _faults: Faults) -> Decoded:
    return SecretSeen(read_secret(document, ObjectKey(origin.namespace, origin.name)))


def _wish(read: Callable[[Fields, Origin], tuple[Resource, ...]]) -> Callable[[Fields, Origin, Faults], Decoded]:
    """How to read a kind of metallb.io, from how to read what it holds."""

    def event(document: Fields, origin: Origin, faults: Faults) -> Decoded:
        document.only("apiVersion", "kind", "metadata", "spec", "status")
        return _config(origin, read(document, origin), faults)

    return event


def _config_map(document: Fields, origin: Origin, faults: Faults) -> Decoded:
    if not is_legacy_config(origin.name, origin.namespace, document.raw("data")):
        return ConfigMapSeen(read_config_map(document, ObjectKey(origin.namespace, origin.name)))
    return _config(origin, read_legacy_config(document, origin, faults), faults)


def _config(origin: Origin, resources: tuple[Resource, ...], faults: Faults) -> ConfigSeen:
    """Resources, or the problems that spoil them: never half of a document."""
    problems = tuple(faults.problems)
    return ConfigSeen(ConfigDocument(origin=origin, resources=() if problems else resources, problems=problems))


_READERS: dict[tuple[str, str], _Reader] = {
    ("", "Service"): _Reader(True, _service, _LABEL, "service"),
    (DISCOVERY, "EndpointSlice"): _Reader(True, _slice, subject="slice"),
    ("", "Node"): _Reader(False, _node, subject="node"),
    ("", "Namespace"): _Reader(False, _namespace, _LABEL, "namespace"),
    ("", "ConfigMap"): _Reader(True, _config_map),
    ("", "Secret"): _Reader(True, _secret, subject="secret"),
    (NETWORKING, "Ingress"): _Reader(True, _ingress, subject="ingress"),
    (NETWORKING, "IngressClass"): _Reader(False, _ingress_class, subject="ingressclass"),
    (METALLB, "IPAddressPool"): _Reader(True, _wish(lambda document, origin: (read_pool(document, origin),))),
    (METALLB, "L2Advertisement"): _Reader(
        True, _wish(lambda document, origin: (read_l2_advertisement(document, origin),))
    ),
    (METALLB, "BGPPeer"): _Reader(True, _wish(read_bgp_peer), versions=BGP_PEER_VERSIONS),
    (METALLB, "BGPAdvertisement"): _Reader(
        True, _wish(lambda document, origin: (read_bgp_advertisement(document.child("spec"), origin.name, origin),))
    ),
    (METALLB, "BFDProfile"): _Reader(
        True, _wish(lambda document, origin: (read_bfd_profile(document.child("spec"), origin.name, origin),))
    ),
    (METALLB, "Community"): _Reader(
        True, _wish(lambda document, origin: read_communities(document.child("spec"), origin))
    ),
}


def _read_known(
    document: dict[str, object], source: str, reader: _Reader, kind: str, api_version: str, group: str
) -> Decoded:
    origin = _identify(document, source, kind, reader.namespaced)
    faults = Faults(origin)
    fields = Fields(document, "", faults)
    _check_identity(fields, reader)
    wanted = reader.versions or (_API_VERSIONS[group],)
    if api_version not in wanted:
        text = f"must be {' or '.join(wanted)}, not {api_version[:80]!r}; other versions have other fields"
        fields.fault("apiVersion", text)
    decoded = reader.event(fields, origin, faults)
    if isinstance(decoded, Ignored):
        return attrs.evolve(decoded, subject=reader.subject_of(origin))
    if faults.problems and not isinstance(decoded, ConfigSeen):
        raise ManifestError(faults.problems[0])
    return decoded


def _check_identity(document: Fields, reader: _Reader) -> None:
    """A name must be what Kubernetes allows: it becomes part of file names and messages."""
    metadata = document.child("metadata")
    name = metadata.required_text("name", "give the object a name (generateName works on an API server only)")
    if name and not reader.name.fullmatch(name):
        metadata.fault("name", f"{name[:80]!r} is no name; use a-z 0-9 and -{_also(reader.name)}")
    namespace = metadata.text("namespace")
    if namespace and reader.namespaced and not _LABEL.fullmatch(namespace):
        metadata.fault("namespace", f"{namespace[:80]!r} is no name; use a-z 0-9 and -, up to 63")


def _also(pattern: re.Pattern[str]) -> str:
    return ", up to 63" if pattern is _LABEL else " and dots, up to 253"


def _identify(document: dict[str, object], source: str, kind: str, namespaced: bool = True) -> Origin:
    """Which object a document is about, as far as it says; a missing namespace is `default`, as for kubectl."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    usable = isinstance(name, str) and 0 < len(name) <= 253
    return Origin(
        kind=kind[:80],
        namespace="" if not namespaced else namespace[:80] if isinstance(namespace, str) and namespace else "default",
        name=str(name) if usable else f"({source})",
        source=source,
    )


def _subject_of(document: object, source: str) -> tuple[str, str] | None:
    if not isinstance(document, dict):
        return None
    kind, metadata = document.get("kind"), document.get("metadata")
    if not isinstance(kind, str) or not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return None
    for (_, known), reader in _READERS.items():
        if known == kind and not reader.is_config:
            return reader.subject_of(_identify(document, source, kind, reader.namespaced))
    return None


def _broken_config(origin: Origin, field: str, message: str) -> ConfigSeen:
    return ConfigSeen(ConfigDocument(origin=origin, problems=(origin.problem(field, message),)))


def _no_object(document: object) -> str:
    return f"a manifest must be a mapping with apiVersion, kind and metadata, not {show(document)}"


def _nameless(document: dict[str, object], source: str) -> Decoded:
    """A document without a usable kind or apiVersion: configuration if anything hints at it."""
    kind = document.get("kind")
    field = "kind" if not isinstance(kind, str) or not kind else "apiVersion"
    origin = _identify(document, source, kind if isinstance(kind, str) and kind else "Document")
    if "address-pools" in document:
        text = "this is the text of MetalLB's old ConfigMap; put it under data.config of a ConfigMap named config"
        return _broken_config(origin, field, text)
    value = document.get(field)
    near = next((key for key in document if str(key).lower() == field.lower()), None)
    what = f"must be text, not {show(value)}" if value else "is missing"
    message = f"{what}; write `{field}:`" + (f" instead of `{near}:`" if near and near != field else "")
    api_version = document.get("apiVersion")
    of_metallb = isinstance(api_version, str) and api_version.startswith(f"{METALLB}/")
    if of_metallb or (isinstance(kind, str) and kind in _METALLB_KINDS):
        return _broken_config(origin, field, message)
    raise ManifestError(origin.problem(field, message))


def _unknown_metallb_kind(document: dict[str, object], source: str, kind: str) -> ConfigSeen:
    close = get_close_matches(kind[:80], _METALLB_KINDS, n=1)
    message = f"{kind[:80]!r} is not a kind of {METALLB}"
    if kind == "AddressPool":
        message += "; MetalLB replaced it by IPAddressPool together with L2Advertisement, write those"
    else:
        message += f"; did you mean {close[0]}?" if close else f"; write one of {', '.join(sorted(_WISHES))}"
    return _broken_config(_identify(document, source, kind), "kind", message)


_KIND_LINE = re.compile(r"^[ \t]*[\"']?kind[\"']?\s*:\s*[\"']?([A-Za-z0-9]{1,80})", re.MULTILINE)
_METALLB_LINE = re.compile(r"^[ \t]*[\"']?apiVersion[\"']?\s*:\s*[\"']?metallb\.io/", re.MULTILINE)
_CONFIG_NAME = re.compile(r"^\s+name:\s*[\"']?config[\"']?\s*$", re.MULTILINE)


def _unparsable(chunk: Chunk, source: str, error: TextError) -> Refused:
    """A document that cannot be parsed says by one line, perhaps, what it was to be."""
    found = _KIND_LINE.search(chunk.text)
    kind = found[1] if found else ""
    problem = Problem(source=source, object=kind, field="", message=str(error))
    kinds = {known for _, known in _READERS}
    harmless = kind in kinds | set(_NOTES) and kind not in _METALLB_KINDS and not _METALLB_LINE.search(chunk.text)
    if harmless and (kind != "ConfigMap" or not _CONFIG_NAME.search(chunk.text)):
        return Refused(ManifestRefused(problem))
    return unusable(problem)

"""Another system's objects -> our resources as manifests, and what was lost on the way, a line each.

A conversion refuses what it cannot read, whole and with every problem named, as the readers do.
Here is what all conversions share, and that of MetalLB's old ConfigMap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import evolve, frozen

from lbcore.adapters.kubernetes.documents import Decoded, Refused, read_text
from lbcore.adapters.kubernetes.manifests import Manifest, manifests_of
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer
from lbcore.config import ConfigDocument, L2Advertisement, Pool, Resource
from lbcore.errors import Problem
from lbcore.events import ConfigSeen

__all__ = ["Converted", "convert_config_maps", "object_name"]

_NO_NAME = re.compile(r"[^a-z0-9.-]+")
_AROUND_A_DOT = re.compile(r"-*\.[-.]*")


@frozen
class Converted:
    """What came out: manifests, and `notes` about what was lost, changed or is still to be done.

    With `problems` (what cannot be read) there is neither.
    """

    manifests: tuple[Manifest, ...] = ()
    notes: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()


def object_name(text: str, taken: Iterable[str] = ()) -> str:
    """A text as the name of an object (RFC 1123): unchanged where it is one, never one that is taken."""
    name = _AROUND_A_DOT.sub(".", _NO_NAME.sub("-", text.lower()))[:200].strip("-.") or "unnamed"
    others = set(taken)
    free, number = name, 2
    while free in others:
        free, number = f"{name}-{number}", number + 1
    return free


def convert_config_maps(texts: Iterable[tuple[str, str]], namespace: str) -> Converted:
    """MetalLB's ConfigMap `config` (up to v0.12): of each file its name and text.

    Reading the manifests gives the same configuration as reading the ConfigMap, but for names that no object
    may have: those are changed, and noted.
    """
    documents: list[ConfigDocument] = []
    problems: list[Problem] = []
    for name, text in texts:
        found = [_document(entry) for entry in read_text(text, name)]
        ours = [each for each in found if each is not None and (each.resources or each.problems)]
        documents += ours
        if not ours:
            hint = "has no ConfigMap `config` of MetalLB; give it as `kubectl get configmap config -o yaml` prints it"
            problems.append(Problem(source=name, object="", field="", message=hint))
    problems += [problem for document in documents for problem in document.problems]
    if problems:
        return Converted(problems=tuple(problems))
    resources = [(document, each) for document in documents for each in document.resources]
    pools = _renamed(each.name for _, each in resources if isinstance(each, Pool))
    profiles = _renamed(each.name for _, each in resources if isinstance(each, BFDProfile))
    notes = [note for document, each in resources for note in _notes(document, each, pools, profiles)]
    manifests = manifests_of((_with_names(each, pools, profiles) for _, each in resources), namespace)
    return Converted(tuple(manifests), tuple(notes))


def _document(entry: Decoded | Refused) -> ConfigDocument | None:
    event = entry.event if isinstance(entry, Refused) else entry
    if not isinstance(event, ConfigSeen):
        return None
    kind = event.document.origin.kind
    return event.document if kind == "ConfigMap" or event.document.problems else None


def _renamed(names: Iterable[str]) -> dict[str, str]:
    """Every name, and the one its object gets: those that may stay do so, whatever the others become."""
    found = list(names)
    kept = {name for name in found if object_name(name) == name}
    renamed: dict[str, str] = {}
    for name in found:
        renamed[name] = name if name in kept else object_name(name, kept | set(renamed.values()))
    return renamed


def _with_names(resource: Resource, pools: Mapping[str, str], profiles: Mapping[str, str]) -> Resource:
    match resource:
        case Pool():
            return evolve(resource, name=pools[resource.name])
        case BFDProfile():
            return evolve(resource, name=profiles[resource.name])
        case L2Advertisement() | BGPAdvertisement():
            return evolve(resource, pools=tuple(pools[name] for name in resource.pools))
        case BGPPeer():
            return evolve(resource, bfd_profile=profiles.get(resource.bfd_profile, resource.bfd_profile))
        case _:
            return resource


def _notes(
    document: ConfigDocument, resource: Resource, pools: Mapping[str, str], profiles: Mapping[str, str]
) -> Iterable[Problem]:
    origin = document.origin
    if isinstance(resource, Pool) and pools[resource.name] != resource.name:
        text = f"{resource.name!r} is no name of an object; it is {pools[resource.name]!r} now: change the annotation "
        yield origin.problem(f"{resource.path}.name", f"{text}address-pool of Services that ask for it")
    if isinstance(resource, BFDProfile) and profiles[resource.name] != resource.name:
        text = f"{resource.name!r} is no name of an object; it is {profiles[resource.name]!r} now, for the peers too"
        yield origin.problem(f"{resource.path}.name", text)
    if isinstance(resource, BGPPeer) and resource.password:
        text = "stands in the open, as before; a Secret of type kubernetes.io/basic-auth and passwordSecret hide it"
        yield origin.problem(f"{resource.path}.password", text)

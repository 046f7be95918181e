"""Your own manifests as values, read and judged as `lbcore check` does; the one file here that touches a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from lbcore.backends.manifests import text_of
from lbcore.backends.paths import manifests_in
from lbcore.config import Config, InvalidConfig, build
from lbcore.daemons.checking import Entry, check, entries_of
from lbcore.errors import LbcoreError, Problem
from lbcore.events import ConfigSeen, NamespaceSeen, NodeSeen, ServiceSeen, SliceSeen
from lbcore.model import EndpointSlice, Namespace, Node, Service

__all__ = ["Manifests", "UnsoundManifestsError", "load"]


class UnsoundManifestsError(LbcoreError):
    """Manifests that `lbcore check` would refuse; `problems` says all that is wrong."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@frozen(kw_only=True)
class Manifests:
    """What folders of manifests describe: the configuration they make, and their objects as written."""

    config: Config
    services: tuple[Service, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    nodes: tuple[Node, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()


def load(*paths: Path | str) -> Manifests:
    """Read files and folders (every .yaml, .yml and .json in them), all together one cluster.

    A Service holds what its `status.loadBalancer` says. Raises `UnsoundManifestsError` for whatever
    `lbcore check` would refuse, `ManifestError` for a file that is no text, `OSError` for a path that
    cannot be read.
    """
    entries = [entry for path in paths for entry in _entries(Path(path))]
    problems = check(entries)
    seen = [entry for _, entry in entries]
    config = build(event.document for event in seen if isinstance(event, ConfigSeen))
    if problems or isinstance(config, InvalidConfig):
        raise UnsoundManifestsError(problems)
    return Manifests(
        config=config,
        services=tuple(event.service for event in seen if isinstance(event, ServiceSeen)),
        namespaces=tuple(event.namespace for event in seen if isinstance(event, NamespaceSeen)),
        nodes=tuple(event.node for event in seen if isinstance(event, NodeSeen)),
        slices=tuple(event.slice for event in seen if isinstance(event, SliceSeen)),
    )


def _entries(path: Path) -> Iterator[Entry]:
    for file in manifests_in(path):
        yield from entries_of(text_of(file, str(file)), str(file))

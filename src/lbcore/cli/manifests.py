"""Manifests that somebody names on a command line, read as they are or as an API server would have them afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from attrs import define, field

from lbcore.adapters.kubernetes.applying import ObjectName, applied
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, unusable
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.listing import SOURCE, Listing
from lbcore.backends.manifests import decoded, text_of
from lbcore.backends.paths import manifests_in
from lbcore.daemons.checking import Entry, entries_of
from lbcore.errors import ManifestError
from lbcore.events import ConfigSeen

__all__ = ["Applying", "entries_in"]


@define
class Applying:
    """What `kubectl apply` of manifests would make of the objects of an API server. `touched` are those it changes."""

    access: Access
    listing: Listing
    namespace: str
    touched: set[ObjectName] = field(factory=set)

    def entries_in(self, path: Path) -> Iterator[Entry]:
        """What a path's documents would say then; what has no effect where it stands is warned of. Raises `OSError`."""
        for source, entry in entries_in(path, lambda document: applied(document, self._there, self.namespace)):
            if self._counts(entry):
                yield source, entry

    def untouched(self) -> Iterator[Entry]:
        """What the API server's other objects say."""
        yield from ((SOURCE, entry) for entry in self.listing.entries(without=frozenset(self.touched)))

    def _there(self, name: ObjectName) -> dict[str, object] | None:
        self.touched.add(name)
        return self.listing.find(name)

    def _counts(self, entry: Seen | Ignored | Refused) -> bool:
        """Whether lbcore would look at it: at its own kinds in one namespace only, as MetalLB."""
        event = entry.event if isinstance(entry, Refused) else entry
        if not isinstance(event, ConfigSeen) or event.document.origin.namespace in ("", self.access.namespace):
            return True
        where = f"only what is in namespace {self.access.namespace} has an effect; set metadata.namespace"
        click.echo(f"warning: {event.document.origin.source}: {event.document.origin}: {where}", err=True)
        return False


def entries_in(path: Path, placed: Callable[[object], object] | None = None) -> Iterator[Entry]:
    """What the documents of a file, a folder or `-` (standard input) hold. Raises `OSError`."""
    if str(path) == "-":
        yield from _read("standard input", None, placed)
        return
    for file in manifests_in(path):
        yield from _read(str(file), file, placed)


def _read(name: str, file: Path | None, placed: Callable[[object], object] | None) -> Iterator[Entry]:
    try:
        text = text_of(file, name) if file is not None else decoded(sys.stdin.buffer.read(), name)
    except ManifestError as error:
        yield name, unusable(error.problem)
        return
    yield from entries_of(text, name) if placed is None else entries_of(text, name, placed)

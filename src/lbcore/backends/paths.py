"""Files that somebody names on a command line: the manifests they are, or the folders hold. Read once, not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lbcore.backends.folder import is_manifest

__all__ = ["manifests_in"]


def manifests_in(path: Path) -> Iterator[Path]:
    """The file itself, whatever its name; of a folder every manifest that a daemon would read, in order of the paths.

    Raises `OSError` for a path, or a folder inside it, that is not there or cannot be read.
    """
    if not path.is_dir():
        path.stat()
        yield path
        return
    yield from _inside(path, frozenset())


def _inside(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a symbolic link that leads in a circle
    with os.scandir(folder) as entries:
        shown = sorted(
            (entry for entry in entries if not entry.name.startswith((".", "#"))), key=lambda each: each.name
        )
    for entry in shown:
        if entry.is_dir():
            yield from _inside(Path(entry.path), above | {here})
        elif is_manifest(entry.name):
            yield Path(entry.path)

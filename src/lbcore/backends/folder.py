"""A folder of manifests, looked at again and again: what changed since the last look, as events.

Synchronous and without a clock of its own (`now` is an argument); `lbcore.backends.files` decides
when to look and carries the events. Nothing here writes.

The rules that keep addresses alive: an object goes only when its file says so. A file that cannot
be read, a document that cannot be parsed, a folder that is not there: what they told before stays,
and a problem is told. A file that vanished or became empty is given a moment first, because many
programs replace a file by removing or emptying it before they write it. And what is new is told
before what is gone, so that a pool that moved to another file is at no moment missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from sys import intern

import attrs

from lbcore.adapters.kubernetes.changes import OBJECT_KINDS, gone, kind_of, kind_of_refused
from lbcore.adapters.kubernetes.documents import Ignored, Seen
from lbcore.backends.manifests import SUFFIXES, Manifest, Signature, signature_of
from lbcore.backends.statuses import StatusReader, read_drained
from lbcore.errors import Problem
from lbcore.events import ConfigSeen, DrainsSeen, Event, Kind, ManifestRefused, ServiceSeen

__all__ = ["FolderReader", "is_manifest"]

# An editor that saves by renaming leaves the name free for well under a millisecond, `git checkout`
# for a few. `helm template > file` leaves the file empty until helm has worked it out.
GRACE_VANISHED = 0.25
GRACE_EMPTIED = 2.0

Subject = tuple[str, str]


def is_manifest(name: str) -> bool:
    """Whether a file with this name is read: by its suffix, and not hidden, and no editor's own."""
    return name.endswith(SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "#"))


class FolderReader:
    """Reads a folder for one source, which wants to be told of `kinds`.

    `on_note` hears of documents that have no effect; it is called from whichever thread looks.
    """

    def __init__(self, root: Path, kinds: frozenset[Kind], on_note: Callable[[Ignored], None]) -> None:
        self._root = str(root)
        self.kinds = kinds
        self._on_note = on_note
        self._statuses = StatusReader(root)
        self._manifests: dict[str, Manifest] = {}
        self._fading: dict[str, float] = {}  # files that vanished or became empty, and when that is believed
        self._defined_in: dict[str, list[Subject]] = {}
        self._definitions: dict[Subject, tuple[tuple[str, Seen], ...]] = {}
        self._told: dict[Subject, Seen] = {}
        self._home: dict[Subject, str] = {}  # the file that an object was last told from
        self._at_home: dict[str, set[Subject]] = {}
        self._twice: dict[Subject, list[Problem]] = {}
        self._touched: set[Subject] = set()
        self._trouble = ""
        self._drained: frozenset[str] = frozenset()
        self.listed = False

    @property
    def look_again_at(self) -> float | None:
        """When the next vanished file is to be believed; None when there is none."""
        return min(self._fading.values(), default=None)

    def tells(self, name: str, kind: str = "service") -> bool:
        """Whether a Service or another object (`namespace/name`) exists, as far as this source knows."""
        return (kind, name) in self._told

    @property
    def is_whole(self) -> bool:
        """Whether every manifest could be read, so that what is not told is not there."""
        return not (self._trouble or self._fading or any(each.refused for each in self._manifests.values()))

    def orphans(self) -> list[str]:
        """Services that have a status and no manifest; none while any manifest cannot be read."""
        if not self.is_whole:
            return []
        return sorted(name for name in self._statuses.names if not self.tells(name))

    def look(self, now: float, changed: Collection[str] | None = None) -> Iterator[Event | None]:
        """What changed: in all the folder, or in the files named in `changed` (absolute paths).

        Yields None now and then, where the caller may stop to do something else: a large folder
        takes seconds. `listed` is true once a look has reached the folder and told all.
        """
        if changed is not None and not all(self._is_plain(path) for path in changed):
            changed = None
        try:
            present, missing = self._walk() if changed is None else self._named(changed)
        except OSError as error:
            yield from self._without_root(error)
            return
        self._trouble = ""
        for path in sorted(present):
            known = self._manifests.get(path)
            if known is None or known.signature != present[path] or changed is not None or path in self._fading:
                yield from self._read(path, present[path], now)
        for path in sorted(missing - self._fading.keys()):
            self._fading[path] = now + GRACE_VANISHED
            self._define(path, ())
        self._let_go(now)
        if Kind.SERVICES in self.kinds:
            yield from self._look_at_statuses(changed)
        yield from self._tell()
        if Kind.NODES in self.kinds and self._drained != (drained := read_drained(Path(self._root))):
            self._drained = drained
            yield DrainsSeen(drained)
        self.listed = True

    # Finding files.

    def _is_plain(self, path: str) -> bool:
        """Whether looking at this path alone tells what changed: not so for a folder, or a link somewhere hidden."""
        if self._statuses.covers(path):
            return path.endswith(".json")
        inside = path[len(self._root) + 1 :].split("/")
        return is_manifest(inside[-1]) and not any(_is_hidden(part) for part in inside)

    def _walk(self) -> tuple[dict[str, Signature], set[str]]:
        """Every manifest in the folder, and the known ones that are no more."""
        present: dict[str, Signature] = {}
        unreadable: list[str] = []
        waiting, visited = [self._root], set()
        while waiting:
            folder = waiting.pop()
            try:
                status = Path(folder).stat()
                if (status.st_dev, status.st_ino) in visited:
                    continue  # a symbolic link that leads in a circle
                visited.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    shown = [entry for entry in entries if not _is_hidden(entry.name)]
            except OSError as error:
                if folder == self._root:
                    raise
                if not isinstance(error, FileNotFoundError):
                    unreadable.append(folder + os.sep)
                continue
            for entry in shown:
                if entry.is_dir():
                    waiting.append(entry.path)
                elif is_manifest(entry.name) and (signature := signature_of(entry.path)):
                    present[entry.path] = signature
        absent = self._manifests.keys() - present.keys()
        return present, {path for path in absent if not path.startswith(tuple(unreadable))}

    def _named(self, changed: Iterable[str]) -> tuple[dict[str, Signature], set[str]]:
        Path(self._root).stat()
        present: dict[str, Signature] = {}
        absent: set[str] = set()
        for path in changed:
            if self._statuses.covers(path):
                continue
            if signature := signature_of(path):
                present[path] = signature
            elif path in self._manifests:
                absent.add(path)
        return present, absent

    def _without_root(self, error: OSError) -> Iterator[Event]:
        trouble = f"the folder cannot be read ({error.strerror}); what was read before stays in force until it can"
        if self._trouble != trouble:
            self._trouble = trouble
            yield ManifestRefused(Problem(source=_shown(self._root), object="", field="", message=trouble))

    # Reading files.

    def _read(self, path: str, signature: Signature, now: float) -> Iterator[Event | None]:
        known = self._manifests.get(path)
        fresh = Manifest(path, self._name(path), signature)
        for _ in fresh.read(known.by_digest if known else {}):
            yield None
        self._manifests[path] = fresh
        if fresh.blank and self._at_home.get(path):
            self._fading.setdefault(path, now + GRACE_EMPTIED)
        elif not fresh.blank:
            self._fading.pop(path, None)
        self._define(path, fresh.seen + [each.event for each in fresh.refused if isinstance(each.event, ConfigSeen)])
        yield from self._tell_refusals(fresh, known)

    def _tell_refusals(self, fresh: Manifest, known: Manifest | None) -> Iterator[Event]:
        for each in fresh.refused:
            kind = kind_of_refused(each)
            wanted = kind is None or kind in self.kinds
            if isinstance(each.event, ManifestRefused) and wanted and (known is None or each not in known.refused):
                yield each.event
        for note in fresh.ignored:
            if known is None or note not in known.ignored:
                self._on_note(note)

    def _define(self, path: str, seen: Iterable[Seen]) -> None:
        """Let a file define these objects and no others."""
        self._touched |= self._at_home.get(path, set())
        for subject in set(self._defined_in.pop(path, ())):
            self._definitions[subject] = tuple(entry for entry in self._definitions[subject] if entry[0] != path)
            self._touched.add(subject)
        wanted = [(subject, each) for each in seen if kind_of(subject := _subject_of(each)) in self.kinds]
        for subject, each in wanted:
            self._definitions[subject] = (*self._definitions.get(subject, ()), (path, each))
            self._touched.add(subject)
        self._defined_in[path] = [subject for subject, _ in wanted]

    def _let_go(self, now: float) -> None:
        for path in [path for path, until in self._fading.items() if until <= now]:
            del self._fading[path]
            self._touched |= self._at_home.get(path, set())
            if signature_of(path) is None:
                self._manifests.pop(path, None)

    def _look_at_statuses(self, changed: Collection[str] | None) -> Iterator[Event | None]:
        for found in self._statuses.look(changed):
            if isinstance(found, str):
                self._touched.add(("service", found))
            else:
                yield found

    # Telling.

    def _tell(self) -> Iterator[Event | None]:
        touched = sorted(self._touched, key=lambda subject: (OBJECT_KINDS.index(kind_of(subject)), subject))
        self._touched = set()
        ended = []
        for subject in touched:
            definitions = self._definitions.get(subject, ())
            if definitions:
                yield from self._tell_seen(subject, definitions)
                continue
            self._definitions.pop(subject, None)
            if subject in self._told and not self._is_kept(subject):
                ended.append(subject)
            elif subject[0] == "service" and subject in self._told:
                yield from self._tell_if_new(subject, self._told[subject])
        for subject in ended:
            self._twice.pop(subject, None)
            self._settle(subject, None)
            yield gone(self._told.pop(subject))

    def _tell_seen(self, subject: Subject, definitions: tuple[tuple[str, Seen], ...]) -> Iterator[Event]:
        (path, seen), *others = sorted(definitions, key=_path_of) if len(definitions) > 1 else definitions
        problems = [self._twice_problem(seen, path, other) for other, _ in others]
        known = self._twice.pop(subject, [])
        if problems:
            self._twice[subject] = problems
        self._settle(subject, path)
        if problems and isinstance(seen, ConfigSeen):
            document = seen.document
            seen = ConfigSeen(attrs.evolve(document, problems=document.problems + tuple(problems)))
        else:
            for problem in problems:
                if problem not in known:
                    yield ManifestRefused(problem)
        yield from self._tell_if_new(subject, seen)

    def _tell_if_new(self, subject: Subject, seen: Seen) -> Iterator[Event]:
        if isinstance(seen, ServiceSeen):
            seen = ServiceSeen(self._statuses.held_by(seen.service))
        if self._told.get(subject) != seen:
            self._told[subject] = seen
            yield seen

    def _twice_problem(self, seen: Seen, path: str, other: str) -> Problem:
        kind = {"slice": "EndpointSlice"}.get(seen.subject[0], seen.subject[0].capitalize())
        about = seen.subject[1] if isinstance(seen, ConfigSeen) else f"{kind} {seen.subject[1]}"
        where = "twice in this file" if path == other else f"here and in {self._name(path)}, which counts"
        return Problem(
            source=self._name(other), object=about, field="metadata.name", message=f"is defined {where}; take one out"
        )

    def _is_kept(self, subject: Subject) -> bool:
        """Whether an object that nobody defines any more may only be unreadable."""
        home = self._home.get(subject, "")
        if home in self._fading:
            return True
        refused = self._manifests[home].refused if home in self._manifests else []
        return any(each.subject is None or each.subject == subject for each in refused)

    def _settle(self, subject: Subject, home: str | None) -> None:
        """Note which file an object is told from."""
        before = self._home.get(subject)
        if before == home:
            return
        if before is not None:
            del self._home[subject]
            self._at_home[before].discard(subject)
            if not self._at_home[before]:
                del self._at_home[before]
        if home is not None:
            self._home[subject] = home
            self._at_home.setdefault(home, set()).add(subject)

    def _name(self, path: str) -> str:
        return _shown(os.path.relpath(path, self._root))


def _path_of(definition: tuple[str, Seen]) -> str:
    return definition[0]


def _subject_of(seen: Seen) -> Subject:
    kind, name = seen.subject
    return kind, intern(name)  # one copy for manifests and statuses


def _shown(path: str) -> str:
    """A path as text that can be printed, whatever bytes the file system holds."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

"""One file of manifests: its bytes -> what each of its documents tells, or why it cannot be used.

Whatever is wrong with a file ends in a `Refused`, never in an exception: one bad file, or one bad
document in it, does not take the others down.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import define, field

from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, parse_json_chunk, read_chunk, unusable
from lbcore.adapters.kubernetes.text import Chunk, parse, split
from lbcore.errors import ManifestError, Problem
from lbcore.events import ConfigSeen

__all__ = ["MOST_BYTES", "SUFFIXES", "Manifest", "Signature", "decoded", "signature_of", "text_of"]

SUFFIXES = (".yaml", ".yml", ".json")
MOST_BYTES = 64 << 20  # of one file: 100,000 Services as people write them are about 40 MB
_TOO_LARGE = f"is larger than {MOST_BYTES >> 20} MiB; split it"
BREATH = 200  # documents between two chances for the caller to do something else: about 20 ms

Signature = tuple[int, int, int]


def signature_of(path: str) -> Signature | None:
    """What changes when a file does: mtime, size and inode, of what a link points at. None: no regular file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - 10,000 Path objects take longer than 10,000 calls of stat
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino) if stat.S_ISREG(status.st_mode) else None


@define
class Manifest:
    """What one file says: objects seen, documents refused, and what has no effect."""

    path: str
    name: str  # relative to the folder, as problems show it
    signature: Signature
    seen: list[Seen] = field(factory=list)
    refused: list[Refused] = field(factory=list)
    ignored: list[Ignored] = field(factory=list)
    by_digest: dict[bytes, tuple[Seen, ...]] = field(factory=dict)
    blank: bool = False

    def read(self, known: Mapping[bytes, tuple[Seen, ...]]) -> Iterator[None]:
        """Read the file; `known` is `by_digest` of an earlier reading, whose documents are not parsed again.

        Yields now and then where the caller may stop to do something else.
        """
        text = self._text()
        if text is None:
            return
        self.blank = not text.strip()
        if self.name.endswith(".json"):
            self._take(read_chunk(Chunk(1, 1, text), self.name, parse_json_chunk))
            return
        chunks = list(split(text))
        for chunk in chunks:
            digest = hashlib.blake2b(chunk.text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if digest in known:
                self.seen += known[digest]
                self.by_digest[digest] = known[digest]
            else:
                source = self.name if len(chunks) == 1 else f"{self.name}#{chunk.number}"
                self._take(read_chunk(chunk, source, parse), digest)
            if chunk.number % BREATH == 0:
                yield

    def _take(self, entries: Iterator[Seen | Ignored | Refused], digest: bytes | None = None) -> None:
        seen: list[Seen] = []
        can_be_kept = True
        for entry in entries:
            if isinstance(entry, Refused):
                self.refused.append(entry)
            elif isinstance(entry, Ignored):
                self.ignored.append(entry)
            else:
                seen.append(entry)
                # Configuration remembers its document's number, which changes when one is put before it.
                can_be_kept = can_be_kept and not isinstance(entry, ConfigSeen)
                continue
            can_be_kept = False
        self.seen += seen
        if digest is not None and can_be_kept:
            self.by_digest[digest] = tuple(seen)

    def _text(self) -> str | None:
        if self.signature[1] > MOST_BYTES:
            self._refuse(_TOO_LARGE)
            return None
        try:
            return text_of(Path(self.path), self.name)
        except FileNotFoundError:
            self.blank = True  # removed since it was found
        except OSError as error:
            self._refuse(f"cannot be read ({error.strerror})")
        except ManifestError as error:
            self.refused.append(unusable(error.problem))
        return None

    def _refuse(self, message: str) -> None:
        self.refused.append(unusable(Problem(source=self.name, object="", field="", message=message)))


def text_of(path: Path, name: str) -> str:
    """The text of a file that problems call `name`. Raises `OSError`, and `ManifestError` where it can be no text."""
    with path.open("rb") as file:
        return decoded(file.read(MOST_BYTES + 1), name)


def decoded(data: bytes, name: str) -> str:
    """The text in the bytes of a file. Raises `ManifestError`."""
    if len(data) > MOST_BYTES:
        raise ManifestError(Problem(source=name, object="", field="", message=_TOO_LARGE))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
        raise ManifestError(Problem(source=name, object="", field="", message=text)) from None

"""Names that we give things in a configuration: hashes, so that no user's text is ever part of one."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["digest"]


def digest(*parts: object) -> str:
    """A short name for some values, in hexadecimal; the same for the same values."""
    text = "\0".join(part if isinstance(part, str) else repr(part) for part in parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

"""Names that we give things in a configuration: hashes, so that no user's text is ever part of one."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["DYNAMIC", "DYNAMIC_GRPC", "PAIR", "digest"]

# The blocks whose peers Lua chooses, of what is sent in the clear: apart, so that no connection of one is taken for the
# other. What is sent by TLS has a block for each upstream: a connection that is kept was verified for one name.
DYNAMIC, DYNAMIC_GRPC = "lbcore_dynamic", "lbcore_dynamic_grpc"
PAIR = ".pair"  # what names of links end in that lead to a certificate and its key


def digest(*parts: object) -> str:
    """A short name for some values, in hexadecimal; the same for the same values."""
    text = "\0".join(part if isinstance(part, str) else repr(part) for part in parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

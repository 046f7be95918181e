"""The encryption key that MetalLB makes of the Secret `memberlist`: what lbcore must share to be let in."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["metallb_key"]


def metallb_key(secret: bytes) -> bytes | None:
    """The AES-256 key for the content of `secretkey`, untrimmed; None for an empty one: no encryption.

    MetalLB means to hash the secret, but asks a hash that was given nothing: Go's `Sum(secret)` appends to its
    argument. So the key is the first 32 bytes of the secret followed by the SHA-256 of nothing
    (MetalLB since 0.14.2; earlier releases took 16 bytes and speak to no later one).
    """
    return (secret + sha256(b"").digest())[:32] if secret else None

"""What the options name: ConfigMaps of headers, and a Secret with parameters of Diffie-Hellman.

None of them is an access control: what is missing or bad is left out, and said.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from attrs import evolve

from lbcore.annotations.maps import answered_one, read_some, sent_one
from lbcore.ingress import ConfigMap, ObjectKey, Secret
from lbcore.proxy import Options

__all__ = ["named_by", "resolve"]

_DH_KEY = "dhparam.pem"
_PEM = re.compile(rb"-----BEGIN DH PARAMETERS-----([A-Za-z0-9+/=\s]{1,8000})-----END DH PARAMETERS-----\s*")
# OpenSSL refuses less than 2,048 bits at its usual level, and nginx with it everybody's configuration.
_LEAST_BITS, _MOST_BITS = 2048, 8192


def named_by(options: Options) -> frozenset[ObjectKey]:
    """The objects that options name."""
    found = (options.sent_from, options.added_from, options.dh_param_from)
    return frozenset(each for each in found if each is not None)


def resolve(
    options: Options, maps: Mapping[ObjectKey, ConfigMap], secrets: Mapping[ObjectKey, Secret]
) -> tuple[Options, tuple[str, ...]]:
    """The options with what those objects hold, and a sentence for all that they do not."""
    problems: list[str] = []

    def data(name: str, key: ObjectKey) -> Mapping[str, str]:
        found = maps.get(key)
        if found is None:
            problems.append(f"{name}: there is no ConfigMap {key}, or it is very large")
        return found.data if found is not None else {}

    if options.sent_from is not None:
        sent, bad = read_some(data("proxy-set-headers", options.sent_from), sent_one)
        problems += [f"proxy-set-headers: {each}" for each in bad]
        options = evolve(options, sent=sent)
    if options.added_from is not None:
        added, bad = read_some(data("add-headers", options.added_from), answered_one)
        problems += [f"add-headers: {each}" for each in bad]
        options = evolve(options, added=added)
    if options.dh_param_from is not None:
        secret = secrets.get(options.dh_param_from)
        try:
            options = evolve(options, dh_param=_dh_param(secret.data.get(_DH_KEY, b"") if secret is not None else b""))
        except ValueError as error:
            problems.append(f"ssl-dh-param: Secret {options.dh_param_from}: {error}")
    return options, tuple(problems)


def _dh_param(data: bytes) -> bytes:
    """PKCS #3 parameters (PEM, RFC 7468) as they are, if OpenSSL would take them: a prime of enough bits, a generator.

    Raises `ValueError`.
    """
    found = _PEM.fullmatch(data.strip())
    if found is None:
        raise ValueError(f"no DH PARAMETERS in its key {_DH_KEY}")
    try:
        prime, generator = _integers(base64.b64decode(b"".join(found[1].split()), validate=True))[:2]
    except (ValueError, IndexError):
        raise ValueError(f"the parameters in its key {_DH_KEY} cannot be read") from None
    if not _LEAST_BITS <= prime.bit_length() <= _MOST_BITS or prime % 2 == 0 or not 1 < generator < prime - 1:
        raise ValueError(f"the parameters in its key {_DH_KEY} are none of {_LEAST_BITS} to {_MOST_BITS} bits")
    return data.strip() + b"\n"


def _integers(data: bytes) -> list[int]:
    """The INTEGERs of a SEQUENCE (X.690, 8.9 and 8.3). Raises `ValueError`, `IndexError`."""
    body, rest = _element(data, 0x30)
    found = []
    while body:
        content, body = _element(body, 0x02)
        found.append(int.from_bytes(content, signed=True))
    if rest or len(found) < 2:
        raise ValueError("no sequence of numbers")
    return found


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    if data[0] != tag:
        raise ValueError("another element")
    length, start = data[1], 2
    if length >= 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start])
    if not length or len(data) < start + length:
        raise ValueError("it ends early")
    return data[start : start + length], data[start + length :]

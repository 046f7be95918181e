"""Secret and ConfigMap (core/v1) -> their data; whether a Secret's certificate and key belong together.

What is in a Secret never goes into a message: only its keys do.
"""

from __future__ import annotations

import base64
import binascii

from immutables import Map

from lbcore.adapters.kubernetes.fields import Fields
from lbcore.ingress import Certificate, ConfigMap, ObjectKey, Secret

__all__ = ["read_config_map", "read_secret"]

MOST_BYTES = 1 << 20  # of one value: the API server takes no larger object


def read_secret(document: Fields, key: ObjectKey) -> Secret:
    """The Secret in a document whose name is known already; `stringData` goes over `data`, as on the API server."""
    data: dict[str, bytes] = {}
    encoded = document.child("data")
    for name, value in encoded.labels_quietly().items():
        try:
            data[name] = base64.b64decode("".join(value.split()), validate=True)
        except (ValueError, binascii.Error):
            encoded.fault(name[:80], "is not base64; use stringData for plain text")
    for name, value in document.child("stringData").labels_quietly().items():
        data[name] = value.encode("utf-8", "surrogatepass")
    return Secret(key=key, data=Map(data), certificate=_certificate(data))


def read_config_map(document: Fields, key: ObjectKey) -> ConfigMap:
    """The ConfigMap in a document whose name is known already."""
    return ConfigMap(key=key, data=document.labels("data"))


def _certificate(data: dict[str, bytes]) -> Certificate | str:
    if "tls.crt" not in data and "tls.key" not in data:
        return ""
    missing = [name for name in ("tls.crt", "tls.key") if not data.get(name)]
    if missing:
        return f"lacks {' and '.join(missing)}"
    try:
        from lbcore.adapters.certificates import read_pair  # noqa: PLC0415 - cryptography, for those who serve TLS
    except ImportError:
        return "cannot be read: install lbcore[ingress]"
    return read_pair(data["tls.crt"], data["tls.key"])

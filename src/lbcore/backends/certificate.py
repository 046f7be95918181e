"""The certificate of a server: `tls.crt` and `tls.key` in a folder, as a mounted Secret has them, and followed.

Looked at whenever a client connects: a rotated certificate counts from the next connection on, and no timer runs.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lbcore.backends.troubles import Troubles

__all__ = ["ServedCertificate"]

_FILES = ("tls.crt", "tls.key")
_KNOWN_AS = "certificate"


class ServedCertificate:
    """`context` is for a server, and serves the newest pair that could be read. `say` hears of one that cannot."""

    def __init__(self, folder: Path, *, least: ssl.TLSVersion, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._least = least
        self._troubles = Troubles(say)
        self._stamp: tuple[object, ...] = ()
        self._current: ssl.SSLContext | None = None
        self._expires = 0.0
        self.context = self._empty()
        # Called for every handshake, with or without a server's name.
        self.context.sni_callback = self._choose

    def missing(self) -> str | None:
        """Why nobody can connect; None while all is well."""
        why = self._refresh()
        if self._current is None:
            return why
        if time.time() > self._expires:
            return f"the certificate in {self._folder} has expired"
        return None

    def _choose(self, handshake: Any, _name: str | None, _context: ssl.SSLContext) -> int | None:
        self._refresh()
        if self._current is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR)
        handshake.context = self._current
        return None

    def _refresh(self) -> str | None:
        """Read the pair again where the files are not those of last time; why that cannot be done."""
        paths = [self._folder / name for name in _FILES]
        try:
            stats = [path.stat() for path in paths]
            stamp = tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in stats)
            if stamp == self._stamp:
                return None
            context = self._empty()
            # A passphrase that is none, since OpenSSL would ask for one on the terminal.
            context.load_cert_chain(paths[0], paths[1], password="")
            self._expires = _expiry(paths[0])
            self._current, self._stamp = context, stamp
        except (OSError, ValueError) as error:
            why = _why(self._folder, error)
            self._troubles.note(_KNOWN_AS, why if self._current is None else f"{why}; the old one is served on")
            return why
        self._troubles.note(_KNOWN_AS, None)
        return None

    def _empty(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._least
        return context


def _expiry(path: Path) -> float:
    """Until when the first certificate of a file is valid, in seconds since 1970."""
    from cryptography import x509  # noqa: PLC0415 - 10 MB, for those who serve by TLS

    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()


def _why(folder: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{folder} holds no {' and '.join(_FILES)}; mount a Secret of type kubernetes.io/tls there"
    if isinstance(error, ssl.SSLError):
        what = "do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "are no PEM certificate and key"
        return f"{' and '.join(_FILES)} in {folder} {what}"
    return f"{folder}: {getattr(error, 'strerror', None) or error}"

"""A named Unix socket between processes of one machine, without asyncio: the reflex process's end.

The name is owned by who holds the lock beside it: the kernel lets go of a lock when its process
dies, however it dies, so that a stale socket file is told from a living process without guessing.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from lbcore.adapters.reflex import Lines, Message, decode, encode
from lbcore.errors import LbcoreError

__all__ = ["Connection", "HangupError", "Listener", "SocketTakenError"]

# Bytes taken at once: about 80 commands, so that a burst of them does not keep a frame waiting for
# more than a few milliseconds.
_READ = 8192
# Bytes that wait for a peer who does not read: a Hello with 100,000 addresses, and no second one.
_MAX_WAITING = 32 << 20


class SocketTakenError(LbcoreError):
    """Another living process owns this name."""


class HangupError(LbcoreError):
    """The peer is gone, or does not read what it is sent."""


class Listener:
    """A listening socket under `path`, for this user only (mode 0600), with `path.lock` held beside it.

    Raises `SocketTakenError` when another process owns the name, and `OSError` where the system does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_name(path.name + ".lock"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind()
        except BaseException:
            self._socket.close()
            os.close(self._lock)
            raise

    def _bind(self) -> None:
        self.path.unlink(missing_ok=True)
        # The mode comes from the mask, not from a chmod: there is no moment when others may connect.
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(self.path))
        finally:
            os.umask(mask)
        self._socket.listen(8)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when someone wants to connect."""
        return self._socket.fileno()

    def accept(self) -> Connection | None:
        """The next peer, or None when it has gone again."""
        try:
            accepted, _ = self._socket.accept()
        except OSError:
            return None
        return Connection(accepted)

    def close(self) -> None:
        """Give the name back."""
        self.path.unlink(missing_ok=True)
        self._socket.close()
        os.close(self._lock)


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SocketTakenError(f"{path} is locked: another reflex process lives here") from None
    return handle


class Connection:
    """Messages to and from one peer over a stream socket; never blocks."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.setblocking(False)
        self._lines = Lines()
        self._waiting = bytearray()

    def fileno(self) -> int:
        """Readable when the peer has said something, or is gone."""
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet; after a `flush`, wait until it is writable."""
        return len(self._waiting)

    def receive(self) -> list[Message]:
        """What the peer has said, a few kilobytes at most.

        Raises `HangupError` when it is gone and `RemoteProtocolError` when it makes no sense.
        """
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return []
        except OSError as error:
            raise HangupError(f"the connection broke: {error.strerror}") from None
        if not data:
            raise HangupError("the peer hung up")
        return [decode(line) for line in self._lines.feed(data)]

    def send(self, message: Message) -> None:
        """Put a message behind those that wait; `flush` sends them."""
        self._waiting += encode(message)

    def flush(self) -> None:
        """Send what the peer takes now. Raises `HangupError` when it is gone or has let too much pile up."""
        try:
            while self._waiting:
                del self._waiting[: self._socket.send(self._waiting)]
        except BlockingIOError:
            if len(self._waiting) > _MAX_WAITING:
                raise HangupError(f"the peer has let {len(self._waiting)} bytes pile up") from None
        except OSError as error:
            raise HangupError(f"the connection broke: {error.strerror}") from None

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

"""Asks an address for a page every few milliseconds and says which requests were answered, and when.

Run as a script (`python -I -S probe.py ADDRESS PORT INTERVAL TIMEOUT [fresh]`), so it imports the standard
library only, and in a process of its own, so that nothing else in the lab disturbs the sampling. With
`fresh` the neighbour entry of the address is deleted before each request: who has it is asked each time.
Each line of output is one request: when it was sent, when it ended (CLOCK_MONOTONIC, seconds; the
clock is the machine's, so others may compare), and 1 if it was answered or 0.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import struct
import sys
import time

__all__: list[str] = []

_LINK = "eth0"  # of every station of a lab
# linux/netlink.h, linux/rtnetlink.h and linux/neighbour.h: length, type, flags, number, sender; family, link; attribute
_DELETE = struct.Struct("=IHHIIBxxxiHBBHH")
_RTM_DELNEIGH, _NLM_F_REQUEST, _NDA_DST = 29, 1, 1

_REQUEST = b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n"
_OK = re.compile(rb"HTTP/1\.[01] 200 ")  # nginx answers with 1.1 in any case, Python's server with 1.0


class _Entry:
    """The neighbour entry of an address, for as long as somebody else makes one."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        length = _DELETE.size + len(packed)
        link, attribute = socket.if_nametoindex(_LINK), 4 + len(packed)
        head = (length, _RTM_DELNEIGH, _NLM_F_REQUEST, 0, 0, family, link, 0, 0, 0, attribute, _NDA_DST)
        self._request = _DELETE.pack(*head) + packed
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def delete(self) -> None:
        """Forget it; there may be none. The kernel answers only with errors, of which nobody wants to hear."""
        self._netlink.send(self._request)
        with contextlib.suppress(BlockingIOError):
            while self._netlink.recv(4096, socket.MSG_DONTWAIT):
                pass


class _Probe:
    """The requests under way, all waited for in one place: a slow one does not hold up the next."""

    def __init__(self, address: str, port: int, timeout: float) -> None:
        self._target = (address, port)
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._sent: dict[socket.socket, float] = {}

    def send(self) -> None:
        """Start one request."""
        start = time.monotonic()
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._sent[sock] = start
        try:
            sock.connect(self._target)
        except BlockingIOError:
            self._selector.register(sock, selectors.EVENT_WRITE)
        except OSError:
            self._end(sock, answered=False)

    def wait(self, until: float) -> None:
        """Serve what happens until a moment, then give up what is too old."""
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                self._progress(key.fileobj, writing=bool(key.events & selectors.EVENT_WRITE))
        now = time.monotonic()
        for sock in [sock for sock, start in self._sent.items() if start + self._timeout <= now]:
            self._end(sock, answered=False)

    def _progress(self, sock: socket.socket, *, writing: bool) -> None:
        try:
            if writing:
                sock.sendall(_REQUEST)
                self._selector.modify(sock, selectors.EVENT_READ)
            else:
                self._end(sock, answered=_OK.match(sock.recv(64)) is not None)
        except OSError:
            self._end(sock, answered=False)

    def _end(self, sock: socket.socket, *, answered: bool) -> None:
        start = self._sent.pop(sock)
        with contextlib.suppress(KeyError):
            self._selector.unregister(sock)
        sock.close()
        print(f"{start:.6f} {time.monotonic():.6f} {int(answered)}", flush=True)  # noqa: T201 - its output is its product


def main(address: str, port: str, interval: str, timeout: str, *fresh: str) -> None:
    """Probe until killed, or until nobody reads the output."""
    probe = _Probe(address, int(port), float(timeout))
    entry = _Entry(address) if fresh else None
    following = time.monotonic()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        while True:
            if entry is not None:
                entry.delete()
            probe.send()
            following = max(following + float(interval), time.monotonic())
            probe.wait(following)


if __name__ == "__main__":
    main(*sys.argv[1:])

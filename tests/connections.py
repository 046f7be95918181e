"""Run as a script (`connections.py ADDRESS PORT`) at a client: new connections all the time beside ones that stay open.

Every 5 ms a new connection asks for a page and ends; before each the neighbour entry is deleted, so that a moment
in which nobody answers for the address shows. Twenty connections stay open and ask again and again. When standard
input ends it says as JSON what became of them. A connection is new until `connect` has ended; what breaks later
counts as one that was open.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import selectors
import socket
import subprocess
import sys
import time
from typing import Any

from attrs import define, field
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lbcore.addresses import Address
from lbcore.lab.errors import LabError
from lbcore.lab.namespaces import Namespace

__all__ = ["Connections"]

STAYING, INTERVAL, PATIENCE = 20, 0.005, 3.0  # connections; seconds
STEADY = 30.0  # seconds, several times what a busy machine takes
_ASK = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: %s\r\n\r\n"


class Connections:
    """The script at work in a namespace, from the first page on."""

    def __init__(self, client: Namespace, address: Address, port: int = 80, *, neighbour: bool = True) -> None:
        """`neighbour`: the address itself is on the segment, so that it has an entry to be deleted."""
        command = [sys.executable, __file__, str(address), str(port), *(["neighbour"] if neighbour else [])]
        self._process = client.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], STEADY)[0]:
            self._process.kill()
            self._process.wait()
            raise LabError(f"{address} did not hold {STAYING} connections open within {STEADY:g} s, before any fault")
        assert self._process.stdout.readline() == b"steady\n"

    def end(self) -> dict[str, int]:
        """What became of them: `made` and `failed` new ones, `late` ones (over 0.9 s), `cut` ones that broke after
        they were made, `open` ones and how many `broken`.
        """
        out, _ = self._process.communicate(timeout=30)
        found: dict[str, int] = json.loads(out)
        return found


@define
class _Run:
    target: tuple[str, int]
    family: socket.AddressFamily
    selector: selectors.DefaultSelector = field(factory=selectors.DefaultSelector)
    under_way: dict[socket.socket, tuple[float, str]] = field(factory=dict)
    counts: dict[str, int] = field(
        factory=lambda: dict.fromkeys(("made", "failed", "late", "cut", "open", "broken"), 0)
    )

    def begin(self, state: str) -> None:
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        self.under_way[sock] = (time.monotonic(), state)
        with contextlib.suppress(BlockingIOError):
            sock.connect(self.target)
        self.selector.register(sock, selectors.EVENT_WRITE)

    def end(self, sock: socket.socket, outcome: str = "") -> None:
        del self.under_way[sock]
        self.selector.unregister(sock)
        sock.close()
        if outcome:
            self.counts[outcome] += 1

    def serve(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for key, events in self.selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                self.progress(key.fileobj, writing=bool(events & selectors.EVENT_WRITE))
        now = time.monotonic()
        for sock, (since, state) in list(self.under_way.items()):
            if now - since > PATIENCE:
                self.end(sock, {"new": "failed", "made": "cut"}.get(state, "broken"))

    def progress(self, sock: socket.socket, *, writing: bool) -> None:
        since, state = self.under_way[sock]
        try:
            if writing:
                self.connected(sock, since, state)
            elif not sock.recv(65536):
                raise ConnectionResetError
            elif state == "made":
                self.end(sock)
            else:
                self.under_way[sock] = (time.monotonic(), "open")
                self.selector.modify(sock, selectors.EVENT_READ)
        except OSError as error:
            # A handshake that is refused ends with ECONNREFUSED. This one was complete, and reset before we looked:
            # its last packet took another way than its first, as the neighbour entry was new.
            made = state == "made" or (state == "new" and error.errno == errno.ECONNRESET)
            self.end(sock, "cut" if made else {"new": "failed"}.get(state, "broken"))

    def connected(self, sock: socket.socket, since: float, state: str) -> None:
        if (error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
            raise OSError(error, "connect")
        now = time.monotonic()
        if state == "new":
            self.counts["made"] += 1
            self.counts["late"] += now - since > 0.9
            self.under_way[sock] = (now, "made")
        sock.sendall(_ASK % (b"close" if state == "new" else b"keep-alive"))
        self.selector.modify(sock, selectors.EVENT_READ)

    def ask_again(self) -> None:
        for sock, (_, state) in list(self.under_way.items()):
            if state == "open":
                try:
                    sock.sendall(_ASK % b"keep-alive")
                except OSError:
                    self.end(sock, "broken")


def main(address: str, port: str, *neighbour: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    run: Any = _Run((address, int(port)), family)
    standing, said = selectors.DefaultSelector(), False
    standing.register(sys.stdin, selectors.EVENT_READ)
    with IPRoute() as ip:
        link = ip.link_lookup(ifname="eth0")[0]
        for _ in range(STAYING):
            run.begin("staying")
        turn = 0
        while not standing.select(0):
            # With its entry a packet that waits for the answer would go, too.
            if neighbour and not any(state == "new" for _, state in run.under_way.values()):
                with contextlib.suppress(NetlinkError):
                    ip.neigh("del", dst=address, ifindex=link)
            run.begin("new")
            run.serve(time.monotonic() + INTERVAL)
            turn += 1
            if turn % 10 == 0:
                run.ask_again()
            staying = sum(state == "open" for _, state in run.under_way.values())
            if not said and staying == STAYING and run.counts["made"] > 10:
                said = True
                run.counts["open"] = staying
                print("steady", flush=True)
    run.serve(time.monotonic() + 1.0)
    print(json.dumps(run.counts))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Hosts on one Ethernet as somebody sees, uses and disturbs them: what every lab has, whatever its cluster is.

The programs that run there are started from here; what they are to know (a folder, an API server) is the lab's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from lbcore.addresses import Address
from lbcore.lab.client import Answer, Requests, fetch, measure_requests
from lbcore.lab.errors import LabError
from lbcore.lab.namespaces import Namespace
from lbcore.lab.network import Neighbour, Network, Station

__all__ = ["Program", "Segment"]

T = TypeVar("T")

_UNKNOWN_STATES = frozenset({"FAILED", "INCOMPLETE", "NONE"})


class Program:
    """One of lbcore's daemons running in the lab; `log` is the file with all that it prints."""

    def __init__(self, name: str, space: Namespace, argv: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = space.spawn(argv, stdout=output, stderr=output)

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def stop(self, timeout: float = 10.0) -> int:
        """End it cleanly (SIGTERM) and return its exit code; raises `LabError` if it does not end."""
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {timeout:g} s of SIGTERM; its log is {self.log}") from None

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; what it started may live on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Segment:
    """Nodes, a switch and a client. `directory` is where logs go, `programs` are all that were started."""

    network: Network
    directory: Path
    programs: list[Program]

    # Who is there

    @property
    def nodes(self) -> Mapping[str, Station]:
        """The nodes by name: `n1`, `n2`, ..."""
        return self.network.nodes

    @property
    def client(self) -> Station:
        """The host from which one looks at the cluster: on the segment, but no part of it."""
        return self.network.client

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody should know who waits for something in vain."""
        return ()

    # Programs

    def start(self, name: str, space: Namespace, *arguments: str) -> Program:
        """Start `lbcore ARGUMENTS...` in a namespace, with its output in `directory/NAME.log`."""
        argv = [sys.executable, "-m", "lbcore.cli.main", *arguments]
        program = Program(name, space, argv, self.directory / f"{name}.log")
        self.programs.append(program)
        return program

    # Faults

    def cut(self, node: str) -> None:
        """Pull a node's cable: it loses carrier."""
        self.network.cut(node)

    def cut_silently(self, node: str) -> None:
        """Drop all frames from and to a node, which keeps its carrier and does not know."""
        self.network.cut_silently(node)

    def part(self, *nodes: str) -> None:
        """Put nodes on a segment of their own: they reach each other, and nobody else, the client included."""
        self.network.part(*nodes)

    def heal(self, node: str) -> None:
        """Plug the cable in again; a killed node's pods start again by themselves, its speaker does not."""
        self.network.heal(node)

    def kill(self, node: str) -> None:
        """Power off: every process of the node is killed and its cable is dead."""
        self.network.kill(node)

    def freeze(self, node: str) -> None:
        """Stop every process of the node where it is, as a hanging machine does."""
        self.network.freeze(node)

    def thaw(self, node: str) -> None:
        """Let a frozen node go on."""
        self.network.thaw(node)

    # At the client

    def curl(self, address: Address | str, *, port: int = 80, path: str = "/", timeout: float = 2.0) -> Answer:
        """What `curl` gets from an address, from the client, within `timeout` seconds."""
        return fetch(self.client.namespace, _address(address), port, path, timeout)

    def ping(self, address: Address | str, *, timeout: float = 1.0) -> bool:
        """Whether an address answers one `ping` from the client within `timeout` seconds."""
        argv = ["ping", "-n", "-c", "1", "-W", str(timeout), str(_address(address))]
        return self.client.namespace.run(argv, timeout=timeout + 10).returncode == 0

    def neighbours(self) -> dict[Address, Neighbour]:
        """The client's neighbour table (`ip neigh`)."""
        return self.network.neighbours()

    def flush_neighbours(self) -> None:
        """Empty the client's neighbour table."""
        self.network.flush_neighbours()

    def node_of(self, mac: str) -> str | None:
        """Whose MAC this is, or None."""
        return self.network.node_of(mac)

    def announcer(self, address: Address | str) -> str | None:
        """The node that the client's neighbour table has for an address, or None."""
        neighbour = self.neighbours().get(_address(address))
        if neighbour is None or neighbour.state in _UNKNOWN_STATES:
            return None
        return self.node_of(neighbour.mac)

    def outage(
        self,
        address: Address | str,
        during: Callable[[], object],
        *,
        port: int = 80,
        interval: float = 0.01,
        timeout: float = 0.1,
        settle: float = 1.0,
        limit: float = 30.0,
        fresh: bool = False,
    ) -> float:
        """How long, in seconds, the client was without an answer around `during()`: the longest time
        between two answers.

        A page is asked for every `interval` seconds, whether or not earlier requests have been
        answered, and each counts as lost after `timeout`; so without any fault it returns about
        `interval`. It ends when all was answered for `settle` seconds. `fresh`: before each request the
        client forgets who has the address, as hosts do that have not asked for it yet; so a speaker that
        is dead on a node whose kernel goes on forwarding shows. Raises `LabError` if the
        address did not answer before, or not steadily within `limit` seconds after.
        """
        times = {"interval": interval, "timeout": timeout, "settle": settle, "limit": limit}
        return measure_requests(
            self.client.namespace, _address(address), during, port=port, fresh=fresh, **times
        ).silence

    def requests(
        self, address: Address | str, during: Callable[[], object], *, port: int = 80, limit: float = 30.0
    ) -> Requests:
        """What became of new connections around `during()`, one every 10 ms, where several nodes may answer.

        One counts as lost that has no page after 0.9 s: before TCP tries again, so none is saved by that. It ends
        when all was answered for 1 s. Raises `LabError` as `outage` does.
        """
        times = {"interval": 0.01, "timeout": 0.9, "settle": 1.0, "limit": limit}
        return measure_requests(self.client.namespace, _address(address), during, port=port, fresh=False, **times)

    # Waiting

    def wait_until(self, condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
        """Wait for a condition to give something true, and return that; raises `LabError` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            self.check()
            if time.monotonic() > deadline:
                raise LabError(f"waited {timeout:g} s for {what} in vain" + "".join(f"; {note}" for note in self.notes))
            time.sleep(0.01)
        return result

    def check(self) -> None:
        """Raise what has ended a part of the lab, if anything has."""


def _address(given: Address | str) -> Address:
    return Address.parse(given) if isinstance(given, str) else given

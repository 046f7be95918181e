"""Members to mix: hashicorp's memberlist as a Go process, and ours with real sockets, turned by the test."""

from __future__ import annotations

import functools
import json
import os
import random
import selectors
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lbcore.adapters.detector.engine import Detector
from lbcore.adapters.memberlist.envelope import Envelope, Sealer
from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.addresses import Address
from lbcore.backends.gossip import Gossip
from lbcore.events import Event, MembersSeen
from lbcore.intents import SetPresence

__all__ = ["GoMember", "OurMember", "Wire", "go_program", "until"]

PORT = 7946
SOURCES = Path(__file__).parent / "interop" / "memberlist"


class Wire:
    """How all members of one cluster wrap what they say."""

    def __init__(self, *, key: bytes = b"", version: int = 1, label: str = "", compressed: bool = True) -> None:
        self.key = key
        self.version = version
        self.label = label
        self.compressed = compressed

    @property
    def envelope(self) -> Envelope:
        """Ours."""
        sealer = Sealer((self.key,), random.SystemRandom(), version=self.version) if self.key else None
        return Envelope(sealer=sealer, label=self.label.encode(), compressed=self.compressed, checked=True)

    @property
    def options(self) -> list[str]:
        """Those of the Go program. Its protocol version 1 is the one that encrypts by version 0."""
        return [
            f"-key={self.key.hex()}",
            f"-label={self.label}",
            f"-compress={str(self.compressed).lower()}",
            f"-version={2 if self.version else 1}",
        ]


@functools.cache
def go_program(folder: Path) -> Path:
    """The Go program, built once in a run; Go's own cache makes a second run short."""
    target = folder / "memberlist"
    go = shutil.which("go")
    assert go is not None
    subprocess.run([go, "build", "-o", str(target), "."], cwd=SOURCES, check=True, timeout=550)
    return target


def until(condition: Callable[[], bool], what: str, timeout: float = 20.0) -> float:
    """Wait for something true; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"waited {timeout:g} s in vain for {what}"
        time.sleep(0.01)
    return time.monotonic() - began


class GoMember:
    """hashicorp/memberlist in a process of its own; `before` is a command that runs it elsewhere."""

    def __init__(self, program: Path, name: str, address: str, wire: Wire, before: Sequence[str] = ()) -> None:
        self.name, self.address = name, address
        self.names: set[str] = set()
        self.left: list[str] = []
        self.health = 0
        self.joined: int | None = None
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [*before, str(program), f"-name={name}", f"-bind={address}", f"-port={PORT}", *wire.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._ready.wait(20), f"the Go member {name} did not start"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(json.loads(line))

    def _take(self, told: dict[str, Any]) -> None:
        match told:
            case {"event": "ready"}:
                self._ready.set()
            case {"event": "join", "name": name}:
                self.names.add(name)
            case {"event": "leave", "name": name}:
                self.names.discard(name)
                self.left.append(name)
            case {"answer": "members", "health": health}:
                self.health = health
            case {"answer": "join", "joined": joined}:
                self.joined = joined

    def say(self, *words: str) -> None:
        """One command."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        """Kill, stop or continue it."""
        os.kill(self._process.pid, number)

    def close(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class OurMember:
    """Our engine behind real sockets, turned by a thread of its own."""

    def __init__(self, name: str, address: str, wire: Wire, peers: Iterable[str] = (), *, fast: bool = True) -> None:
        self.name, self.address = name, address
        self.names: set[str] = set()
        self.left: list[str] = []
        self.said: list[str] = []
        self._selector = selectors.DefaultSelector()
        endpoint = Endpoint(Address.parse(address), PORT)
        envelope = wire.envelope
        life = random.getrandbits(62)
        self.engine = Detector(name, endpoint, rng=random.Random(), life=life, envelope=envelope, fast=fast)
        self._gossip = Gossip(
            self.engine,
            envelope,
            endpoint,
            selector=self._selector,
            clock=time.monotonic,
            report=self._report,
            say=self.said.append,
            peers=map(Address.parse, peers),
        )
        self._ending = False
        self._paused = threading.Event()
        self._paused.set()
        self._polite = True
        self._gossip.command(SetPresence(present=True, why="test"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _report(self, event: Event) -> None:
        if isinstance(event, MembersSeen):
            self.left += sorted(self.names - event.names)
            self.names = set(event.names)

    def _run(self) -> None:
        while not self._ending:
            wait = max(0.0, min(0.05, self._gossip.deadline - time.monotonic()))
            for key, events in self._selector.select(wait):
                key.data(events)
            self._gossip.tick()
            self._paused.wait()
        self._gossip.close(leave=self._polite)

    def pause(self) -> None:
        """Stand still."""
        self._paused.clear()

    def resume(self) -> None:
        """Go on."""
        self._paused.set()

    def close(self, *, politely: bool = False) -> None:
        """End it: with a word to the others, or without."""
        self._polite = politely
        self._ending = True
        self._paused.set()
        self._thread.join(5)

"""A lab with lbcore's daemons in it, shown on a screen: what every chapter of the demo does again and again.

Each thing that a chapter expects is waited for and checked; if it does not come, the step gets a
cross, the daemons' last words are shown, and a `LabError` says what failed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeVar

from lbcore.addresses import Address
from lbcore.errors import LbcoreError
from lbcore.lab.client import Answer
from lbcore.lab.cluster import Lab, Program
from lbcore.lab.demo.screen import Screen
from lbcore.lab.errors import LabError

__all__ = ["NETWORKS", "Findings", "SpeakerOptions", "Stage", "gossiping", "manifest", "on_stage", "own_command"]

T = TypeVar("T")
Findings = list[tuple[str, str]]  # what was shown, and what was seen
SpeakerOptions = Callable[[Lab, str], Sequence[str]]  # of `lbcore speaker`, for a lab and a node's name

NETWORKS = ("192.168.20.0/24", "fd00:20::/64")  # of the first cluster, and of the one to play with

_PATIENCE = 20.0  # seconds for what takes about one on an idle machine
_LOG_LINES = 8  # of each daemon, when something failed


def manifest(name: str) -> str:
    """The text of one of the demo's manifests, `first/pool.yaml`."""
    return resources.files("lbcore.lab.demo").joinpath("manifests", name).read_text(encoding="utf-8")


def own_command() -> str:
    """How to call lbcore from a terminal in this folder."""
    beside = Path(sys.executable).with_name("lbcore")
    if shutil.which("lbcore") is not None or not beside.exists():
        return "lbcore"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


class Stage:
    """A lab, the daemons that should be running in it, and the screen that shows what happens."""

    def __init__(self, lab: Lab, screen: Screen, findings: Findings, options: SpeakerOptions) -> None:
        self.lab = lab
        self.screen = screen
        self._findings = findings
        self._options = options
        self._running: dict[str, Program] = {}

    def found(self, what: str, result: str) -> None:
        """Remember a result for the summary at the end."""
        self._findings.append((what, result))

    # Daemons

    def start_daemons(self) -> None:
        """The controller and a speaker on every node; returns when the speakers know of each other."""
        self._running["controller"] = self.lab.start_controller()
        for node in self.lab.nodes:
            self.start_speaker(node)
        self.wait(lambda: all(map(self._sees_all, self.lab.nodes)), "the speakers to find each other")

    def _sees_all(self, node: str) -> bool:
        """Whether the last members that a speaker told of are all nodes."""
        told = [line for line in self.log_of(node) if " members " in line]
        return bool(told) and told[-1].endswith(f"names={','.join(sorted(self.lab.nodes))}")

    def start_speaker(self, node: str) -> None:
        """Start `lbcore speaker` on a node."""
        self._running[node] = self.lab.start_speaker(node, *self._options(self.lab, node))

    def start_ingress(self, node: str, *options: str) -> None:
        """Start `lbcore ingress` on a node."""
        self._running[f"ingress on {node}"] = self.lab.start_ingress(node, *options)

    def stop_speaker(self, node: str) -> None:
        """End a node's speaker cleanly (SIGTERM)."""
        self._running.pop(node).stop()

    def lose(self, node: str) -> None:
        """A node's power is gone, its speaker with it."""
        self._running.pop(node, None)
        self.lab.kill(node)

    def has_speaker(self, node: str) -> bool:
        """Whether a node's speaker runs."""
        return node in self._running and self._running[node].running

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until a condition gives something true; raises `LabError` when that takes too long or a daemon ends."""

        def look() -> T:
            for program in self._running.values():
                if not program.running:
                    raise LabError(f"lbcore's {program.name} has ended by itself")
            return condition()

        return self.lab.wait_until(look, what, _PATIENCE)

    # What a user does

    def apply(self, *names: str, show: bool = True) -> list[str]:
        """Show manifests as files, and put them into the cluster; returns a line for each object, as kubectl does."""
        lines: list[str] = []
        for name in names:
            text = manifest(name)
            if show:
                self.screen.file(name.rpartition("/")[2], text)
            lines.extend(self.lab.apply(text))
        return lines

    def lbcore(self, *arguments: str, show: bool = True) -> str:
        """Run `lbcore ARGUMENTS` on the cluster, show what it prints and return that."""
        argv = [sys.executable, "-m", "lbcore.cli.main", *arguments]
        there = os.environ | {"LBCORE_CLUSTER": str(self.lab.folder)}
        done = subprocess.run(argv, env=there, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if done.returncode != 0:
            raise LabError(f"lbcore {' '.join(arguments)} failed: {done.stderr.strip()}")
        if show:
            self.screen.command("", f"lbcore {' '.join(arguments)}", done.stdout)
        return done.stdout

    def addresses(self, service: str) -> tuple[Address, ...]:
        """A step: the Service gets its addresses."""
        with self.screen.step(f"Service {service} gets an address") as results:
            found = self.wait(lambda: self.lab.addresses(service), f"an address of Service {service}")
            results.extend(str(each) for each in found)
        return found

    def page(self, address: Address) -> Answer:
        """A step: the client gets a page from an address."""
        with self.screen.step(f"the client fetches a page from {address}") as results:
            answer = self.fetch(address)
            results.append(f"answered by {answer.served_by}")
        return answer

    def fetch(self, address: Address) -> Answer:
        """A page from an address, as soon as there is one; raises `LabError` with curl's own words if none comes."""
        last = Answer()

        def ask() -> Answer | None:
            nonlocal last
            last = self.lab.curl(address)
            return last if last.ok else None

        try:
            answer = self.wait(ask, f"a page from {address}")
        except LabError as error:
            raise LabError(f"{error}; curl says: {last.error or f'status {last.status}'}") from None
        assert answer is not None
        return answer

    def announcer(self, address: Address, *, other_than: str | None = None) -> str:
        """The node that the client's neighbour table has for an address, as soon as it is not `other_than`."""

        def look() -> str | None:
            node = self.lab.announcer(address)
            return None if node == other_than else node

        node = self.wait(look, f"a node to announce {address}")
        assert node is not None
        return node

    def announced_by(self, node: str, address: Address) -> str:
        """Wait until the client's neighbour table has this node for an address."""
        self.wait(lambda: self.lab.announcer(address) == node, f"{node} to announce {address}")
        return node

    def run(self, where: str, *argv: str, check: bool = True) -> str:
        """Run a program on the client or a node, show it, and return what it printed."""
        done = self.lab.network.station(where).namespace.run(argv, check=check)
        self.screen.command(f"{where} ", " ".join(argv), done.stdout)
        return done.stdout

    def log_of(self, node: str) -> list[str]:
        """All lines that the speaker of a node has written."""
        return (self.lab.directory / f"speaker-{node}.log").read_text(encoding="utf-8", errors="replace").splitlines()

    def show_logs(self) -> None:
        """The last lines of every daemon that was started here."""
        for name in dict.fromkeys(program.name for program in self.lab.programs):
            self.show_log(name, _LOG_LINES)

    def show_log(self, name: str, count: int) -> None:
        """The last lines that a daemon has written; one that was started again goes on in its log."""
        program = next(each for each in reversed(self.lab.programs) if each.name == name)
        lines = program.log.read_text(encoding="utf-8", errors="replace").splitlines()
        self.screen.log(f"{name} ({'runs' if program.running else 'has ended'}), its last lines:", lines[-count:])


def no_options(_lab: Lab, _node: str) -> Sequence[str]:
    """Speakers as they are by default: they know each other by records in the folder."""
    return ()


def gossiping(lab: Lab, node: str) -> Sequence[str]:
    """Speakers that find each other by the Node objects, and gossip with a secret that they share."""
    secret = lab.directory / "secretkey"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(32), encoding="ascii")
    return ("--membership", "gossip", "--bind-address", str(lab.nodes[node].addresses[0]), "--secret", str(secret))


@contextmanager
def on_stage(
    screen: Screen,
    findings: Findings,
    nodes: int,
    *networks: str,
    folder: Path | None = None,
    options: SpeakerOptions = no_options,
) -> Iterator[Stage]:
    """A lab with running daemons, gone afterwards. `networks` are one CIDR of each family at most, `folder` is
    the cluster's, else a temporary one. `options` are those of each node's speaker.

    Where something fails, the daemons' last words are shown before the error goes on.
    """
    with screen.step(f"{nodes} node{'s'[: nodes > 1]}, a switch and a client") as results:
        network, network6 = (*networks, None)[:2]
        lab = Lab(nodes, network, network6, folder)
        results.extend(networks)
    with lab:
        stage = Stage(lab, screen, findings, options)
        try:
            for note in lab.notes:
                screen.warn(note)
            with screen.step("lbcore's controller, and a speaker on each node"):
                stage.start_daemons()
            yield stage
        except (LbcoreError, OSError, subprocess.SubprocessError):
            stage.show_logs()
            raise

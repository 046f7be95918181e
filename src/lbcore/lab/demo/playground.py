"""`lbcore lab`: the demo's cluster to play with, driven by short commands, one a line.

Commands come from a terminal or from a pipe. A wrong one is explained and the next is taken; the end
of the input, `quit` or Ctrl-C ends the lab and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from attrs import frozen

from lbcore.addresses import Address, AddressRange
from lbcore.errors import AddressError, LbcoreError
from lbcore.lab.cluster import Lab
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import NETWORKS, Stage, manifest, on_stage, own_command
from lbcore.lab.errors import LabError
from lbcore.lab.network import Cable, Station
from lbcore.lab.privileges import entering

__all__ = ["play"]

_CLIENT = 10  # the host number of the client; the nodes follow
_PROMPT = "lab> "
_FIRST_OF_POOL = 20  # the host number where the pool begins, or a little above the nodes where these are many
_LAST_OF_POOL = 0xFFFF  # and where it ends, or the network before it
_LOG_LINES = 20


def play(nodes: int, networks: Sequence[str], folder: Path | None) -> None:
    """Make a lab, take commands from standard input until they end, and leave nothing behind.

    `networks` are one CIDR of each family at most; without any there is one of each. An empty or missing
    `folder` gets the demo's manifests, with a pool that fits the networks. Raises `LabError` or
    `AddressError` where that cannot be.
    """
    if len(networks) > len(NETWORKS):
        raise LabError("give one network of each family at most")
    screen = Screen()
    screen.title("lbcore lab: a cluster in network namespaces of this machine, to play with")
    with on_stage(screen, [], nodes, *(networks or NETWORKS), folder=folder) as stage:
        if not _has_services(stage.lab):
            _begin(stage)
        _Playground(stage).serve()


def _has_services(lab: Lab) -> bool:
    """Whether there is more in the folder than the lab has written itself."""
    return any(not each.name.startswith(("node_", ".")) for each in lab.folder.iterdir())


def _begin(stage: Stage) -> None:
    networks = stage.lab.network.plan.networks
    stage.lab.apply(_pools(networks, len(stage.lab.nodes)))
    stage.lab.apply(_service(networks))
    stage.addresses("nginx-service")
    with stage.screen.step("the pods are ready"):
        stage.lab.wait_for_pods(20)


def _service(networks: Sequence[AddressRange]) -> str:
    """The demo's Deployment and Service, of a family that the cluster has."""
    text = manifest("first/nginx.yaml")
    if any(network.version == 4 for network in networks):
        return text
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        if document["kind"] == "Service":
            document["spec"]["ipFamilies"] = ["IPv6"]  # the API server of a cluster without IPv4 fills this in
    return yaml.safe_dump_all(documents, sort_keys=False)


def _pools(networks: Sequence[AddressRange], nodes: int) -> str:
    """A pool on the segment's networks, above the hosts in them, and the wish to announce it."""
    ranges = [_pool_range(network, nodes) for network in networks]
    kinds = {"IPAddressPool": {"addresses": ranges, "autoAssign": True}, "L2Advertisement": {}}
    return yaml.safe_dump_all(
        [
            {
                "apiVersion": "metallb.io/v1beta1",
                "kind": kind,
                "metadata": {"name": "first-pool", "namespace": "metallb-system"},
                "spec": spec,
            }
            for kind, spec in kinds.items()
        ],
        sort_keys=False,
    )


def _pool_range(network: AddressRange, nodes: int) -> str:
    host = max(_FIRST_OF_POOL, _CLIENT + nodes + 5)
    first = network.first + (host if network.version == 4 else int(str(host), 16))  # fd00:20::20 beside 192.168.20.20
    last = min(network.last, network.first + _LAST_OF_POOL)
    if first > last:
        raise LabError(f"network {network} has no room for a pool beside {nodes} nodes; give a wider one")
    return f"{Address(network.version, first)}-{Address(network.version, last)}"


@frozen
class _Command:
    """What it is called with, what it does for whom reads `help`, and how."""

    usage: str
    help: str
    do: Callable[[str], None]


class _Playground:
    """The commands, on a stage with running daemons."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lab = stage.lab
        self._screen = stage.screen
        self._interactive = sys.stdin.isatty()
        self._ended = False
        self._commands: Mapping[str, _Command] = {
            "status": _Command("", "hosts, cables, speakers, and the Services", self._status),
            "get": _Command("services|pools", "what lbcore get prints", self._get),
            "explain": _Command("SERVICE", "what lbcore explain prints", self._explain),
            "curl": _Command("ADDRESS|SERVICE", "fetch a page from the client", self._curl),
            "ping": _Command("ADDRESS", "one ping from the client", self._ping),
            "cut": _Command("NODE", "pull its cable", self._cut),
            "heal": _Command("NODE", "plug its cable in again", self._heal),
            "kill": _Command("NODE", "its power is gone", self._kill),
            "stop": _Command("NODE", "end its speaker cleanly", self._stop),
            "restart": _Command("NODE", "power, cable and speaker again", self._restart),
            "log": _Command("NODE|controller", f"the last {_LOG_LINES} lines of its speaker, or of it", self._log),
            "client": _Command("COMMAND", "run a shell command on the client: client ip neigh", self._client),
            "node": _Command("NODE COMMAND", "run one on a node: node n1 tcpdump -c 5 -ni eth0 arp", self._node),
            "help": _Command("", "this list", self._help),
            "quit": _Command("", "end the lab", self._quit),
        }

    def serve(self) -> None:
        """Take commands until they end."""
        self._welcome()
        with contextlib.suppress(KeyboardInterrupt):
            for line in self._lines():
                self._do(line)
                if self._ended:
                    break
        self._screen.say("The lab ends.")

    def _lines(self) -> Iterator[str]:
        if not self._interactive:
            for line in sys.stdin:
                self._screen.say(f"{_PROMPT}{line.strip()}")  # so that the output can be read as a session
                yield line
            return
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, PLC0415 - gives input() its history, where Python has it
        with contextlib.suppress(EOFError):
            while True:
                yield input(_PROMPT)

    def _do(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if not name or name.startswith("#"):
            return
        command = self._commands.get("quit" if name == "exit" else name)
        if command is None:
            self._screen.warn(f"there is no command {name!r}; `help` lists them")
            return
        if bool(rest.strip()) != bool(command.usage):
            self._screen.warn(f"usage: {f'{name} {command.usage}'.strip()}")
            return
        try:
            command.do(rest.strip())
        except (LbcoreError, OSError, subprocess.SubprocessError) as error:
            self._screen.warn(str(error))

    def _welcome(self) -> None:
        self._status("")
        folder = shlex.quote(str(self._lab.folder))
        rows = [("the folder", f"cd {folder}"), ("its Services", f"{own_command()} get services --cluster {folder}")]
        rows += [
            (f"a shell on {station.name}", shlex.join([*entering(station.namespace.pid), "sh"]))
            for station in self._lab.network.stations
        ]
        self._screen.say(
            "Edit, add and delete manifests in the folder below: lbcore follows them as the files change. From another "
            "terminal, as the user that started this:"
        )
        self._screen.table(["WHAT", "COMMAND"], rows, fold=False)
        self._help("")

    def _help(self, _rest: str) -> None:
        rows = [(f"{name} {command.usage}".strip(), command.help) for name, command in self._commands.items()]
        self._screen.table(["COMMAND", "WHAT IT DOES"], rows)

    def _quit(self, _rest: str) -> None:
        self._ended = True

    def _status(self, _rest: str) -> None:
        rows = [self._host(station) for station in self._lab.network.stations]
        self._screen.table(["HOST", "MAC", "CABLE", "SPEAKER", "PODS", "ADDRESSES"], rows)
        self._stage.lbcore("get", "services")

    def _host(self, station: Station) -> list[str]:
        pods = [pod for pod in self._lab.pods if pod.plan.node == station.name]
        ready = f"{sum(pod.ready for pod in pods)}/{len(pods)} ready"
        speaker = "runs" if self._stage.has_speaker(station.name) else "ended"
        addresses = " ".join(map(str, station.addresses))
        own = [speaker, ready] if station.number else ["-", "-"]
        return [station.name, station.mac, station.cable.value, *own, addresses]

    def _get(self, rest: str) -> None:
        self._stage.lbcore("get", *shlex.split(rest))

    def _explain(self, rest: str) -> None:
        self._stage.lbcore("explain", *shlex.split(rest))

    def _curl(self, rest: str) -> None:
        for address in self._targets(rest):
            answer = self._lab.curl(address, timeout=5)
            said = f"{answer.status}, answered by {answer.served_by}" if answer.status else answer.error
            who = self._lab.announcer(address) or "nobody"
            self._screen.say(f"{address} (announced by {who}): {said}, in {answer.seconds * 1000:.0f} ms")

    def _targets(self, text: str) -> tuple[Address, ...]:
        """An address, or those of a Service that is called by name."""
        try:
            return (Address.parse(text),)
        except AddressError:
            namespace, _, name = text.rpartition("/")
            found = self._lab.addresses(name, namespace or "default")
        if not found:
            raise LabError(f"{text!r} is no address, and no Service that has one")
        return found

    def _ping(self, rest: str) -> None:
        for address in self._targets(rest):
            self._screen.say(f"{address} {'answers' if self._lab.ping(address) else 'does not answer'} a ping")

    def _cut(self, rest: str) -> None:
        self._lab.cut(self._name(rest))

    def _heal(self, rest: str) -> None:
        self._lab.heal(self._name(rest))

    def _kill(self, rest: str) -> None:
        self._stage.lose(self._name(rest))

    def _stop(self, rest: str) -> None:
        if not self._stage.has_speaker(self._name(rest)):
            raise LabError(f"{rest} has no speaker that runs")
        self._stage.stop_speaker(rest)

    def _restart(self, rest: str) -> None:
        if self._lab.nodes[self._name(rest)].cable is not Cable.PLUGGED:
            self._lab.heal(rest)
        if not self._stage.has_speaker(rest):
            self._stage.start_speaker(rest)

    def _name(self, text: str) -> str:
        if text not in self._lab.nodes:
            raise LabError(f"there is no node {text!r}, only {', '.join(self._lab.nodes)}")
        return text

    def _log(self, rest: str) -> None:
        name = rest if rest == "controller" else f"speaker-{self._name(rest)}"
        self._stage.show_log(name, _LOG_LINES)

    def _client(self, rest: str) -> None:
        self._run(self._lab.client, rest)

    def _node(self, rest: str) -> None:
        name, _, command = rest.partition(" ")
        if not command.strip():
            raise LabError(f"usage: node {self._commands['node'].usage}")
        self._run(self._lab.nodes[self._name(name)], command)

    def _run(self, station: Station, command: str) -> None:
        """Run a shell command on a host with the terminal as it is; Ctrl-C ends the command only."""
        given = None if self._interactive else subprocess.DEVNULL  # what comes next in a pipe is for us
        sys.stdout.flush()
        with _deaf_to_interrupts():
            program = subprocess.Popen(station.namespace.command(["sh", "-c", command]), stdin=given)
            program.wait()
        if program.returncode:
            self._screen.warn(f"it ended with status {program.returncode}")


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let Ctrl-C end what the terminal runs beside this process, and not this process.

    A KeyboardInterrupt that is raised just as `Popen.wait` has reaped the program loses its status, which is 0
    from then on. The handler is one of Python, not SIG_IGN, which the program would inherit.
    """
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

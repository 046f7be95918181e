"""The demo's chapter of BGP: a real router in front of the nodes, connections that it spreads over all of them, a node
that is drained, and one that loses its power.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen

from lbcore.addresses import Address
from lbcore.backends.statuses import DRAINED, STATUS_FOLDER, read_peers
from lbcore.lab.client import Requests
from lbcore.lab.cluster import Lab
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import NETWORKS, Findings, Stage, on_stage
from lbcore.lab.router import HOLD_TIME, Router, bird

__all__ = ["all_nodes_at_once"]

_NODE_ASN = 64513
_REQUESTS = 60  # 30 miss one of three nodes once in 60,000 times; 60 once in ten thousand million
_DRAIN_TIME = 3  # seconds; 10 by default, which nobody wants to look at
_GRACEFUL_SHUTDOWN = "(65535,0)"  # RFC 8326, as BIRD writes it
_BFD = 'protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }'
# What an operator writes for RFC 8326 on a router that does not do it by itself: such a route is the last to be used.
_OBEYING = "import filter { if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; };"


def all_nodes_at_once(screen: Screen, findings: Findings) -> None:
    """A cluster whose nodes tell a router of their addresses."""
    if shutil.which("bird") is None:
        screen.warn("this chapter needs a router, BIRD, which is not installed here: apt-get install bird2")
        return
    screen.say(
        "On one Ethernet segment one node takes all traffic of an address. With BGP every node tells a router of it, "
        "and the router spreads connections over them. The client is such a router now: BIRD runs there, and what it "
        "learns is in its kernel's routing table. BFD watches each path with ten small packets a second."
    )
    with (
        tempfile.TemporaryDirectory(prefix="lbcore-demo-") as folder,
        on_stage(screen, findings, 3, *NETWORKS, options=_speaker_options) as stage,
    ):
        client = stage.lab.client.namespace
        client.run(["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1"], check=True)  # by ports, too
        nodes = {str(node.address()): _NODE_ASN for node in stage.lab.nodes.values()}
        router = bird(client, Path(folder), nodes, imports=_OBEYING, extra="bfd on;", more=_BFD).start()
        try:
            _Site(stage, router).tell()
        finally:
            router.stop()


def _speaker_options(_lab: Lab, _node: str) -> Sequence[str]:
    return ("--drain-time", str(_DRAIN_TIME))


@frozen
class _Site:
    """Nodes, and the router in front of them."""

    stage: Stage
    router: Router

    def tell(self) -> None:
        address = self._begin()
        first, second, *_ = sorted(self.stage.lab.nodes)
        self._spread(address, "BGP: connections spread over nodes")
        self._drain(address, first)
        self._lose(address, second)

    def _begin(self) -> Address:
        stage = self.stage
        stage.apply("bgp/router.yaml")
        stage.apply("bgp/web.yaml", show=False)
        (address,) = stage.addresses("web")
        self._await_all(address)
        stage.run("client", "ip", "route", "show", "proto", "bird")
        stage.lbcore("get", "peers")
        with stage.screen.step("the pods are ready"):
            stage.lab.wait_for_pods(20)
        stage.fetch(address)
        return address

    def _await_all(self, address: Address) -> None:
        nodes = sorted(self.stage.lab.nodes)
        with self.stage.screen.step(f"the router has a way to {address} by each node, and BFD watches it"):
            self.stage.wait(lambda: self._ways(address) == nodes, f"a route to {address} by every node")
            self.stage.wait(self._watched, "BFD sessions")

    def _ways(self, address: Address) -> list[str]:
        """The nodes that the router's kernel sends traffic for an address to."""
        names = {str(node.address()): name for name, node in self.stage.lab.nodes.items()}
        return sorted(names[hop] for hop in self.router.routes().get(f"{address}/{address.family.bits}", []))

    def _watched(self) -> bool:
        known = read_peers(self.stage.lab.folder)
        return len(known) == len(self.stage.lab.nodes) and all(each.get("bfd") == "Up" for each in known)

    def _spread(self, address: Address, finding: str) -> None:
        """How many of some connections went to each node: each serves what its own pod answers."""
        stage = self.stage
        with stage.screen.step(f"the client fetches {_REQUESTS} pages from {address}"):
            nodes = Counter((stage.fetch(address).served_by or "").rpartition("/")[2] for _ in range(_REQUESTS))
        rows = [[node, str(nodes[node])] for node in sorted(nodes)]
        stage.screen.table(["NODE", f"OF {_REQUESTS} CONNECTIONS"], rows)
        stage.found(finding, ", ".join(f"{count} by {node}" for node, count in rows))

    def _drain(self, address: Address, node: str) -> None:
        """Take a node out without losing a connection, and put it back."""
        stage, rest = self.stage, sorted(self.stage.lab.nodes.keys() - {node})
        stage.screen.say(
            f"{node} is to be rebooted. `lbcore drain` asks the router first to use other nodes (the community "
            f"GRACEFUL_SHUTDOWN, 65535:0), and withdraws the route {_DRAIN_TIME} s later. Meanwhile the client opens a "
            "new connection every 10 ms."
        )
        rows: list[list[str]] = []

        def drained() -> None:
            stage.lbcore("drain", node, show=False)
            start = (
                (stage.lab.folder / STATUS_FOLDER / DRAINED / node).stat().st_mtime
            )  # the mark that the command left
            self._note(rows, start, lambda: _GRACEFUL_SHUTDOWN in self._told(), f"{node}'s route has 65535:0")
            self._note(rows, start, lambda: self._ways(address) == rest, f"the router uses {' and '.join(rest)}")
            self._note(rows, start, lambda: _GRACEFUL_SHUTDOWN not in self._told(), f"{node} withdraws the route")

        with stage.screen.step(f"lbcore drain {node}") as results:
            asked = stage.lab.requests(address, drained)
            results.append(f"{asked.lost} of {asked.made} new connections failed")
        stage.screen.table(["AFTER", "WHAT THE ROUTER SHOWS"], rows)
        stage.lbcore("get", "nodes")
        stage.found(f"a node is drained ({node})", f"{asked.lost} of {asked.made} new connections failed")
        stage.lbcore("undrain", node)
        self._await_all(address)

    def _told(self) -> str:
        """What the router has been told, with attributes."""
        return self.router.ask("show", "route", "all")

    def _note(self, rows: list[list[str]], start: float, condition: Callable[[], bool], what: str) -> None:
        """Wait for something, and write down how long after `start`, on the wall clock, it came."""
        self.stage.wait(condition, what)
        rows.append([f"{time.time() - start:.2f} s", what])

    def _lose(self, address: Address, node: str) -> None:
        """A node dies; BFD tells the router."""
        stage, rest = self.stage, sorted(self.stage.lab.nodes.keys() - {node})

        def lost() -> None:
            stage.lose(node)
            stage.wait(lambda: self._ways(address) == rest, f"the router to forget {node}")

        with stage.screen.step(f"{node} loses its power") as results:
            asked = stage.lab.requests(address, lost)
            results.append(f"connections by {node} were lost for {_milliseconds(asked)}")
        stage.run("client", "ip", "route", "show", "proto", "bird")
        stage.screen.say(
            f"Three BFD packets were missing (3 x 100 ms), and the router dropped {node}'s route. {asked.lost} of "
            f"{asked.made} new connections were lost, those that the router had sent to {node} until then. Without BFD "
            f"it would have taken BGP's hold time, {HOLD_TIME} s as this router is set up."
        )
        stage.found(f"a node is lost, seen by BFD ({node})", f"its connections failed for {_milliseconds(asked)}")


def _milliseconds(asked: Requests) -> str:
    return f"{asked.lost_for * 1000:.0f} ms"

"""The demo's chapter of BGP: a real router in front of the nodes, and connections that it spreads over all of them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from lbcore.addresses import Address
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import NETWORKS, Findings, Stage, on_stage
from lbcore.lab.router import Router, bird

__all__ = ["all_nodes_at_once"]

_NODE_ASN = 64513
_REQUESTS = 60  # 30 miss one of three nodes once in 60,000 times; 60 once in ten thousand million


def all_nodes_at_once(screen: Screen, findings: Findings) -> None:
    """A cluster whose nodes tell a router of their addresses."""
    if shutil.which("bird") is None:
        screen.warn("this chapter needs a router, BIRD, which is not installed here: apt-get install bird2")
        return
    screen.say(
        "On one Ethernet segment one node takes all traffic of an address. With BGP every node tells a router of it, "
        "and the router spreads connections over them. The client is such a router now: BIRD runs there, and what it "
        "learns is in its kernel's routing table."
    )
    with (
        tempfile.TemporaryDirectory(prefix="lbcore-demo-") as folder,
        on_stage(screen, findings, 3, *NETWORKS) as stage,
    ):
        client = stage.lab.client.namespace
        client.run(["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1"], check=True)  # by ports, too
        nodes = {str(node.address()): _NODE_ASN for node in stage.lab.nodes.values()}
        router = bird(client, Path(folder), nodes).start()
        try:
            _tell(stage, router)
        finally:
            router.stop()


def _tell(stage: Stage, router: Router) -> None:
    lab, screen = stage.lab, stage.screen
    stage.apply("bgp/router.yaml")
    stage.apply("bgp/web.yaml", show=False)
    (address,) = stage.addresses("web")
    with screen.step("the router has a way to it by each node"):
        stage.wait(lambda: len(_ways(router, address)) == len(lab.nodes), f"a route to {address} by every node")
    stage.run("client", "ip", "route", "show", "proto", "bird")
    stage.lbcore("get", "peers")
    with screen.step("the pods are ready"):
        lab.wait_for_pods(20)
    stage.fetch(address)
    by_node = _spread(stage, address)
    screen.table(["NODE", f"OF {_REQUESTS} CONNECTIONS"], [[node, str(by_node[node])] for node in sorted(by_node)])
    stage.found(
        "BGP: connections spread over nodes", ", ".join(f"{by_node[node]} by {node}" for node in sorted(by_node))
    )
    lost = sorted(lab.nodes)[0]
    with screen.step(f"the speaker of {lost} is stopped, and tells the router") as results:
        stage.stop_speaker(lost)
        stage.wait(lambda: len(_ways(router, address)) == len(lab.nodes) - 1, f"the router to forget {lost}")
        results.append(f"ways left: {', '.join(_ways(router, address))}")
    rest = _spread(stage, address)
    screen.say(
        f"{_REQUESTS} connections later: {', '.join(f'{rest[node]} by {node}' for node in sorted(rest))}. None of them "
        "failed: a router that is told does not wait for a hold time to be over."
    )


def _ways(router: Router, address: Address) -> list[str]:
    return router.routes().get(f"{address}/{address.family.bits}", [])


def _spread(stage: Stage, address: Address) -> Counter[str]:
    """How many of some connections went to each node: each serves what its own pod answers."""
    with stage.screen.step(f"the client fetches {_REQUESTS} pages from {address}"):
        return Counter((stage.fetch(address).served_by or "").rpartition("/")[2] for _ in range(_REQUESTS))

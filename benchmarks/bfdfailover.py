"""How long a client of a BGP address waits when a node is cut off, with BFD at 3 x 100 ms: a real router, real packets.

A lab of three nodes; the client is the router (BIRD, ECMP over the nodes by ports), and asks the address for a page
every 5 ms, each time from a new port, so that a third of the requests goes to each node. A node's cable is pulled
where the node does not see it; the outage is from then until the last request was sent that got no answer. The
Service has externalTrafficPolicy Local, so what is measured is the router's way to the nodes and nothing behind them.

`LBCORE_BFD_CUTS` is how many cuts are made (50). The hold time of BGP is 90 s: without BFD it would take that long.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.report import Row, percentile, progress
from lbcore.addresses import Address
from lbcore.backends.statuses import read_peers
from lbcore.lab import Lab, probe
from lbcore.lab.router import bird

__all__ = ["NAME", "run"]

NAME = "bfdfailover (wall clock): a node is cut off, BGP with BFD 3 x 100 ms to BIRD"
CUTS = int(os.environ.get("LBCORE_BFD_CUTS", "50"))
INTERVAL, GIVE_UP = 0.005, 0.9  # seconds between requests, and until one is called lost
_BFD = 'protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }'
_PATIENCE = 60.0


def run() -> list[Row]:
    """Cut after cut, every node in its turn."""
    with tempfile.TemporaryDirectory(prefix="lbcore-bfd-") as folder, Lab() as lab:
        space = lab.client.namespace
        space.run(["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1"], check=True)
        nodes = {str(node.address(4)): 64513 for node in lab.nodes.values()}
        router = bird(space, Path(folder), nodes, extra="bfd on;", more=_BFD).start()
        lab.apply(_manifests(str(lab.client.address(4))))
        lab.start_controller()
        for node in lab.nodes:
            lab.start_speaker(node)
        (address,) = lab.wait_for_address("web", timeout=_PATIENCE)
        lab.wait_for_pods(_PATIENCE)
        outages = []
        for number in range(CUTS):
            progress(f"cut {number + 1} of {CUTS}")
            _wait_until_whole(lab, lambda: max(map(len, router.routes().values()), default=0))
            outages.append(_outage(lab, address, list(lab.nodes)[number % len(lab.nodes)]))
        router.stop()
    figures = sorted(round(each * 1000) for each in outages)
    return [
        Row(what="node cut to the last lost request: median", figure=percentile(figures, 0.5), unit="ms",
            note=f"{CUTS} cuts; requests every {INTERVAL * 1000:g} ms"),
        Row(what="the same: worst", figure=figures[-1], unit="ms", at_most=400,
            note="3 x 100 ms is the router's patience; BGP's hold time is 90 s"),
    ]  # fmt: skip


def _outage(lab: Lab, address: Address, node: str) -> float:
    argv = [sys.executable, "-I", "-S", probe.__file__, str(address), "80", str(INTERVAL), str(GIVE_UP)]
    asking = lab.client.namespace.spawn(argv, stdout=subprocess.PIPE)
    time.sleep(1.0)
    cut = time.monotonic()
    lab.cut_silently(node)
    time.sleep(2.0 + GIVE_UP)
    asking.terminate()
    output, _ = asking.communicate()
    lab.heal(node)
    requests = [line.split() for line in output.decode().splitlines() if len(line.split()) == 3]
    lost = [float(sent) for sent, _, answered in requests if answered == "0"]
    early = sum(each < cut - GIVE_UP for each in lost)
    if not lost or early or len(requests) < 1.5 / INTERVAL * 0.5:
        raise RuntimeError(f"no measurement: {len(requests)} requests, {len(lost)} lost, {early} of them too early")
    return max(lost) - cut


def _wait_until_whole(lab: Lab, hops: object) -> None:
    """Until every node is a next hop, watched, and has a pod that answers."""
    assert callable(hops)
    end = time.monotonic() + _PATIENCE
    while True:
        sessions = read_peers(lab.folder)
        up = [each for each in sessions if (each["state"], each.get("bfd")) == ("Established", "Up")]
        with contextlib.suppress(Exception):
            if len(up) == len(lab.nodes) == hops() and all(pod.ready for pod in lab.pods):
                return
        if time.monotonic() > end:
            raise RuntimeError(f"the lab does not come to rest: {len(up)} sessions, {hops()} next hops")
        time.sleep(0.1)


def _manifests(router: str) -> str:
    def custom(version: str, kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
        metadata = {"name": name, "namespace": "metallb-system"}
        return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}

    peer: dict[str, object] = {"myASN": 64513, "peerASN": 64512, "peerAddress": router, "connectTime": "1s"}
    peer |= {"bfdProfile": "fast", "holdTime": "90s"}
    fast: dict[str, object] = {"receiveInterval": 100, "transmitInterval": 100, "detectMultiplier": 3}
    labels = {"app": "web"}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}
    documents = [
        custom("v1beta1", "IPAddressPool", "public", {"addresses": ["203.0.113.0/24"]}),
        custom("v1beta1", "BGPAdvertisement", "bgp", {}),
        custom("v1beta1", "BFDProfile", "fast", fast),
        custom("v1beta2", "BGPPeer", "tor", peer),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": pods},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local",
                "selector": labels,
                "ports": [{"port": 80}],
            },
        },
    ]
    return yaml.safe_dump_all(documents)

"""`lbcore demo`: a cluster, its addresses and its faults, shown to somebody who has never seen it.

Everything that is printed happened: addresses, pages, refusals and times are read off the running
cluster, and what does not happen ends the demo with an error.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence

from lbcore.lab.demo.bgp import all_nodes_at_once
from lbcore.lab.demo.chapters import first_service, ipv6, own_wishes, the_cluster
from lbcore.lab.demo.failover import faults
from lbcore.lab.demo.ingress import web_sites
from lbcore.lab.demo.kubernetes import run_kubernetes
from lbcore.lab.demo.others import old_configuration, whole_networks
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import NETWORKS, Findings, Stage, gossiping, on_stage, own_command
from lbcore.lab.errors import LabUnavailable

__all__ = ["run", "run_kubernetes"]

_TOOLS = {"curl": "curl", "ip": "iproute2", "ping": "iputils-ping"}  # and the package of each

_Tell = Callable[[Stage], None]
_TellMore = Callable[[Screen, Findings], None]

# Each chapter: its heading, where the code of what it shows lies, and what tells it.
_STORY: Sequence[tuple[str, str, _Tell]] = (
    ("The files of a user", "src/lbcore/lab/ (these hosts), src/lbcore/lab/demo/manifests/ (the files)", the_cluster),
    ("An address that answers", "src/lbcore/allocation.py, src/lbcore/adapters/arp.py", first_service),
    ("Asking for an address, and being refused", "src/lbcore/requests.py, src/lbcore/verdicts.py", own_wishes),
    ("IPv6", "src/lbcore/adapters/ndp.py", ipv6),
    ("Nodes fail", "src/lbcore/election.py, src/lbcore/handover.py, src/lbcore/adapters/detector/", faults),
)
_QUICK = (the_cluster, first_service, own_wishes, faults)
_MORE: Sequence[tuple[str, str, _TellMore]] = (
    ("MetalLB's old configuration", "src/lbcore/adapters/kubernetes/legacy.py", old_configuration),
    ("Whole networks as pools", "src/lbcore/pools.py, src/lbcore/occupancy.py", whole_networks),
    (
        "BGP: all nodes at once",
        "src/lbcore/exports.py, src/lbcore/draining.py, src/lbcore/adapters/bgp/, src/lbcore/adapters/bfd/",
        all_nodes_at_once,
    ),
    ("Ingress: web sites behind one address", "src/lbcore/routing/, src/lbcore/adapters/nginx/", web_sites),
)
_SOURCES = (
    ("which address a Service gets", "src/lbcore/assignment/ and allocation.py"),
    ("which node announces it", "src/lbcore/announcement/ and election.py"),
    ("what is said on the wire", "src/lbcore/adapters/arp.py, ndp.py and responder.py"),
    ("who lives", "src/lbcore/adapters/memberlist/ and detector/"),
    ("what a router is told", "src/lbcore/exports.py, adapters/bgp/ and backends/bgp.py"),
    ("which host and path lead where", "src/lbcore/routing/, and adapters/nginx/ as nginx.conf"),
    ("who answers within a millisecond", "src/lbcore/daemons/reflex.py, a process of its own"),
    ("the nodes, the switch, the client", "src/lbcore/lab/"),
    ("the files that were applied", "src/lbcore/lab/demo/manifests/"),
)


def run(*, quick: bool = False) -> None:
    """Show everything, or with `quick` only what one cluster shows with IPv4.

    Raises `LabUnavailable` where this machine cannot, and `LabError` when something did not happen.
    """
    _require_tools()
    start = time.monotonic()
    screen, findings = Screen(), Findings()
    story = [each for each in _STORY if not quick or each[2] in _QUICK]
    more = () if quick else _MORE
    chapters = len(story) + len(more)
    screen.title(
        "lbcore demo: addresses for Services of type LoadBalancer, on one's own Ethernet",
        "A small cluster is made in network namespaces of this machine, with real frames between its hosts. Nothing "
        f"outside is touched, and nothing stays. {'Half a minute' if quick else 'One to two minutes'}.",
    )
    with on_stage(screen, findings, 3, *NETWORKS, options=gossiping) as stage:
        for number, (heading, code, tell) in enumerate(story, start=1):
            screen.chapter(number, chapters, heading, code)
            tell(stage)
    for number, (heading, code, tell_more) in enumerate(more, start=len(story) + 1):
        screen.chapter(number, chapters, heading, code)
        tell_more(screen, findings)
    _close(screen, findings, time.monotonic() - start)


def _require_tools() -> None:
    missing = {tool: package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if missing:
        raise LabUnavailable(
            f"the demo needs {', '.join(missing)} in PATH; install the packages {', '.join(missing.values())}"
        )


def _close(screen: Screen, findings: Findings, seconds: float) -> None:
    lbcore = own_command()
    screen.heading("What was shown")
    screen.table(["WHAT", "SEEN"], findings)
    screen.heading("Where it is decided")
    screen.table(["QUESTION", "FILE"], _SOURCES)
    screen.heading("What to do next")
    screen.table(
        ["COMMAND", "WHAT FOR"],
        [
            (f"{lbcore} lab", "the same cluster, to play with: edit files, cut cables, look at frames"),
            (f"{lbcore} run --cluster FOLDER", "serve the Services of a folder on this machine"),
            (f"{lbcore} --help", "all commands; each teaches itself"),
            ("docs/architecture.md", "how it is built, and where a new thing goes"),
        ],
    )
    screen.say(f"All of it happened as shown, in {seconds:.0f} seconds. The cluster is gone again.")

"""Real routers for tests, each in a namespace: BIRD and FRR with what their kernel has, GoBGP with its table.

All speak for AS 64512 unless told otherwise, wait for the nodes to connect, and accept everything.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lbcore.lab.namespaces import Namespace
from lbcore.lab.router import ROUTER_ASN, Router, Routes, bird, kernel_routes

__all__ = ["KINDS", "Router", "bird", "frr", "gobgp", "kernel_routes"]

_FRR = Path("/usr/lib/frr")


def frr(
    space: Namespace,
    peers: Mapping[str, int],
    *,
    asn: int = ROUTER_ASN,
    extra: Sequence[str] = (),
    lines: Sequence[str] = (),
    daemons: Sequence[str] = (),
) -> Router:
    """FRR. `extra` are settings of each neighbour, `lines` of the whole; `daemons` start beside zebra and bgpd.

    A peer that is no address is an interface (unnumbered). FRR gives up root for a user of its own, and so its
    files stand in a folder of that user's.
    """
    folder = Path(tempfile.mkdtemp(prefix="lbcore-frr-"))
    folder.chmod(0o755)
    shutil.chown(folder, "frr", "frr")
    config = folder / "frr.conf"
    config.write_text("\n".join([*lines, *_frr_lines(peers, asn, extra)]) + "\n")
    zebra = folder / "zserv.api"
    commands = []
    for name in ("zebra", *daemons, "bgpd"):
        files = ["-z", str(zebra), "-i", str(folder / f"{name}.pid"), "--vty_socket", str(folder)]
        # Nobody but vtysh asks it something: no port for telnet.
        command = [str(_FRR / name), *files, "-P", "0", "-f", str(config if name == "bgpd" else os.devnull)]
        commands.append([*command, "--log", "stdout"])
    asking = ("vtysh", "--vty_socket", str(folder), "-c")
    # What finds no zebra tries again seconds later, and may then have lost what was to be told to the others by it:
    # with a zebra that was three seconds late, no session was ever watched by BFD.
    router = Router(space, folder, commands, lambda: kernel_routes(space, "bgp"), asking, first_opens=zebra)
    weakref.finalize(router, shutil.rmtree, folder, ignore_errors=True)
    return router


def _frr_lines(peers: Mapping[str, int], asn: int, extra: Sequence[str]) -> list[str]:
    lines = ["frr defaults traditional", f"router bgp {asn}", "bgp router-id 10.255.0.1"]
    lines += ["no bgp ebgp-requires-policy", "no bgp default ipv4-unicast"]
    names = []
    for number, (peer, peer_asn) in enumerate(peers.items()):
        # FRR makes a neighbour that was lost wait longer and longer, and refuses it meanwhile. One of a range it
        # forgets, so each address is a range of its own.
        address = "." in peer or ":" in peer
        name = f"group{number}" if address else peer
        names.append(name)
        lines += [
            f"neighbor {name} {'peer-group' if address else 'interface'}",
            f"neighbor {name} remote-as {peer_asn}",
        ]
        wanted = ["timers 3 9", "timers connect 1", *extra]
        wanted += ["capability extended-nexthop"] if "." not in peer else []
        lines += [f"neighbor {name} {each}" for each in wanted]
        lines += [f"bgp listen range {peer}/{128 if ':' in peer else 32} peer-group {name}"] if address else []
    for version in (4, 6):
        lines += [f"address-family ipv{version} unicast", "maximum-paths 8", "maximum-paths ibgp 8"]
        lines += [f"neighbor {name} activate" for name in names]
        lines += ["exit-address-family"]
    return lines


def gobgp(
    space: Namespace, folder: Path, peers: Mapping[str, int], *, asn: int = ROUTER_ASN, password: str = ""
) -> Router:
    """GoBGP, which has no way into the kernel by itself: its own table counts."""
    config: dict[str, Any] = {
        "global": {"config": {"as": asn, "router-id": "10.255.0.1"}},
        "neighbors": [_gobgp_neighbour(peer, peer_asn, password) for peer, peer_asn in peers.items()],
    }
    path = folder / "gobgp.json"
    path.write_text(json.dumps(config))
    where = "127.0.0.1:50051"
    command = ["gobgpd", "-t", "json", "-f", str(path), "--api-hosts", where, "--log-plain", "--pprof-disable"]
    return Router(space, folder, [command], lambda: _gobgp_routes(space), ("gobgp",))


def _gobgp_neighbour(peer: str, peer_asn: int, password: str) -> dict[str, Any]:
    return {
        "config": {"neighbor-address": peer, "peer-as": peer_asn, "auth-password": password},
        "transport": {"config": {"passive-mode": True}},
        "timers": {"config": {"hold-time": 9, "keepalive-interval": 3, "idle-hold-time-after-reset": 1}},
        "graceful-restart": {"config": {"enabled": True, "restart-time": 120, "helper-only": True}},
        "afi-safis": [
            {
                "config": {"afi-safi-name": f"ipv{version}-unicast"},
                "mp-graceful-restart": {"config": {"enabled": True}},
            }
            for version in (4, 6)
        ],
    }


def _gobgp_routes(space: Namespace) -> Routes:
    found: Routes = {}
    for family in ("ipv4", "ipv6"):
        done = space.run(["gobgp", "global", "rib", "-a", family, "-j"])
        # Before it listens its answer is an error, in JSON as well.
        table = json.loads(done.stdout) if done.returncode == 0 and '"nlri"' in done.stdout else {}
        for prefix, paths in table.items():
            hops = [each["nexthop"] for path in paths for each in path["attrs"] if "nexthop" in each]
            found[prefix] = sorted(hops)
    return found


Make = Callable[..., Router]


def _any_bird(space: Namespace, folder: Path, peers: Mapping[str, int], *, password: str = "", **more: Any) -> Router:
    extra = f'password "{password}";' if password else ""
    return bird(space, folder, peers, extra=f"graceful restart on; {extra}", **more)


def _any_frr(space: Namespace, _folder: Path, peers: Mapping[str, int], *, password: str = "", **more: Any) -> Router:
    return frr(space, peers, extra=[f"password {password}"] if password else [], **more)


KINDS: Mapping[str, Make] = {"bird": _any_bird, "frr": _any_frr, "gobgp": gobgp}
"""Every kind of router, to be made with its namespace, folder and peers, and by name `asn` and `password`."""

"""How often nginx was reloaded on the nodes: each reload starts new worker processes, and only a reload does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from lbcore.backends.nginx import find_capabilities
from lbcore.lab.demo.screen import Screen
from lbcore.lab.segment import Segment

__all__ = ["NginxWorkers"]


@frozen
class NginxWorkers:
    """The pids of nginx's worker processes on each node, at one moment."""

    pids: Mapping[str, str]

    @classmethod
    def of(cls, lab: Segment) -> NginxWorkers:
        """As they are now, where `lbcore ingress` runs on every node of a lab."""
        return cls({node: _children(lab.directory / "ingress" / node / "nginx.pid") for node in lab.nodes})

    def show_reloads(self, lab: Segment, screen: Screen) -> str:
        """Compare with how they are by now, as a table; returns the result as a phrase."""
        after = NginxWorkers.of(lab).pids
        reloads = {node: "0" if pids == after[node] else "1 or more" for node, pids in self.pids.items()}
        rows = [[node, self.pids[node], after[node], reloads[node]] for node in reloads]
        screen.table(["NGINX ON", "ITS WORKERS BEFORE (PIDS)", "AND AFTER", "RELOADS"], rows)
        if find_capabilities("nginx").lua:
            screen.say("Endpoints are told to the workers that run, which choose among them in Lua.")
        else:
            screen.warn("nginx has no Lua module here, so it is reloaded: apt-get install libnginx-mod-http-lua")
        return ", ".join(f"{count} on {node}" for node, count in reloads.items())


def _children(pid_file: Path) -> str:
    pid = pid_file.read_text(encoding="ascii").strip()
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").strip()

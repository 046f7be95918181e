"""Two members of each kind where a tenth of all datagrams is lost: run in a network namespace of its own.

`python lossy.py PROGRAM` makes the loss with nftables, lets the cluster live for a while, kills one member, and
prints one line of JSON: who was lost although it lived, and how long the death of the killed one took to be agreed on.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from members import GoMember, OurMember, Wire, until

QUIET = 12.0  # seconds in which everybody lives

RULES = """
table inet loss {
    chain input {
        type filter hook input priority 0;
        udp dport 7946 numgen random mod 100 < 10 drop
    }
}
"""


def main(program: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
    wire = Wire(key=bytes(range(32)))
    addresses = [f"127.0.0.{number}" for number in range(1, 5)]
    go = [GoMember(program, f"go-{each}", each, wire) for each in addresses[:2]]
    ours = [OurMember(f"ours-{each}", each, wire, addresses) for each in addresses[2:]]
    members: list[GoMember | OurMember] = [*go, *ours]

    def agreed() -> bool:
        return all(member.names == {each.name for each in members} for member in members)

    until(agreed, "all to see each other")
    time.sleep(QUIET)
    lost = sorted({name for member in members for name in member.left})
    members.remove(go[0])
    go[0].signal(signal.SIGKILL)
    print(json.dumps({"lost": lost, "took": until(agreed, "the death to be agreed on", 40.0)}), flush=True)
    for member in [go[0], *members]:
        member.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

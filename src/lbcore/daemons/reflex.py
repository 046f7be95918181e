"""The reflex process: what must answer within milliseconds, and nothing else.

`python -m lbcore.daemons.reflex --socket PATH --node NAME` answers ARP and NDP for the addresses
that its parent, the speaker, commands over a named Unix socket, and renews the node's member
record (in a second thread, since a shared folder may hang) or gossips with the others. Everything
else is one thread with one selector; no asyncio, no pyroute2 and no click are imported, so
that it stays small and its garbage collector has nothing to do.

A parent that goes away is no outage: a new one finds the socket, is told what is answered for, and
goes on. Only when no parent has been heard for `--silence` seconds does the child leave: the
member record first, so that another node takes over, then the addresses.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lbcore.adapters.heartbeat import Heartbeat
from lbcore.adapters.responder import Responder
from lbcore.backends import heap
from lbcore.backends.base import FrameLink, LinkFault
from lbcore.backends.gossip_settings import GossipSettings, add_gossip_arguments
from lbcore.backends.link import CapabilityError, PacketLink, require_packet_sockets
from lbcore.backends.local import Listener, SocketTakenError
from lbcore.backends.members import BackgroundRecords, MemberFolder, MemoryRecords, check_node_name
from lbcore.daemons.membership import OpenMembership, by_gossip, by_records
from lbcore.daemons.reflex_loop import ReflexLoop
from lbcore.errors import LbcoreError
from lbcore.model import Link

__all__ = ["EXIT_CONFIG", "EXIT_NO_PERMISSION", "EXIT_TAKEN", "ReflexLoop", "main"]

_TURN = 1  # as a real-time priority: the least of them, before everything that people run
_PRECEDENCE = -15  # as a nice value, where there is no such turn to be had
EXIT_TAKEN = 75  # EX_TEMPFAIL: another process lives at the socket's path
EXIT_NO_PERMISSION = 77  # EX_NOPERM: CAP_NET_RAW is missing
EXIT_CONFIG = 78  # EX_CONFIG: an argument, or a path, that will not do


def _line_writer(form: str, node: str) -> Callable[[str], None]:
    """How this process says something: one line on stderr, like those of its parent, without its logging library."""

    def say(text: str) -> None:
        now = time.time()
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1e6):06}Z"
        fields = {"component": "reflex", "node": node, "event": text, "level": "warning", "timestamp": when}
        line = json.dumps(fields) if form == "json" else f"{when} [warning  ] {text} component=reflex node={node}"
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except OSError:
            pass  # nobody reads: no reason to stop answering

    return say


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lbcore.daemons.reflex",
        description="Answers ARP and NDP for an lbcore speaker, which starts it; not meant to be started by hand.",
    )
    parser.add_argument("--socket", required=True, type=Path, help="the Unix socket to listen at")
    parser.add_argument("--node", required=True, help="this node's name")
    parser.add_argument("--members", type=Path, help="the folder of member records (default: alone)")
    parser.add_argument("--release", default="", help="what to tell the speaker, which replaces another release")
    parser.add_argument("--link-backend", choices=("packet", "scapy"), default="packet", help="how frames are sent")
    parser.add_argument("--silence", type=float, default=5.0, help="seconds without a speaker before leaving")
    parser.add_argument("--linger", type=float, default=2.0, help="seconds to go on answering after SIGTERM")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between renewals of the member record")
    parser.add_argument("--expiry", type=float, default=0.5, help="seconds after which a silent member is dead")
    parser.add_argument("--refresh", type=float, default=60.0, help="seconds between announcements; 0 for none")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="how lines on stderr look")
    add_gossip_arguments(parser)
    return parser.parse_args(argv)


def _link_opener(backend: str) -> Callable[[Link], FrameLink | LinkFault]:
    if backend == "scapy":
        from lbcore.backends.scapy import ScapyLink  # noqa: PLC0415 - 55 MB, for those who ask for it

        return ScapyLink.open
    return PacketLink.open


def _build(arguments: argparse.Namespace, argv: Sequence[str], say: Callable[[str], None]) -> ReflexLoop:
    rng = random.Random()
    return ReflexLoop(
        node=arguments.node,
        responder=Responder(rng=rng, refresh=arguments.refresh or None),
        membership=_membership(arguments, rng),
        open_link=_link_opener(arguments.link_backend),
        listener=Listener(arguments.socket),
        clock=time.monotonic,
        say=say,
        release=arguments.release,
        arguments=tuple(argv),
        silence=arguments.silence,
        linger=arguments.linger,
    )


def _membership(arguments: argparse.Namespace, rng: random.Random) -> OpenMembership:
    node = check_node_name(arguments.node)
    gossip = GossipSettings.from_arguments(arguments)
    if gossip is not None:
        return by_gossip(node, gossip, rng, time.monotonic)
    heartbeat = Heartbeat(node, rng.getrandbits(62), rng=rng, interval=arguments.interval, expiry=arguments.expiry)
    records = MemoryRecords() if arguments.members is None else BackgroundRecords(MemberFolder(arguments.members))
    return by_records(node, heartbeat, records, time.monotonic)


def _end_on_signals(loop: ReflexLoop) -> None:
    """SIGTERM and SIGINT end the loop; the wake-up socket gets it out of its sleep."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def heard(_events: int) -> None:
        for _ in reader.recv(64):
            loop.ask_to_end()

    loop.watch(reader.fileno(), heard)


def _settle_memory() -> None:
    """What is there now stays for ever: take it out of the garbage collector's sight, and slow it down.

    Later garbage is freed by reference counts; cycles come from exceptions alone.
    """
    gc.collect()
    heap.trim()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


def _take_precedence() -> None:
    """Before what merely computes, where we may: a beat that waits for the processor looks like a dead node.

    It takes CAP_SYS_NICE. With twelve programs computing on two processors the longest of 5,000 gaps between two
    beats was 52 ms so (50 are wanted), 113 ms with a nice value of -15, and 85 ms with none. What we start has no part
    in it. The kernel keeps a twentieth of each processor for others, so a storm of questions stops no node.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_TURN))
    except OSError:  # not allowed, or a container without a share of real time
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _PRECEDENCE)


def main(argv: Sequence[str]) -> int:
    """Run until told to end; returns the exit status (75 taken, 77 no permission, 78 bad argument)."""
    arguments = _arguments(argv)
    say = _line_writer(arguments.log_format, arguments.node)
    try:
        require_packet_sockets("reflex process")
        loop = _build(arguments, argv, say)
    except CapabilityError as error:
        say(str(error))
        return EXIT_NO_PERMISSION
    except SocketTakenError as error:
        say(str(error))
        return EXIT_TAKEN
    except (LbcoreError, OSError, ValueError) as error:
        say(str(error))
        return EXIT_CONFIG
    _end_on_signals(loop)
    _take_precedence()
    _settle_memory()
    try:
        loop.run()
    except CapabilityError as error:  # taken away while running
        say(str(error))
        return EXIT_NO_PERMISSION
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a request costs nginx with what we render, beside a configuration that somebody wrote by hand.

By hand is what a sensible operator would write, no less: connections to the backend stay open, `Host`, `X-Real-IP`,
`X-Forwarded-*` and `X-Request-ID` are sent, connections may be upgraded, and the log has the same fields in the same
file. What is measured is the processor time of the one worker, user's and system's together, for each request that wrk
got an answer to (tens of thousands in a round): it hardly depends on who else uses the machine, as a rate does.
Each has a network namespace of its own with a backend of its own, so that all have the ports that they would have. They
take turns, every second another one, and a figure is the median over the rounds of ratios within a round.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from attrs import field, frozen

from benchmarks.report import Row, progress
from lbcore.lab.namespaces import Namespace

__all__ = ["BACKEND_PORT", "Contestant", "by_hand", "rows"]

BACKEND_PORT = 18090
LOG = "access.log"
_ROUNDS = 15
_AIM = 1 / 0.95
_FORM = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [team0-app0-80] [] $upstream_addr $upstream_response_length $upstream_response_time "
    "$upstream_status $request_id"
)
_BY_HAND = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  log_format timed '{form}';
  access_log {log};
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream app {{ server 127.0.0.1:{backend}; keepalive 32; }}
  server {{
    listen 80;
    server_name app0.example.org;
    location / {{
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Forwarded-Proto $scheme;
      {request_id}
      proxy_pass http://app;
    }}
  }}
}}
"""
_BACKEND = """
worker_processes 1; daemon off; pid {folder}/backend.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{ access_log off; server {{ listen {port}; keepalive_requests 1000000;
  location / {{ return 200 "{body}"; }} }} }}
"""


@frozen
class Contestant:
    """A configuration that listens at port 80 and has its files, `nginx.pid` and the log in a folder."""

    name: str
    folder: Path
    text: str = field(repr=False)


@frozen
class _Round:
    cost: float  # microseconds of processor time for a request
    rate: float  # requests a second
    wait: float  # 99th percentile, milliseconds


def by_hand(name: str, folder: Path, *, bare: bool = False) -> Contestant:
    """What one would write; `bare`: without a log and without request ids."""
    text = _BY_HAND.format(
        folder=folder,
        form=_FORM,
        backend=BACKEND_PORT,
        log="off" if bare else f"{folder}/{LOG} timed",
        request_id="" if bare else "proxy_set_header X-Request-ID $request_id;",
    )
    return Contestant(name, folder, text)


def rows(hand: Contestant, others: list[Contestant]) -> Iterator[Row]:
    """All in turns; of each of the others, what a request costs and how many there are in a second, beside by hand."""
    found = _measured([hand, *others])
    base = found[hand.name]
    for other in others:
        own = found[other.name]
        cost = median(each.cost / beside.cost for each, beside in zip(own, base, strict=True))
        rate = median(beside.rate / each.rate for each, beside in zip(own, base, strict=True))
        wait = median(each.wait for each in own), median(each.wait for each in base)
        us, rates = _medians(own, base, "cost"), _medians(own, base, "rate")
        alike = not other.name.startswith("by hand") and "metrics" not in other.name  # by hand nothing is counted
        aim = _AIM if alike else None
        yield Row(what=f"CPU of nginx for a request: {other.name}, beside {hand.name}", figure=cost, unit="times",
                  at_most=aim, note=f"{us[0]:.1f} us, {us[1]:.1f} us")  # fmt: skip
        yield Row(what=f"requests a second: {hand.name}, beside {other.name}", figure=rate, unit="times", at_most=aim,
                  note=f"wall clock; {rates[1]:,.0f}, {rates[0]:,.0f}; 99th percentile {wait[1]:.2f} ms, "
                  f"{wait[0]:.2f} ms; 1 KB, 32 connections")  # fmt: skip


def _medians(own: list[_Round], base: list[_Round], name: str) -> tuple[float, float]:
    return median(getattr(each, name) for each in own), median(getattr(each, name) for each in base)


def _measured(contestants: list[Contestant]) -> dict[str, list[_Round]]:
    with ExitStack() as stack:
        running = [(each, *_started(each, stack)) for each in contestants]
        found: dict[str, list[_Round]] = {each.name: [] for each in contestants}
        for number in range(-1, _ROUNDS):  # the first one warms up
            progress(f"requests, round {number + 1} of {_ROUNDS}")
            turn = number % len(running)
            for contestant, space, worker in running[turn:] + running[:turn]:
                took = _round(space, worker)
                if number >= 0:
                    found[contestant.name].append(took)
                if (contestant.folder / LOG).exists():
                    os.truncate(contestant.folder / LOG, 0)  # it would be some GB in the end
    return found


def _started(contestant: Contestant, stack: ExitStack) -> tuple[Namespace, int]:
    """An nginx and its backend in a namespace of their own; the process that is its worker."""
    folder = contestant.folder
    space = Namespace("bench")
    stack.callback(space.close)
    space.run(["ip", "link", "set", "lo", "up"], check=True)
    backend = _BACKEND.format(folder=folder, port=BACKEND_PORT, body="x" * 1024)
    for name, text in (("backend", backend), ("nginx", contestant.text)):
        config = folder / f"{name}.conf"
        config.write_text(text)
        program = space.spawn(["nginx", "-p", str(folder), "-c", str(config)])
        stack.callback(_ended, program)
    return space, _worker(folder / "nginx.pid")


def _ended(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    program.wait()


def _worker(pid_file: Path) -> int:
    for _ in range(100):
        if pid_file.exists() and (master := pid_file.read_text().strip()):
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    parent = stat.read_text().rpartition(")")[2].split()[1]
                except OSError:  # it has ended meanwhile
                    continue
                if parent == master:
                    return int(stat.parent.name)
        time.sleep(0.1)
    raise RuntimeError(f"no worker of nginx: {pid_file}")


def _spent(pid: int) -> int:
    """Nanoseconds that a process of one thread was on a processor: /proc/PID/stat has the same in steps of 10 ms."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _round(space: Namespace, worker: int) -> _Round:
    argv = ["wrk", "-t1", "-c32", "-d1s", "--latency", "-H", "Host: app0.example.org", "http://127.0.0.1/"]
    before = _spent(worker)
    said = space.run(argv, timeout=30, check=True).stdout
    after = _spent(worker)
    if "Non-2xx" in said:
        raise RuntimeError(f"not all answers were good: {said}")
    number, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    wait = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    assert number is not None and rate is not None and wait is not None, said
    millis = float(wait[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[wait[2]]
    return _Round((after - before) / int(number[1]) / 1000, float(rate[1]), millis)

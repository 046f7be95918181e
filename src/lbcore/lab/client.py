"""What one does at the client: fetch a page, look at neighbours, measure how long an address was silent."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.lab import probe
from lbcore.lab.errors import UnsteadyError
from lbcore.lab.namespaces import Namespace
from lbcore.lab.waiting import wait_for

__all__ = ["Answer", "Requests", "fetch", "measure_requests"]

_STEADY = 3  # answers before a measurement begins
_FIRST_ANSWER = 5.0  # seconds to wait for them


@frozen(kw_only=True)
class Answer:
    """What curl got: `status` is 0 and `error` says why when there was no answer."""

    status: int = 0
    headers: Mapping[str, str] = field(factory=Map)  # names in lower case
    body: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether a page came."""
        return self.status == 200

    @property
    def served_by(self) -> str:
        """`POD/NODE` of the pod that answered, empty if unknown."""
        return self.headers.get("x-served-by", "")


def url(address: Address, port: int, path: str = "/") -> str:
    """`http://192.0.2.1:80/`, with brackets around IPv6."""
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{port}{path}"


def fetch(client: Namespace, address: Address, port: int, path: str, timeout: float) -> Answer:
    """`curl` in a namespace, for `timeout` seconds at most; no answer is an `Answer`, not an error."""
    start = time.monotonic()
    argv = ["curl", "-sS", "--include", "--noproxy", "*", "--max-time", str(timeout), url(address, port, path)]
    done = client.run(argv, timeout=timeout + 10)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        return Answer(error=done.stderr.strip(), seconds=seconds)
    # `run` reads text with universal newlines, so the empty line after the headers is a bare one.
    head, _, body = done.stdout.partition("\n\n")
    status, *lines = head.splitlines()
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Answer(status=int(status.split()[1]), headers=Map(headers), body=body, seconds=seconds)


@frozen(kw_only=True)
class Requests:
    """What became of the requests around something that was done to the cluster; times in seconds.

    `silence` is the longest time between two answers. Where several nodes answer, some requests are lost while
    others are not: `lost_for` is from the beginning of what was done until the last one was sent that got no answer.
    """

    made: int
    lost: int
    silence: float
    lost_for: float


class _Samples:
    """The requests that a running probe has reported."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.answered: list[float] = []  # when each answer came
        self.lost = 0
        self.last_failure = -math.inf  # when the last unanswered request was sent
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            sent, ended, answered = line.split()
            if answered == b"1":
                self.answered.append(float(ended))
            else:
                self.lost += 1
                self.last_failure = max(self.last_failure, float(sent))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def steady_since(self, moment: float) -> bool:
        """Whether every request sent after a moment was answered, and there was at least one."""
        return self.last_failure < moment and bool(self.answered) and self.answered[-1] > moment


def measure_requests(
    client: Namespace,
    address: Address,
    during: Callable[[], object],
    *,
    port: int,
    interval: float,
    timeout: float,
    settle: float,
    limit: float,
    fresh: bool = False,
) -> Requests:
    """Ask for a page all the time, from just before `during()` until answers were steady for `settle` seconds
    again. See `Lab.outage`.
    """
    argv = [sys.executable, "-I", "-S", probe.__file__, str(address), str(port), str(interval), str(timeout)]
    argv += ["fresh"] if fresh else []
    samples = _Samples(client.spawn(argv, stdout=subprocess.PIPE))
    try:
        wait_for(
            lambda: len(samples.answered) >= _STEADY,
            min(limit, _FIRST_ANSWER),
            f"{address} does not answer, before any fault",
        )
        start = time.monotonic()
        during()
        wait_for(
            lambda: samples.steady_since(max(start, time.monotonic() - settle)) and time.monotonic() - start > settle,
            limit,
            f"{address} did not answer steadily within {limit:g} s after the fault",
            kind=UnsteadyError,
        )
    finally:
        samples.stop()
    answered = sorted(samples.answered)
    first = max((index for index, moment in enumerate(answered) if moment <= start), default=0)
    gaps = zip(answered[first:], answered[first + 1 :], strict=False)
    return Requests(
        made=len(answered) + samples.lost,
        lost=samples.lost,
        silence=max((later - earlier for earlier, later in gaps), default=0.0),
        lost_for=max(samples.last_failure - start, 0.0),
    )

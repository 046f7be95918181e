"""The controller at a real API server, beside MetalLB's own controller and beside no controller at all.

Each runs alone at an API server of its own, in one run: Services are created by 16 clients at once, then nothing
happens for a minute, then they are created at 50 a second, then the controller is started anew. The floor is what the
same clients need when each writes the status itself. Without the programs (KUBEBUILDER_ASSETS, LBCORE_PEERS) the rows
are left out. LBCORE_BENCH_SERVICES says how many Services (`--services`); with `2000,10000` it is done for both, and
takes 20 minutes on two idle cores, half of that for MetalLB with 10,000.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from attrs import frozen

from benchmarks.apiload import Load, Usage, Writes, connected
from benchmarks.report import Row, progress
from lbcore.lab.controlplane import ApiServer, Daemon
from lbcore.lab.errors import LabError, LabUnavailable

__all__ = ["NAME", "run"]

NAME = "Services at a real API server (time that passes): lbcore, MetalLB's controller, and no controller"
SIZES = tuple(int(each) for each in os.environ.get("LBCORE_BENCH_SERVICES", "2000").split(","))
RATE, RATED = 50.0, 1000  # Services a second, and how many
IDLE = 60.0  # seconds
_LIMIT = 900.0  # seconds for all Services to be served: then something is broken
_CRDS = Path(__file__).parent.parent / "deploy" / "chart" / "files" / "crds.yaml"

_CONFIG = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: first, namespace: metallb-system}
spec: {addresses: [172.16.0.0/16]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: first, namespace: metallb-system}
"""
_SYSTEM = "apiVersion: v1\nkind: Namespace\nmetadata: {name: metallb-system}\n"

# MetalLB's controller asks for its own Pod and for the Deployment that owns the Secret it makes.
_METALLB = """\
apiVersion: v1
kind: Pod
metadata: {name: controller-0, namespace: metallb-system}
spec: {containers: [{name: controller, image: controller}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: metallb-system}
spec:
  replicas: 0
  selector: {matchLabels: {app: metallb}}
  template:
    metadata: {labels: {app: metallb}}
    spec: {containers: [{name: controller, image: controller}]}
"""


T = TypeVar("T")


@frozen(kw_only=True)
class Burst:
    """Services created as fast as 16 clients can, until the last had its address."""

    seconds: float
    settled: float  # the same until the last write of all: Events and the pool's counts come after the addresses
    p50: float
    p99: float
    writes: Writes
    usage: Usage | None = None


@frozen(kw_only=True)
class Controlled:
    """What one controller did with `size` Services."""

    burst: Burst
    idle: Writes
    steady: list[float]
    restarted: float  # seconds from its start until a Service created at that moment had its address
    restart_writes: Writes
    restart_usage: Usage
    moved: int  # Services that the new start gave another address


def run() -> Iterator[Row]:
    """The table, row by row: what has been measured is not lost with what comes after."""
    try:
        ApiServer.start().close()
    except LabUnavailable as error:
        progress(f"left out: {error}")
        return
    cpu: dict[int, float] = {}
    for size in SIZES:
        what = f"{size:,} Services, no controller"
        floor: Burst | None = None
        alone = _tried(what, _floor(size))
        if alone is not None:
            floor, steady = alone
            yield from _burst_rows(what, floor, size, None)
            yield from _steady_rows(what, steady, ours=False)
        ours = _tried(f"{size:,}, lbcore", _controlled("lbcore", _lbcore, size))
        theirs = _tried(f"{size:,}, MetalLB", _controlled("MetalLB", _metallb, size)) if _peers() else None
        if ours is not None:
            yield from _rows(f"{size:,}, lbcore", ours, size, floor, theirs, ours=True)
            cpu[size] = ours.burst.usage.cpu if ours.burst.usage is not None else 0.0
        if theirs is not None:
            yield from _rows(f"{size:,}, MetalLB", theirs, size, floor, None, ours=False)
    if len(cpu) > 1:
        least, most = min(cpu), max(cpu)
        what = f"CPU of lbcore's controller, {most:,} Services compared with {least:,}"
        yield Row(what=what, figure=cpu[most] / cpu[least], unit="times", note=f"{most / least:g} times the Services")


def _tried(what: str, measured: Coroutine[Any, Any, T]) -> T | None:
    """What was measured; None where it did not get there, which must not cost the figures of the others."""
    try:
        return asyncio.run(measured)
    except (AssertionError, LabError, aiohttp.ClientError, TimeoutError, OSError, ExceptionGroup) as error:
        progress(f"{what} is left out: {type(error).__name__}: {str(error)[-1000:]}")
        return None


def _peers() -> Path | None:
    folder = os.environ.get("LBCORE_PEERS")
    return Path(folder) if folder else None


def _lbcore(api: ApiServer) -> Daemon:
    return api.daemon(
        "lbcore",
        ["-m", "lbcore.cli.main", "controller", "--kubeconfig", str(api.kubeconfig)],
        program=sys.executable,
    )


def _metallb(api: ApiServer) -> Daemon:
    api.apply(_METALLB)
    peers = _peers()
    assert peers is not None
    options = {
        "--kubeconfig": str(api.kubeconfig),
        "--namespace": "metallb-system",
        "--pod-name": "controller-0",
        "--port": "0",
        "--webhook-mode": "disabled",
        "--health-probe-port": "17472",
        "--cert-dir": str(api.folder / "webhook"),
        "--log-level": "error",
    }
    names = {"BGP_TYPE": "native", "ML_SECRET_NAME": "memberlist", "DEPLOYMENT": "controller"}
    return api.daemon(
        "metallb",
        [part for pair in options.items() for part in pair],
        program=peers / "metallb-controller",
        environment={f"METALLB_{name}": value for name, value in names.items()},
    )


@asynccontextmanager
async def _server() -> AsyncIterator[tuple[ApiServer, Load]]:
    with ApiServer.start(flags=["--disable-admission-plugins=ServiceAccount"]) as api:
        api.apply(_SYSTEM, _CRDS)
        api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        api.apply(_CONFIG)
        async with connected(api) as load:
            yield api, load


async def _floor(size: int) -> tuple[Burst, list[float]]:
    """The burst, and then the steady rate with all those Services there: creates get dearer with their number."""
    progress(f"{size:,} Services without a controller")
    async with _server() as (_, load):
        names, steady = _names("service", size), _names("steady", RATED)
        before = await load.writes()
        await load.create_all(names, load.patch_status)
        assert await load.all_served(_LIMIT)
        burst = _burst(load, names, (await load.writes()).since(before), 0.0, None)
        progress(f"{RATED} Services without a controller, {RATE:g} a second")
        await load.create_steadily(steady, RATE, load.patch_status)
        assert await load.all_served(_LIMIT)
        return burst, load.latencies(steady)


async def _controlled(who: str, controller: Callable[[ApiServer], Daemon], size: int) -> Controlled:
    async with _server() as (api, load):
        daemon = controller(api).start()
        await load.create("warm-up")
        assert await load.all_served(60), daemon.said()
        await load.quiet(2)
        progress(f"{size:,} Services with {who}'s controller")
        burst = await _measured_burst(load, daemon, size)
        settled = await load.quiet(5)
        progress(f"{IDLE:g} seconds of nothing")
        await asyncio.sleep(IDLE)
        idle = (await load.writes()).since(settled)
        progress(f"{RATED} Services, {RATE:g} a second")
        steady = _names("steady", RATED)
        await load.create_steadily(steady, RATE)
        assert await load.all_served(_LIMIT), daemon.said()
        settled = await load.quiet(5)
        progress("a new start")
        before = dict(load.addresses)
        daemon.stop()
        begin = time.monotonic()
        daemon.start()
        await load.create("after-the-start")
        assert await load.all_served(_LIMIT), daemon.said()
        restarted = time.monotonic() - begin
        writes = (await load.quiet(10)).since(settled)
        return Controlled(
            burst=burst,
            idle=idle,
            steady=load.latencies(steady),
            restarted=restarted,
            restart_writes=writes,
            restart_usage=Usage.of(daemon.pid),
            moved=sum(load.addresses[name] != address for name, address in before.items()),
        )


async def _measured_burst(load: Load, daemon: Daemon, size: int) -> Burst:
    names = _names("service", size)
    before, used = await load.writes(), Usage.of(daemon.pid)
    await load.create_all(names)
    assert await load.all_served(_LIMIT), daemon.said()
    settled, at = await load.rested(3)
    usage = Usage.of(daemon.pid)
    own = Usage(cpu=usage.cpu - used.cpu, memory=usage.memory)
    assert len(set(load.addresses.values())) == len(load.addresses)
    return _burst(load, names, settled.since(before), at, own)


def _burst(load: Load, names: list[str], writes: Writes, settled: float, usage: Usage | None) -> Burst:
    latencies = load.latencies(names)
    first = min(load.asked[name] for name in names)
    last = max(load.served[name] for name in names)
    return Burst(
        seconds=last - first,
        settled=max(settled, last) - first,
        p50=_share(latencies, 0.5),
        p99=_share(latencies, 0.99),
        writes=writes,
        usage=usage,
    )


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _burst_rows(what: str, burst: Burst, size: int, floor: Burst | None, *, ours: bool = False) -> list[Row]:
    return [
        Row(what=f"{what}: first create to last status", figure=burst.seconds, unit="s",
            at_most=floor.seconds * 1.25 if ours and floor is not None else None,
            note=", ".join(filter(None, (_times(burst.seconds, floor), f"{size / burst.seconds:,.0f} a second")))),
        Row(what=f"{what}: create to status, median", figure=burst.p50 * 1000, unit="ms"),
        Row(what=f"{what}: create to status, 99th percentile", figure=burst.p99 * 1000, unit="ms"),
    ]  # fmt: skip


def _rows(
    what: str, found: Controlled, size: int, floor: Burst | None, other: Controlled | None, *, ours: bool
) -> list[Row]:
    burst = found.burst
    assert burst.usage is not None
    share = 3 if size < 10_000 else 10
    cpu = other.burst.usage.cpu / share if other is not None and other.burst.usage is not None else None
    statuses = burst.writes.of("services/status", "services") - size  # the creates are ours
    return [
        *_burst_rows(what, burst, size, floor, ours=ours),
        Row(what=f"{what}: first create to last write of all, Events included", figure=burst.settled, unit="s",
            note=_times(burst.settled, floor)),
        Row(what=f"{what}: writes of a Service, each assignment", figure=statuses / size, unit="writes",
            at_most=1.05 if ours else None),
        Row(what=f"{what}: all API writes, each assignment",
            figure=burst.writes.but("leases", "ipaddresses") / size - 1,
            unit="writes", note=burst.writes.told()),
        Row(what=f"{what}: CPU of the controller", figure=burst.usage.cpu, unit="s", at_most=cpu),
        Row(what=f"{what}: memory, at most", figure=burst.usage.memory, unit="MB"),
        Row(what=f"{what}: writes while idle for {IDLE:g} s, Leases aside", figure=found.idle.but("leases"),
            unit="writes", at_most=0 if ours else None, note=found.idle.told()),
        *_steady_rows(what, found.steady, ours=ours),
        Row(what=f"{what}: new start, until a new Service is served", figure=found.restarted, unit="s",
            at_most=5 if ours else None, note=f"CPU {found.restart_usage.cpu:.1f} s"),
        Row(what=f"{what}: its writes but for the new Service",
            figure=found.restart_writes.but("leases", "ipaddresses") - _for_one(found.restart_writes), unit="writes",
            at_most=0 if ours else None, note=found.restart_writes.told()),
        Row(what=f"{what}: Services that it gave another address", figure=found.moved, unit="Services",
            at_most=0 if ours else None),
    ]  # fmt: skip


def _times(seconds: float, floor: Burst | None) -> str:
    return f"{seconds / floor.seconds:.2f} times the floor" if floor is not None else ""


def _steady_rows(what: str, latencies: list[float], *, ours: bool) -> list[Row]:
    return [
        Row(what=f"{what}: {RATE:g} a second, create to status, median", figure=_share(latencies, 0.5) * 1000,
            unit="ms"),
        Row(what=f"{what}: the same, 99th percentile", figure=_share(latencies, 0.99) * 1000, unit="ms",
            at_most=50 if ours else None),
    ]  # fmt: skip


def _for_one(writes: Writes) -> int:
    """The writes that the one new Service is due: its create, its status, its Event, the pool's count."""
    due = ("services", "services/status", "events", "ipaddresspools/status")
    return sum(min(1, writes.of(resource)) for resource in due)

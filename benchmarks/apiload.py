"""Clients of an API server that create Services and look when each gets its status, and what the server counted.

Everything runs in one asyncio loop, on aiohttp: 0.2 ms of this process's time a request, where the API server needs
5 ms of its own for a Service and its status. What the controller under test costs is read from /proc.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from attrs import field, frozen

from lbcore.lab.controlplane import ApiServer

__all__ = ["CLIENTS", "Load", "Usage", "Writes", "connected"]

CLIENTS = 16
_WRITES = re.compile(r"apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITING = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
_TRIES = 60  # of one request: then something is broken
_TICKS = os.sysconf("SC_CLK_TCK")
SERVICES = "/api/v1/namespaces/shop/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"


@frozen
class Writes:
    """How many writes the API server has counted, by verb, resource and status code."""

    counts: Counter[tuple[str, str, str]]

    def since(self, earlier: Writes) -> Writes:
        """Those after `earlier`."""
        return Writes(self.counts - earlier.counts)

    def of(self, *resources: str) -> int:
        """Writes of these (`services/status`), refused ones too."""
        return sum(count for (_, resource, _), count in self.counts.items() if resource in resources)

    def but(self, *resources: str) -> int:
        """Writes of all others."""
        return self.counts.total() - self.of(*resources)

    def conflicts(self) -> int:
        """Writes that were refused with 409."""
        return sum(count for (_, _, code), count in self.counts.items() if code == "409")

    def told(self) -> str:
        """`POST events 200, PATCH services/status 100`."""
        lines = Counter[str]()
        for (verb, resource, code), count in self.counts.items():
            lines[f"{verb} {resource}{'' if code < '300' else f' ({code})'}"] += count
        return ", ".join(f"{what} {count:,}" for what, count in lines.most_common())


@frozen(kw_only=True)
class Usage:
    """What a process has used: seconds of CPU, and the most memory it had resident, in MB."""

    cpu: float
    memory: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Up to now; children are not counted."""
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return cls(cpu=(int(fields[11]) + int(fields[12])) / _TICKS, memory=int(peak) / 1024)


@frozen(eq=False)
class Load:
    """Services created by this, when each was asked for, and when its address was first seen (`time.monotonic`)."""

    session: aiohttp.ClientSession
    url: str
    asked: dict[str, float] = field(factory=dict)
    served: dict[str, float] = field(factory=dict)
    answered: dict[str, float] = field(factory=dict)
    addresses: dict[str, str] = field(factory=dict)
    _change: asyncio.Event = field(factory=asyncio.Event)

    async def create(self, name: str) -> None:
        """One Service of type LoadBalancer without node ports (there are 2,768 of those)."""
        spec = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80}]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        self.asked[name] = time.monotonic()
        # 409: it is there, made by a request that the server gave up on.
        await self._ask("POST", SERVICES, body, "application/json", done=(201, 409))
        self.answered[name] = time.monotonic()

    async def create_all(self, names: Iterable[str], then: Callable[[str, int], Any] | None = None) -> None:
        """All of them, by `CLIENTS` clients; each does `then` with name and number before its next one."""
        waiting = iter(enumerate(names))

        async def client() -> None:
            for number, name in waiting:
                await self.create(name)
                if then is not None:
                    await then(name, number)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def create_steadily(
        self, names: list[str], rate: float, then: Callable[[str, int], Any] | None = None
    ) -> None:
        """`rate` of them a second, whether or not earlier ones are answered; `then` as for `create_all`."""
        start = time.monotonic()

        async def one(number: int, name: str) -> None:
            await self.create(name)
            if then is not None:
                await then(name, number)

        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names):
                await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
                group.create_task(one(number, name))

    async def patch_status(self, name: str, number: int) -> None:
        """What a controller writes, without a controller: the floor."""
        await self.patch_address(name, f"172.16.{number // 256}.{number % 256}")

    async def patch_address(self, name: str, address: str) -> None:
        """Give a Service this address."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
        await self._ask("PATCH", f"{SERVICES}/{name}/status", status, "application/merge-patch+json", done=(200,))

    async def create_endpoints(self, name: str, node: str) -> None:
        """One ready endpoint of a Service, on a node."""
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": node, "conditions": {"ready": True}}],
            "ports": [{"name": "", "port": 80}],
        }
        await self._ask("POST", SLICES, body, "application/json", done=(201, 409))

    async def _ask(self, method: str, path: str, body: object, kind: str, *, done: tuple[int, ...]) -> None:
        """One request, again after a pause where the server has too much to do: that is time which counts."""
        data, headers, text = json.dumps(body).encode(), {"Content-Type": kind}, ""
        for _ in range(_TRIES):
            async with self.session.request(method, self.url + path, data=data, headers=headers) as answer:
                text = await answer.text()
                if answer.status in done:
                    return
            assert answer.status == 429 or answer.status >= 500, text
            await asyncio.sleep(0.5)
        raise AssertionError(text)

    async def all_served(self, seconds: float) -> bool:
        """Whether every Service that was asked for has an address, as soon as that is so, or after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.served) < len(self.asked):
                    self._change.clear()
                    await self._change.wait()
        return len(self.served) >= len(self.asked)

    async def follow(self, version: str) -> None:
        """Watch the Services from a resourceVersion on; ends when it is cancelled."""
        while True:
            with suppress(aiohttp.ClientError):
                await self._follow(version)
            # Cut by the server: what came meanwhile is in a list.
            async with self.session.get(self.url + SERVICES) as answer:
                listed = await answer.json()
            version = listed["metadata"]["resourceVersion"]
            for each in listed["items"]:
                if each["status"]["loadBalancer"].get("ingress"):
                    self._seen(each, time.monotonic())

    async def _follow(self, version: str) -> None:
        parameters = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(self.url + SERVICES, params=parameters, timeout=timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                now = time.monotonic()
                for line in lines:
                    # Most lines need no parser: those of creations have no address yet.
                    if b'"ingress":[{' in line:
                        self._seen(json.loads(line)["object"], now)

    def _seen(self, service: Mapping[str, Any], now: float) -> None:
        name = service["metadata"]["name"]
        self.addresses[name] = service["status"]["loadBalancer"]["ingress"][0]["ip"]
        if name in self.asked and name not in self.served:
            self.served[name] = now
            self._change.set()

    def latencies(self, names: Iterable[str]) -> list[float]:
        """Seconds from asking for each Service to seeing its address."""
        return sorted(self.served[name] - self.asked[name] for name in names)

    async def writes(self) -> Writes:
        """What the API server has counted up to now."""
        counts = Counter[tuple[str, str, str]]()
        async with self.session.get(self.url + "/metrics") as answer:
            text = await answer.text()
        for found in _WRITES.finditer(text):
            labels = dict(_LABEL.findall(found["labels"]))
            if labels["verb"] in _WRITING:
                resource = "/".join(filter(None, (labels["resource"], labels["subresource"])))
                counts[labels["verb"], resource, labels["code"]] += int(float(found["count"]))
        return Writes(counts)

    async def quiet(self, seconds: float, limit: float = 300.0) -> Writes:
        """Return when nothing but Leases was written for `seconds`; what had been counted then."""
        return (await self.rested(seconds, limit))[0]

    async def rested(self, seconds: float, limit: float = 300.0) -> tuple[Writes, float]:
        """The same, and when the last of these writes was seen (half a second late at most)."""
        end = time.monotonic() + limit
        before, since = await self.writes(), time.monotonic()
        while time.monotonic() - since < seconds and time.monotonic() < end:
            await asyncio.sleep(0.5)
            now = await self.writes()
            if now.since(before).but("leases"):
                before, since = now, time.monotonic()
        return before, since


@asynccontextmanager
async def connected(api: ApiServer) -> AsyncIterator[Load]:
    """Clients of an API server that follow the Services of namespace `shop`, which must be there."""
    trust = ssl.create_default_context(cafile=str(api.authority))
    connector = aiohttp.TCPConnector(ssl=trust, limit=0)
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        load = Load(session, api.url)
        async with session.get(api.url + SERVICES, params={"limit": "1"}) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        following = asyncio.create_task(load.follow(version))
        try:
            yield load
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError, aiohttp.ClientError):
                await following

"""A real API server, controllers that are troubled, Services that are created meanwhile, and the verdict at the end.

`LBCORE_FAULTS=10` makes ten times as many Services, kills and cuts as a run of the whole suite has time for.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import records
from fleet import advertisement, pool
from kubefleet import install_crds
from lbcore.lab.api import Answered, Caller
from lbcore.lab.controlplane import ApiServer, Daemon, kubeconfig_text

__all__ = ["MANY", "Troubled", "troubled"]

MANY = int(os.environ.get("LBCORE_FAULTS", "1"))
PATIENCE = 120.0  # seconds for what takes a few, on a busy machine and with a server that was just killed
_SERVICES = "/api/v1/namespaces/shop/services"
_POOLS = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools"
_WITHOUT = "--disable-admission-plugins=ServiceAccount"
_CLIENTS = 8
_LEADERSHIP = re.compile(r"(not )?leading: ")


class Troubled:
    """The cluster `shop` with one pool, and whoever serves it."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self._numbers = itertools.count(1)
        self._names = itertools.count(1)
        self.made: list[str] = []
        self.controllers: list[Daemon] = []
        install_crds(api)
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        api.apply(pool("first", "172.16.0.0/20"), advertisement())

    # Controllers

    def controller(
        self,
        *options: str,
        kubeconfig: Path | None = None,
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Daemon:
        """Start one of ours; `before` is put in front of its command."""
        number = next(self._numbers)
        argv = [*before, sys.executable, "-m", "lbcore.cli.main", "controller"]
        argv += ["--kubeconfig", str(kubeconfig or self.api.kubeconfig), *options]
        daemon = self.api.daemon(f"controller-{number}", argv[1:], program=argv[0], environment=environment)
        self.controllers.append(daemon)
        return daemon.start()

    def leader(self, *, but: Daemon | None = None) -> Daemon:
        """Who leads, by its own word; waits until there is somebody, `but` that one, who cannot speak."""

        def leading() -> list[Daemon]:
            return [each for each in self.controllers if each is not but and each.running and _leads(each)]

        self.wait(leading, "a controller to lead", 60)
        return leading()[-1]

    def forget_lease(self) -> None:
        """Let the next controller lead at once, since the last one that led is dead."""
        path = "/apis/coordination.k8s.io/v1/namespaces/metallb-system/leases/lbcore-controller"
        assert self.api.request("DELETE", path).status in (200, 404)

    def kubeconfig_by_way_of(self, url: str) -> Path:
        """An administrator's kubeconfig whose server is something in front of the API server."""
        path = self.api.folder / f"by-way-{next(self._numbers)}.kubeconfig"
        path.write_text(kubeconfig_text(url, self.api.token, self.api.authority), encoding="utf-8")
        return path

    # Services

    def create(self, count: int) -> list[str]:
        """Create Services with a few clients at once, whatever happens to the server; returns when all are there."""
        names = [f"service-{next(self._names)}" for _ in range(count)]
        waiting = iter(names)
        lock = threading.Lock()

        def client() -> None:
            with closing(self.api.caller()) as caller:
                while (name := _next(waiting, lock)) is not None:
                    _create(caller, name)

        clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        self.made += names
        return names

    def delete(self, names: Sequence[str]) -> None:
        with closing(self.api.caller()) as caller:
            for name in names:
                caller.ask("DELETE", f"{_SERVICES}/{name}")
                self.made.remove(name)

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Who has what; empty while the server does not answer."""
        try:
            answered = self.api.request("GET", _SERVICES)
        except OSError:
            return {}
        if answered.status != 200:
            return {}
        return {
            each["metadata"]["name"]: tuple(
                ingress["ip"] for ingress in each["status"].get("loadBalancer", {}).get("ingress", ())
            )
            for each in answered.document["items"]
        }

    def served(self) -> int:
        """How many have an address."""
        return sum(bool(held) for held in self.addresses().values())

    def wait(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}\n{self.words()}"
            assert any(each.running for each in self.controllers), f"every controller has ended\n{self.words()}"
            time.sleep(0.05)

    def wait_for_served(self, names: Sequence[str] | None = None) -> None:
        """Until these Services, or all that were made, have an address."""

        def all_served() -> bool:
            held = self.addresses()
            return all(held.get(name) for name in names or self.made)

        self.wait(all_served, f"{len(names or self.made)} Services to be served")

    @contextmanager
    def meanwhile(self, action: Callable[[], object]) -> Iterator[None]:
        """Do something again and again, in a thread of its own, while the block runs."""
        stop = threading.Event()
        failed: list[BaseException] = []

        def body() -> None:
            try:
                while not stop.is_set():
                    action()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not failed, failed

    def words(self) -> str:
        """What the controllers said last."""
        return "\n".join(
            f"{each.name} ({'runs' if each.running else 'ended'}): {each.said()}" for each in self.controllers
        )

    # The end

    def require_order(self, known: Sequence[records.Written] = ()) -> None:
        """Everything is settled, one new Service is served, and the judge finds nothing in the whole history, of
        which etcd may have forgotten what is `known`.
        """
        self.wait_for_served()
        self.wait_for_served(self.create(1))
        # A pool's counts come a second after the addresses.
        self.wait(self._is_counted, "the pools' statuses to count what is used", seconds=30)
        found = records.judge(records.history(self.api, known))
        assert not found, "\n".join([*map(str, found), self.words()])

    def _is_counted(self) -> bool:
        held = sum(len(addresses) for addresses in self.addresses().values())
        answered = self.api.request("GET", _POOLS)
        pools = answered.document["items"] if answered.status == 200 else ()
        return bool(held == sum(each.get("status", {}).get("assignedIPv4", 0) for each in pools))


def _leads(controller: Daemon) -> bool:
    said = _LEADERSHIP.findall(controller.said(10**7))
    return bool(said) and not said[-1]


def _next(waiting: Iterator[str], lock: threading.Lock) -> str | None:
    with lock:
        return next(waiting, None)


def _create(caller: Caller, name: str) -> None:
    spec = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    deadline = time.monotonic() + PATIENCE
    while True:
        answered = _try(caller, body)
        # A server that is killed after it wrote has not answered: then the second attempt finds the Service.
        if answered is not None and answered.status in (201, 409):
            return
        assert time.monotonic() < deadline, answered
        time.sleep(0.1)


def _try(caller: Caller, body: object) -> Answered | None:
    try:
        return caller.request("POST", _SERVICES, body, timeout=10)
    except OSError:
        caller.close()
        return None


@contextmanager
def troubled() -> Iterator[Troubled]:
    """An API server of its own, whose etcd keeps every write, with the resources and a pool of 4,096 addresses."""
    with ApiServer.start(audit=True, flags=[_WITHOUT, *records.FLAGS]) as api:
        yield Troubled(api)

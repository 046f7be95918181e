"""A status that somebody else was faster with (409): the object is read again, and what changed decides what then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from lbcore.addresses import Address
from lbcore.backends.kubernetes import Access, KubernetesCluster
from lbcore.events import Applied, Failed
from lbcore.intents import SetAddresses
from lbcore.model import ServiceKey

PATH = "/api/v1/namespaces/shop/services/web"
Document = dict[str, Any]
WANTED = SetAddresses(key=ServiceKey("shop", "web"), addresses=(Address.parse("2001:db8::1"),), pool="six", uid="u1")


class Server:
    """One Service, with versions. `meanwhile` is done to it before each write that comes, as long as there is one."""

    def __init__(self, *meanwhile: Callable[[Document], None]) -> None:
        self.service: Document = {
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "1"},
            "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {}},
        }
        self.meanwhile = list(meanwhile)
        self.asked: list[str] = []

    def change(self, what: Callable[[Document], None]) -> None:
        what(self.service)
        metadata = self.service["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)

    async def get(self, _request: web.Request) -> web.Response:
        self.asked.append("GET")
        return web.json_response(self.service)

    async def patch(self, request: web.Request) -> web.Response:
        patch = await request.json()
        if self.meanwhile:
            self.change(self.meanwhile.pop(0))
        if patch["metadata"]["resourceVersion"] != self.service["metadata"]["resourceVersion"]:
            self.asked.append("409")
            return web.json_response({"message": "the object has been modified"}, status=409)
        self.asked.append("PATCH")
        self.change(lambda service: service.update(status=patch["status"]))
        return web.json_response(self.service)

    def apply(self, folder: Path, intent: SetAddresses = WANTED) -> Applied | Failed:
        """What comes of an intent."""

        async def main() -> Applied | Failed:
            application = web.Application()
            application.router.add_get(PATH, self.get)
            application.router.add_patch(f"{PATH}/status", self.patch)
            runner = web.AppRunner(application)
            await runner.setup()
            site = web.TCPSite(runner, "::1", 0)
            await site.start()
            url = f"http://[::1]:{runner.addresses[0][1]}"
            cluster = KubernetesCluster(Access(kubeconfig=kubeconfig(folder, url)))
            try:
                async with asyncio.timeout(20):
                    return await cluster.sink.apply(intent)
            finally:
                await cluster.close()
                await runner.cleanup()

        return asyncio.run(main())


def kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": url}}],
        "users": [{"name": "x", "user": {"token": "x"}}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def finalizer(service: Document) -> None:
    service["metadata"]["finalizers"] = ["example.org/x"]


def request_by_its_owner(service: Document) -> None:
    service["spec"]["loadBalancerIP"] = "2001:db8::9"


def rival(service: Document) -> None:
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "2001:db8::8"}]}}


def recreation(service: Document) -> None:
    service["metadata"]["uid"] = "u2"


def ours(service: Document) -> None:
    service["metadata"]["annotations"] = {"metallb.io/ip-allocated-from-pool": "six"}
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}}


def test_a_change_that_no_decision_rests_on_is_stepped_over_with_one_more_write(tmp_path: Path) -> None:
    server = Server(finalizer)
    assert Applied(WANTED) == server.apply(tmp_path)
    assert ["GET", "409", "GET", "PATCH"] == server.asked
    assert [{"ip": "2001:db8::1"}] == server.service["status"]["loadBalancer"]["ingress"]
    assert ["example.org/x"] == server.service["metadata"]["finalizers"]


def test_a_change_that_a_decision_rests_on_is_left_to_be_decided_anew(tmp_path: Path) -> None:
    for change in (request_by_its_owner, rival):
        server = Server(change)
        outcome = server.apply(tmp_path)
        assert isinstance(outcome, Failed)
        assert (True, "changed while it was written; it is looked at again") == (outcome.retry, outcome.message)
        assert ["GET", "409", "GET"] == server.asked


def test_nothing_is_written_to_a_service_of_the_same_name_that_is_another(tmp_path: Path) -> None:
    server = Server(recreation)
    before = deepcopy(server.service["status"])
    server.apply(tmp_path)
    assert ["GET", "409", "GET"] == server.asked
    assert before == server.service["status"]


def test_where_others_write_all_the_time_it_gives_up_for_now(tmp_path: Path) -> None:
    server = Server(*[finalizer] * 10)
    outcome = server.apply(tmp_path)
    assert isinstance(outcome, Failed)
    assert outcome.retry
    assert 4 == server.asked.count("409")


def test_what_shows_what_is_wanted_already_is_not_written(tmp_path: Path) -> None:
    server = Server()
    ours(server.service)
    assert Applied(WANTED) == server.apply(tmp_path)
    assert ["GET"] == server.asked

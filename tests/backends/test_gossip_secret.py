"""The Secret `memberlist` at a real API server: made once, by who leads, and never in place of somebody's own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from lbcore.adapters.memberlist.keys import metallb_key
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.gossip_secret import GossipSecret
from lbcore.lab.controlplane import ApiServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]


def ensure(access: Access, may_write: Callable[[], bool] = lambda: True, *, times: int = 1, within: float = 60) -> str:
    """Let so many controllers see to it at once; what they said."""
    heard: list[str] = []

    async def work() -> None:
        client = Client(access, agent="test")
        await client.sign_in()
        given: dict[str, Any] = {"deployment": "controller", "may_write": may_write, "say": heard.append}
        keepers = [GossipSecret(client, access.namespace, "memberlist", **given) for _ in range(times)]
        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*(each.ensure() for each in keepers))
        except TimeoutError:
            heard.append("gave up")
        finally:
            await client.close()

    asyncio.run(work())
    return "\n".join(heard)


def secret(api: ApiServer, namespace: str) -> Any:
    return api.ask("GET", f"/api/v1/namespaces/{namespace}/secrets/memberlist")


def test_it_is_made_once_with_its_deployment_as_owner(api: ApiServer, namespace: str) -> None:
    access = Access(kubeconfig=api.kubeconfig, namespace=namespace)
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template, "replicas": 0}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    owner = api.ask("POST", path, {"metadata": {"name": "controller"}, "spec": spec})
    assert "" == ensure(access, times=3)
    made = secret(api, namespace)
    assert [owner["metadata"]["uid"]] == [each["uid"] for each in made["metadata"]["ownerReferences"]]
    key = metallb_key(base64.b64decode(made["data"]["secretkey"]))
    assert key is not None
    assert 32 == len(key)
    assert "" == ensure(access)
    assert made == secret(api, namespace)


def test_one_that_somebody_made_stays_as_it_is(api: ApiServer, namespace: str) -> None:
    api.kubectl("create", "secret", "generic", "memberlist", "-n", namespace, "--from-literal=secretkey=mine")
    before = secret(api, namespace)
    assert "" == ensure(Access(kubeconfig=api.kubeconfig, namespace=namespace))
    assert before == secret(api, namespace)


def test_a_standby_makes_none(api: ApiServer, namespace: str) -> None:
    assert "gave up" == ensure(Access(kubeconfig=api.kubeconfig, namespace=namespace), lambda: False, within=1.0)
    assert 404 == api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/memberlist").status


def test_who_may_not_make_it_says_so_once_and_goes_on_trying(api: ApiServer, namespace: str) -> None:
    api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "poor"}})
    poor = Access(kubeconfig=api.kubeconfig_of(namespace, "poor"), namespace=namespace)
    said, end = ensure(poor, within=3.0).splitlines()
    assert said.startswith(f"Secret {namespace}/memberlist, which speakers need to gossip, cannot be made: 403 ")
    assert "gave up" == end

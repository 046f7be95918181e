"""What a node announces, written to a real API server: on change only, nothing twice, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubefleet import install_crds
from lbcore.adapters.kubernetes.announced import Owner
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.announcers import AnnouncedKeeper
from lbcore.backends.kubernetes.client import Client
from lbcore.intents import ReportAnnounced, SettleAnnounced
from lbcore.lab.controlplane import ApiServer
from lbcore.model import ServiceKey

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]

Names = tuple[str, ...]
Report = ReportAnnounced | SettleAnnounced

PATIENCE = 60.0  # seconds; nothing here takes longer than a few requests
L2, BGP = "servicel2statuses", "servicebgpstatuses"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


@pytest.fixture(scope="module", autouse=True)
def _definitions(api: ApiServer) -> None:
    install_crds(api)


def rows(api: ApiServer, plural: str, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.ask("GET", f"/apis/metallb.io/v1beta1/namespaces/{namespace}/{plural}")["items"]
    return items


def said(api: ApiServer, plural: str, namespace: str) -> set[tuple[Any, ...]]:
    """Node, Service, and interfaces or peers of every object."""
    found = set()
    for each in rows(api, plural, namespace):
        status = each.get("status", {})
        names = (one["name"] for one in status.get("interfaces", ())) if plural == L2 else status.get("peers", ())
        found.add((status.get("node"), status.get("serviceName"), tuple(names)))
    return found


def writes(api: ApiServer, namespace: str) -> list[tuple[str, str]]:
    """Verb and resource of every write to these objects."""
    found = []
    for each in api.requests():
        about = each.get("objectRef") or {}
        if each["verb"] in WRITES and about.get("resource") in (L2, BGP) and about.get("namespace") == namespace:
            resource = "/".join(part for part in (about["resource"], about.get("subresource", "")) if part)
            found.append((each["verb"], resource))
    return found


def report(
    name: str, *, node: str = "n1", on: tuple[str, ...] | None = None, to: tuple[str, ...] = ()
) -> ReportAnnounced:
    return ReportAnnounced(key=ServiceKey("default", name), node=node, interfaces=on, peers=to)


def settled(*living: str, node: str = "n1") -> SettleAnnounced:
    return SettleAnnounced(node=node, living=frozenset(living), sweeps=node == min(living))


def keep(
    access: Access,
    use: Callable[[AnnouncedKeeper], Awaitable[None]],
    *,
    node: str = "n1",
    owner: Owner | None = None,
    patience: float = PATIENCE,
) -> list[str]:
    """Let a speaker's keeper live through something, and stop it; what it said."""
    heard: list[str] = []

    async def live() -> None:
        client = Client(access, agent="test")
        await client.sign_in()
        keeper = AnnouncedKeeper(client, access.namespace, node, owner, heard.append)
        try:
            await use(keeper)
            assert await keeper.drain(patience) or heard
        finally:
            await keeper.close()
            await client.close()

    asyncio.run(live())
    return heard


def telling(*intents: Report) -> Callable[[AnnouncedKeeper], Awaitable[None]]:
    async def tell(keeper: AnnouncedKeeper) -> None:
        for each in intents:
            await keeper.apply(each)

    return tell


@pytest.fixture
def access(api: ApiServer, namespace: str) -> Access:
    return Access(kubeconfig=api.kubeconfig, namespace=namespace)


def test_each_change_is_written_once_and_nothing_else_is(api: ApiServer, namespace: str, access: Access) -> None:
    start: list[Report] = [
        report("web", on=(), to=("tor-a", "tor-b")),
        report("mail", on=("eth0",)),
        settled("n1", "n2"),
    ]
    keep(access, telling(*start))
    assert {("n1", "web", ()), ("n1", "mail", ("eth0",))} == said(api, L2, namespace)
    assert {("n1", "web", ("tor-a", "tor-b"))} == said(api, BGP, namespace)
    # Two for a new one: the API server takes no status with a creation.
    made = [("create", L2), ("patch", f"{L2}/status")] * 2 + [("create", BGP), ("patch", f"{BGP}/status")]
    assert sorted(made) == sorted(writes(api, namespace))
    keep(access, telling(*start))  # the speaker is started again: nothing is news
    assert sorted(made) == sorted(writes(api, namespace))
    keep(access, telling(report("web", on=("eth1",), to=("tor-b",)), report("mail", on=("eth0",)), settled("n1", "n2")))
    assert {("n1", "web", ("eth1",)), ("n1", "mail", ("eth0",))} == said(api, L2, namespace)
    assert {("n1", "web", ("tor-b",))} == said(api, BGP, namespace)
    changed = [*made, ("patch", f"{L2}/status"), ("patch", f"{BGP}/status")]
    assert sorted(changed) == sorted(writes(api, namespace))
    keep(access, telling(report("web"), report("mail"), settled("n1", "n2")))
    assert set() == said(api, L2, namespace) | said(api, BGP, namespace)
    gone = [*changed, ("delete", L2), ("delete", L2), ("delete", BGP)]
    assert sorted(gone) == sorted(writes(api, namespace))


def test_a_thousand_reports_of_one_service_are_few_writes(api: ApiServer, namespace: str, access: Access) -> None:
    flapping = [report("web", on=(f"eth{number % 7}",)) for number in range(1000)]
    keep(access, telling(*flapping, report("web", on=("eth9",))))
    assert {("n1", "web", ("eth9",))} == said(api, L2, namespace)
    assert len(writes(api, namespace)) < 10


def test_what_was_written_before_a_crash_and_holds_no_more_is_taken_away_when_all_is_said(
    api: ApiServer, namespace: str, access: Access
) -> None:
    keep(access, telling(report("web", on=()), report("old", on=())))
    keep(access, telling(report("web", on=())))
    assert {("n1", "web", ()), ("n1", "old", ())} == said(api, L2, namespace)  # not all has been said yet
    keep(access, telling(report("web", on=()), settled("n1")))
    assert {("n1", "web", ())} == said(api, L2, namespace)


def test_of_a_speaker_that_is_gone_nothing_stays_and_of_one_that_lives_all(
    api: ApiServer, namespace: str, access: Access
) -> None:
    for node in ("n1", "n2", "n3"):
        keep(access, telling(report(f"of-{node}", node=node, on=(), to=("tor",))), node=node)
    keep(access, telling(report("of-n2", node="n2", on=(), to=("tor",)), settled("n1", "n2", node="n2")), node="n2")
    assert {"n1", "n2", "n3"} == {node for node, *_ in said(api, L2, namespace)}  # another one sweeps
    keep(access, telling(report("of-n1", on=(), to=("tor",)), settled("n1", "n2")))
    for plural in (L2, BGP):
        assert {"n1", "n2"} == {node for node, *_ in said(api, plural, namespace)}


def test_what_somebody_deletes_or_metallb_wrote_is_put_right(api: ApiServer, namespace: str, access: Access) -> None:
    path = f"/apis/metallb.io/v1beta1/namespaces/{namespace}/{L2}"
    labels = {"metallb.io/node": "n1", "metallb.io/service-name": "web", "metallb.io/service-namespace": "default"}
    for name in ("l2-x7k2p", "l2-zz9qq"):  # MetalLB's own duplicates, not filled in yet
        meta = {"name": name, "labels": labels}
        api.ask("POST", path, {"apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status", "metadata": meta})
    keep(access, telling(report("web", on=()), settled("n1")))
    (row,) = rows(api, L2, namespace)
    assert ("l2-x7k2p", "n1") == (row["metadata"]["name"], row["status"]["node"])

    async def lose(keeper: AnnouncedKeeper) -> None:
        await keeper.apply(report("web", on=()))
        await keeper.apply(settled("n1"))
        await asyncio.to_thread(api.wait, lambda: len(writes(api, namespace)) >= 4, "its look")
        api.ask("DELETE", f"{path}/l2-x7k2p")
        await keeper.apply(report("web", on=("eth0",)))
        await asyncio.to_thread(api.wait, lambda: said(api, L2, namespace) == {("n1", "web", ("eth0",))}, "it again")

    keep(access, lose)


def test_the_pod_owns_what_it_wrote_and_takes_over_what_the_pod_before_it_did(
    api: ApiServer, namespace: str, access: Access
) -> None:
    keep(access, telling(report("web", on=())), owner=Owner("speaker-a", "uid-a"))
    keep(access, telling(report("web", on=()), settled("n1")), owner=Owner("speaker-b", "uid-b"))
    (row,) = rows(api, L2, namespace)
    assert [("Pod", "speaker-b", "uid-b")] == [
        (each["kind"], each["name"], each["uid"]) for each in row["metadata"]["ownerReferences"]
    ]
    assert 3 == len(writes(api, namespace))


def test_who_may_not_write_says_so_once_and_goes_on(api: ApiServer, namespace: str) -> None:
    api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "poor"}})
    poor = Access(kubeconfig=api.kubeconfig_of(namespace, "poor"), namespace=namespace)

    def refusals() -> int:
        return sum(each.get("responseStatus", {}).get("code") == 403 for each in api.requests())

    async def use(keeper: AnnouncedKeeper) -> None:
        await keeper.apply(report("web", on=()))
        await asyncio.to_thread(api.wait, lambda: refusals() >= 2, "two tries")

    (line,) = keep(poor, use, patience=0.1)
    assert line.startswith("who announces what cannot be written: 403 servicel2statuses.metallb.io is forbidden")


def test_a_server_without_these_kinds_is_left_alone(own_api: ApiServer) -> None:
    access = Access(kubeconfig=own_api.kubeconfig, namespace="default")
    heard = keep(access, telling(report("web", on=(), to=("tor",)), settled("n1")))
    assert ([], []) == (heard, writes(own_api, "default"))

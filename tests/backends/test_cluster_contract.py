"""What every cluster promises, whatever it is made of: one suite, run against each.

A world is a cluster with hands: it can write manifests into it as a user would. Nothing here
sleeps: it waits for events, for a bounded time, and shows that nothing came by what came next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pytest
import yaml

from lbcore.adapters.kubernetes.api import RESOURCES, object_path
from lbcore.adapters.kubernetes.changes import OBJECT_KINDS
from lbcore.adapters.kubernetes.crds import definitions
from lbcore.addresses import Address
from lbcore.backends.base import Sink, Source
from lbcore.backends.files import FilesCluster
from lbcore.backends.kubernetes import Access, KubernetesCluster
from lbcore.backends.memory import MemoryCluster
from lbcore.config import Config, ConfigDocument, Pool
from lbcore.events import (
    Applied,
    ConfigGone,
    ConfigMapSeen,
    ConfigSeen,
    Event,
    Failed,
    IngressClassSeen,
    IngressSeen,
    Kind,
    Listed,
    ManifestRefused,
    NamespaceSeen,
    NodeSeen,
    SecretSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
)
from lbcore.intents import (
    EventType,
    Intent,
    RecordEvent,
    ReportConfig,
    SetAddresses,
    SetPoolUsage,
    SetPresence,
)
from lbcore.lab.controlplane import ApiServer
from lbcore.model import Service, ServiceKey
from lbcore.verdicts import Reason, Refusal

PATIENCE = 8.0  # seconds; every wait here ends within a few milliseconds unless something is wrong

ALL = frozenset(OBJECT_KINDS)

_CONNECTED: list[KubernetesCluster] = []  # to hang up before their event loop ends


class Cluster(Protocol):
    """What a cluster is to a daemon."""

    @property
    def sink(self) -> Sink: ...

    def source(self, kinds: Iterable[Kind]) -> Source: ...


class World(Protocol):
    """A cluster, and a user who edits manifests in it."""

    cluster: Cluster

    def write(self, name: str, text: str) -> None:
        """Let the manifests called `name` be these."""

    def remove(self, name: str) -> None:
        """Take away the manifests called `name`, and the objects in them."""


class MemoryWorld:
    def __init__(self, _folder: Path) -> None:
        self.memory = MemoryCluster()
        self.cluster: Cluster = self.memory
        self._objects: dict[str, list[Service | ConfigDocument]] = {}

    def write(self, name: str, text: str) -> None:
        self.memory.apply(text, name)

    def remove(self, name: str) -> None:
        if name == "web.yaml":
            self.memory.delete(WEB)
        else:
            raise AssertionError("say here which objects these manifests hold")


class FilesWorld:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cluster: Cluster = FilesCluster(folder)

    def write(self, name: str, text: str) -> None:
        aside = self._folder / f".{name}.aside"
        aside.write_text(text)
        aside.replace(self._folder / name)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()


class _Own:
    """A cluster without what the API server keeps in it for itself: its own Service and namespaces."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster

    @property
    def sink(self) -> Sink:
        return self._cluster.sink

    def source(self, kinds: Iterable[Kind]) -> Source:
        return _OwnSource(self._cluster, self._cluster.source(kinds))


class _OwnSource:
    def __init__(self, cluster: KubernetesCluster, source: Source) -> None:
        self._cluster = cluster
        self._source = source

    async def events(self) -> AsyncGenerator[Event, None]:
        async with aclosing(self._source.events()) as events:  # type: ignore[type-var]
            async for event in events:
                if not _is_the_servers(event):
                    yield event


def _is_the_servers(event: Event) -> bool:
    kind, name = event.subject
    return (kind == "namespace" and name != "default") or "kube" in name


class ApiWorld:
    """A real API server; its user edits with `kubectl apply` what these tests write, and waits for nothing else."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._files: dict[str, list[str]] = {}
        cluster = KubernetesCluster(Access(kubeconfig=api.kubeconfig))
        _CONNECTED.append(cluster)
        self.cluster: Cluster = _Own(cluster)

    def write(self, name: str, text: str) -> None:
        documents = [each for each in yaml.safe_load_all(text) if each]
        paths = [(_path_of(each), each) for each in documents]
        self._files[name] = [path for path, _ in paths]
        for path, document in paths:
            status = document.pop("status", None)
            if status and "loadBalancer" in status:
                self._apply(path, document)
                self._api.ask("PATCH", f"{path}/status", {"status": status})
            else:
                self._apply(path, document)

    def _apply(self, path: str, document: dict[str, Any]) -> None:
        there = self._api.request("GET", path)
        if there.status == 404:
            self._api.ask("POST", path.rpartition("/")[0], document)
        elif document["kind"] == "EndpointSlice":  # a merge would keep a label that was taken off
            version = there.wanted(path)["metadata"]["resourceVersion"]
            self._api.ask("PUT", path, {**document, "metadata": {**document["metadata"], "resourceVersion": version}})
        else:
            self._api.ask("PATCH", path, document)

    def remove(self, name: str) -> None:
        for path in self._files.pop(name):
            self._api.ask("DELETE", path)

    def clean(self) -> None:
        """Take away all that a test made; what the server itself has stays."""
        _CONNECTED.clear()
        for files in list(self._files):
            for path in self._files.pop(files):
                if not path.endswith(("/namespaces/default",)):
                    self._api.request("DELETE", path)


def _path_of(document: dict[str, Any]) -> str:
    resource = next(each for each in RESOURCES if each.name == document["kind"])
    metadata = document["metadata"]
    namespaced = document["kind"] not in ("Node", "Namespace", "IngressClass")
    namespace = metadata.setdefault("namespace", "default") if namespaced else ""
    return object_path(resource.api_version, resource.plural, namespace, metadata["name"])


@pytest.fixture(scope="module")
def api_with_definitions() -> Iterator[ApiServer]:
    with ApiServer.start(flags=("--disable-admission-plugins=ServiceAccount",)) as api:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"}}
        api.ask("POST", "/api/v1/namespaces", namespace)
        api.apply(*definitions())
        api.wait(lambda: _serves_pools(api), "the definitions to be served")
        yield api


def _serves_pools(api: ApiServer) -> bool:
    return all(
        api.request("GET", each.path("metallb-system")).status == 200 for each in RESOURCES if each.kind is Kind.CONFIG
    )


_API = pytest.param(ApiWorld, id="kubernetes", marks=pytest.mark.needs("envtest", "openssl", "kubectl"))


@pytest.fixture(params=[pytest.param(MemoryWorld, id="memory"), pytest.param(FilesWorld, id="files"), _API])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param is not ApiWorld:
        yield cast(World, request.param(tmp_path))
        return
    made = ApiWorld(request.getfixturevalue("api_with_definitions"))
    yield made
    made.clean()


@pytest.fixture(params=[MemoryWorld, FilesWorld], ids=["memory", "files"])
def text_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A cluster that takes whatever text is written into it; an API server refuses what is broken."""
    return cast(World, request.param(tmp_path))


WEB = ServiceKey("default", "web")
V6, V4 = Address.parse("2001:db8::20"), Address.parse("192.0.2.20")


def service(name: str = "web", port: int = 80) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  ports: [{{port: {port}}}]
"""


def pool(*addresses: str, name: str = "prod") -> str:
    return f"""
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: metallb-system}}
spec: {{addresses: {list(addresses)}}}
"""


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x7, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints: [{addresses: ["2001:db8:1::7"], nodeName: node-a}]
ports: []
"""
NODE = "{apiVersion: v1, kind: Node, metadata: {name: node-a}}"
NAMESPACE = "{apiVersion: v1, kind: Namespace, metadata: {name: default}}"
HTTP = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {ingressClassName: nginx, rules: [{host: web.example, http: {paths: [
  {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {auth: "user:{PLAIN}word"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: options}
data: {proxy-body-size: 8m}
"""

EVERYTHING = "\n---\n".join([service(), pool("2001:db8::/120"), SLICE, NODE, NAMESPACE, HTTP])


class Follower:
    """One source being followed, with a bound on every wait."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._events)

    async def listing(self, kinds: frozenset[Kind] = ALL) -> list[Event]:
        """Everything up to the last `Listed`."""
        told: list[Event] = []
        while sum(isinstance(event, Listed) for event in told) < len(kinds):
            told.append(await self.next())
        return told


@asynccontextmanager
async def following(cluster: Cluster, kinds: frozenset[Kind] = ALL) -> AsyncIterator[Follower]:
    events = cluster.source(kinds).events()
    async with aclosing(events):  # type: ignore[type-var]
        yield Follower(events)


Result = TypeVar("Result")


def run(scene: Callable[[], Awaitable[Result]]) -> Result:
    async def bounded() -> Result:
        try:
            async with asyncio.timeout(6 * PATIENCE):
                return await scene()
        finally:
            for each in _CONNECTED:
                await each.close()

    return asyncio.run(bounded())


def is_end_of_web(event: Event) -> bool:
    """Whatever uid the Service had: an API server gives it one."""
    return isinstance(event, ServiceGone) and event.key == WEB


def the_service(event: Event) -> Service:
    assert isinstance(event, ServiceSeen), event
    return event.service


def problems_of(event: Event) -> list[str]:
    assert isinstance(event, ConfigSeen), event
    return [f"{problem.field}: {problem.message}" for problem in event.document.problems]


def test_each_kind_is_listed_once_and_after_all_its_objects(world: World) -> None:
    world.write("all.yaml", EVERYTHING)

    async def scene() -> list[Event]:
        async with following(world.cluster) as source:
            return await source.listing()

    told = run(scene)
    assert sorted(kind.value for kind in ALL) == sorted(e.kind.value for e in told if isinstance(e, Listed))
    for kind, seen in [
        (Kind.SERVICES, ServiceSeen),
        (Kind.SLICES, SliceSeen),
        (Kind.NODES, NodeSeen),
        (Kind.NAMESPACES, NamespaceSeen),
        (Kind.CONFIG, ConfigSeen),
        (Kind.INGRESSES, IngressSeen),
        (Kind.INGRESS_CLASSES, IngressClassSeen),
        (Kind.SECRETS, SecretSeen),
        (Kind.CONFIG_MAPS, ConfigMapSeen),
    ]:
        assert next(index for index, event in enumerate(told) if isinstance(event, seen)) < told.index(Listed(kind))
    assert 2 * len(ALL) == len(told)


def test_an_empty_cluster_is_listed_too(world: World) -> None:
    async def scene() -> list[Event]:
        async with following(world.cluster) as source:
            return await source.listing()

    # On an API server there is always a namespace.
    assert {Listed(kind) for kind in ALL} == {event for event in run(scene) if not isinstance(event, NamespaceSeen)}


def test_a_kind_not_asked_for_is_not_told(world: World) -> None:
    world.write("all.yaml", EVERYTHING)
    asked = frozenset({Kind.NODES, Kind.SERVICES})

    async def scene() -> tuple[list[Event], Event]:
        async with following(world.cluster, asked) as source:
            listed = await source.listing(asked)
            world.write("pool.yaml", pool("2001:db8:1::/120", name="other"))
            world.write("web.yaml", service("later"))
            return listed, await source.next()

    listed, later = run(scene)
    assert {ServiceSeen, NodeSeen, Listed} == {type(event) for event in listed}
    assert "later" == the_service(later).key.name


def test_members_and_links_are_not_a_clusters_to_tell(world: World) -> None:
    with pytest.raises(ValueError, match="members"):
        world.cluster.source([Kind.SERVICES, Kind.MEMBERS])


def test_what_is_written_after_the_listing_is_told(world: World) -> None:
    async def scene() -> list[Event]:
        async with following(world.cluster) as source:
            await source.listing()
            world.write("web.yaml", service())
            first = await source.next()
            world.write("web.yaml", service(port=443))
            return [first, await source.next()]

    assert [80, 443] == [the_service(event).ports[0].number for event in run(scene)]


def test_a_change_that_changes_nothing_read_is_not_told(world: World) -> None:
    world.write("web.yaml", service())

    async def scene() -> Event:
        async with following(world.cluster) as source:
            await source.listing()
            world.write("web.yaml", service() + "status: {conditions: []}\n# a comment\n")
            world.write("web.yaml", service())
            world.write("later.yaml", service("later"))
            return await source.next()

    assert "later" == the_service(run(scene)).key.name


def test_a_deleted_service_is_told_to_be_gone(world: World) -> None:
    world.write("web.yaml", service())

    async def scene() -> Event:
        async with following(world.cluster) as source:
            await source.listing()
            world.remove("web.yaml")
            return await source.next()

    assert is_end_of_web(run(scene))


def test_a_service_put_back_after_deletion_holds_nothing(world: World) -> None:
    world.write("web.yaml", service())

    async def scene() -> list[Event]:
        async with following(world.cluster) as source:
            await source.listing()
            await world.cluster.sink.apply(SetAddresses(key=WEB, addresses=(V6,), pool="prod"))
            told = [await source.next()]
            world.remove("web.yaml")
            told.append(await source.next())
            world.write("web.yaml", service())
            return [*told, await source.next()]

    held, gone, again = run(scene)
    assert (V6,) == the_service(held).held
    assert is_end_of_web(gone)
    assert () == the_service(again).held


@pytest.mark.parametrize("addresses", [(V6,), (V4, V6), (V6, V4)], ids=str)
def test_a_status_write_comes_back_as_an_event(world: World, addresses: tuple[Address, ...]) -> None:
    world.write("web.yaml", service())

    async def scene() -> tuple[Service, Service]:
        async with following(world.cluster) as source:
            before = next(e for e in await source.listing() if isinstance(e, ServiceSeen))
            intent = SetAddresses(key=WEB, addresses=addresses, pool="prod")
            assert Applied(intent) == await world.cluster.sink.apply(intent)
            return the_service(before), the_service(await source.next())

    before, after = run(scene)
    assert () == before.held
    assert addresses == after.held
    assert before.ports == after.ports


def test_why_a_service_waits_is_read_back_until_it_waits_no_more(world: World) -> None:
    world.write("web.yaml", service())
    refusal = Refusal(key=WEB, reason=Reason.NO_POOLS, detail="there is no pool of 2001:db8::/32")

    async def scene() -> list[tuple[str, str] | None]:
        async with following(world.cluster) as source:
            before = next(e for e in await source.listing() if isinstance(e, ServiceSeen))
            told = [the_service(before).pending]
            for intent in (SetAddresses(key=WEB, refusal=refusal), SetAddresses(key=WEB, addresses=(V6,), pool="p")):
                assert Applied(intent) == await world.cluster.sink.apply(intent)
                told.append(the_service(await source.next()).pending)
            return told

    assert [None, (Reason.NO_POOLS.value, refusal.detail), None] == run(scene)


def test_an_empty_status_takes_back_what_the_manifest_itself_says_is_held(world: World) -> None:
    world.write("web.yaml", service() + "status: {loadBalancer: {ingress: [{ip: '2001:db8::20'}]}}")

    async def scene() -> list[tuple[Address, ...]]:
        async with following(world.cluster) as source:
            held = [the_service(e).held for e in await source.listing() if isinstance(e, ServiceSeen)]
            refusal = Refusal(key=WEB, reason=Reason.NO_POOLS, detail="there is no pool")
            await world.cluster.sink.apply(SetAddresses(key=WEB, refusal=refusal))
            return [*held, the_service(await source.next()).held]

    assert [(V6,), ()] == run(scene)


def test_writing_the_same_status_twice_is_told_once(world: World) -> None:
    world.write("web.yaml", service())

    async def scene() -> tuple[Event, Event]:
        async with following(world.cluster) as source:
            await source.listing()
            intent = SetAddresses(key=WEB, addresses=(V6,), pool="prod")
            await world.cluster.sink.apply(intent)
            first = await source.next()
            await world.cluster.sink.apply(intent)
            world.write("later.yaml", service("later"))
            return first, await source.next()

    first, second = run(scene)
    assert (V6,) == the_service(first).held
    assert "later" == the_service(second).key.name


def test_a_status_outlives_an_edit_of_the_manifest(world: World) -> None:
    world.write("web.yaml", service())

    async def scene() -> Service:
        async with following(world.cluster) as source:
            await source.listing()
            await world.cluster.sink.apply(SetAddresses(key=WEB, addresses=(V4, V6), pool="prod"))
            await source.next()
            world.write("web.yaml", service(port=443))
            return the_service(await source.next())

    after = run(scene)
    assert (V4, V6) == after.held
    assert 443 == after.ports[0].number


def test_two_sources_see_the_same_world_whenever_they_start(world: World) -> None:
    world.write("all.yaml", EVERYTHING)

    async def scene() -> tuple[set[Event], set[Event], Event, Event]:
        async with following(world.cluster) as early:
            seen = set(await early.listing())
            await world.cluster.sink.apply(SetAddresses(key=WEB, addresses=(V6,)))
            changed = await early.next()
            seen = {changed} | {event for event in seen if not isinstance(event, ServiceSeen)}
            async with following(world.cluster) as late:
                listed = set(await late.listing())
                world.write("later.yaml", service("later"))
                return seen, listed, await early.next(), await late.next()

    seen, listed, early, late = run(scene)
    assert seen == listed
    assert early == late


def test_the_order_of_one_services_changes_is_kept(world: World) -> None:
    world.write("web.yaml", service())
    last = Address.parse("2001:db8::63")

    async def scene() -> list[Address]:
        held: list[Address] = []
        async with following(world.cluster) as source:
            await source.listing()
            for number in range(100):
                address = Address(6, V6.value - 0x20 + number)
                written = await world.cluster.sink.apply(SetAddresses(key=WEB, addresses=(address,)))
                while isinstance(written, Failed) and written.retry:  # a busy server, or an answer that was lost
                    written = await world.cluster.sink.apply(written.intent)
                assert isinstance(written, Applied)
            while last not in held:
                held += the_service(await source.next()).held
        return held

    held = run(scene)
    assert sorted(held) == held  # some may be left out, none comes after a later one


def test_a_status_for_a_service_that_is_gone_changes_nothing(world: World) -> None:
    world.write("web.yaml", service())

    async def scene() -> list[Event]:
        async with following(world.cluster) as source:
            await source.listing()
            world.remove("web.yaml")
            told = [await source.next()]
            intent = SetAddresses(key=WEB, addresses=(V6,))
            assert Applied(intent) == await world.cluster.sink.apply(intent)
            world.write("web.yaml", service())
            return [*told, await source.next()]

    gone, again = run(scene)
    assert is_end_of_web(gone)
    assert () == the_service(again).held


def test_a_broken_document_does_not_take_its_neighbours_down(text_world: World) -> None:
    text_world.write("all.yaml", "\n---\n".join([service("first"), "kind: Service\n  nonsense: [", service("last")]))

    async def scene() -> list[Event]:
        async with following(text_world.cluster) as source:
            return await source.listing()

    told = run(scene)
    assert ["first", "last"] == sorted(e.service.key.name for e in told if isinstance(e, ServiceSeen))
    (refused,) = [event.problem for event in told if isinstance(event, ManifestRefused)]
    assert "all.yaml#2" == refused.source
    assert "not YAML" in refused.message


def test_a_service_that_breaks_keeps_its_last_good_form_until_it_is_mended(text_world: World) -> None:
    text_world.write("web.yaml", service())

    async def scene() -> list[Event]:
        async with following(text_world.cluster) as source:
            await source.listing()
            text_world.write("web.yaml", service().replace("80", "eighty"))
            told = [await source.next()]
            text_world.write("web.yaml", service(port=443))
            return [*told, await source.next()]

    refused, mended = run(scene)
    assert isinstance(refused, ManifestRefused)
    assert "Service default/web" == refused.problem.object
    assert "spec.ports[0].port" == refused.problem.field
    assert 443 == the_service(mended).ports[0].number


def test_a_pool_that_breaks_says_what_is_wrong_and_is_never_gone(text_world: World) -> None:
    good, bad = pool("2001:db8::/120"), pool("2001:db8::/129", "192.0.2.1")
    text_world.write("pool.yaml", good)

    async def scene() -> list[Event]:
        async with following(text_world.cluster) as source:
            await source.listing()
            text_world.write("pool.yaml", bad)
            told = [await source.next()]
            text_world.write("pool.yaml", good)
            return [*told, await source.next()]

    broken, mended = run(scene)
    first, second = problems_of(broken)
    assert "spec.addresses[0]" in first
    assert "spec.addresses[1]" in second
    assert [] == problems_of(mended)


def test_text_that_may_be_configuration_holds_the_configuration_back_until_it_is_mended(text_world: World) -> None:
    text_world.write("pool.yaml", pool("2001:db8::/120"))

    async def scene() -> list[Event]:
        async with following(text_world.cluster) as source:
            await source.listing()
            text_world.write("pool.yaml", "kind: IPAddressPool\nspec: {addresses: [")
            told = [await source.next()]
            text_world.write("pool.yaml", pool("2001:db8::/112"))
            return [*told, await source.next(), await source.next()]

    broken, mended, gone = run(scene)
    assert isinstance(broken, ConfigSeen)
    assert "not YAML" in broken.document.problems[0].message
    assert [] == problems_of(mended)
    assert ConfigGone(broken.document.origin) == gone  # only now: at no moment is there a sound whole without the pool


def test_a_slice_that_no_longer_belongs_to_a_service_is_gone(world: World) -> None:
    world.write("slice.yaml", SLICE)

    async def scene() -> Event:
        async with following(world.cluster) as source:
            await source.listing()
            world.write("slice.yaml", SLICE.replace("kubernetes.io/service-name", "somebody"))
            return await source.next()

    assert isinstance(run(scene), SliceGone)


WRITES: list[Intent] = [
    SetAddresses(key=WEB, addresses=(V4, V6), pool="prod"),
    SetAddresses(key=WEB, refusal=Refusal(key=WEB, reason=Reason.POOL_EXHAUSTED, detail="pool 'prod' is full")),
    RecordEvent(about="Service default/web", type=EventType.NORMAL, reason="IPAllocated", message="got 2001:db8::20"),
    SetPoolUsage(pool="prod", assigned_ipv4=1, assigned_ipv6=2, available_ipv4=3, available_ipv6=2**64),
    ReportConfig(config=Config(pools=(Pool.parse("prod", "2001:db8::/64", "192.0.2.0/24"),))),
    ReportConfig(config=None),
]


@pytest.mark.parametrize("intent", WRITES, ids=lambda intent: type(intent).__name__)
def test_every_write_can_be_done_twice(world: World, intent: Intent) -> None:
    world.write("web.yaml", service())

    async def scene() -> list[Applied | Failed]:
        return [await world.cluster.sink.apply(intent) for _ in range(2)]

    assert isinstance(intent, world.cluster.sink.handles)
    assert [Applied(intent), Applied(intent)] == run(scene)


def test_an_intent_that_is_not_a_clusters_fails_for_good(world: World) -> None:
    intent = SetPresence(present=True, why="starting")

    async def scene() -> Applied | Failed:
        return await world.cluster.sink.apply(intent)

    outcome = run(scene)
    assert isinstance(outcome, Failed)
    assert not outcome.retry

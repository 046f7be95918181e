"""The page of metrics as Prometheus' own parser reads it, after a small life on a cluster in memory."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from joined import House
from lbcore import assignment
from lbcore.adapters.counts import AddressCount
from lbcore.adapters.reflex import Statistics
from lbcore.announcement import AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.memory import MemoryCluster
from lbcore.backends.reflex import Reflex, ReflexSettings
from lbcore.config import L2Advertisement, Pool
from lbcore.daemons.carrier import Carrier, Outlet
from lbcore.daemons.loop import Loop
from lbcore.daemons.metrics import Metrics
from lbcore.model import Endpoint, EndpointSlice, Namespace, Node, Service, SliceKey
from worlds import broken, plain_service

POOLS = (Pool.parse("p", "2001:db8::/126", "192.0.2.0/30"), Pool.parse("vast", "fd00::/64", auto_assign=False))


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    """A carrier sets the garbage collector for a daemon's life; other tests have theirs."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


class Read:
    """A page as it was parsed; every sample is there once."""

    def __init__(self, page: bytes) -> None:
        self.families: dict[str, Metric] = {}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(page.decode()):
            assert family.name not in self.families, family.name
            self.families[family.name] = family
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, key
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def all_of(self, name: str) -> dict[tuple[str, ...], float]:
        """Every sample of a name by its labels' values, sorted by the labels' names."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (each, labels), number in self.samples.items()
            if each == name
        }


def six(name: str, **fields: object) -> Service:
    return plain_service(name, cluster_ips=("fd00::1",), **fields)


def lived(story: Callable[[MemoryCluster, Callable[[], Awaitable[None]]], Awaitable[None]]) -> Read:
    """The page of a controller after a story, which is given the cluster and a wait for rest."""
    cluster, metrics = MemoryCluster(), Metrics()
    outlet = Outlet.to("cluster", cluster.sink, concurrency=4)
    settings = AssignmentSettings(config_quiet=0.01)
    carrier: Carrier[AssignmentState] = metrics.controller(
        Carrier(
            loop=Loop(assignment.step, AssignmentState(settings=settings), [outlet.lane], random.Random(1)),
            sources=(cluster.source(assignment.NEEDS),),
            outlets=(outlet,),
            is_stopped=lambda _: True,
            is_settled=lambda state: state.settled,
        )
    )

    def is_at_rest() -> bool:
        return carrier.loop.idle and carrier.loop.deadline is None and carrier.loop.state.settled

    async def rest() -> None:
        calm = 0
        while calm < 5:  # what was put has to reach the inbox first
            await asyncio.sleep(0.001)
            calm = calm + 1 if is_at_rest() else 0

    async def bounded() -> None:
        async with asyncio.timeout(20):
            task = asyncio.create_task(carrier.run())
            await story(cluster, rest)
            carrier.stop()
            await task

    asyncio.run(bounded())
    return Read(metrics.text())


async def five_for_four(cluster: MemoryCluster, rest: Callable[[], Awaitable[None]]) -> None:
    """Four addresses, five Services, of which one write fails once; then one is deleted."""
    cluster.put(Namespace(name="red"), *POOLS)
    await rest()
    cluster.fail_next()
    for number in range(5):
        cluster.put(six(f"s{number}"))
        await rest()
    cluster.delete(six("s0").key)
    await rest()
    cluster.delete(six("s1").key)
    await rest()


def test_a_controllers_page_has_metallbs_names_and_what_happened() -> None:
    page = lived(five_for_four)
    total, used = "metallb_allocator_{}addresses_total", "metallb_allocator_{}addresses_in_use_total"
    assert {("p",): 4, ("vast",): 2**64} == page.all_of(total.format("ipv6_"))
    assert {("p",): 4, ("vast",): 0} == page.all_of(total.format("ipv4_"))
    assert {("p",): 8, ("vast",): 2**64} == page.all_of(total.format(""))
    assert {("p",): 3, ("vast",): 0} == page.all_of(used.format("")) == page.all_of(used.format("ipv6_"))
    assert {("p",): 0, ("vast",): 0} == page.all_of(used.format("ipv4_"))
    assert 1 == page.value("metallb_k8s_client_config_loaded_bool")
    assert 0 == page.value("metallb_k8s_client_config_stale_bool")
    assert 1 == page.value("metallb_k8s_client_update_errors_total")
    # Of each Service one change is its own, and each write comes back as another.
    assert 3 + 5 + 2 <= page.value("metallb_k8s_client_updates_total")
    assert {(): 4} == page.all_of("lbcore_service_assignment_duration_seconds_count")
    assert {} == page.all_of("lbcore_services_waiting")
    assert {("controller",): 0} == page.all_of("lbcore_queue_events") == page.all_of("lbcore_queue_intents")


def test_the_types_are_metallbs_too() -> None:
    page = lived(five_for_four)
    gauges = ("metallb_allocator_addresses_total", "metallb_k8s_client_config_loaded_bool")
    assert ["gauge", "gauge"] == [page.families[name].type for name in gauges]
    assert "counter" == page.families["metallb_k8s_client_updates"].type
    assert not [name for name, _ in page.samples if name.endswith("_created")]


def test_every_write_is_counted_by_how_it_ended() -> None:
    page = lived(five_for_four)
    writes = page.all_of("lbcore_writes_total")
    kinds = {kind: number for (_, kind, outcome), number in writes.items() if outcome == "applied"}
    assert 1 == sum(number for (_, _, outcome), number in writes.items() if outcome == "retried")
    assert not [key for key in writes if key[2] == "refused"]
    assert kinds["SetAddresses"] >= 5
    assert sum(writes.values()) == sum(page.all_of("lbcore_write_duration_seconds_count").values())
    assert page.value("lbcore_step_duration_seconds_count", component="controller") > 10


def test_who_waits_is_told_by_reason_and_a_refused_configuration_is_stale_but_loaded() -> None:
    async def story(cluster: MemoryCluster, rest: Callable[[], Awaitable[None]]) -> None:
        cluster.put(Namespace(name="red"), Pool.parse("p", "2001:db8::/127"), *(six(f"s{n}") for n in range(5)))
        await rest()
        cluster.put(broken("q"))
        await rest()

    page = lived(story)
    assert {("PoolExhausted",): 3} == page.all_of("lbcore_services_waiting")
    assert (1, 1) == tuple(page.value(f"metallb_k8s_client_config_{name}_bool") for name in ("loaded", "stale"))


def test_a_service_that_is_moved_is_told_with_its_cause() -> None:
    async def story(cluster: MemoryCluster, rest: Callable[[], Awaitable[None]]) -> None:
        cluster.put(Namespace(name="red"), Pool.parse("p", "2001:db8::/126"), six("a"), six("b"))
        await rest()
        cluster.put(six("b", load_balancer_ip="2001:db8::3"))
        await rest()
        cluster.put(six("b", type="ClusterIP"))
        await rest()
        cluster.put(Pool.parse("p", "2001:db8:1::/126"))
        await rest()

    moves = lived(story).all_of("lbcore_service_moves_total")
    # A pool keeps what is in use until the Service lets go of it, so that nothing moves on its account.
    assert {("service", "moved"): 1, ("service", "released"): 1} == {
        key: number for key, number in moves.items() if key[0] == "service"
    }


def test_a_speakers_page_says_what_it_announces_and_what_its_process_counted(tmp_path: Path) -> None:
    metrics, reflex = Metrics(), Reflex(ReflexSettings(socket=tmp_path / "reflex", node="n1"), say=print)
    with closing(House(random.Random(1), failing=0.0)) as house:
        house.cluster.put(Namespace(name="red"), *POOLS, L2Advertisement(name="all"), Node(name="n1"), six("s0"))
        ready = (Endpoint(addresses=("fd00::9",), node="n1", ready=True),)
        house.cluster.put(EndpointSlice(key=SliceKey("red", "s0"), service="s0", endpoints=ready))
        house.start_speaker("n1")
        house.run(5.0)
        loop = house.daemons["n1"].loop
        assert isinstance(loop.state, AnnouncementState)
        (address,) = house.announcers
        metrics.speaker(
            Carrier(loop=loop, sources=(), outlets=(), is_stopped=bool, is_settled=bool),
            reflex,
        )
        before = Read(metrics.text())
        reflex.counts[address] = AddressCount(address=address, requests=3, responses=2, gratuitous=9)
        reflex.statistics = Statistics(malformed=5, heard=1)
        page = Read(metrics.text())
    labels = {"service": "red/s0", "protocol": "layer2", "node": "n1", "ip": str(address)}
    assert 1 == page.value("metallb_speaker_announced", **labels)
    assert 1 == len(page.all_of("metallb_speaker_announced"))
    names = [f"metallb_layer2_{name}" for name in ("requests_received", "responses_sent", "gratuitous_sent")]
    assert [{}, {}, {}] == [before.all_of(name) for name in names]
    assert [3, 2, 9] == [page.value(name, ip=str(address)) for name in names]
    assert (5, 1) == (
        page.value("lbcore_reflex_frames_malformed_total"),
        page.value("lbcore_reflex_rivals_heard_total"),
    )
    assert (0, 1) == (page.value("lbcore_reflex_up"), page.value("lbcore_members"))


def test_a_name_with_quotes_and_line_ends_stays_one_label() -> None:
    async def story(cluster: MemoryCluster, rest: Callable[[], Awaitable[None]]) -> None:
        cluster.put(Namespace(name="red"), evolve(POOLS[0], name='a"}\n\\ 1'))
        await rest()

    assert 4 == lived(story).value("metallb_allocator_ipv6_addresses_total", pool='a"}\n\\ 1')

"""BGP's metrics after a session that was told something, read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bgp_link import NODE, ROUTER, Cable, prefixes, session
from drained import NAMES, told, with_endpoints
from lbcore.backends.bgp import BgpSpeaker
from lbcore.bgp import BGPAdvertisement
from lbcore.daemons.metrics_bgp import bgp_families, drain_families
from lbcore.events import ConfigSeen, DrainsSeen
from routers import bird
from worlds import document, ipv6, plain_service


def values(speaker: BgpSpeaker) -> dict[tuple[str, str], float]:
    """Each name without its prefix, and the peer."""
    return {
        (name.removeprefix("metallb_bgp_"), peer): value for (name, peer), value in read(bgp_families(speaker)).items()
    }


def read(families: Iterable[Metric]) -> dict[tuple[str, str], float]:
    """Each name, and the peer."""
    found = list(families)

    class Page(Collector):
        def collect(self) -> list[Metric]:
            return found

    registry = CollectorRegistry()
    registry.register(Page())
    return {
        (sample.name, sample.labels.get("peer", "")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


@pytest.mark.slow
@pytest.mark.needs("netns", "bird")
def test_sessions_are_told_with_metallbs_names(tmp_path: Path) -> None:
    cable = Cable()
    router = bird(cable.router, tmp_path, {NODE[6]: 64513}).start()
    try:
        with cable.speaking(session("tor", ROUTER[6]), session("off", ROUTER[4], port=1799)) as speaking:
            speaking.advertise(prefixes(3, 6), "tor", "off")
            speaking.wait(lambda: 3 == len(router.routes()), "routes")
            found = values(speaking.speaker)
    finally:
        router.stop()
        cable.close()
    six, off = f"[{ROUTER[6]}]:179", f"{ROUTER[4]}:1799"
    assert (1, 0) == (found["session_up", six], found["session_up", off])
    assert (3, 0) == (found["announced_prefixes_total", six], found["pending_prefixes_total", six])
    assert found["updates_total", six] >= 2  # the routes, and their end
    assert 1 == found["opens_sent", six] == found["opens_received", six]
    assert found["keepalives_sent", six] >= 1 <= found["keepalives_received", six]
    assert 0 == found["notifications_sent", six]
    parts = ("opens_sent", "updates_total", "keepalives_sent", "notifications_sent", "route_refresh_sent")
    assert found["total_sent", six] == sum(found[each, six] for each in parts)


def test_a_drain_is_told_with_what_each_router_is_to_turn_away_from() -> None:
    desk = told(
        ConfigSeen(document(BGPAdvertisement(name="all"))),
        *(ConfigSeen(document(session(name, ROUTER[6], port=port))) for name, port in (("a", 179), ("b", 1799))),
        *with_endpoints(plain_service("web", held=(ipv6(1), ipv6(2))), *NAMES),
    )
    one, other = f"[{ROUTER[6]}]:179", f"[{ROUTER[6]}]:1799"
    before = {("lbcore_node_drained", ""): 0.0, ("lbcore_bgp_leaving_prefixes", one): 0.0}
    assert before | {("lbcore_bgp_leaving_prefixes", other): 0.0} == read(drain_families(desk.state))
    desk.feed(DrainsSeen(frozenset({"n1"})))
    during = {("lbcore_node_drained", ""): 1.0, ("lbcore_bgp_leaving_prefixes", one): 2.0}
    assert during | {("lbcore_bgp_leaving_prefixes", other): 2.0} == read(drain_families(desk.state))
    desk.settle()
    assert 0.0 == read(drain_families(desk.state))["lbcore_bgp_leaving_prefixes", one]


def test_without_peers_there_is_nothing_to_tell() -> None:
    async def nothing() -> dict[tuple[str, str], float]:
        return values(BgpSpeaker("n1"))

    assert {} == asyncio.run(nothing())

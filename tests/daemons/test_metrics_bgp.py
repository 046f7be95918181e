"""BGP's metrics after a session that was told something, read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bgp_link import NODE, ROUTER, Cable, prefixes, session
from lbcore.backends.bgp import BgpSpeaker
from lbcore.daemons.metrics_bgp import bgp_families
from routers import bird


def values(speaker: BgpSpeaker) -> dict[tuple[str, str], float]:
    """Each name without its prefix, and the peer."""

    class Page(Collector):
        def collect(self) -> list[Metric]:
            return list(bgp_families(speaker))

    registry = CollectorRegistry()
    registry.register(Page())
    return {
        (sample.name.removeprefix("metallb_bgp_"), sample.labels["peer"]): sample.value
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


def test_without_peers_there_is_nothing_to_tell() -> None:
    async def nothing() -> dict[tuple[str, str], float]:
        return values(BgpSpeaker("n1"))

    assert {} == asyncio.run(nothing())

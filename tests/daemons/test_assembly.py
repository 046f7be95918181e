"""What a speaker wants is carried out by somebody, wherever its cluster is and however it knows the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings
from lbcore.backends.files import FilesCluster
from lbcore.backends.gossip_settings import GossipSettings
from lbcore.backends.kubernetes import Access, KubernetesCluster
from lbcore.backends.reflex import Reflex, ReflexSettings
from lbcore.backends.statuses import read_peers
from lbcore.daemons import assembly
from lbcore.intents import ReportPeer
from lbcore.routes import PeerState, PeerStatus

GOSSIP = GossipSettings(endpoint=Endpoint(Address.parse("2001:db8::1"), 7946))


@pytest.mark.parametrize("gossip", [None, GOSSIP], ids=["records", "gossip"])
@pytest.mark.parametrize("live", [False, True], ids=["folder", "kubernetes"])
def test_every_intent_of_layer_2_has_one_lane(live: bool, gossip: GossipSettings | None, tmp_path: Path) -> None:
    cluster = KubernetesCluster(Access(), node="n1") if live else FilesCluster(tmp_path)
    settings = ReflexSettings(socket=tmp_path / "reflex", node="n1", gossip=gossip)
    parts = assembly.speaker(cluster, AnnouncementSettings(node="n1"), settings, structlog.get_logger())
    handled = [each for outlet in parts.carrier.outlets for each in outlet.lane.handles]
    for intent in Reflex.handles:
        assert 1 == handled.count(intent), intent


@pytest.mark.parametrize("replaced", [False, True])
def test_a_speaker_that_ends_takes_back_what_it_told_of_its_sessions_and_not_what_another_tells(
    replaced: bool, tmp_path: Path
) -> None:
    settings = ReflexSettings(socket=tmp_path / "reflex", node="n1")
    cluster = FilesCluster(tmp_path)
    parts = assembly.speaker(cluster, AnnouncementSettings(node="n1"), settings, structlog.get_logger())
    assert parts.sessions is not None
    up = PeerStatus(state=PeerState.ESTABLISHED, since=0.0)
    asyncio.run(parts.sessions.apply(ReportPeer(node="n1", peer="tor", router="2001:db8::1", status=up)))
    parts.reflex.replaced = replaced
    asyncio.run(parts.close())
    assert ["n1"] * replaced == [each["node"] for each in read_peers(tmp_path)]

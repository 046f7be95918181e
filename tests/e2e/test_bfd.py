"""BFD with real routers: a node or a router that is gone is noticed within the detection time, not the hold time."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, command, pool, service, wait_for
from lbcore.backends.statuses import read_peers
from lbcore.lab import Lab
from routers import Router, bird, frr
from watched import ADVERT, BASE, BIRD_BFD, DUAL, V4, nodes, peer, profile, sessions, wait_until_up

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "nginx")]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def a_bird(lab: Lab, folder: Path, **options: Any) -> Router:
    return bird(lab.client.namespace, folder, nodes(lab), extra="bfd on;", more=BIRD_BFD, **options)


def a_frr(lab: Lab, _folder: Path, **options: Any) -> Router:
    extra = ["timers 30 90", "bfd 3 100 100"]
    return frr(lab.client.namespace, nodes(lab), extra=extra, daemons=["bfdd"], **options)


ROUTERS = [pytest.param(a_bird, marks=pytest.mark.needs("bird")), pytest.param(a_frr, marks=pytest.mark.needs("frr"))]


def hops(router: Router) -> set[str]:
    return {hop for found in router.routes().values() for hop in found}


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("make", ROUTERS)
def test_a_node_and_a_router_that_are_gone_are_noticed_by_bfd(
    lab: Lab, tmp_path: Path, make: Any, internal: bool
) -> None:
    asn = 64513 if internal else 64512
    router: Router = make(lab, tmp_path, asn=asn).start()
    peers = [peer(f"tor{version}", lab.client.address(version), peerASN=asn) for version in (4, 6)]
    lab.apply(BASE + profile() + "".join(peers))
    fleet = Fleet(lab).start()
    lab.apply(service("web", **DUAL))
    lab.wait_for_address("web", timeout=30)
    wait_until_up(fleet, 6)
    everybody = set(nodes(lab))
    wait_for(lambda: hops(router) == everybody, "the routes")
    # A node is cut off: the router drops its routes.
    first = next(iter(lab.nodes))
    gone = {str(lab.nodes[first].address(version)) for version in (4, 6)}
    lab.cut_silently(first)
    wait_for(lambda: hops(router) == everybody - gone, "the routes of the others", 15)
    lab.heal(first)
    wait_until_up(fleet, 6)
    wait_for(lambda: hops(router) == everybody, "the routes again", 60)
    # The router stands still, all of it: the nodes see it, say so, and are there when it goes on.
    for program in router.programs:
        program.send_signal(signal.SIGSTOP)
    wait_for(lambda: all("BFD" in each["error"] for each in sessions(fleet)), "what the speakers say", 15)
    for program in router.programs:
        program.send_signal(signal.SIGCONT)
    wait_until_up(fleet, 6)


@pytest.mark.needs("bird")
def test_timers_hold_while_a_speaker_takes_in_ten_thousand_services(lab: Lab, tmp_path: Path) -> None:
    router = a_bird(lab, tmp_path).start()
    # A folder of its own, so that nobody else in the lab has to read all that.
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "base.yaml").write_text(BASE + profile() + peer("tor", lab.client.address(4)))
    space, run = lab.nodes["n1"].namespace, tmp_path / "run"
    run.mkdir()
    speaker = command("speaker", "--cluster", str(folder), "--node", "n1", "--runtime-dir", str(run))
    with (tmp_path / "speaker.log").open("wb") as log:
        space.spawn(speaker, stdout=log, stderr=log)

    def told() -> dict[str, dict[str, Any]]:
        return {each["peer"]: dict(each) for each in read_peers(folder)}

    wait_for(lambda: told().get("tor", {}).get("bfd") == "Up", "a session watched by BFD", 60)
    since = _bfd_up_since(router)
    assert 1 == len(since)
    many = "".join(service(f"s{number}") for number in range(10_000))
    (folder / "many.yaml").write_text(many + peer("last", lab.client.address(6), bfdProfile=""))
    wait_for(lambda: "last" in told(), "all that was read", 120)
    assert since == _bfd_up_since(router)
    assert 0 == told()["tor"]["sessionsLost"]


def _bfd_up_since(router: Router) -> list[str]:
    """When each session came up, as the router tells it."""
    return sorted(re.findall(r"^(\S+\s+\S+\s+Up\s+\S+)", router.ask("show", "bfd", "sessions"), re.MULTILINE))


@pytest.mark.needs("bird")
def test_a_passive_end_is_found_and_echo_mode_is_refused_in_words(lab: Lab, tmp_path: Path) -> None:
    a_bird(lab, tmp_path).start()
    lab.apply(
        pool("public", V4) + ADVERT + profile(passiveMode=True, echoMode=True) + peer("tor", lab.client.address(4))
    )
    fleet = Fleet(lab).start()
    wait_until_up(fleet, 3)
    assert "echoModeRefused" in (lab.folder / ".lbcore" / "events.jsonl").read_text()
    table = fleet.cli("get", "peers").stdout.splitlines()
    assert "BFD" in table[0].split()
    # Taken out of the peer, it is no more, and the session does not mind.
    before = {each["node"]: each["since"] for each in sessions(fleet)}
    lab.apply(peer("tor", lab.client.address(4), bfdProfile=""))
    wait_for(lambda: {""} == {each["bfd"] for each in sessions(fleet)}, "no BFD")
    assert set(before) == {each["node"] for each in sessions(fleet)}

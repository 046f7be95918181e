"""`/healthz`, `/readyz` and `/metrics` of daemons that begin, over a loopback socket: what is missing is named."""

from __future__ import annotations

import asyncio
import json
import random
from http import HTTPStatus
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from lbcore import announcement, assignment
from lbcore.adapters.lease import LeaseTimes
from lbcore.adapters.views import View, read_view
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.backends.bgp import BgpSpeaker
from lbcore.backends.http import HttpServer, Page
from lbcore.backends.kubernetes import Access
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.kubernetes.leading import LEASE_NAME, ControllerLease
from lbcore.backends.memory import MemoryCluster
from lbcore.backends.reflex import Reflex, ReflexSettings
from lbcore.config import Pool
from lbcore.daemons.assembly import SpeakerParts
from lbcore.daemons.carrier import Carrier, Outlet
from lbcore.daemons.loop import Loop
from lbcore.daemons.monitoring import Monitoring
from lbcore.events import ConfigSeen, Event, Kind, LeadershipSeen, Listed
from worlds import broken, document

POOL = Pool.parse("p", "2001:db8::/126")
LISTS = [Listed(kind) for kind in sorted(assignment.NEEDS, key=lambda kind: kind.value)]


async def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


class Desk:
    """A controller that is watched, turned by hand under a clock that jumps."""

    def __init__(self, *, elected: bool = False) -> None:
        self.now = 0.0
        self.monitoring = Monitoring()
        settings = AssignmentSettings(elected=elected)
        outlet = Outlet.to("cluster", MemoryCluster().sink)
        self.loop = Loop(assignment.step, AssignmentState(settings=settings), [outlet.lane], random.Random(1))
        self.monitoring.controller(
            Carrier(loop=self.loop, sources=(), outlets=(outlet,), is_stopped=lambda _: True, is_settled=lambda _: True)
        )

    def tell(self, *events: Event) -> None:
        """Give it events, and the time to think them over."""
        for event in events:
            self.loop.receive(event)
        for _ in range(100):
            self.now += 0.1
            self.loop.tick(self.now)

    def pages(self, *paths: str) -> list[tuple[int, str]]:
        """What is answered now."""

        async def ask() -> list[tuple[int, str]]:
            async with asyncio.timeout(20), self.monitoring.listening("::1", 0) as port:
                return [await get(port, path) for path in paths]

        return asyncio.run(ask())

    @property
    def ready(self) -> tuple[int, str]:
        return self.pages("/readyz")[0]

    def ready_and_loaded(self) -> tuple[int, float]:
        """The status of /readyz, and what the metrics say of the configuration."""
        (status, _), (_, page) = self.pages("/readyz", "/metrics")
        samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
        (loaded,) = [each.value for each in samples if each.name == "metallb_k8s_client_config_loaded_bool"]
        return status, loaded


def test_probes_may_have_a_port_of_their_own_without_the_metrics() -> None:
    async def ask() -> list[int]:
        async with asyncio.timeout(20), Desk().monitoring.probes("::1", 0) as port:
            return [(await get(port, path))[0] for path in ("/healthz", "/readyz", "/metrics")]

    assert [200, 503, 404] == asyncio.run(ask())


def test_a_controller_names_each_list_it_waits_for_until_all_have_come() -> None:
    desk = Desk()
    desk.tell(ConfigSeen(document(POOL)))
    for number, listed in enumerate(LISTS):
        status, text = desk.ready
        assert HTTPStatus.SERVICE_UNAVAILABLE == status
        waiting = ", ".join(each.kind.value for each in LISTS[number:])
        assert f"not  controller/lists: waiting for the first list of {waiting}\n" in text
        assert text.startswith("not ready\n")
        desk.tell(listed)
    assert (200, "ready\nok   controller/lists\nok   controller/configuration\n") == desk.ready


def test_without_a_sound_configuration_it_is_alive_but_not_ready_and_says_which_object_is_to_blame() -> None:
    desk = Desk()
    assert "not  controller/configuration: none has been loaded yet\n" in desk.ready[1]
    desk.tell(ConfigSeen(broken("bad")), *LISTS)
    assert (200, "ok\n") == desk.pages("/healthz")[0]
    status, text = desk.ready
    assert 503 == status
    assert "ok   controller/lists\nnot  controller/configuration: refused: " in text
    assert "bad" in text and "spec.addresses[0]" in text
    assert 3 == len(text.splitlines())


def test_a_configuration_that_is_refused_later_leaves_it_ready_and_is_told_as_stale() -> None:
    desk = Desk()
    desk.tell(ConfigSeen(document(POOL)), *LISTS)
    desk.tell(ConfigSeen(broken("bad")))
    (status, _), (_, page) = desk.pages("/readyz", "/metrics")
    assert 200 == status
    values = {sample.name: sample.value for family in text_string_to_metric_families(page) for sample in family.samples}
    assert 1 == values["metallb_k8s_client_config_loaded_bool"] == values["metallb_k8s_client_config_stale_bool"]


def test_a_standby_is_ready_once_it_has_its_lists_and_a_leader_once_it_has_a_configuration() -> None:
    desk = Desk(elected=True)
    assert (503, 0) == desk.ready_and_loaded()
    desk.tell(ConfigSeen(document(POOL)), *LISTS)
    assert (200, 1) == desk.ready_and_loaded(), "it puts nothing in force, and no alert is to be had for that"
    assert None is desk.loop.state.configuration.current
    desk.tell(LeadershipSeen(leading=True))
    assert (200, 1) == desk.ready_and_loaded()
    assert None is not desk.loop.state.configuration.current


def test_a_standby_that_comes_to_lead_a_configuration_that_is_refused_is_no_longer_ready() -> None:
    desk = Desk(elected=True)
    desk.tell(ConfigSeen(broken("bad")), *LISTS)
    assert (200, 1) == desk.ready_and_loaded()
    desk.tell(LeadershipSeen(leading=True))
    assert (503, 0) == desk.ready_and_loaded()


def test_a_further_check_is_asked_at_every_question_and_replaces_its_namesake() -> None:
    desk = Desk()
    desk.tell(ConfigSeen(document(POOL)), *LISTS)
    trouble: list[str | None] = ["the Lease has not been seen yet", None]
    desk.monitoring.health.add("controller/lease", lambda: "replaced")
    desk.monitoring.health.add("controller/lease", lambda: trouble.pop(0))
    (before, text), (after, _) = desk.pages("/readyz", "/readyz")
    assert (503, 200) == (before, after)
    assert "not  controller/lease: the Lease has not been seen yet\n" in text


def test_a_speaker_without_its_answering_process_is_not_ready(tmp_path: Path) -> None:
    monitoring = Monitoring()
    loop = Loop(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")), [], random.Random(1))
    carrier = Carrier(
        loop=loop, sources=(), outlets=(), is_stopped=lambda _: True, is_settled=lambda state: state.settled
    )
    reflex = Reflex(ReflexSettings(socket=tmp_path / "reflex", node="n1"), say=print)
    monitoring.speaker(SpeakerParts(carrier, reflex, BgpSpeaker("n1"), None))
    missing = {answer.name: answer.missing for answer in monitoring.health.ask()}
    assert "no answering process" == missing["speaker/answering"]
    assert "none has been loaded yet" == missing["speaker/configuration"]
    assert all(kind.value in (missing["speaker/lists"] or "") for kind in (Kind.MEMBERS, Kind.LINKS, Kind.NODES))


def test_what_a_speaker_sees_of_the_others_has_a_page_as_soon_as_it_sees_anything(tmp_path: Path) -> None:
    monitoring = Monitoring()
    loop = Loop(announcement.step, AnnouncementState(settings=AnnouncementSettings(node="n1")), [], random.Random(1))
    carrier = Carrier(loop=loop, sources=(), outlets=(), is_stopped=lambda _: True, is_settled=lambda _: True)
    reflex = Reflex(ReflexSettings(socket=tmp_path / "reflex", node="n1"), say=print)
    monitoring.speaker(SpeakerParts(carrier, reflex, BgpSpeaker("n1"), None))

    async def ask() -> tuple[int, str]:
        async with asyncio.timeout(20), monitoring.listening("::1", 0) as port:
            return await get(port, "/members")

    status, said = asyncio.run(ask())
    assert (404, True) == (status, "does not gossip" in said)
    reflex.view = View(node="n1", fast=True, why="all members are lbcore's")
    status, said = asyncio.run(ask())
    assert (200, reflex.view) == (status, read_view(json.loads(said)))


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "http://[::1]:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
"""
LEASE = """{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
"metadata": {"name": "lbcore-controller", "resourceVersion": "7"},
"spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "leaseTransitions": 1}}"""


def test_a_candidate_is_ready_when_it_has_looked_for_rivals_and_sees_who_leads(tmp_path: Path) -> None:
    """Against a server that refuses at first, and then says that another one leads."""
    pages = [Page(status=HTTPStatus.FORBIDDEN, body=b"{}"), Page(body=LEASE.encode(), content_type="application/json")]

    async def lease() -> Page:
        return pages[0]

    async def story() -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/metallb-system/leases/{LEASE_NAME}"
        async with asyncio.timeout(20), HttpServer({path: lease}).listening("::1", 0) as port:
            (tmp_path / "config").write_text(KUBECONFIG.format(port=port))
            client = Client(Access(kubeconfig=tmp_path / "config"), agent="test")
            await client.sign_in()
            said: list[str] = []
            times = LeaseTimes(duration=0.3, renew_deadline=0.2, retry_period=0.02)
            found = ControllerLease(client, "metallb-system", "me", say=said.append, times=times)
            assert "other controllers have not been looked for yet" == found.missing() == found.fence()
            reading = asyncio.ensure_future(anext(found.events()))
            while not said:  # noqa: ASYNC110 - what is waited for is what it says
                await asyncio.sleep(0.001)
            assert (found.missing() or "").startswith("the Lease: ")
            pages.pop(0)
            while found.missing() is not None:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)
            assert "the Lease is held by other" == found.fence()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await client.close()

    asyncio.run(story())

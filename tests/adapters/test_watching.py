"""The watch engine against a pretend API server in memory: a history with versions, pages, and bytes cut anywhere."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.base import Hangup, Report
from lbcore.adapters.kubernetes.api import RESOURCES, ApiResource
from lbcore.adapters.kubernetes.changes import gone
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read_all
from lbcore.adapters.kubernetes.watching import Fetch, Follow, ListEnded, Setback, Watching, WatchOutput, pause_after
from lbcore.events import Event, ManifestRefused, SliceGone, SliceSeen
from lbcore.model import SliceKey

Document = dict[str, Any]
BY_NAME = {each.name: each for each in RESOURCES}
SLICES = BY_NAME["EndpointSlice"]
GONE = Setback(status=410, message="too old resource version")


def endpoint_slice(name: str, last: int, version: int = 0) -> Document:
    """One address, of IPv6; without a Service, and so without effect, where it is 0."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv6",
        "metadata": {
            "namespace": "shop",
            "name": name,
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/service-name": "web"} if last else {},
        },
        "endpoints": [{"addresses": [f"2001:db8::{last:x}"]}],
    }


def line(type_: str, object_: object) -> bytes:
    return json.dumps({"type": type_, "object": object_}).encode() + b"\n"


def page(*items: object, version: int, continued: str = "") -> bytes:
    metadata = {"resourceVersion": str(version), "continue": continued}
    return json.dumps({"kind": "EndpointSliceList", "metadata": metadata, "items": items}).encode()


@define
class Server:
    """Two objects to a page; what is older than `oldest` is forgotten, and pages of that time with it."""

    version: int = 10
    oldest: int = 0
    objects: dict[str, Document] = field(factory=dict)
    history: list[tuple[int, bytes]] = field(factory=list)
    snapshots: dict[str, tuple[int, list[Document]]] = field(factory=dict)

    def put(self, name: str, last: int) -> None:
        self.version += 1
        type_ = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = endpoint_slice(name, last, self.version)
        self.history.append((self.version, line(type_, self.objects[name])))

    def delete(self, name: str) -> None:
        document = self.objects.pop(name, None)
        if document is not None:
            self.version += 1
            document["metadata"]["resourceVersion"] = str(self.version)
            self.history.append((self.version, line("DELETED", document)))

    def bookmark(self) -> bytes:
        return line("BOOKMARK", {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self.version)}})

    def compact(self) -> None:
        self.version += 1  # of another kind of object
        self.oldest = self.version
        self.snapshots.clear()

    def fetch(self, query: dict[str, str]) -> bytes | Setback:
        token = query.get("continue")
        if token is None:
            token = f"{self.version}/{len(self.snapshots)}"
            self.snapshots[token] = (self.version, [json.loads(json.dumps(each)) for each in self.objects.values()])
        if token not in self.snapshots:
            return GONE
        version, left = self.snapshots[token]
        self.snapshots[token] = (version, left[2:])
        return page(*left[:2], version=version, continued=token if left[2:] else "")

    def since(self, version: int) -> bytes | Setback:
        if version < self.oldest:
            return GONE
        return b"".join(data for at, data in self.history if at > version)


class Joined:
    """The engine and the server, on a virtual clock, with the manners of who carries the engine."""

    def __init__(self, seed: int = 1, resource: ApiResource = SLICES) -> None:
        self.server = Server()
        self.engine = Watching(resource, rng=Random(seed))
        self.told: dict[tuple[str, str], Event] = {}
        self.now = 0.0
        self.asked: Fetch | Follow | None = None
        self.flowing = False
        self.sent = 0  # bytes of the history that this watch has brought
        self.began_at = 0
        self.extra = b""
        self.carry(self.engine.start())

    def carry(self, outputs: list[WatchOutput]) -> None:
        for output in outputs:
            match output:
                case Report(event):
                    self.note(event)
                case Fetch() | Follow():
                    assert self.asked is None
                    self.asked = output
                case Hangup():
                    self.flowing = False
                    self.carry(self.engine.closed(self.now))
                    return  # as the backend does: what comes after is lost

    def note(self, event: Event) -> None:
        assert not isinstance(event, ManifestRefused)
        if isinstance(event, SliceGone):
            seen = self.told.pop(event.subject)
            assert isinstance(seen, SliceSeen)
            assert gone(seen) == event
        else:
            assert event != self.told.get(event.subject), "told again, though nothing changed"
            self.told[event.subject] = event

    def answer(self) -> None:
        asked, self.asked = self.asked, None
        if isinstance(asked, Fetch):
            answer = self.server.fetch(dict(asked.query))
            fetched = isinstance(answer, bytes)
            self.carry(self.engine.page(answer, self.now) if fetched else self.engine.failed(answer, self.now))  # type: ignore[arg-type]
        elif isinstance(asked, Follow):
            self.began_at = int(dict(asked.query)["resourceVersion"])
            stream = self.server.since(self.began_at)
            if isinstance(stream, Setback):
                self.carry(self.engine.failed(stream, self.now))
            else:
                self.flowing, self.sent, self.extra = True, 0, b""
                self.carry(self.engine.opened(self.now))

    def flow(self, most: int) -> bool:
        """So many bytes more of the watch, if there are any."""
        if not self.flowing:
            return False
        history = b"".join(data for at, data in self.server.history if at > self.began_at)
        data = history[self.sent : self.sent + most]
        self.sent += len(data)
        if data:
            self.carry(self.engine.receive(data))
        return bool(data)

    def at_a_line(self) -> bool:
        history = b"".join(data for at, data in self.server.history if at > self.began_at)
        return self.flowing and (not self.sent or history[self.sent - 1 : self.sent] == b"\n")

    def interject(self, data: bytes) -> None:
        if self.at_a_line():
            self.carry(self.engine.receive(data))

    def bookmark(self) -> None:
        """A server sends one when all before it has been sent."""
        while self.flow(1000):
            pass
        self.interject(self.server.bookmark())

    def end(self) -> None:
        if self.flowing:
            self.flowing = False
            self.carry(self.engine.closed(self.now))

    def fail(self, setback: Setback) -> None:
        """The watch breaks, or what was asked is refused."""
        if self.flowing or self.asked is not None:
            self.flowing, self.asked = False, None
            self.carry(self.engine.failed(setback, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.engine.deadline
        if deadline is not None:
            self.carry(self.engine.tick(self.now))

    def settle(self) -> None:
        """From here on all goes well."""
        for _ in range(200):
            if self.asked is not None:
                self.answer()
            elif self.flowing:
                if not self.flow(37):
                    return
            else:
                assert self.engine.deadline is not None
                self.wait(max(0.0, self.engine.deadline - self.now))
        raise AssertionError("does not come to rest")

    def exists(self) -> dict[tuple[str, str], Event]:
        entries = [entry for each in self.server.objects.values() for entry in read_all(each, "cluster")]
        return {each.subject: each for each in entries if not isinstance(each, Ignored | Refused)}


names = st.sampled_from("abcde")
steps = st.one_of(
    st.tuples(st.just("put"), names, st.integers(0, 2)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("flow"), st.integers(1, 900)),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 2.0, 40.0])),
    st.tuples(st.just("answer")),
    st.tuples(st.sampled_from(["compact", "bookmark", "end"])),
    st.tuples(
        st.just("fail"), st.sampled_from([Setback(), GONE, Setback(status=503), Setback(status=429, retry_after=1.0)])
    ),
    st.tuples(
        st.just("interject"),
        st.sampled_from(
            [
                b"{broken\n",
                b'{"type": "ADDED", "object": 5}\n',
                b"\xff\n",
                b"\n",
                line("ERROR", {"kind": "Status", "code": 410, "message": "too old"}),
                line("ERROR", {"kind": "Status", "code": "?"}),
            ]
        ),
    ),
)


@given(st.integers(0, 1000), st.lists(steps, max_size=40))
def test_whatever_breaks_in_the_end_exactly_what_exists_is_told(seed: int, history: list[tuple[Any, ...]]) -> None:
    world = Joined(seed)
    for name in "abc":
        world.server.put(name, 1)
    for what, *arguments in history:
        owner = world.server if what in ("put", "delete", "compact") else world
        getattr(owner, what)(*arguments)
    world.settle()
    assert world.exists() == world.told


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60))
def test_bytes_may_be_cut_anywhere(sizes: list[int]) -> None:
    world = Joined()
    world.settle()
    for number in range(4):
        world.server.put("abcd"[number], number)
        world.server.delete("abcd"[number - 2])
    while world.flow(sizes[world.sent % len(sizes)]):
        pass
    assert world.exists() == world.told
    assert 2 == len(world.told)


@given(st.integers(0, 40), st.integers(0, 1000), st.none() | st.floats(0, 3600))
def test_pauses_grow_are_spread_and_have_bounds(attempt: int, seed: int, asked: float | None) -> None:
    least = asked or 0.0
    pause = pause_after(attempt, Setback(retry_after=asked), Random(seed))
    full = min(0.2 * 2.0**attempt, 30.0)
    assert least + full / 2 <= pause <= least + full


def test_two_clients_that_failed_together_do_not_come_back_together() -> None:
    assert 20 == len({pause_after(5, Setback(status=503, retry_after=1.0), Random(seed)) for seed in range(20)})


@pytest.mark.parametrize("following", [False, True], ids=["list", "watch"])
def test_a_server_that_says_nothing_is_asked_ever_more_seldom(following: bool) -> None:
    world = Joined()
    if following:
        world.settle()
    pauses = []
    for _ in range(14):
        world.fail(Setback(message="refused"))
        assert world.engine.deadline is not None
        assert [] == world.engine.tick(world.engine.deadline - 0.001)
        pauses.append(world.engine.deadline - world.now)
        world.wait(pauses[-1])
        assert isinstance(world.asked, Follow if following else Fetch)
    assert pauses[0] <= 0.2
    assert 15.0 <= pauses[-1] <= 30.0
    assert all(pauses[number] < pauses[number + 2] for number in range(0, 6, 2))


@pytest.mark.parametrize("following", [False, True], ids=["list", "watch"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_wants_to_be_left_alone_is(status: int, following: bool) -> None:
    world = Joined()
    if following:
        world.settle()
    world.fail(Setback(status=status, retry_after=7.0))
    world.wait(6.999)
    assert world.asked is None
    world.wait(0.3)
    # The watch goes on where it was: nothing has to be listed for that.
    assert isinstance(world.asked, Follow if following else Fetch)


@pytest.mark.parametrize("as_line", [False, True], ids=["status", "line"])
def test_a_forgotten_version_leads_to_a_list(as_line: bool) -> None:
    world = Joined()
    world.settle()
    world.wait(60.0)
    if as_line:
        world.interject(line("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))
    else:
        world.fail(GONE)
    world.wait(0.3)
    assert isinstance(world.asked, Fetch)
    world.settle()
    assert world.engine.trouble is None


def test_what_went_away_during_an_outage_is_told_and_the_rest_is_not_told_again() -> None:
    world = Joined()
    for name in "abcde":
        world.server.put(name, 1)
    world.settle()
    world.fail(Setback())
    world.server.delete("b")
    world.server.put("c", 2)
    world.server.compact()
    before = dict(world.told)
    world.settle()  # `note` fails for an equal one
    assert world.exists() == world.told
    assert {SliceKey("shop", "b")} == {seen.slice.key for seen in before.values() if isinstance(seen, SliceSeen)} - {
        seen.slice.key for seen in world.told.values() if isinstance(seen, SliceSeen)
    }


def test_nothing_is_gone_while_the_server_is_away() -> None:
    world = Joined()
    world.server.put("a", 1)
    world.settle()
    for _ in range(10):
        world.fail(Setback(status=503))
        world.wait(40.0)
    assert world.exists() == world.told


def test_a_list_that_expires_between_pages_is_begun_anew() -> None:
    world = Joined()
    for name in "abcde":
        world.server.put(name, 1)
    world.answer()
    assert "continue" in dict(world.asked.query if world.asked is not None else ())
    world.server.delete("a")
    world.server.compact()
    world.answer()
    world.wait(0.3)
    assert "continue" not in dict(world.asked.query if world.asked is not None else ())
    world.settle()
    assert world.exists() == world.told


def test_a_bookmark_keeps_the_version_young() -> None:
    world = Joined()
    world.server.put("a", 1)
    world.settle()
    world.server.compact()
    world.bookmark()
    world.wait(300.0)
    world.end()
    world.wait(0.3)
    assert isinstance(world.asked, Follow)
    assert str(world.server.version) == dict(world.asked.query)["resourceVersion"]


def test_a_watch_that_ends_at_once_counts_as_a_failure() -> None:
    world = Joined()
    pauses = []
    for _ in range(12):
        world.settle()
        world.end()
        assert world.engine.deadline is not None
        pauses.append(world.engine.deadline - world.now)
    assert 10.0 < pauses[-1] <= 30.0
    world.settle()
    world.wait(60.0)
    world.end()
    assert world.engine.deadline is not None
    assert world.engine.deadline - world.now <= 0.05


def test_what_stands_before_an_unreadable_object_of_a_page_is_told_by_the_next_list() -> None:
    engine = Watching(SLICES, rng=Random(1))
    engine.start()
    assert [] == engine.page(page(endpoint_slice("a", 1), 5, version=3), 0.0)
    assert engine.trouble is not None
    outputs = engine.page(page(endpoint_slice("a", 1), version=3), 1.0)
    assert [SliceKey("shop", "a")] == [
        each.event.slice.key for each in outputs if isinstance(each, Report) and isinstance(each.event, SliceSeen)
    ]
    assert engine.trouble is None


@pytest.mark.parametrize(
    "bad", [b"{broken\n", line("ERROR", {"code": 500}), line("ERROR", {"code": "?"})], ids=["broken", "error", "odd"]
)
def test_what_comes_with_the_end_of_a_watch_is_not_lost(bad: bytes) -> None:
    world = Joined()
    world.settle()
    world.server.put("a", 1)
    world.carry(world.engine.receive(bad + world.server.history[-1][1] + b'{"type": "ADD'))
    world.settle()
    assert world.exists() == world.told


@pytest.mark.parametrize("status", [403, 404])
def test_a_kind_that_a_server_does_not_have_or_show_is_none_and_asked_for_again_seldom(status: int) -> None:
    engine = Watching(BY_NAME["BGPPeer"], rng=Random(1))
    engine.start()
    assert [ListEnded()] == engine.failed(Setback(status=status), 0.0)
    assert engine.trouble is None
    assert engine.deadline is not None
    assert 15.0 <= engine.deadline <= 30.0
    again = engine.deadline
    assert [Fetch((("limit", "500"),))] == engine.tick(again)
    assert [] == engine.failed(Setback(status=status), again)
    assert engine.trouble is None
    assert 15.0 <= engine.deadline - again <= 30.0


def test_a_watch_that_ends_at_once_is_trouble_when_the_next_one_does_so_too() -> None:
    engine = Watching(SLICES, rng=Random(1))
    engine.start()
    engine.page(page(endpoint_slice("a", 1), version=7), 0.0)
    for expected in (False, True, True):
        engine.opened(0.0)
        assert [] == engine.closed(0.5)
        assert expected is (engine.trouble is not None)
        assert engine.deadline is not None
        assert 0.6 <= engine.deadline  # never asked without end


@pytest.mark.parametrize("status", [403, 404])
def test_a_kind_of_which_there_was_nothing_may_go_without_anybody_being_troubled(status: int) -> None:
    engine = Watching(BY_NAME["BGPPeer"], rng=Random(1))
    engine.start()
    engine.page(page(version=7), 0.0)
    engine.opened(0.0)
    engine.closed(100.0)
    engine.tick(101.0)
    assert [] == engine.failed(Setback(status=status), 101.0)
    assert engine.trouble is None


@pytest.mark.parametrize(
    ("status", "asked"),
    [(400, Fetch), (404, Fetch), (410, Fetch), (401, Follow), (403, Follow), (429, Follow), (500, Follow), (0, Follow)],
)
def test_a_watch_that_is_refused_is_asked_for_again_or_given_up_for_a_list_where_its_version_will_not_do(
    status: int, asked: type
) -> None:
    engine = Watching(SLICES, rng=Random(1))
    engine.start()
    engine.page(page(endpoint_slice("a", 1), version=7), 0.0)
    assert [] == engine.failed(Setback(status=status), 0.0)
    assert engine.deadline is not None
    (question,) = engine.tick(engine.deadline)
    assert asked is type(question)


def test_a_kind_that_must_be_there_is_waited_for() -> None:
    engine = Watching(BY_NAME["IPAddressPool"], rng=Random(1))
    engine.start()
    assert [] == engine.failed(Setback(status=404), 0.0)
    assert not engine.listed


def pool(*ranges: str) -> Document:
    metadata = {"name": "v6", "namespace": "metallb-system", "resourceVersion": "4"}
    return {"metadata": metadata, "spec": {"addresses": list(ranges)}, "status": {"assignedIPv6": 3}}


def test_the_newest_document_is_kept_where_a_status_is_written_until_it_is_gone() -> None:
    engine = Watching(BY_NAME["IPAddressPool"], rng=Random(1))
    engine.start()
    engine.page(page(pool("2001:db8::/120"), version=4), 0.0)
    assert {"assignedIPv6": 3} == engine.latest["metallb-system/v6"]["status"]
    engine.opened(0.0)
    changed = {**pool("2001:db8::/120"), "status": {"assignedIPv6": 4}}
    assert [] == engine.receive(line("MODIFIED", changed))  # a status is no wish
    assert {"assignedIPv6": 4} == engine.latest["metallb-system/v6"]["status"]
    engine.receive(line("DELETED", changed))
    assert {} == engine.latest


def test_a_broken_object_is_refused_once_and_its_last_good_form_stays() -> None:
    world = Joined()
    world.server.put("a", 1)
    world.settle()
    broken = {**endpoint_slice("a", 1, 12), "endpoints": 5}
    outputs = world.engine.receive(line("MODIFIED", broken))
    assert [True] == [isinstance(each, Report) and isinstance(each.event, ManifestRefused) for each in outputs]
    assert "endpoints" in str(outputs[0])
    assert [] == world.engine.receive(line("MODIFIED", broken))
    assert [Report(SliceGone(SliceKey("shop", "a")))] == world.engine.receive(line("DELETED", broken))


FULL: dict[str, Document] = {
    "Node": {
        "metadata": {"name": "n1", "labels": {"rack": "1"}, "managedFields": [{}]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "2001:db8::1"}],
            "conditions": [{"type": "NetworkUnavailable", "status": "True"}],
        },
    },
    "EndpointSlice": {
        "metadata": {"name": "a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["2001:db8::2"], "nodeName": "n1", "conditions": {"ready": True, "serving": True}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    },
    "Service": {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "u1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web"},
            "annotations": {"metallb.io/address-pool": "v6"},
        },
        "spec": {
            "type": "ExternalName",
            "externalName": "web.example.org",
            "loadBalancerClass": "example.org/own",
            "clusterIP": "fd00::1",
            "clusterIPs": ["fd00::1"],
            "ipFamilies": ["IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "loadBalancerIP": "2001:db8::3",
            "externalTrafficPolicy": "Local",
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "UDP"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "2001:db8::3"}]}},
    },
    "IPAddressPool": {
        "metadata": {
            "name": "six",
            "namespace": "metallb-system",
            "labels": {"speed": "fast"},
            "annotations": {"lbcore.io/keep-for": "10m"},
        },
        "spec": {"addresses": ["2001:db8::/64"], "autoAssign": False, "serviceAllocation": {"namespaces": ["shop"]}},
    },
}


@pytest.mark.parametrize("kind", FULL)
def test_what_is_decoded_of_an_object_is_all_that_its_reader_looks_at(kind: str) -> None:
    resource = BY_NAME[kind]
    document = {"apiVersion": resource.api_version, "kind": kind, **FULL[kind]}
    engine = Watching(resource, rng=Random(1))
    engine.start()
    (whole,) = read_all(document, "cluster")
    told: list[Event | Seen] = [
        each.event for each in engine.page(page(document, version=1), 0.0) if isinstance(each, Report)
    ]
    assert [whole] == told

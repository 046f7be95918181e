# ruff: noqa: E501 - a table is read in rows
"""TCP and UDP services: a bad entry costs its own port, others never; and the routing brain opens what has endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.events import (
    ConfigMapGone,
    ConfigMapSeen,
    Event,
    LeadershipSeen,
    Listed,
    RoutesRefused,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
)
from lbcore.ingress import ConfigMap, ObjectKey
from lbcore.intents import RecordEvent, ServeRoutes
from lbcore.model import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort, SliceKey
from lbcore.proxy import Peer, Stream, Transport
from lbcore.publishing import PublishSettings
from lbcore.routing import RoutingSettings, RoutingState, needs, step
from lbcore.streams import RESERVED, StreamSettings, Wish, read_wishes

TCP, UDP = ObjectKey("lb", "tcp"), ObjectKey("lb", "udp")
OURS = frozenset({80, 443})
NASTY = (
    "", " ", "0", "-1", "+80", "080", "65536", "99999999999", "80", "443", "8181", "5432\n", "\uff15\uff14", "5432;", "x", "\0", "\ud800",
    '"', "'", "\\", ";", "{", "}", "#", "$host", "${", "\u2028", "data", "data/", "/pg:1", "data/pg", "data/pg:", "data/pg:1:", "data/pg:1::",
    "data/pg:1:::", "data/pg:1:PROXY:PROXY:PROXY", "data/pg:1:proxy", "data/pg:1:NO", "Data/pg:1", "data/pg:x_y", "data/pg:1 2", "../x:1",
    "data/pg:1; }", "data/pg:1\nserver x;", "data/$host:1", "data/pg:${x}", "a" * 64 + "/pg:1", "data/pg:" + "9" * 63,
)  # fmt: skip
TEXTS = st.sampled_from(NASTY) | st.text(max_size=12)
GOOD_KEYS = st.integers(1, 65535).map(str)
GOOD_VALUES = st.builds(
    "{}/{}:{}{}".format, st.sampled_from(["data", "a-b"]), st.sampled_from(["pg", "c"]), st.sampled_from(["5432", "dns"]),
    st.sampled_from(["", ":PROXY", "::PROXY", ":PROXY:PROXY"]),
)  # fmt: skip
DATA = st.dictionaries(GOOD_KEYS | TEXTS, GOOD_VALUES | TEXTS, max_size=8)
TRANSPORTS = st.sampled_from(Transport)


def read(data: dict[str, str], transport: Transport = Transport.TCP) -> tuple[tuple[Wish, ...], dict[str, str]]:
    found = read_wishes(TCP, data, transport, OURS)
    return found.wishes, {each.path: each.message for each in found.troubles}


@given(DATA, TRANSPORTS)
def test_every_entry_is_a_port_or_a_trouble_of_its_own(data: dict[str, str], transport: Transport) -> None:
    wishes, _ = read(data, transport)
    alone = [(name, read({name: text}, transport)) for name, text in data.items()]
    assert list(wishes) == sorted((wish for _, (found, _) in alone for wish in found), key=lambda wish: wish.port)
    for name, (found, troubles) in alone:
        assert found or troubles
        assert len(found) <= 1 and len(troubles) <= 1
        assert set(troubles) <= {f"data.{name}", f"data[{name[:60]!r}]"}
        assert [name] == [str(wish.port) for wish in found] or not found
    assert not {wish.port for wish in wishes} & (OURS | RESERVED)
    assert not any(wish.takes_proxy or wish.sends_proxy for wish in wishes) or transport is Transport.TCP


@given(DATA)
def test_what_is_said_is_one_line_whatever_stands_there(data: dict[str, str]) -> None:
    for path, message in read(data)[1].items():
        assert f"{path}: {message}".isprintable()
        assert len(path + message) < 400


@given(st.dictionaries(GOOD_KEYS, GOOD_VALUES, max_size=6), TEXTS, TEXTS)
def test_an_entry_costs_no_other_anything(good: dict[str, str], key: str, text: str) -> None:
    before, after = read(good)[0], read({**good, key: text})[0]
    assert [wish for wish in before if str(wish.port) != key] == [wish for wish in after if str(wish.port) != key]


@pytest.mark.parametrize(
    ("text", "takes", "sends"),
    [
        ("data/pg:5432", False, False),
        ("data/pg:5432:PROXY", True, False),
        ("data/pg:5432::PROXY", False, True),
        ("data/pg:5432:proxy:PROXY", True, True),
        (" data/pg:5432:: \n", False, False),
    ],
)
def test_a_port_leads_to_a_services_port_with_the_proxy_protocol_before_and_behind(
    text: str, takes: bool, sends: bool
) -> None:
    wish = Wish(
        port=9000, transport=Transport.TCP, service=ObjectKey("data", "pg"), service_port="5432", takes_proxy=takes,
        sends_proxy=sends,
    )  # fmt: skip
    assert ((wish,), {}) == read({"9000": text})


def test_the_proxy_protocol_is_left_out_for_udp_and_said() -> None:
    [wish], troubles = read({"53": "a/dns:53:PROXY"}, Transport.UDP)
    assert (53, False, False) == (wish.port, wish.takes_proxy, wish.sends_proxy)
    assert ["data.53"] == list(troubles)


def test_what_is_wrong_says_where_and_what_to_do() -> None:
    troubles = read({"x": "a/b:1", "443": "a/b:1", "8181": "a/b:1", "22": "a/b"})[1]
    assert {
        "data.x": "is no port; write a number from 1 to 65535, without a zero before it",
        "data.443": "is a port at which the controller itself listens; take another one",
        "data.8181": "is a port that ingress-nginx keeps for itself, and so do we; take another one",
        "data.22": "'a/b' names no Service's port; write NAMESPACE/SERVICE:PORT, for TCP perhaps with :PROXY",
    } == troubles


def test_there_are_no_more_ports_than_sockets_can_be_had_for() -> None:
    wishes, troubles = read({str(port): "a/b:1" for port in range(20000, 20502)})
    assert (500, 2) == (len(wishes), len(troubles))


# The brain.

PG = ObjectKey("data", "pg")


def config_map(key: ObjectKey = TCP, **data: str) -> ConfigMapSeen:
    return ConfigMapSeen(ConfigMap(key=key, data={name.removeprefix("p"): text for name, text in data.items()}))


def service(key: ObjectKey = PG, **more: str) -> ServiceSeen:
    ports = (
        ServicePort("pg", 5432, "15432"), ServicePort("dns", 53, "5353", "UDP"), ServicePort("dns-tcp", 53, "5454"),
        ServicePort("15432", 7000, "x"),
    )  # fmt: skip
    return ServiceSeen(Service(key=key, type=more.pop("type", "ClusterIP"), named_ports=ports, **more))  # type: ignore[arg-type]


def endpoints(*addresses: str, ready: bool = True, key: ObjectKey = PG) -> SliceSeen:
    ports = (EndpointPort("pg", 15432), EndpointPort("dns", 5353, "UDP"), EndpointPort("dns-tcp", 5454))
    return SliceSeen(
        EndpointSlice(
            key=SliceKey(key.namespace, f"{key.name}-1"), service=key.name, ports=ports,
            endpoints=tuple(Endpoint(addresses=(each,), ready=ready) for each in addresses),
        )
    )  # fmt: skip


class Brain:
    """A routing brain that has been told everything once."""

    def __init__(self, *events: Event, **more: object) -> None:
        streams = StreamSettings(tcp=TCP, udp=UDP, listening=OURS)
        self.state = RoutingState(settings=RoutingSettings(streams=streams, **more))  # type: ignore[arg-type]
        self.said: list[str] = []
        self.tables = 0
        for event in (*events, *(Listed(kind) for kind in sorted(needs(self.state.settings), key=str))):
            self.hear(event)

    def hear(self, event: Event) -> None:
        done = step(self.state, event, 0.0)
        self.state = done.state
        self.said += [f"{each.about}: {each.message}" for each in done.intents if isinstance(each, RecordEvent)]
        self.tables += sum(isinstance(each, ServeRoutes) for each in done.intents)

    @property
    def streams(self) -> dict[str, tuple[Peer, ...]]:
        return {each.name: each.peers for each in self.state.table.streams}


HERE, THERE = Peer("2001:db8::1", 15432), Peer("192.0.2.1", 15432)


def test_a_port_is_open_while_there_are_endpoints() -> None:
    brain = Brain(config_map(p9000="data/pg:5432"), service())
    assert {} == brain.streams
    brain.hear(endpoints("2001:db8::1", "192.0.2.1"))
    assert {"9000/tcp": (THERE, HERE)} == brain.streams
    brain.hear(endpoints("2001:db8::1", ready=False))
    assert {} == brain.streams
    brain.hear(endpoints("2001:db8::1"))
    brain.hear(SliceGone(SliceKey("data", "pg-1")))
    assert ({}, []) == (brain.streams, brain.said)


def test_ports_are_found_by_number_then_by_name_and_only_of_their_protocol() -> None:
    tcp = config_map(p1="data/pg:53", p2="data/pg:dns-tcp", p3="data/pg:dns", p4="data/pg:pg", p5="data/pg:15432")
    brain = Brain(tcp, config_map(UDP, p1="data/pg:53", p2="data/pg:dns-tcp"), service(), endpoints("2001:db8::1"))
    assert {
        "1/tcp": (Peer("2001:db8::1", 5454),),
        "1/udp": (Peer("2001:db8::1", 5353),),
        "2/tcp": (Peer("2001:db8::1", 5454),),
        "4/tcp": (Peer("2001:db8::1", 15432),),
    } == brain.streams  # 5/tcp: the port's name, whose own target is no number and has no endpoint
    assert [
        "ConfigMap lb/tcp: data.3: leads to TCP port dns, which Service data/pg does not have",
        "ConfigMap lb/udp: data.2: leads to UDP port dns-tcp, which Service data/pg does not have",
    ] == brain.said


def test_an_external_name_is_a_peer_and_this_machine_is_none() -> None:
    far = service(ObjectKey("data", "far"), type="ExternalName", external_name="db.example.com")
    self_ = service(ObjectKey("data", "self"), type="ExternalName", external_name="localhost")
    told = (config_map(p9000="data/far:5432", p9001="data/far:6000", p9002="data/self:22"), far, self_)
    brain = Brain(*told)
    assert {"9000/tcp": (Peer("db.example.com", 15432),), "9001/tcp": (Peer("db.example.com", 6000),)} == brain.streams
    assert {} == Brain(*told, no_external_name=True).streams


def test_what_is_wrong_is_said_once_and_again_when_it_comes_back() -> None:
    brain = Brain(config_map(p9000="data/pg:5432", p80="data/pg:5432", p9001="x"))
    missing = "ConfigMap lb/tcp: data.9000: leads to Service data/pg, which is not there or may not be used"
    assert 3 == len(brain.said) and missing in brain.said
    brain.hear(service())
    brain.hear(endpoints("192.0.2.1"))
    brain.hear(endpoints("192.0.2.2"))
    assert 3 == len(brain.said)
    brain.hear(ServiceGone(PG))
    assert ({}, [missing]) == (brain.streams, brain.said[3:])


def test_who_does_not_lead_says_nothing_and_says_all_when_it_does() -> None:
    brain = Brain(config_map(p80="data/pg:1"), publish=PublishSettings(elected=True))
    assert [] == brain.said
    brain.hear(LeadershipSeen(True))
    assert [
        "ConfigMap lb/tcp: data.80: is a port at which the controller itself listens; take another one"
    ] == brain.said


def test_only_one_namespace_is_served_where_only_one_is_watched() -> None:
    told = (config_map(p9000="data/pg:5432"), service(), endpoints("192.0.2.1"))
    assert {"9000/tcp": (THERE,)} == Brain(*told, namespace="data").streams
    brain = Brain(*told, namespace="other")
    assert {} == brain.streams
    assert ["ConfigMap lb/tcp: data.9000: leads to namespace data, and only other is served"] == brain.said


def test_a_config_map_that_goes_closes_its_ports_and_no_others() -> None:
    brain = Brain(config_map(p1="data/pg:5432"), config_map(UDP, p1="data/pg:53"), service(), endpoints("192.0.2.1"))
    brain.hear(config_map(ObjectKey("lb", "other"), p7="data/pg:5432"))
    assert {"1/tcp", "1/udp"} == brain.streams.keys()
    brain.hear(ConfigMapGone(TCP))
    assert {"1/udp"} == brain.streams.keys()
    brain.hear(ConfigMapGone(UDP))
    assert {} == brain.streams


def test_nothing_is_wanted_anew_for_what_no_port_leads_to() -> None:
    brain = Brain(config_map(p1="data/pg:5432"), service(), endpoints("192.0.2.1"))
    tables = brain.tables
    brain.hear(service(ObjectKey("data", "other")))
    brain.hear(endpoints("192.0.2.9", key=ObjectKey("data", "other")))
    brain.hear(endpoints("192.0.2.1"))
    assert tables == brain.tables
    brain.hear(endpoints("192.0.2.2"))
    assert tables + 1 == brain.tables


def test_what_the_proxy_refuses_is_said_of_the_entry() -> None:
    brain = Brain(config_map(p9000="data/pg:5432"), service(), endpoints("192.0.2.1"))
    brain.hear(RoutesRefused(("9000/tcp", "9000/udp", "9001/tcp"), "in use"))
    assert ["ConfigMap lb/tcp: data.9000: in use"] == brain.said


EVENTS: tuple[Event, ...] = (
    config_map(p9000="data/pg:5432", p9001="data/pg:pg:PROXY", p80="x", p9003="data/none:1"),
    config_map(UDP, p9000="data/pg:53", p9004="shop/pg:53"),
    service(),
    service(ObjectKey("shop", "pg")),
    endpoints("2001:db8::1", "192.0.2.1", "192.0.2.2"),
    endpoints("2001:db8::2", key=ObjectKey("shop", "pg")),
)


@given(st.permutations(EVENTS))
def test_the_same_objects_in_any_order_come_to_the_same_streams(events: list[Event]) -> None:
    assert Brain(*EVENTS).state.table.streams == Brain(*events).state.table.streams


def test_streams_are_in_the_order_of_their_ports() -> None:
    found = Brain(*EVENTS).state.table.streams
    assert ["9000/tcp", "9000/udp", "9001/tcp", "9004/udp"] == [each.name for each in found]
    assert ["tcp-data-pg-5432", "udp-data-pg-53", "tcp-data-pg-pg", "udp-shop-pg-53"] == [each.label for each in found]
    assert [Stream] == list({type(each) for each in found})
